"""Echo noise: a noisy channel with a known rate, for inputs of any law.

    z = f(x) + S(x) e,    e = f(x0) + S(x0) [ f(x1) + S(x1) [ f(x2) + ... ] ],    x, x0, x1, ... iid

The noise e and the output Z have the same law. Where that law has a density of finite entropy, the
information is I(Z;X) = -E log |det S(x)|, the rate; otherwise the rate is an upper bound. All
information is in nats. For what the package reports as exact, see `Echo`.

S is given either as its diagonal, (..., B, K), or as one matrix per row, (..., B, K, K).

References:
    Brekelmans, Moyer, Galstyan & Ver Steeg, "Exact Rate-Distortion in Autoencoders via Echo Noise",
    2019, theorem 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from ..errors import InfoplaneError

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int

__all__ = ["EchoSample", "apply_scale", "compose_scale", "echo", "echo_noise", "moment_step", "stationary_moments"]

_COMPILED_TYPES = (torch.float32, torch.float64)
#: Whether compiled loops build the sums on a CPU. The tests switch them off, to hold the doubling
#: that runs on a GPU against direct sums too.
_USE_LOOPS = True


def apply_scale(s: Float[Tensor, "... K"], v: Float[Tensor, "*batch B K"]) -> Float[Tensor, "*batch B K"]:
    """Multiply a vector by S, row by row.

    Args:
        s: S, (..., B, K) for a diagonal, or (..., B, K, K).
        v: (..., B, K).

    Returns:
        S v, (..., B, K).

    Example:
        >>> apply_scale(torch.tensor([[0.5, 0.1]]), torch.tensor([[2.0, 3.0]]))
        tensor([[1.0000, 0.3000]])
    """
    if s.dim() == v.dim():
        return s * v
    return (s @ v.unsqueeze(-1)).squeeze(-1)


def compose_scale(
    log_s: Float[Tensor, "*batch B K"],
    left: Float[Tensor, "... K K"] | None = None,
    right: Float[Tensor, "... K K"] | None = None,
) -> Float[Tensor, "*batch B K"] | Float[Tensor, "*batch B K K"]:
    """Compose S = left diag(s) right'.

    Args:
        log_s: The logarithm of s, (..., B, K).
        left: An orthogonal matrix, (K, K) or (..., B, K, K); None for the identity.
        right: The same.

    Returns:
        The diagonal of S, (..., B, K), if neither factor is given; otherwise S, (..., B, K, K).

    Example:
        >>> compose_scale(torch.zeros(1, 2), left=torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([[[0., 1.],
                 [1., 0.]]])
    """
    s = log_s.exp()
    if left is None and right is None:
        return s
    s = torch.diag_embed(s) if left is None else left * s.unsqueeze(-2)
    return s if right is None else s @ right.transpose(-1, -2)


class _Doubling(torch.autograd.Function):
    """The sums b_i = f_i + s_i [f_{i+1} + s_{i+1} [...]] of M terms, built by doubling.

    The index i is cyclic, and a_i is the product of the M scales. A sum of 2m terms is a sum of m
    terms plus a_i times the sum that starts m places later. The gradient is written by hand,
    because the autograd graph of thirty small operations costs several times what they do.
    """

    @staticmethod
    def forward(ctx: Any, f: Tensor, s: Tensor, echoes: int) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []
        b, a, shift = f, s, 1
        # Smaller products become 0: denormal numbers take ten times as long to work with.
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


def echo_noise(
    f: Float[Tensor, "*batch B K"],
    s: Float[Tensor, "*batch B K"] | Float[Tensor, "*batch B K K"],
    *,
    echoes: int,
    end: Float[Tensor, "... K"] | None = None,
    order: Int[Tensor, "*batch B"] | None = None,
) -> Float[Tensor, "*batch B K"]:
    """Sum the echo noise of every row, from M other rows of the same batch.

    Row i hears the M rows that follow it in `order`, cyclically, and so never itself:

        e_i = f_1 + S_1 [ f_2 + S_2 [ ... f_M + S_M end ] ]

    If the rows are iid and in random order, each row alone has exactly the law of the M-term sum;
    only different rows are dependent. For a diagonal S on a CPU, compiled loops build all B sums in
    O(B K). On a GPU, and for matrices, doubling builds them in O(B K log M) time and O(B K) memory
    per doubling.

    Args:
        f: The codes, (..., B, K).
        s: S, (..., B, K) for a diagonal, or (..., B, K, K); its norm must be below 1.
        echoes: M, a power of two and at most B - 1. (With M = B a row would hear itself.)
        end: The content of the innermost bracket, (..., B, K): a draw from the stationary law of e,
            or an approximation of it. None ends the sum at 0, which biases the information unless
            E f = 0.
        order: A permutation of the rows, (..., B). None takes the rows as they are, which is right
            if they already come in random order.

    Returns:
        e, (..., B, K).

    Raises:
        InfoplaneError: The shapes do not fit, M is not a power of two, the batch is too small, or
            `order` is not a permutation.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> f = torch.tensor([[1.0], [2.0], [4.0]])
        >>> ip.channels.echo_noise(f, torch.full((3, 1), 0.5), echoes=2).T  # e_0 = 2 + 0.5 * 4
        tensor([[4.0000, 4.5000, 2.0000]])
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
            f"echo_noise: a batch of {rows} rows is too small for {echoes} echoes; expected at least {echoes + 1} "
            "rows. Use a larger batch or fewer echoes."
        )
    # type(...) is Tensor excludes the stand-ins that an export traces with
    plain = type(f) is type(s) is Tensor and f.dtype == s.dtype in _COMPILED_TYPES
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
    """Sum the noise, and the product of scales in front of its end, in loops compiled by numba."""
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
    """Put the rows of t, (..., B, ...), in an order, (..., B); take_along_dim is much slower."""
    rows = order.shape[-1]
    first = torch.arange(0, order.numel(), rows, device=order.device)
    at = (order.reshape(-1, rows) + first[:, None]).flatten()
    return t.flatten(0, order.dim() - 1).index_select(0, at).view(t.shape)


