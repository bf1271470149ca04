"""Find the input and the output of a layer's channel, as samples of both."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InfoplaneError, choose
from ..records import Estimate, Path
from ..streams import Streams, derive
from .inputs import is_positive, number, read_points
from .protocol import Reading
from .views import PATH_WARNINGS

__all__ = ["SCALES", "Pair", "check_noise", "noise_label", "noise_params", "noise_variances", "pair"]

SCALES = ("absolute", "layer")


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold one draw through the channel of a layer.

    Attributes:
        sent: The input of the channel, (R, N, D).
        received: Its output, (R, N, D).
        std: The standard deviation of the Gaussian noise between them, (R, N, D) or (R, 1, 1); None
            where the density of the noise is not known (Echo).
        labelled: The codes for I(T;Y), (R, N, D), which are noisy where the network is.
        quantity: The name of I(sent; received).
        channel: The channel of I(sent; received), and of I(T;Y) too.
        path: The path on which `sent` was measured.
        label_path: The path on which `labelled` was measured.
    """

    sent: Tensor
    received: Tensor
    std: Tensor | None
    labelled: Tensor
    quantity: str
    channel: str
    path: Path
    label_path: Path

    def number(self, estimator: str, params: str) -> Estimate:
        """Make a record of I(sent; received) that has no value yet."""
        return Estimate(
            quantity=self.quantity,
            value=math.nan,
            standing="estimate",
            channel=self.channel,
            estimator=estimator,
            params=params,
            path=self.path,
            n=self.sent.shape[1],
            warnings=PATH_WARNINGS[self.path],
        )

    def label_number(self, estimator: str, params: str) -> Estimate:
        """Make a record of I(T;Y) that has no value yet."""
        return replace(
            self.number(estimator, params),
            quantity="I(T;Y)",
            path=self.label_path,
            warnings=PATH_WARNINGS[self.label_path],
        )


def pair(where: str, reading: Reading, noise_variance: float, scale: str = "absolute") -> Pair:
    """Draw the input and the output of a layer's channel.

    For the output of a noisy layer (Echo, Gaussian or dropout), these are the channel's own input
    and output. Any other layer is sent through Gaussian noise of the given variance, as `KDE` and
    `Mixture` do, because without noise I(X;T) is infinite or ln N. If noise lies below that layer,
    it is sent along the mean path.

    Args:
        where: The estimator and the layer, for messages.
        reading: The values of the layer.
        noise_variance: The variance of the added noise, for layers without noise of their own.
        scale: "absolute" or "layer", as for `KDE`.

    Returns:
        One draw through the channel.

    Raises:
        InfoplaneError: If the codes cannot be read.
    """
    codes = read_points(where, reading.codes)
    if reading.noise is not None:
        sent = read_points(where, reading.noise.sent)
        noise = reading.noise
        return Pair(sent, codes, noise.std, codes, noise.quantity, noise.kind, path="", label_path="sampled")
    sent = codes if reading.clean is None else read_points(where, reading.clean)
    std = noise_variances(sent, noise_variance, scale).sqrt().to(sent.dtype).view(-1, 1, 1)
    streams = Streams([derive("noise", seed, reading.layer) for seed in reading.seed_of], sent.device)
    drawn = std * streams.normal(*sent.shape[1:], dtype=sent.dtype)
    return Pair(
        sent=sent,
        received=sent + drawn,
        std=std,
        labelled=codes + drawn,
        quantity="I(X;T)",
        channel=noise_label(noise_variance, scale),
        path="" if reading.clean is None else "noise-off",
        label_path="" if reading.clean is None else "sampled",
    )


def check_noise(where: str, noise_variance: float, scale: str) -> None:
    """Check the options of an estimator that adds noise.

    Raises:
        InfoplaneError: If the variance is not a finite number above 0, or if the scale is not
            known.
    """
    if not is_positive(noise_variance):
        raise InfoplaneError(f"{where}: noise_variance={noise_variance!r}; expected a finite number above 0.")
    choose(scale, SCALES, "scale of the noise")


def noise_params(noise_variance: float, scale: str) -> str:
    """Write the options of the noise for the column `params`."""
    return f"noise_variance={number(noise_variance)}" + (",scale=layer" if scale == "layer" else "")


def noise_variances(points: Tensor, noise_variance: float, scale: str) -> Tensor:
    """Compute the variance of the noise for each replica.

    Args:
        points: The codes, (R, N, D).
        noise_variance: The variance that was asked for.
        scale: "absolute": the variance itself. "layer": the variance times the mean square of the
            centred codes, or the variance itself for a constant layer.

    Returns:
        The variances, (R,) float64.
    """
    given = torch.full((len(points),), noise_variance, dtype=torch.float64, device=points.device)
    if scale == "absolute":
        return given
    t = points.to(torch.float64)
    square = (t - t.mean(1, keepdim=True)).square().mean((1, 2))
    return given * torch.where(square > 0, square, 1.0)


def noise_label(noise_variance: float, scale: str) -> str:
    """Write the noise for the column `channel`, the same for every estimator that adds it."""
    relative = " x mean square of the layer" if scale == "layer" else ""
    return f"noise {number(noise_variance)}{relative}"
