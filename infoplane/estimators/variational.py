"""Neural bounds on the information between what is sent and what is received: InfoNCE, NWJ and SMILE."""

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

#: The critic: units of its two hidden layers, and numbers of an embedding.
HIDDEN, EMBEDDED = 64, 32
#: AdamW's step size, and its weight decay for the critic: half of a few thousand pairs is soon
#: learnt by heart.
LEARNING_RATE, DECAY = 3e-3, 1.0
#: Exponents end here, where SMILE does not clip them.
LARGEST_EXPONENT = 700.0
#: Columns of scores worked on at a time.
CHUNK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class VariationalBound:
    """Nats; float64 tensors of shape (), or (R,) for R replicas.

    value, stderr: on the pairs of the test part, which had no share in choosing the critic.
    fitted: the value of the same critic on the pairs it was trained on, which bounds nothing.
    improved: what the last tenth of the steps added to the objective on the validation part.
    heaviest: the share of the largest 1 % of the terms exp s(u, v) in their sum; None for InfoNCE.
    log_k: what the value cannot exceed: ln K for InfoNCE, ln n for NWJ, inf for SMILE where it clips.
    n: pairs in the test part that were used.
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
        return is_settled(self.improved)


@over_replicas("u", "v")
def infonce(
    u: Tensor, v: Tensor, *, batch: int = 256, steps: int = 500, seed: int | Sequence[int] = 0
) -> VariationalBound:
    """A lower bound on I(U;V) from N pairs, at most ln K; nats.

        mean_i ln [exp s(u_i, v_i) / mean_j exp s(u_j, v_i)],    j over the batch of K pairs that i is in, i included.

    The critic s(u, v) = g(u) . h(v) + a(u) + b(v), two networks of two hidden layers, is trained on half of the pairs
    chosen at random; an eighth says which of its states to keep, and the last three eighths, m pairs in batches of K,
    give the value. A tanh keeps s within ln m + 1 of 0, so that few pairs far out cannot upset the mean.

    Which law it bounds. Let v_i depend on u_i alone, through a channel. For a fixed critic and fixed u_1 ... u_K the
    expectation is at most I(i; v_i), the information of the channel with its input uniform over the K of them, which is
    concave in the law of the input. So it is at most I(U;V) whenever each u_i, not necessarily independent of the
    others, has the law of U: for U uniform over the N points themselves, of which a batch is a sample without
    replacement, and for the population that they are drawn from. That needs the negatives to be u, not v.

    u, v: (N, D) and (N, E), or (R, N, D) and (R, N, E) for R replicas; N of at least 32. Sent and received.
    batch: K; where the test part is smaller, its size. steps: of AdamW.
    seed: of everything that is drawn; replica r has seed + r, or seed[r].

    The standard error is of the test part, for the critic that was kept, by the infinitesimal jackknife: the sd of
    L_i - sum_j exp s(u_i, v_j) / sum_k exp s(u_k, v_j) over sqrt(m), L_i the i-th term.

    Raises InfoplaneError for other shapes or types, values that are not finite, and too few pairs.

    van den Oord, Li & Vinyals, arXiv:1807.03748; Poole et al., On variational bounds of mutual information, ICML 2019.
    """
    return _of_tensors("infonce", _INFONCE, u, v, batch, steps, seed)


@over_replicas("u", "v")
def nwj(u: Tensor, v: Tensor, *, batch: int = 256, steps: int = 500, seed: int | Sequence[int] = 0) -> VariationalBound:
    """A lower bound on I(U;V) from N pairs; nats. Arguments and critic are those of `infonce`.

        1 + mean_i s(u_i, v_i) - mean_ij exp s(u_i, v_j),    i and j over the m pairs of the test part

    (s is the literature's f less 1). i = j is in the mean, so it is the expectation over the product of the two
    marginals for U uniform over the m points, and the value is a bound for that law; I is concave in the law of the
    input, so its expectation is a bound for the N points and for their population. Leaving i = j out, as is often done,
    gives values without end where the points are the population. No value exceeds ln m.

    The standard error is Hajek's: sd of s(u_i, v_i) - mean_j exp s(u_i, v_j) - mean_j exp s(u_j, v_i) over sqrt(m).

    Nguyen, Wainwright & Jordan, IEEE Trans. Inf. Theory 56 (2010) 5847; Poole et al., ICML 2019.
    """
    return _of_tensors("nwj", _NWJ, u, v, batch, steps, seed)


@over_replicas("u", "v")
def smile(
    u: Tensor, v: Tensor, *, tau: float = 5.0, batch: int = 256, steps: int = 500, seed: int | Sequence[int] = 0
) -> VariationalBound:
    """An estimate of I(U;V) from N pairs, no bound; nats. Arguments and critic are those of `infonce`.

        mean_i s(u_i, v_i) - ln mean_ij clip(exp s(u_i, v_j), exp -tau, exp tau),    over the test part, i = j included.

    The critic is trained on the Jensen-Shannon bound. tau = inf is the value of MINE. It is no bound: clipping makes
    the second mean too small, and the log of a mean over samples is too small in expectation.

    Song & Ermon, Understanding the limitations of variational mutual information estimators, ICLR 2020;
    Belghazi et al., Mutual information neural estimation, ICML 2018.
    """
    _check_tau("smile", tau)
    return _of_tensors("smile", _smile(tau), u, v, batch, steps, seed)


@dataclass(frozen=True)
class _NeuralBound(Estimator):
    """What `InfoNCE`, `NWJ` and `SMILE` share: the options, and all of the measurement but the objective."""

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"
    batch: int = 256
    steps: int = 500
    points: int = 4096

    #: What the value is with respect to the information.
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
        """For the column `params`: every option that changes the value."""
        of_noise = noise_params(self.noise_variance, self.scale)
        return f"{of_noise},batch={self.batch},steps={self.steps},points={self.points}"

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Measure I(sent; received) of each replica, in nats; `labels` are not looked at."""
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
        # where noise lies below, `sent` is itself one draw a point
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
        raised = {
            "not-a-bound": self.standing == "estimate",
            "at-log-k": float(found.value[r]) > found.log_k - 1,
            "heavy-tail": found.heaviest is not None and float(found.heaviest[r]) > 0.5,
            "untrained": not bool(found.settled[r]),
        }
        return [code for code, yes in raised.items() if yes]


@dataclass(frozen=True)
class InfoNCE(_NeuralBound):
    """`infonce` for the Recorder: I(sent; received) of the layer's own noise, or of Gaussian noise (`pairs.pair`).

    noise_variance, scale: of the Gaussian noise, as of KDE. batch: K. steps: of training, in every layer at every
    snapshot. points: at most so many points of the probe, chosen at random.
    """

    name = "infonce"
    about = About(
        quantity="I(X;T), or of a noisy layer's own channel",
        standing="lower in expectation, with a standard error, through the layer's own noise or Gaussian noise",
        conditions="information well below ln batch, which the value cannot exceed; some thousand points",
        cost="steps batch (D + batch)",
        source="van den Oord et al., arXiv:1807.03748",
    )

    @property
    def _kind(self) -> _Kind:
        return _INFONCE


@dataclass(frozen=True)
class NWJ(_NeuralBound):
    """`nwj` for the Recorder; options as of InfoNCE."""

    name = "nwj"
    about = About(
        quantity="I(X;T), or of a noisy layer's own channel",
        standing="lower in expectation, with a standard error, through the layer's own noise or Gaussian noise",
        conditions="information well below ln(3/8 of the points), which the value cannot exceed; some thousand points",
        cost="steps batch (D + batch) + N^2",
        source="Nguyen, Wainwright & Jordan, IEEE Trans. Inf. Theory 56 (2010)",
    )

    @property
    def _kind(self) -> _Kind:
        return _NWJ


@dataclass(frozen=True)
class SMILE(_NeuralBound):
    """`smile` for the Recorder; options as of InfoNCE, and tau: where exponents are clipped, inf for MINE's value."""

    tau: float = 5.0

    name = "smile"
    standing = "estimate"
    about = About(
        quantity="I(X;T), or of a noisy layer's own channel",
        standing="estimate, through the layer's own noise or Gaussian noise",
        conditions="no bound on either side; some thousand points",
        cost="steps batch (D + batch) + N^2",
        source="Song & Ermon, ICLR 2020",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_tau("SMILE", self.tau)

    @property
    def _kind(self) -> _Kind:
        return _smile(self.tau)

    @property
    def params(self) -> str:
        return f"{super().params},tau={number(self.tau)}"


def _check_training(where: str, batch: int, steps: int) -> None:
    if not is_count(batch, 2):
        raise InfoplaneError(f"{where}: batch={batch!r}; expected a whole number of at least 2.")
    check_steps(where, steps)


def _check_tau(where: str, tau: float) -> None:
    if not (isinstance(tau, int | float) and not isinstance(tau, bool) and tau > 0):
        raise InfoplaneError(f"{where}: tau={tau!r}; expected a number above 0, or inf.")


# The three objectives


class _Kind(NamedTuple):
    """objective: scores (R, K, K) of a batch -> (R,), what training maximises; 0 for scores of 0.
    clip: of exponents, on the test part; None: InfoNCE, which has batches there too.
    log: whether the log of the mean of exponentials is taken.
    """

    objective: Callable[[Tensor], Tensor]
    clip: float | None
    log: bool


def _diagonal(scores: Tensor) -> Tensor:
    return scores.diagonal(dim1=-2, dim2=-1)


def _off_diagonal_mean(values: Tensor) -> Tensor:
    k = values.shape[-1]
    return (values.sum((-2, -1)) - _diagonal(values).sum(-1)) / (k * (k - 1))


def _infonce_objective(scores: Tensor) -> Tensor:
    return (_diagonal(scores) - scores.logsumexp(-2)).mean(-1) + math.log(scores.shape[-1])


def _nwj_objective(scores: Tensor) -> Tensor:
    return 1 + _diagonal(scores).mean(-1) - _off_diagonal_mean(scores.exp())


def _jensen_shannon_objective(scores: Tensor) -> Tensor:
    return 2 * math.log(2) - softplus(-_diagonal(scores)).mean(-1) - _off_diagonal_mean(softplus(scores))


_INFONCE = _Kind(_infonce_objective, clip=None, log=False)
_NWJ = _Kind(_nwj_objective, clip=LARGEST_EXPONENT, log=False)


def _smile(tau: float) -> _Kind:
    return _Kind(_jensen_shannon_objective, clip=min(tau, LARGEST_EXPONENT), log=True)


# Training


def _of_tensors(
    where: str, kind: _Kind, u: Tensor, v: Tensor, batch: int, steps: int, seed: int | Sequence[int]
) -> VariationalBound:
    _check_training(where, batch, steps)
    return _bound(where, kind, u, v, batch, steps, seeds_of(where, seed, len(u)))


def _bound(
    where: str, kind: _Kind, sent: Tensor, received: Tensor, batch: int, steps: int, seeds: Sequence[int]
) -> VariationalBound:
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
        # the rows are in random order: those of one batch with all columns say how heavy the tail
        # is
        terms = critic(theta, tested_u[:, :size], tested_v).flatten(1).double().clamp_(max=kind.clip)
        terms = (terms - terms.amax(1, keepdim=True)).exp_()
        heaviest = terms.topk(math.ceil(0.01 * terms.shape[1])).values.sum(1) / terms.sum(1)
    log_k = math.inf if kind.log and kind.clip < LARGEST_EXPONENT else math.log(m)
    return VariationalBound(value, stderr, fitted, improved, heaviest, log_k, m)


def _over_batches(critic: _Critic, theta: Tensor, u: Tensor, v: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """InfoNCE over disjoint batches, and its standard error."""
    terms, influences = [], []
    for a, b in zip(u.split(size, 1), v.split(size, 1), strict=True):
        scores = critic(theta, a, b).double()
        log_sum = scores.logsumexp(-2)
        terms.append(_diagonal(scores) - log_sum + math.log(size))
        influences.append(terms[-1] - (scores - log_sum.unsqueeze(-2)).exp_().sum(-1))
    return torch.cat(terms, 1).mean(1), standard_error(torch.cat(influences, 1))


def _over_products(kind: _Kind, critic: _Critic, theta: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """NWJ or SMILE with the product of the marginals of these very points, and its standard error."""
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
    """s(u, v) = g(u) . h(v) / sqrt(E) + a(u) + b(v); all weights of a replica are one row of `theta`.

    (g, a) and (h, b) are networks of two hidden layers beside a linear map, which alone does for what is received as it
    was sent with noise on top. h and b are 0 at first, so the first critic is 0 and its value exactly 0.
    """

    def __init__(self, sent: int, received: int, limit: float) -> None:
        self.limit = limit
        out = EMBEDDED + 1
        self._shapes = [
            [(HIDDEN, width), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (out, HIDDEN), (out,), (out, width)]
            for width in (sent, received)
        ]

    def initial(self, streams: Streams) -> Tensor:
        """(R, P)"""
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
        """(R, n, m) scores of (R, n, D) and (R, m, E)."""
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
        w1, b1, w2, b2, w3, b3, straight = weights
        y = silu(affine(silu(affine(x, w1, b1)), w2, b2))
        return affine(y, w3, b3) + x @ straight.mT
