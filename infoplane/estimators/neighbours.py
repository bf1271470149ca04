"""Nearest-neighbour estimates: of two continuous variables (Kraskov et al.), of a continuous one and labels (Ross)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma
from torch import Tensor

from ..errors import InfoplaneError, choose
from ..records import POPULATION, Estimate
from ..streams import Streams, derive
from .inputs import Classes, is_count, over_replicas, read_labels
from .noise import check_noise, noise_params, pair
from .protocol import About, Estimator, Reading
from .views import per_replica

__all__ = ["KSG", "NeighbourInformation", "Ross", "ksg_information", "ross_information"]

Method = Literal["auto", "tree", "blocks", "compiled"]
METHODS: tuple[str, ...] = get_args(Method)
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_ALL = slice(None)

#: A tree counts faster than blocks below so many units in all, on two cores at N = 1000 and 5000.
#: Compiled loops over all pairs beat it from fewer units on, while the points are few enough.
TREE_UNITS = 8
LOOP_UNITS, LOOP_POINTS = 4, 10_000
#: False: 'auto' takes no compiled loops. For tests.
COMPILED = True
#: More units than this in one variable are warned of.
FEW_UNITS = 5
#: By this share of itself a value by classes may rise from half of the points to all of them.
RISE = 0.03
#: So many times as many neighbours show how far a value of pairs is low: by extrapolation it may be
#: so by a share of itself, or by so many standard errors.
WIDER, LOW, ERRORS = 4, 0.14, 2.0
#: Points near each other share neighbours, so their terms are not independent: sd / sqrt(N) alone
#: is 0.6 to 1.0 of the spread over samples of Gaussian pairs (k = 3; 1 to 3 units a side; N = 500
#: and 2000), and falls as k grows.
SHARED_NEIGHBOURS = math.sqrt(2.0)


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourInformation:
    """A nearest-neighbour estimate in nats: tensors of shape (), or (R,) for R replicas.

    value: may be negative.
    stderr: sqrt(2) times the standard deviation of the N terms that the value is the mean of, over sqrt(N). No closed
        form is known. With k = 3 it is 0.8 to 1.4 times the spread over samples of Gaussian pairs; with k = 10 or more
        it is too small (0.7 to 1.1, with k = 30 0.6 to 1.0). The bias, which grows with the units and with the
        information, is not in it.
    ties: the share of the distances to the k-th neighbour that are 0. They mean nothing, and so does the value.
    saturated: value > psi(N) - psi(k) - 1. psi(N) - psi(k) is the most that N points without ties can show, and what
        they show of y = x; a relation as exact but bent, like y = x^3, also grows with ln N, and may stay below.
    dimensions: the most units that vary in one variable.
    n: the number of points the value is of.
    """

    value: Tensor
    stderr: Tensor
    ties: Tensor
    saturated: Tensor
    dimensions: Tensor
    n: Tensor


@over_replicas("x", "y")
def ksg_information(
    x: Tensor, y: Tensor, *, k: int = 3, chunk: int | None = None, method: Method = "auto"
) -> NeighbourInformation:
    """I(X;Y) of the density that N points (x_i, y_i) are drawn from; nats.

        I = psi(k) + psi(N) - mean_i [psi(n_x,i + 1) + psi(n_y,i + 1)],

    n_x,i the number of other points with |x_j - x_i| < r_i, r_i the distance from (x_i, y_i) to its k-th neighbour, all
    distances maxima over units. x and y are each divided by the root of its mean square deviation first, one number for
    all units, which leaves the shape of a layer as it is: units that hardly vary weigh little. Constant units carry
    nothing and are left out; where all are constant, the value is 0.

    x: (N, D_x), or (R, N, D_x) for R replicas; real and finite. y: (N, D_y) or (R, N, D_y).
    k: neighbours; more of them lower the variance and raise the bias.
    chunk: rows worked on at a time in blocks; memory is about 32 chunk N bytes. Default: 2^20 / N, on a GPU 2^25 / N.
    method: 'tree' (on the CPU), 'blocks' of all distances, or 'compiled' (on the CPU, loops compiled by numba), one
        value by any; 'auto': on the CPU a tree where fewer than 8 units vary, or, where no chunk is given, compiled
        loops from 8 units on, and from 4 on for up to 10 000 points.

    Raises InfoplaneError for other shapes or types, values that are not finite, tensors on two devices, N <= k, and
    a method that is not to be had.

    Kraskov, Stoegbauer & Grassberger, Estimating mutual information, Phys. Rev. E 69 (2004) 066138, equation 8.
    """
    _check_options("ksg_information", k, chunk, method, x.shape[1])
    return _ksg(x, y, k, chunk, method)[0]


@over_replicas("t")
def ross_information(
    t: Tensor, labels: Tensor, *, k: int = 3, chunk: int | None = None, method: Method = "auto"
) -> NeighbourInformation:
    """I(T;Y) of a continuous T and a class Y, from N points; nats.

        I = psi(N) + mean_i [psi(k_i) - psi(N_i) - psi(m_i)],

    N_i the number of points in the class of i, m_i the number of other points of any class within the distance from i
    to its k-th neighbour in its class, that one included; distances are maxima over units. In a class of N_i <= k
    points k_i is N_i - 1, else k; the point of a class of one is left out (of N too), as scikit-learn does. One class
    or a constant T gives 0. It never exceeds psi(N) - mean_i psi(N_i), which estimates H(Y).

    t: (N, D), or (R, N, D) for R replicas; real and finite. labels: (N,) or (R, N), classes as integers.
    k, chunk, method: as of `ksg_information`, but for 'compiled'.

    Raises InfoplaneError for other shapes or types, values that are not finite, tensors on two devices, N <= k, and
    several classes of which fewer than two have two points.

    Ross, Mutual information between discrete and continuous data sets, PLoS ONE 9 (2014) e87357, equation 2.
    """
    where = "ross_information"
    classes = read_labels(where, labels, t)
    choose(method, ("auto", "tree", "blocks"), "method")
    _check_options(where, k, chunk, method, t.shape[1])
    return _ross(where, t, classes, k, chunk, method)


@dataclass(frozen=True)
class _Neighbours(Estimator):
    """The options that `KSG` and `Ross` share, and the records that they make."""

    k: int = 3
    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"
    points: int = 5000

    def __post_init__(self) -> None:
        where = type(self).__name__
        if not is_count(self.k):
            raise InfoplaneError(f"{where}: k={self.k!r}; expected an integer of at least 1.")
        if not is_count(self.points, self.k + 1):
            raise InfoplaneError(f"{where}: points={self.points!r}; expected an integer above k={self.k}.")
        check_noise(where, self.noise_variance, self.scale)

    @property
    def params(self) -> str:
        """For the column `params`: every option that changes the value."""
        return f"k={self.k},{noise_params(self.noise_variance, self.scale)},points={self.points}"


@dataclass(frozen=True)
class KSG(_Neighbours):
    """`ksg_information` for the Recorder: of what is sent and what is received in the channel of a layer.

    k: neighbours.
    noise_variance, scale: as of `KDE`, for layers that have no noise of their own.
    points: at most so many, a random subset, the same at every snapshot.
    """

    name = "ksg"
    about = About(
        quantity="I(X;T), of a noisy layer that of its channel: I(Z;X), I(Z2;Z1), I(Z2;F2)",
        standing="estimate, for the population, through the layer's own noise or Gaussian noise",
        conditions="at most 5 units, no points that repeat, and less information than about ln N - 2; "
        "biased down in more units and at little noise",
        cost="N^2 D of at most `points` points; N log N in few units",
        source="Kraskov, Stoegbauer & Grassberger, Phys. Rev. E 69 (2004) 066138",
    )

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """I(sent; received) of each replica, in nats; `labels` are not looked at."""
        where = f"KSG, layer {reading.layer!r}"
        ends = pair(where, reading, self.noise_variance, self.scale)
        _check_options(where, self.k, None, "auto", ends.sent.shape[1])
        chosen = _subset(reading, ends.sent, self.points)
        sent, received = _rows(ends.sent, chosen), _rows(ends.received, chosen)
        n = chosen.shape[1]
        some = _halves(reading, chosen)[:, : n // 2] if n > WIDER * self.k else None
        result, low = _ksg(sent, received, self.k, None, "auto", some)
        return _numbers(ends.number(self.name, self.params), result, low)


@dataclass(frozen=True)
class Ross(_Neighbours):
    """`ross_information` for the Recorder. k, noise_variance, scale, points: as of `KSG`."""

    name = "ross"
    about = About(
        quantity="I(T;Y)",
        standing="estimate, for the population, through the layer's own noise or Gaussian noise",
        conditions="at most 5 units, no points that repeat, and more than k points a class",
        cost="N^2 D of at most `points` points; N log N in few units",
        source="Ross, PLoS ONE 9 (2014) e87357",
    )

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """I(T;Y) of each replica, in nats; nothing without labels."""
        where = f"Ross, layer {reading.layer!r}"
        ends = pair(where, reading, self.noise_variance, self.scale)
        if labels is None:
            return [[] for _ in ends.labelled]
        _check_options(where, self.k, None, "auto", ends.labelled.shape[1])
        classes = read_labels(where, labels, ends.labelled)
        chosen = _subset(reading, ends.labelled, self.points)

        def of(rows: Tensor) -> NeighbourInformation:
            used = Classes(classes.ids.gather(1, rows), classes.size)
            return _ross(where, _rows(ends.labelled, rows), used, self.k, None, "auto")

        result = of(chosen)
        rising = _rising(reading, of, result, chosen, self.k)
        return _numbers(ends.label_number(self.name, self.params), result, rising, classes.entropy().tolist())


def _numbers(
    common: Estimate, result: NeighbourInformation, biased: list[bool], ceilings: list[float] | None = None
) -> list[list[Estimate]]:
    """The number of each replica. biased: whether it is known to be low. ceilings: none if not given."""
    warnings = []
    for r, low in enumerate(biased):
        raised = {
            "ties": float(result.ties[r]) > 0,
            "high-dimension": int(result.dimensions[r]) > FEW_UNITS,
            "saturated": bool(result.saturated[r]),
            "sample-bias": low,
        }
        warnings.append((*(code for code, yes in raised.items() if yes), *common.warnings))
    return per_replica(
        replace(common, law=POPULATION),
        len(biased),
        value=result.value,
        n=result.n,
        stderr=result.stderr,
        ceiling=ceilings or [math.nan] * len(biased),
        warnings=warnings,
    )


# what goes in and what comes out


def _check_options(where: str, k: int, chunk: int | None, method: str, n: int) -> None:
    for name, value in {"k": k, "chunk": chunk}.items():
        if not (is_count(value) or (name == "chunk" and value is None)):
            raise InfoplaneError(f"{where}: {name}={value!r}; expected an integer of at least 1.")
    choose(method, METHODS, "method")
    if n <= k:
        raise InfoplaneError(f"{where}: {n} points have no k-th neighbour for k={k}; expected at least {k + 1} points.")


def _subset(reading: Reading, points: Tensor, most: int) -> Tensor:
    """(R, min(N, most)): which points of each replica are used."""
    replicas, n, _ = points.shape
    if n <= most:
        return torch.arange(n, device=points.device).expand(replicas, n)
    seeds = [derive("nearest neighbours", seed, reading.layer) for seed in reading.seed_of]
    return Streams(seeds, points.device).permutations(n)[:, :most]


def _rows(points: Tensor, chosen: Tensor) -> Tensor:
    return points.take_along_dim(chosen[..., None], 1)


def _halves(reading: Reading, chosen: Tensor) -> Tensor:
    """(R, N): the places of the chosen points in random order."""
    seeds = [derive("halves", seed, reading.layer) for seed in reading.seed_of]
    return Streams(seeds, chosen.device).permutations(chosen.shape[1])


def _rising(
    reading: Reading,
    of: Callable[[Tensor], NeighbourInformation],
    whole: NeighbourInformation,
    chosen: Tensor,
    k: int,
) -> list[bool]:
    """Whether the value still rises with N: above the mean of those of two halves of the points, by RISE and by a
    standard error. The bias falls as a power of N, so the value is then low by some 10 %, or more."""
    half = chosen.shape[1] // 2
    if half <= k + 1:
        return [True] * len(chosen)
    shuffled = chosen.gather(1, _halves(reading, chosen))
    try:
        parts = [of(shuffled[:, :half]), of(shuffled[:, half : 2 * half])]
    except InfoplaneError:  # too few points of a class in a half
        return [True] * len(chosen)
    rise = whole.value - (parts[0].value + parts[1].value) / 2
    return [bool(up) for up in (rise > RISE * whole.value.abs()) & (rise > whole.stderr)]


# the estimators


def _ksg(
    xs: Tensor, ys: Tensor, k: int, chunk: int | None, method: str, some: Tensor | None = None
) -> tuple[NeighbourInformation, list[bool]]:
    """The estimate, and whether it is low by some 10 % or more, as the points `some` (R, m) show; True without them.

    The bias of smooth densities goes with the square of the distance to the k-th neighbour, so as (k / N)^(2 / units),
    units of both sides. With WIDER k neighbours in place of k it is that much larger, on the same points, so that the
    difference of the two values is known better than either; it tells more of the bias than halves of the points do.
    (Of two units the power is taken for 2 / 3: near saturation the value falls by the logarithm of WIDER at most.)
    """
    found, low = [], []
    n = xs.shape[1]
    for r, (x, y) in enumerate(zip(map(_varying, xs), map(_varying, ys), strict=True)):
        units = x.shape[1], y.shape[1]
        if 0 in units:
            found.append(_nothing(n, max(units)))
            low.append(some is None)
            continue
        x, y = _unit_deviation(x), _unit_deviation(y)
        terms, radius = _pair_terms(x, y, k, chunk, method)
        found.append(_summary(terms, radius, _psi(k), n, max(units)))
        if some is None:
            low.append(True)
            continue
        wide, _ = _pair_terms(x, y, WIDER * k, chunk, method, some[r])
        fall = float((terms[some[r]] - wide).mean())
        value, stderr, *_ = found[-1]
        grows = WIDER ** (2 / max(3, sum(units))) - 1
        low.append(fall > LOW * abs(value) * grows and fall > ERRORS * stderr)
    return _stacked(found, xs.device), low


def _pair_terms(
    x: Tensor, y: Tensor, k: int, chunk: int | None, method: str, at: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The terms of the points `at` (m,), all by default, and their distances to the k-th neighbour: (m,) float64."""
    units = x.shape[1] + y.shape[1]
    if method == "compiled" or (method == "auto" and chunk is None and _by_loops(x, units)):
        from .compiled import pair_neighbours

        places = np.arange(len(x)) if at is None else at.cpu().numpy()
        radius, counts = pair_neighbours(x.cpu().numpy(), y.cpu().numpy(), k, places)
    elif _by_tree(method, x, units):
        radius, counts = _pair_tree(x.numpy(), y.numpy(), k, _ALL if at is None else at.numpy())
    else:
        radius, counts = _pair_blocks(x, y, k, chunk, at)
    return _psi(k) + _psi(len(x)) - torch.digamma(counts.to(torch.float64) + 1).sum(0), radius


