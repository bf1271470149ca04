"""Channels of Gaussian noise, whose information is known through its bounds only: additive, and continuous dropout.

    z = f(x) + sigma(x) xi,    xi ~ N(0, I)

I(Z;X) = h(Z) - E sum_i ln sigma_i(x) - K/2 ln(2 pi e), and h(Z), the entropy of a mixture of as many Gaussians as
there are inputs, has no closed form. For any r(z), I(Z;X) <= E KL[p(z|x) || r(z)]; the least value that a product of
Gaussians can give is `mean_field_bound`. All information in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError, choose
from ..nn.replicas import ReplicaLinear
from .channel import Channel

__all__ = ["SCALES", "Dropout", "Gaussian", "mean_field_bound"]

SCALES = ("constant", "input")


def mean_field_bound(f: Tensor, log_std: Tensor) -> Tensor:
    """sum_i [ 1/2 ln Var(z_i) - E ln sigma_i(x) ] >= I(Z;X), (...), for x uniform on the rows; nats.

    f, log_std: (..., N, K), or log_std a shape that broadcasts. Var(z_i) = Var f_i + E sigma_i^2. It is E KL to the
    product of Gaussians with the moments of z, equal to I where z is such a product. inf where a sigma_i(x) is 0 and
    z_i still varies; a unit that never varies counts nothing.

    Alemi, Fischer, Dillon, Murphy, Deep variational information bottleneck, ICLR 2017, equation 14, with the best r of
    its family.
    """
    log_std = log_std.expand_as(f)
    variance = f.var(-2, correction=0) + (2.0 * log_std).exp().mean(-2)
    each = 0.5 * variance.log() - log_std.mean(-2)
    return torch.where(variance > 0.0, each, 0.0).sum(-1)


class Gaussian(Channel):
    """z = f + sigma xi: the noisy layers of Goldfeld et al. (2019), or a variational bottleneck (Alemi et al. 2017).

    std: sigma, the same for all units and inputs (scale="constant"), or where it starts (scale="input": ln sigma is an
    affine function of f, learned). `rate` is `mean_field_bound` over the batch of the last training call: an upper
    bound of the information, and what a loss can hold it down by. features, replicas, pool: see `Channel`. The noise is
    on in eval mode too.
    """

    kind = "gaussian"

    def __init__(
        self,
        features: int,
        *,
        std: float = 0.1,
        scale: str = "constant",
        replicas: int = 1,
        pool: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(features, replicas=replicas, pool=pool)
        if not 0.0 < std < math.inf:
            raise InfoplaneError(f"Gaussian: std={std}; expected a positive number.")
        self.std = std
        self.scale = choose(scale, SCALES, "scale of a Gaussian layer")
        self.head: ReplicaLinear | None = None
        if scale == "input":
            self.head = ReplicaLinear(features, features, replicas)
            nn.init.constant_(self.head.bias, math.log(std))

    def scales(self, f: Tensor) -> tuple[Tensor, Tensor]:
        log_std = torch.full_like(f, math.log(self.std)) if self.head is None else self.head(f)
        return log_std, log_std.exp()

    def transmit(self, f: Tensor, s: Tensor) -> Tensor:
        if self.phase == "mean":
            return f
        return f + s * self.streams_of(f).normal(*f.shape[1:], dtype=f.dtype)

    def rate_of(self, f: Tensor, log_s: Tensor) -> Tensor:
        return mean_field_bound(f, log_s)

    def extra_repr(self) -> str:
        return f"{self.features}, std={self.std}, scale={self.scale}"


class Dropout(Channel):
    """z = f (1 + sqrt(p / (1 - p)) xi): continuous (Gaussian) dropout, under which I(Z;X) is finite.

    p: the share that is dropped, as of binary dropout of the same variance. A unit at 0 passes without noise: a ReLU
    unit that is off is seen to be off, and then `mean_field_bound` is infinite. There is no `rate` to train with. The
    noise is on in eval mode too: it is the channel.

    Srivastava et al., Dropout, JMLR 15 (2014), section 10; Adilova, Geiger, Fischer, Information plane analysis for
    dropout neural networks, ICLR 2023.
    """

    kind = "dropout"
    rated = False

    def __init__(
        self, features: int, *, p: float = 0.2, replicas: int = 1, pool: tuple[int, ...] | None = None
    ) -> None:
        super().__init__(features, replicas=replicas, pool=pool)
        if not 0.0 < p < 1.0:
            raise InfoplaneError(f"Dropout: p={p}; expected a number between 0 and 1, both excluded.")
        self.p = p

    def scales(self, f: Tensor) -> tuple[Tensor, Tensor]:
        s = math.sqrt(self.p / (1.0 - self.p)) * f.abs()
        return s.log(), s

    def transmit(self, f: Tensor, s: Tensor) -> Tensor:
        if self.phase == "mean":
            return f
        return f + s * self.streams_of(f).normal(*f.shape[1:], dtype=f.dtype)

    def rate_of(self, f: Tensor, log_s: Tensor) -> Tensor:
        return torch.full((self.replicas,), math.nan, device=f.device)

    def extra_repr(self) -> str:
        return f"{self.features}, p={self.p}"