class EchoSample(NamedTuple):
    """A draw of the Echo channel.

    Args:
        z: The noisy code, (..., B, K).
        rate: -log |det S| of each row, (..., B), in nats. Its mean is the rate of the channel.
    """

    z: Float[Tensor, "*batch B K"]
    rate: Float[Tensor, "*batch B"]


def echo(
    f: Float[Tensor, "*batch B K"],
    log_s: Float[Tensor, "*batch B K"],
    *,
    echoes: int = 64,
    end: Float[Tensor, "... K"] | None = None,
    order: Int[Tensor, "*batch B"] | None = None,
    left: Float[Tensor, "... K K"] | None = None,
    right: Float[Tensor, "... K K"] | None = None,
) -> EchoSample:
    """Draw z = f + S e for every row of a batch, with its rate.

    The rate is computed from the tensor that was sampled with, so the two cannot disagree.
    Gradients flow through the echoes. Without them |f| would run away in training.

    Args:
        f: The codes, (..., B, K).
        log_s: The logarithm of the scales, (..., B, K), below 0.
        echoes: M, the number of terms; see `echo_noise`.
        end: The content of the innermost bracket; see `echo_noise`.
        order: A permutation of the rows; see `echo_noise`.
        left: An orthogonal matrix, (K, K) or (..., B, K, K), in S = left diag(s) right'.
        right: The same.

    Returns:
        The noisy codes, and the rate of each row in nats.

    Raises:
        InfoplaneError: As for `echo_noise`.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> f = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> z, rate = ip.channels.echo(f, torch.full((100, 3), -0.5), echoes=32)
        >>> z.shape, float(rate.mean())
        (torch.Size([100, 3]), 1.5)
    """
    s = compose_scale(log_s, left, right)
    noise = echo_noise(f, s, echoes=echoes, end=end, order=order)
    return EchoSample(f + apply_scale(s, noise), -log_s.sum(-1))


