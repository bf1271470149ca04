"""Activations of b bits, so that the information in a layer can be counted.

Lorenzen, Igel & Nielsen 2022, "Information bottleneck: exact analysis of (quantized) neural networks", ICLR,
https://arxiv.org/abs/2106.12912: where every activation is one of 2^b numbers, a layer T of a network takes finitely
many values, and I(X;T) = H(T) is a count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError, choose
from .activations import ACTIVATIONS

__all__ = ["Quantise"]

#: The ends of a range that are known beforehand; the others follow what the layer gives. The 0 of a ReLU is a level.
_ENDS: dict[str, tuple[float | None, float | None]] = {
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "relu": (0.0, None),
}

#: What a batch counts in the running range: that of torch.ao's MovingAverageMinMaxObserver.
_WEIGHT = 0.01


class Quantise(nn.Module):
    """low + q (high - low) / (2^b - 1), q the nearest of 0, ..., 2^b - 1; what is outside of [low, high] is cut to it.

    Its values are at most 2^b different floating-point numbers a replica. The gradient passes straight through inside
    the range and is 0 outside (Bengio et al. 2013, Jacob et al. 2018): training sees the codes that are measured.

    A range is one of all units of a layer, for each replica. It is [-1, 1] behind tanh, softsign and hardtanh, and
    starts at 0 behind a ReLU, so that 0 stays exactly 0. Its other ends are running means, over training batches, of
    the least and the greatest number in a batch (Jacob et al. 2018, section 3.1), the first batch counting in full. In
    eval mode the range is that which training left; without one there is an InfoplaneError, for a range of the batch at
    hand would make the codes of an input depend on the inputs beside it.

    bits: b, 2 to 16. activation: a name in `ACTIVATIONS` whose values come in; "linear" for logits.
    replicas: R; inputs are then (R, ...).
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

    def forward(self, t: Tensor) -> Tensor:
        if self.replicas > 1 and len(t) != self.replicas:
            raise InfoplaneError(
                f"Quantise got {tuple(t.shape)}; expected ({self.replicas}, ...), one slice a replica."
            )
        if self.training and None in self._fixed:
            self._follow(t.detach())
        elif not self.training and bool((self.low > self.high).any()):
            raise InfoplaneError(
                "Quantise has no range yet, for the model never ran in training mode; run it once on inputs of the "
                "training set before it is measured: model.train(); model(x)."
            )
        with torch.no_grad():
            low, high = (end.view(-1, *[1] * (t.dim() - 1)) for end in (self.low, self.high))
            step = (high - low) / (2**self.bits - 1)
            step = torch.where(step == 0.0, 1.0, step)  # a layer that has been constant: its one level is low
            inside = t.clamp(low, high)
            codes = (inside - low).div_(step).round_().clamp_(max=2**self.bits - 1)
            levels = torch.minimum(codes.mul_(step).add_(low), high).to(t.dtype)
            passes = inside == t
        # t + (levels - t).detach() is no level to the last bit; this adds exactly 0
        return levels + (t - t.detach()) * passes

    @torch.no_grad()
    def _follow(self, t: Tensor) -> None:
        """Let the ends that are not fixed follow a batch. Products and sums apart, for a fused multiply-add rounds the
        ends of a tensor differently and a replica would depend on its neighbours."""
        rows = t.reshape(self.replicas, -1)
        first = self.low > self.high
        seen = (rows.amin(1), rows.amax(1))
        for end, fixed, batch in zip((self.low, self.high), self._fixed, seen, strict=True):
            if fixed is None:
                end.copy_(torch.where(first, batch, end + _WEIGHT * (batch - end)))

    def extra_repr(self) -> str:
        return f"bits={self.bits}" + (f", replicas={self.replicas}" if self.replicas > 1 else "")