def _ross(where: str, points: Tensor, classes: Classes, k: int, chunk: int | None, method: str) -> NeighbourInformation:
    found = []
    for t, ids in zip(points, classes.ids, strict=True):
        sizes = torch.bincount(ids, minlength=classes.size)
        kept = sizes[ids] > 1
        n, several, repeated = int(kept.sum()), int((sizes > 0).sum()), int((sizes > 1).sum())
        if several > 1 and repeated < 2:
            raise InfoplaneError(
                f"{where}: {repeated} of the {several} classes of {len(t)} points have two points or more; expected "
                "two such classes: give labels that are classes, or more points."
            )
        order = ids[kept].argsort(stable=True)
        x, sizes = _varying(t[kept][order]), sizes[sizes > 1]
        units = x.shape[1]
        if units == 0 or several == 1:
            found.append(_nothing(n, units))
            continue
        neighbours = (sizes - 1).clamp(max=k)
        if _by_tree(method, x, units):
            radius, within = _class_tree(x.cpu().numpy(), sizes.tolist(), neighbours.tolist())
        else:
            radius, within = _class_blocks(x, sizes.tolist(), neighbours.tolist(), chunk)
        psi_k = torch.digamma(neighbours.to(torch.float64))
        own = (psi_k - torch.digamma(sizes.to(torch.float64))).repeat_interleave(sizes)
        terms = _psi(n) + own.to(within.device) - torch.digamma(within.to(torch.float64))
        found.append(_summary(terms, radius, float((psi_k * sizes).sum() / n), n, units))
    return _stacked(found, points.device)


