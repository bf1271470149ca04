"""Bound I(T;Y) from below: the entropy of the labels less the cross-entropy of a small decoder."""

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

#: The learning rate of AdamW, and its weight decay where the points that are evaluated are not
#: those of the training.
LEARNING_RATE, DECAY = 1e-2, 0.1
BATCH = 512
#: The number of noisy draws of every input to train on. As many others are evaluated.
DRAWS = 4
#: The number of rows evaluated at a time.
CHUNK = 2**14


@dataclass(frozen=True, slots=True, eq=False)
class DecoderInformation:
    """Hold a lower bound on I(T;Y), in nats.

    The tensors are float64, of shape () or, for R replicas, (R,).

    Attributes:
        value: H(Y) - cross-entropy, on the points that were evaluated.
        stderr: The standard error of the value.
        label_entropy: The H(Y) in it, of the labels that were evaluated.
        fitted: The same value on the points that the decoder was trained on.
        improved: The reduction of the cross-entropy on the validation part (or, without one, on the
            training points) over the last tenth of the steps.
        n: The number of points evaluated.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
        >>> found = ip.estimators.decoder_information(t, (t[:, 0] > 0).long(), hidden=0, steps=50)
        >>> found.n, bool(found.value < found.label_entropy)
        (150, True)
    """

    value: Tensor
    stderr: Tensor
    label_entropy: Tensor
    fitted: Tensor
    improved: Tensor
    n: int

    @property
    def settled(self) -> Tensor:
        """Whether the decoder had settled after its last step, for each replica."""
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
    """Bound I(T;Y) from below with a decoder that is trained on N points.

        mean_i ln [q(y_i|t_i) / p(y_i)]

    Here p are the shares of the classes among the points of this mean.

    The decoder q is the sum of a softmax regression on the standardised codes and one hidden layer
    of ReLU units. For any q that was chosen without the points of the mean, the expectation of mean
    ln q is at most -H(Y|T). The plug-in entropy of their labels is at most H(Y) in expectation (it
    falls short by about (classes - 1) / 2 n). The value is therefore a lower bound.

    With population=False, q is trained on a random half of the points, an eighth chooses among its
    states, and the remaining three eighths give the value. In expectation the value is a lower
    bound for the law that the points are drawn from independently. The codes may be noisy: one draw
    per point is a sample of T.

    With population=True, the N points are the whole population. Without `draws`, T must be a
    function of the input; q is then trained and evaluated on all points. The value is a lower bound
    for these points even if q has memorised them, without statistical error, because H(Y) - CE(q) =
    I(T;Y) - E KL(p(y|t) || q(y|t)).

    Args:
        t: The layer, (N, D), or (R, N, D) for R replicas. N is at least 32, unless the points are
            the population.
        labels: Classes as integers, (N,) or (R, N).
        hidden: The number of units of the hidden layer; 0 for softmax regression alone.
        steps: The number of steps of AdamW.
        seed: The seed of everything that is drawn. Replica r has seed + r, or seed[r].
        population: Whether the points are the whole population.
        draws: With population=True and noisy codes, k >= 4 independent noisy codes of every input,
            (k, N, D) or (k, R, N, D). The decoder is trained on the first half of them and
            evaluated on the second, and the standard error describes the noise.

    Returns:
        The bound, in nats.

    Raises:
        InfoplaneError: If a tensor has another shape or type, if values are not finite, or if there
            are too few points.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> t = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
        >>> found = ip.estimators.decoder_information(t, (t[:, 0] > 0).long(), steps=50)
        >>> bool(0.3 < found.value < found.label_entropy)
        True

    References:
        Barber & Agakov, The IM algorithm: a variational approach to information maximization, NIPS
        2003.
        Xu et al., A theory of usable information under computational constraints, ICLR 2020.
    """
    where = "decoder_information"
    classes = read_labels(where, labels, t)
    _check_options(where, hidden, steps)
    if draws is not None:
        draws = _read_draws(where, draws, t, population)
    return _information(where, t, classes, hidden, steps, seeds_of(where, seed, len(t)), population, draws)


