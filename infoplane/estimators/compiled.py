"""Run inner loops that numba compiles, on CPUs.

This module is imported only where the loops run, because numba takes half a second to import.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from scipy.spatial import cKDTree
from torch import Tensor

from ..threads import in_threads, torch_threads

__all__ = ["TILE", "block_sums", "pair_neighbours", "tile_sums"]

Floats = npt.NDArray[np.float64]
#: A block of pairs: 0 for one class or 1 for two; rows i0 to i1; columns j0 to j1.
Block = tuple[int, int, int, int, int]
Ints = npt.NDArray[np.int64]

#: The number of points in a tile. The loop over its columns then has a fixed length, and the
#: compiler can vectorise it.
TILE = 64
#: The number of points in a square on the diagonal. Larger products of matrices are faster, but
#: count more pairs twice.
SQUARE = 256
#: The reach of the wide kernel, which is 2^-square in the units of this module. N points whose
#: square is larger than REACH + log2 N need no exponential: together they add less than 2^-REACH =
#: 1e-6 to a sum of at least 1.
REACH = 20.0
#: The largest coordinate that is held in float32, which moves a point by at most 4e-6 of the noise.
SINGLE = 64.0

#: The compiler may reorder sums and fuse products with them, but it keeps infinities and NaN.
_FAST = {"contract", "reassoc", "nsz"}


def tile_sums(t: Tensor, unit: float, ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum exp(-|x_i - x_j|^2 / 2) and its fourth power over all j and over the class of i.

    The points of a class are put in the order of a k-d tree and cut into tiles. Tiles and points
    whose boxes are out of reach of a tile are skipped, and any other pair also serves for its
    mirror image. The loops square differences of coordinates, so nothing cancels. Sums over 64
    points are added in float32, and the rest in float64.

    Args:
        t: The points, (N, D) on the CPU; x = t / unit.
        unit: The unit of the points.
        ids: The class of each point, (N,); with None there is one class.

    Returns:
        The sums over all points, and over those of the same class: (2, N) float64 each, first of
        the kernel and then of its fourth power. The points are in an order of their own.
    """
    points = t.numpy().astype(np.float64)
    points -= points.mean(0)
    points *= math.sqrt(0.5 / math.log(2.0)) / unit
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
    even = d + d % 2  # the loops add two coordinates at a time
    rows = np.zeros((n, even), dtype)
    rows[:, :d] = points[np.concatenate(orders)]
    boxes = np.minimum.reduceat(rows, starts[:-1]), np.maximum.reduceat(rows, starts[:-1])
    columns = np.full((len(of), even, TILE), np.inf, dtype)  # empty places of a tile are out of reach of all points
    reach = dtype(REACH + math.log2(n))
    tile = np.repeat(np.arange(len(of)), np.diff(starts))
    columns[tile, :, np.arange(n) - starts[tile]] = rows
    sums = in_threads(
        lambda k, threads: _tile_sums(columns, rows, *boxes, starts, np.array(of), reach, k, threads), len(of)
    )
    return _totals(sums)


def block_sums(x: Tensor, half: Tensor, blocks: list[Block]) -> tuple[Tensor, Tensor]:
    """Compute the sums of `tile_sums` from products of matrices, for many coordinates.

    Args:
        x: The points, (N, D) float32 or float64 on the CPU, sorted by class.
        half: -|x|^2 / 2, (N,).
        blocks: The blocks (0 for one class or 1 for two, i0, i1, j0, j1), all of the upper
            triangle. Those of one class, or of two, that begin at the diagonal include it.

    Returns:
        The sums over all points, and over those of the same class, as for `tile_sums`.
    """

    def pairs(block: Block) -> int:
        """Count the pairs of a block."""
        _, i0, i1, j0, j1 = block
        return (i1 - i0) * (j1 - j0)

    parts = itertools.chain.from_iterable(map(_halved, blocks))
    in_order = sorted(parts, key=pairs, reverse=True)

    def part(k: int, threads: int) -> Floats:
        """Compute the share of thread k."""
        if threads > 1:
            torch.set_num_threads(1)  # this thread keeps to one, because the products are divided among the threads
        sums = np.zeros((2, 2, len(x)))
        products = x.new_empty(pairs(in_order[0]))
        turn = 2 * threads  # dealing to and fro gives each thread about the same amount of work
        for other, i0, i1, j0, j1 in in_order[k::turn] + in_order[turn - 1 - k :: turn]:
            block = products[: (i1 - i0) * (j1 - j0)].view(i1 - i0, j1 - j0)
            torch.mm(x[i0:i1], x[j0:j1].T, out=block)
            halves = half[i0:i1].numpy(), half[j0:j1].numpy()
            _block_sums(block.numpy(), *halves, i0 == j0, sums[other, :, i0:i1], sums[other, :, j0:j1])
        return sums

    with torch_threads(torch.get_num_threads()):  # restores the number of threads that `part` changes
        return _totals(in_threads(part, len(in_order)))


