"""Measure the information of a binned layer: the plug-in entropy of its cells."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import InfoplaneError, choose
from ..records import POINTS, POPULATION, Estimate
from .cells import MOVING, Grid, Range, Rule, cells
from .corrections import corrected_entropy
from .entropy import entropy_of_runs
from .inputs import Classes, is_count, number, over_replicas, read_labels
from .protocol import About, Estimator, Reading
from .views import View, estimates, views

__all__ = ["BinnedEntropy", "Binning", "binned_entropy", "cell_numbers"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: The ways to compute the entropy from the counts of the cells. All except the plug-in are for
#: points that are a sample. (The module `corrections` has one more, nsb, which must be told how
#: many cells there are.)
CORRECTED = ("plug-in", "miller-madow", "grassberger", "chao-shen")
#: The number of values that the percentile behind the warning outlier-range is taken from.
PERCENTILE_VALUES = 2**15


@dataclass(frozen=True, slots=True, eq=False)
class BinnedEntropy:
    """Hold the entropies of a binned layer, in nats.

    The tensors are float64, of shape () or, for R replicas, (R,).

    Attributes:
        entropy: H(Tq), the entropy of the cells. It is I(X;Tq) where the layer is a function of N
            distinct inputs.
        label_information: I(Tq;Y) = H(Tq) + H(Y) - H(Tq,Y); None without labels.
        label_entropy: H(Y); None without labels.
        occupied: The number of cells that hold a point.
        clipped: The share of the values that lie outside a fixed range.
        outlier_ratio: The range divided by the 99.9th percentile of |value - median|, and 0 where
            the range is 0; with range="unit", the median of this ratio over the units. None where
            no value of the layer can stretch the bins.
        n: The number of points counted.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.tensor([[0.1], [0.2], [0.9], [0.8]])
        >>> found = ip.estimators.binned_entropy(t, bins=2, range=(0.0, 1.0))
        >>> found.occupied, found.n
        (tensor(2., dtype=torch.float64), 4)
    """

    entropy: Tensor
    label_information: Tensor | None
    label_entropy: Tensor | None
    occupied: Tensor
    clipped: Tensor
    outlier_ratio: Tensor | None
    n: int


@over_replicas("t")
def binned_entropy(
    t: Tensor,
    *,
    width: float | None = None,
    bins: int | None = None,
    range: Range = "layer",
    labels: Tensor | None = None,
    correction: str = "plug-in",
) -> BinnedEntropy:
    """Compute H(Tq) and I(Tq;Y) of the binned layer Tq = bin(t) by counting.

    A cell is a box of one bin per unit: two points share a cell when they share the bin of every
    unit. Values are digitised in float64 whatever their type, so the cells are those of the exact
    numbers that the layer holds.

    Args:
        t: The layer, (N, D), or (R, N, D) for R replicas.
        width: The width of the bins [k width, (k + 1) width), which is the rule of Saxe et al. Give
            either `width` or `bins`.
        bins: The number of equal bins over `range`. The top edge belongs to the top bin, and a
            range of length 0 is a single cell.
        range: The range that the bins span. "layer": all values of a replica. "unit": the values of
            each unit. (low, high): fixed numbers, or tensors of shape (), (R,) or (R, D); values
            outside are moved to the end bins and counted in `clipped`. "quantile": bins that each
            hold equally many of the distinct values of the layer (EBAB); the edges are the
            quantiles k / bins as numpy.quantile interpolates them.
        labels: Classes as integers, (N,) or (R, N).
        correction: The correction of the bias of the plug-in, for points that are a sample of a
            population: "plug-in" (none), "miller-madow", "grassberger" or "chao-shen" (see
            `corrected_entropy`). It is applied to each entropy separately. Use "plug-in" where the
            points are the whole population.

    Returns:
        The entropies, in nats, with diagnostics.

    Raises:
        InfoplaneError: If a tensor has another shape or type, if values are not finite, or if both
            or neither of `width` and `bins` are given.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.tensor([[0.1], [0.2], [0.9], [0.8]])
        >>> found = ip.estimators.binned_entropy(
        ...     t, bins=2, range=(0.0, 1.0), labels=torch.tensor([0, 0, 1, 1])
        ... )
        >>> round(found.entropy.item(), 4), round(found.label_information.item(), 4)
        (0.6931, 0.6931)

    References:
        Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018.
        Chelombiev et al., Adaptive estimators show information compression in deep neural networks,
        ICLR 2019 (EBAB).
    """
    where = "binned_entropy"
    rule = _rule(where, width, bins, range)
    choose(correction, CORRECTED, "correction")
    return _binned(rule, t, None if labels is None else read_labels(where, labels, t), correction)


@over_replicas("t")
def cell_numbers(
    t: Tensor, *, width: float | None = None, bins: int | None = None, range: Range = "layer"
) -> npt.NDArray[np.int64]:
    """Number the cells that `binned_entropy` counts.

    Args:
        t: The layer, (N, D), or (R, N, D) for R replicas.
        width: As for `binned_entropy`.
        bins: As for `binned_entropy`.
        range: As for `binned_entropy`.

    Returns:
        The number of the cell of each point, (N,) or (R, N). Two points of a replica have the same
        number exactly where all their units share a bin; the numbers mean nothing else.

    Raises:
        InfoplaneError: As for `binned_entropy`.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.tensor([[0.1], [0.2], [0.9]])
        >>> ip.estimators.cell_numbers(t, bins=2, range=(0.0, 1.0)).tolist()
        [0, 0, 1]
    """
    return cells(_rule("cell_numbers", width, bins, range).grid(t), t, 1)


def _rule(where: str, width: float | None, bins: int | None, range: Range) -> Rule:
    """Make and check a rule for a function, which does not know the range of a run."""
    rule = Rule(where, width, bins, range)
    rule.check()
    if range == "run":
        raise InfoplaneError(
            f"{where}: range='run' is known to a Recorder only; expected the range of the run as (low, high)."
        )
    return rule


def read_range(text: str) -> str | tuple[float, float]:
    """Read a range from a command line: a word, or LOW..HIGH."""
    low, dots, high = text.partition("..")
    return (float(low), float(high)) if dots else text


@dataclass(frozen=True)
class Binning(Estimator):
    """Bin a layer for the Recorder, as `binned_entropy` does.

    Args:
        width: The width of the bins. Without `width` and `bins` it is 0.07, the width of Saxe et
            al. for the 12-bit task.
        bins: The number of bins over `range`.
        range: As for `binned_entropy`, with fixed limits as numbers. Also "run": one range over the
            whole run, for all units of a layer together.
        replicates: The number K >= 2 of draws of every input where noise lies at or below the
            layer: I(X;T) is then H(Tq) - H(Tq|X) of the K N draws. With 0, I(X;T) is measured on
            the mean path, with the noise off.
        correction: As for `binned_entropy`. With a correction, the numbers describe the population,
            and a probe that holds all of it is refused.

    Raises:
        InfoplaneError: If an option is out of range, or if two options contradict each other.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 500, 2, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> estimator = ip.estimators.Binning(bins=10, range=(-4.0, 4.0))
        >>> [[number]] = estimator.measure(reading, labels=None)
        >>> number.channel, 0 < number.value < number.ceiling
        ('10 bins over [-4, 4]', True)

    References:
        Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018.
    """

    width: float | None = None
    bins: int | None = None
    range: str | tuple[float, float] = field(
        default="layer", metadata={"read": read_range, "is": "layer, unit, quantile, run or LOW..HIGH"}
    )
    replicates: int = 0
    correction: str = "plug-in"

    name = "binning"
    about = About(
        quantity="It measures I(X;T) and I(T;Y).",
        standing="The numbers are estimates: the plug-in entropies of the cells.",
        conditions="It needs several points per cell. Epochs are comparable only if the bins stay fixed (width, "
        "range=LOW..HIGH or range=run).",
        cost="The time grows with N D + N log N.",
        source="Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018. For range=quantile: "
        "Chelombiev et al., Adaptive estimators show information compression in deep neural networks, ICLR 2019.",
    )

    def __post_init__(self) -> None:
        if self.width is None and self.bins is None:
            object.__setattr__(self, "width", 0.07)
        Rule("Binning", self.width, self.bins, self.range).check()
        if self.replicates != 0 and not is_count(self.replicates, 2):
            raise InfoplaneError(f"Binning: replicates={self.replicates!r}; expected 0, or an integer of at least 2.")
        choose(self.correction, CORRECTED, "correction")
        if self.replicates and self.correction != "plug-in":
            raise InfoplaneError(
                f"Binning: replicates={self.replicates} and correction={self.correction!r}; expected one of the two, "
                "because no correction of H(Tq) - H(Tq|X) from replicates is known."
            )

    @property
    def deferred(self) -> bool:
        """Whether the bins need the range of the whole run, and so a second pass."""
        return self.range == "run"

    @property
    def channel(self) -> str:
        """The bins, for the column `channel`."""
        if self.width is not None:
            return f"bins of {number(self.width)}"
        if not isinstance(self.range, str):
            return f"{self.bins} bins over [{', '.join(map(number, self.range))}]"
        if self.range == "quantile":
            return f"{self.bins} equal-count bins"
        return f"{self.bins} bins over {'each' if self.range == 'unit' else 'the'} {self.range}"

    @property
    def params(self) -> str:
        """Every option that changes the value, for the column `params`."""
        scope = self.range if isinstance(self.range, str) else "..".join(map(number, self.range))
        words = [f"bins={self.bins}", f"range={scope}"] if self.width is None else [f"width={number(self.width)}"]
        words += [f"replicates={self.replicates}"] * (self.replicates > 0)
        return ",".join(words + [f"correction={self.correction}"] * (self.correction != "plug-in"))

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Measure I(X;T) and, with labels, I(T;Y) of each replica.

        Args:
            reading: The values of the layer.
            labels: Classes as integers, (N,) or (R, N), or None.

        Returns:
            A list per replica of its numbers, in nats.

        Raises:
            InfoplaneError: As `binned_entropy` does; also if the reading lacks the limits of the
                run or the fresh draws that the options need, or if a correction is asked for and
                the probe is the whole population.
        """
        where = f"Binning, layer {reading.layer!r}"
        rule = Rule(where, self.width, self.bins, self._range(where, reading))
        corrected = self.correction != "plug-in"
        if corrected and reading.population:
            raise InfoplaneError(
                f"{where}: correction={self.correction}, but the probe is the whole population, where the plug-in has "
                "no bias and a correction would add one; expected correction=plug-in."
            )
        common = Estimate(
            quantity="I(X;T)",
            value=math.nan,
            standing="estimate",
            channel=self.channel,
            estimator=self.name,
            params=self.params,
            law=POPULATION if corrected else POINTS,
        )

        def look(view: View) -> BinnedEntropy:
            if view.path == "replicates":
                return _replicated(rule, view.points, view.replicates)
            return _binned(rule, view.points, view.classes, self.correction)

        return estimates(common, views(where, reading, labels, self.replicates), look, self._numbers)

    def _numbers(self, common: Estimate, view: View, binned: BinnedEntropy, r: int) -> list[Estimate]:
        """Make the number of one quantity in one replica."""
        if common.quantity == "I(X;T)":
            value, ceiling = binned.entropy, math.nan if self.correction != "plug-in" else view.log_n
        else:
            assert binned.label_information is not None
            assert binned.label_entropy is not None
            value, ceiling = binned.label_information, float(binned.label_entropy[r])
        raised = self._warnings(binned, r, view.reading.population)
        return [replace(common, value=float(value[r]), ceiling=ceiling, warnings=(*raised, *common.warnings))]

    def _range(self, where: str, reading: Reading) -> Range:
        """Return the range, which for range="run" comes from the reading."""
        if self.range != "run":
            return self.range
        if reading.limits is None:
            raise InfoplaneError(
                f"{where}: range='run' needs the limits of the whole run, which the reading does not have."
            )
        low, high = reading.limits
        return low.amin(-1), high.amax(-1)

    def _warnings(self, binned: BinnedEntropy, r: int, population: bool) -> list[str]:
        """List the warnings of one replica."""
        occupied = float(binned.occupied[r])
        ratio = binned.outlier_ratio
        raised = {
            "mostly-unique": occupied / binned.n > 0.5,
            "sparse-cells": not population and binned.n / occupied < 5,
            "outlier-range": ratio is not None and float(ratio[r]) > 3,
            "clipped": float(binned.clipped[r]) > 0,
            "few-counts": self.correction != "plug-in" and binned.n / occupied < 2,
            "moving-range": self.width is None and self.range in MOVING,
        }
        return [code for code, yes in raised.items() if yes]


