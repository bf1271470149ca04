"""Inner loops compiled by numba, for CPUs. Imported only where they run: numba takes half a second to import."""

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
#: 0 for one class or 1 for two; rows i0 to i1, columns j0 to j1
Block = tuple[int, int, int, int, int]
Ints = npt.NDArray[np.int64]

#: Points in a tile, whose columns are then a loop of fixed length that the compiler lays out in
#: vectors.
TILE = 64
#: Points in a square on the diagonal of products, which are the faster the larger they are.
SQUARE = 256
#: The wide kernel is 2^-square in units of this module. N points whose square is larger than REACH
#: + log2 N need no exponential: together they add less than 2^-REACH = 1e-6 to a sum of at least 1.
REACH = 20.0
#: Coordinates up to this are held in float32, in which a point then moves by 4e-6 of the noise at
#: most.
SINGLE = 64.0

#: The compiler may reorder sums, and fuse products with them; infinities and nan stay what they
#: are.
_FAST = {"contract", "reassoc", "nsz"}


def tile_sums(t: Tensor, unit: float, ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """sum_j of exp(-|x_i - x_j|^2 / 2) and of its fourth power, over all j and over those of the class of i.

    x = t / unit. t: (N, D) on the CPU. ids: (N,) or None, then there is one class. Returns two (2, N) float64 tensors,
    the points in an order of their own.

    The points of a class are put in the order of a k-d tree and cut into tiles. A tile or a point whose box is out of
    reach of a tile is passed over, and any other pair serves for its mirror image too. It is the differences of the
    coordinates that are squared, so nothing cancels; sums over 64 points are added in float32, the rest in float64.
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
    even = d + d % 2  # two coordinates are added at a time
    rows = np.zeros((n, even), dtype)
    rows[:, :d] = points[np.concatenate(orders)]
    boxes = np.minimum.reduceat(rows, starts[:-1]), np.maximum.reduceat(rows, starts[:-1])
    columns = np.full((len(of), even, TILE), np.inf, dtype)  # where a tile is not full, out of reach of all
    reach = dtype(REACH + math.log2(n))
    tile = np.repeat(np.arange(len(of)), np.diff(starts))
    columns[tile, :, np.arange(n) - starts[tile]] = rows
    sums = in_threads(
        lambda k, threads: _tile_sums(columns, rows, *boxes, starts, np.array(of), reach, k, threads), len(of)
    )
    return _totals(sums)


def block_sums(x: Tensor, half: Tensor, blocks: list[Block]) -> tuple[Tensor, Tensor]:
    """The same sums where there are many coordinates, from products of matrices.

    x: (N, D) on the CPU, float32 or float64, sorted by class; half: (N,), -|x|^2 / 2. blocks: (0 for one class or 1 for
    two, i0, i1, j0, j1), all of the upper triangle; those of one class or of two that begin at the diagonal hold it.
    """

    def pairs(block: Block) -> int:
        _, i0, i1, j0, j1 = block
        return (i1 - i0) * (j1 - j0)

    parts = itertools.chain.from_iterable(map(_halved, blocks))
    in_order = sorted(parts, key=pairs, reverse=True)

    def part(k: int, threads: int) -> Floats:
        if threads > 1:
            torch.set_num_threads(1)  # here, for good: products are dealt out, and not shared
        sums = np.zeros((2, 2, len(x)))
        products = x.new_empty(pairs(in_order[0]))
        turn = 2 * threads  # dealt out to and fro, about as much for each thread
        for other, i0, i1, j0, j1 in in_order[k::turn] + in_order[turn - 1 - k :: turn]:
            block = products[: (i1 - i0) * (j1 - j0)].view(i1 - i0, j1 - j0)
            torch.mm(x[i0:i1], x[j0:j1].T, out=block)
            halves = half[i0:i1].numpy(), half[j0:j1].numpy()
            _block_sums(block.numpy(), *halves, i0 == j0, sums[other, :, i0:i1], sums[other, :, j0:j1])
        return sums

    with torch_threads(torch.get_num_threads()):  # after the others' part, those that this thread had
        return _totals(in_threads(part, len(in_order)))


def _halved(block: Block) -> Iterator[Block]:
    """A block that begins with a square on the diagonal, in which each pair is twice, as blocks with small squares."""
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
    """Over all points, and over those of the same class, (2, N), of what the threads have: (2, 2, N), same class and
    other, wide and narrow."""
    total = torch.from_numpy(np.sum(sums, axis=0))
    wide = total[:, 0]
    torch.maximum(wide, total[:, 1], out=wide)  # as it is of each pair; by rounding it may be less
    return total.sum(0), total[0]


def pair_neighbours(x: Floats, y: Floats, k: int, at: Ints) -> tuple[Tensor, Tensor]:
    """Of the points `at`, (m,) distances to the k-th neighbour in (x, y); (2, m) numbers of other points nearer than
    that in x, in y. Distances are maxima over coordinates; x and y: (N, D) float64."""
    sides = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)
    radius, counts = np.empty(len(at)), np.empty((2, len(at)), np.int64)
    in_threads(lambda first, threads: _count_nearer(*sides, k, at, first, threads, radius, counts), len(at))
    return torch.from_numpy(radius), torch.from_numpy(counts)


def _members(n: int, ids: Tensor | None) -> list[Ints]:
    """Which points are in each class that has any."""
    if ids is None:
        return [np.arange(n)]
    classes = ids.numpy()
    order = classes.argsort(kind="stable")
    return np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)


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


@njit(inline="always")
def _fourth_power(kernel):
    """Of a kernel, but no denormal number: those take a hundred times as long."""
    square = max(kernel, np.float32(4e-10))
    square *= square
    return square * square


@njit(inline="always")
def _apart(low, high, low_other, high_other):
    """The square of the distance between two boxes, or a box and a point."""
    square = low.dtype.type(0)
    for c in range(len(low)):
        gap = max(low_other[c] - high[c], low[c] - high_other[c], low.dtype.type(0))
        square += gap * gap
    return square


@njit(nogil=True, cache=True, fastmath=_FAST)
def _tile_sums(columns, rows, low, high, starts, of, reach, first, step):
    """(2, 2, N): same class, other; wide, narrow. The tiles first, first + step, ... against those from themselves on.

    columns: (L, D, TILE); rows: (N, D), the same points; low, high: (L, D); starts: (L + 1,); of: (L,) classes.
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
            if b > a:  # the mirror image of the tile on the diagonal is itself
                for j in range(starts[b + 1] - starts[b]):
                    sums[other, 0, starts[b] + j] += wide[j]
                    sums[other, 1, starts[b] + j] += narrow[j]
    return sums


@njit(nogil=True, cache=True, fastmath=_FAST)
def _block_sums(products, half, other_half, diagonal, of_rows, of_columns):
    """Add the sums of a block, wide and narrow, over its columns to of_rows, (2, n), and over its rows to of_columns,
    (2, m). products: (n, m); half: (n,); other_half: (m,). diagonal: whether it begins with the square on the
    diagonal, which is its own mirror image."""
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
