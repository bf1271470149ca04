"""Bound the information between two variables by a neural critic: InfoNCE, NWJ and SMILE."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from ..errors import InfoplaneError
from ..records import POINTS, POPULATION, Estimate, Standing
from ..streams import Streams, derive
from .fitting import (
    FEWEST,
    affine,
    batches,
    check_steps,
    fit,
    is_settled,
    seeds_of,
    split,
    standard_error,
    standardise,
    take,
    unflatten,
    with_unseen,
)
from .inputs import is_count, number, over_replicas
from .noise import check_noise, noise_params, pair
from .protocol import About, Estimator, Reading
from .views import per_replica

__all__ = ["NWJ", "SMILE", "InfoNCE", "VariationalBound", "infonce", "nwj", "smile"]

#: The units of each of the critic's two hidden layers, and the length of its embedding.
HIDDEN, EMBEDDED = 64, 32
#: The learning rate of AdamW, and its weight decay, which keeps the critic from memorising half of
#: a few thousand pairs.
LEARNING_RATE, DECAY = 3e-3, 1.0
#: The largest exponent where SMILE does not clip.
LARGEST_EXPONENT = 700.0
#: The number of columns of scores to work on at a time.
CHUNK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class VariationalBound:
    """Hold the value of a neural critic, in nats.

    The tensors are float64, of shape () or, for R replicas, (R,).

    Attributes:
        value: The value on the pairs of the test part, which were not used to choose the critic.
        stderr: Its standard error, for the critic that was kept.
        fitted: The value of the same critic on the pairs that it was trained on, which is not a
            bound.
        improved: The increase of the objective on the validation part over the last tenth of the
            steps.
        heaviest: The share of the largest 1 % of the terms exp s(u, v) in their sum; None for
            InfoNCE.
        log_k: The largest possible value: ln K for InfoNCE, ln n for NWJ, and inf for SMILE with
            clipping.
        n: The number of pairs of the test part that were used.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> u = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
        >>> bound = ip.estimators.infonce(u, u, batch=50, steps=10)
        >>> bound.n, round(bound.log_k, 4), bound.heaviest is None
        (150, 3.912, True)
    """

    value: Tensor
    stderr: Tensor
    fitted: Tensor
    improved: Tensor
    heaviest: Tensor | None
    log_k: float
    n: int

    @property
    def settled(self) -> Tensor:
        """Whether the critic had settled after its last step, for each replica."""
        return is_settled(self.improved)


@over_replicas("u", "v")
def infonce(
    u: Tensor, v: Tensor, *, batch: int = 256, steps: int = 500, seed: int | Sequence[int] = 0
) -> VariationalBound:
    """Bound I(U;V) from below with InfoNCE on N pairs; the value is at most ln K.

        mean_i ln [exp s(u_i, v_i) / mean_j exp s(u_j, v_i)]

    Here j runs over the batch of K pairs that i is in, including i. The critic is s(u, v) = g(u) .
    h(v) + a(u) + b(v), made of two networks with two hidden layers. It is trained on a random half
    of the pairs; an eighth chooses among its states; and the remaining three eighths, m pairs in
    batches of K, give the value. A tanh keeps s within ln m + 1 of 0, so that a few pairs far out
    cannot spoil the mean.

    The law that it bounds: let v_i depend on u_i alone, through a channel. For a fixed critic and
    fixed u_1 ... u_K, the expectation is at most I(i; v_i), the information of the channel with its
    input uniform over these K values. This information is concave in the law of the input. The
    expectation is therefore at most I(U;V) whenever each u_i has the law of U, even if they depend
    on each other: for U uniform over the N points, of which a batch is a sample without
    replacement, and for the population that the points are drawn from. This requires the negatives
    to be u, not v.

    The standard error is the infinitesimal jackknife over the test part: the standard deviation of
    L_i - sum_j exp s(u_i, v_j) / sum_k exp s(u_k, v_j), over sqrt(m), with L_i the i-th term.

    Args:
        u: What is sent, (N, D), or (R, N, D) for R replicas; N is at least 32.
        v: What is received, (N, E), or (R, N, E).
        batch: The number of pairs per batch, K; at most the size of the test part.
        steps: The number of steps of AdamW.
        seed: The seed of everything that is drawn. Replica r has seed + r, or seed[r].

    Returns:
        The bound, in nats.

    Raises:
        InfoplaneError: If a tensor has another shape or type, if values are not finite, or if there
            are too few pairs.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> u = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
        >>> v = u + 0.5 * torch.randn(400, 1, generator=torch.Generator().manual_seed(1))
        >>> bound = ip.estimators.infonce(u, v, batch=50, steps=50)
        >>> 0.2 < bound.value.item() < 1.2
        True

    References:
        van den Oord, Li & Vinyals, Representation learning with contrastive predictive coding,
        arXiv:1807.03748, 2018.
        Poole et al., On variational bounds of mutual information, ICML 2019.
    """
    return _of_tensors("infonce", _INFONCE, u, v, batch, steps, seed)


@over_replicas("u", "v")
def nwj(u: Tensor, v: Tensor, *, batch: int = 256, steps: int = 500, seed: int | Sequence[int] = 0) -> VariationalBound:
    """Bound I(U;V) from below with the bound of Nguyen, Wainwright and Jordan on N pairs.

        1 + mean_i s(u_i, v_i) - mean_ij exp s(u_i, v_j)

    Here i and j run over the m pairs of the test part, and s is the f of the literature less 1. The
    critic is as for `infonce`. Because the mean includes i = j, it is the expectation over the
    product of the two marginals for U uniform over the m points, and the value is a bound for that
    law. I is concave in the law of the input, so in expectation the value is a bound for the N
    points and for their population as well. Leaving i = j out, as is often done, gives unbounded
    values where the points are the population. No value exceeds ln m.

    The standard error is Hájek's: the standard deviation of s(u_i, v_i) - mean_j exp s(u_i, v_j) -
    mean_j exp s(u_j, v_i), over sqrt(m).

    Args:
        u: As for `infonce`.
        v: As for `infonce`.
        batch: As for `infonce`.
        steps: As for `infonce`.
        seed: As for `infonce`.

    Returns:
        The bound, in nats.

    Raises:
        InfoplaneError: As for `infonce`.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> u = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
        >>> v = u + 0.5 * torch.randn(400, 1, generator=torch.Generator().manual_seed(1))
        >>> bound = ip.estimators.nwj(u, v, batch=50, steps=50)
        >>> 0.2 < bound.value.item() < 1.2
        True

    References:
        Nguyen, Wainwright & Jordan, Estimating divergence functionals and the likelihood ratio by
        convex risk minimization, IEEE Transactions on Information Theory 56 (2010) 5847.
        Poole et al., On variational bounds of mutual information, ICML 2019.
    """
    return _of_tensors("nwj", _NWJ, u, v, batch, steps, seed)


@over_replicas("u", "v")
def smile(
    u: Tensor, v: Tensor, *, tau: float = 5.0, batch: int = 256, steps: int = 500, seed: int | Sequence[int] = 0
) -> VariationalBound:
    """Estimate I(U;V) with SMILE on N pairs; the value is not a bound.

        mean_i s(u_i, v_i) - ln mean_ij clip(exp s(u_i, v_j), exp -tau, exp tau)

    Here i and j run over the pairs of the test part, including i = j. The critic is as for
    `infonce`, but trained on the Jensen-Shannon bound. tau = inf gives the value of MINE. The value
    is not a bound, because clipping makes the second mean too small, and because the logarithm of a
    sample mean is too small in expectation.

    Args:
        u: As for `infonce`.
        v: As for `infonce`.
        tau: The largest exponent, above which exponents are clipped; inf for none.
        batch: As for `infonce`.
        steps: As for `infonce`.
        seed: As for `infonce`.

    Returns:
        The estimate, in nats.

    Raises:
        InfoplaneError: As for `infonce`.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> u = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
        >>> v = u + 0.5 * torch.randn(400, 1, generator=torch.Generator().manual_seed(1))
        >>> found = ip.estimators.smile(u, v, batch=50, steps=50)
        >>> 0.2 < found.value.item() < 1.5
        True

    References:
        Song & Ermon, Understanding the limitations of variational mutual information estimators,
        ICLR 2020.
        Belghazi et al., Mutual information neural estimation, ICML 2018.
    """
    _check_tau("smile", tau)
    return _of_tensors("smile", _smile(tau), u, v, batch, steps, seed)


@dataclass(frozen=True)
class _NeuralBound(Estimator):
    """Hold the options of `InfoNCE`, `NWJ` and `SMILE`, and measure with their objective."""

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"
    batch: int = 256
    steps: int = 500
    points: int = 4096

    #: The standing of the value.
    standing: ClassVar[Standing] = "lower"

    def __post_init__(self) -> None:
        where = type(self).__name__
        check_noise(where, self.noise_variance, self.scale)
        _check_training(where, self.batch, self.steps)
        if not is_count(self.points, FEWEST):
            raise InfoplaneError(f"{where}: points={self.points!r}; expected a whole number of at least {FEWEST}.")

    @property
    @abstractmethod
    def _kind(self) -> _Kind:
        """The objective."""

    @property
    def params(self) -> str:
        """Every option that changes the value, for the column `params`."""
        of_noise = noise_params(self.noise_variance, self.scale)
        return f"{of_noise},batch={self.batch},steps={self.steps},points={self.points}"

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Measure I(sent; received) of each replica.

        Args:
            reading: The values of the layer.
            labels: Not used.

        Returns:
            A list per replica of its one number, in nats.

        Raises:
            InfoplaneError: As `infonce` does.
        """
        where = f"{type(self).__name__}, layer {reading.layer!r}"
        ends = pair(where, reading, self.noise_variance, self.scale)
        sent, received = ends.sent, ends.received
        seeds = [derive(self.name, seed, reading.layer) for seed in reading.seed_of]
        n = sent.shape[1]
        if self.points < n:
            streams = Streams([derive("points", s) for s in seeds], sent.device)
            some = streams.permutations(n)[:, : self.points]
            sent, received = take(sent, some), take(received, some)
        found = _bound(where, self._kind, sent, received, self.batch, self.steps, seeds)
        # Where noise lies below, `sent` is itself one draw per point.
        whole = reading.population and (reading.noise is None or reading.noise.resend is None)
        common = replace(
            ends.number(self.name, self.params),
            standing=self.standing,
            n=sent.shape[1],
            law=POINTS if whole else POPULATION,
        )
        raised = [(*common.warnings, *self._warnings(found, r)) for r in range(len(sent))]
        return per_replica(common, len(sent), value=found.value, stderr=found.stderr, warnings=raised)

    def _warnings(self, found: VariationalBound, r: int) -> list[str]:
        """List the warnings of one replica."""
        raised = {
            "not-a-bound": self.standing == "estimate",
            "at-log-k": float(found.value[r]) > found.log_k - 1,
            "heavy-tail": found.heaviest is not None and float(found.heaviest[r]) > 0.5,
            "untrained": not bool(found.settled[r]),
        }
        return [code for code, yes in raised.items() if yes]


