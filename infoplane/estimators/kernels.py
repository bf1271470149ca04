"""Sum Gaussian kernels over all pairs of points."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["kernel_sums"]

#: A block of pairs: 0 for one class or 1 for two; rows i0 to i1; columns j0 to j1.
Block = tuple[int, int, int, int, int]


#: The distance, in units of 2 s, beyond which two points need no exponential. Together such points
#: add less than N exp(-26) = N 5e-12 to a sum of at least 1.
REACH = math.sqrt(2 * 26.0)
#: The least exponent of the wide kernel. The narrow kernel, its fourth power, is then exp(-87);
#: smaller float32 numbers are denormal and four times as slow. The sums are corrected for it.
FLOOR = -21.75
#: With at least MANY coordinates float32 is tried first. ROUNDING is the largest share by which its
#: error may change a sum, in the mean over points.
MANY = 48
ROUNDING = 5e-6
#: Exponents with larger errors in float32 are not used at all, because sums that consist of errors
#: cannot be judged.
MOST_ERROR = 0.1
#: With larger errors in float64, coordinates are subtracted instead of multiplied.
DOUBLE_ERROR = 1e-8
#: The number of points whose sums are repeated in float64, to check those in float32.
CHECKED = 16
#: With more classes than this, the columns of other classes are not searched for points within
#: reach.
SEARCHED_CLASSES = 16
#: The number of values converted to float64 at a time, so that their copies stay in the cache.
PIECE = 2**16
#: Whether compiled loops are used on the CPU. Tests set it to False, and torch then sums as it does
#: on a GPU.
COMPILED = True
#: The compiled loops are used for classes that have at least this many points on average.
SMALLEST_CLASS = 32


def kernel_sums(t: Tensor, unit: float, ids: Tensor | None, chunk: int | None) -> tuple[Tensor, Tensor]:
    """Sum exp(-|x_i - x_j|^2 / 2) and its fourth power over all j and over the class of i.

    On a CPU, where there are few coordinates, the compiled loops do this (`compiled.tile_sums`).
    Otherwise the points are sorted by class, so that the sums over a class are sums over whole
    blocks. Within a class they are sorted along the longest axis of the layer, so that most pairs
    out of reach are never computed; and each block above the diagonal also serves for its mirror
    image.

    The exponents are products in float64. In float32 their error, 2^-24 |x|^2, would be the same
    for all points of a cluster and would enter the bounds in full (1e-3 nats for a saturated tanh
    layer at s2 = 1e-3). Only where there are so many coordinates that the products dominate the
    time is float32 tried first.

    Args:
        t: The points, (N, D); x = t / unit.
        unit: The unit of the points.
        ids: The class of each point, (N,); with None there is one class.
        chunk: The number of rows to work on at a time; None for a suitable one.

    Returns:
        The sums over all points, and over those of the same class: (2, N) float64 each, first of
        the kernel and then of its fourth power. The points are in an order of their own.
    """
    n, d = t.shape
    cpu = t.device.type == "cpu"
    if COMPILED and cpu and chunk is None and d < MANY and _few(ids, n):
        from .compiled import tile_sums

        return tile_sums(t, unit, ids)
    if chunk is None:
        chunk = (192 if d < MANY else 1024 if COMPILED else 256) if cpu else 2048
    step = max(1, (PIECE if cpu else 2**24) // d)
    some = t[:: 1 + n // step].to(torch.float64)
    axis = _longest_axis(some - some.mean(0))
    total, places = torch.zeros_like(some[0]), []
    for part in t.split(step):
        part = part.to(torch.float64)
        total += part.sum(0)
        places.append(part @ axis)
    mean, place = total / n, torch.cat(places).div_(unit)
    order = place.argsort()
    ends = [n]
    if ids is not None:
        order = order[ids[order].argsort(stable=True)]
        sizes = torch.bincount(ids)
        ends = sizes[sizes > 0].cumsum(0).tolist()
    blocks = list(_blocks(place[order].tolist(), ends, chunk))

    def prepared(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Compute x, (N, D), and -|x|^2 / 2, (N,), in float64, and convert them."""
        x, half = t.new_empty(n, d, dtype=dtype), t.new_empty(n, dtype=dtype)
        for rows, x_part, half_part in zip(order.split(step), x.split(step), half.split(step), strict=True):
            exact = (t.index_select(0, rows).to(torch.float64) - mean).div_(unit)
            x_part.copy_(exact)
            half_part.copy_(torch.linalg.vector_norm(exact, dim=1).square_().mul_(-0.5))
        return x, half

    # If the user has set a precision below "highest", products in float32 are rounded to bfloat16
    # or TF32.
    if cpu and d >= MANY and torch.get_float32_matmul_precision() == "highest":
        x, half = prepared(torch.float32)
        if _error(half) <= MOST_ERROR:
            sums = _sums(x, half, blocks)
            if _harmless(x, half, sums[0], step):
                return sums
    x, half = prepared(torch.float64)
    return _sums(x, half, blocks, by_differences=_error(half) > DOUBLE_ERROR)


def _few(ids: Tensor | None, n: int) -> bool:
    """Whether there are few classes; the tiles of small classes would be mostly empty."""
    return ids is None or n >= SMALLEST_CLASS * (1 + int(ids.max()))


def _error(half: Tensor) -> float:
    """Estimate what rounding does to the exponents of points within reach of each other."""
    eps = torch.finfo(half.dtype).eps / 2
    return eps * (math.sqrt(-2 * float(half.min())) + REACH) ** 2


