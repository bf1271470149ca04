"""Tasks and data sets, and how their points are divided. Needs torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..records import InfoplaneError

__all__ = ["label_entropy", "split"]


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


def label_entropy(y: Tensor) -> float:
    """H(Y) of the labels y (N,), any integers, in nats: the plug-in entropy, exact where the N points are the law."""
    if y.numel() == 0:
        raise InfoplaneError("There are no labels: H(Y) needs at least one.")
    p = torch.unique(y, return_counts=True)[1].double() / y.numel()
    return float(-(p * p.log()).sum()) + 0.0  # never -0.0
