"""Estimate the information that a channel of known Gaussian noise transmits, by drawing from it."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from scipy.special import stdtrit
from torch import Tensor

from ..errors import InfoplaneError
from ..records import POINTS, POPULATION, Estimate, Path
from ..streams import derive
from .inputs import Classes, check_chunk, is_count, over_replicas, read_labels, read_points
from .noise import check_noise, noise_label, noise_params, noise_variances
from .protocol import About, Estimator, Noise, Reading
from .views import PATH_WARNINGS, View, estimates, views

__all__ = ["Mixture", "MixtureInformation", "mixture_information"]

#: The least log-likelihood ratio of a centre to a point's own that counts: a smaller one adds less
#: than exp(-40) = 4e-18 to a sum of at least 1.
LEAST = -40.0
#: The largest exponent, to stay within float32. Under p(z|i), E p(z|j) / p(z|i) <= 1, so exp(80)
#: has a probability of at most exp(-80).
MOST = 80.0
#: The |f|^2 / s^2 above which products in float64 lose more than 1e-6 nats to cancellation, so that
#: differences are used instead.
CANCELLING = 1e9
#: A point is thin if it has fewer neighbours than this within the noise, itself included.
FEW = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class MixtureInformation:
    """Hold Monte Carlo estimates of information, in nats.

    The tensors are float64, of shape () or, for R replicas, (R,).

    Attributes:
        information: I(X;T).
        stderr: Its standard error under the law that was asked for. With population=True, it is the
            error of the Monte Carlo alone, about these N points; otherwise it includes the error
            that the points are a sample.
        interval: Half the width of the 95 % interval, by Student's t.
        label_information: I(T;Y), from the same draws, so that it is at most H(Y); None without
            labels.
        label_stderr: The standard error of I(T;Y); None without labels.
        label_interval: Half the width of the interval of I(T;Y); None without labels.
        label_entropy: H(Y); None without labels.
        thin: The share of points with n_eff < 5, where n_eff,i = sum_j exp(-KL(p(z|i) || p(z|j)))
            includes j = i. If the noise is the same everywhere, n_eff,i = sum_j exp(-|f_i - f_j|^2
            / 2 s2). If the share is above 0, the value is biased down, towards ln N. If it is above
            one half, there is no stderr and no interval (NaN). None with population=True.
        label_thin: The same with j in the class of i: I(T;Y) is then biased up, towards H(Y).
        n: The number of points, N.
        population: Whether the points were taken as the whole population.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.tensor([[0.0], [100.0]])
        >>> found = ip.estimators.mixture_information(t, noise_variance=1.0)
        >>> found.thin, found.n
        (tensor(1., dtype=torch.float64), 2)
    """

    information: Tensor
    stderr: Tensor
    interval: Tensor
    label_information: Tensor | None
    label_stderr: Tensor | None
    label_interval: Tensor | None
    label_entropy: Tensor | None
    thin: Tensor | None
    label_thin: Tensor | None
    n: int
    population: bool


@over_replicas("t")
def mixture_information(
    t: Tensor,
    noise_variance: float | Tensor | None = None,
    labels: Tensor | None = None,
    *,
    std: Tensor | None = None,
    draws: int = 3,
    population: bool = False,
    seed: int | Sequence[int] = 0,
    chunk: int | None = None,
) -> MixtureInformation:
    """Estimate I(X;T) and I(T;Y) of T = f_X + Gaussian noise, by drawing from the mixture.

        z_ik = f_i + std_i xi_ik
        I(X;T) = mean_ik [ln p(z_ik|i) - ln mean_j p(z_ik|j)]
        I(T;Y) = mean_ik [ln mean_{j in class of i} p(z_ik|j) - ln mean_j p(z_ik|j)]

    The means over j include j = i. The estimates are unbiased for X uniform over the N points. For
    a population of which the points are a sample, they are plug-in estimates: I(X;T) is biased down
    and at most ln N, I(T;Y) is biased up, and `thin` shows how badly. To first order, the sampling
    error is the error of the mean over i alone, because the derivative of the functional along the
    mixture is 0.

    Args:
        t: The centres f, (N, D), or (R, N, D) for R replicas.
        noise_variance: The variance of noise that is the same for every point and unit; a number or
            a tensor (R,). Give either `noise_variance` or `std`.
        labels: Classes as integers, (N,) or (R, N).
        std: Standard deviations of at least 0, of a shape that broadcasts to `t`. A unit with std 0
            passes unchanged (such as dropout of a ReLU unit at 0). Points that differ in which
            units these are, or in their values, can be told apart with certainty; between other
            points, the density is the density of their noisy units.
        draws: The number of passes, at least 2. In each pass every point sends one z.
        population: Whether the N points are the whole population, each as often as it occurs.
        seed: The seed of the draws, or one per replica.
        chunk: The number of rows to work on at a time; the memory is about 130 chunk^2 bytes and N
            D numbers. The default is 192, and 2048 on a GPU.

    Returns:
        The estimates, in nats, with standard errors and diagnostics.

    Raises:
        InfoplaneError: If a tensor has another shape or type, if values are not finite, if the
            noise has no variance, or if both or neither of `noise_variance` and `std` are given.

    Example:
        Points that are far apart on the scale of the noise can all be told apart.

        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.tensor([[0.0], [100.0], [200.0], [300.0]])
        >>> found = ip.estimators.mixture_information(t, noise_variance=1.0, population=True)
        >>> round(found.information.item(), 4)
        1.3863

    References:
        Goldfeld et al., Estimating information flow in deep neural networks, ICML 2019 (the SP
        estimator).
    """
    where = "mixture_information"
    if (noise_variance is None) == (std is None):
        raise InfoplaneError(
            f"{where}: got {'neither' if std is None else 'both'} of noise_variance and std; expected one of the two."
        )
    if noise_variance is not None:
        std = _std_of_variance(where, noise_variance, t)
    assert std is not None
    if not is_count(draws, 2):
        raise InfoplaneError(f"{where}: draws={draws!r}; expected an integer of at least 2.")
    check_chunk(where, chunk)
    seeds = [derive("mixture", seed, r) for r in range(len(t))] if isinstance(seed, int) else list(seed)
    if len(seeds) != len(t):
        raise InfoplaneError(f"{where}: {len(seeds)} seeds for {len(t)} replicas; expected one per replica.")
    classes = None if labels is None else read_labels(where, labels, t)
    return _information(where, t, _read_std(where, std, t), classes, draws, population, seeds, chunk)


@dataclass(frozen=True)
class Mixture(Estimator):
    """Estimate the information of a layer for the Recorder, as `mixture_information` does.

    The output of a layer of Gaussian noise, or of dropout with a continuous law, is measured
    through its own noise; any other layer is measured through noise of `noise_variance`.

    Args:
        noise_variance: The variance of the noise, for layers without noise of their own.
        scale: "absolute" or "layer", as for `KDE`.
        draws: The number of passes of the Monte Carlo, at least 2.
        population: Whether the probe holds every possible input, so that the number describes these
            points. With None, the probe says so.
        replicates: The number K >= 2 of fresh draws of the noise below for every input. Also I(Z;X)
            of a noisy layer above another one is then measured; it falls as K grows. With 0, only
            the information between the input and the output of the layer's own channel is measured.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 200, 2, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[number]] = ip.estimators.Mixture(noise_variance=0.5).measure(reading, labels=None)
        >>> number.law, number.value > 5 * number.stderr
        ('population', True)

    References:
        Goldfeld et al., Estimating information flow in deep neural networks, ICML 2019.
    """

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"
    draws: int = 3
    population: bool | None = None
    replicates: int = 0

    name = "mixture"
    about = About(
        quantity="It measures I(X;T) and I(T;Y), and I(Z;X) or I(Z2;Z1) of a layer with Gaussian noise.",
        standing="The numbers are estimates with a standard error.",
        conditions="It needs several points within the noise of each point (few units, or much noise), unless the "
        "probe is the population; otherwise the value is biased down, towards ln N. For Echo noise, whose density is "
        "not known, it is NaN.",
        cost="The time grows with draws N^2 D.",
        source="Goldfeld et al., Estimating information flow in deep neural networks, ICML 2019.",
    )

    def __post_init__(self) -> None:
        check_noise("Mixture", self.noise_variance, self.scale)
        if not is_count(self.draws, 2):
            raise InfoplaneError(f"Mixture: draws={self.draws!r}; expected an integer of at least 2.")
        if self.population not in (None, True, False):
            raise InfoplaneError(f"Mixture: population={self.population!r}; expected True, False or None.")
        if self.replicates != 0 and not is_count(self.replicates, 2):
            raise InfoplaneError(f"Mixture: replicates={self.replicates!r}; expected 0, or an integer of at least 2.")

    @property
    def params(self) -> str:
        """The options that every number depends on, for the column `params`.

        The numbers of layers without noise of their own depend on the noise variance too.
        """
        return f"draws={self.draws}" + (f",population={self.population}".lower() if self.population is not None else "")

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Estimate the information of each replica and, with labels, I(T;Y).

        Centres that are draws of the noise below are a sample, whatever the inputs are; the law is
        then the population's. Above noise, I(X;T) of a layer without noise of its own is measured
        on the mean path.

        Args:
            reading: The values of the layer.
            labels: Classes as integers, (N,) or (R, N), or None.

        Returns:
            A list per replica of its numbers, in nats.

        Raises:
            InfoplaneError: As `mixture_information` does.
        """
        where = f"Mixture, layer {reading.layer!r}"
        if reading.noise is not None:
            return self._of_noise(where, reading, reading.noise, labels)
        common = Estimate(
            quantity="I(X;T)",
            value=math.nan,
            standing="estimate",
            channel=noise_label(self.noise_variance, self.scale),
            estimator=self.name,
            params=f"{noise_params(self.noise_variance, self.scale)},{self.params}",
        )
        return estimates(common, views(where, reading, labels), self._look, _numbers)

    def _look(self, view: View) -> MixtureInformation:
        """Measure one set of codes through the added noise."""
        std = noise_variances(view.points, self.noise_variance, self.scale).sqrt().view(-1, 1, 1)
        population = view.path != "sampled" and self._is_population(view.reading)
        std = std.expand_as(view.points)
        return _information(
            view.where, view.points, std, view.classes, self.draws, population, _seeds(view.reading), None
        )

    def _is_population(self, reading: Reading) -> bool:
        """Whether the points are the whole population."""
        return reading.population if self.population is None else self.population

    def _of_noise(self, where: str, reading: Reading, noise: Noise, labels: Tensor | None) -> list[list[Estimate]]:
        """Measure the information that the layer's own noise transmits."""
        codes = read_points(where, reading.codes)
        classes = None if labels is None else read_labels(where, labels, codes)
        common = Estimate(
            quantity=noise.quantity,
            value=math.nan,
            standing="estimate",
            channel=noise.kind,
            estimator=self.name,
            params=self.params,
            n=codes.shape[1],
            law=POINTS if self._is_population(reading) else POPULATION,
        )
        if noise.std is None:
            return [[replace(common, warnings=("no-density",))] for _ in codes]
        sent = read_points(where, noise.sent)
        std = _read_std(where, noise.std, sent)
        drawn = noise.resend is not None
        path: Path = "sampled" if drawn else ""
        population = self._is_population(reading) and not drawn
        found = _information(where, sent, std, classes, self.draws, population, _seeds(reading), None)
        of_label = replace(common, quantity="I(T;Y)", path=path, warnings=PATH_WARNINGS[path])
        rows = [
            [_of_input(common, found, r), *([] if classes is None else [_of_label(of_label, found, r)])]
            for r in range(len(codes))
        ]
        if noise.resend is not None and self.replicates:
            for row, estimate in zip(rows, self._above_noise(where, common, reading, noise.resend, std), strict=True):
                row.append(estimate)
        return rows

    def _above_noise(
        self, where: str, common: Estimate, reading: Reading, resend: Callable[[int], Tensor], std: Tensor
    ) -> list[Estimate]:
        """Measure I(Z;X) of each replica from K fresh draws of the noise below the layer."""
        params = f"{self.params},replicates={self.replicates}"
        fresh = replace(common, quantity="I(Z;X)", params=params, path="replicates")
        if not bool((std == std[:, :1]).all()):  # the std at fresh centres is not known
            return [replace(fresh, warnings=("no-density",))] * len(std)
        centres = read_points(where, resend(self.replicates).transpose(0, 1).flatten(1, 2))
        return _replicated(where, fresh, centres, std[:, :1], _seeds(reading))


