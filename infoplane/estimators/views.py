"""Choose which codes of a layer are measured, and make one record per replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from ..errors import InfoplaneError
from ..records import Estimate, Path
from .inputs import Classes, read_labels, read_points
from .protocol import Reading

__all__ = ["PATH_WARNINGS", "View", "estimates", "per_replica", "views"]

F = TypeVar("F")

#: The warning that a number bears for its path, where it has one.
PATH_WARNINGS: dict[Path, tuple[str, ...]] = {
    "": (),
    "noise-off": ("noise-off",),
    "sampled": ("sampled-codes",),
    "replicates": ("replicate-bias",),
}


@dataclass(frozen=True, slots=True)
class View:
    """Hold one set of codes of a layer, and the quantities that are measured on it.

    Attributes:
        where: The estimator and the layer, for messages.
        reading: The reading that the codes are from.
        points: The codes, (R, N, D); on the path "replicates" (R, K N, D), K draws of all inputs
            one after the other.
        classes: The labels; None if I(T;Y) is not measured on these codes.
        quantities: "I(X;T)", "I(T;Y)" or both.
        path: The path on which the codes were measured.
        replicates: K on the path "replicates", else 1.
    """

    where: str
    reading: Reading
    points: Tensor
    classes: Classes | None
    quantities: tuple[str, ...]
    path: Path
    replicates: int = 1

    @property
    def n(self) -> int:
        """The number of inputs."""
        return self.points.shape[1] // self.replicates

    @property
    def log_n(self) -> float:
        """The largest possible I(X;T) for X uniform over the inputs, in nats."""
        return math.log(self.n)


def views(where: str, reading: Reading, labels: Tensor | None, replicates: int = 0) -> Iterator[View]:
    """Choose the codes on which I(X;T) and I(T;Y) are measured.

    Without noise at or below the layer, both are measured on its codes. With noise, an estimator
    that does not model the noise would count it as information about X. I(X;T) is then measured on
    the mean path, with the noise off, or on replicates; I(T;Y) is measured on one noisy draw per
    point.

    Args:
        where: The estimator and the layer, for messages.
        reading: The values of the layer.
        labels: Classes, (N,) or (R, N). With None, I(T;Y) is not measured.
        replicates: The number of draws of every input on which to measure I(X;T) where the layer is
            noisy. 0 measures it on the mean path.

    Yields:
        The views, with the one for I(X;T) first.

    Raises:
        InfoplaneError: If the codes or the labels cannot be read, or if the reading cannot draw
            replicates.
    """
    codes = read_points(where, reading.codes)
    classes = None if labels is None else read_labels(where, labels, codes)
    of_label = ("I(T;Y)",) * (classes is not None)
    if reading.clean is None:
        yield View(where, reading, codes, classes, ("I(X;T)", *of_label), "")
        return
    if not replicates:
        yield View(where, reading, read_points(where, reading.clean), None, ("I(X;T)",), "noise-off")
    elif reading.draw is None:
        raise InfoplaneError(f"{where}: replicates={replicates}, but the reading cannot draw any.")
    else:
        draws = read_points(where, reading.draw(replicates).transpose(0, 1).flatten(1, 2))
        yield View(where, reading, draws, None, ("I(X;T)",), "replicates", replicates)
    if classes is not None:
        yield View(where, reading, codes, classes, of_label, "sampled")


def estimates(
    common: Estimate,
    seen: Iterable[View],
    look: Callable[[View], F],
    fill: Callable[[Estimate, View, F, int], Iterable[Estimate]],
) -> list[list[Estimate]]:
    """Measure every view, and collect the numbers of each replica.

    Args:
        common: The fields that all numbers share: estimator, params, channel and law.
        seen: The views, as `views` gives them.
        look: The function that measures the points of a view, all replicas at once.
        fill: The function that makes the numbers of one quantity in one replica. It takes a record,
            the view, the result of `look` and the replica. The record is `common` with the
            quantity, n, the path and the warning of the path; it has no value yet.

    Returns:
        A list per replica of its numbers, view by view and quantity by quantity.
    """
    rows: list[list[Estimate]] = []
    for view in seen:
        rows = rows or [[] for _ in view.points]
        found = look(view)
        for quantity in view.quantities:
            of_quantity = replace(
                common, quantity=quantity, n=view.n, path=view.path, warnings=PATH_WARNINGS[view.path]
            )
            for r, row in enumerate(rows):
                row += fill(of_quantity, view, found, r)
    return rows


def per_replica(common: Estimate, replicas: int, **columns: Tensor | Sequence[Any]) -> list[list[Estimate]]:
    """Make one number per replica.

    Args:
        common: The fields that all numbers share.
        replicas: The number of replicas, R.
        columns: The fields in which the replicas differ: for each a tensor (R,) or a sequence of R
            values.

    Returns:
        A list per replica that holds its one number.

    Example:
        >>> import infoplane as ip
        >>> from infoplane.records import Estimate
        >>> common = Estimate(
        ...     quantity="I(X;T)", value=0.0, standing="lower", channel="any", estimator="mine"
        ... )
        >>> numbers = ip.estimators.per_replica(common, 2, value=[0.5, 0.7])
        >>> [own.value for [own] in numbers]
        [0.5, 0.7]
    """
    values = {name: of.tolist() if isinstance(of, Tensor | np.ndarray) else of for name, of in columns.items()}
    return [[replace(common, **{name: of[r] for name, of in values.items()})] for r in range(replicas)]
