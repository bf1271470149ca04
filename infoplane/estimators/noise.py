"""The two ends of a layer's channel, for estimators that work on samples of what went in and what came out."""

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
    """One draw through the channel of a layer. All tensors (R, N, D).

    sent, received: what went in and what came out, for the information that `quantity` names.
    std: of the Gaussian noise between them, (R, N, D) or (R, 1, 1); None where its density is not known (Echo).
    labelled: what came out, for I(T;Y); noisy where the network is.
    quantity, channel: of I(sent; received), and the channel of I(T;Y) too.
    path: which codes were sent; label_path: which are labelled.
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
        """A number of I(sent; received) that is still without its value."""
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
        """A number of I(T;Y) that is still without its value."""
        return replace(
            self.number(estimator, params),
            quantity="I(T;Y)",
            path=self.label_path,
            warnings=PATH_WARNINGS[self.label_path],
        )


def pair(where: str, reading: Reading, noise_variance: float, scale: str = "absolute") -> Pair:
    """What is sent and received in a layer.

    The output of a noisy channel (Echo, Gaussian, dropout): the channel's own input and output. Any other layer is sent
    through Gaussian noise of the given variance, as `kde` and `mixture` do, for without noise I(X;T) is infinite or
    ln N; where noise lies below it, along the mean path. where: for messages. scale: as of `KDE`.
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
    """InfoplaneError where the options of an estimator make no noise."""
    if not is_positive(noise_variance):
        raise InfoplaneError(f"{where}: noise_variance={noise_variance!r}; expected a finite number above 0.")
    choose(scale, SCALES, "scale of the noise")


def noise_params(noise_variance: float, scale: str) -> str:
    """For the column `params`."""
    return f"noise_variance={number(noise_variance)}" + (",scale=layer" if scale == "layer" else "")


def noise_variances(points: Tensor, noise_variance: float, scale: str) -> Tensor:
    """(R,) float64: the variance of the noise for each replica of (R, N, D) points; scale 'layer': times the mean
    square of the centred values, and of a constant layer as it is."""
    given = torch.full((len(points),), noise_variance, dtype=torch.float64, device=points.device)
    if scale == "absolute":
        return given
    t = points.to(torch.float64)
    square = (t - t.mean(1, keepdim=True)).square().mean((1, 2))
    return given * torch.where(square > 0, square, 1.0)


def noise_label(noise_variance: float, scale: str) -> str:
    """For the column `channel`: the same words for the same channel, whatever measures it."""
    relative = " x mean square of the layer" if scale == "layer" else ""
    return f"noise {number(noise_variance)}{relative}"
