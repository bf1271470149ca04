"""The points of a data set, and how they are divided. Importing this module loads torch."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InfoplaneError
from ..streams import derive
from ..theory.linear import LinearTask

__all__ = ["Points", "label_entropy", "split", "stratified"]


@dataclass(frozen=True)
class Points:
    """The points of a data set, as they are loaded.

    Args:
        x: Inputs, (N, ...) float32.
        y: Classes from 0, (N,) int64; or targets of a regression, (N, O) float32.
        classes: The number of classes; 0 for a regression.
        test: Which points are test points, (N,) bool, if the data set says so.
        law: The law of a regression, if it is known.
        enumerated: Whether these are all inputs, each as likely as the others, and not a sample.
        chances: p(y=1|x), (N,) float64, if labels are drawn at random. A run then draws the labels
            of each replica from its seed (see `drawn`), and y is the draw of seed 0.
    """

    x: Tensor
    y: Tensor
    classes: int
    test: Tensor | None = None
    law: LinearTask | None = None
    enumerated: bool = False
    chances: Tensor | None = None

    def drawn(self, seed: int) -> Tensor:
        """Return the labels of a replica with that seed, (N,) int64: y, or a draw."""
        if self.chances is None:
            return self.y
        generator = torch.Generator().manual_seed(derive("labels", seed))
        return (torch.rand(len(self.chances), generator=generator, dtype=torch.float64) < self.chances).long()

    @property
    def fingerprint(self) -> str:
        """A digest of the numbers in their order, the same on any machine."""
        digest = hashlib.blake2b(digest_size=16)
        for t in (self.x, self.y):
            digest.update(str((tuple(t.shape), str(t.dtype))).encode())
            digest.update(t.contiguous().numpy().data)
        return digest.hexdigest()


def split(n: int, fraction: float, generator: torch.Generator, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Divide the points 0 ... n-1 at random into training and test points.

    One permutation is drawn from `generator`, with labels or without.

    Args:
        n: The number of points.
        fraction: The share of the training points, 0 < fraction <= 1.
        generator: The source of the permutation.
        labels: Classes, (n,). With them the share is that of each class, so that both parts have
            the classes in the proportions of the whole. Counts are rounded to the nearest, so that
            the training part may be off by half a point per class.

    Returns:
        The training points and the test points, both int64, in the order drawn.

    Raises:
        InfoplaneError: If there is nothing to train on.
    """
    if n < 1 or not 0.0 < fraction <= 1.0:
        raise InfoplaneError(f"Cannot split {n} points at {fraction}: expected points, and a fraction in (0, 1].")
    if labels is not None and labels.shape != (n,):
        raise InfoplaneError(f"Cannot split {n} points by labels of shape {tuple(labels.shape)}: expected ({n},).")
    order = torch.randperm(n, generator=generator)
    drawn = torch.zeros(n, dtype=torch.int64) if labels is None else labels.cpu()[order]
    train = torch.zeros(n, dtype=torch.bool)
    for members in (drawn == each for each in torch.unique(drawn)):
        count = math.floor(fraction * int(members.sum()) + 0.5)
        train |= members & (members.cumsum(0) <= count)
    if not train.any():
        raise InfoplaneError(f"Nothing to train on: {fraction} of {n} points is less than one. Use a larger fraction.")
    return order[train], order[~train]


def stratified(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` points at random, with the classes in the proportions of the whole.

    Each class gets its share rounded down, and those with the largest remainders get one more, so
    that the sum is exact.

    Args:
        labels: Classes of the points, (n,).
        count: The number of points to draw.
        generator: The source of the permutation.

    Returns:
        The points drawn, (count,) int64.

    Raises:
        InfoplaneError: If there are fewer points than that, or fewer than one per class are asked
            for.
    """
    n = len(labels)
    classes, sizes = torch.unique(labels.cpu(), return_counts=True)
    if not len(classes) <= count <= n:
        raise InfoplaneError(
            f"A subset of {count} points was asked for; expected {len(classes)} (one per class) to {n} (all points)."
        )
    shares = sizes.double() * count / n
    # a rare class keeps one point, which the largest class gives
    counts = shares.floor().long().clamp(min=1)
    for at in (shares - counts).argsort(descending=True, stable=True)[: max(count - int(counts.sum()), 0)].tolist():
        counts[at] += 1
    while int(counts.sum()) > count:
        counts[int(counts.argmax())] -= 1
    order = torch.randperm(n, generator=generator)
    drawn = labels.cpu()[order]
    chosen = torch.zeros(n, dtype=torch.bool)
    for each, many in zip(classes, counts, strict=True):
        members = drawn == each
        chosen |= members & (members.cumsum(0) <= many)
    return order[chosen]


def label_entropy(y: Tensor) -> float:
    """Return the plug-in entropy H(Y) of labels in nats; exact if they are the population.

    Args:
        y: Integers, (N,).

    Raises:
        InfoplaneError: If there are no labels.

    Example:
        >>> round(label_entropy(torch.tensor([0, 1, 1, 0])), 4)
        0.6931
    """
    if y.numel() == 0:
        raise InfoplaneError("There are no labels: H(Y) needs at least one.")
    p = torch.unique(y, return_counts=True)[1].double() / y.numel()
    return float(-(p * p.log()).sum()) + 0.0  # never -0.0
