"""The reference codes of a frozen Echo layer, and independent full-length noise drawn from them.

While an Echo layer trains, its echoes are the other rows of the batch. When it is measured or used
for prediction, the weights are frozen and the echoes are drawn from a bank: the pairs (f, S) of
inputs that follow the law q. Every draw takes fresh, independent entries. The noise of any two
rows, and of any two calls, is therefore independent, predictions do not depend on the other inputs
of a batch, and e follows the stationary law under the empirical law of the bank (up to `tail`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..streams import Streams
from .echo import apply_scale, stationary_moments

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Bank"]

#: Echo sums have so many terms M that (E s^2)^M is below this.
_TAIL = 1e-6
_MOST_ECHOES = 4096


class Bank:
    """Reference codes of an Echo layer with their scales, and the moments that they imply.

    Args:
        f: The codes, (R, N, K).
        s: S, (R, N, K) for a diagonal, or (R, N, K, K).

    Attributes:
        mean: The mean of e, and of Z, (R, K), in float64.
        covariance: The covariance of e, and of Z, (R, K, K), in float64.
        echoes: M, the number of terms that is drawn, one per replica.
        tail: 1/2 sum_i (E s_i^2)^M, (R,), in nats: a bound on the information that the terms after
            the M-th are worth.

    Raises:
        InfoplaneError: There is no stationary law; see `stationary_moments`.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> f = torch.randn(1, 1000, 2, generator=torch.Generator().manual_seed(0))
        >>> bank = ip.channels.Bank(f, torch.full_like(f, 0.5))
        >>> bank.size, bank.echoes, bool(bank.tail < 1e-6)
        (1000, [10], True)
        >>> bank.draw(0, rows=5, generator=torch.Generator().manual_seed(1)).shape
        torch.Size([5, 2])
    """

    def __init__(self, f: Float[Tensor, "R N K"], s: Float[Tensor, "R N K"] | Float[Tensor, "R N K K"]) -> None:
        # A diverged replica has codes that are not numbers. Zeros keep the others going, and its
        # own z stays NaN.
        self.f = f = torch.where(f.isfinite(), f, 0.0)
        self.s = s = torch.where(s.isfinite(), s, 0.0)
        mean, second = stationary_moments(f, s)
        self.mean = mean
        self.covariance = second - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        if s.dim() == f.dim():
            contraction = s.double().square().mean(-2)
        else:  # one contraction for all directions, E ||S||^2
            contraction = torch.linalg.matrix_norm(s.double(), 2).square().mean(-1, keepdim=True).expand_as(mean)
        self.echoes = [_terms(float(c)) for c in contraction.amax(-1)]
        lengths = torch.tensor(self.echoes, device=f.device).unsqueeze(-1)
        self.tail = 0.5 * contraction.pow(lengths).sum(-1)
        # The innermost bracket is Gaussian with the stationary moments: e has a density for any f.
        values, vectors = torch.linalg.eigh(self.covariance)
        self._root = (vectors * values.clamp(min=0.0).sqrt().unsqueeze(-2)).to(f.dtype)

    @property
    def size(self) -> int:
        """N, the number of reference codes."""
        return self.f.shape[-2]

    def noise(self, rows: int, streams: Streams) -> Float[Tensor, "R rows K"]:
        """Draw e for each row of every replica.

        Args:
            rows: The number of rows.
            streams: The generators of the replicas.

        Returns:
            (R, rows, K), independent between rows and of everything drawn before.
        """
        return torch.stack([self.draw(r, rows, g) for r, g in enumerate(streams)])

    def draw(self, replica: int, rows: int, generator: torch.Generator | None) -> Float[Tensor, "rows K"]:
        """Draw e for each row of one replica.

        Args:
            replica: The index of the replica.
            rows: The number of rows.
            generator: The generator; None for PyTorch's global one.

        Returns:
            (rows, K), independent between rows and of everything drawn before.
        """
        f, device = self.f[replica], self.f.device
        width = f.shape[-1]
        start = torch.randn(rows, width, generator=generator, dtype=f.dtype, device=device)
        e: Tensor = self.mean[replica].to(f.dtype) + start @ self._root[replica].T
        picks = torch.randint(self.size, (self.echoes[replica], rows), generator=generator, device=device)
        both = torch.cat([f, self.s[replica].flatten(1)], 1)  # one gather is faster than two
        for pick in picks:
            drawn = both.index_select(0, pick)
            e = drawn[:, :width] + apply_scale(drawn[:, width:].reshape(rows, *self.s.shape[2:]), e)
        return e


def _terms(contraction: float) -> int:
    """Count the terms of an echo sum whose scales have this mean square."""
    if not 0.0 < contraction < 1.0:
        return 1
    return min(max(math.ceil(math.log(_TAIL) / math.log(contraction)), 1), _MOST_ECHOES)
