"""Measure the exact information of quantised layers, by counting the points that share a row."""

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

#: The largest number of levels of a grid that counts as quantised: 16 bits.
GRID_LEVELS = 2**16
#: A bound on the rounding of sums of N terms c ln(N / c) / N, in nats
#: (tests/estimators/test_counting.py).
_ERROR = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class CountedInformation:
    """Hold the information of a layer by counting, in nats.

    The tensors are float64, of shape () or, for R replicas, (R,).

    Attributes:
        information: H(T) = I(X;T) for X uniform over the N points.
        label_information: I(T;Y) = H(T) + H(Y) - H(T,Y); None without labels.
        label_entropy: H(Y); None without labels.
        distinct: The number of distinct rows.
        levels: The number of distinct values of the unit that has most.
        quantised: Whether the values of every unit mostly repeat, or lie on a grid of at most 2^16
            levels.
        n: The number of points counted.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.tensor([[0.0], [0.0], [0.5], [1.0]])
        >>> found = ip.estimators.counted_information(t)
        >>> int(found.distinct), found.n
        (3, 4)
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
    """Compute I(X;T) = H(T) and I(T;Y) of a layer that is a function of X, exactly.

    X is uniform over the N points. Two points agree where all their values agree, bit for bit, with
    -0.0 equal to 0.0. Nothing is binned, so a layer that is not quantised gives ln N and H(Y),
    which are correct but tell nothing about the layer; see `CountedInformation.quantised`. If
    inputs repeat among the points, H(T) is the same whether X is the number of the point or the
    input itself, because T is a function of either.

    Args:
        t: The layer, (N, D), or (R, N, D) for R replicas.
        labels: Classes as integers, (N,) or (R, N).

    Returns:
        The information, in nats, with diagnostics.

    Raises:
        InfoplaneError: If a tensor has another shape or type, or if values are not finite.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> found = ip.estimators.counted_information(t, labels=torch.tensor([0, 1, 0, 1]))
        >>> round(found.information.item(), 4), round(found.label_information.item(), 4)
        (0.6931, 0.0)

    References:
        Lorenzen, Igel & Nielsen, Information bottleneck: exact analysis of (quantized) neural
        networks, ICLR 2022.
    """
    return _counted(t, None if labels is None else read_labels("counted_information", labels, t))


@dataclass(frozen=True)
class Counting(Estimator):
    """Count the rows of a quantised layer for the Recorder, as `counted_information` does.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.tensor([[[0.0], [0.0], [1.0], [1.0]]])
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[number]] = ip.estimators.Counting().measure(reading, labels=None)
        >>> number.standing, round(number.value, 4)
        ('exact', 0.6931)

    References:
        Lorenzen, Igel & Nielsen, Information bottleneck: exact analysis of (quantized) neural
        networks, ICLR 2022.
    """

    name = "counting"
    about = About(
        quantity="It measures I(X;T) and I(T;Y).",
        standing="The numbers are exact for these N points without noise.",
        conditions="It needs a quantised layer (--bits). In any other layer every point has its own row, so the values "
        "are ln N and H(Y). At or above noise, I(X;T) is measured with the noise off, and I(T;Y) is an estimate.",
        cost="The time grows with N D + D N log N.",
        source="Lorenzen, Igel & Nielsen, Information bottleneck: exact analysis of (quantized) neural networks, "
        "ICLR 2022.",
    )

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Measure I(X;T) and, with labels, I(T;Y) of each replica.

        At or above noise, I(X;T) is measured on the mean path, and I(T;Y) is counted in one noisy
        draw per point. The latter is an estimate, because other draws would give other values. If
        equal inputs gave different rows (a sum over a batch is rounded differently depending on the
        place in the batch), T is not a function of X to the last digit, and the count is an
        estimate as well.

        Args:
            reading: The values of the layer.
            labels: Classes as integers, (N,) or (R, N), or None.

        Returns:
            A list per replica of its numbers, in nats.

        Raises:
            InfoplaneError: If the codes or the labels cannot be read.
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
    """Whether equal inputs gave different rows, for each replica.

    The inputs are (R, N, D_x) or None; the rows are (R, N, D).
    """
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
    """Count the rows, and the pairs of row and class, of each replica."""
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
    """Number the distinct rows of a layer (N, D).

    Rows are hashed by a linear form modulo 2^64 and sorted, and rows with the same hash are
    compared value by value. The partition is therefore certain to be right, and not only likely.
    After a collision, other coefficients are tried.

    Returns:
        The number of the row of each point, (N,), and the number of points that each row has.
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
    """Return the bits of each value as int64, with the upper bits folded into the lower ones.

    Short numbers end in zeros, which make the hash weak. Given the bits above it, each bit can be
    recovered, so no two values have the same pattern.
    """
    values = values + 0.0  # -0.0 becomes 0.0
    if values.dtype == torch.float32:
        bits = values.view(torch.int32).to(torch.int64)
        return bits ^ (bits >> 16)
    bits = values.view(torch.int64)
    return bits ^ (bits >> 32) ^ (bits >> 48)


def _equal_rows(layer: Tensor, i: Ints, j: Ints, step: int) -> bool:
    """Whether the rows i of a layer equal the rows j, one by one."""
    return all(
        torch.equal(layer[torch.from_numpy(a).to(layer.device)], layer[torch.from_numpy(b).to(layer.device)])
        for a, b in ((i[k : k + step], j[k : k + step]) for k in range(0, len(i), step))
    )


def _levels(layer: Tensor) -> tuple[int, bool]:
    """Count the distinct values of the unit that has most, and judge whether all are quantised.

    A unit of the layer (N, D) is quantised if at least half of its distinct values occur more than
    once, which is true for most layers with 256 levels, evenly spaced or not; or, as in a short
    sample, if its values lie on a grid.
    """
    n, _ = layer.shape
    most, quantised = 0, True
    for columns in layer.cpu().split(64, dim=1):
        # The blocks are transposed first: reading a whole column would be one cache miss per value.
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
    """Whether ascending values are low + k (high - low) / L for whole k and some L < 2^16.

    This holds up to the rounding of the values. Grids whose step is less than 20 times this
    rounding cannot be recognised: for 16 bits in float32, this happens when the values are 1.6
    times as large as their range. By chance some L also fits values that lie on no grid: in
    float32, most sets of 5 values and less than 1 % of the sets of 7.
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
    # Neighbours rule out the same steps, so they are moved apart.
    share = share[np.argsort(np.arange(len(share)) * 0.6180339887 % 1.0)]
    start, size = 0, 1
    while start < len(share) and len(steps):  # the first few values leave few steps for the rest
        k = share[start : start + size, None] * steps
        steps = steps[(np.abs(k - np.rint(k)) <= steps * rounding).all(0)]
        start, size = start + size, 2 * size
    return len(steps) > 0
