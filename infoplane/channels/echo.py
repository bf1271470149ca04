"""Echo noise: a noisy channel whose rate I(Z;X) is known exactly for arbitrary inputs.

    z = f(x) + S(x) e,    e = f(x0) + S(x0) [ f(x1) + S(x1) [ f(x2) + ... ] ],    x, x0, x1, ... iid

The noise e and the output Z have the same law, so I(Z;X) = -E log |det S(x)| (Brekelmans, Moyer, Galstyan, Ver Steeg,
"Exact Rate-Distortion in Autoencoders via Echo Noise", 2019, theorem 1). All information in nats.

S is given either as its diagonal (..., B, K) or as a matrix for each row (..., B, K, K).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from ..errors import InfoplaneError

__all__ = ["EchoSample", "apply_scale", "compose_scale", "echo", "echo_noise", "moment_step", "stationary_moments"]

_COMPILED_TYPES = (torch.float32, torch.float64)
#: False: sums on the CPU are built by doubling too, as on a GPU. Set by the tests, which hold both against direct sums.
_USE_LOOPS = True


def apply_scale(s: Tensor, v: Tensor) -> Tensor:
    """S v for each row: s is (..., B, K), a diagonal, or (..., B, K, K); v is (..., B, K)."""
    if s.dim() == v.dim():
        return s * v
    return (s @ v.unsqueeze(-1)).squeeze(-1)


def compose_scale(log_s: Tensor, left: Tensor | None = None, right: Tensor | None = None) -> Tensor:
    """S = left diag(exp log_s) right', as its diagonal (..., B, K) where no factor is given, else (..., B, K, K)."""
    s = log_s.exp()
    if left is None and right is None:
        return s
    s = torch.diag_embed(s) if left is None else left * s.unsqueeze(-2)
    return s if right is None else s @ right.transpose(-1, -2)


