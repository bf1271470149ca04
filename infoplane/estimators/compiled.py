"""Inner loops compiled by numba, for CPUs. To be imported only where numba is installed (the extra `fast`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from scipy.spatial import cKDTree
from torch import Tensor

__all__ = ["TILE", "kernel_sums", "pair_neighbours"]

T = TypeVar("T")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Points in a tile, whose columns are then a loop of fixed length that the compiler lays out in vectors.
TILE = 64
#: The wide kernel is 2^-square in units of this module. Two points of a larger square need no exponential: they add
#: less than N 2^-37.5 = N 5e-12 to a sum of at least 1.
REACH = 37.5
#: Coordinates up to this are held in float32, in which a point then moves by 4e-6 of the noise at most.
SINGLE = 64.0

#: The compiler may reorder sums, and fuse products with them; infinities and nan stay what they are.
_FAST = {"contract", "reassoc", "nsz"}


def kernel_sums(x: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """sum_j of exp(-|x_i - x_j|^2 / 2) and of its fourth power, over all j and over those of the class of i.

    x: (N, D) float64 on the CPU, centred. ids: (N,) or None, then there is one class. Returns two (2, N) float64
    tensors, the points in an order of their own.

    The points of a class are put in the order of a k-d tree and cut into tiles. Two tiles whose boxes are out of reach
    of each other are passed over, and any other two serve for their mirror image too. It is the differences of the
    coordinates that are squared, so nothing cancels; sums over 64 points are added in float32, the rest in float64.
    """
    points = x.numpy() * math.sqrt(0.5 / math.log(2.0))
    n, d = points.shape
    dtype = np.float32 if float(np.abs(points).max(initial=0.0)) <= SINGLE else np.float64
    orders, ends, of = [], [0], []
    for members in _members(n, ids):
        tree = cKDTree(points[members], leafsize=TILE, compact_nodes=False)
        orders.append(members[tree.indices])
        cuts = [*range(TILE, len(members), TILE), len(members)]
        of += [len(orders)] * len(cuts)
        ends += [ends[-1] + cut for cut in cuts]
    starts = np.array(ends)
    even = d + d % 2  # two coordinates are added at a time
    rows = np.zeros((n, even), dtype)
    rows[:, :d] = points[np.concatenate(orders)]
    boxes = np.minimum.reduceat(rows, starts[:-1]), np.maximum.reduceat(rows, starts[:-1])
    columns = np.full((len(of), even, TILE), np.inf, dtype)  # where a tile is not full, out of reach of all
    tile = np.repeat(np.arange(len(of)), np.diff(starts))
    columns[tile, :, np.arange(n) - starts[tile]] = rows
    sums = _in_threads(lambda k, threads: _tile_sums(columns, rows, *boxes, starts, np.array(of), k, threads), len(of))
    total = torch.from_numpy(np.sum(sums, axis=0))
    wide = total[:, 0]
    torch.maximum(wide, total[:, 1], out=wide)  # as it is of each pair; by rounding it may be less
    return total.sum(0), total[0]


def pair_neighbours(x: Floats, y: Floats, k: int, at: Ints) -> tuple[Tensor, Tensor]:
    """Of the points `at`, (m,) distances to the k-th neighbour in (x, y); (2, m) numbers of other points nearer than
    that in x, in y. Distances are maxima over coordinates; x and y: (N, D) float64."""
    sides = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)
    radius, counts = np.empty(len(at)), np.empty((2, len(at)), np.int64)
    _in_threads(lambda first, threads: _count_nearer(*sides, k, at, first, threads, radius, counts), len(at))
    return torch.from_numpy(radius), torch.from_numpy(counts)


def _members(n: int, ids: Tensor | None) -> list[Ints]:
    """Which points are in each class that has any."""
    if ids is None:
        return [np.arange(n)]
    classes = ids.numpy()
    order = classes.argsort(kind="stable")
    return np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)


def _in_threads(work: Callable[[int, int], T], most: int) -> list[T]:
    """work(k, threads) for each of as many threads as torch uses, at most `most`; the loops release the GIL."""
    threads = min(torch.get_num_threads(), most)
    if threads == 1:
        return [work(0, 1)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda k: work(k, threads), range(threads)))


@njit(inline="always")
def _power_of_two(x):
    """2^x for -100 <= x <= 0 in float32, to 1e-7 of itself, and 1 for 0: a polynomial for the fraction, minimax in
    relative error with its constant held at 1, and the whole part into the exponent."""
    whole = np.float32(np.rint(x))
    f = x - whole
    p = np.float32(1.3274633365e-3) * f + np.float32(9.6719616796e-3)
    p = p * f + np.float32(5.5506783687e-2)
    p = p * f + np.float32(2.4022235322e-1)
    p = p * f + np.float32(6.9314706156e-1)
    p = p * f + np.float32(1.0)
    return np.int32(np.float32(p).view(np.int32) + (np.int32(whole) << np.int32(23))).view(np.float32)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _tile_sums(columns, rows, low, high, starts, of, first, step):
    """(2, 2, N): same class, other; wide, narrow. The tiles first, first + step, ... against those from themselves on.

    columns: (L, D, TILE); rows: (N, D), the same points; low, high: (L, D); starts: (L + 1,); of: (L,) classes.
    """
    tiles, d = low.shape
    sums = np.zeros((2, 2, len(rows)))
    square = np.empty(TILE, np.float32)
    wide, narrow = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    zero = rows.dtype.type(0)
    for a in range(first, tiles, step):
        for b in range(a, tiles):
            apart = zero
            for c in range(d):
                gap = max(low[b, c] - high[a, c], low[a, c] - high[b, c], zero)
                apart += gap * gap
            if apart > REACH:
                continue
            other = 0 if of[a] == of[b] else 1
            column = columns[b]
            for j in range(TILE):
                wide[j] = 0
                narrow[j] = 0
            for i in range(starts[a], starts[a + 1]):
                row = rows[i]
                p, q, r, s = row[0], row[1], column[0], column[1]
                for j in range(TILE):
                    u, v = r[j] - p, s[j] - q
                    square[j] = u * u + v * v
                for c in range(2, d, 2):
                    p, q, r, s = row[c], row[c + 1], column[c], column[c + 1]
                    for j in range(TILE):
                        u, v = r[j] - p, s[j] - q
                        square[j] += u * u + v * v
                sum_wide, sum_narrow = np.float32(0), np.float32(0)
                for j in range(TILE):
                    kernel = _power_of_two(max(-square[j], np.float32(-100)))
                    # its fourth power is to be no denormal number: those take a hundred times as long
                    fourth = max(kernel, np.float32(4e-10))
                    fourth *= fourth
                    fourth *= fourth
                    sum_wide += kernel
                    sum_narrow += fourth
                    wide[j] += kernel
                    narrow[j] += fourth
                sums[other, 0, i] += sum_wide
                sums[other, 1, i] += sum_narrow
            if b > a:  # the mirror image of the tile on the diagonal is itself
                for j in range(starts[b + 1] - starts[b]):
                    sums[other, 0, starts[b] + j] += wide[j]
                    sums[other, 1, starts[b] + j] += narrow[j]
    return sums


@njit(nogil=True, cache=True)
def _count_nearer(x, y, k, at, first, step, radius, counts):
    """For the points at[first], at[first + step], ...: into radius and counts. x: (D_x, N); y: (D_y, N)."""
    n = x.shape[1]
    of_x, of_y = np.empty(n), np.empty(n)
    nearest = np.empty(k + 1)
    for m in range(first, len(at), step):
        i = at[m]
        for side, distances in ((x, of_x), (y, of_y)):
            distances[:] = 0.0
            for row in side:
                centre = row[i]
                for j in range(n):
                    distances[j] = max(distances[j], abs(row[j] - centre))
        nearest[:] = np.inf
        for j in range(n):
            distance = max(of_x[j], of_y[j])
            if distance < nearest[k]:
                place = k
                while place > 0 and nearest[place - 1] > distance:
                    nearest[place] = nearest[place - 1]
                    place -= 1
                nearest[place] = distance
        r = nearest[k]
        radius[m] = r
        itself = 1 if r > 0 else 0
        nearer_x, nearer_y = 0, 0
        for j in range(n):
            nearer_x += of_x[j] < r
            nearer_y += of_y[j] < r
        counts[0, m], counts[1, m] = nearer_x - itself, nearer_y - itself