def _seeds(reading: Reading) -> list[int]:
    """Derive a seed per replica for this layer."""
    return [derive("mixture", seed, reading.layer) for seed in reading.seed_of]


def _numbers(common: Estimate, view: View, found: MixtureInformation, r: int) -> list[Estimate]:
    """Make the number of one quantity in one replica."""
    return [(_of_input if common.quantity == "I(X;T)" else _of_label)(common, found, r)]


def _of_input(common: Estimate, found: MixtureInformation, r: int) -> Estimate:
    """Make the number of I(X;T) in one replica."""
    return replace(
        common,
        value=float(found.information[r]),
        stderr=float(found.stderr[r]),
        law=POINTS if found.population else POPULATION,
        ceiling=math.log(found.n) if found.population else math.nan,
        warnings=(*_warnings(found.thin, r), *common.warnings),
    )


def _of_label(common: Estimate, found: MixtureInformation, r: int) -> Estimate:
    """Make the number of I(T;Y) in one replica."""
    assert found.label_information is not None
    assert found.label_stderr is not None
    assert found.label_entropy is not None
    return replace(
        common,
        value=float(found.label_information[r]),
        stderr=float(found.label_stderr[r]),
        law=POINTS if found.population else POPULATION,
        ceiling=float(found.label_entropy[r]),
        warnings=(*_warnings(found.label_thin, r), *common.warnings),
    )


