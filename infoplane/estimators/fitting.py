"""Provide the training kit of the fitted estimators.

It divides the points, runs AdamW on replicas side by side, and computes standard errors.
"""

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

#: The weights that are scored and kept are a running mean over 1 / (1 - MEMORY) steps.
MEMORY = 0.98
#: Half of the 3 in the rule of three: an event that n points do not show has a probability below 3
#: / n with 95 % confidence.
UNSEEN = 1.5
#: The number of times that the validation part is scored.
CHECKS = 20
#: The fewest points that can be divided.
FEWEST = 32
#: The largest standardised value, so that a unit that is nearly constant in the training half stays
#: finite.
FARTHEST = 50.0
#: A fit has settled if the last tenth of the steps improved its score by at most this, in nats.
SETTLED = 0.02


class Parts(NamedTuple):
    """Hold the rows of each part of the points, (R, n).

    Attributes:
        train: The rows to train on.
        check: The rows that choose among the states of the training.
        test: The rows that give the number.
    """

    train: Tensor
    check: Tensor
    test: Tensor


def split(where: str, streams: Streams, n: int, batch: int) -> Parts:
    """Divide n points at random into a half, an eighth and three eighths.

    The last two parts are cut to whole batches where they hold at least one, and the validation
    part to at most four batches.

    Raises:
        InfoplaneError: If there are fewer than 32 points.
    """
    if n < FEWEST:
        raise InfoplaneError(f"{where}: {n} points; expected at least {FEWEST}, some to train on and some to hold out.")
    test, check = (k - k % min(batch, k) for k in (3 * n // 8, min(n // 8, 4 * batch)))
    order = streams.permutations(n)
    return Parts(order[:, test + check :], order[:, test : test + check], order[:, :test])


def batches(streams: Streams, n: int, size: int) -> Iterator[Tensor]:
    """Yield batches of rows without end, (R, size) of n.

    Each row comes once before any row comes again, except for the last n % size rows of a round.
    """
    while True:
        order = streams.permutations(n)
        for start in range(0, n - size + 1, size):
            yield order[:, start : start + size]


def take(points: Tensor, rows: Tensor) -> Tensor:
    """Take these rows of each replica, (R, n, D)."""
    return points.gather(1, rows.unsqueeze(-1).expand(-1, -1, points.shape[-1]))


def standardise(points: Tensor, train: Tensor) -> Tensor:
    """Standardise points by the means and deviations of the points `train`, as float32.

    A unit that is constant in `train` is only shifted.
    """
    like = train.double()
    mean, std = like.mean(1, keepdim=True), like.std(1, keepdim=True)
    return ((points.double() - mean) / torch.where(std > 0, std, 1.0)).clamp_(-FARTHEST, FARTHEST).float()


def unflatten(theta: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Cut the weights of each replica, (R, P), into tensors of these shapes."""
    parts = theta.split([math.prod(shape) for shape in shapes], 1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute W x + b with the weights of each replica."""
    return torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)


def fit(
    theta: Tensor,
    gain: Callable[[Tensor], Tensor],
    score: Callable[[Tensor], Tensor],
    steps: int,
    rate: float,
    decay: float,
) -> tuple[Tensor, Tensor]:
    """Ascend a gain from the weights `theta`, and keep the weights with the highest score.

    Each replica is fitted by itself. Of several weights with the highest score, the first ones are
    kept.

    Args:
        theta: The weights at the start, (R, P).
        gain: The function to maximise: weights (R, P) to nats (R,).
        score: The function that chooses among the states of the training: weights (R, P) to nats
            (R,).
        steps: The number of steps.
        rate: The learning rate of AdamW.
        decay: The weight decay of AdamW.

    Returns:
        The weights, (R, P), and by how much the last tenth of the steps raised the score, (R,)
        float64.
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
    """Compute the standard error of the mean of values (R, n), as far as they show it, (R,)."""
    return influences.std(1) / math.sqrt(influences.shape[1])


def floored(gain: Tensor) -> Tensor:
    """Mix q with a share 1/n of p in the terms ln q(y|t) - ln p(y), (..., n).

    No class is then considered impossible, and each term is at least -ln n.
    """
    n = gain.shape[-1]
    return torch.logaddexp(gain + math.log1p(-1 / n), gain.new_tensor(-math.log(n)))


def with_unseen(stderr: Tensor, fall: Tensor, n: int) -> Tensor:
    """Add the risk of one unseen term to the standard error of a mean of n terms, (R,).

    If n points show no such event, its probability is below 3 / n with 95 % confidence, and the
    event could lower a term by `fall`, (R,). Without this, the bound for near-deterministic labels
    would exceed the truth by many standard errors whenever their rare exceptions are not among the
    points.
    """
    return torch.hypot(stderr, UNSEEN * fall / n)


def seeds_of(where: str, seed: int | Sequence[int], replicas: int) -> list[int]:
    """Derive one seed per replica from a number, or from one number per replica.

    Raises:
        InfoplaneError: If there are not as many seeds as replicas.
    """
    seeds = [seed + r for r in range(replicas)] if isinstance(seed, int) else list(seed)
    if len(seeds) != replicas:
        raise InfoplaneError(f"{where}: {len(seeds)} seeds; expected one number, or one per replica ({replicas}).")
    return [derive(where, s) for s in seeds]


def check_steps(where: str, steps: int) -> None:
    """Check a number of training steps.

    Raises:
        InfoplaneError: If it is not a whole number of at least 1.
    """
    if not is_count(steps):
        raise InfoplaneError(f"{where}: steps={steps!r}; expected a whole number of at least 1.")


def is_settled(improved: Tensor) -> Tensor:
    """Whether the last tenth of the steps hardly changed the score, for each replica.

    A score of NaN never counts as settled.
    """
    return improved <= SETTLED
