"""The points of a data set, and their division. Importing this module loads torch."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InfoplaneError
from ..streams import derive
from ..theory.linear import LinearTask

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64, Int, Int64, Shaped

__all__ = ["Points", "label_entropy", "split", "stratified"]


@dataclass(frozen=True)
class Points:
    """The points of a data set, as they are loaded.

    Args:
        x: Inputs, (N, ...) float32.
        y: Classes from 0, (N,) int64; or targets of a regression, (N, O) float32.
        classes: The number of classes; 0 for a regression.
        test: A mask of the test points, (N,) bool, if the data set is divided.
        law: The law of a regression, if it is known.
        enumerated: Whether these are all inputs, which are equally likely, and not a sample.
        chances: p(y=1|x), (N,) float64, if labels are random. A run then draws the labels of each
            replica from its seed (see `drawn`), and y is the draw of seed 0.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> points = ip.data.Points(torch.zeros(4, 3), torch.tensor([0, 1, 1, 0]), classes=2)
        >>> points.drawn(seed=5).tolist(), len(points.fingerprint)
        ([0, 1, 1, 0], 32)
    """

    x: Float[Tensor, "N ..."]
    y: Shaped[Tensor, "N ..."]
    classes: int
    test: Bool[Tensor, " N"] | None = None
    law: LinearTask | None = None
    enumerated: bool = False
    chances: Float64[Tensor, " N"] | None = None

    def drawn(self, seed: int) -> Shaped[Tensor, "N ..."]:
        """Return the labels of a replica, (N,): y itself, or a draw if labels are random.

        Args:
            seed: The seed of the replica.
        """
        if self.chances is None:
            return self.y
        generator = torch.Generator().manual_seed(derive("labels", seed))
        return (torch.rand(len(self.chances), generator=generator, dtype=torch.float64) < self.chances).long()

    @property
    def fingerprint(self) -> str:
        """A digest of the numbers and their order, which is the same on every machine."""
        digest = hashlib.blake2b(digest_size=16)
        for t in (self.x, self.y):
            digest.update(str((tuple(t.shape), str(t.dtype))).encode())
            digest.update(t.contiguous().numpy().data)
        return digest.hexdigest()


def split(
    n: int, fraction: float, generator: torch.Generator, labels: Int[Tensor, " N"] | None = None
) -> tuple[Int64[Tensor, " train"], Int64[Tensor, " test"]]:
    """Divide the points 0 ... n-1 at random into training and test points.

    One permutation is drawn from `generator`, with or without labels.

    Args:
        n: The number of points.
        fraction: The share of the training points, 0 < fraction <= 1.
        generator: The source of the permutation.
        labels: Classes, (n,). If they are given, each class is divided by this share, so that both
            parts have the classes in the proportions of the whole. Counts are rounded to the
            nearest, so that the training part may be off by half a point per class.

    Returns:
        The training points and the test points, both int64, in the order in which they are drawn.

    Raises:
        InfoplaneError: If no training point is left, or the labels do not fit.

    Example:
        >>> train, test = split(10, 0.8, torch.Generator().manual_seed(0))
        >>> len(train), len(test)
        (8, 2)
    """
    if n < 1 or not 0.0 < fraction <= 1.0:
        raise InfoplaneError(f"Cannot split {n} points at {fraction}; expected points, and a fraction in (0, 1].")
    if labels is not None and labels.shape != (n,):
        raise InfoplaneError(f"Cannot split {n} points by labels of shape {tuple(labels.shape)}; expected ({n},).")
    order = torch.randperm(n, generator=generator)
    drawn = torch.zeros(n, dtype=torch.int64) if labels is None else labels.cpu()[order]
    train = torch.zeros(n, dtype=torch.bool)
    for members in (drawn == each for each in torch.unique(drawn)):
        count = math.floor(fraction * int(members.sum()) + 0.5)
        train |= members & (members.cumsum(0) <= count)
    if not train.any():
        raise InfoplaneError(
            f"There is nothing to train on: {fraction} of {n} points is less than one. Use a larger fraction."
        )
    return order[train], order[~train]


def stratified(labels: Int[Tensor, " N"], count: int, generator: torch.Generator) -> Int64[Tensor, " count"]:
    """Draw `count` points at random, with the classes in the proportions of the whole.

    Each class gets its share rounded down, and the classes with the largest remainders get one more
    point, so that the sum is exact.

    Args:
        labels: Classes of the points, (n,).
        count: The number of points to draw.
        generator: The source of the permutation.

    Returns:
        The drawn points, (count,) int64.

    Raises:
        InfoplaneError: If there are fewer points than `count`, or more classes.

    Example:
        >>> labels = torch.tensor([0] * 90 + [1] * 10)
        >>> drawn = stratified(labels, 20, torch.Generator().manual_seed(0))
        >>> torch.bincount(labels[drawn]).tolist()
        [18, 2]
    """
    n = len(labels)
    classes, sizes = torch.unique(labels.cpu(), return_counts=True)
    if not len(classes) <= count <= n:
        raise InfoplaneError(
            f"A subset of {count} points was asked for; expected {len(classes)} (one per class) to {n} (all points)."
        )
    shares = sizes.double() * count / n
    # a rare class keeps one point, which the largest class gives up
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


def label_entropy(y: Int[Tensor, " N"]) -> float:
    """Return the plug-in entropy H(Y) of labels in nats.

    It is exact if the labels are those of the whole population.

    Args:
        y: Integers, (N,).

    Raises:
        InfoplaneError: If there are no labels.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> round(ip.data.label_entropy(torch.tensor([0, 1, 1, 0])), 4)
        0.6931
    """
    if y.numel() == 0:
        raise InfoplaneError("There are no labels: H(Y) needs at least one.")
    p = torch.unique(y, return_counts=True)[1].double() / y.numel()
    return float(-(p * p.log()).sum()) + 0.0  # never -0.0
