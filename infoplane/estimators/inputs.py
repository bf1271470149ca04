"""What every estimator reads: points, labels and options, checked once and in one form."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..records import InfoplaneError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Classes", "ends_of", "is_positive", "number", "only_replica", "read_labels", "read_points"]

T = TypeVar("T", bound="DataclassInstance")
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Classes(NamedTuple):
    """ids: (R, N) int64, 0 to size - 1."""

    ids: Tensor
    size: int

    def entropy(self) -> Tensor:
        """H(Y) of each replica, (R,) float64, nats."""
        p = np.stack([np.bincount(row, minlength=self.size) for row in self.ids.cpu().numpy()]) / self.ids.shape[1]
        return torch.from_numpy(-(p * np.log(np.where(p > 0, p, 1.0))).sum(1)).to(self.ids.device)

    def log_shares(self) -> Tensor:
        """ln p of the class of each point, (R, N) float64."""
        ones = torch.ones(self.ids.shape, dtype=torch.float64, device=self.ids.device)
        counts = ones.new_zeros(len(self.ids), self.size).scatter_add_(1, self.ids, ones)
        return (counts.gather(1, self.ids) / self.ids.shape[1]).log()


def read_points(where: str, t: Tensor) -> Tensor:
    """(R, N, D) of (N, D) or (R, N, D), without gradients; float16 and bfloat16 as float32."""
    if not isinstance(t, Tensor) or not t.is_floating_point():
        got = f"a tensor of {t.dtype}" if isinstance(t, Tensor) else f"a {type(t).__name__}"
        raise InfoplaneError(f"{where}: the layer is {got}; expected a tensor of floating-point numbers.")
    if t.ndim not in (2, 3) or t.numel() == 0:
        raise InfoplaneError(
            f"{where}: the layer has shape {tuple(t.shape)}; expected (N, D) or (R, N, D), none of them 0."
        )
    low, high = ends_of(t)
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(t)).sum())
        raise InfoplaneError(f"{where}: {bad} of the {t.numel()} values are NaN or infinite; expected finite values.")
    if max(-low, high) > 1e100:
        raise InfoplaneError(f"{where}: values up to {max(-low, high):.3g}; expected at most 1e100.")
    t = t.detach() if t.dtype in (torch.float32, torch.float64) else t.detach().to(torch.float32)
    return t if t.ndim == 3 else t[None]


def ends_of(t: Tensor) -> tuple[float, float]:
    """The least and the largest value, NaN where any is.

    Of few values by NumPy: after an operation on several threads those of torch go on spinning for milliseconds, on the
    cores that what follows is to have.
    """
    t = t.detach()
    if t.device.type == "cpu" and t.dtype in (torch.float32, torch.float64) and t.numel() < 2**18:
        array = t.numpy()
        return float(array.min()), float(array.max())
    low, high = torch.aminmax(t)
    return float(low), float(high)


def read_labels(where: str, labels: Tensor, points: Tensor) -> Classes:
    """The classes of (R, N, D) points from (N,) or (R, N) integers."""
    if not isinstance(labels, Tensor) or labels.dtype not in INTEGERS:
        got = f"a tensor of {labels.dtype}" if isinstance(labels, Tensor) else f"a {type(labels).__name__}"
        raise InfoplaneError(f"{where}: labels are {got}; expected a tensor of integers, one class a point.")
    replicas, n = points.shape[:2]
    if labels.shape not in ((n,), (replicas, n)):
        raise InfoplaneError(
            f"{where}: labels have shape {tuple(labels.shape)}; expected ({n},) or ({replicas}, {n}) for these points."
        )
    if labels.device != points.device:
        raise InfoplaneError(f"{where}: labels are on {labels.device}, expected {points.device} as the layer.")
    ids = labels.to(torch.int64)
    low, high = (int(v) for v in torch.aminmax(ids))
    if high - low >= ids.numel():
        unique, ids = torch.unique(ids, return_inverse=True)
        low, high = 0, len(unique) - 1
    return Classes((ids - low).expand(replicas, n), high - low + 1)


def only_replica(result: T) -> T:
    """The same dataclass of (1,) tensors, with tensors of shape ()."""
    values = ((f.name, getattr(result, f.name)) for f in fields(result))
    return replace(result, **{name: v[0] for name, v in values if isinstance(v, Tensor)})


def is_positive(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < math.inf


def number(x: float) -> str:
    """A number for a label or a command line: 0.07, 1e-05, 30."""
    return f"{x:.12g}"
