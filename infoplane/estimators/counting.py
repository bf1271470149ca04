"""Exact information of quantised layers: the points that share a row are counted."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..records import Estimate
from .cells import PIECE, odd_coefficients
from .entropy import entropy_of_counts
from .inputs import Classes, over_replicas, read_labels, read_points
from .protocol import About, Estimator, Reading
from .views import View, estimates, views

__all__ = ["CountedInformation", "Counting", "counted_information"]

Ints = npt.NDArray[np.int64]

#: The most levels that a grid may have to be taken for a quantised layer's: 16 bits.
GRID_LEVELS = 2**16
#: Rounding of sums of N terms c ln(N / c) / N, in nats (tests/estimators/test_counting.py).
_ERROR = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class CountedInformation:
    """Information of a layer by counting, in nats: float64 tensors of shape (), or (R,) for R replicas.

    information: H(T) = I(X;T), X uniform over the N points.
    label_information: I(T;Y) = H(T) + H(Y) - H(T,Y); None without labels.
    label_entropy: H(Y); None without labels.
    distinct: the number of distinct rows.
    levels: the number of distinct values of the unit that has most.
    quantised: whether the values of every unit mostly repeat or lie on a grid of at most 2^16 levels.
    n: the number of points counted.
    """

    information: Tensor
    label_information: Tensor | None
    label_entropy: Tensor | None
    distinct: Tensor
    levels: Tensor
    quantised: Tensor
    n: int


@over_replicas("t")
def counted_information(t: Tensor, labels: Tensor | None = None) -> CountedInformation:
    """I(X;T) = H(T) and I(T;Y) of a layer that is a function of X, X uniform over the N points, exactly; nats.

    Two points agree where all their values do, bit for bit, -0.0 being 0.0. Nothing is binned, so a layer that is not
    quantised gives ln N and H(Y), which are right and say nothing: see `quantised`. Where X repeats among the points,
    H(T) is the same with X the number of the point and with X what it holds, for T is a function of either.

    t: (N, D), or (R, N, D) for R replicas; real and finite.
    labels: (N,) or (R, N), classes as integers.

    Raises InfoplaneError for other shapes or types and for values that are not finite.

    Lorenzen, Igel & Nielsen, Information bottleneck: exact analysis of (quantized) neural networks, ICLR 2022.
    """
    return _counted(t, None if labels is None else read_labels("counted_information", labels, t))


@dataclass(frozen=True)
class Counting(Estimator):
    """`counted_information` for the Recorder."""

    name = "counting"
    about = About(
        quantity="I(X;T), I(T;Y)",
        standing="exact, for these N points and no noise",
        conditions="a quantised layer (--bits): any other has a row of its own for every point, so the values are "
        "ln N and H(Y); layers at or above noise: I(X;T) of the mean path, I(T;Y) an estimate",
        cost="N D + D N log N",
        source="Lorenzen et al., ICLR 2022",
    )

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """I(X;T) and, with labels, I(T;Y) of each replica; nats.

        At or above noise, I(X;T) is of the mean path, and I(T;Y) is counted in one noisy draw a point, which is an
        estimate: what other draws would give is not known. Where equal inputs gave different rows (sums of a batch are
        rounded by the place in it), T is no function of X to the last digit, and the count is an estimate as well.
        """
        common = Estimate(quantity="I(X;T)", value=math.nan, standing="exact", channel="counted", estimator=self.name)
        where = f"Counting, layer {reading.layer!r}"
        torn = _torn(reading.inputs, read_points(where, reading.codes if reading.clean is None else reading.clean))

        def numbers(common: Estimate, view: View, counted: CountedInformation, r: int) -> list[Estimate]:
            of_input = common.quantity == "I(X;T)"
            value, ceiling = counted.information, view.log_n
            if not of_input:
                assert counted.label_information is not None
                assert counted.label_entropy is not None
                value, ceiling = counted.label_information, float(counted.label_entropy[r])
            exact = view.path != "sampled" and not torn[r]
            raised = {
                "not-quantised": float(counted.distinct[r]) / view.n > 0.5 and not bool(counted.quantised[r]),
                "batch-dependent": torn[r],
            }
            return [
                replace(
                    common,
                    value=float(value[r]),
                    standing="exact" if exact else "estimate",
                    stderr=0.0 if exact else math.nan,
                    error=_ERROR if exact else math.nan,
                    ceiling=ceiling,
                    warnings=(*(code for code, yes in raised.items() if yes), *common.warnings),
                )
            ]

        return estimates(
            common, views(where, reading, labels), lambda view: _counted(view.points, view.classes), numbers
        )


def _torn(inputs: Tensor | None, points: Tensor) -> list[bool]:
    """Whether equal inputs, rows of (R, N, D_x), gave different rows of (R, N, D); of each replica."""
    if inputs is None:
        return [False] * len(points)
    found, of_input = [], None
    for x, t in zip(inputs, points, strict=True):
        if of_input is None or inputs.stride(0) != 0:
            of_input = _distinct_rows(x.to(torch.float64))
        ids, counts = of_input
        distinct = len(counts)
        if distinct == len(ids):
            found.append(False)
            continue
        pairs = ids * len(ids) + _distinct_rows(t)[0]
        found.append(len(np.unique(pairs)) > distinct)
    return found


def _counted(points: Tensor, classes: Classes | None) -> CountedInformation:
    entropy, of_pairs, distinct, levels, quantised = [], [], [], [], []
    for r, layer in enumerate(points):
        rows, counts = _distinct_rows(layer)
        entropy.append(float(entropy_of_counts(counts)))
        distinct.append(len(counts))
        if classes is not None:
            pairs = rows * classes.size + classes.ids[r].cpu().numpy()
            of_pairs.append(float(entropy_of_counts(np.unique(pairs, return_counts=True)[1])))
        most, grids = _levels(layer)
        levels.append(most)
        quantised.append(grids)

    def tensor(values: list[float] | list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=points.device)

    label_information = label_entropy = None
    if classes is not None:
        label_entropy = classes.entropy()
        label_information = tensor(entropy) + label_entropy - tensor(of_pairs)
    return CountedInformation(
        information=tensor(entropy),
        label_information=label_information,
        label_entropy=label_entropy,
        distinct=tensor(distinct),
        levels=tensor(levels),
        quantised=torch.tensor(quantised, device=points.device),
        n=points.shape[1],
    )


def _distinct_rows(layer: Tensor) -> tuple[Ints, Ints]:
    """The number of the row of each point, (N,), and how many points each row has. layer: (N, D).

    Rows are hashed by a linear form modulo 2^64 and sorted, and those of one hash are compared value by value, so the
    partition is that of the rows and not only most likely so; after a collision other coefficients are taken.
    """
    n, units = layer.shape
    step = max(1, PIECE // units)
    for seed in itertools.count():
        coefficients = odd_coefficients(1, units, seed)[0].to(layer.device)
        hashes = torch.cat([(_patterns(piece) * coefficients).sum(1) for piece in layer.split(step)]).cpu().numpy()
        order = np.argsort(hashes)
        ordered = hashes[order]
        new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        if _equal_rows(layer, order[1:][~new[1:]], order[:-1][~new[1:]], step):
            break
    rows = np.empty(n, dtype=np.int64)
    rows[order] = np.cumsum(new) - 1
    return rows, np.diff(np.flatnonzero(new), append=n)


def _patterns(values: Tensor) -> Tensor:
    """The bits of each value as int64, upper ones folded into lower ones: short numbers end in zeros, which the hash is
    weak against. Each bit stays what it is given those above it, so no two values have one pattern."""
    values = values + 0.0  # -0.0 becomes 0.0
    if values.dtype == torch.float32:
        bits = values.view(torch.int32).to(torch.int64)
        return bits ^ (bits >> 16)
    bits = values.view(torch.int64)
    return bits ^ (bits >> 32) ^ (bits >> 48)


def _equal_rows(layer: Tensor, i: Ints, j: Ints, step: int) -> bool:
    return all(
        torch.equal(layer[torch.from_numpy(a).to(layer.device)], layer[torch.from_numpy(b).to(layer.device)])
        for a, b in ((i[k : k + step], j[k : k + step]) for k in range(0, len(i), step))
    )


def _levels(layer: Tensor) -> tuple[int, bool]:
    """The largest number of distinct values of a unit, and whether the units are quantised. layer: (N, D).

    A unit is where at least half of its distinct values occur more than once, as of 256 levels those of most layers
    do, evenly spaced or not; or else, as in a short sample, where they lie on a grid.
    """
    n, _ = layer.shape
    most, quantised = 0, True
    for columns in layer.cpu().split(64, dim=1):
        # transposed in blocks: a whole column is a cache miss a value
        units = torch.cat([block.T for block in columns.split(256)], dim=1)
        ordered = np.sort(units.numpy(), axis=1)
        new = np.ones((len(ordered), n + 1), dtype=np.bool_)
        np.not_equal(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:-1])
        distinct, single = new[:, :-1].sum(1), (new[:, :-1] & new[:, 1:]).sum(1)
        most = max(most, int(distinct.max()))
        for unit in np.flatnonzero((2 * single > distinct) | (distinct > GRID_LEVELS)):
            quantised = quantised and _on_grid(ordered[unit][new[unit, :-1]])
    return most, quantised


def _on_grid(values: npt.NDArray[np.floating]) -> bool:
    """Whether the ascending values are low + k (high - low) / L for whole k and some L < 2^16, up to their rounding.

    Grids whose step is under 20 times the rounding of the values cannot be told: of 16 bits, in float32, those of
    values 1.6 times as large as their range. By chance some L fits values on no grid too: in float32 most sets of 5,
    and under 1 % of those of 7.
    """
    eps = float(np.finfo(values.dtype).eps)
    v = values.astype(np.float64)
    span = v[-1] - v[0]
    if not 1 < len(v) <= GRID_LEVELS:
        return len(v) == 1
    steps = np.arange(1.0, GRID_LEVELS)
    rounding = max(4 * eps * max(-v[0], v[-1]) / span, 1e-12)
    steps = steps[steps * rounding < 0.05]
    share = (v[1:] - v[0]) / span
    share = share[np.argsort(np.arange(len(share)) * 0.6180339887 % 1.0)]  # neighbours apart: they tell steps alike
    start, size = 0, 1
    while start < len(share) and len(steps):  # the first few values leave few steps for the many
        k = share[start : start + size, None] * steps
        steps = steps[(np.abs(k - np.rint(k)) <= steps * rounding).all(0)]
        start, size = start + size, 2 * size
    return len(steps) > 0