def _nothing(n: int, units: int) -> list[float]:
    """A constant tells nothing: no distance is looked at."""
    return [0.0, 0.0, 0.0, 0.0, units, n]


def _summary(terms: Tensor, radius: Tensor, psi_k: float, n: int, units: int) -> list[float]:
    value = float(terms.mean())
    stderr = SHARED_NEIGHBOURS * float(terms.std()) / math.sqrt(n)
    ties = float((radius == 0).to(torch.float64).mean())
    return [value, stderr, ties, value > _psi(n) - psi_k - 1, units, n]


def _stacked(found: list[list[float]], device: torch.device) -> NeighbourInformation:
    types = torch.float64, torch.float64, torch.float64, torch.bool, torch.int64, torch.int64
    columns = zip(zip(*found, strict=True), types, strict=True)
    return NeighbourInformation(*(torch.tensor(values, dtype=dtype, device=device) for values, dtype in columns))


def _psi(n: int) -> float:
    return float(digamma(n))


def _varying(x: Tensor) -> Tensor:
    """The units of (N, D) points that are not constant, in float64."""
    return x[:, x.amax(0) > x.amin(0)].to(torch.float64)


def _unit_deviation(x: Tensor) -> Tensor:
    x = x - x.mean(0)
    x = x / x.abs().amax()  # squares neither overflow nor vanish
    return x / x.square().mean().sqrt()


