"""The Gaussian mean-field (variational) bound: what is known of a Gaussian channel without an estimator."""

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
    """`mean_field_bound` for the Recorder: an upper bound on the information of a Gaussian channel, as VIB trains with.

    The output of a Gaussian or dropout layer: of that channel. The output of an Echo layer: of a Gaussian channel whose
    noise has the same standard deviations s_i(x) sd(z_i); its bound is nearly the Echo rate, which Echo attains and
    that channel does not. Any other layer: of noise_variance, as `KDE`.

    noise_variance, scale: as of `KDE`.
    """

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"

    name = "mean-field"
    about = About(
        quantity="I(X;T)",
        standing="upper, for these N points through Gaussian noise",
        conditions="any; loose by how far the code is from a Gaussian with independent units. Behind an Echo layer it "
        "is of a Gaussian channel with the same standard deviations",
        cost="N D",
        source="Alemi et al., ICLR 2017, equation 14, with the best Gaussian in place of N(0, I)",
    )

    def __post_init__(self) -> None:
        check_noise("MeanField", self.noise_variance, self.scale)

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """The bound of each replica, in nats. Labels are not looked at.

        Above noise, where what goes in is a draw too, it bounds I(Z_k;X) as well; `error` holds how far moments fitted
        to one draw are biased, 1 / N a unit, and `stderr` how far they scatter.
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
    """Name the Gaussian channel that is bounded in place of noise of a kind whose density is not known."""
    return f"gaussian noise of the std of the {kind}"


def _of_noise(where: str, common: Estimate, codes: Tensor, noise: Noise) -> list[list[Estimate]]:
    """The bound for the layer's own noise, and above noise the same number as a bound on I(Z;X)."""
    common = replace(common, quantity=noise.quantity, channel=noise.kind)
    if noise.scale is None:  # an Echo layer whose S is no diagonal
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
    """(R,): a standard error of the bound where the N rows of f are draws, as if all units erred together.

    A variance of N draws is off by a share of standard deviation sqrt((kurtosis - 1) / N), and its logarithm by that.
    """
    n = f.shape[1]
    centred = f - f.mean(1, keepdim=True)
    variance = (centred.square().mean(1) + std.square().mean(1)).clamp(min=1e-300)
    fourth = (centred.square() + std.square()).square().mean(1)
    share = ((fourth / variance.square() - 1.0).clamp(min=0.0) / n).sqrt()
    of_noise = torch.log(std).sum(-1).std(1) / math.sqrt(n) if n > 1 else f.new_zeros(len(f))
    return 0.5 * share.sum(-1) + torch.nan_to_num(of_noise, nan=0.0)
