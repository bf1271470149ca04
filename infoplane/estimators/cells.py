"""Turn values into bins, and the bins of all units of a point into the number of its cell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import InfoplaneError, choose
from .inputs import is_count, is_positive

__all__ = ["MOVING", "SCOPES", "Grid", "Range", "Rule", "cells"]

Ints = npt.NDArray[np.int64]
Range = str | tuple[float, float] | tuple[Tensor, Tensor]
#: The ranges of bins that have a name. The first three follow the values of the snapshot.
SCOPES = ("layer", "unit", "quantile", "run")
MOVING = SCOPES[:3]

#: The number of values digitised at a time, so that their float64 and int64 copies stay in the
#: cache and memory stays linear in N.
PIECE = 2**16


def cells(grid: Grid, points: Tensor, classes: int) -> Ints:
    """Number the cells of points.

    Args:
        grid: The bins of a layer.
        points: The values of the layer, (R, N, D).
        classes: A number such that `classes` times the numbers still fits in 63 bits.

    Returns:
        Whole numbers of at least 0, (R, N). They agree for two points of a replica exactly where
        their cells do.
    """
    units = points.shape[2]
    bits = units * math.log2(grid.size) + math.log2(classes)
    if bits < 62:
        digits = torch.tensor([[grid.size**d for d in range(units)]], device=points.device)
        if bits >= 52:
            return _linear_forms(grid, points, digits)[0]
        weights = digits[0].to(torch.float64)  # float64 holds such counts, and its products are the fastest way
        keys = [grid.bins(points[:, part]).to(torch.float64) @ weights for part in _parts(points)]
        return _integers(torch.cat(keys, 1).to(torch.int64) if len(keys) > 1 else keys[0].to(torch.int64))
    # There are too many cells to number: hash the rows with two linear forms modulo 2^64 with
    # random odd coefficients, and number the values of the first form. Two different rows agree in
    # one form with a probability of at most 2^-(63 - v), where v counts the trailing zeros of their
    # difference (v < log2 of the bins). The second form reveals that, and other coefficients are
    # tried. Only rows that agree in both forms go unnoticed: the probability is 2^-(126 - 2 v) for
    # a pair, and 2^-85 for any of 10^5 rows in 30 bins.
    for seed in itertools.count():
        first, second = _linear_forms(grid, points, odd_coefficients(2, units, seed).to(points.device))
        order = np.argsort(first)
        first, second = np.take_along_axis(first, order, 1), np.take_along_axis(second, order, 1)
        new = first[:, 1:] != first[:, :-1]
        if (new | (second[:, 1:] == second[:, :-1])).all():
            break
    numbers = np.zeros_like(order)
    np.cumsum(new, axis=1, out=numbers[:, 1:])
    cells = np.empty_like(order)
    np.put_along_axis(cells, order, numbers, 1)
    return cells


def odd_coefficients(forms: int, units: int, seed: int) -> Tensor:
    """Draw odd int64 coefficients, (forms, units), the same ones for the same seed.

    The global random state is left alone.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**63), 2**63 - 1, (forms, units), generator=generator) | 1


def _linear_forms(grid: Grid, points: Tensor, coefficients: Tensor) -> list[Ints]:
    """Sum coefficient times bin over the units, modulo 2^64.

    The coefficients are (F, D); the result is a list of F arrays (R, N).
    """
    replicas, n, _ = points.shape
    forms = torch.empty(len(coefficients), replicas, n, dtype=torch.int64, device=points.device)
    for part in _parts(points):
        bins = grid.bins(points[:, part]).to(torch.int64)
        for form, coefficient in zip(forms, coefficients, strict=True):
            torch.sum(bins * coefficient, -1, out=form[:, part])
    return list(_integers(forms))


def _integers(t: Tensor) -> Ints:
    return t.cpu().numpy()