def _by_loops(x: Tensor, units: int) -> bool:
    fewest = LOOP_UNITS if len(x) <= LOOP_POINTS else TREE_UNITS
    return COMPILED and x.device.type == "cpu" and units >= fewest


def _by_tree(method: str, x: Tensor, units: int) -> bool:
    return method == "tree" or (method == "auto" and x.device.type == "cpu" and units < TREE_UNITS)


# Distances to neighbours and numbers of points within them. A difference of two float64 numbers and
# the largest of several are the same numbers however they are had, so trees, blocks and sorted
# columns agree to the last point: the k-th neighbour itself lies on the edge, and is on the right
# side of it everywhere.


def _pair_tree(x: Floats, y: Floats, k: int, at: slice | Ints = _ALL) -> tuple[Tensor, Tensor]:
    """Of the points `at`, (m,) distances to the k-th neighbour in (x, y); (2, m) numbers of other points nearer than
    that in x, in y."""
    radius = _tree_radii(np.concatenate([x, y], 1), k, at)
    nearer = np.nextafter(radius, -np.inf)
    itself = radius > 0
    counts = np.stack([_counts_within(side, nearer, at) - itself for side in (x, y)])
    return torch.from_numpy(radius), torch.from_numpy(counts)


def _class_tree(x: Floats, sizes: list[int], neighbours: list[int]) -> tuple[Tensor, Tensor]:
    """(N,) distances to the k-th neighbour in the same class; (N,) numbers of other points within them.

    x: (N, D), class by class.
    """
    parts = np.split(x, np.cumsum(sizes)[:-1])
    radius = np.concatenate([_tree_radii(part, k) for part, k in zip(parts, neighbours, strict=True)])
    return torch.from_numpy(radius), torch.from_numpy(_counts_within(x, radius) - 1)


