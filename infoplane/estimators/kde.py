"""Kolchinsky and Tracey's bounds on the information of a layer seen through Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import InfoplaneError
from ..records import Estimate
from .inputs import Classes, check_chunk, ends_of, over_replicas, read_labels
from .kernels import kernel_sums
from .noise import check_noise, noise_label, noise_params, noise_variances
from .protocol import About, Estimator, Reading
from .views import View, estimates, views

__all__ = ["KDE", "KDEBounds", "kde_bounds"]


@dataclass(frozen=True, slots=True, eq=False)
class KDEBounds:
    """Bounds in nats: float64 tensors of shape (), or (R,) for R replicas.

    upper, lower: on I(X;T), X uniform over the N points.
    label_upper, label_lower: on I(T;Y), cut with [0, H(Y)]; None without labels.
    label_difference: upper - sum_y p(y) upper_y, what is published as I(T;Y), which is no bound; None without labels.
    label_entropy: H(Y); None without labels.
    self_weight: the mean of 1 / sum_j exp(-|t_i - t_j|^2 / 2 s2), the weight a point has in its own kernel sum.
    """

    upper: Tensor
    lower: Tensor
    label_upper: Tensor | None
    label_lower: Tensor | None
    label_difference: Tensor | None
    label_entropy: Tensor | None
    self_weight: Tensor


@over_replicas("t")
def kde_bounds(
    t: Tensor, noise_variance: float | Tensor, labels: Tensor | None = None, *, chunk: int | None = None
) -> KDEBounds:
    """Bounds on I(X;T) and I(T;Y) for T = t_X + N(0, s2 I), X uniform over the N points; nats.

        upper = -mean_i ln mean_j exp(-|t_i - t_j|^2 / 2 s2),    lower: the same with 8 s2 for 2 s2,

    j = i included. They bound the entropy of a mixture of N Gaussians, those of the points of class y bound H(T|Y=y),
    and I(T;Y) lies in [lower - sum_y p(y) upper_y, upper - sum_y p(y) lower_y]. (What is often plotted, upper minus
    the upper_y, is no lower bound.) About a population that the points are a sample of they say nothing.

    t: (N, D), or (R, N, D) for R replicas; real and finite.
    noise_variance: s2, a number or a tensor (R,).
    labels: (N,) or (R, N), classes as integers.
    chunk: rows worked on at a time; memory is about 128 chunk^2 bytes. Default: 192 to 1024, on a GPU 2048. Where it is
        not given, the points are on the CPU and there are fewer than 48 coordinates, loops compiled by numba do the
        work, in N-linear memory.

    Raises InfoplaneError for other shapes or types, values that are not finite, and s2 not above 0.

    Kolchinsky & Tracey, Estimating mixture entropy with pairwise distances, Entropy 19 (2017), equations 10 and 13;
    Kolchinsky, Tracey & Wolpert, Nonlinear information bottleneck, Entropy 21 (2019).
    """
    where = "kde_bounds"
    classes = None if labels is None else read_labels(where, labels, t)
    return _bounds(where, t, noise_variance, classes, chunk)


@dataclass(frozen=True)
class KDE(Estimator):
    """`kde_bounds` for the Recorder.

    noise_variance: s2; 1e-3 is Saxe et al.'s for the 12-bit task, 0.1 theirs for MNIST.
    scale: 'absolute', or 'layer': s2 is noise_variance times the mean square of the layer's centred values, for each
        replica at each snapshot.
    published: beside the brackets, as an estimator of its own, `kde-upper`, the information plane as Saxe et al. and
        others after them draw it: the upper bound on I(X;T), and for I(T;Y) the difference of upper bounds, no bound.
    """

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"
    published: bool = False

    name = "kde"
    about = About(
        quantity="I(X;T), I(T;Y)",
        standing="upper and lower, for these N points through Gaussian noise",
        conditions="noise_variance near the squared distance of neighbours: below it both bounds read ln N, "
        "so scale it with the layer (scale=layer) where D is large; no bound for a population; published=true adds "
        "kde-upper, the plane as it is published",
        cost="N^2 D",
        source="Kolchinsky & Tracey, Entropy 19 (2017) 361",
    )

    def __post_init__(self) -> None:
        check_noise("KDE", self.noise_variance, self.scale)

    @property
    def channel(self) -> str:
        return noise_label(self.noise_variance, self.scale)

    @property
    def params(self) -> str:
        return noise_params(self.noise_variance, self.scale)

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Upper and lower bounds on I(X;T) and, with labels, on I(T;Y) of each replica; nats. And those of `published`.

        Downstream of noise, I(X;T) is of the mean path, and I(T;Y) is bounded for the mixture about one noisy draw a
        point only, so what bounds it is an estimate for the layer.
        """
        common = Estimate(
            quantity="I(X;T)",
            value=math.nan,
            standing="estimate",
            channel=self.channel,
            estimator=self.name,
            params=self.params,
        )
        return estimates(common, views(f"KDE, layer {reading.layer!r}", reading, labels), self._bounds, self._numbers)

    def _bounds(self, view: View) -> KDEBounds:
        variance = noise_variances(view.points, self.noise_variance, self.scale)
        return _bounds(view.where, view.points, variance, view.classes, None)

    def _numbers(self, common: Estimate, view: View, bounds: KDEBounds, r: int) -> list[Estimate]:
        """The bracket of one quantity in one replica, and what is published of it."""
        if of_input := common.quantity == "I(X;T)":
            upper, lower, published, ceiling = bounds.upper, bounds.lower, bounds.upper, view.log_n
        else:
            assert bounds.label_upper is not None
            assert bounds.label_lower is not None
            assert bounds.label_difference is not None
            assert bounds.label_entropy is not None
            upper, lower, published = bounds.label_upper, bounds.label_lower, bounds.label_difference
            ceiling = float(bounds.label_entropy[r])
        common = replace(common, ceiling=ceiling, warnings=(*_warnings(bounds, r, view.n), *common.warnings))
        # what bounds the mixture about one draw of the noise is an estimate for the layer
        sampled = view.path == "sampled"
        rows = [
            replace(common, value=float(upper[r]), side="upper", standing="estimate" if sampled else "upper"),
            replace(common, value=float(lower[r]), side="lower", standing="estimate" if sampled else "lower"),
        ]
        if self.published:
            drawn = replace(common, value=float(published[r]), estimator="kde-upper")
            more = {"standing": "upper"} if of_input else {"warnings": (*common.warnings, "not-a-bound")}
            rows.append(replace(drawn, **more))
        return rows