def _halved(block: Block) -> Iterator[Block]:
    """Cut a block that begins with a square on the diagonal into blocks with small squares.

    Each pair occurs twice in such a square.
    """
    other, i0, i1, j0, j1 = block
    if i0 != j0 or i1 - i0 <= SQUARE:
        yield block
        return
    middle = (i0 + i1) // 2
    yield from _halved((other, i0, middle, i0, middle))
    yield from _halved((other, middle, i1, middle, i1))
    yield other, i0, middle, middle, i1
    if j1 > i1:
        yield other, i0, i1, i1, j1


def _totals(sums: list[Floats]) -> tuple[Tensor, Tensor]:
    """Add the sums of the threads, (2, 2, N): same class or other class, wide or narrow kernel.

    Returns:
        The sums over all points, and over those of the same class, (2, N) each.
    """
    total = torch.from_numpy(np.sum(sums, axis=0))
    wide = total[:, 0]
    torch.maximum(wide, total[:, 1], out=wide)  # it is so for each pair, but rounding may make it less
    return total.sum(0), total[0]


def pair_neighbours(x: Floats, y: Floats, k: int, at: Ints) -> tuple[Tensor, Tensor]:
    """Find the k-th neighbours of the points `at` in (x, y), and count nearer points in x and in y.

    Args:
        x: One variable, (N, D_x) float64.
        y: The other variable, (N, D_y) float64.
        k: The number of neighbours.
        at: The points, (m,).

    Returns:
        The distances to the k-th neighbours, (m,), as maxima over coordinates, and the numbers of
        other points nearer than that in x and in y, (2, m).
    """
    sides = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)
    radius, counts = np.empty(len(at)), np.empty((2, len(at)), np.int64)
    in_threads(lambda first, threads: _count_nearer(*sides, k, at, first, threads, radius, counts), len(at))
    return torch.from_numpy(radius), torch.from_numpy(counts)


def _members(n: int, ids: Tensor | None) -> list[Ints]:
    """List the points of each class that has any."""
    if ids is None:
        return [np.arange(n)]
    classes = ids.numpy()
    order = classes.argsort(kind="stable")
    return np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)


@njit(inline="always")
def _power_of_two(x):
    """Compute 2^x for -100 <= x <= 0 in float32, to a relative error of 1e-7, and exactly 1 for 0.

    The whole part goes into the exponent. The fraction goes into a polynomial that is minimax in
    relative error, with its constant fixed at 1.
    """
    whole = np.float32(np.rint(x))
    f = x - whole
    p = np.float32(1.3274633365e-3) * f + np.float32(9.6719616796e-3)
    p = p * f + np.float32(5.5506783687e-2)
    p = p * f + np.float32(2.4022235322e-1)
    p = p * f + np.float32(6.9314706156e-1)
    p = p * f + np.float32(1.0)
    return np.int32(np.float32(p).view(np.int32) + (np.int32(whole) << np.int32(23))).view(np.float32)


@njit(inline="always")
def _fourth_power(kernel):
    """Compute the fourth power of a kernel, but no denormal number.

    Denormal numbers take a hundred times as long.
    """
    square = max(kernel, np.float32(4e-10))
    square *= square
    return square * square