def _tree_radii(x: Floats, k: int, at: slice | Ints = _ALL) -> Floats:
    distances, _ = cKDTree(x).query(x[at], [k + 1], p=np.inf, workers=1)  # a point is the first of its own neighbours
    radii: Floats = distances[:, 0]
    return radii


def _counts_within(x: Floats, radius: Floats, at: slice | Ints = _ALL) -> Ints:
    """(m,): how many points, itself among them, are at most radius_i away from the i-th of the points `at`."""
    if x.shape[1] == 1:
        counts: Ints = len(x) - _left_of(x[:, 0], radius, at) - _left_of(-x[:, 0], radius, at)
        return counts * (radius >= 0)  # within a radius below 0 lies nothing
    counts = cKDTree(x).query_ball_point(x[at], radius, p=np.inf, workers=1, return_length=True)
    return counts


def _left_of(x: Floats, radius: Floats, at: slice | Ints) -> Ints:
    """(m,): how many numbers are less than the i-th of those `at` by more than radius_i: bisection on the rounded
    difference itself."""
    n = len(x)
    ordered, of = np.sort(x), x[at]
    count = np.zeros(len(of), np.int64)
    for step in (1 << bit for bit in reversed(range(n.bit_length()))):
        further = np.minimum(count + step, n)
        count = np.where(of - ordered[further - 1] > radius, further, count)
    return count