def _warnings(bounds: KDEBounds, r: int, n: int) -> list[str]:
    raised = {
        "self-weight": float(bounds.self_weight[r]) > 0.2,
        "at-ceiling": float(bounds.lower[r]) >= 0.99 * math.log(n),  # and so is the upper bound, which is no less
    }
    return [code for code, yes in raised.items() if yes]


def _bounds(
    where: str, points: Tensor, noise_variance: float | Tensor, classes: Classes | None, chunk: int | None
) -> KDEBounds:
    replicas, n, _ = points.shape
    variance = torch.as_tensor(noise_variance, dtype=torch.float64)
    if variance.shape not in ((), (1,), (replicas,)) or not bool(((variance > 0) & variance.isfinite()).all()):
        raise InfoplaneError(
            f"{where}: noise_variance={noise_variance!r}; expected a finite number above 0, or {replicas} of them."
        )
    check_chunk(where, chunk)
    label_entropy = None if classes is None else classes.entropy()
    rows = []
    for r, s2 in enumerate(variance.expand(replicas).tolist()):
        t, unit = points[r], 2 * math.sqrt(s2)
        low, high = ends_of(t)
        if not (high - low) / unit < 1e70:
            raise InfoplaneError(f"{where}: values / sqrt(noise_variance) span {2 * (high - low) / unit:.3g}.")
        total, own = kernel_sums(t, unit, None if classes is None else classes.ids[r], chunk)
        # by NumPy: torch takes the logarithm of few numbers on several threads, which then spin
        # (`ends_of`)
        of_all, of_class = total.cpu().numpy(), own.cpu().numpy()
        row = [*np.log(n / of_all).mean(1)[::-1], (1 / of_all[1]).mean()]  # bounds exactly 0 where all points are one
        if label_entropy is not None:
            # upper - sum_y p(y) lower_y = mean_i ln(own wide / all narrow) + H(Y), and the other
            # way round
            h = float(label_entropy[r])
            pair = np.log(of_class / of_all[::-1]).mean(1) + h
            row += [*pair.clip(0.0, h), np.log(of_class[1] / of_all[1]).mean() + h]
        rows.append(row)
    upper, lower, self_weight, *of_label = torch.tensor(np.array(rows).T, device=points.device)
    label_upper, label_lower, label_difference = of_label if of_label else (None, None, None)
    return KDEBounds(upper, lower, label_upper, label_lower, label_difference, label_entropy, self_weight)