def _harmless(x: Tensor, half: Tensor, total: Tensor, step: int) -> bool:
    """Whether the error that float32 made in the exponents is negligible in the sums (2, N).

    This is judged by the size of the exponents. Because the errors of coordinates that all have the
    same sign add up, the sums of some points are also compared with sums in float64.
    """
    if not _error(half) * float((total[0] - 1).clamp(0.0, 1.0).mean()) <= ROUNDING:
        return False
    some = slice(0, None, 1 + len(x) // CHECKED)
    of_some = x[some].to(torch.float64)
    own = of_some.square().sum(1, keepdim=True)
    exact = torch.zeros(2, len(of_some), dtype=torch.float64)
    for part in x.split(step):
        part = part.to(torch.float64)
        square = (own + part.square().sum(1) - 2 * (of_some @ part.T)).clamp_(min=0.0)
        exact[0] += square.mul_(-0.5).exp_().sum(1)
        exact[1] += square.pow_(4).sum(1)
    return bool(((total[:, some] / exact).log().abs() <= 2 * ROUNDING).all())


def _sums(x: Tensor, half: Tensor, blocks: list[Block], *, by_differences: bool = False) -> tuple[Tensor, Tensor]:
    """Sum over all blocks, (2, N) each.

    Args:
        x: The points, (N, D).
        half: -|x|^2 / 2, (N,).
        blocks: The blocks, as `_blocks` gives them.
        by_differences: Whether to subtract the coordinates, in float64, instead of multiplying
            them, which is slow but works for x of any size.
    """
    if COMPILED and x.device.type == "cpu" and not by_differences:
        from .compiled import block_sums

        return block_sums(x, half, blocks)
    one = torch.ones_like(half)
    left, right = torch.column_stack([x, half, one]), torch.column_stack([x, one, half]).T
    right = right if x.dtype == torch.float32 else right.contiguous()
    # same class or other class; wide or narrow kernel; point
    sums = torch.zeros(2, 2, len(left), dtype=torch.float64, device=left.device)
    floors = torch.zeros(2, len(left), dtype=torch.float64, device=left.device)  # the number of kernels in each sum
    largest = max((i1 - i0) * (j1 - j0) for _, i0, i1, j0, j1 in blocks)
    exponents = left.new_empty(0 if left.dtype == torch.float32 else largest)
    kernels = torch.empty(2 * largest, device=left.device)
    for other, i0, i1, j0, j1 in blocks:
        shape = i1 - i0, j1 - j0
        size = shape[0] * shape[1]
        kernel = kernels[: 2 * size].view(2, *shape)
        wide, narrow = kernel
        if by_differences:
            exact = torch.cdist(x[i0:i1], x[j0:j1], compute_mode="donot_use_mm_for_euclid_dist")
            wide.copy_(exact.clamp_(max=1e3).square_().mul_(-0.5))
        elif left.dtype == torch.float32:
            torch.mm(left[i0:i1], right[:, j0:j1], out=wide)
        else:
            wide.copy_(torch.mm(left[i0:i1], right[:, j0:j1], out=exponents[:size].view(shape)))
        wide.clamp_(FLOOR, 0.0).exp_()
        torch.mul(wide, wide, out=narrow)
        torch.mul(narrow, narrow, out=narrow)
        if j0 == i0:
            kernel.diagonal(dim1=1, dim2=2).fill_(1.0)
        # At most 8 chunk float32 numbers are added here, pairwise by torch; whole rows add up in
        # float64.
        sums[other, :, i0:i1] += kernel.sum(2)
        floors[other, i0:i1] += j1 - j0
        beside = max(j0, i1)  # the mirror image of the square on the diagonal is itself
        if beside < j1:
            sums[other, :, beside:j1] += kernel[:, :, beside - j0 :].sum(1)
            floors[other, beside:j1] += i1 - i0
    wide = sums[:, 0]
    wide -= math.exp(FLOOR) * (floors - wide)  # this is nothing where all kernels are 1
    torch.maximum(wide, sums[:, 1], out=wide)  # it is so for each pair, but rounding may make it less
    return sums.sum(0), sums[0]


def _blocks(place: list[float], ends: list[int], chunk: int) -> Iterator[Block]:
    """Yield blocks that hold every pair i <= j within reach.

    Args:
        place: The place of each point on the axis, ascending within a class.
        ends: The end of each class.
        chunk: The number of rows of a block.
    """
    start = 0
    for k, end in enumerate(ends):
        for i0 in range(start, end, chunk):
            i1 = min(i0 + chunk, end)
            low, high = place[i0] - REACH, place[i1 - 1] + REACH
            spans = [(0, i0, bisect.bisect_right(place, high, i1, end))]
            if len(ends) > SEARCHED_CLASSES:
                spans.append((1, end, ends[-1]))
            else:
                for s, e in itertools.pairwise(ends[k:]):
                    s, e = bisect.bisect_left(place, low, s, e), bisect.bisect_right(place, high, s, e)
                    if s == spans[-1][2] and spans[-1][0] == 1:
                        spans[-1] = (1, spans[-1][1], e)  # larger products are faster
                    else:
                        spans.append((1, s, e))
            for other, j_start, j_end in spans:
                for j0 in range(j_start, j_end, 8 * chunk):
                    yield other, i0, i1, j0, min(j0 + 8 * chunk, j_end)
        start = end


def _longest_axis(some: Tensor) -> Tensor:
    """Approximate the first principal axis of points (n, D) by the power method.

    Any unit vector would give the right sums; this one makes them fast.
    """
    axis = torch.zeros_like(some[0])
    axis[(some.amax(0) - some.amin(0)).argmax()] = 1.0
    for _ in range(4):
        axis = some.T @ (some @ axis)
        axis = axis / axis.norm().clamp_min(1e-300)
    return axis
