"""Exact rates of Echo layers with their certificates, and bounds on information about the label.

All of them describe a noisy layer's own channel, so their `path` is ""; each bound stands alone, so
their `side` is "" too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["certificates_of", "label_bounds", "missing_rates", "rates_of"]


def certificates_of(
    passes: Passes, seen: Observation, replicas: list[int], same_law: bool
) -> dict[str, dict[int, Certificate]]:
    """Certify the rate of every Echo layer.

    Args:
        passes: The forward passes, with their model.
        seen: What they observed.
        replicas: The replicas to certify.
        same_law: Whether the echoes follow the law of the probe, which exact rates need.

    Returns:
        Certificates by layer, in the order of execution, and by replica.
    """
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
    """Return the numbers of one Echo layer; the last one is what is known about I(Z;X).

    If the layer's input is a function of x, its rate is I(Z;X). Above noise, its rate is the
    quantity that `Observation.noise` names. I(Z_k;X) has no closed form there; it is at most ln N,
    and at most the least of the rates and ceilings on the way from x.

    Args:
        passes: The forward passes, with their model.
        seen: What they observed.
        name: The layer.
        replica: The replica.
        certificates: The certificates of all Echo layers, from `certificates_of`.
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
    """Return the row of a replica that holds NaN or infinite values.

    Args:
        layer: The Echo layer.
        n: The number of points of the probe.
    """
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


def label_bounds(
    scores: Float[Tensor, "N C"], labels: Int[Tensor, " N"], information: Estimate | None, channel: str
) -> list[Estimate]:
    """Bound I(Z;Y) of a noisy layer by H(Y) - CE <= I(Z;Y) <= min(H(Y), I(Z;X)).

    The cross-entropy CE is that of the classifier mixed with a share 1/N of the class frequencies,
    which keeps it finite. Its standard error contains the spread of the draws, and an allowance of
    1.5 (value + ln N) / N for rare errors that the draws do not show (`fitting.with_unseen`).

    Args:
        scores: (N, C), logits of single noisy draws, never of averaged or noise-free predictions.
        labels: (N,), classes counted from 0.
        information: I(Z;X) of an Echo layer, which counts only if it is exact or an upper bound;
            otherwise the upper bound is H(Y). None for a layer with other noise.
        channel: The kind of noise: "echo", "gaussian" or "dropout".

    Returns:
        The lower bound, and the upper bound if `information` is given.
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
