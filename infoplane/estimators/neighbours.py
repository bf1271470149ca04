"""Estimate information from nearest neighbours, as Kraskov et al. and Ross do.

KSG compares two continuous variables, and Ross's estimator a continuous one and labels.
"""

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

#: The number of units in all below which a tree is faster than blocks, on two cores at N = 1000 and
#: 5000. Compiled loops over all pairs are faster than a tree from LOOP_UNITS on, if there are at
#: most LOOP_POINTS points.
TREE_UNITS = 8
LOOP_UNITS, LOOP_POINTS = 4, 10_000
#: Whether "auto" may choose compiled loops. Tests set it to False.
COMPILED = True
#: The largest number of units in one variable without a warning.
FEW_UNITS = 5
#: The share of itself by which a value by classes may rise from half of the points to all of them.
RISE = 0.03
#: The value of pairs with WIDER times as many neighbours shows how much the value is too low. By
#: extrapolation it may be too low by the share LOW of itself, or by ERRORS standard errors.
WIDER, LOW, ERRORS = 4, 0.14, 2.0
#: The factor of the standard error. Nearby points share neighbours, so their terms are not
#: independent: sd / sqrt(N) alone is 0.6 to 1.0 times the spread over samples of Gaussian pairs (k
#: = 3; 1 to 3 units per side; N = 500 and 2000), and it falls as k grows.
SHARED_NEIGHBOURS = math.sqrt(2.0)


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourInformation:
    """Hold a nearest-neighbour estimate, in nats.

    The tensors have the shape () or, for R replicas, (R,).

    Attributes:
        value: The estimate, which may be negative.
        stderr: sqrt(2) times the standard deviation of the N terms whose mean is the value, over
            sqrt(N). No closed form is known. With k = 3 it is 0.8 to 1.4 times the spread over
            samples of Gaussian pairs; with k >= 10 it is too small (0.7 to 1.1 times, and 0.6 to
            1.0 times with k = 30). It does not include the bias, which grows with the number of
            units and with the information.
        ties: The share of the distances to the k-th neighbour that are 0. Such distances are
            meaningless, and so is the value.
        saturated: Whether the value exceeds psi(N) - psi(k) - 1. The largest value that N points
            without ties can give is psi(N) - psi(k), which they give for y = x. For a relation that
            is as exact but curved, such as y = x^3, the value also grows with ln N, but may stay
            below this limit.
        dimensions: The number of varying units in the variable that has more of them.
        n: The number of points used.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
        >>> found = ip.estimators.ksg_information(x, x)
        >>> bool(found.saturated), float(found.ties), int(found.n)
        (True, 0.0, 200)
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
    """Estimate I(X;Y) of the density that N pairs (x_i, y_i) are drawn from.

        I = psi(k) + psi(N) - mean_i [psi(n_x,i + 1) + psi(n_y,i + 1)]

    Here n_x,i is the number of other points with |x_j - x_i| < r_i, and r_i is the distance from
    (x_i, y_i) to its k-th neighbour. All distances are maxima over units. First, x and y are each
    divided by their root mean square deviation, a single number for all units; this leaves the
    shape of a layer unchanged, so units that hardly vary have little weight. Constant units carry
    no information and are left out. If all units of a variable are constant, the value is 0.

    Args:
        x: One variable, (N, D_x), or (R, N, D_x) for R replicas.
        y: The other variable, (N, D_y), or (R, N, D_y).
        k: The number of neighbours. More of them lower the variance and raise the bias.
        chunk: The number of rows to work on at a time in blocks; the memory is about 32 chunk N
            bytes. The default is 2^20 / N, and 2^25 / N on a GPU.
        method: The way to find the neighbours, which all give the same value: "tree" (on the CPU),
            "blocks" of all distances, or "compiled" (on the CPU, loops compiled by numba). On the
            CPU, "auto" chooses a tree for fewer than 8 varying units. If no chunk is given, it
            chooses compiled loops from 8 units on, and from 4 units on for up to 10 000 points.

    Returns:
        The estimate, in nats, with diagnostics.

    Raises:
        InfoplaneError: If a tensor has another shape or type, if values are not finite, if the
            tensors are on two devices, if N <= k, or if the method is not available.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> pairs = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> x, y = pairs[:, :1], pairs[:, :1] + pairs[:, 1:]
        >>> found = ip.estimators.ksg_information(x, y)
        >>> bool((found.value - 0.3466).abs() < 3 * found.stderr)
        True

    References:
        Kraskov, Stögbauer & Grassberger, Estimating mutual information, Physical Review E 69 (2004)
        066138.
    """
    _check_options("ksg_information", k, chunk, method, x.shape[1])
    return _ksg(x, y, k, chunk, method)[0]


@over_replicas("t")
def ross_information(
    t: Tensor, labels: Tensor, *, k: int = 3, chunk: int | None = None, method: Method = "auto"
) -> NeighbourInformation:
    """Estimate I(T;Y) of a continuous T and a class Y from N points.

        I = psi(N) + mean_i [psi(k_i) - psi(N_i) - psi(m_i)]

    Here N_i is the number of points in the class of i. The distance from i to its k-th neighbour in
    its class holds m_i other points of any class, that neighbour included. Distances are maxima
    over units. In a class of N_i <= k points, k_i is N_i - 1, and otherwise k. The point of a class
    that has only one is left out (of N too), as in scikit-learn. A single class or a constant T
    gives 0. The value never exceeds psi(N) - mean_i psi(N_i), which estimates H(Y).

    Args:
        t: The layer, (N, D), or (R, N, D) for R replicas.
        labels: Classes as integers, (N,) or (R, N).
        k: The number of neighbours.
        chunk: As for `ksg_information`.
        method: "auto", "tree" or "blocks", as for `ksg_information`.

    Returns:
        The estimate, in nats, with diagnostics.

    Raises:
        InfoplaneError: If a tensor has another shape or type, if values are not finite, if the
            tensors are on two devices, if N <= k, or if there are several classes but fewer than
            two of them have two points.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
        >>> found = ip.estimators.ross_information(t, (t[:, 0] > 0).long())
        >>> 0.6 < found.value.item() < 0.7
        True

    References:
        Ross, Mutual information between discrete and continuous data sets, PLoS ONE 9 (2014)
        e87357.
    """
    where = "ross_information"
    classes = read_labels(where, labels, t)
    choose(method, ("auto", "tree", "blocks"), "method")
    _check_options(where, k, chunk, method, t.shape[1])
    return _ross(where, t, classes, k, chunk, method)


@dataclass(frozen=True)
class _Neighbours(Estimator):
    """Hold the options that `KSG` and `Ross` share."""

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
        """Every option that changes the value, for the column `params`."""
        return f"k={self.k},{noise_params(self.noise_variance, self.scale)},points={self.points}"


@dataclass(frozen=True)
class KSG(_Neighbours):
    """Estimate the information of a layer's channel for the Recorder, as `ksg_information` does.

    The two variables are the input and the output of the channel.

    Args:
        k: The number of neighbours.
        noise_variance: The variance of the noise, for layers without noise of their own.
        scale: "absolute" or "layer", as for `KDE`.
        points: The largest number of points used: a random subset, the same at every snapshot.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 200, 1, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[number]] = ip.estimators.KSG(noise_variance=0.5).measure(reading, labels=None)
        >>> number.quantity, number.channel, number.value > 3 * number.stderr
        ('I(X;T)', 'noise 0.5', True)

    References:
        Kraskov, Stögbauer & Grassberger, Estimating mutual information, Physical Review E 69 (2004)
        066138.
    """

    name = "ksg"
    about = About(
        quantity="It measures I(X;T); for a noisy layer, the information of its channel: I(Z;X), I(Z2;Z1) or I(Z2;F2).",
        standing="The number is an estimate for the population, through the layer's own noise or Gaussian noise.",
        conditions="It needs at most 5 units, no repeated points, and less information than about ln N - 2. With more "
        "units or little noise it is biased down.",
        cost="The time grows with N^2 D for at most `points` points, and with N log N for few units.",
        source="Kraskov, Stögbauer & Grassberger, Estimating mutual information, Physical Review E 69 (2004).",
    )

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Estimate I(sent; received) of each replica.

        Args:
            reading: The values of the layer.
            labels: Not used.

        Returns:
            A list per replica of its one number, in nats.

        Raises:
            InfoplaneError: As `ksg_information` does.
        """
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
    """Estimate I(T;Y) of a layer for the Recorder, as `ross_information` does.

    Args:
        k: The number of neighbours.
        noise_variance: The variance of the noise, for layers without noise of their own.
        scale: "absolute" or "layer", as for `KDE`.
        points: The largest number of points used: a random subset, the same at every snapshot.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 200, 1, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[number]] = ip.estimators.Ross().measure(reading, labels=(codes[0, :, 0] > 0).long())
        >>> number.quantity, number.value > 3 * number.stderr
        ('I(T;Y)', True)

    References:
        Ross, Mutual information between discrete and continuous data sets, PLoS ONE 9 (2014)
        e87357.
    """

    name = "ross"
    about = About(
        quantity="It measures I(T;Y).",
        standing="The number is an estimate for the population, through the layer's own noise or Gaussian noise.",
        conditions="It needs at most 5 units, no repeated points, and more than k points per class.",
        cost="The time grows with N^2 D for at most `points` points, and with N log N for few units.",
        source="Ross, Mutual information between discrete and continuous data sets, PLoS ONE 9 (2014).",
    )

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Estimate I(T;Y) of each replica.

        Args:
            reading: The values of the layer.
            labels: Classes as integers, (N,) or (R, N), or None.

        Returns:
            A list per replica of its one number, in nats; without labels the lists are empty.

        Raises:
            InfoplaneError: As `ross_information` does.
        """
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
    """Make the number of each replica.

    `biased` tells for each replica whether its value is known to be low. Without `ceilings` there
    are none.
    """
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


# Options and points


def _check_options(where: str, k: int, chunk: int | None, method: str, n: int) -> None:
    """Check the options of an estimate."""
    for name, value in {"k": k, "chunk": chunk}.items():
        if not (is_count(value) or (name == "chunk" and value is None)):
            raise InfoplaneError(f"{where}: {name}={value!r}; expected an integer of at least 1.")
    choose(method, METHODS, "method")
    if n <= k:
        raise InfoplaneError(f"{where}: {n} points have no k-th neighbour for k={k}; expected at least {k + 1} points.")


def _subset(reading: Reading, points: Tensor, most: int) -> Tensor:
    """Choose the points of each replica that are used, (R, min(N, most))."""
    replicas, n, _ = points.shape
    if n <= most:
        return torch.arange(n, device=points.device).expand(replicas, n)
    seeds = [derive("nearest neighbours", seed, reading.layer) for seed in reading.seed_of]
    return Streams(seeds, points.device).permutations(n)[:, :most]


def _rows(points: Tensor, chosen: Tensor) -> Tensor:
    """Take the chosen points of each replica."""
    return points.take_along_dim(chosen[..., None], 1)


def _halves(reading: Reading, chosen: Tensor) -> Tensor:
    """Put the places of the chosen points in random order, (R, N)."""
    seeds = [derive("halves", seed, reading.layer) for seed in reading.seed_of]
    return Streams(seeds, chosen.device).permutations(chosen.shape[1])


def _rising(
    reading: Reading,
    of: Callable[[Tensor], NeighbourInformation],
    whole: NeighbourInformation,
    chosen: Tensor,
    k: int,
) -> list[bool]:
    """Whether the value still rises with N, for each replica.

    It does if it exceeds the mean of the values of two halves of the points by the share RISE and
    by a standard error. The bias falls as a power of N, so such a value is low by 10 % or more.
    """
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


# The estimates


def _ksg(
    xs: Tensor, ys: Tensor, k: int, chunk: int | None, method: str, some: Tensor | None = None
) -> tuple[NeighbourInformation, list[bool]]:
    """Compute the estimate, and whether it is low by about 10 % or more.

    The latter is judged on the points `some`, (R, m); without them it is True.

    For smooth densities, the bias is proportional to the square of the distance to the k-th
    neighbour, and so to (k / N)^(2 / units), with the units of both sides. With WIDER k neighbours
    instead of k it is larger by that factor, on the same points; the difference of the two values
    is therefore known more precisely than either, and tells more about the bias than halves of the
    points do. (For two units the power is taken to be 2 / 3, because near saturation the value
    falls by the logarithm of WIDER at most.)
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
    """Compute the terms of the points `at`, (m,), and their distances to the k-th neighbour.

    Both results are (m,) float64. By default `at` is all points.
    """
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
    """Compute the estimate of each replica."""
    found = []
    for t, ids in zip(points, classes.ids, strict=True):
        sizes = torch.bincount(ids, minlength=classes.size)
        kept = sizes[ids] > 1
        n, several, repeated = int(kept.sum()), int((sizes > 0).sum()), int((sizes > 1).sum())
        if several > 1 and repeated < 2:
            raise InfoplaneError(
                f"{where}: {repeated} of the {several} classes of {len(t)} points have two points or more; expected "
                "at least two such classes: give labels that are classes, or more points."
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
    """Summarise a constant, which carries no information and needs no distances."""
    return [0.0, 0.0, 0.0, 0.0, units, n]


def _summary(terms: Tensor, radius: Tensor, psi_k: float, n: int, units: int) -> list[float]:
    """Compute the fields of `NeighbourInformation` for one replica."""
    value = float(terms.mean())
    stderr = SHARED_NEIGHBOURS * float(terms.std()) / math.sqrt(n)
    ties = float((radius == 0).to(torch.float64).mean())
    return [value, stderr, ties, value > _psi(n) - psi_k - 1, units, n]


def _stacked(found: list[list[float]], device: torch.device) -> NeighbourInformation:
    """Put the summaries of the replicas side by side."""
    types = torch.float64, torch.float64, torch.float64, torch.bool, torch.int64, torch.int64
    columns = zip(zip(*found, strict=True), types, strict=True)
    return NeighbourInformation(*(torch.tensor(values, dtype=dtype, device=device) for values, dtype in columns))


def _psi(n: int) -> float:
    """Compute the digamma function."""
    return float(digamma(n))


def _varying(x: Tensor) -> Tensor:
    """Return the units of points (N, D) that are not constant, in float64."""
    return x[:, x.amax(0) > x.amin(0)].to(torch.float64)


def _unit_deviation(x: Tensor) -> Tensor:
    """Divide centred points by their root mean square."""
    x = x - x.mean(0)
    x = x / x.abs().amax()  # then squares neither overflow nor vanish
    return x / x.square().mean().sqrt()


def _by_loops(x: Tensor, units: int) -> bool:
    """Whether compiled loops are faster than the other methods."""
    fewest = LOOP_UNITS if len(x) <= LOOP_POINTS else TREE_UNITS
    return COMPILED and x.device.type == "cpu" and units >= fewest


def _by_tree(method: str, x: Tensor, units: int) -> bool:
    """Whether to use a tree."""
    return method == "tree" or (method == "auto" and x.device.type == "cpu" and units < TREE_UNITS)


# Distances to neighbours, and numbers of points within them. The difference of two float64 numbers
# and the largest of several are the same however they are computed, so trees, blocks and sorted
# columns agree to the last point: the k-th neighbour itself lies on the edge, and all methods put
# it on the same side.


def _pair_tree(x: Floats, y: Floats, k: int, at: slice | Ints = _ALL) -> tuple[Tensor, Tensor]:
    """Find the k-th neighbours of the points `at` in (x, y), and count nearer points in x and in y.

    Returns:
        The distances to the k-th neighbours, (m,), and the numbers of other points nearer than that
        in x and in y, (2, m).
    """
    radius = _tree_radii(np.concatenate([x, y], 1), k, at)
    nearer = np.nextafter(radius, -np.inf)
    itself = radius > 0
    counts = np.stack([_counts_within(side, nearer, at) - itself for side in (x, y)])
    return torch.from_numpy(radius), torch.from_numpy(counts)


def _class_tree(x: Floats, sizes: list[int], neighbours: list[int]) -> tuple[Tensor, Tensor]:
    """Find the k-th neighbours within each class, and count the points within their distances.

    The points, (N, D), are in the order of their classes.

    Returns:
        The distances to the k-th neighbours, (N,), and the numbers of other points of any class
        within them, (N,).
    """
    parts = np.split(x, np.cumsum(sizes)[:-1])
    radius = np.concatenate([_tree_radii(part, k) for part, k in zip(parts, neighbours, strict=True)])
    return torch.from_numpy(radius), torch.from_numpy(_counts_within(x, radius) - 1)


def _tree_radii(x: Floats, k: int, at: slice | Ints = _ALL) -> Floats:
    """Find the distances of the points `at` to their k-th neighbours."""
    distances, _ = cKDTree(x).query(x[at], [k + 1], p=np.inf, workers=1)  # a point is the first of its own neighbours
    radii: Floats = distances[:, 0]
    return radii


def _counts_within(x: Floats, radius: Floats, at: slice | Ints = _ALL) -> Ints:
    """Count the points at most radius_i away from the i-th of the points `at`, itself included."""
    if x.shape[1] == 1:
        counts: Ints = len(x) - _left_of(x[:, 0], radius, at) - _left_of(-x[:, 0], radius, at)
        return counts * (radius >= 0)  # nothing lies within a radius below 0
    counts = cKDTree(x).query_ball_point(x[at], radius, p=np.inf, workers=1, return_length=True)
    return counts


def _left_of(x: Floats, radius: Floats, at: slice | Ints) -> Ints:
    """Count the numbers that are less than the i-th of the numbers `at` by more than radius_i.

    This is a bisection on the rounded difference itself.
    """
    n = len(x)
    ordered, of = np.sort(x), x[at]
    count = np.zeros(len(of), np.int64)
    for step in (1 << bit for bit in reversed(range(n.bit_length()))):
        further = np.minimum(count + step, n)
        count = np.where(of - ordered[further - 1] > radius, further, count)
    return count


def _pair_blocks(x: Tensor, y: Tensor, k: int, chunk: int | None, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Do what `_pair_tree` does from all distances, some rows at a time."""
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
    """Do what `_class_tree` does from all distances, some rows at a time."""
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
    """Choose the number of rows to work on at a time."""
    return max(1, (2**20 if x.device.type == "cpu" else 2**25) // len(x))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Compute the distances between two sets of points, as maxima over units."""
    return torch.cdist(a, b, p=math.inf)


def _kth(distances: Tensor, k: int) -> Tensor:
    """Return the distance to the k-th neighbour in each row, where the point itself comes first."""
    return distances.topk(k + 1, largest=False, sorted=True).values[:, -1]
