"""Bound the information of a Gaussian channel by the Gaussian mean-field (variational) bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..channels.gaussian import mean_field_bound
from ..records import Estimate, Path
from .inputs import read_points
from .noise import check_noise, noise_label, noise_params, noise_variances
from .protocol import About, Estimator, Noise, Reading
from .views import PATH_WARNINGS, per_replica

__all__ = ["MeanField", "stand_in"]


@dataclass(frozen=True)
class MeanField(Estimator):
    """Bound the information of a Gaussian channel for the Recorder, as VIB does in training.

    The bound is `channels.mean_field_bound`. For the output of a Gaussian or dropout layer, it
    bounds that layer's own channel. For the output of an Echo layer, it bounds a Gaussian channel
    whose noise has the same standard deviations s_i(x) sd(z_i); this bound is nearly the Echo rate,
    which the Echo channel attains and the Gaussian channel does not. Any other layer is seen
    through noise of `noise_variance`, as in `KDE`.

    Args:
        noise_variance: The variance of the noise, for layers without noise of their own.
        scale: "absolute" or "layer", as for `KDE`.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 200, 2, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[number]] = ip.estimators.MeanField(noise_variance=1.0).measure(reading, labels=None)
        >>> number.standing, 0 < number.value < number.ceiling
        ('upper', True)

    References:
        Alemi et al., Deep variational information bottleneck, ICLR 2017.
    """

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"

    name = "mean-field"
    about = About(
        quantity="It measures I(X;T).",
        standing="The number is an upper bound for these N points through Gaussian noise.",
        conditions="It always holds, but is loose where the code is far from a Gaussian with independent units. After "
        "an Echo layer it bounds a Gaussian channel with the same standard deviations.",
        cost="The time grows with N D.",
        source="Alemi et al., Deep variational information bottleneck, ICLR 2017, equation 14, with the best Gaussian "
        "in place of N(0, I).",
    )

    def __post_init__(self) -> None:
        check_noise("MeanField", self.noise_variance, self.scale)

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Bound the information of each replica.

        Above noise, the input of the channel is itself a draw, and the number is reported as a
        bound on I(Z_k;X) as well. Its `error` is then the bias of moments that are fitted to one
        draw, 1 / N per unit, and its `stderr` is their spread.

        Args:
            reading: The values of the layer.
            labels: Not used.

        Returns:
            A list per replica of its numbers, in nats.

        Raises:
            InfoplaneError: If the codes cannot be read.
        """
        where = f"MeanField, layer {reading.layer!r}"
        codes = read_points(where, reading.codes)
        common = Estimate(
            quantity="I(X;T)",
            value=math.nan,
            standing="upper",
            channel=noise_label(self.noise_variance, self.scale),
            estimator=self.name,
            n=codes.shape[1],
        )
        if reading.noise is not None:
            return _of_noise(where, common, codes, reading.noise)
        path: Path = "" if reading.clean is None else "noise-off"
        common = replace(
            common,
            params=noise_params(self.noise_variance, self.scale),
            path=path,
            stderr=0.0,
            error=0.0,
            ceiling=math.log(common.n),
            warnings=PATH_WARNINGS[path],
        )
        f = (codes if reading.clean is None else read_points(where, reading.clean)).double()
        std = noise_variances(f, self.noise_variance, self.scale).sqrt().view(-1, 1, 1)
        return per_replica(common, len(f), value=mean_field_bound(f, torch.log(std)))


def stand_in(kind: str) -> str:
    """Name the Gaussian channel that is bounded in place of noise whose density is not known."""
    return f"gaussian noise of the std of the {kind}"


def _of_noise(where: str, common: Estimate, codes: Tensor, noise: Noise) -> list[list[Estimate]]:
    """Bound the channel of the layer's own noise.

    Above noise, the same number is also given as a bound on I(Z;X).
    """
    common = replace(common, quantity=noise.quantity, channel=noise.kind)
    if noise.scale is None:  # an Echo layer whose S is not diagonal
        return [[replace(common, standing="estimate", warnings=("no-density",))] for _ in codes]
    f = read_points(where, noise.sent).double()
    std = noise.scale.double()
    if noise.std is None:
        std = std * codes.double().std(1, keepdim=True, correction=0)
        common = replace(common, channel=stand_in(noise.kind))
    values = mean_field_bound(f, torch.log(std))
    if noise.resend is None:
        common = replace(common, stderr=0.0, error=0.0, ceiling=math.log(common.n))
        rows = per_replica(common, len(f), value=values)
    else:
        common = replace(common, error=codes.shape[2] / common.n)
        rows = per_replica(common, len(f), value=values, stderr=_sampling_error(f, std))
    if noise.quantity == "I(Z;X)":
        return rows
    return [[own, replace(own, quantity="I(Z;X)")] for (own,) in rows]


def _sampling_error(f: Tensor, std: Tensor) -> Tensor:
    """Compute a standard error of the bound where the N rows of f are draws, (R,).

    All units are assumed to err together. A variance of N draws is off by a share whose standard
    deviation is sqrt((kurtosis - 1) / N), and its logarithm is off by the same amount.
    """
    n = f.shape[1]
    centred = f - f.mean(1, keepdim=True)
    variance = (centred.square().mean(1) + std.square().mean(1)).clamp(min=1e-300)
    fourth = (centred.square() + std.square()).square().mean(1)
    share = ((fourth / variance.square() - 1.0).clamp(min=0.0) / n).sqrt()
    of_noise = torch.log(std).sum(-1).std(1) / math.sqrt(n) if n > 1 else f.new_zeros(len(f))
    return 0.5 * share.sum(-1) + torch.nan_to_num(of_noise, nan=0.0)
