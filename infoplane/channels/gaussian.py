"""Channels of Gaussian noise, additive or continuous dropout; their information is only bounded.

    z = f(x) + sigma(x) xi,    xi ~ N(0, I)

I(Z;X) = h(Z) - E sum_i ln sigma_i(x) - K/2 ln(2 pi e), and h(Z), the entropy of a mixture of as
many Gaussians as there are inputs, has no closed form. For any density r(z),
I(Z;X) <= E KL[p(z|x) || r(z)]. The smallest value that a product of Gaussians can give is
`mean_field_bound`. All information is in nats.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError, choose
from ..nn.replicas import ReplicaLinear
from .channel import Channel

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["SCALES", "Dropout", "Gaussian", "mean_field_bound"]

SCALES = ("constant", "input")


def mean_field_bound(f: Float[Tensor, "*R N K"], log_std: Float[Tensor, "*any"]) -> Float[Tensor, "*R"]:
    """Compute an upper bound on I(Z;X) for Gaussian noise.

        sum_i [ 1/2 ln Var(z_i) - E ln sigma_i(x) ],    Var(z_i) = Var f_i + E sigma_i^2

    This is E KL[p(z|x) || r(z)] for the product r of Gaussians with the moments of z. It equals I
    if z follows such a product.

    Args:
        f: The codes, (..., N, K). x is uniform on the rows.
        log_std: ln sigma, of the shape of f or one that broadcasts to it.

    Returns:
        The bound, (...), in nats. It is inf where some sigma_i(x) is 0 and z_i still varies. A unit
        that never varies adds nothing.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> f = torch.tensor([[-1.0], [1.0]])  # 1/2 ln((1 + 1) / 1)
        >>> round(float(ip.channels.mean_field_bound(f, torch.zeros(1))), 4)
        0.3466

    References:
        Alemi, Fischer, Dillon & Murphy, "Deep variational information bottleneck", ICLR 2017,
        equation 14, with the best r of its family.
    """
    log_std = log_std.expand_as(f)
    variance = f.var(-2, correction=0) + (2.0 * log_std).exp().mean(-2)
    each = 0.5 * variance.log() - log_std.mean(-2)
    return torch.where(variance > 0.0, each, 0.0).sum(-1)


class Gaussian(Channel):
    """Additive Gaussian noise, z = f + sigma xi, in training and in eval mode.

    `rate` is `mean_field_bound` over the batch of the last training call, an upper bound on the
    information that a loss can hold down.

    Args:
        features: K, the number of coordinates.
        std: sigma, the same for all units and inputs (scale="constant"), or its starting value
            (scale="input").
        scale: "constant", or "input" for a learned sigma, whose logarithm is affine in f.
        replicas: R; see `Channel`.
        pool: The areas that a feature map is averaged over; see `Channel`.

    Raises:
        InfoplaneError: An option is not one of those above.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> layer = ip.channels.Gaussian(2, std=0.5)
        >>> z = layer(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))  # 1/2 ln(1 + 1 / 0.25), and 0
        >>> round(layer.rate.item(), 4)
        0.8047

    References:
        Goldfeld et al., "Estimating information flow in deep neural networks", ICML 2019 (constant
        noise).
        Alemi, Fischer, Dillon & Murphy, "Deep variational information bottleneck", ICLR 2017
        (learned noise).
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

    def scales(self, f: Float[Tensor, "R B K"]) -> tuple[Float[Tensor, "R B K"], Float[Tensor, "R B K"]]:
        """Return ln sigma and sigma, (R, B, K) each."""
        log_std = torch.full_like(f, math.log(self.std)) if self.head is None else self.head(f)
        return log_std, log_std.exp()

    def transmit(self, f: Float[Tensor, "R B K"], s: Float[Tensor, "R B K"]) -> Float[Tensor, "R B K"]:
        """Add noise of standard deviation s to f; in the phase "mean" return f."""
        if self.phase == "mean":
            return f
        return f + s * self.streams_of(f).normal(*f.shape[1:], dtype=f.dtype)

    def rate_of(self, f: Float[Tensor, "R B K"], log_s: Float[Tensor, "R B K"]) -> Float[Tensor, " R"]:
        """Return `mean_field_bound` over the batch, (R,), in nats."""
        return mean_field_bound(f, log_s)

    def extra_repr(self) -> str:
        return f"{self.features}, std={self.std}, scale={self.scale}"


class Dropout(Channel):
    """Continuous dropout, z = f (1 + sqrt(p / (1 - p)) xi), in training and in eval mode.

    Under this noise I(Z;X) is finite. A unit at 0 passes without noise: a ReLU unit that is off is
    seen to be off, and `mean_field_bound` is then infinite. There is no rate to train with.

    Args:
        features: K, the number of coordinates.
        p: The share that binary dropout of the same variance would drop, between 0 and 1.
        replicas: R; see `Channel`.
        pool: The areas that a feature map is averaged over; see `Channel`.

    Raises:
        InfoplaneError: p is not between 0 and 1.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> layer = ip.channels.Dropout(3, p=0.5)
        >>> layer(torch.zeros(4, 3)).abs().max()
        tensor(0.)

    References:
        Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
        JMLR 15, 2014, section 10.
        Adilova, Geiger & Fischer, "Information plane analysis for dropout neural networks", ICLR
        2023.
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

    def scales(self, f: Float[Tensor, "R B K"]) -> tuple[Float[Tensor, "R B K"], Float[Tensor, "R B K"]]:
        """Return ln sigma and sigma, (R, B, K) each."""
        s = math.sqrt(self.p / (1.0 - self.p)) * f.abs()
        return s.log(), s

    def transmit(self, f: Float[Tensor, "R B K"], s: Float[Tensor, "R B K"]) -> Float[Tensor, "R B K"]:
        """Add noise of standard deviation s to f; in the phase "mean" return f."""
        if self.phase == "mean":
            return f
        return f + s * self.streams_of(f).normal(*f.shape[1:], dtype=f.dtype)

    def rate_of(self, f: Float[Tensor, "R B K"], log_s: Float[Tensor, "R B K"]) -> Float[Tensor, " R"]:
        """Return NaN, (R,), because there is no rate to train with."""
        return torch.full((self.replicas,), math.nan, device=f.device)

    def extra_repr(self) -> str:
        return f"{self.features}, p={self.p}"