# Counting happens on the host, where NumPy sorts integers with vector instructions, seven times as
# fast as torch.


def _binned(rule: Rule, points: Tensor, classes: Classes | None, correction: str) -> BinnedEntropy:
    """Compute the entropies of a layer's cells, and of its pairs of cell and class."""
    grid = rule.grid(points)
    keys = cells(grid, points, 1 if classes is None else classes.size)
    if correction != "plug-in":
        return _corrected(rule, grid, points, keys, classes, correction)
    if classes is None:
        return _result(rule, grid, points, *entropy_of_runs(np.sort(keys)))
    # The class is the last digit, so one sort orders both the cells and the pairs of cell and
    # class.
    pairs = np.sort(keys * classes.size + classes.ids.cpu().numpy())
    entropy, occupied = entropy_of_runs(pairs // classes.size)
    of_pairs, _ = entropy_of_runs(pairs)
    return _result(rule, grid, points, entropy, occupied, of_pairs, classes)


def _corrected(
    rule: Rule, grid: Grid, points: Tensor, keys: Ints, classes: Classes | None, method: str
) -> BinnedEntropy:
    """Correct each entropy of counts separately, H(Y) too."""

    def entropy(symbols: Ints) -> tuple[float, float]:
        counts = np.unique(symbols, return_counts=True)[1]
        return float(corrected_entropy(counts, method)), float(len(counts))

    found, occupied = np.array([entropy(row) for row in keys]).T
    result = _result(rule, grid, points, found, occupied)
    if classes is None:
        return result
    ids = classes.ids.cpu().numpy()
    of_label = torch.tensor([entropy(y)[0] for y in ids], dtype=torch.float64, device=points.device)
    of_pairs = [entropy(row * classes.size + y)[0] for row, y in zip(keys, ids, strict=True)]
    return replace(
        result,
        label_information=result.entropy + of_label - torch.tensor(of_pairs, dtype=torch.float64, device=points.device),
        label_entropy=of_label,
    )


def _replicated(rule: Rule, points: Tensor, k: int) -> BinnedEntropy:
    """Compute I(X;Tq) = H(Tq) - H(Tq|X) of replicates, in the place of the entropy.

    The points are (R, k N, D), k draws of all N inputs one after the other.
    """
    grid = rule.grid(points)
    keys = cells(grid, points, 1)
    of_input = keys.reshape(len(keys), k, -1).swapaxes(1, 2).reshape(-1, k)
    given_input = entropy_of_runs(np.sort(of_input))[0].reshape(len(keys), -1).mean(1)
    entropy, occupied = entropy_of_runs(np.sort(keys))
    return _result(rule, grid, points, entropy - given_input, occupied)


def _result(
    rule: Rule,
    grid: Grid,
    points: Tensor,
    entropy: Floats,
    occupied: Floats,
    of_pairs: Floats | None = None,
    classes: Classes | None = None,
) -> BinnedEntropy:
    """Collect the entropies and the diagnostics."""

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
    """Divide the range by the 99.9th percentile of |value - median|, (R,).

    The lengths of the ranges are (R, 1), or (R, D) with one range per unit.
    """
    some = points[:, :: 1 + points[0].numel() // PERCENTILE_VALUES].cpu().numpy().swapaxes(1, 2)
    values = some.reshape(len(some), length.shape[1], -1)
    m = values.shape[-1]
    median = np.partition(values, m // 2)[..., m // 2, None]
    tail = math.ceil(0.999 * m) - 1
    percentile = np.partition(np.abs(values - median), tail)[..., tail]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(length > 0, length / percentile, 0.0)
    return np.asarray(np.median(ratio, axis=1))