class _Doubling(torch.autograd.Function):
    """b_i = f_i + s_i [f_{i+1} + s_{i+1} [...]], M terms, and the product a_i of their scales, cyclically in i.

    A sum of 2m terms is one of m terms plus a_i times the one m places on. Written out with its gradient because the
    graph of thirty small operations costs several times what they do.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, s: Tensor, echoes: int) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []
        b, a, shift = f, s, 1
        # Products below this are 0: they end as denormal numbers, which take ten times as long to work with.
        least = torch.finfo(s.dtype).tiny ** 0.5
        while shift < echoes:
            b_on, a_on = b.roll(-shift, -2), a.roll(-shift, -2)
            kept += [a, b_on, a_on]
            b, a = torch.addcmul(b, a, b_on), hardshrink(a * a_on, least)
            shift *= 2
        ctx.save_for_backward(*kept)
        return (b, a) if kept else (b.clone(), a.clone())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_b: Tensor, grad_a: Tensor) -> tuple[Tensor, Tensor, None]:
        kept = ctx.saved_tensors
        for level in range(len(kept) // 3 - 1, -1, -1):
            a, b_on, a_on = kept[3 * level : 3 * level + 3]
            shift = 1 << level
            back_a = (grad_a * a).roll(shift, -2)
            grad_a = torch.addcmul(back_a, grad_a, a_on).addcmul_(grad_b, b_on)
            grad_b = grad_b + (grad_b * a).roll(shift, -2)
        return grad_b, grad_a, None


def echo_noise(f: Tensor, s: Tensor, *, echoes: int, end: Tensor | None = None, order: Tensor | None = None) -> Tensor:
    """The noise of every row, from `echoes` other rows of the same batch, without replacement, itself excluded.

    Row i of the batch hears the rows that follow it in `order` (cyclically): e_i = f_1 + S_1 [f_2 + S_2 [... end]].
    For a diagonal S on a CPU, compiled loops build all B sums in O(B K); on a GPU, and for matrices, they are built
    together by doubling, in O(B K log M) time and O(B K) memory per doubling.

    f: (..., B, K); s: (..., B, K) or (..., B, K, K), norms below 1.
    echoes: M, a power of two, at most B - 1 (at M = B a row would hear itself).
    end: (..., B, K), what the innermost bracket holds: a draw of the stationary law of e, or as much of it as is known.
        None ends the sum at 0, which is biased unless E f = 0 (see `stationary_moments`).
    order: (..., B), a permutation of the rows; None: as they stand, for rows that already come in random order.
    """
    diagonal = s.dim() == f.dim()
    if f.dim() < 2 or (not diagonal and s.dim() != f.dim() + 1) or s.shape[: f.dim()] != f.shape:
        raise InfoplaneError(
            f"echo_noise: f is {tuple(f.shape)} and s {tuple(s.shape)}; expected f (..., B, K) and s (..., B, K) "
            "or (..., B, K, K)."
        )
    rows = f.shape[-2]
    if echoes < 1 or echoes & (echoes - 1):
        raise InfoplaneError(f"echo_noise: echoes={echoes}; expected a power of two (1, 2, 4, ..., 64, ...).")
    if rows < echoes + 1:
        raise InfoplaneError(
            f"echo_noise: a batch of {rows} rows cannot give each {echoes} echoes, which takes at least {echoes + 1}: "
            f"use a larger batch or fewer echoes."
        )
    plain = type(f) is type(s) is Tensor and f.dtype == s.dtype in _COMPILED_TYPES  # and no stand-in, of an export
    if _USE_LOOPS and diagonal and plain and f.device.type == "cpu" and f.numel():
        noise, tail = _in_loops(f, s, order, echoes)
        return noise if end is None else noise + tail * end
    b, a = f, s
    axis = -2 if diagonal else -3
    if order is not None:
        b, a = _rows(b, order), _rows(a, order)
    if diagonal:
        b, a = _Doubling.apply(b, a, echoes)
    else:
        shift = 1
        while shift < echoes:
            b = b + apply_scale(a, b.roll(-shift, -2))
            a = a @ a.roll(-shift, axis)
            shift *= 2
    noise = b.roll(-1, -2)
    tail = a.roll(-1, axis)
    if order is not None:
        back = order.argsort(-1)
        noise, tail = _rows(noise, back), _rows(tail, back)
    return noise if end is None else noise + apply_scale(tail, end)


def _in_loops(f: Tensor, s: Tensor, order: Tensor | None, echoes: int) -> tuple[Tensor, Tensor]:
    """The noise and what its tail is to be multiplied with, by loops that numba compiles."""
    from .compiled import EchoSums

    rows, units = f.shape[-2:]
    if order is None:
        order = torch.arange(rows).expand(f.shape[:-1])
    elif order.shape != f.shape[:-1] or not torch.equal(order.sort(-1)[0], torch.arange(rows).expand(order.shape)):
        raise InfoplaneError(
            f"echo_noise: order is {tuple(order.shape)}; expected permutations of {rows} rows, {tuple(f.shape[:-1])}."
        )
    flat = f.reshape(-1, rows, units), s.reshape(-1, rows, units)
    noise, tail = EchoSums.apply(*flat, order.reshape(-1, rows), echoes)
    return noise.view(f.shape), tail.view(f.shape)


def _rows(t: Tensor, order: Tensor) -> Tensor:
    """The rows of t, (..., B, ...), in the order (..., B). (take_along_dim takes ten times as long.)"""
    rows = order.shape[-1]
    first = torch.arange(0, order.numel(), rows, device=order.device)
    at = (order.reshape(-1, rows) + first[:, None]).flatten()
    return t.flatten(0, order.dim() - 1).index_select(0, at).view(t.shape)


class EchoSample(NamedTuple):
    """z: (..., B, K), the noisy code. rate: (..., B), -log |det S| of each row, nats; the rate is its mean."""

    z: Tensor
    rate: Tensor


def echo(
    f: Tensor,
    log_s: Tensor,
    *,
    echoes: int = 64,
    end: Tensor | None = None,
    order: Tensor | None = None,
    left: Tensor | None = None,
    right: Tensor | None = None,
) -> EchoSample:
    """One draw of the Echo channel for every row of a batch, and its rate, from the very tensor that was sampled with.

    f, log_s: (..., B, K), log_s < 0. left, right: orthogonal, (K, K) or (..., B, K, K): S = left diag(s) right'.
    echoes, end, order: see `echo_noise`. Gradients flow through the echoes: cut off, |f| runs away.
    """
    s = compose_scale(log_s, left, right)
    noise = echo_noise(f, s, echoes=echoes, end=end, order=order)
    return EchoSample(f + apply_scale(s, noise), -log_s.sum(-1))


def moment_step(f: Tensor, s: Tensor, mean: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and second moment of f(x) + S(x) w for x in the batch and w independent with moments (mean, second).

    f: (..., B, K); mean: (..., K); second: (..., K, K). The stationary moments of e, and of Z, are the fixed point.
    """
    rows = f.shape[-2]
    shifted = apply_scale(s, mean.unsqueeze(-2).expand_as(f))
    cross = f.transpose(-1, -2) @ shifted / rows
    new = f.transpose(-1, -2) @ f / rows + cross + cross.transpose(-1, -2)
    if s.dim() == f.dim():
        new = new + (s.transpose(-1, -2) @ s / rows) * second
    else:
        new = new + (s @ second.unsqueeze(-3) @ s.transpose(-1, -2)).mean(-3)
    return (f + shifted).sum(-2) / rows, new


