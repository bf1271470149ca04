"""Activations of b bits, so that the information in a layer can be counted.

Where every activation is one of 2^b numbers, a layer T of a network takes finitely many values, and
I(X;T) = H(T) can be counted (Lorenzen, Igel & Nielsen, "Information bottleneck: exact analysis of
(quantized) neural networks", ICLR 2022, arXiv 2106.12912).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError, choose
from .activations import ACTIVATIONS

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Quantise"]

#: The ends of a range that are known beforehand; the other ends follow the layer's values. The 0 of
#: a ReLU is a level.
_ENDS: dict[str, tuple[float | None, float | None]] = {
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "relu": (0.0, None),
}

#: The weight of a batch in the running range, as in torch.ao's MovingAverageMinMaxObserver.
_WEIGHT = 0.01


class Quantise(nn.Module):
    """Rounding of activations to 2^b levels, evenly spaced over a range.

        low + q (high - low) / (2^b - 1),    q the nearest of 0, ..., 2^b - 1

    Values outside [low, high] are cut to it, so there are at most 2^b different floating-point
    numbers per replica. The gradient passes straight through inside the range and is 0 outside, so
    training sees the codes that are measured.

    All units of a layer share one range per replica. It is [-1, 1] behind tanh, softsign and
    hardtanh, and starts at 0 behind a ReLU, so that 0 stays exactly 0. The other ends are running
    means, over training batches, of the smallest and the largest number in a batch; the first batch
    sets them. In eval mode the range is the one that training left. A range of the present batch
    would make the code of an input depend on the other inputs.

    Args:
        bits: b, from 2 to 16.
        activation: The name in `ACTIVATIONS` of the function whose values come in; "linear" for
            logits.
        replicas: R. With more than one, inputs are (R, ...).

    Raises:
        InfoplaneError: `bits` or `activation` is not one of those.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> ip.nn.Quantise(2, "tanh")(torch.tensor([-1.0, -0.4, 0.5, 3.0])).mul(3).round()
        tensor([-3., -1.,  1.,  3.])

    References:
        Bengio, Leonard & Courville, "Estimating or propagating gradients through stochastic
        neurons for conditional computation", 2013 (the gradient).
        Jacob et al., "Quantization and training of neural networks for efficient
        integer-arithmetic-only inference", CVPR 2018, section 3.1 (the ranges).
    """

    def __init__(self, bits: int, activation: str = "linear", replicas: int = 1) -> None:
        super().__init__()
        if bits not in range(2, 17):
            raise InfoplaneError(f"Quantise: bits={bits}; expected 2 to 16.")
        self.bits, self.replicas = bits, replicas
        self._fixed = _ENDS.get(choose(activation, ACTIVATIONS, "activation"), (None, None))
        low, high = self._fixed
        self.low: Tensor
        self.high: Tensor
        # an empty range: none has been seen
        self.register_buffer("low", torch.full((replicas,), math.inf if low is None else low))
        self.register_buffer("high", torch.full((replicas,), -math.inf if high is None else high))

    def forward(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Round activations to the levels of the range.

        Args:
            t: (R, ...), or of any shape for one replica.

        Returns:
            The levels, in the shape and type of t.

        Raises:
            InfoplaneError: t lacks the replica axis, or no range is known in eval mode.
        """
        if self.replicas > 1 and len(t) != self.replicas:
            raise InfoplaneError(
                f"Quantise got {tuple(t.shape)}; expected ({self.replicas}, ...), one slice per replica."
            )
        if self.training and None in self._fixed:
            self._follow(t.detach())
        elif not self.training and bool((self.low > self.high).any()):
            raise InfoplaneError(
                "Quantise has no range yet, because the model never ran in training mode; run it once on inputs of "
                "the training set before it is measured: model.train(); model(x)."
            )
        with torch.no_grad():
            low, high = (end.view(-1, *[1] * (t.dim() - 1)) for end in (self.low, self.high))
            step = (high - low) / (2**self.bits - 1)
            step = torch.where(step == 0.0, 1.0, step)  # a constant layer has one level, low
            inside = t.clamp(low, high)
            codes = (inside - low).div_(step).round_().clamp_(max=2**self.bits - 1)
            levels = torch.minimum(codes.mul_(step).add_(low), high).to(t.dtype)
            passes = inside == t
        # t + (levels - t).detach() would miss the level by its last bit; this adds exactly 0
        return levels + (t - t.detach()) * passes

    @torch.no_grad()
    def _follow(self, t: Tensor) -> None:
        """Let the ends that are not fixed follow a batch.

        Products and sums are kept apart. A fused multiply-add rounds the last entries of a tensor
        differently, and a replica would then depend on its neighbours.
        """
        rows = t.reshape(self.replicas, -1)
        first = self.low > self.high
        seen = (rows.amin(1), rows.amax(1))
        for end, fixed, batch in zip((self.low, self.high), self._fixed, seen, strict=True):
            if fixed is None:
                end.copy_(torch.where(first, batch, end + _WEIGHT * (batch - end)))

    def extra_repr(self) -> str:
        return f"bits={self.bits}" + (f", replicas={self.replicas}" if self.replicas > 1 else "")
