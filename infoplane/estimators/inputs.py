"""Read and check what every estimator takes: points, labels and options."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import InfoplaneError
from .entropy import entropy_of_shares

__all__ = [
    "Classes",
    "check_chunk",
    "ends_of",
    "is_count",
    "is_positive",
    "number",
    "over_replicas",
    "read_labels",
    "read_points",
]

P = ParamSpec("P")
T = TypeVar("T")
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Classes(NamedTuple):
    """Hold the classes of points.

    Attributes:
        ids: The class of each point, (R, N) int64, from 0 to size - 1.
        size: The number of classes.
    """

    ids: Tensor
    size: int

    def entropy(self) -> Tensor:
        """Compute H(Y) in each replica, (R,) float64, in nats."""
        counts = np.stack([np.bincount(row, minlength=self.size) for row in self.ids.cpu().numpy()])
        return torch.from_numpy(entropy_of_shares(counts / self.ids.shape[1])).to(self.ids.device)

    def log_shares(self) -> Tensor:
        """Compute ln p of the class of each point, (R, N) float64."""
        ones = torch.ones(self.ids.shape, dtype=torch.float64, device=self.ids.device)
        counts = ones.new_zeros(len(self.ids), self.size).scatter_add_(1, self.ids, ones)
        return (counts.gather(1, self.ids) / self.ids.shape[1]).log()


def read_points(where: str, t: Tensor) -> Tensor:
    """Check points, and give them the replica axis.

    Args:
        where: The name that a message bears.
        t: The points, (N, D) or (R, N, D).

    Returns:
        The points, (R, N, D), without gradients. Points in float16 or bfloat16 become float32.

    Raises:
        InfoplaneError: If the points are not a tensor of floating-point numbers of one of these
            shapes, or if a value is not finite or exceeds 1e100.
    """
    if not isinstance(t, Tensor) or not t.is_floating_point():
        got = f"a tensor of {t.dtype}" if isinstance(t, Tensor) else f"a {type(t).__name__}"
        raise InfoplaneError(f"{where}: the layer is {got}; expected a tensor of floating-point numbers.")
    if t.ndim not in (2, 3) or t.numel() == 0:
        raise InfoplaneError(
            f"{where}: the layer has shape {tuple(t.shape)}; expected (N, D) or (R, N, D), each at least 1."
        )
    low, high = ends_of(t)
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(t)).sum())
        raise InfoplaneError(f"{where}: {bad} of the {t.numel()} values are NaN or infinite; expected finite values.")
    if max(-low, high) > 1e100:
        raise InfoplaneError(f"{where}: the values reach {max(-low, high):.3g}; expected at most 1e100.")
    t = t.detach() if t.dtype in (torch.float32, torch.float64) else t.detach().to(torch.float32)
    return t if t.ndim == 3 else t[None]


def ends_of(t: Tensor) -> tuple[float, float]:
    """Return the least and the largest value; both are NaN if any value is.

    Few values go through NumPy: after an operation on several threads, the threads of torch keep
    spinning for milliseconds, on the cores that the next step needs.
    """
    t = t.detach()
    if t.device.type == "cpu" and t.dtype in (torch.float32, torch.float64) and t.numel() < 2**18:
        array = t.numpy()
        return float(array.min()), float(array.max())
    low, high = torch.aminmax(t)
    return float(low), float(high)


def read_labels(where: str, labels: Tensor, points: Tensor) -> Classes:
    """Check labels, and number their classes from 0.

    Args:
        where: The name that a message bears.
        labels: Classes as integers, (N,) or (R, N).
        points: The points that they belong to, (R, N, D).

    Returns:
        The class of each point.

    Raises:
        InfoplaneError: If the labels are not integers of one of these shapes, or are on another
            device than the points.
    """
    if not isinstance(labels, Tensor) or labels.dtype not in INTEGERS:
        got = f"a tensor of {labels.dtype}" if isinstance(labels, Tensor) else f"a {type(labels).__name__}"
        raise InfoplaneError(f"{where}: labels are {got}; expected a tensor of integers, one class per point.")
    replicas, n = points.shape[:2]
    if labels.shape not in ((n,), (replicas, n)):
        raise InfoplaneError(
            f"{where}: labels have shape {tuple(labels.shape)}; expected ({n},) or ({replicas}, {n}) for these points."
        )
    if labels.device != points.device:
        raise InfoplaneError(f"{where}: labels are on {labels.device}; expected {points.device}, where the layer is.")
    ids = labels.to(torch.int64)
    low, high = (int(v) for v in torch.aminmax(ids))
    if high - low >= ids.numel():
        unique, ids = torch.unique(ids, return_inverse=True)
        low, high = 0, len(unique) - 1
    return Classes((ids - low).expand(replicas, n), high - low + 1)


def over_replicas(*names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function of points (R, N, D) also take points (N, D).

    The function gets its points checked (`read_points`) and always with the replica axis. Where
    they came without it, the axis is removed from the result.

    Args:
        names: The arguments that are points. With several, their replicas and rows belong together.

    Returns:
        A decorator. The function that it decorates returns an array (R, ...), or a dataclass of
        tensors (R, ...).

    Raises:
        InfoplaneError: When the function is called with points of other shapes or types, with
            values that are not finite, or with points on several devices.

    Example:
        >>> @over_replicas("t")
        ... def mean(t):
        ...     return t.mean(1)
        >>> mean(torch.ones(2, 5, 3)).shape, mean(torch.ones(5, 3)).shape
        (torch.Size([2, 3]), torch.Size([3]))
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            given = signature.bind(*args, **kwargs)
            points = {name: given.arguments[name] for name in names}
            given.arguments.update(_read_together(function.__name__, points))
            result = function(*given.args, **given.kwargs)
            return result if points[names[0]].ndim == 3 else _only_replica(result)

        return call

    return decorate


def _read_together(where: str, points: dict[str, Tensor]) -> dict[str, Tensor]:
    """Check points that belong together row by row."""
    first, *others = points
    for other in others:
        a, b = points[first], points[other]
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.device != b.device:
            raise InfoplaneError(
                f"{where}: {first} is on {a.device} and {other} on {b.device}; expected both on one device."
            )
    read = {name: read_points(f"{where}, {name}" if others else where, t) for name, t in points.items()}
    for other in others:
        a, b = points[first], points[other]
        if a.shape[:-1] != b.shape[:-1]:
            raise InfoplaneError(
                f"{where}: {first} has shape {tuple(a.shape)} and {other} {tuple(b.shape)}; expected the same number "
                "of points in both, (N, D) and (N, E), or (R, N, D) and (R, N, E)."
            )
    return read


def _only_replica(result: T) -> T:
    """Remove the axis of the only replica from an array or a dataclass of tensors."""
    if is_dataclass(result) and not isinstance(result, type):
        values = ((f.name, getattr(result, f.name)) for f in fields(result))
        return replace(result, **{name: v[0] for name, v in values if isinstance(v, Tensor)})
    return cast(T, cast(Any, result)[0])


def is_positive(x: object) -> bool:
    """Whether x is a finite number above 0. True and False are not numbers here."""
    return isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < math.inf


def is_count(x: object, least: int = 1) -> bool:
    """Whether x is a whole number of at least `least`. True and False are not numbers here."""
    return isinstance(x, int) and not isinstance(x, bool) and x >= least


def check_chunk(where: str, chunk: int | None) -> None:
    """Check a number of rows to work on at a time.

    Raises:
        InfoplaneError: If it is neither None nor a whole number of at least 1.
    """
    if chunk is not None and not is_count(chunk):
        raise InfoplaneError(f"{where}: chunk={chunk!r}; expected a number of rows, at least 1.")


def number(x: float) -> str:
    """Write a number as labels and command lines show it: 0.07, 1e-05, 30."""
    return f"{x:.12g}"
