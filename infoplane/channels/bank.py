"""The reference codes of a frozen Echo layer, and independent full-length noise drawn from them.

While an Echo layer trains, its echoes are the other rows of the batch. When it is measured or used for prediction, the
weights stand still and the echoes are drawn from a bank: the pairs (f, S) of inputs that follow the law q. Every draw
takes fresh, independent entries, so the noise of any two rows, and of any two calls, is independent, predictions do not
depend on batch mates, and e follows the stationary law under the bank's own empirical q (up to `tail`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..streams import Streams
from .echo import apply_scale, stationary_moments

__all__ = ["Bank"]

#: Echo sums are continued until (E s^2)^M, what is left of them, is below this.
_TAIL = 1e-6
_MOST_ECHOES = 4096


class Bank:
    """Reference codes f (R, N, K) with their S, (R, N, K) or (R, N, K, K), and the stationary moments they imply.

    mean: (R, K) and covariance: (R, K, K), of e and of Z, float64.
    echoes: for each replica, the number of terms that is drawn. tail: (R,), the bound 1/2 sum_i (E s_i^2)^M on what the
    terms that are left out are worth, nats.
    """

    def __init__(self, f: Tensor, s: Tensor) -> None:
        # The codes of a replica that has diverged are not numbers: zeros keep the others going, its own z stays NaN.
        self.f = f = torch.where(f.isfinite(), f, 0.0)
        self.s = s = torch.where(s.isfinite(), s, 0.0)
        mean, second = stationary_moments(f, s)
        self.mean = mean
        self.covariance = second - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        if s.dim() == f.dim():
            contraction = s.double().square().mean(-2)
        else:  # one contraction for every direction: E ||S||^2
            contraction = torch.linalg.matrix_norm(s.double(), 2).square().mean(-1, keepdim=True).expand_as(mean)
        self.echoes = [_terms(float(c)) for c in contraction.amax(-1)]
        lengths = torch.tensor(self.echoes, device=f.device).unsqueeze(-1)
        self.tail = 0.5 * contraction.pow(lengths).sum(-1)
        # The innermost bracket is Gaussian with the stationary moments, so that e has a density whatever f is.
        values, vectors = torch.linalg.eigh(self.covariance)
        self._root = (vectors * values.clamp(min=0.0).sqrt().unsqueeze(-2)).to(f.dtype)

    @property
    def size(self) -> int:
        return self.f.shape[-2]

    def noise(self, rows: int, streams: Streams) -> Tensor:
        """(R, rows, K): one draw of e for each row, independent between rows and of everything drawn before."""
        return torch.stack([self.draw(r, rows, g) for r, g in enumerate(streams)])

    def draw(self, replica: int, rows: int, generator: torch.Generator | None) -> Tensor:
        """(rows, K): the same for one replica."""
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
    if not 0.0 < contraction < 1.0:
        return 1
    return min(max(math.ceil(math.log(_TAIL) / math.log(contraction)), 1), _MOST_ECHOES)
