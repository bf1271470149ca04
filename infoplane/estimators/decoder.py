"""A lower bound on I(T;Y): the entropy of the labels less the cross-entropy of a small decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InfoplaneError
from ..records import POINTS, POPULATION, Estimate, Path
from ..streams import Streams, derive
from .fitting import (
    affine,
    batches,
    check_steps,
    fit,
    floored,
    is_settled,
    seeds_of,
    split,
    standard_error,
    standardise,
    take,
    unflatten,
    with_unseen,
)
from .inputs import Classes, is_count, number, over_replicas, read_labels, read_points
from .protocol import About, Estimator, Reading
from .views import per_replica

__all__ = ["Decoder", "DecoderInformation", "decoder_information"]

#: AdamW's step size, and its weight decay where the number is of other points than those of the
#: training.
LEARNING_RATE, DECAY = 1e-2, 0.1
BATCH = 512
#: Noisy draws of every input to train on, and as many others to evaluate on.
DRAWS = 4
#: Rows evaluated at a time.
CHUNK = 2**14


@dataclass(frozen=True, slots=True, eq=False)
class DecoderInformation:
    """Nats; float64 tensors of shape (), or (R,) for R replicas.

    value, stderr: H(Y) - cross-entropy, on the points that were evaluated.
    label_entropy: the H(Y) in it, of the labels that were evaluated.
    fitted: the same on the points of the training.
    improved: what the last tenth of the steps took off the cross-entropy on the validation part (without one, on the
        points of the training).
    n: points evaluated.
    """

    value: Tensor
    stderr: Tensor
    label_entropy: Tensor
    fitted: Tensor
    improved: Tensor
    n: int

    @property
    def settled(self) -> Tensor:
        return is_settled(self.improved)


@over_replicas("t")
def decoder_information(
    t: Tensor,
    labels: Tensor,
    *,
    hidden: int = 32,
    steps: int = 500,
    seed: int | Sequence[int] = 0,
    population: bool = False,
    draws: Tensor | None = None,
) -> DecoderInformation:
    """A lower bound on I(T;Y) from N points; nats.

        mean_i ln [q(y_i|t_i) / p(y_i)],    p the shares of the classes among the very points that are averaged over

    q is softmax regression on the standardised codes beside one hidden layer of ReLU. For any q that the points of the
    mean had no share in, mean ln q is at most -H(Y|T) in expectation; the plug-in entropy of their labels is at most
    H(Y) in expectation (it falls short by about (classes - 1) / 2 n). So the value is a lower bound.

    population=False: q is trained on half of the points chosen at random, an eighth says which of its states to keep,
        and the last three eighths give the value: a lower bound in expectation for the law that the points are drawn
        from, independently. Noisy codes may be given: one draw a point is a sample of T.
    population=True: the N points are all there are. Without `draws` T must be a function of the input; q is trained and
        evaluated on all points, and the value is a lower bound for them whatever q has learnt by heart, with no
        statistical error: H(Y) - CE(q) = I(T;Y) - E KL(p(y|t) || q(y|t)).
    draws: with population=True, for noisy codes, (k, N, D) or (k, R, N, D), k >= 4, independent noisy codes of every
        input; q is trained on the first half of them and evaluated on the second. The standard error is of the noise.

    t: (N, D), or (R, N, D) for R replicas; N of at least 32, unless it is the population. labels: (N,) or (R, N).
    hidden: units of the hidden layer, 0 for softmax regression alone. steps: of AdamW.
    seed: of everything that is drawn; replica r has seed + r, or seed[r].

    Raises InfoplaneError for other shapes or types, values that are not finite, and too few points.

    Barber & Agakov, The IM algorithm, NIPS 2003; Xu et al., A theory of usable information, ICLR 2020.
    """
    where = "decoder_information"
    classes = read_labels(where, labels, t)
    _check_options(where, hidden, steps)
    if draws is not None:
        draws = _read_draws(where, draws, t, population)
    return _information(where, t, classes, hidden, steps, seeds_of(where, seed, len(t)), population, draws)


@dataclass(frozen=True)
class Decoder(Estimator):
    """`decoder_information` for the Recorder: I(T;Y) of the layer as it is, no noise added.

    Where the probe is the whole population, for its points: of noisy codes by fresh draws. Else for the law that the
    probe is drawn from, by points held out.

    hidden: units of the hidden layer, 0 for softmax regression alone. steps: of training, in every layer at every
    snapshot.
    """

    hidden: int = 32
    steps: int = 500

    name = "decoder"
    about = About(
        quantity="I(T;Y)",
        standing="lower; in expectation, with a standard error, where the probe is not the whole population",
        conditions="what a small decoder finds; some thousand points, unless they are the population",
        cost="steps (D + classes) hidden",
        source="Barber & Agakov, NIPS 2003; Xu et al., ICLR 2020",
    )

    def __post_init__(self) -> None:
        _check_options("Decoder", self.hidden, self.steps)

    @property
    def params(self) -> str:
        return f"hidden={number(self.hidden)},steps={number(self.steps)}"

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """One lower bound a replica, in nats; none without labels."""
        where = f"Decoder, layer {reading.layer!r}"
        codes = read_points(where, reading.codes)
        if labels is None:
            return [[] for _ in codes]
        classes = read_labels(where, labels, codes)
        seeds = [derive(self.name, seed, reading.layer) for seed in reading.seed_of]
        draws = None
        path: Path = "sampled" if reading.noisy else ""
        if reading.population and reading.noisy and reading.draw is not None:
            path = "replicates"
            draws = torch.stack([read_points(where, d) for d in reading.draw(2 * DRAWS)])
        whole = reading.population and path != "sampled"
        found = _information(where, codes, classes, self.hidden, self.steps, seeds, whole, draws)
        common = Estimate(
            quantity="I(T;Y)",
            value=math.nan,
            # what is left of a population after half of it is no independent draw
            standing="lower" if whole or not reading.population else "estimate",
            channel="layer as it is" if reading.noise is None else reading.noise.kind,
            estimator=self.name,
            params=self.params,
            path=path,
            n=codes.shape[1],
            law=POINTS if whole else POPULATION,
        )
        raised: list[tuple[str, ...]] = [() if settled else ("untrained",) for settled in found.settled]
        return per_replica(
            common, len(codes), value=found.value, stderr=found.stderr, ceiling=classes.entropy(), warnings=raised
        )


def _check_options(where: str, hidden: int, steps: int) -> None:
    if not is_count(hidden, 0):
        raise InfoplaneError(f"{where}: hidden={hidden!r}; expected a whole number, 0 for softmax regression.")
    check_steps(where, steps)


def _read_draws(where: str, draws: Tensor, t: Tensor, population: bool) -> Tensor:
    """(k, R, N, D), of (k, N, D) too where there is one replica."""
    if not population:
        raise InfoplaneError(f"{where}: draws are given, and population=False; expected population=True with draws.")
    shape = t.shape[1:] if len(t) == 1 and draws.ndim == 3 else t.shape
    if draws.shape[1:] != shape or len(draws) < 4:
        raise InfoplaneError(
            f"{where}: draws are {tuple(draws.shape)}; expected (k, {', '.join(map(str, shape))}), k of at least 4."
        )
    return torch.stack([read_points(where, d) for d in draws])


def _information(
    where: str,
    codes: Tensor,
    classes: Classes,
    hidden: int,
    steps: int,
    seeds: Sequence[int],
    population: bool,
    draws: Tensor | None,
) -> DecoderInformation:
    streams = Streams(seeds, codes.device)
    decay = 0.0 if population else DECAY
    train, check, test = _parts(where, codes, classes, streams, population, draws)
    decoder = _Network(codes.shape[2], hidden, classes.size)
    chosen = batches(streams, train.size, min(BATCH, train.size))

    def gain(theta: Tensor) -> Tensor:
        rows = next(chosen)
        return _log_likelihood(decoder, theta, take(train.codes, rows), train.ids.gather(1, rows)).mean(1)

    def score(theta: Tensor) -> Tensor:
        return _terms(decoder, theta, check).mean(1)

    theta, improved = fit(decoder.initial(streams, train.shares), gain, score, steps, LEARNING_RATE, decay)
    with torch.no_grad():
        exact = (population and draws is None) or classes.size == 1
        terms = _terms(decoder, theta, test) - test.log_shares()
        terms = terms if exact else floored(terms)
        fitted = _terms(decoder, theta, train) - train.log_shares()
    fall = terms.mean(1) + math.log(test.size)  # to the least that a term can be
    if draws is not None:
        by_input = terms.unflatten(1, (-1, codes.shape[1]))
        stderr = (by_input.var(1) / by_input.shape[1]).sum(1).sqrt() / codes.shape[1]
        stderr = with_unseen(stderr, fall, test.size)
    elif exact:
        stderr = torch.zeros_like(improved)
    else:
        stderr = with_unseen(standard_error(terms), fall, test.size)
    return DecoderInformation(terms.mean(1), stderr, -test.log_shares().mean(1), fitted.mean(1), improved, test.size)


class _Labelled(NamedTuple):
    """(R, n, D) standardised codes, (R, n) classes and the shares of the classes, (R, C) float64."""

    codes: Tensor
    ids: Tensor
    shares: Tensor

    @property
    def size(self) -> int:
        return self.ids.shape[1]

    def log_shares(self) -> Tensor:
        """(R, n): ln p of the class of each."""
        return self.shares.gather(1, self.ids).log()


def _labelled(codes: Tensor, train: Tensor, ids: Tensor, classes: int) -> _Labelled:
    counts = torch.zeros(len(ids), classes, dtype=torch.float64, device=ids.device)
    counts.scatter_add_(1, ids, torch.ones(ids.shape, dtype=torch.float64, device=ids.device))
    return _Labelled(standardise(codes, train), ids, counts / ids.shape[1])


def _parts(
    where: str, codes: Tensor, classes: Classes, streams: Streams, population: bool, draws: Tensor | None
) -> tuple[_Labelled, _Labelled, _Labelled]:
    """What is trained on, what chooses among the states of the training, and what gives the number."""
    n = codes.shape[1]
    if draws is not None:
        half = len(draws) // 2
        drawn = [d.transpose(0, 1).flatten(1, 2) for d in (draws[:half], draws[half:])]  # (R, k N, D), draw by draw
        train, test = (_labelled(d, drawn[0], classes.ids.repeat(1, d.shape[1] // n), classes.size) for d in drawn)
        return train, train, test
    if population:
        whole = _labelled(codes, codes, classes.ids, classes.size)
        return whole, whole, whole
    parts = split(where, streams, n, n)
    seen = take(codes, parts.train)
    train, check, test = (
        _labelled(take(codes, rows), seen, classes.ids.gather(1, rows), classes.size) for rows in parts
    )
    return train, check, test


def _terms(decoder: _Network, theta: Tensor, of: _Labelled) -> Tensor:
    """(R, n) float64: ln q(y|t)."""
    parts = zip(of.codes.split(CHUNK, 1), of.ids.split(CHUNK, 1), strict=True)
    return torch.cat([_log_likelihood(decoder, theta, codes, ids) for codes, ids in parts], 1)


def _log_likelihood(decoder: _Network, theta: Tensor, codes: Tensor, ids: Tensor) -> Tensor:
    return decoder(theta, codes).double().log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


class _Network:
    """Logits W t + b + V relu(U t + c); all weights of a replica are one row of `theta`.

    W and V are 0 at first, and b is ln p of the classes in the training: the first decoder knows nothing of t.
    """

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        self._shapes = [(classes, width), (classes,), (hidden, width), (hidden,), (classes, hidden)]

    def initial(self, streams: Streams, shares: Tensor) -> Tensor:
        """(R, P). shares: (R, C), of the classes."""
        straight, _, (hidden, width), _, last = self._shapes
        inner = streams.normal(hidden * width) * math.sqrt(2 / width)
        # a class that is only in the other parts is not held for impossible
        bias = shares.clamp_min(1e-6).log().float()
        zeros = [inner.new_zeros(len(streams), k) for k in (math.prod(straight), hidden, math.prod(last))]
        return torch.cat([zeros[0], bias, inner, zeros[1], zeros[2]], 1)

    def __call__(self, theta: Tensor, t: Tensor) -> Tensor:
        """(R, n, C) of (R, n, D)."""
        straight, bias, inner, inner_bias, last = unflatten(theta, self._shapes)
        return affine(t, straight, bias) + affine(t, inner, inner_bias).relu() @ last.mT
