"""Information of a binned layer: the plug-in entropy of the cells its rows fall in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..records import Estimate, InfoplaneError, choose
from .protocol import Reading

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["BinnedEntropy", "Binning", "binned_entropy"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
T = TypeVar("T", bound="DataclassInstance")
Range = str | tuple[float, float] | tuple[Tensor, Tensor]
#: What the bins span, in a word. The first three follow the values of the snapshot.
SCOPES = ("layer", "unit", "quantile", "run")
MOVING = SCOPES[:3]

#: Values digitised at a time: their float64 and int64 copies stay in the cache, and memory stays linear in N.
PIECE = 2**16
#: Values looked at for the percentile behind the warning outlier-range.
PERCENTILE_VALUES = 2**15

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, slots=True, eq=False)
class BinnedEntropy:
    """Plug-in entropies of a binned layer, in nats: float64 tensors of shape (), or (R,) for R replicas.

    entropy: H(Tq), the entropy of the cells; I(X;Tq) where the layer is a function of N distinct inputs.
    label_information: I(Tq;Y) = H(Tq) + H(Y) - H(Tq,Y); None without labels.
    label_entropy: H(Y); None without labels.
    occupied: the number of cells that hold a point.
    clipped: the share of the values that lay outside a fixed range.
    outlier_ratio: range / 99.9th percentile of |value - median|, 0 where the range is 0; for range='unit' the median
        over the units; None where no value of the layer can stretch the bins.
    n: the number of points counted.
    """

    entropy: Tensor
    label_information: Tensor | None
    label_entropy: Tensor | None
    occupied: Tensor
    clipped: Tensor
    outlier_ratio: Tensor | None
    n: int


def binned_entropy(
    t: Tensor,
    *,
    width: float | None = None,
    bins: int | None = None,
    range: Range = "layer",
    labels: Tensor | None = None,
) -> BinnedEntropy:
    """H(Tq) and I(Tq;Y) of the binned layer Tq = bin(t) by counting, in nats.

    A cell is a box of one bin a unit: two points share it when all their units do. Values are digitised in float64
    whatever their type, so the cells are those of the numbers the layer holds.

    t: (N, D), or (R, N, D) for R replicas; real and finite.
    width: bins [k width, (k + 1) width), the rule of the code of Saxe et al. (ibsgd). Either this or:
    bins: that many equal bins over `range`, the top edge in the top bin; a range of no length is one cell.
    range: 'layer', one range over all values of a replica; 'unit', one a unit; (low, high), fixed, as numbers or as
        tensors of shape (), (R,) or (R, D), where values outside go to the end bins and are counted; 'quantile', bins
        holding equally many of the distinct values of the layer (EBAB): edges at their quantiles k / bins, as
        numpy.quantile interpolates them.
    labels: (N,) or (R, N), classes as integers.

    Raises InfoplaneError for other shapes or types, values that are not finite, both or neither of width and bins.

    Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018, section 2;
    Chelombiev et al., Adaptive estimators show information compression in deep neural networks, ICLR 2019 (EBAB).
    """
    where = "binned_entropy"
    rule = _Rule(where, width, bins, range)
    rule.check()
    if range == "run":
        raise InfoplaneError(f"{where}: range='run' is known to a Recorder only; give the run's range as (low, high).")
    points = read_points(where, t)
    result = _binned(rule, points, None if labels is None else read_labels(where, labels, points))
    return result if t.ndim == 3 else only_replica(result)


@dataclass(frozen=True)
class Binning:
    """`binned_entropy` for the Recorder.

    width, bins, range: as there; Binning() has bins of 0.07, the width of Saxe et al. for the 12-bit task.
        range='run': one range over the whole run, for all units of a layer together.
    replicates: K >= 2 draws of every input where noise lies at or below the layer: I(X;T) is H(Tq) - H(Tq|X) of
        the K N draws. 0: there I(X;T) is of the mean path, with the noise off.
    """

    width: float | None = None
    bins: int | None = None
    range: str | tuple[float, float] = "layer"
    replicates: int = 0

    name = "binning"

    def __post_init__(self) -> None:
        if self.width is None and self.bins is None:
            object.__setattr__(self, "width", 0.07)
        _Rule("Binning", self.width, self.bins, self.range).check()
        if not isinstance(self.replicates, int) or self.replicates < 0 or self.replicates == 1:
            raise InfoplaneError(f"Binning: replicates={self.replicates!r}; expected 0, or an integer of at least 2.")

    @property
    def deferred(self) -> bool:
        return self.range == "run"

    @property
    def channel(self) -> str:
        if self.width is not None:
            return f"bins of {number(self.width)}"
        if not isinstance(self.range, str):
            return f"{self.bins} bins over [{', '.join(map(number, self.range))}]"
        if self.range == "quantile":
            return f"{self.bins} equal-count bins"
        return f"{self.bins} bins over {'each' if self.range == 'unit' else 'the'} {self.range}"

    @property
    def params(self) -> str:
        scope = self.range if isinstance(self.range, str) else "..".join(map(number, self.range))
        words = [f"bins={self.bins}", f"range={scope}"] if self.width is None else [f"width={number(self.width)}"]
        return ",".join(words + [f"replicates={self.replicates}"] * (self.replicates > 0))

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """I(X;T) and, with labels, I(T;Y) of each replica, in nats.

        labels: (N,) or (R, N), classes as integers. Raises InfoplaneError as `binned_entropy` does, and where the
        limits of the run or fresh draws are needed and the reading has none.
        """
        where = f"Binning, layer {reading.layer!r}"
        rule = _Rule(where, self.width, self.bins, self._range(where, reading))
        codes = read_points(where, reading.codes)
        classes = None if labels is None else read_labels(where, labels, codes)
        replicas, n = codes.shape[:2]
        rows: list[list[Estimate]] = [[] for _ in range(replicas)]

        def add(quantity: str, of: BinnedEntropy, value: Tensor, ceiling: Tensor, prefix: str, *more: str) -> None:
            for r, row in enumerate(rows):
                row.append(
                    Estimate(
                        quantity=quantity,
                        value=float(value[r]),
                        standing="estimate",
                        channel=prefix + self.channel,
                        estimator=self.name,
                        params=self.params,
                        n=n,
                        ceiling=float(ceiling[r]),
                        warnings=(*self._warnings(of, r), *more),
                    )
                )

        log_n = torch.full((replicas,), math.log(n), dtype=torch.float64)
        # Downstream of noise the entropy of the cells is not I(X;T), for it counts the noise too.
        if reading.clean is None:
            binned = _binned(rule, codes, classes)
            add("I(X;T)", binned, binned.entropy, log_n, "")
        elif not self.replicates:
            binned = _binned(rule, read_points(where, reading.clean), None)
            add("I(X;T)", binned, binned.entropy, log_n, "noise-off, ", "noise-off")
        elif reading.draw is None:
            raise InfoplaneError(f"{where}: replicates={self.replicates}, but the reading cannot draw any.")
        else:
            draws = reading.draw(self.replicates).transpose(0, 1).flatten(1, 2)
            binned, given_input = _replicated(rule, read_points(where, draws), self.replicates)
            add("I(X;T)", binned, binned.entropy - given_input, log_n, "echo, ", "replicate-bias")

        if classes is not None:
            if reading.noisy:
                binned = _binned(rule, codes, classes)
            assert binned.label_information is not None
            assert binned.label_entropy is not None
            sampled = ("sampled-codes",) if reading.noisy else ()
            add("I(T;Y)", binned, binned.label_information, binned.label_entropy, "", *sampled)
        return rows

    def _range(self, where: str, reading: Reading) -> Range:
        if self.range != "run":
            return self.range
        if reading.limits is None:
            raise InfoplaneError(f"{where}: range='run' needs the limits of the whole run, which are not known yet.")
        low, high = reading.limits
        return low.amin(-1), high.amax(-1)

    def _warnings(self, binned: BinnedEntropy, r: int) -> list[str]:
        occupied = float(binned.occupied[r])
        ratio = binned.outlier_ratio
        raised = {
            "mostly-unique": occupied / binned.n > 0.5,
            "sparse-cells": binned.n / occupied < 5,
            "outlier-range": ratio is not None and float(ratio[r]) > 3,
            "clipped": float(binned.clipped[r]) > 0,
            "moving-range": self.width is None and self.range in MOVING,
        }
        return [code for code, yes in raised.items() if yes]


# --- counting: on the host, where NumPy sorts integers with vector instructions, 7 times as fast as torch


def _binned(rule: _Rule, points: Tensor, classes: Classes | None) -> BinnedEntropy:
    grid = rule.grid(points)
    keys = _cells(grid, points, 1 if classes is None else classes.size)
    if classes is None:
        return _result(rule, grid, points, *_plug_in(np.sort(keys)))
    # The class is the last digit, so one sort orders the cells and the pairs of cell and class alike.
    pairs = np.sort(keys * classes.size + classes.ids.cpu().numpy())
    entropy, occupied = _plug_in(pairs // classes.size)
    of_pairs, _ = _plug_in(pairs)
    return _result(rule, grid, points, entropy, occupied, of_pairs, classes)


def _replicated(rule: _Rule, points: Tensor, k: int) -> tuple[BinnedEntropy, Tensor]:
    """H(Tq) of all draws, and H(Tq|X). points: (R, k N, D), k draws of all N inputs one after the other."""
    grid = rule.grid(points)
    keys = _cells(grid, points, 1)
    of_input = keys.reshape(len(keys), k, -1).swapaxes(1, 2).reshape(-1, k)
    given_input = _plug_in(np.sort(of_input))[0].reshape(len(keys), -1).mean(1)
    return _result(rule, grid, points, *_plug_in(np.sort(keys))), torch.from_numpy(given_input).to(points.device)


def _result(
    rule: _Rule,
    grid: _Grid,
    points: Tensor,
    entropy: Floats,
    occupied: Floats,
    of_pairs: Floats | None = None,
    classes: Classes | None = None,
) -> BinnedEntropy:
    def tensor(values: Floats) -> Tensor:
        return torch.from_numpy(values).to(points.device)

    label_information = label_entropy = outlier_ratio = None
    if of_pairs is not None and classes is not None:
        label_entropy = classes.entropy()
        label_information = tensor(entropy) + label_entropy - tensor(of_pairs)
    clipped = torch.zeros(len(points), dtype=torch.float64, device=points.device)
    if grid.limits is not None:
        low, high = grid.limits
        if rule.range in MOVING:
            outlier_ratio = tensor(_outlier_ratio(points, (high - low).flatten(1).cpu().numpy()))
        else:
            clipped = ((points < low) | (points > high)).to(torch.float64).mean((1, 2))
    return BinnedEntropy(
        tensor(entropy), label_information, label_entropy, tensor(occupied), clipped, outlier_ratio, points.shape[1]
    )


def _outlier_ratio(points: Tensor, length: Floats) -> Floats:
    """(R,): the range over the 99.9th percentile of |value - median|. length: (R, 1), or (R, D) with a range a unit."""
    some = points[:, :: 1 + points[0].numel() // PERCENTILE_VALUES].cpu().numpy().swapaxes(1, 2)
    values = some.reshape(len(some), length.shape[1], -1)
    m = values.shape[-1]
    median = np.partition(values, m // 2)[..., m // 2, None]
    tail = math.ceil(0.999 * m) - 1
    percentile = np.partition(np.abs(values - median), tail)[..., tail]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(length > 0, length / percentile, 0.0)
    return np.asarray(np.median(ratio, axis=1))


def _plug_in(ordered: Ints) -> tuple[Floats, Floats]:
    """Entropy and number of the runs of equal numbers in each row. ordered: (R, N), sorted along N."""
    rows, n = ordered.shape
    new = np.ones(ordered.shape, dtype=np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:])
    starts = np.flatnonzero(new)
    counts = np.diff(starts, append=rows * n)
    occupied = new.sum(1)
    terms = counts * np.log(n / counts)  # exactly 0 for a single run
    return np.add.reduceat(terms, np.cumsum(occupied) - occupied) / n, occupied.astype(np.float64)


# --- cells


def _cells(grid: _Grid, points: Tensor, classes: int) -> Ints:
    """(R, N) integers >= 0 that agree for two points of a replica exactly where their cells do.

    `classes` times them still fits in 63 bits.
    """
    units = points.shape[2]
    if units * math.log2(grid.size) + math.log2(classes) < 62:
        digits = torch.tensor([[grid.size**d for d in range(units)]], device=points.device)
        (keys,) = _linear_forms(grid, points, digits)
        return keys
    # Too many cells to number: hash the rows with two linear forms modulo 2^64 of random odd coefficients, and number
    # the values of the first. Two rows that differ agree in one form with probability at most 2^-(63 - v), v the
    # trailing zeros of their difference (v < log2 of the bins). The second form shows it, and other coefficients are
    # taken. Unseen are two rows that agree in both: 2^-(126 - 2 v) for a pair, 2^-85 for any of 10^5 rows in 30 bins.
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
    """(forms, units) odd int64, the same ones for a seed; the global generator is left alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**63), 2**63 - 1, (forms, units), generator=generator) | 1