def _pair_blocks(x: Tensor, y: Tensor, k: int, chunk: int | None, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`_pair_tree` from all distances, some rows at a time."""
    these_x, these_y = (x, y) if at is None else (x[at], y[at])
    m = len(these_x)
    radius, counts = x.new_empty(m), torch.empty(2, m, dtype=torch.int64, device=x.device)
    rows = chunk or _chunk(x)
    for i in (slice(start, start + rows) for start in range(0, m, rows)):
        of_x, of_y = _distances(these_x[i], x), _distances(these_y[i], y)
        radius[i] = _kth(torch.maximum(of_x, of_y), k)
        for count, distances in zip(counts, (of_x, of_y), strict=True):
            count[i] = (distances < radius[i, None]).sum(1)
    return radius, counts - (radius > 0).to(torch.int64)


def _class_blocks(x: Tensor, sizes: list[int], neighbours: list[int], chunk: int | None) -> tuple[Tensor, Tensor]:
    """`_class_tree` from all distances, some rows at a time."""
    radius, within = x.new_empty(len(x)), torch.empty(len(x), dtype=torch.int64, device=x.device)
    rows = chunk or _chunk(x)
    start = 0
    for size, k in zip(sizes, neighbours, strict=True):
        end = start + size
        for i in (slice(first, min(first + rows, end)) for first in range(start, end, rows)):
            distances = _distances(x[i], x)
            radius[i] = _kth(distances[:, start:end], k)
            within[i] = (distances <= radius[i, None]).sum(1) - 1
        start = end
    return radius, within


def _chunk(x: Tensor) -> int:
    return max(1, (2**20 if x.device.type == "cpu" else 2**25) // len(x))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, p=math.inf)


def _kth(distances: Tensor, k: int) -> Tensor:
    return distances.topk(k + 1, largest=False, sorted=True).values[:, -1]