def _warnings(thin: Tensor | None, r: int) -> tuple[str, ...]:
    """List the warnings of one replica."""
    share = 0.0 if thin is None else float(thin[r])
    return ("empty-mixture",) if share > 0.5 else ("thin-mixture",) if share > 0.01 else ()


def _information(
    where: str,
    points: Tensor,
    std: Tensor,
    classes: Classes | None,
    draws: int,
    population: bool,
    seeds: Sequence[int],
    chunk: int | None,
) -> MixtureInformation:
    """Compute the estimates of each replica, from centres and standard deviations (R, N, D)."""
    n = points.shape[1]
    columns: list[list[Tensor]] = []
    for r, seed in enumerate(seeds):
        centres = _sorted_centres(where, points[r], std[r], None if classes is None else classes.ids[r], chunk)
        generator = torch.Generator(points.device).manual_seed(seed)
        sums = torch.stack([_sums(centres, _noise(points[r], generator)) for _ in range(draws)])
        ids = centres.ids
        near = None if population else _sums(centres, None)
        values = [math.log(n) - sums[:, 0].log()]
        if classes is not None:
            # This is ln mean_{j in class} - ln mean_j. Because own <= all, its mean is at most
            # H(Y).
            values.append((sums[:, 1] / sums[:, 0]).log() + (n / torch.bincount(ids)[ids].to(torch.float64)).log())
        column = []
        for side, of in enumerate(values):
            mean, stderr, interval = _mean(of, population)
            thin = torch.zeros_like(mean)
            if near is not None:
                thin = (near[side] < FEW).to(torch.float64).mean()
                if thin > 0.5:
                    stderr = interval = torch.full_like(mean, math.nan)
            column += [mean, stderr, interval, thin]
        columns.append(column)
    rows = [torch.stack(of) for of in zip(*columns, strict=True)]
    own = rows[4:] if classes is not None else [None] * 4
    return MixtureInformation(
        information=rows[0],
        stderr=rows[1],
        interval=rows[2],
        label_information=own[0],
        label_stderr=own[1],
        label_interval=own[2],
        label_entropy=None if classes is None else classes.entropy(),
        thin=None if population else rows[3],
        label_thin=None if population else own[3],
        n=n,
        population=population,
    )


