"""The Gaussian mean-field (variational) bound: what is known of a Gaussian channel without an estimator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..channels.gaussian import mean_field_bound
from ..records import Estimate
from .inputs import read_points
from .pairs import check_noise, noise_label, noise_params, noise_variances
from .protocol import About, Reading

__all__ = ["MeanField"]


@dataclass(frozen=True)
class MeanField:
    """`mean_field_bound` for the Recorder: an upper bound on the information of a Gaussian channel, as VIB trains with.

    The output of a Gaussian or dropout layer: of that channel. The output of an Echo layer: of a Gaussian channel whose
    noise has the same standard deviations s_i(x) sd(z_i); its bound is nearly the Echo rate, which Echo attains and
    that channel does not. Any other layer: of noise_variance, as `KDE`.

    noise_variance, scale: as of `KDE`.
    """

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"

    name = "mean-field"
    deferred = False
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
        noise, n = reading.noise, codes.shape[1]
        params, quantities = "", ["I(X;T)"]
        warnings: tuple[str, ...] = ()
        off, errors = 0.0, [0.0] * len(codes)
        if noise is not None:
            if noise.scale is None:  # an Echo layer whose S is no diagonal
                nothing = Estimate(
                    quantity=noise.quantity,
                    value=math.nan,
                    standing="estimate",
                    channel=noise.kind,
                    estimator=self.name,
                    n=n,
                    warnings=("no-density",),
                )
                return [[nothing] for _ in codes]
            f = read_points(where, noise.sent).double()
            std = noise.scale.double()
            channel = noise.kind
            if noise.std is None:
                std = std * codes.double().std(1, keepdim=True, correction=0)
                channel = f"gaussian noise of the std of the {noise.kind}"
            if noise.resend is not None:
                off = codes.shape[2] / n
                errors = _sampling_error(f, std).tolist()
            quantities = [noise.quantity] + ["I(Z;X)"] * (noise.quantity != "I(Z;X)")
        else:
            f = (codes if reading.clean is None else read_points(where, reading.clean)).double()
            std = noise_variances(f, self.noise_variance, self.scale).sqrt().view(-1, 1, 1)
            channel = noise_label(self.noise_variance, self.scale)
            params = noise_params(self.noise_variance, self.scale)
            if reading.clean is not None:
                channel, warnings = f"noise-off, {channel}", ("noise-off",)
        return [
            [
                Estimate(
                    quantity=quantity,
                    value=float(value),
                    standing="upper",
                    channel=channel,
                    estimator=self.name,
                    params=params,
                    n=n,
                    stderr=stderr,
                    error=off,
                    ceiling=math.log(n) if quantity == "I(X;T)" or not off else math.nan,
                    warnings=warnings,
                )
                for quantity in quantities
            ]
            for value, stderr in zip(mean_field_bound(f, torch.log(std)), errors, strict=True)
        ]


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
