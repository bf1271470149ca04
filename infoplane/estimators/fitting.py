"""The training kit of the fitted estimators: parts of the points, AdamW on replicas side by side, standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InfoplaneError
from ..streams import Streams, derive
from .inputs import is_count

__all__ = [
    "FEWEST",
    "Parts",
    "affine",
    "batches",
    "check_steps",
    "fit",
    "floored",
    "is_settled",
    "seeds_of",
    "split",
    "standard_error",
    "standardise",
    "take",
    "unflatten",
    "with_unseen",
]

#: What is scored and kept is a running mean of the weights over 1 / (1 - MEMORY) steps.
MEMORY = 0.98
#: Half of the 3 of the rule of three: an event that n points do not show has a probability below 3 / n, at 95 %.
UNSEEN = 1.5
#: How often the validation part is looked at.
CHECKS = 20
#: The fewest points that can be divided.
FEWEST = 32
#: Standardised values end here, so that a unit that is all but constant in the training half stays finite.
FARTHEST = 50.0
#: A fit has settled where the last tenth of the steps improved its score by no more nats than this.
SETTLED = 0.02


class Parts(NamedTuple):
    """(R, n) rows to train on, to choose among the states of the training, and to give the number."""

    train: Tensor
    check: Tensor
    test: Tensor


def split(where: str, streams: Streams, n: int, batch: int) -> Parts:
    """A half, an eighth and three eighths at random; the last two whole batches where they hold one, a validation part
    of more than four batches four."""
    if n < FEWEST:
        raise InfoplaneError(f"{where}: {n} points; expected at least {FEWEST}, to train on and to hold out.")
    test, check = (k - k % min(batch, k) for k in (3 * n // 8, min(n // 8, 4 * batch)))
    order = streams.permutations(n)
    return Parts(order[:, test + check :], order[:, test : test + check], order[:, :test])


def batches(streams: Streams, n: int, size: int) -> Iterator[Tensor]:
    """(R, size) rows of n without end; each once before any comes again, but for the last n % size of a round."""
    while True:
        order = streams.permutations(n)
        for start in range(0, n - size + 1, size):
            yield order[:, start : start + size]


def take(points: Tensor, rows: Tensor) -> Tensor:
    """(R, n, D): those rows of each replica."""
    return points.gather(1, rows.unsqueeze(-1).expand(-1, -1, points.shape[-1]))


def standardise(points: Tensor, train: Tensor) -> Tensor:
    """float32, by the means and deviations of the points `train`; a unit that is constant there is only shifted."""
    like = train.double()
    mean, std = like.mean(1, keepdim=True), like.std(1, keepdim=True)
    return ((points.double() - mean) / torch.where(std > 0, std, 1.0)).clamp_(-FARTHEST, FARTHEST).float()


def unflatten(theta: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    parts = theta.split([math.prod(shape) for shape in shapes], 1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)


def fit(
    theta: Tensor,
    gain: Callable[[Tensor], Tensor],
    score: Callable[[Tensor], Tensor],
    steps: int,
    rate: float,
    decay: float,
) -> tuple[Tensor, Tensor]:
    """The weights (R, P) with the highest `score` on the way up `gain`, the first ones among them, for each replica by
    itself; and by how much the last tenth of the steps raised that score, (R,) float64.

    gain, score: (R, P) weights -> (R,) nats. rate, decay: of AdamW.
    """
    theta = theta.detach().clone().requires_grad_()
    average = theta.detach().clone()
    optimiser = torch.optim.AdamW([theta], lr=rate, weight_decay=decay, foreach=False, fused=False)
    with torch.no_grad():
        best, highest = average.clone(), score(average)
    earlier = highest
    for step in range(1, steps + 1):
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(-gain(theta).sum(), theta)
        theta.grad = gradient
        optimiser.step()
        average.lerp_(theta.detach(), 1 - min(MEMORY, step / (step + 9)))
        if step % max(1, steps // CHECKS) == 0 or step == steps:
            with torch.no_grad():
                now = score(average)
            better = now > highest  # never for NaN
            best, highest = torch.where(better.unsqueeze(-1), average, best), torch.where(better, now, highest)
        if step <= 0.9 * steps:
            earlier = highest
    return best, (highest - earlier).double()


def standard_error(influences: Tensor) -> Tensor:
    """(R,): of the mean of (R, n), as far as these show it."""
    return influences.std(1) / math.sqrt(influences.shape[1])


def floored(gain: Tensor) -> Tensor:
    """(..., n): the terms ln q(y|t) - ln p(y), q mixed with a share 1/n of p, so that no class is held for impossible;
    each is then at least -ln n."""
    n = gain.shape[-1]
    return torch.logaddexp(gain + math.log1p(-1 / n), gain.new_tensor(-math.log(n)))


def with_unseen(stderr: Tensor, fall: Tensor, n: int) -> Tensor:
    """(R,): the standard error of a mean of n terms, of which one that was not seen may lie lower by `fall`, (R,).

    n points that show no such event leave it a probability of 3 / n, at 95 %: without this, near-deterministic labels
    whose rare exceptions happen not to be among the points read above the truth by many standard errors.
    """
    return torch.hypot(stderr, UNSEEN * fall / n)


def seeds_of(where: str, seed: int | Sequence[int], replicas: int) -> list[int]:
    seeds = [seed + r for r in range(replicas)] if isinstance(seed, int) else list(seed)
    if len(seeds) != replicas:
        raise InfoplaneError(
            f"{where}: {len(seeds)} seeds; expected one number, or one for each of {replicas} replicas."
        )
    return [derive(where, s) for s in seeds]


def check_steps(where: str, steps: int) -> None:
    """Raise InfoplaneError where `steps` is no number of steps of training."""
    if not is_count(steps):
        raise InfoplaneError(f"{where}: steps={steps!r}; expected a whole number of at least 1.")


def is_settled(improved: Tensor) -> Tensor:
    """Whether the last tenth of the steps hardly changed the score, of each replica; never where that is NaN."""
    return improved <= SETTLED
