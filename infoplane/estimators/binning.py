"""Information of a binned layer: the plug-in entropy of the cells its rows fall in."""

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

#: How the entropy of the cells' counts is taken; all but the plug-in are for points that are a sample of others.
#: (`corrections` has one more, nsb, which must be told how many cells there are.)
CORRECTED = ("plug-in", "miller-madow", "grassberger", "chao-shen")
#: Values looked at for the percentile behind the warning outlier-range.
PERCENTILE_VALUES = 2**15


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
    correction: of the bias of the plug-in, for points that are a sample of a population (`corrections`):
        'miller-madow', 'grassberger' or 'chao-shen', on each entropy of counts by itself. Never where the points are
        all there are.

    Raises InfoplaneError for other shapes or types, values that are not finite, both or neither of width and bins.

    Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018, section 2;
    Chelombiev et al., Adaptive estimators show information compression in deep neural networks, ICLR 2019 (EBAB).
    """
    where = "binned_entropy"
    rule = _rule(where, width, bins, range)
    choose(correction, CORRECTED, "correction")
    return _binned(rule, t, None if labels is None else read_labels(where, labels, t), correction)


@over_replicas("t")
def cell_numbers(
    t: Tensor, *, width: float | None = None, bins: int | None = None, range: Range = "layer"
) -> npt.NDArray[np.int64]:
    """The number of the cell of each point, (N,) or (R, N): those that `binned_entropy` counts, under the same options.

    Two points of a replica have one number exactly where all their units share a bin; the numbers mean nothing else.
    Raises InfoplaneError as `binned_entropy` does.
    """
    return cells(_rule("cell_numbers", width, bins, range).grid(t), t, 1)


def _rule(where: str, width: float | None, bins: int | None, range: Range) -> Rule:
    rule = Rule(where, width, bins, range)
    rule.check()
    if range == "run":
        raise InfoplaneError(f"{where}: range='run' is known to a Recorder only; give the run's range as (low, high).")
    return rule


def read_range(text: str) -> str | tuple[float, float]:
    low, dots, high = text.partition("..")
    return (float(low), float(high)) if dots else text


@dataclass(frozen=True)
class Binning(Estimator):
    """`binned_entropy` for the Recorder.

    width, bins, range: as there; Binning() has bins of 0.07, the width of Saxe et al. for the 12-bit task.
        range='run': one range over the whole run, for all units of a layer together.
    replicates: K >= 2 draws of every input where noise lies at or below the layer: I(X;T) is H(Tq) - H(Tq|X) of
        the K N draws. 0: there I(X;T) is of the mean path, with the noise off.
    correction: as there; then the numbers are of the population, and a probe that holds all of it is refused.
    """

    width: float | None = None
    bins: int | None = None
    range: str | tuple[float, float] = field(
        default="layer", metadata={"read": read_range, "is": "a word or LOW..HIGH"}
    )
    replicates: int = 0
    correction: str = "plug-in"

    name = "binning"
    about = About(
        quantity="I(X;T), I(T;Y)",
        standing="estimate, the plug-in of the cells",
        conditions="several points a cell; bins that stay where they are (width, LOW..HIGH, range=run) "
        "for epochs to be comparable",
        cost="N D + N log N",
        source="Saxe et al., ICLR 2018; range=quantile: Chelombiev et al., ICLR 2019",
    )

    def __post_init__(self) -> None:
        if self.width is None and self.bins is None:
            object.__setattr__(self, "width", 0.07)
        Rule("Binning", self.width, self.bins, self.range).check()
        if self.replicates != 0 and not is_count(self.replicates, 2):
            raise InfoplaneError(f"Binning: replicates={self.replicates!r}; expected 0, or an integer of at least 2.")
        choose(self.correction, CORRECTED, "correction")
        if self.replicates and self.correction != "plug-in":
            raise InfoplaneError("Binning: a correction of H(Tq) - H(Tq|X) from replicates is not known; expected one.")

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
        words += [f"replicates={self.replicates}"] * (self.replicates > 0)
        return ",".join(words + [f"correction={self.correction}"] * (self.correction != "plug-in"))

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """I(X;T) and, with labels, I(T;Y) of each replica, in nats.

        labels: (N,) or (R, N), classes as integers. Raises InfoplaneError as `binned_entropy` does, and where the
        limits of the run or fresh draws are needed and the reading has none.
        """
        where = f"Binning, layer {reading.layer!r}"
        rule = Rule(where, self.width, self.bins, self._range(where, reading))
        corrected = self.correction != "plug-in"
        if corrected and reading.population:
            raise InfoplaneError(
                f"{where}: correction={self.correction}, and the probe holds every input there is: the plug-in has no "
                "bias there, and a correction would make one. Leave it out."
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
        """One quantity in one replica."""
        if common.quantity == "I(X;T)":
            value, ceiling = binned.entropy, math.nan if self.correction != "plug-in" else view.log_n
        else:
            assert binned.label_information is not None
            assert binned.label_entropy is not None
            value, ceiling = binned.label_information, float(binned.label_entropy[r])
        raised = self._warnings(binned, r, view.reading.population)
        return [replace(common, value=float(value[r]), ceiling=ceiling, warnings=(*raised, *common.warnings))]

    def _range(self, where: str, reading: Reading) -> Range:
        if self.range != "run":
            return self.range
        if reading.limits is None:
            raise InfoplaneError(f"{where}: range='run' needs the limits of the whole run, which are not known yet.")
        low, high = reading.limits
        return low.amin(-1), high.amax(-1)

    def _warnings(self, binned: BinnedEntropy, r: int, population: bool) -> list[str]:
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


# counting: on the host, where NumPy sorts integers with vector instructions, 7 times as fast as torch


def _binned(rule: Rule, points: Tensor, classes: Classes | None, correction: str) -> BinnedEntropy:
    grid = rule.grid(points)
    keys = cells(grid, points, 1 if classes is None else classes.size)
    if correction != "plug-in":
        return _corrected(rule, grid, points, keys, classes, correction)
    if classes is None:
        return _result(rule, grid, points, *entropy_of_runs(np.sort(keys)))
    # The class is the last digit, so one sort orders the cells and the pairs of cell and class alike.
    pairs = np.sort(keys * classes.size + classes.ids.cpu().numpy())
    entropy, occupied = entropy_of_runs(pairs // classes.size)
    of_pairs, _ = entropy_of_runs(pairs)
    return _result(rule, grid, points, entropy, occupied, of_pairs, classes)


def _corrected(
    rule: Rule, grid: Grid, points: Tensor, keys: Ints, classes: Classes | None, method: str
) -> BinnedEntropy:
    """Each entropy of counts corrected by itself, H(Y) too."""

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
    """As `_binned`, with I(X;Tq) = H(Tq) - H(Tq|X) for `entropy`, both of all draws.

    points: (R, k N, D), k draws of all N inputs one after the other.
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
