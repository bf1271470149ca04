"""The ceilings of a set of codes: the entropy of every subset of coordinates, and of combinations of them.

N inputs can be counted, so the information in some coordinates of a code is at most the entropy of their distinct
values, whatever the rate says. Entropies in nats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..warning_codes import LIMITS

__all__ = ["MARGIN", "WIDE", "crowded_flats", "few_valued", "joint_entropy", "margin"]

#: A rate is exact while R_A <= MARGIN * H(codes_A) for every subset A of coordinates (good to 1 % at a thousand cells).
MARGIN = LIMITS["margin"]
#: How many subsets of coordinates are counted at most.
_MOST_ENTROPIES = 1024
#: Coordinates up to which combinations are searched; a code of more is never called exact.
WIDE = int(LIMITS["coordinates"])
_PAIRS = 4096
#: The share of pairs (triples) of points on parallel lines (planes) above which a combination takes few values: about
#: five values, or one that half of all points share. It is asked of coordinates whose scales differ; equal scales
#: make the combination an Echo channel of its own, and the margin to its ceiling is asked for.
_ALIGNED = {2: 0.2, 3: 0.1}
_EQUAL_SCALES, _LEAST_RATE = 0.2, 0.3
#: Flats are tried this often for each that would be hit once (a miss has a chance of exp(-14)), on this many points.
_SURE, _SAMPLE, _MOST_TRIES = 14.0, 512, 60_000


def margin(codes: Tensor, rates: list[float], diagonal: bool) -> tuple[float, bool]:
    """The largest R_A / H(codes_A) over subsets A of coordinates, and whether all that matter were looked at.

    Args:
        codes: (N, K), counted by value.
        rates: of each coordinate, in nats.
        diagonal: whether S is. If not, the rate of a coordinate is not defined, and the whole is held against the
            poorest one.
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
    """`margin` where neither a single coordinate nor the whole fails; their largest ratio is given.

    A subset that fails is made of subsets of less entropy than its rate / MARGIN, and so of less than the rate of all
    coordinates that can be in it: those are built up level by level.
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
    """The coordinates that can be part of a failing subset, and their rate together."""
    poor, most = list(range(len(rates))), math.inf
    while math.fsum(rates[k] for k in poor) < most:
        most = math.fsum(rates[k] for k in poor)
        poor = [k for k in poor if entropies[k] < most / MARGIN]
    return poor, most


def _still_open(
    sets: dict[tuple[int, ...], float], near: dict[int, set[int]], rates: list[float]
) -> dict[tuple[int, ...], float]:
    """Those of the sets, each with its entropy, that can be part of a failing one: with all coordinates that are near
    each of theirs they would let more through than MARGIN times what they hold. Pairs settle who is near whom."""
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
    return rate / entropy if entropy > 0.0 else math.inf if rate > 0.0 else 0.0


def _entropies(codes: Tensor) -> list[float]:
    """The entropy of the distinct values of each column of (N, K), each row weighing 1/N; K numbers in nats."""
    # NumPy sorts several times as fast as torch does on a CPU, and these are few numbers
    return [_entropy_of_sorted(np.sort(column)) for column in _columns(codes)]


def _entropy_of_sorted(values: npt.NDArray[Any]) -> float:
    new = np.flatnonzero(values[1:] != values[:-1]) + 1
    if len(new) == len(values) - 1:
        return math.log(len(values))
    counts = np.diff(new, prepend=0, append=len(values))
    p = counts / len(values)
    return float(-(p * np.log(p)).sum())


def joint_entropy(codes: Tensor) -> float:
    """The entropy of the distinct rows of (N, K), nats."""
    columns = _columns(codes)
    if not len(columns):
        return 0.0
    # Rows are told apart by a random linear form, modulo 2^64, of their bit patterns (whose last bits are mostly zeros:
    # hence the exclusive or). That any two of N rows share a key is as likely as N^2 / 2^64.
    patterns = columns.view(np.uint64)
    patterns = patterns ^ (patterns >> np.uint64(32))
    coefficients = np.random.default_rng(0).integers(2**63, size=(len(columns), 1), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    return _entropy_of_sorted(np.sort((patterns * coefficients).sum(0, dtype=np.uint64)))


def _columns(codes: Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray((codes.double() + 0.0).T.cpu().numpy())  # + 0.0 makes one zero of the two


def few_valued(f: Tensor, rates: Tensor) -> float:
    """The largest share of pairs of points that lie on parallel lines, in any plane of two coordinates of f (N, K), and
    of triples of points on parallel planes, in any space of three (K <= 8); in units of the share that is too much.

    A combination of two coordinates that takes m values puts a share 1/m of all pairs on lines of one direction, and a
    share 1/m^2 of all triples on planes. Equal scales make it an Echo channel of the same rate R, which the margin
    asks to be at most MARGIN log m; with scales that differ it is none, and only very few values count. Directions
    along the axes do not count: few values of single coordinates are the ceilings' business. rates: -log s, (N, K).
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
            # whitened, or else all differences of a long thin cloud have one direction
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
    """The share that the most common direction has among points that lie anywhere, told apart to 1/fine."""
    if size == 2:
        return 4.0 / (math.pi * fine)
    return 4.0 / (2.0 * math.pi * fine**2) + 6.0 / _PAIRS