@dataclass(frozen=True)
class InfoNCE(_NeuralBound):
    """Bound the information of a layer's channel for the Recorder, as `infonce` does.

    The channel is the layer's own noise, or Gaussian noise for layers without noise of their own.

    Args:
        noise_variance: The variance of the Gaussian noise.
        scale: "absolute" or "layer", as for `KDE`.
        batch: The number of pairs per batch, K.
        steps: The number of training steps, in every layer at every snapshot.
        points: The largest number of points used, chosen at random.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 400, 1, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> estimator = ip.estimators.InfoNCE(noise_variance=0.5, batch=50, steps=20)
        >>> [[number]] = estimator.measure(reading, labels=None)
        >>> number.quantity, number.standing, number.channel
        ('I(X;T)', 'lower', 'noise 0.5')

    References:
        van den Oord, Li & Vinyals, Representation learning with contrastive predictive coding,
        arXiv:1807.03748, 2018.
    """

    name = "infonce"
    about = About(
        quantity="It measures I(X;T), or the information of a noisy layer's own channel.",
        standing="The number is a lower bound in expectation, with a standard error, through the layer's own noise or "
        "Gaussian noise.",
        conditions="It needs information well below ln batch, which the value cannot exceed, and a few thousand "
        "points.",
        cost="The time grows with steps batch (D + batch).",
        source="van den Oord, Li & Vinyals, Representation learning with contrastive predictive coding, "
        "arXiv:1807.03748, 2018.",
    )

    @property
    def _kind(self) -> _Kind:
        """The objective of InfoNCE."""
        return _INFONCE