@njit(inline="always")
def _apart(low, high, low_other, high_other):
    """Compute the squared distance between two boxes, or between a box and a point."""
    square = low.dtype.type(0)
    for c in range(len(low)):
        gap = max(low_other[c] - high[c], low[c] - high_other[c], low.dtype.type(0))
        square += gap * gap
    return square


@njit(nogil=True, cache=True, fastmath=_FAST)
def _tile_sums(columns, rows, low, high, starts, of, reach, first, step):
    """Sum over the tiles first, first + step, ..., each against itself and the tiles after it.

    Args:
        columns: The points by tile, (L, D, TILE).
        rows: The same points, (N, D).
        low: The lower corners of the tiles' boxes, (L, D).
        high: Their upper corners, (L, D).
        starts: The first point of each tile, and the end, (L + 1,).
        of: The class of each tile, (L,).
        reach: The square from which on two points need no exponential.
        first: The first tile of this thread.
        step: The number of threads.

    Returns:
        The sums, (2, 2, N): same class or other class; wide or narrow kernel.
    """
    tiles, d = low.shape
    sums = np.zeros((2, 2, len(rows)))
    square = np.empty(TILE, np.float32)
    wide, narrow = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for a in range(first, tiles, step):
        for b in range(a, tiles):
            if _apart(low[a], high[a], low[b], high[b]) > reach:
                continue
            other = 0 if of[a] == of[b] else 1
            column = columns[b]
            for j in range(TILE):
                wide[j] = 0
                narrow[j] = 0
            for i in range(starts[a], starts[a + 1]):
                row = rows[i]
                if _apart(row, row, low[b], high[b]) > reach:
                    continue
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
                    fourth = _fourth_power(kernel)
                    sum_wide += kernel
                    sum_narrow += fourth
                    wide[j] += kernel
                    narrow[j] += fourth
                sums[other, 0, i] += sum_wide
                sums[other, 1, i] += sum_narrow
            if b > a:  # a tile on the diagonal is its own mirror image
                for j in range(starts[b + 1] - starts[b]):
                    sums[other, 0, starts[b] + j] += wide[j]
                    sums[other, 1, starts[b] + j] += narrow[j]
    return sums


@njit(nogil=True, cache=True, fastmath=_FAST)
def _block_sums(products, half, other_half, diagonal, of_rows, of_columns):
    """Add the sums of a block, wide and narrow, to those of its rows and of its columns.

    Args:
        products: The products of the rows and columns, (n, m).
        half: -|x|^2 / 2 of the rows, (n,).
        other_half: The same of the columns, (m,).
        diagonal: Whether the block begins with the square on the diagonal, which is its own mirror
            image.
        of_rows: The sums of the rows, (2, n), over the columns.
        of_columns: The sums of the columns, (2, m), over the rows.
    """
    n, m = products.shape
    per_nat = products.dtype.type(1.4426950408889634)
    wide, narrow = np.empty(m, np.float32), np.empty(m, np.float32)
    for i0 in range(0, n, TILE):
        wide[:] = 0
        narrow[:] = 0
        for i in range(i0, min(i0 + TILE, n)):
            row, own = products[i], half[i]
            if diagonal:
                row[i] = -2 * own  # its distance from itself is 0
            sum_wide, sum_narrow = np.float32(0), np.float32(0)
            for j in range(m):
                exponent = np.float32(per_nat * (row[j] + (own + other_half[j])))
                kernel = _power_of_two(min(max(exponent, np.float32(-100)), np.float32(0)))
                fourth = _fourth_power(kernel)
                sum_wide += kernel
                sum_narrow += fourth
                wide[j] += kernel
                narrow[j] += fourth
            of_rows[0, i] += sum_wide
            of_rows[1, i] += sum_narrow
        for j in range(n if diagonal else 0, m):
            of_columns[0, j] += wide[j]
            of_columns[1, j] += narrow[j]


@njit(nogil=True, cache=True)
def _count_nearer(x, y, k, at, first, step, radius, counts):
    """Do the work of `pair_neighbours` for the points at[first], at[first + step], ...

    The results go into `radius` and `counts`. x is (D_x, N) and y is (D_y, N).
    """
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