@dataclass(frozen=True)
class Decoder(Estimator):
    """Bound I(T;Y) of a layer for the Recorder, as `decoder_information` does.

    No noise is added to the layer. If the probe is the whole population, the bound holds for its
    points; noisy codes are then measured on fresh draws. Otherwise it holds for the law that the
    probe is drawn from, and uses held-out points.

    Args:
        hidden: The number of units of the hidden layer; 0 for softmax regression alone.
        steps: The number of training steps, in every layer at every snapshot.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 400, 2, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> decoder = ip.estimators.Decoder(hidden=0, steps=50)
        >>> [[number]] = decoder.measure(reading, labels=(codes[0, :, 0] > 0).long())
        >>> number.standing, number.value < number.ceiling
        ('lower', True)

    References:
        Barber & Agakov, The IM algorithm: a variational approach to information maximization, NIPS
        2003.
        Xu et al., A theory of usable information under computational constraints, ICLR 2020.
    """

    hidden: int = 32
    steps: int = 500

    name = "decoder"
    about = About(
        quantity="It measures I(T;Y).",
        standing="The number is a lower bound. Where the probe is not the whole population, it is one in expectation "
        "and has a standard error.",
        conditions="It finds as much information as a small decoder can use. It needs a few thousand points, unless "
        "they are the population.",
        cost="The time grows with steps (D + classes) hidden.",
        source="Barber & Agakov, The IM algorithm, NIPS 2003. Xu et al., A theory of usable information under "
        "computational constraints, ICLR 2020.",
    )

    def __post_init__(self) -> None:
        _check_options("Decoder", self.hidden, self.steps)

    @property
    def params(self) -> str:
        """Every option that changes the value, for the column `params`."""
        return f"hidden={number(self.hidden)},steps={number(self.steps)}"

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Bound I(T;Y) of each replica from below.

        Args:
            reading: The values of the layer.
            labels: Classes as integers, (N,) or (R, N), or None.

        Returns:
            A list per replica of its one bound, in nats; without labels the lists are empty.

        Raises:
            InfoplaneError: As `decoder_information` does.
        """
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
            # The rest of a population, after half of it was used, is not an independent draw.
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
    """Check the options of the decoder."""
    if not is_count(hidden, 0):
        raise InfoplaneError(
            f"{where}: hidden={hidden!r}; expected a whole number of at least 0 (0: softmax regression)."
        )
    check_steps(where, steps)


def _read_draws(where: str, draws: Tensor, t: Tensor, population: bool) -> Tensor:
    """Check draws, and give them the replica axis: (k, R, N, D)."""
    if not population:
        raise InfoplaneError(f"{where}: draws are given, but population=False; expected population=True with draws.")
    shape = t.shape[1:] if len(t) == 1 and draws.ndim == 3 else t.shape
    if draws.shape[1:] != shape or len(draws) < 4:
        raise InfoplaneError(
            f"{where}: draws have shape {tuple(draws.shape)}; expected (k, {', '.join(map(str, shape))}), k at least 4."
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
    """Train and evaluate the decoder of each replica."""
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
    fall = terms.mean(1) + math.log(test.size)  # the distance to the least possible term
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
    """Hold one part of the points.

    Attributes:
        codes: The standardised codes, (R, n, D).
        ids: The class of each point, (R, n).
        shares: The shares of the classes, (R, C) float64.
    """

    codes: Tensor
    ids: Tensor
    shares: Tensor

    @property
    def size(self) -> int:
        """The number of points, n."""
        return self.ids.shape[1]

    def log_shares(self) -> Tensor:
        """Compute ln p of the class of each point, (R, n)."""
        return self.shares.gather(1, self.ids).log()


def _labelled(codes: Tensor, train: Tensor, ids: Tensor, classes: int) -> _Labelled:
    """Standardise codes by those of `train`, and count the classes."""
    counts = torch.zeros(len(ids), classes, dtype=torch.float64, device=ids.device)
    counts.scatter_add_(1, ids, torch.ones(ids.shape, dtype=torch.float64, device=ids.device))
    return _Labelled(standardise(codes, train), ids, counts / ids.shape[1])


def _parts(
    where: str, codes: Tensor, classes: Classes, streams: Streams, population: bool, draws: Tensor | None
) -> tuple[_Labelled, _Labelled, _Labelled]:
    """Choose the parts to train on, to choose among the states with, and to evaluate on."""
    n = codes.shape[1]
    if draws is not None:
        half = len(draws) // 2
        drawn = [d.transpose(0, 1).flatten(1, 2) for d in (draws[:half], draws[half:])]  # (R, k N, D)
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
    """Compute ln q(y|t) of each point, (R, n) float64, some rows at a time."""
    parts = zip(of.codes.split(CHUNK, 1), of.ids.split(CHUNK, 1), strict=True)
    return torch.cat([_log_likelihood(decoder, theta, codes, ids) for codes, ids in parts], 1)


def _log_likelihood(decoder: _Network, theta: Tensor, codes: Tensor, ids: Tensor) -> Tensor:
    """Compute ln q(y|t) of each point, (R, n) float64."""
    return decoder(theta, codes).double().log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


class _Network:
    """Compute the logits W t + b + V relu(U t + c) of R decoders.

    All weights of a replica are one row of `theta`. W and V start at 0, and b at ln p of the
    classes in the training, so that the first decoder does not depend on t.
    """

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        self._shapes = [(classes, width), (classes,), (hidden, width), (hidden,), (classes, hidden)]

    def initial(self, streams: Streams, shares: Tensor) -> Tensor:
        """Draw the weights at the start, (R, P), given the shares of the classes, (R, C)."""
        straight, _, (hidden, width), _, last = self._shapes
        inner = streams.normal(hidden * width) * math.sqrt(2 / width)
        # A class that occurs only in the other parts must not be considered impossible.
        bias = shares.clamp_min(1e-6).log().float()
        zeros = [inner.new_zeros(len(streams), k) for k in (math.prod(straight), hidden, math.prod(last))]
        return torch.cat([zeros[0], bias, inner, zeros[1], zeros[2]], 1)

    def __call__(self, theta: Tensor, t: Tensor) -> Tensor:
        """Compute the logits, (R, n, C), of codes (R, n, D)."""
        straight, bias, inner, inner_bias, last = unflatten(theta, self._shapes)
        return affine(t, straight, bias) + affine(t, inner, inner_bias).relu() @ last.mT