def moment_step(
    f: Float[Tensor, "*batch B K"],
    s: Float[Tensor, "*batch B K"] | Float[Tensor, "*batch B K K"],
    mean: Float[Tensor, "*batch K"],
    second: Float[Tensor, "*batch K K"],
) -> tuple[Float[Tensor, "*batch K"], Float[Tensor, "*batch K K"]]:
    """Compute the moments of f(x) + S(x) w, for w independent of x.

    The stationary moments of e, which Z has too, are the fixed point of this step.

    Args:
        f: The codes, (..., B, K). x is uniform on the rows.
        s: S, (..., B, K) for a diagonal, or (..., B, K, K).
        mean: The mean of w, (..., K).
        second: The second moment of w, (..., K, K).

    Returns:
        The mean, (..., K), and the second moment, (..., K, K).

    Example:
        >>> f, s = torch.tensor([[1.0], [3.0]]), torch.full((2, 1), 0.5)
        >>> mean, second = moment_step(f, s, torch.tensor([4.0]), torch.tensor([[20.0]]))
        >>> float(mean), float(second)
        (4.0, 18.0)
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


def stationary_moments(
    f: Float[Tensor, "*batch B K"], s: Float[Tensor, "*batch B K"] | Float[Tensor, "*batch B K K"]
) -> tuple[Float64[Tensor, "*batch K"], Float64[Tensor, "*batch K K"]]:
    """Compute the moments of the echo noise e, which Z has too.

        mu = (I - E S)^-1 E f
        M2 = E[f f'] + E[f mu' S'] + E[S mu f'] + E[S M2 S']

    For a diagonal S both are solved entry by entry. For matrices, M2 is the limit of repeated
    steps.

    Args:
        f: The codes, (..., B, K). x is uniform on the rows.
        s: S, (..., B, K) for a diagonal, or (..., B, K, K).

    Returns:
        The mean mu, (..., K), and the second moment M2, (..., K, K), in float64.

    Raises:
        InfoplaneError: There is no stationary law with a second moment. For a diagonal S that
            takes E s_i^2 < 1, and for matrices a map M -> E[S M S'] that contracts.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> f, s = torch.tensor([[-1.0], [1.0]]), torch.full((2, 1), 0.5)
        >>> mean, second = ip.channels.stationary_moments(f, s)  # second = 1 / (1 - 0.5^2)
        >>> round(float(mean), 4), round(float(second), 4)
        (0.0, 1.3333)
    """
    f, s = f.double(), s.double()
    found = _diagonal_moments(f, s) if s.dim() == f.dim() else _matrix_moments(f, s)
    if found is None:
        raise InfoplaneError("stationary_moments: no stationary law; expected the norms of S(x) to stay below 1.")
    return found


def _diagonal_moments(f: Tensor, s: Tensor) -> tuple[Tensor, Tensor] | None:
    """Solve for the stationary moments of a diagonal S; None if there are none."""
    products = s.transpose(-1, -2) @ s / f.shape[-2]
    if not bool((products.diagonal(dim1=-2, dim2=-1) < 1.0).all()):
        return None
    mean = f.mean(-2) / (1.0 - s.mean(-2))
    _, fixed = moment_step(f, s, mean, torch.zeros_like(products))
    return mean, fixed / (1.0 - products)


def _matrix_moments(f: Tensor, s: Tensor) -> tuple[Tensor, Tensor] | None:
    """Repeat the step for matrices until the moments stand still; None if they have no limit."""
    mean_s = s.mean(-3)
    eye = torch.eye(f.shape[-1], dtype=f.dtype, device=f.device)
    mean = torch.linalg.solve(eye - mean_s, f.mean(-2))
    second, last = torch.zeros_like(mean_s), math.inf
    for step in range(200_000):
        _, new = moment_step(f, s, mean, second)
        moved, size = float((new - second).abs().amax()), float(new.abs().amax())
        if math.isfinite(size) and moved <= 1e-13 * size:
            return mean, new
        # A step shrinks geometrically if there is a limit, but may grow at first: look rarely.
        if not math.isfinite(size) or (step % 1000 == 999 and moved >= last):
            return None
        if step % 1000 == 0:
            last = moved
        second = new
    return None
