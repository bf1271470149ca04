"""What a set of codes can hold: the entropy of every subset of coordinates, and of combinations of them.

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
from torch import Tensor

__all__ = ["MARGIN", "alike", "few_valued", "joint_entropy", "margin"]

#: A rate is exact while R_A <= MARGIN * H(codes_A) for every subset A of coordinates (good to 1 % at a thousand cells).
MARGIN = 0.6
_MOST_SUBSETS = 12
_PAIRS = 4096
#: The share of pairs (triples) of points on parallel lines (planes) above which a combination takes few values: about
#: five values, or one that half of all points share. It is asked of coordinates whose scales differ; equal scales
#: make the
#: combination an Echo channel of its own, and the margin to its ceiling is asked for.
_ALIGNED = {2: 0.2, 3: 0.1}
_EQUAL_SCALES, _LEAST_RATE = 0.2, 0.3


def margin(codes: Tensor, rates: list[float], diagonal: bool) -> tuple[float, bool]:
    """The largest R_A / H(codes_A) over subsets A of coordinates, and whether all that matter were looked at.

    codes: (N, K), counted by value. H(codes_A) is at least the largest entropy of a coordinate in A, so only
    coordinates with R / H above the margin can be part of a subset that fails, and sorted by entropy they are
    settled by cumulative sums, or one subset at a time.
    """
    if not rates:
        return 0.0, True
    entropies = _entropies(codes)
    total = math.fsum(rates)
    if not diagonal:  # the rate of a coordinate is not defined: hold the whole against the poorest one
        return _ratio(total, min(entropies)), True
    whole = _ratio(total, joint_entropy(codes)) if total > 0 else 0.0
    order = sorted(range(len(rates)), key=lambda k: entropies[k])
    simple = max(_ratio(math.fsum(rates[k] for k in order[: j + 1]), entropies[i]) for j, i in enumerate(order))
    if simple <= MARGIN:  # an upper bound of every subset's ratio
        return max(whole, *(_ratio(rates[k], entropies[k]) for k in order)), True
    poor = [k for k in order if entropies[k] < total / MARGIN]
    largest = max(whole, *(_ratio(rates[k], entropies[k]) for k in order))
    if largest > MARGIN:
        return largest, True
    if len(poor) > _MOST_SUBSETS:
        return simple, False
    for size in range(2, len(poor) + 1):
        for subset in itertools.combinations(range(len(poor)), size):
            part = math.fsum(rates[poor[k]] for k in subset)
            if part <= MARGIN * max(entropies[poor[k]] for k in subset):
                continue
            largest = max(largest, _ratio(part, joint_entropy(codes[:, [poor[k] for k in subset]])))
    return largest, True


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
    first, second, third = points[random.integers(len(points), size=(3, _PAIRS))]
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
                chance = 4.0 / (math.pi * fine) if size == 2 else 4.0 / (2.0 * math.pi * fine**2) + 6.0 / _PAIRS
                largest = max(largest, share / max(much, chance))
    return largest


def alike(rates: Tensor) -> int:
    """The most coordinates whose scales are nearly equal to one coordinate's (itself included), where they let enough
    through to meet the ceiling of a rare combination. rates: -log s, (N, K)."""
    loud = rates[:, rates.mean(0) > _LEAST_RATE]
    near = [(loud - one.unsqueeze(1)).abs().mean(0) < _EQUAL_SCALES for one in loud.unbind(1)]  # N K numbers at a time
    return max((int(found.sum()) for found in near), default=0)


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