@dataclass(frozen=True)
class NWJ(_NeuralBound):
    """Bound the information of a layer's channel for the Recorder, as `nwj` does.

    The channel is the layer's own noise, or Gaussian noise for layers without noise of their own.

    Args:
        noise_variance: The variance of the Gaussian noise.
        scale: "absolute" or "layer", as for `KDE`.
        batch: The number of pairs per batch.
        steps: The number of training steps, in every layer at every snapshot.
        points: The largest number of points used, chosen at random.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 400, 1, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[number]] = ip.estimators.NWJ(batch=50, steps=20).measure(reading, labels=None)
        >>> number.estimator, number.standing
        ('nwj', 'lower')

    References:
        Nguyen, Wainwright & Jordan, Estimating divergence functionals and the likelihood ratio by
        convex risk minimization, IEEE Transactions on Information Theory 56 (2010) 5847.
    """

    name = "nwj"
    about = About(
        quantity="It measures I(X;T), or the information of a noisy layer's own channel.",
        standing="The number is a lower bound in expectation, with a standard error, through the layer's own noise or "
        "Gaussian noise.",
        conditions="It needs information well below ln(3/8 of the points), which the value cannot exceed, and a few "
        "thousand points.",
        cost="The time grows with steps batch (D + batch) + N^2.",
        source="Nguyen, Wainwright & Jordan, Estimating divergence functionals and the likelihood ratio by convex risk "
        "minimization, IEEE Transactions on Information Theory 56 (2010).",
    )

    @property
    def _kind(self) -> _Kind:
        """The objective of NWJ."""
        return _NWJ


