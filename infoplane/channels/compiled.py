"""Echo sums for CPUs, as loops that numba compiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

__all__ = ["EchoSums"]

#: The largest and the smallest number of coordinates that are worked on at a time. A number is used
#: only if it divides the number of coordinates.
WIDEST, NARROWEST = 64, 16

#: The compiler may reorder sums and fuse products with them. Infinities and NaN are kept.
_FAST = {"contract", "reassoc", "nsz"}


class EchoSums(torch.autograd.Function):
    """The sums b_i = f_1 + s_1 [f_2 + s_2 [...]] of M terms, and the products a_i of their scales.

    The terms of row i are the M rows that follow it in `order`, cyclically. A row is a map
    e -> f + s e, and a sum is the product of M such maps. The rows are cut into blocks of M. A
    window of M rows starts with the end of one block and ends with the beginning of the next, so
    the products of the rows from each one to the end of its block, and from the beginning of the
    block to it, are enough: three products per row, whatever M is. They are computed again for the
    gradient.

    `apply` takes f and s, (R, B, K) on the CPU in float32 or float64, order, (R, B), and M. It
    returns b and a, (R, B, K) each.

    References:
        van Herk, "A fast algorithm for local minimum and maximum filters on rectangular and
        octagonal kernels", Pattern Recognition Letters 13, 1992.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, s: Tensor, order: Tensor, echoes: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(f.clone(), s, order)  # the next layer may work in place on f
        ctx.echoes = echoes
        b, a = torch.empty(f.shape, dtype=f.dtype), torch.empty(f.shape, dtype=f.dtype)
        _run(_forward, order, echoes, (f, s), (b, a))
        return b, a

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_b: Tensor, grad_a: Tensor) -> tuple[Tensor, Tensor, None, None]:
        f, s, order = ctx.saved_tensors
        grad_f, grad_s = torch.zeros(f.shape, dtype=f.dtype), torch.zeros(f.shape, dtype=f.dtype)
        _run(_backward, order, ctx.echoes, (f, s), (grad_b, grad_a, grad_f, grad_s))
        return grad_f, grad_s, None, None


def _run(loops: Any, order: Tensor, echoes: int, rows: tuple[Tensor, ...], more: tuple[Tensor, ...]) -> None:
    """Run compiled loops on the memory of the tensors."""
    given, others = _arrays(rows), _arrays(more)
    places = order.contiguous().numpy()
    along = np.concatenate([places[:, 1:], places[:, :echoes]], 1)  # the rows of all windows
    # smaller products of scales become 0: denormal numbers take ten times as long to work with
    least = np.sqrt(np.finfo(given[0].dtype).tiny)
    loops(*given, places, along, echoes, least, *others)


def _arrays(tensors: tuple[Tensor, ...]) -> list[npt.NDArray[Any]]:
    """View (R, B, K) as (R, B, K / w, w): w coordinates of all rows of a batch fit the cache."""
    units = tensors[0].shape[-1]
    width = next((w for w in range(WIDEST, NARROWEST, -1) if units % w == 0), units)
    return [t.detach().contiguous().numpy().reshape(*t.shape[:2], -1, width) for t in tensors]


@njit(inline="always")
def _held(product, least):
    """Set a product to 0 if it is below the least one."""
    return product if abs(product) > least else product * 0


