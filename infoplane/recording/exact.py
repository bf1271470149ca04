"""Exact rates of the Echo layers of a snapshot, their certificates, and bounds on the information about the label.

All these are numbers of a noisy layer's own channel, so their `path` is ""; each bound stands alone, so their `side` is
"" too.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..channels.certificate import Certificate, certify
from ..channels.evidence import CELLS, Evidence
from ..channels.layer import Echo
from ..channels.models import echo_layers
from ..data.points import label_entropy
from ..estimators.fitting import floored, with_unseen
from ..records import POINTS, Estimate
from .passes import Observation, Passes

__all__ = ["certificates_of", "label_bounds", "missing_rates", "rates_of"]


def certificates_of(
    passes: Passes, seen: Observation, replicas: list[int], same_law: bool
) -> dict[str, dict[int, Certificate]]:
    """A certificate for each Echo layer, in the order of execution, and each of the replicas."""
    layers = echo_layers(passes.model)
    out: dict[str, dict[int, Certificate]] = {}
    for name in (name for name in passes.order if name in layers):
        crossing, first = seen.crossings[name], name in seen.first
        out[name] = {
            r: certify(
                Evidence(
                    f=crossing.f[r],
                    log_s=crossing.log_s[r],
                    z=crossing.z[r],
                    bank=seen.banks[name],
                    replica=r,
                    first=first,
                    repeat=seen.repeats[name][r] if first else None,
                    same_law=same_law,
                    diagonal=layers[name].mixing == "diagonal",
                    floor=layers[name].floor,
                )
            )
            for r in replicas
        }
    return out


def rates_of(
    passes: Passes, seen: Observation, name: str, replica: int, certificates: dict[str, dict[int, Certificate]]
) -> list[Estimate]:
    """The numbers of one Echo layer. The last one is what is known of I(Z;X).

    A layer whose input is a function of x has its rate, I(Z;X). Above noise, the rate is the quantity of
    `Observation.noise`; I(Z_k;X) has no closed form there, and is at most the least of the rates and ceilings on the
    way, and ln N.
    """
    mine = certificates[name][replica]
    own = Estimate(
        quantity="I(Z;X)",
        value=mine.value,
        standing=mine.standing,
        law=f"{POINTS}, at 1/{CELLS} of the range" if mine.standing == "exact" else POINTS,
        channel="echo",
        estimator="echo",
        params=_params(echo_layers(passes.model)[name]),
        n=mine.n,
        stderr=mine.stderr,
        error=mine.error,
        ceiling=mine.ceiling,
        warnings=mine.warnings,
    )
    if name in seen.first:
        return [own]
    on_the_way = [mine, *(certificates[j][replica] for j in seen.through[name] if j in certificates)]
    sound = [c for c in on_the_way if c.standing != "estimate"]
    least = min(sound or on_the_way, key=lambda c: c.value)
    ceiling = math.log(mine.n)
    bound = replace(
        own,
        value=min(least.value, ceiling),
        standing="upper" if sound else "estimate",
        law=POINTS,
        stderr=least.stderr,
        error=least.error,
        ceiling=ceiling,
        warnings=("chain", *least.warnings),
    )
    return [replace(own, quantity=seen.noise(name).quantity), bound]


def missing_rates(layer: Echo, n: int) -> list[Estimate]:
    """The row of a replica that holds NaN or infinite values."""
    return [
        Estimate(
            quantity="I(Z;X)",
            value=math.nan,
            standing="estimate",
            channel="echo",
            estimator="echo",
            params=_params(layer),
            n=n,
            warnings=("non-finite",),
        )
    ]


def label_bounds(scores: Tensor, labels: Tensor, information: Estimate | None, channel: str) -> list[Estimate]:
    """H(Y) - CE <= I(Z;Y) <= min(H(Y), I(Z;X)), under the one noisy law.

    scores: (N, C), logits of single noisy draws (never of averaged or noise-free predictions); labels: (N,).
    information: the I(Z;X) of an Echo layer, used only where it is exact or an upper bound; without it H(Y) is all.

    The classifier is mixed with a share 1/N of the shares of the classes, and the standard error is that of the draws
    beside what rare errors that they do not show may be worth, 1.5 (value + ln N) / N (`fitting.with_unseen`).
    """
    n, entropy = len(labels), label_entropy(labels)
    shares = torch.bincount(labels, minlength=scores.shape[-1]).double() / n
    gain = floored(-cross_entropy(scores.double(), labels, reduction="none") - shares[labels].log())
    value = gain.mean()
    lower = Estimate(
        quantity="I(Z;Y)",
        value=float(value),
        standing="lower",
        channel=channel,
        estimator="decoder",
        n=n,
        stderr=float(with_unseen(gain.std() / math.sqrt(n), value + math.log(n), n)),
        ceiling=entropy,
    )
    if information is None:
        return [lower]
    bounded = information.standing in ("exact", "upper")
    upper = replace(
        lower,
        value=min(entropy, information.value + information.error) if bounded else entropy,
        standing="upper",
        estimator="echo",
        stderr=0.0,
    )
    return [lower, upper]


def _params(layer: Echo) -> str:
    extra = "" if layer.mixing == "diagonal" else f",mixing={layer.mixing}"
    extra += "" if layer.pool is None else f",pool={'x'.join(map(str, layer.pool))}"
    return f"r={layer.max_scale:g}{extra}"