@dataclass(frozen=True)
class SMILE(_NeuralBound):
    """Estimate the information of a layer's channel for the Recorder, as `smile` does.

    The channel is the layer's own noise, or Gaussian noise for layers without noise of their own.

    Args:
        noise_variance: The variance of the Gaussian noise.
        scale: "absolute" or "layer", as for `KDE`.
        batch: The number of pairs per batch.
        steps: The number of training steps, in every layer at every snapshot.
        points: The largest number of points used, chosen at random.
        tau: The largest exponent, above which exponents are clipped; inf for MINE's value.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 400, 1, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[number]] = ip.estimators.SMILE(batch=50, steps=20).measure(reading, labels=None)
        >>> number.standing, "not-a-bound" in number.warnings
        ('estimate', True)

    References:
        Song & Ermon, Understanding the limitations of variational mutual information estimators,
        ICLR 2020.
    """

    tau: float = 5.0

    name = "smile"
    standing = "estimate"
    about = About(
        quantity="It measures I(X;T), or the information of a noisy layer's own channel.",
        standing="The number is an estimate through the layer's own noise or Gaussian noise.",
        conditions="It is not a bound on either side. It needs a few thousand points.",
        cost="The time grows with steps batch (D + batch) + N^2.",
        source="Song & Ermon, Understanding the limitations of variational mutual information estimators, ICLR 2020.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_tau("SMILE", self.tau)

    @property
    def _kind(self) -> _Kind:
        """The objective of SMILE."""
        return _smile(self.tau)

    @property
    def params(self) -> str:
        """Every option that changes the value, for the column `params`."""
        return f"{super().params},tau={number(self.tau)}"


def _check_training(where: str, batch: int, steps: int) -> None:
    """Check the options of the training."""
    if not is_count(batch, 2):
        raise InfoplaneError(f"{where}: batch={batch!r}; expected a whole number of at least 2.")
    check_steps(where, steps)


def _check_tau(where: str, tau: float) -> None:
    """Check the largest exponent of SMILE."""
    if not (isinstance(tau, int | float) and not isinstance(tau, bool) and tau > 0):
        raise InfoplaneError(f"{where}: tau={tau!r}; expected a number above 0, or inf.")


# The three objectives


class _Kind(NamedTuple):
    """Describe one of the three objectives.

    Attributes:
        objective: The function that training maximises: scores (R, K, K) of a batch to nats (R,),
            and 0 for scores of 0.
        clip: The largest exponent on the test part; None for InfoNCE, which uses batches there too.
        log: Whether the logarithm of the mean of exponentials is taken.
    """

    objective: Callable[[Tensor], Tensor]
    clip: float | None
    log: bool


def _diagonal(scores: Tensor) -> Tensor:
    """Return the scores of the pairs themselves."""
    return scores.diagonal(dim1=-2, dim2=-1)


def _off_diagonal_mean(values: Tensor) -> Tensor:
    """Compute the mean over all other pairs."""
    k = values.shape[-1]
    return (values.sum((-2, -1)) - _diagonal(values).sum(-1)) / (k * (k - 1))


def _infonce_objective(scores: Tensor) -> Tensor:
    """Compute InfoNCE of a batch."""
    return (_diagonal(scores) - scores.logsumexp(-2)).mean(-1) + math.log(scores.shape[-1])


def _nwj_objective(scores: Tensor) -> Tensor:
    """Compute NWJ of a batch."""
    return 1 + _diagonal(scores).mean(-1) - _off_diagonal_mean(scores.exp())


def _jensen_shannon_objective(scores: Tensor) -> Tensor:
    """Compute the Jensen-Shannon bound of a batch, on which SMILE is trained."""
    return 2 * math.log(2) - softplus(-_diagonal(scores)).mean(-1) - _off_diagonal_mean(softplus(scores))


_INFONCE = _Kind(_infonce_objective, clip=None, log=False)
_NWJ = _Kind(_nwj_objective, clip=LARGEST_EXPONENT, log=False)


def _smile(tau: float) -> _Kind:
    """Describe the objective of SMILE with this largest exponent."""
    return _Kind(_jensen_shannon_objective, clip=min(tau, LARGEST_EXPONENT), log=True)


# Training


def _of_tensors(
    where: str, kind: _Kind, u: Tensor, v: Tensor, batch: int, steps: int, seed: int | Sequence[int]
) -> VariationalBound:
    """Check the options, and compute the value of tensors."""
    _check_training(where, batch, steps)
    return _bound(where, kind, u, v, batch, steps, seeds_of(where, seed, len(u)))


def _bound(
    where: str, kind: _Kind, sent: Tensor, received: Tensor, batch: int, steps: int, seeds: Sequence[int]
) -> VariationalBound:
    """Train a critic per replica, and compute its value on the test part."""
    streams = Streams(seeds, sent.device)
    parts = split(where, streams, sent.shape[1], batch)
    (trained_u, checked_u, tested_u), (trained_v, checked_v, tested_v) = (
        [standardise(take(points, rows), take(points, parts.train)) for rows in parts] for points in (sent, received)
    )
    n, m = trained_u.shape[1], tested_u.shape[1]
    size, check_size = min(batch, m), min(batch, checked_u.shape[1])
    critic = _Critic(sent.shape[2], received.shape[2], 1 + math.log(m))
    chosen = batches(streams, n, size)

    def gain(theta: Tensor) -> Tensor:
        rows = next(chosen)
        return kind.objective(critic(theta, take(trained_u, rows), take(trained_v, rows)))

    def score(theta: Tensor) -> Tensor:
        pairs = zip(checked_u.split(check_size, 1), checked_v.split(check_size, 1), strict=True)
        return torch.stack([kind.objective(critic(theta, a, b)) for a, b in pairs]).mean(0)

    theta, improved = fit(critic.initial(streams), gain, score, steps, LEARNING_RATE, DECAY)
    with torch.no_grad():
        if kind.clip is None:
            value, stderr = _over_batches(critic, theta, tested_u, tested_v, size)
            fitted, _ = _over_batches(critic, theta, trained_u[:, : n - n % size], trained_v[:, : n - n % size], size)
            stderr = with_unseen(stderr, value + 2 * critic.limit, m)
            return VariationalBound(value, stderr, fitted, improved, None, math.log(size), m)
        value, stderr = _over_products(kind, critic, theta, tested_u, tested_v)
        stderr = with_unseen(stderr, value + 2 * critic.limit, m)
        fitted, _ = _over_products(kind, critic, theta, trained_u, trained_v)
        # The rows are in random order, so one batch of them with all columns shows how heavy the
        # tail is.
        terms = critic(theta, tested_u[:, :size], tested_v).flatten(1).double().clamp_(max=kind.clip)
        terms = (terms - terms.amax(1, keepdim=True)).exp_()
        heaviest = terms.topk(math.ceil(0.01 * terms.shape[1])).values.sum(1) / terms.sum(1)
    log_k = math.inf if kind.log and kind.clip < LARGEST_EXPONENT else math.log(m)
    return VariationalBound(value, stderr, fitted, improved, heaviest, log_k, m)


def _over_batches(critic: _Critic, theta: Tensor, u: Tensor, v: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Compute InfoNCE over disjoint batches, and its standard error."""
    terms, influences = [], []
    for a, b in zip(u.split(size, 1), v.split(size, 1), strict=True):
        scores = critic(theta, a, b).double()
        log_sum = scores.logsumexp(-2)
        terms.append(_diagonal(scores) - log_sum + math.log(size))
        influences.append(terms[-1] - (scores - log_sum.unsqueeze(-2)).exp_().sum(-1))
    return torch.cat(terms, 1).mean(1), standard_error(torch.cat(influences, 1))


def _over_products(kind: _Kind, critic: _Critic, theta: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Compute NWJ or SMILE, and its standard error.

    The second mean is over the product of the marginals of these very points.
    """
    assert kind.clip is not None
    replicas, m, _ = u.shape
    joint = torch.empty(replicas, m, dtype=torch.float64, device=u.device)
    of_sent, of_received = torch.zeros_like(joint), torch.zeros_like(joint)
    for start in range(0, m, CHUNK):
        end = min(start + CHUNK, m)
        scores = critic(theta, u, v[:, start:end]).double()
        joint[:, start:end] = _diagonal(scores[:, start:end])
        terms = scores.clamp_(-kind.clip, kind.clip).exp_()
        of_sent += terms.sum(-1) / m
        of_received[:, start:end] = terms.mean(-2)
    product = of_sent.mean(1)
    if kind.log:
        influences = joint - (of_sent + of_received) / product.unsqueeze(-1)
        return joint.mean(1) - product.log(), standard_error(influences)
    return 1 + joint.mean(1) - product, standard_error(joint - of_sent - of_received)


class _Critic:
    """Compute the scores s(u, v) = g(u) . h(v) / sqrt(E) + a(u) + b(v).

    All weights of a replica are one row of `theta`. (g, a) and (h, b) are networks with two hidden
    layers, beside a linear map, which alone suffices if the output of the channel is its input plus
    noise. h and b start at 0, so the first critic is 0 and its value exactly 0.
    """

    def __init__(self, sent: int, received: int, limit: float) -> None:
        self.limit = limit
        out = EMBEDDED + 1
        self._shapes = [
            [(HIDDEN, width), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (out, HIDDEN), (out,), (out, width)]
            for width in (sent, received)
        ]

    def initial(self, streams: Streams) -> Tensor:
        """Draw the weights at the start, (R, P)."""
        scales = []
        for received, shapes in enumerate(self._shapes):
            for place, shape in enumerate(shapes):
                if len(shape) == 1 or (received and place >= 4):
                    scale = torch.zeros(shape)
                else:
                    scale = torch.full(shape, math.sqrt((1 if place >= 4 else 2) / shape[1]))
                    if place >= 4:
                        scale[-1] = 0.0
                scales.append(scale.flatten())
        every = torch.cat(scales).to(streams.device)
        return streams.normal(len(every)) * every

    def __call__(self, theta: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Compute the scores, (R, n, m), of u (R, n, D) and v (R, m, E)."""
        flat = [shape for shapes in self._shapes for shape in shapes]
        weights = unflatten(theta, flat)
        g, h = self._embed(weights[:7], u), self._embed(weights[7:], v)
        one_u, one_v = torch.ones_like(g[..., :1]), torch.ones_like(h[..., :1])
        left = torch.cat([g[..., :-1] / math.sqrt(EMBEDDED), g[..., -1:], one_u], -1)
        right = torch.cat([h[..., :-1], one_v, h[..., -1:]], -1)
        scores = left @ right.mT
        return self.limit * (scores / self.limit).tanh()

    @staticmethod
    def _embed(weights: Sequence[Tensor], x: Tensor) -> Tensor:
        """Compute the embedding of each point, and its additive score in the last place."""
        w1, b1, w2, b2, w3, b3, straight = weights
        y = silu(affine(silu(affine(x, w1, b1)), w2, b2))
        return affine(y, w3, b3) + x @ straight.mT
