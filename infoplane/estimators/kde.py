"""Bound the information of a layer through Gaussian noise, as Kolchinsky and Tracey do."""

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
    """Hold bounds on the information of a layer, in nats.

    The tensors are float64, of shape () or, for R replicas, (R,).

    Attributes:
        upper: The upper bound on I(X;T), for X uniform over the N points.
        lower: The lower bound on I(X;T).
        label_upper: The upper bound on I(T;Y), clipped to [0, H(Y)]; None without labels.
        label_lower: The lower bound on I(T;Y), clipped to [0, H(Y)]; None without labels.
        label_difference: upper - sum_y p(y) upper_y, which is often published as I(T;Y) but is not
            a bound; None without labels.
        label_entropy: H(Y); None without labels.
        self_weight: The mean of 1 / sum_j exp(-|t_i - t_j|^2 / 2 s2), the weight that a point has
            in its own kernel sum.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> bounds = ip.estimators.kde_bounds(torch.tensor([[0.0], [100.0]]), noise_variance=1.0)
        >>> bounds.self_weight, bounds.label_upper is None
        (tensor(1., dtype=torch.float64), True)
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
    """Bound I(X;T) and I(T;Y) for T = t_X + N(0, s2 I), with X uniform over the N points.

        upper = -mean_i ln mean_j exp(-|t_i - t_j|^2 / 2 s2)
        lower = -mean_i ln mean_j exp(-|t_i - t_j|^2 / 8 s2)

    The means include j = i. Both bound the entropy of a mixture of N Gaussians. The same
    expressions over the points of class y bound H(T|Y=y), so I(T;Y) lies in [lower - sum_y p(y)
    upper_y, upper - sum_y p(y) lower_y]. (The value that is often plotted, upper - sum_y p(y)
    upper_y, is not a lower bound.) They are not bounds for a population of which the points are a
    sample.

    On a CPU, if `chunk` is not given and there are fewer than 48 units, loops compiled by numba do
    the work, in memory that is linear in N.

    Args:
        t: The layer, (N, D), or (R, N, D) for R replicas.
        noise_variance: s2, a number or a tensor (R,).
        labels: Classes as integers, (N,) or (R, N).
        chunk: The number of rows to work on at a time; the memory is about 128 chunk^2 bytes. The
            default is 192 to 1024, and 2048 on a GPU.

    Returns:
        The bounds, in nats.

    Raises:
        InfoplaneError: If a tensor has another shape or type, if values are not finite, or if s2 is
            not above 0.

    Example:
        Points that are far apart on the scale of the noise can all be told apart.

        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.tensor([[0.0], [100.0], [200.0], [300.0]])
        >>> bounds = ip.estimators.kde_bounds(t, noise_variance=1.0)
        >>> round(bounds.lower.item(), 4), round(bounds.upper.item(), 4)
        (1.3863, 1.3863)

    References:
        Kolchinsky & Tracey, Estimating mixture entropy with pairwise distances, Entropy 19 (2017)
        361.
        Kolchinsky, Tracey & Wolpert, Nonlinear information bottleneck, Entropy 21 (2019) 1181.
    """
    where = "kde_bounds"
    classes = None if labels is None else read_labels(where, labels, t)
    return _bounds(where, t, noise_variance, classes, chunk)


@dataclass(frozen=True)
class KDE(Estimator):
    """Bound the information of a layer for the Recorder, as `kde_bounds` does.

    Args:
        noise_variance: The variance s2 of the noise. Saxe et al. used 1e-3 for the 12-bit task and
            0.1 for MNIST.
        scale: "absolute", or "layer": s2 is then noise_variance times the mean square of the
            layer's centred values, for each replica at each snapshot.
        published: Whether to add the information plane as Saxe et al. and others after them draw
            it, under the name `kde-upper`: the upper bound on I(X;T), and for I(T;Y) the difference
            of upper bounds, which is not a bound.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 200, 2, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[upper, lower]] = ip.estimators.KDE(noise_variance=0.1).measure(reading, labels=None)
        >>> (upper.side, lower.side), lower.value < upper.value < upper.ceiling
        (('upper', 'lower'), True)

    References:
        Kolchinsky & Tracey, Estimating mixture entropy with pairwise distances, Entropy 19 (2017)
        361.
        Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018.
    """

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"
    published: bool = False

    name = "kde"
    about = About(
        quantity="It measures I(X;T) and I(T;Y).",
        standing="The numbers are upper and lower bounds for these N points through Gaussian noise.",
        conditions="noise_variance should be near the squared distance of neighbours. Below it both bounds are ln N, "
        "so scale it with the layer (scale=layer) where D is large. The numbers are not bounds for a population. "
        "published=true adds kde-upper, the information plane as it is usually published.",
        cost="The time grows with N^2 D.",
        source="Kolchinsky & Tracey, Estimating mixture entropy with pairwise distances, Entropy 19 (2017).",
    )

    def __post_init__(self) -> None:
        check_noise("KDE", self.noise_variance, self.scale)

    @property
    def channel(self) -> str:
        """The noise, for the column `channel`."""
        return noise_label(self.noise_variance, self.scale)

    @property
    def params(self) -> str:
        """The options of the noise, for the column `params`."""
        return noise_params(self.noise_variance, self.scale)

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Bound I(X;T) and, with labels, I(T;Y) of each replica.

        With `published`, the published numbers are added. At or above noise, I(X;T) is bounded on
        the mean path. I(T;Y) is then bounded only for the mixture around one noisy draw per point,
        so its bounds are estimates for the layer.

        Args:
            reading: The values of the layer.
            labels: Classes as integers, (N,) or (R, N), or None.

        Returns:
            A list per replica of its numbers, in nats.

        Raises:
            InfoplaneError: As `kde_bounds` does.
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
        """Bound one set of codes."""
        variance = noise_variances(view.points, self.noise_variance, self.scale)
        return _bounds(view.where, view.points, variance, view.classes, None)

    def _numbers(self, common: Estimate, view: View, bounds: KDEBounds, r: int) -> list[Estimate]:
        """Make the bracket of one quantity in one replica, and its published number."""
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
        # A bound for the mixture around one draw of the noise is only an estimate for the layer.
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
    """List the warnings of one replica."""
    raised = {
        "self-weight": float(bounds.self_weight[r]) > 0.2,
        "at-ceiling": float(bounds.lower[r]) >= 0.99 * math.log(n),  # the upper bound is then at ln N as well
    }
    return [code for code, yes in raised.items() if yes]


def _bounds(
    where: str, points: Tensor, noise_variance: float | Tensor, classes: Classes | None, chunk: int | None
) -> KDEBounds:
    """Compute the bounds of points (R, N, D)."""
    replicas, n, _ = points.shape
    variance = torch.as_tensor(noise_variance, dtype=torch.float64)
    if variance.shape not in ((), (1,), (replicas,)) or not bool(((variance > 0) & variance.isfinite()).all()):
        raise InfoplaneError(
            f"{where}: noise_variance={noise_variance!r}; expected a finite number above 0, or one per replica ({replicas})."
        )
    check_chunk(where, chunk)
    label_entropy = None if classes is None else classes.entropy()
    rows = []
    for r, s2 in enumerate(variance.expand(replicas).tolist()):
        t, unit = points[r], 2 * math.sqrt(s2)
        low, high = ends_of(t)
        if not (high - low) / unit < 1e70:
            raise InfoplaneError(
                f"{where}: values / sqrt(noise_variance) span {2 * (high - low) / unit:.3g}; expected less than 2e70: "
                "choose a larger noise_variance."
            )
        total, own = kernel_sums(t, unit, None if classes is None else classes.ids[r], chunk)
        # NumPy takes the logarithms, because torch does so on several threads, which then keep
        # spinning (`ends_of`).
        of_all, of_class = total.cpu().numpy(), own.cpu().numpy()
        # Written like this, the bounds are exactly 0 where all points are equal.
        row = [*np.log(n / of_all).mean(1)[::-1], (1 / of_all[1]).mean()]
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