def _linear_forms(grid: _Grid, points: Tensor, coefficients: Tensor) -> list[Ints]:
    """F times (R, N): sums over the units of coefficient times bin, modulo 2^64. coefficients: (F, D)."""
    replicas, n, units = points.shape
    forms = torch.empty(len(coefficients), replicas, n, dtype=torch.int64, device=points.device)
    step = max(1, PIECE // (replicas * units))
    for start in range(0, n, step):
        bins = grid.bins(points[:, start : start + step])
        for form, coefficient in zip(forms, coefficients, strict=True):
            torch.sum(bins * coefficient, -1, out=form[:, start : start + step])
    return list(forms.cpu().numpy())


# --- digitising


class _Grid(NamedTuple):
    """bins: (R, n, D) values -> their bins as int64, 0 to size - 1; limits: what equal bins span, (R, 1, 1 or D)."""

    bins: Callable[[Tensor], Tensor]
    size: int
    limits: tuple[Tensor, Tensor] | None = None


class _Rule(NamedTuple):
    """How values become bins, and whose name an error bears."""

    where: str
    width: float | None
    bins: int | None
    range: Range

    def check(self) -> None:
        if (self.width is None) == (self.bins is None):
            raise InfoplaneError(f"{self.where}: width={self.width!r} and bins={self.bins!r}; expected one of them.")
        if self.width is not None:
            if not is_positive(self.width):
                raise InfoplaneError(f"{self.where}: width={self.width!r}; expected a finite number above 0.")
            if self.range != "layer":
                raise InfoplaneError(f"{self.where}: width={self.width!r} with a range; a range goes with bins only.")
        elif not isinstance(self.bins, int) or isinstance(self.bins, bool) or self.bins < 1:
            raise InfoplaneError(f"{self.where}: bins={self.bins!r}; expected an integer of at least 1.")
        if isinstance(self.range, str):
            choose(self.range, SCOPES, "range of bins")
        elif not isinstance(self.range, tuple) or len(self.range) != 2:
            raise InfoplaneError(
                f"{self.where}: range={self.range!r}; expected one of {', '.join(SCOPES)}, or a pair (low, high)."
            )
        else:
            low, high = (torch.as_tensor(v, dtype=torch.float64) for v in self.range)
            if not (torch.isfinite(high - low) & (low <= high)).all():
                raise InfoplaneError(f"{self.where}: range={self.range!r}; expected finite numbers, low <= high.")

    def grid(self, points: Tensor) -> _Grid:
        if self.width is not None:
            return self._grid_of_width(points, self.width)
        bins = self.bins
        assert bins is not None
        if self.range == "quantile":
            edges = _quantiles_of_unique(points.flatten(1), bins)
            return _Grid(lambda t: torch.searchsorted(edges, t.flatten(1).contiguous(), right=True).view(t.shape), bins)
        low, high = self._limits(points)
        # an infinite length puts all values of a constant range into bin 0
        length = torch.where(high > low, high - low, math.inf)

        def equal(t: Tensor) -> Tensor:
            return (t.to(torch.float64) - low).div_(length).mul_(bins).floor_().clamp_(0, bins - 1).to(torch.int64)

        return _Grid(equal, bins, (low, high))

    def _limits(self, points: Tensor) -> tuple[Tensor, Tensor]:
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

    def _grid_of_width(self, points: Tensor, width: float) -> _Grid:
        def floors(t: Tensor) -> Tensor:
            return (t.to(torch.float64) / width).floor_()

        low, high = (float(floors(v)) for v in torch.aminmax(points))
        if max(-low, high) < 2**52:
            return _Grid(lambda t: floors(t).sub_(low).to(torch.int64), int(high - low) + 1)
        if not math.isfinite(high - low):
            raise InfoplaneError(f"{self.where}: values / width={width!r} overflows; expected a larger width.")

        # Bins finer than the values: the integers do not fit, their bit patterns do (+ 0.0 makes -0.0 0.0). The
        # exclusive or is invertible and fills the trailing zeros, which the hash is weak against.
        def patterns(t: Tensor) -> Tensor:
            bits = (floors(t) + 0.0).view(torch.int64)
            return bits ^ (bits >> 32)

        return _Grid(patterns, 2**64)


def _quantiles_of_unique(values: Tensor, bins: int) -> Tensor:
    """(R, bins - 1): the least distinct value at or above each inner quantile k / bins. values: (R, M).

    The interpolated quantile lies between that value and the one below, so both cut the layer alike; and no rounding
    of an interpolation can move a value across.
    """
    edges = []
    for row in values.cpu().numpy():
        unique = np.unique(row)
        last = len(unique) - 1
        edges.append(unique[[-(-last * k // bins) for k in range(1, bins)]])
    return torch.from_numpy(np.stack(edges)).to(values.device)


# --- what every estimator reads


class Classes(NamedTuple):
    """ids: (R, N) int64, 0 to size - 1."""

    ids: Tensor
    size: int

    def entropy(self) -> Tensor:
        """H(Y) of each replica, (R,) float64, nats."""
        p = np.stack([np.bincount(row, minlength=self.size) for row in self.ids.cpu().numpy()]) / self.ids.shape[1]
        return torch.from_numpy(-(p * np.log(np.where(p > 0, p, 1.0))).sum(1)).to(self.ids.device)


def read_points(where: str, t: Tensor) -> Tensor:
    """(R, N, D) of (N, D) or (R, N, D), without gradients; float16 and bfloat16 as float32."""
    if not isinstance(t, Tensor) or not t.is_floating_point():
        got = f"a tensor of {t.dtype}" if isinstance(t, Tensor) else f"a {type(t).__name__}"
        raise InfoplaneError(f"{where}: the layer is {got}; expected a tensor of floating-point numbers.")
    if t.ndim not in (2, 3) or t.numel() == 0:
        raise InfoplaneError(
            f"{where}: the layer has shape {tuple(t.shape)}; expected (N, D) or (R, N, D), none of them 0."
        )
    low, high = torch.aminmax(t.detach())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(t)).sum())
        raise InfoplaneError(f"{where}: {bad} of the {t.numel()} values are NaN or infinite; expected finite values.")
    if max(-low, high) > 1e100:
        raise InfoplaneError(f"{where}: values up to {max(-low, high):.3g}; expected at most 1e100.")
    t = t.detach() if t.dtype in (torch.float32, torch.float64) else t.detach().to(torch.float32)
    return t if t.ndim == 3 else t[None]


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