def crowded_flats(codes: Tensor, rates: Tensor) -> tuple[float, bool]:
    """Whether coordinates whose scales are alike have combinations that hold less than they let through.

    m combinations of coordinates with equal scales are an Echo channel of m times the rate R of one. Their entropy H is
    at least -log of the share of points that have one value of all m, which are the points on a flat, m dimensions
    short of the whole; so m R > MARGIN H takes a flat that holds a share exp(-m R / MARGIN). Flats through a few random
    points are tried until one of that share would have been hit but for one chance in a million.

    codes: (N, K), in cells, a point lies on a flat if it is within a cell of it; rates: -log s, (N, K). Pairs, and for
    K <= 8 triples, are left to `few_valued`.
    Returns the largest share found, in units of the share that is too much, and whether all flats could be tried.
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
    """The sets of more than `least` coordinates whose scales are nearly those of one of them, of those that let enough
    through to meet the ceiling of a rare combination."""
    loud = torch.nonzero(rates.mean(0) > _LEAST_RATE).flatten()
    of_loud = rates[:, loud]
    near = [(of_loud - one.unsqueeze(1)).abs().mean(0) < _EQUAL_SCALES for one in of_loud.unbind(1)]  # N K at a time
    groups = {tuple(loud[found].tolist()) for found in near}
    return [list(group) for group in sorted(groups) if len(group) > least]


def _share_on_flats(points: npt.NDArray[Any], sample: npt.NDArray[Any], picks: npt.NDArray[Any]) -> float:
    """The largest share of the points (N, d) within a cell of one of the flats through points[picks], (T, k + 1)."""
    corners = points[picks]
    spans = (corners[:, 1:] - corners[:, :1]).swapaxes(1, 2)
    if spans.shape[2]:
        normals = np.linalg.qr(spans, mode="complete").Q[:, :, spans.shape[2] :]
    else:
        normals = np.broadcast_to(np.eye(points.shape[1]), (len(picks), points.shape[1], points.shape[1]))

    def share(of: npt.NDArray[Any], which: npt.NDArray[Any] | slice) -> npt.NDArray[Any]:
        at = np.einsum("tdm,td->tm", normals[which], corners[which, 0])
        off = np.abs(np.einsum("nd,tdm->tnm", of, normals[which], optimize=True) - at[:, None])
        shares: npt.NDArray[Any] = (off <= 1.0).all(2).mean(1)
        return shares

    best = np.argsort(share(sample, slice(None)))[-4:]
    return float(share(points, best).max())


def _most_common_directions(
    normals: npt.NDArray[np.float64], whiten: npt.NDArray[np.float64], fines: Sequence[float]
) -> list[float]:
    """The share of the most common direction among whitened vectors (d, P), told apart to 1/fine, for each fine.

    Those that belong to a single coordinate, or to fewer than all d of them, are left out.
    """
    # to compare squares takes no root of every number; a vector without a length has no direction
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