def stationary_moments(f: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (..., K) and second moment (..., K, K) of the stationary e, and of Z, when x is uniform on the rows.

    mu = (I - E S)^-1 E f and M2 = E[ff'] + E[f mu' S'] + E[S mu f'] + E[S M2 S'] (float64 inside). For a diagonal S
    both are solved entry by entry; for matrices M2 is the limit of repeated steps.
    Raises InfoplaneError where there is no such law: E s_i^2 < 1 is needed, or for matrices that M -> E[S M S']
    shrinks.
    """
    f, s = f.double(), s.double()
    found = _diagonal_moments(f, s) if s.dim() == f.dim() else _matrix_moments(f, s)
    if found is None:
        raise InfoplaneError("stationary_moments: no stationary law; expected the norms of S(x) to stay below 1.")
    return found


def _diagonal_moments(f: Tensor, s: Tensor) -> tuple[Tensor, Tensor] | None:
    """The stationary moments for a diagonal S, entry by entry; None where there are none."""
    products = s.transpose(-1, -2) @ s / f.shape[-2]
    if not bool((products.diagonal(dim1=-2, dim2=-1) < 1.0).all()):
        return None
    mean = f.mean(-2) / (1.0 - s.mean(-2))
    _, fixed = moment_step(f, s, mean, torch.zeros_like(products))
    return mean, fixed / (1.0 - products)


def _matrix_moments(f: Tensor, s: Tensor) -> tuple[Tensor, Tensor] | None:
    """The stationary moments for matrices, by repeated steps; None where these have no limit."""
    mean_s = s.mean(-3)
    eye = torch.eye(f.shape[-1], dtype=f.dtype, device=f.device)
    mean = torch.linalg.solve(eye - mean_s, f.mean(-2))
    second, last = torch.zeros_like(mean_s), math.inf
    for step in range(200_000):
        _, new = moment_step(f, s, mean, second)
        moved, size = float((new - second).abs().amax()), float(new.abs().amax())
        if math.isfinite(size) and moved <= 1e-13 * size:
            return mean, new
        # the step shrinks geometrically where there is a limit: looked at now and then, for it may grow at first
        if not math.isfinite(size) or (step % 1000 == 999 and moved >= last):
            return None
        if step % 1000 == 0:
            last = moved
        second = new
    return None
