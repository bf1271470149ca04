"""The ceilings of a set of codes: entropies of subsets of coordinates, and of their combinations.

N inputs can be counted, so the information in some coordinates of a code is at most the entropy of
their distinct values, whatever the rate is. Entropies and rates are in nats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..warning_codes import LIMITS

if TYPE_CHECKING:
    from jaxtyping import Float, Real

__all__ = ["MARGIN", "WIDE", "crowded_flats", "few_valued", "joint_entropy", "margin"]

#: A rate is exact only if R_A <= MARGIN * H(codes_A) for every subset A of coordinates. (It then
#: agrees with the information in a thousand cells to 1 %.)
MARGIN = LIMITS["margin"]
#: The largest number of subsets of coordinates that are counted.
_MOST_ENTROPIES = 1024
#: The largest number of coordinates whose combinations are searched. A wider code is never exact.
WIDE = int(LIMITS["coordinates"])
#: The number of random pairs, and of random triples, of points.
_PAIRS = 4096
#: The share of pairs (triples) of points on parallel lines (planes) above which a combination takes
#: few values: about five values, or one value that half of all points share. This limit applies
#: where the scales of the coordinates differ. Equal scales make the combination an Echo channel of
#: its own, and then the margin to its ceiling sets the limit.
_ALIGNED = {2: 0.2, 3: 0.1}
#: Scales are alike if their rates differ by less than the first on average, and are searched if the
#: mean rate is above the second.
_EQUAL_SCALES, _LEAST_RATE = 0.2, 0.3
#: The expected number of hits of a flat with too large a share (a miss has a chance of exp(-14)),
#: the number of points on which flats are tried first, and the largest number of tries.
_SURE, _SAMPLE, _MOST_TRIES = 14.0, 512, 60_000


def margin(codes: Real[Tensor, "N K"], rates: list[float], diagonal: bool) -> tuple[float, bool]:
    """Find the largest R_A / H(codes_A) over subsets A of coordinates.

    Args:
        codes: The codes, (N, K), counted by value.
        rates: The rate of each coordinate, in nats.
        diagonal: Whether S is diagonal. Otherwise the rate of a single coordinate is not defined,
            and the total is held against the coordinate of least entropy.

    Returns:
        The largest ratio, and whether all subsets that matter were checked. Once a ratio is above
        MARGIN the search stops.

    Example:
        >>> margin(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), [0.5 * math.log(2)], True)
        (0.5, True)
    """
    if not rates:
        return 0.0, True
    entropies = _entropies(codes)
    total = math.fsum(rates)
    if not diagonal:
        return _ratio(total, min(entropies)), True
    whole = _ratio(total, joint_entropy(codes)) if total > 0 else 0.0
    largest = max(whole, *(_ratio(r, h) for r, h in zip(rates, entropies, strict=True)))
    if largest > MARGIN:
        return largest, True
    return _margin_of_subsets(codes, rates, entropies, largest)


def _margin_of_subsets(codes: Tensor, rates: list[float], entropies: list[float], largest: float) -> tuple[float, bool]:
    """Search the subsets between single coordinates and the whole code.

    Neither a single coordinate nor the whole fails here.

    The subsets of a failing subset have at most its entropy, which is less than its rate / MARGIN,
    and so less than the rate / MARGIN of all coordinates that can be in it. Such subsets are built
    up level by level.

    Args:
        codes: The codes, (N, K).
        rates: The rate of each coordinate, in nats.
        entropies: The entropy of each coordinate, in nats.
        largest: The largest ratio so far.
    """
    poor, most = _poor(rates, entropies)
    open_sets: dict[tuple[int, ...], float] = {(k,): entropies[k] for k in poor}
    near = {k: set(poor) - {k} for k in poor}  # which coordinates can be in a failing set together
    looked_at = 0
    while len(open_sets) > 1:
        wider: dict[tuple[int, ...], float] = {}
        for one, other in itertools.combinations(sorted(open_sets), 2):
            if one[:-1] != other[:-1]:
                continue
            chosen = (*one, other[-1])
            if any(part not in open_sets for part in itertools.combinations(chosen, len(one))):
                continue
            if looked_at == (_MOST_ENTROPIES if len(rates) <= WIDE else 0):
                return max(largest, most / max(open_sets.values())), False
            looked_at += 1
            entropy = joint_entropy(codes[:, chosen])
            largest = max(largest, _ratio(math.fsum(rates[k] for k in chosen), entropy))
            if largest > MARGIN:
                return largest, True
            wider[chosen] = entropy
        open_sets = _still_open(wider, near, rates)
    return largest, True


def _poor(rates: list[float], entropies: list[float]) -> tuple[list[int], float]:
    """Find the coordinates that can be part of a failing subset, and their total rate."""
    poor, most = list(range(len(rates))), math.inf
    while math.fsum(rates[k] for k in poor) < most:
        most = math.fsum(rates[k] for k in poor)
        poor = [k for k in poor if entropies[k] < most / MARGIN]
    return poor, most


def _still_open(
    sets: dict[tuple[int, ...], float], near: dict[int, set[int]], rates: list[float]
) -> dict[tuple[int, ...], float]:
    """Keep the sets that can be part of a failing one, each with its entropy.

    A set can if its rate, together with all coordinates that are near each of its own, is above
    MARGIN times its entropy. Two coordinates are near each other if their pair can be part of a
    failing set; sets of two update `near`.
    """
    while True:
        kept = {}
        for chosen, entropy in sets.items():
            others = set.intersection(*(near[k] for k in chosen)) - set(chosen)
            if math.fsum(rates[k] for k in (*chosen, *others)) > MARGIN * entropy:
                kept[chosen] = entropy
        if len(kept) == len(sets):
            return kept
        sets = kept
        if all(len(chosen) == 2 for chosen in sets):
            for k in near:
                near[k] = {j for j in near[k] if (min(j, k), max(j, k)) in sets}


def _ratio(rate: float, entropy: float) -> float:
    """Divide; a rate without any entropy is infinitely too large."""
    return rate / entropy if entropy > 0.0 else math.inf if rate > 0.0 else 0.0


def _entropies(codes: Tensor) -> list[float]:
    """Compute the entropy of the distinct values of each column of (N, K); K numbers in nats."""
    # NumPy sorts several times as fast as torch on a CPU, and these are few numbers
    return [_entropy_of_sorted(np.sort(column)) for column in _columns(codes)]


def _entropy_of_sorted(values: npt.NDArray[Any]) -> float:
    """Compute the entropy of sorted values, each with a weight of 1/N, in nats."""
    new = np.flatnonzero(values[1:] != values[:-1]) + 1
    if len(new) == len(values) - 1:
        return math.log(len(values))
    counts = np.diff(new, prepend=0, append=len(values))
    p = counts / len(values)
    return float(-(p * np.log(p)).sum())


def joint_entropy(codes: Real[Tensor, "N K"]) -> float:
    """Compute the entropy of the distinct rows of a code.

    Args:
        codes: (N, K), each row with a weight of 1/N.

    Returns:
        The entropy, in nats.

    Example:
        >>> round(joint_entropy(torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 1.0], [0.0, 2.0]])), 4)
        0.6931
    """
    columns = _columns(codes)
    if not len(columns):
        return 0.0
    # A random linear form, modulo 2^64, of the bit patterns tells the rows apart. The last bits of
    # a pattern are mostly zeros, hence the exclusive or. The chance that any two different rows of
    # N share a key is about N^2 / 2^64.
    patterns = columns.view(np.uint64)
    patterns = patterns ^ (patterns >> np.uint64(32))
    coefficients = np.random.default_rng(0).integers(2**63, size=(len(columns), 1), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    return _entropy_of_sorted(np.sort((patterns * coefficients).sum(0, dtype=np.uint64)))


def _columns(codes: Tensor) -> npt.NDArray[Any]:
    """Copy the columns of (N, K) as rows of a float64 array."""
    return np.ascontiguousarray((codes.double() + 0.0).T.cpu().numpy())  # + 0.0 makes one zero of the two


def few_valued(f: Float[Tensor, "N K"], rates: Float[Tensor, "N K"]) -> float:
    """Search combinations of two or three coordinates for few values.

    If a combination of two coordinates takes m values, a share 1/m of all pairs of points lies on
    parallel lines of one direction. For three coordinates, a share 1/m^2 of all triples lies on
    parallel planes. With equal scales the combination is an Echo channel of the same rate R, and R
    may be at most MARGIN ln m. With different scales it is not, and only very few values count.
    Directions along the axes do not count, because ceilings cover single coordinates.

    Args:
        f: The codes, (N, K).
        rates: -log s, (N, K), in nats.

    Returns:
        The largest share of pairs on parallel lines, in any plane of two coordinates, or of triples
        on parallel planes, in any space of three (for K <= 8), in units of the share that is too
        much.

    Example:
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> rates = torch.ones(1000, 2)
        >>> few_valued(x, rates) < 1
        True
        >>> x[:, 1] = x[:, 0].round() - x[:, 0]  # their sum takes few values
        >>> few_valued(x, rates) > 1
        True
    """
    points = (f / f.std(0).clamp(min=1e-300)).cpu().numpy()
    random = np.random.default_rng(0)
    first, second, third = points[random.integers(len(points), size=(3, _PAIRS))]  # pairs, and triples, of points
    ones, twos = np.ascontiguousarray((second - first).T), np.ascontiguousarray((third - first).T)
    spread = np.atleast_2d(np.cov(points.T))
    r, mean = np.ascontiguousarray(rates.T.cpu().numpy()), rates.mean(0).cpu().numpy()
    largest = 0.0
    for size in (2, 3) if points.shape[1] <= 8 else (2,):
        for chosen in map(list, itertools.combinations(range(points.shape[1]), size)):
            # whitened, because all differences of a long thin cloud have nearly the same direction
            values, vectors = np.linalg.eigh(spread[np.ix_(chosen, chosen)])
            whiten = vectors / np.sqrt(np.maximum(values, 1e-12))
            one, two = whiten.T @ ones[chosen], whiten.T @ twos[chosen]
            normals = np.stack([-one[1], one[0]]) if size == 2 else np.cross(one, two, axis=0)
            much = _ALIGNED[size]
            if float(np.ptp(r[chosen], axis=0).mean()) < _EQUAL_SCALES:
                much = min(much, math.exp(-(size - 1) * float(mean[chosen].mean()) / MARGIN))
            fines = (500.0, 50.0) if size == 2 else (50.0,)
            for fine, share in zip(fines, _most_common_directions(normals, whiten, fines), strict=True):
                largest = max(largest, share / max(much, _share_by_chance(size, fine)))
    return largest


def _share_by_chance(size: int, fine: float) -> float:
    """Return the share of the most common direction among scattered points, resolved to 1/fine."""
    if size == 2:
        return 4.0 / (math.pi * fine)
    return 4.0 / (2.0 * math.pi * fine**2) + 6.0 / _PAIRS


def crowded_flats(codes: Float[Tensor, "N K"], rates: Float[Tensor, "N K"]) -> tuple[float, bool]:
    """Search coordinates with equal scales for combinations whose entropy is below their rate.

    m combinations of coordinates with equal scales are an Echo channel with m times the rate R of
    one coordinate. Their entropy H is at least -ln of the share of the points that have one value
    of all m, which are the points on a flat m dimensions short of the whole. So m R > MARGIN H
    requires a flat with a share of at least exp(-m R / MARGIN). Flats through a few random points
    are tried until such a flat would have been hit, but for a chance of one in a million. Pairs,
    and for K <= 8 triples, are left to `few_valued`.

    Args:
        codes: The codes, (N, K), in units of cells. A point lies on a flat if it is within one cell
            of it.
        rates: -log s, (N, K), in nats.

    Returns:
        The largest share that was found, in units of the share that is too much, and whether all
        flats could be tried.
    """
    points, largest, everything = codes.cpu().numpy(), 0.0, True
    random = np.random.default_rng(0)
    sample = points[random.permutation(len(points))[:_SAMPLE]]
    for group in _alike(rates, least=3 if codes.shape[1] <= 8 else 2):
        size, rate = len(group), float(rates[:, group].mean(0).max())
        allowed = {missing: math.exp(-missing * rate / MARGIN) for missing in range(1, size)}
        tried = {missing: math.ceil(_SURE / much ** (size - missing + 1)) for missing, much in allowed.items()}
        if max(tried.values()) > _MOST_TRIES:
            everything = False
            continue
        for missing, much in allowed.items():
            tries = tried[missing]
            for start in range(0, tries, 1024):
                picks = random.integers(len(points), size=(min(1024, tries - start), size - missing + 1))
                share = _share_on_flats(points[:, group], sample[:, group], picks)
                largest = max(largest, share / much)
    return largest, everything


def _alike(rates: Tensor, least: int) -> list[list[int]]:
    """Group the coordinates whose scales are nearly equal to the scale of one of them.

    Only groups of more than `least` coordinates are returned, and only coordinates whose rate is
    large enough to reach the ceiling of a rare combination.
    """
    loud = torch.nonzero(rates.mean(0) > _LEAST_RATE).flatten()
    of_loud = rates[:, loud]
    near = [
        (of_loud - one.unsqueeze(1)).abs().mean(0) < _EQUAL_SCALES for one in of_loud.unbind(1)
    ]  # N K numbers at a time
    groups = {tuple(loud[found].tolist()) for found in near}
    return [list(group) for group in sorted(groups) if len(group) > least]


def _share_on_flats(points: npt.NDArray[Any], sample: npt.NDArray[Any], picks: npt.NDArray[Any]) -> float:
    """Find the largest share of the points, (N, d), that lie within a cell of one of T flats.

    Flat t goes through points[picks[t]]; picks is (T, k + 1).
    """
    corners = points[picks]
    spans = (corners[:, 1:] - corners[:, :1]).swapaxes(1, 2)
    if spans.shape[2]:
        normals = np.linalg.qr(spans, mode="complete").Q[:, :, spans.shape[2] :]
    else:
        normals = np.broadcast_to(np.eye(points.shape[1]), (len(picks), points.shape[1], points.shape[1]))

    def share(of: npt.NDArray[Any], which: npt.NDArray[Any] | slice) -> npt.NDArray[Any]:
        """Return the share of points on each of the flats."""
        at = np.einsum("tdm,td->tm", normals[which], corners[which, 0])
        off = np.abs(np.einsum("nd,tdm->tnm", of, normals[which], optimize=True) - at[:, None])
        shares: npt.NDArray[Any] = (off <= 1.0).all(2).mean(1)
        return shares

    best = np.argsort(share(sample, slice(None)))[-4:]
    return float(share(points, best).max())


def _most_common_directions(
    normals: npt.NDArray[np.float64], whiten: npt.NDArray[np.float64], fines: Sequence[float]
) -> list[float]:
    """Find the share of the most common direction among whitened vectors, (d, P).

    Directions are resolved to 1/fine, for each fine. Those that involve fewer than all d
    coordinates are left out.
    """
    # squares are compared to save the roots; a vector without a length has no direction
    length = np.square(normals).sum(0)
    coordinates = np.square(whiten @ normals)
    smallest, whole = coordinates.min(0), coordinates.sum(0)
    units = normals / np.where(normals[-1] < 0, -1.0, 1.0) / np.sqrt(np.maximum(length, 1e-300))
    keys = np.array([1, 100_003, 100_003**2])[: len(units)]
    shares = []
    for fine in fines:
        oblique = (length > 1e-18) & (smallest > whole * (2.0 / fine) ** 2)
        cells = np.sort(keys @ np.round(units[:, oblique] * fine).astype(np.int64))
        new = np.flatnonzero(np.diff(cells))
        runs = np.diff(new, prepend=-1, append=len(cells) - 1) if len(cells) else np.zeros(1)
        shares.append(float(runs.max()) / normals.shape[1])
    return shares