def _replicated(where: str, common: Estimate, points: Tensor, std: Tensor, seeds: Sequence[int]) -> list[Estimate]:
    """Estimate I(Z;X) = h(Z) - h(Z|X), where p(z|x) is the mixture around the K centres of x.

    Information is convex in the channel, so replacing p(z|x) by a mixture of few centres makes it
    too large on average (K = 1 gives I(Z;Z_below)). The standard error is taken over inputs under
    either law, because the draws of an input share their centres.

    Args:
        where: The name that a message bears.
        common: The fields that the numbers share.
        points: The centres, (R, K N, D), K draws of all N inputs one after the other.
        std: The standard deviations, (R, 1, D).
        seeds: The seed of each replica.

    Returns:
        One number per replica.
    """
    n, k = common.n, points.shape[1] // common.n
    ids = torch.arange(n, device=points.device).repeat(k)
    estimates = []
    for r, seed in enumerate(seeds):
        centres = _sorted_centres(where, points[r], std[r].expand_as(points[r]), ids, None)
        generator = torch.Generator(points.device).manual_seed(derive("replicates", seed))
        total, own = _sums(centres, _noise(points[r], generator))
        mean, stderr, _ = _mean((n * own / total).log().view(k, n), False)
        warnings: tuple[str, ...] = ()
        if common.law == POPULATION:
            total, own = _sums(centres, None)
            thin = (total / own < FEW).to(torch.float64).mean()[None]
            warnings = _warnings(thin, 0)
        estimates.append(
            replace(
                common,
                value=float(mean),
                stderr=math.nan if "empty-mixture" in warnings else float(stderr),
                ceiling=math.log(n) if common.law == POINTS else math.nan,
                warnings=(*warnings, "replicate-bias"),
            )
        )
    return estimates