@njit(inline="always")
def _products(f, s, r, k, along, m, least, end_b, end_a, begin_b, begin_a):
    """Fill in the products of the rows of each block of m rows, (L, w) each.

    The products at a place are of the rows from there to the end of its block, and from the
    beginning of the block to there.
    """
    last, width = len(along) - 1, f.shape[3]
    for j in range(last, -1, -1):
        row = along[j]
        if j == last or j % m == m - 1:
            for c in range(width):
                end_b[j, c], end_a[j, c] = f[r, row, k, c], s[r, row, k, c]
        else:
            for c in range(width):
                own = s[r, row, k, c]
                end_b[j, c] = f[r, row, k, c] + own * end_b[j + 1, c]
                end_a[j, c] = _held(own * end_a[j + 1, c], least)
    for j in range(last + 1):
        row = along[j]
        if j % m == 0:
            for c in range(width):
                begin_b[j, c], begin_a[j, c] = f[r, row, k, c], s[r, row, k, c]
        else:
            for c in range(width):
                before = begin_a[j - 1, c]
                begin_b[j, c] = begin_b[j - 1, c] + before * f[r, row, k, c]
                begin_a[j, c] = _held(before * s[r, row, k, c], least)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _forward(f, s, order, along, m, least, b, a):
    """Fill in the sums b and the products a."""
    replicas, rows, parts, width = f.shape
    held = np.empty((4, along.shape[1], width), f.dtype)
    end_b, end_a, begin_b, begin_a = held[0], held[1], held[2], held[3]
    for part in range(replicas * parts):
        r, k = part // parts, part % parts
        _products(f, s, r, k, along[r], m, least, end_b, end_a, begin_b, begin_a)
        for i in range(rows):
            row = order[r, i]
            if i % m == 0:
                for c in range(width):
                    b[r, row, k, c], a[r, row, k, c] = end_b[i, c], end_a[i, c]
            else:
                e = i + m - 1
                for c in range(width):
                    b[r, row, k, c] = end_b[i, c] + end_a[i, c] * begin_b[e, c]
                    a[r, row, k, c] = _held(end_a[i, c] * begin_a[e, c], least)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _backward(f, s, order, along, m, least, grad_b, grad_a, grad_f, grad_s):
    """Add the gradients of f and s."""
    replicas, rows, parts, width = f.shape
    places = along.shape[1]
    held = np.empty((4, places, width), f.dtype)
    end_b, end_a, begin_b, begin_a = held[0], held[1], held[2], held[3]
    grads = np.empty_like(held)
    to_end_b, to_end_a, to_begin_b, to_begin_a = grads[0], grads[1], grads[2], grads[3]
    for part in range(replicas * parts):
        r, k = part // parts, part % parts
        _products(f, s, r, k, along[r], m, least, end_b, end_a, begin_b, begin_a)
        grads[:] = 0
        for i in range(rows):
            row = order[r, i]
            if i % m == 0:
                for c in range(width):
                    to_end_b[i, c] = grad_b[r, row, k, c]
                    to_end_a[i, c] = grad_a[r, row, k, c]
            else:
                e = i + m - 1
                for c in range(width):
                    of_b, of_a, end = grad_b[r, row, k, c], grad_a[r, row, k, c], end_a[i, c]
                    to_end_b[i, c] = of_b
                    to_end_a[i, c] = of_b * begin_b[e, c] + of_a * begin_a[e, c]
                    to_begin_b[e, c] = of_b * end
                    to_begin_a[e, c] = of_a * end
        for j in range(places):
            row = along[r, j]
            if j == places - 1 or j % m == m - 1:
                for c in range(width):
                    grad_f[r, row, k, c] += to_end_b[j, c]
                    grad_s[r, row, k, c] += to_end_a[j, c]
            else:
                for c in range(width):
                    own, of_b, of_a = s[r, row, k, c], to_end_b[j, c], to_end_a[j, c]
                    grad_f[r, row, k, c] += of_b
                    grad_s[r, row, k, c] += of_b * end_b[j + 1, c] + of_a * end_a[j + 1, c]
                    to_end_b[j + 1, c] += of_b * own
                    to_end_a[j + 1, c] += of_a * own
        for j in range(places - 1, -1, -1):
            row = along[r, j]
            if j % m == 0:
                for c in range(width):
                    grad_f[r, row, k, c] += to_begin_b[j, c]
                    grad_s[r, row, k, c] += to_begin_a[j, c]
            else:
                for c in range(width):
                    before, of_b, of_a = begin_a[j - 1, c], to_begin_b[j, c], to_begin_a[j, c]
                    grad_f[r, row, k, c] += of_b * before
                    grad_s[r, row, k, c] += of_a * before
                    to_begin_a[j - 1, c] += of_b * f[r, row, k, c] + of_a * s[r, row, k, c]
                    to_begin_b[j - 1, c] += of_b