def _parts(points: Tensor) -> Iterator[slice]:
    """Yield slices of the points that hold PIECE values each."""
    step = max(1, PIECE // (points.shape[0] * points.shape[2]))
    for start in range(0, points.shape[1], step):
        yield slice(start, start + step)


class Grid(NamedTuple):
    """Hold the bins of a layer.

    Attributes:
        bins: The function from values (R, n, D) to their bins, which are whole numbers from 0 to
            size - 1. They are float64, or bit patterns in int64 where size exceeds 2^52.
        size: The number of bins.
        limits: The range that equal bins span, as two tensors (R, 1, 1) or (R, 1, D).
    """

    bins: Callable[[Tensor], Tensor]
    size: int
    limits: tuple[Tensor, Tensor] | None = None


class Rule(NamedTuple):
    """Describe how values become bins.

    Attributes:
        where: The name that a message bears.
        width: The width of the bins, or None.
        bins: The number of bins, or None.
        range: The range of the bins, as for `binned_entropy`.
    """

    where: str
    width: float | None
    bins: int | None
    range: Range

    def check(self) -> None:
        """Check the options.

        Raises:
            InfoplaneError: If an option is out of range, or if two options contradict each other.
        """
        if (self.width is None) == (self.bins is None):
            raise InfoplaneError(f"{self.where}: width={self.width!r} and bins={self.bins!r}; expected one of the two.")
        if self.width is not None:
            if not is_positive(self.width):
                raise InfoplaneError(f"{self.where}: width={self.width!r}; expected a finite number above 0.")
            if self.range != "layer":
                raise InfoplaneError(f"{self.where}: width={self.width!r} with a range; a range needs bins=NUMBER.")
        elif not is_count(self.bins):
            raise InfoplaneError(f"{self.where}: bins={self.bins!r}; expected an integer of at least 1.")
        self._check_range()

    def _check_range(self) -> None:
        """Check the range of the bins."""
        if isinstance(self.range, str):
            choose(self.range, SCOPES, "range of bins")
        elif not isinstance(self.range, tuple) or len(self.range) != 2:
            raise InfoplaneError(
                f"{self.where}: range={self.range!r}; expected one of {', '.join(SCOPES)}, or a pair (low, high)."
            )
        else:
            low, high = (torch.as_tensor(v, dtype=torch.float64) for v in self.range)
            if not (torch.isfinite(high - low) & (low <= high)).all():
                raise InfoplaneError(f"{self.where}: range={self.range!r}; expected finite numbers with low <= high.")

    def grid(self, points: Tensor) -> Grid:
        """Lay the bins over points (R, N, D).

        Raises:
            InfoplaneError: If the limits of the range do not fit the points, or if a bin is too
                narrow.
        """
        if self.width is not None:
            return self._grid_of_width(points, self.width)
        bins = self.bins
        assert bins is not None
        if self.range == "quantile":
            edges = _quantiles_of_unique(points.flatten(1), bins)
            return Grid(lambda t: torch.searchsorted(edges, t.flatten(1).contiguous(), right=True).view(t.shape), bins)
        low, high = self._limits(points)
        # An infinite length puts all values of a constant range into bin 0.
        length = torch.where(high > low, high - low, math.inf)

        def equal(t: Tensor) -> Tensor:
            return (t.to(torch.float64) - low).div_(length).mul_(bins).floor_().clamp_(0, bins - 1)

        return Grid(equal, bins, (low, high))

    def _limits(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Find the range of each replica, or of each unit, as two float64 tensors."""
        replicas, _, units = points.shape
        limits = []
        if isinstance(self.range, str):
            values = points.flatten(1)[..., None] if self.range == "layer" else points
            limits = [values.amin(1, keepdim=True), values.amax(1, keepdim=True)]
        else:
            for given in self.range:
                limit = torch.as_tensor(given, device=points.device).detach()
                if limit.shape not in ((), (replicas,), (replicas, units)):
                    raise InfoplaneError(
                        f"{self.where}: a limit of the range has shape {tuple(limit.shape)}; "
                        f"expected (), ({replicas},) or ({replicas}, {units})."
                    )
                limits.append(limit.view(-1, 1, units if limit.ndim == 2 else 1))
        low, high = (v.to(torch.float64) for v in limits)
        return low, high

    def _grid_of_width(self, points: Tensor, width: float) -> Grid:
        """Lay bins of one width over points."""

        def floors(t: Tensor) -> Tensor:
            return (t.to(torch.float64) / width).floor_()

        low, high = (float(floors(v)) for v in torch.aminmax(points))
        if max(-low, high) < 2**52:
            return Grid(lambda t: floors(t).sub_(low), int(high - low) + 1)
        if not math.isfinite(high - low):
            raise InfoplaneError(f"{self.where}: values / width={width!r} overflows; expected a larger width.")

        # The bins are finer than the values: their integers do not fit, but their bit patterns do
        # (+ 0.0 turns -0.0 into 0.0). The exclusive or is invertible, and fills trailing zeros,
        # which make the hash weak.
        def patterns(t: Tensor) -> Tensor:
            bits = (floors(t) + 0.0).view(torch.int64)
            return bits ^ (bits >> 32)

        return Grid(patterns, 2**64)


def _quantiles_of_unique(values: Tensor, bins: int) -> Tensor:
    """Find the edges of equal-count bins, (R, bins - 1), for values (R, M).

    An edge is the least distinct value at or above an inner quantile k / bins. The interpolated
    quantile lies between that value and the one below it, so both divide the layer alike; but no
    rounding of an interpolation can move a value across the edge.
    """
    edges = []
    for row in values.cpu().numpy():
        unique = np.unique(row)
        last = len(unique) - 1
        edges.append(unique[[-(-last * k // bins) for k in range(1, bins)]])
    return torch.from_numpy(np.stack(edges)).to(values.device)