def _mean(values: Tensor, population: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean of values (draws, N), its standard error, and half of its 95 % interval.

    Every draw uses all N points. For these points, therefore, only the spread within a point
    counts, pooled over the points. (The spread of the passes' means estimates the same variance,
    but with draws - 1 degrees of freedom instead of N (draws - 1).) For the population, the spread
    of the points' means counts, which includes the Monte Carlo error.
    """
    draws, n = values.shape
    mean = values.mean()
    if population:
        freedom, variance = n * (draws - 1), values.var(0).mean() / (n * draws)
    elif n == 1:
        return mean, mean * math.nan, mean * math.nan
    else:
        freedom, variance = n - 1, values.mean(0).var() / n
    stderr = variance.sqrt()
    return mean, stderr, stderr * float(stdtrit(freedom, 0.975))


def _std_of_variance(where: str, noise_variance: float | Tensor, points: Tensor) -> Tensor:
    """Check the variance, and return its root as (R, 1, 1) or (1, 1, 1) float64."""
    variance = torch.as_tensor(noise_variance, dtype=torch.float64, device=points.device).detach()
    if variance.shape not in ((), (1,), (len(points),)) or not bool(((variance > 0) & variance.isfinite()).all()):
        raise InfoplaneError(
            f"{where}: noise_variance={noise_variance!r}; expected a finite number above 0, or one per replica ({len(points)})."
        )
    return variance.sqrt().view(-1, 1, 1)


def _read_std(where: str, std: Tensor, points: Tensor) -> Tensor:
    """Check standard deviations, and return them as (R, N, D) float64."""
    if not isinstance(std, Tensor) or not std.is_floating_point() or std.device != points.device:
        got = f"a tensor of {std.dtype} on {std.device}" if isinstance(std, Tensor) else f"a {type(std).__name__}"
        raise InfoplaneError(f"{where}: std is {got}; expected a tensor of floating-point numbers on {points.device}.")
    try:
        std = std.detach().to(torch.float64).expand_as(points)
    except RuntimeError as error:
        raise InfoplaneError(
            f"{where}: std has shape {tuple(std.shape)}; expected one that broadcasts to {tuple(points.shape)}."
        ) from error
    if not bool(((std >= 0) & std.isfinite()).all()):
        raise InfoplaneError(
            f"{where}: std has values that are NaN, infinite or below 0; expected finite values of at least 0."
        )
    return std


def _noise(points: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal float64 numbers in the shape of the points."""
    return torch.randn(points.shape, dtype=torch.float64, device=points.device, generator=generator)


class _Centres(NamedTuple):
    """Hold the centres of one replica in units of their noise.

    They are sorted so that centres out of reach of each other are apart.

    Attributes:
        f: The centres, (N, D) float64.
        std: Their standard deviations, (N, D) float64.
        shared: Whether `std` is 1 throughout.
        ids: The classes, (N,), in the order of the input.
        order: The rows of the input that these are, (N,).
        axis: The axis on which the places lie, (D,); None where the places are numbers of groups.
        place: The place of each centre, ascending. The distributions of centres in different groups
            share no reference measure.
        chunk: The number of rows to work on at a time.
    """

    f: Tensor
    std: Tensor
    shared: bool
    ids: Tensor
    order: Tensor
    axis: Tensor | None
    place: Tensor
    chunk: int


def _sorted_centres(where: str, f: Tensor, std: Tensor, ids: Tensor | None, chunk: int | None) -> _Centres:
    """Put the centres in units of their noise, and sort them."""
    f = f.to(torch.float64)
    if ids is None:
        ids = torch.zeros(len(f), dtype=torch.int64, device=f.device)
    if chunk is None:
        chunk = 192 if f.device.type == "cpu" else 2048
    noisy = std > 0
    shared = bool(noisy.all()) and bool((std == std[:1]).all())
    axis = None
    if shared:
        x = (f - f.mean(0)) / std
        _check_range(where, x)
        std = torch.ones_like(x)
        axis = _longest_axis(x)
        place = x @ axis
    else:
        if bool(noisy.all()):
            place = torch.zeros_like(f[:, 0])
        else:
            silent = torch.where(noisy, 0.0, f) + 0.0  # -0.0 is 0.0
            place = torch.cat([noisy.to(torch.float64), silent], 1).unique(dim=0, return_inverse=True)[1].double()
        # The volume of a unit cancels within a group.
        unit = std[noisy].amin() if bool(noisy.any()) else 1.0
        precision = torch.where(noisy, (unit / std).square(), 0.0)
        # The mean weighted with the precision minimises sum_j (f_j - c)^2 / std_j^2.
        centre = (f * precision).sum(0) / precision.sum(0).clamp_min(1e-300)
        x = torch.where(noisy, f - centre, 0.0) / unit
        std = std / unit
        _check_range(where, x)
        _check_range(where, std)
    order = place.argsort(stable=True)
    return _Centres(x[order], std[order], shared, ids, order, axis, place[order], chunk)


def _check_range(where: str, x: Tensor) -> None:
    """Check that the values are not too large in units of the noise."""
    most = float(x.abs().amax())
    if not most < 1e70:
        raise InfoplaneError(
            f"{where}: values reach {most:.3g} times the least standard deviation of the noise; expected less than "
            "1e70 times: choose a larger noise."
        )


def _longest_axis(x: Tensor) -> Tensor:
    """Approximate the first principal axis, (D,), by a few steps of the power method.

    Any unit vector would give the right sums; this one makes them fast.
    """
    axis: Tensor = x[x.square().sum(1).argmax()]
    axis = axis / axis.norm().clamp_min(1e-300)
    for _ in range(4):
        axis = x.T @ (x @ axis)
        axis = axis / axis.norm().clamp_min(1e-300)
    return axis


def _sums(centres: _Centres, xi: Tensor | None) -> Tensor:
    """Sum p(z_i|j) / p(z_i|i), with z_i = f_i + std_i xi_i, over all j and over the class of i.

    A ratio is exp(a_i - b_j - sum_d (z_id - f_jd)^2 / 2 std_jd^2). The KL divergence is the mean of
    the exponent, in which the mean of (z - f)^2 is (f_i - f_j)^2 + std_i^2. Products are in
    float64, as in `kde_bounds`; the exponentials dominate the time.

    Args:
        centres: The centres of one replica.
        xi: Standard normal noise, (N, D) float64. With None, the sums are those of exp(-KL(p(z|i)
            || p(z|j))).

    Returns:
        The sums, (2, N), in the order of the input.
    """
    sent = _sent(centres, xi)
    f, chunk, place = centres.f, centres.chunk, centres.place
    n = len(f)
    direct = float((f.square() * sent.precision).sum(1).amax()) > CANCELLING
    rows, columns = _factors(centres, sent)
    low, high = place, place
    if centres.axis is not None:
        # The ratio is at most exp(|xi|^2 / 2 - (distance on the axis)^2 / 2).
        reach = (sent.square.sum(1) * (xi is not None) - 2 * LEAST).sqrt()
        low, high = sent.z @ centres.axis - reach, sent.z @ centres.axis + reach
    # The numbers of groups and classes are float32, so that a comparison gives factors of 0 and 1
    # directly.
    group, of_class = place.float(), centres.ids[centres.order].float()
    groups = centres.axis is None and bool(place[0] < place[-1])
    classes = bool((of_class != of_class[0]).any())

    sums = f.new_zeros(2, n)
    largest = min(chunk, n) * min(8 * chunk, n)
    exponents = f.new_empty(largest)
    kernels = f.new_empty(2 * largest, dtype=torch.float32)
    for i0, i1, j0, j1 in _blocks(place.tolist(), low.tolist(), high.tolist(), chunk):
        shape = i1 - i0, j1 - j0
        size = shape[0] * shape[1]
        exponent = exponents[:size].view(shape)
        kernel, same = kernels[: 2 * size].view(2, *shape)
        if direct:
            _exponents_by_differences(f, sent, slice(i0, i1), slice(j0, j1), exponent)
        else:
            torch.mm(rows[i0:i1], columns[:, j0:j1], out=exponent)
        kernel.copy_(exponent).clamp_(-MOST, MOST).exp_()
        if max(i0, j0) < min(i1, j1):
            kernel.diagonal(i0 - j0).fill_(0.0)
        if groups:
            kernel.mul_(torch.eq(group[i0:i1, None], group[None, j0:j1], out=same))
        # At most 8 chunk float32 numbers are added here, pairwise by torch; whole rows add up in
        # float64.
        sums[0, i0:i1] += kernel.sum(1)
        if classes:
            torch.eq(of_class[i0:i1, None], of_class[None, j0:j1], out=same)
            sums[1, i0:i1] += kernel.mul_(same).sum(1)
    if not classes:
        sums[1] = sums[0]
    sums += 1.0  # the point itself
    out = torch.empty_like(sums)
    out[:, centres.order] = sums
    return out


class _Sent(NamedTuple):
    """Hold one draw from every centre, in the order of the centres.

    For the KL divergences it holds no draw, but the means that they need.

    Attributes:
        z: The codes f + moved, (N, D).
        moved: The noise, (N, D).
        square: The xi^2 of noisy units, (N, D).
        spread: The addition to (z - f)^2, (N, D).
        precision: 1 / std^2 of noisy units, (N, D).
        own: -ln p(z_i|i) without constants, (N, 1).
        volume: The sum of the ln std, (N, 1).
    """

    z: Tensor
    moved: Tensor
    square: Tensor
    spread: Tensor
    precision: Tensor
    own: Tensor
    volume: Tensor


def _sent(centres: _Centres, xi: Tensor | None) -> _Sent:
    """Draw from every centre with the noise xi, or prepare the KL divergences."""
    f, std = centres.f, centres.std
    noisy = std > 0
    precision = torch.where(noisy, std.square().reciprocal(), 0.0)
    volume = torch.where(noisy, std, 1.0).log().sum(1, keepdim=True)
    if xi is None:
        moved, square = torch.zeros_like(f), noisy.to(torch.float64)
        spread = std.square()
    else:
        moved = std * xi[centres.order]
        square = torch.where(noisy, xi[centres.order].square(), 0.0)
        spread = torch.zeros_like(std)
    own = volume + 0.5 * square.sum(1, keepdim=True)
    return _Sent(f + moved, moved, square, spread, precision, own, volume)


def _factors(centres: _Centres, sent: _Sent) -> tuple[Tensor, Tensor]:
    """Make rows (N, M) and columns (M, N) whose product is the exponents."""
    f, precision, own = centres.f, sent.precision, sent.own
    second = sent.z.square() + sent.spread
    of_centre = -0.5 * (f.square() * precision).sum(1, keepdim=True) - sent.volume
    one = torch.ones_like(own)
    if centres.shared:
        left, right = [sent.z, own - 0.5 * second.sum(1, keepdim=True), one], [f, one, of_centre]
    else:
        left, right = [second, sent.z, own, one], [-0.5 * precision, f * precision, one, of_centre]
    return torch.cat(left, 1), torch.cat(right, 1).T.contiguous()


def _exponents_by_differences(f: Tensor, sent: _Sent, i: slice, j: slice, out: Tensor) -> None:
    """Write the exponents of a block to `out`, computed from differences of coordinates.

    The change that the noise makes may be too small for f to hold.
    """
    torch.sub(sent.own[i], sent.volume[j].T, out=out)
    for d in range(f.shape[1]):
        away = (f[i, d, None] - f[None, j, d] + sent.moved[i, d, None]).square_()
        out.addcmul_(away.add_(sent.spread[i, d, None]), sent.precision[None, j, d], value=-0.5)


def _blocks(place: list[float], low: list[float], high: list[float], chunk: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield blocks (i0, i1, j0, j1) that hold every pair with low_i <= place_j <= high_i.

    The places ascend.
    """
    for i0 in range(0, len(place), chunk):
        i1 = min(i0 + chunk, len(place))
        start = bisect.bisect_left(place, min(low[i0:i1]))
        end = bisect.bisect_right(place, max(high[i0:i1]))
        for j0 in range(start, end, 8 * chunk):
            yield i0, i1, j0, min(j0 + 8 * chunk, end)
