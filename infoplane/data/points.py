"""The points of a data set, and how they are divided. Needs torch."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..records import InfoplaneError
from ..streams import derive
from ..theory.linear import LinearTask

__all__ = ["Points", "label_entropy", "split", "stratified"]


@dataclass(frozen=True)
class Points:
    """The points of a data set, as they are loaded.

    x: (N, ...) float32. y: (N,) int64 classes 0 ... classes - 1; or (N, O) float32 targets of a regression, and
    classes is 0. test: (N,) bool, which are test points, where the data set says so. law: of a regression whose law is
    known. enumerated: these are all the inputs there are, and each is as likely: not a sample of anything.
    chances: (N,) float64, p(y=1|x), where labels are a matter of chance: a run draws those of each replica from its
    seed (`drawn`), and y is the draw of seed 0.
    """

    x: Tensor
    y: Tensor
    classes: int
    test: Tensor | None = None
    law: LinearTask | None = None
    enumerated: bool = False
    chances: Tensor | None = None

    def drawn(self, seed: int) -> Tensor:
        """The labels of a replica of that seed: y, or a draw from `chances`, (N,) int64."""
        if self.chances is None:
            return self.y
        generator = torch.Generator().manual_seed(derive("labels", seed))
        return (torch.rand(len(self.chances), generator=generator, dtype=torch.float64) < self.chances).long()

    @property
    def fingerprint(self) -> str:
        """Of the numbers, in order: the same for the same data on any machine."""
        digest = hashlib.blake2b(digest_size=16)
        for t in (self.x, self.y):
            digest.update(str((tuple(t.shape), str(t.dtype))).encode())
            digest.update(t.contiguous().numpy().data)
        return digest.hexdigest()


def split(n: int, fraction: float, generator: torch.Generator, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Divide the points 0 ... n-1 at random into (train, test), both int64, in the order drawn.

    fraction: the share that goes to train, 0 < fraction <= 1, of all points, or, with `labels` (n,), of the points of
        each class, so that both parts have the classes in the proportions of the whole. Counts are rounded to the
        nearest, so the train part of a split by class may be off by half a point a class.

    One permutation is drawn from `generator` either way. Raises InfoplaneError where there is nothing to train on.
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
    """`count` of the points with these labels (n,), at random, the classes in the proportions of the whole: (count,).

    Each class gets its share rounded down, and those with the largest remainders one more, so the sum is exact. Raises
    InfoplaneError for more points than there are, and for fewer than one a class.
    """
    n = len(labels)
    classes, sizes = torch.unique(labels.cpu(), return_counts=True)
    if not len(classes) <= count <= n:
        raise InfoplaneError(
            f"A subset of {count} points was asked for; expected {len(classes)} (one a class) to {n} (all there are)."
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
    """H(Y) of the labels y (N,), any integers, in nats: the plug-in entropy, exact where the N points are the law."""
    if y.numel() == 0:
        raise InfoplaneError("There are no labels: H(Y) needs at least one.")
    p = torch.unique(y, return_counts=True)[1].double() / y.numel()
    return float(-(p * p.log()).sum()) + 0.0  # never -0.0
