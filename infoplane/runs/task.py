"""What a run learns: the points of its data set, which of them each replica trains and is tested on, and the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from ..data import Place, load_points
from ..data.points import Points, split, stratified
from ..errors import InfoplaneError
from ..streams import derive
from ..theory.linear import LinearTask
from .settings import Settings

__all__ = ["Task", "cross_entropy", "load", "squared_error"]


@dataclass(frozen=True)
class Task:
    """Inputs x (N, ...), targets y, and for each replica which of them it trains on: (R, n_train), (R, n_test).

    y: classes (N,), or (R, N) where each replica has drawn its own (`Points.chances`); or (N, O) numbers to be
    regressed on, and classes is 0. whole: every replica has all points of the
    data set, for training or for testing, and so the same ones. law: of a regression whose law is known. enumerated:
    part("all") is every input there is, if it is `whole`.
    fingerprint: of the data set that the points are from.
    """

    x: Tensor
    y: Tensor
    train: Tensor
    test: Tensor
    classes: int
    whole: bool = True
    law: LinearTask | None = None
    fingerprint: str = ""
    enumerated: bool = False

    @property
    def regression(self) -> bool:
        return self.classes == 0

    @property
    def outputs(self) -> int:
        return self.classes or self.y.shape[1]

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """The inputs and targets of "train", "test" or "all", a slice a replica, (R, n, ...); or (N, ...) for all of
        them where that is the same points in every replica."""
        if name == "all" and self.whole:
            return self.x, self.y
        rows = {"train": [self.train], "test": [self.test], "all": [self.train, self.test]}[name]
        both = torch.cat(rows, 1)
        return self.at(both)

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs and targets of rows (R, n), of each replica its own: (R, n, ...) and (R, n) or (R, n, O)."""
        x, y = self.x, self.y
        inputs = x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:])
        if not self.regression and y.dim() == 2:
            return inputs, torch.take_along_dim(y, rows, 1)
        return inputs, y.index_select(0, rows.flatten()).view(*rows.shape, *y.shape[1:])

    @property
    def places(self) -> dict[str, Tensor]:
        """Where the training and the test points stand in part("all"): (R, n_train) and (R, n_test)."""
        if self.whole:
            return {"train": self.train, "test": self.test}
        n = self.train.shape[1] + self.test.shape[1]
        train, test = (
            torch.arange(n, device=self.x.device)
            .expand(len(self.train), n)
            .split([self.train.shape[1], self.test.shape[1]], 1)
        )
        return {"train": train, "test": test}

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """(..., B), of each row: cross-entropy in nats, or the squared error summed over targets."""
        return squared_error(out, y) if self.regression else cross_entropy(out, y)


def load(settings: Settings, device: torch.device, *, download: bool = False) -> Task:
    """The task of the settings, on the device; only the points that some replica uses."""
    points = load_points(settings.dataset, Place(settings.data_root, download))
    labels = [points.drawn(seed) for seed in settings.seeds]
    rows = [_rows(settings, points, seed, y) for seed, y in zip(settings.seeds, labels, strict=True)]
    train, test = (torch.stack(part) for part in zip(*rows, strict=True))
    x, y = points.x, points.y if points.chances is None else torch.stack(labels)
    whole = train.shape[1] + test.shape[1] == len(x)
    used = torch.unique(torch.cat([train, test], 1))
    if len(used) < len(x):
        at = torch.full((len(x),), -1)
        at[used] = torch.arange(len(used))
        x, train, test = x[used], at[train], at[test]
        y = y[used] if points.chances is None else y[:, used]
    if settings.model == "mlp":
        x = x.flatten(1)
    elif x.dim() != 4:
        raise InfoplaneError(
            f"The inputs of {settings.dataset} have the shape {tuple(x.shape[1:])}; a cnn takes images (C, H, W). "
            "Use --model mlp."
        )
    x, y, train, test = (t.to(device) for t in (x, y, train, test))
    return Task(x, y, train, test, points.classes, whole, points.law, points.fingerprint, points.enumerated)


def _rows(settings: Settings, points: Points, seed: int, y: Tensor) -> tuple[Tensor, Tensor]:
    """The training and test points of one replica with targets y, from its seed alone."""
    n = len(points.x)
    if points.test is not None:
        train, test = (~points.test).nonzero().squeeze(1), points.test.nonzero().squeeze(1)
    elif settings.ordered:
        cut = round(settings.split * n)
        train, test = torch.arange(cut), torch.arange(cut, n)
    else:
        train, test = split(n, settings.split, torch.Generator().manual_seed(derive("split", seed)))
    if not len(test):
        raise InfoplaneError(f"No test points are left of {n}: use a smaller --split.")
    if settings.subset:
        labels = y[train] if points.classes else torch.zeros(len(train), dtype=torch.int64)
        generator = torch.Generator().manual_seed(derive("subset", seed))
        train = train[stratified(labels, settings.subset, generator)]
    return train, test


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """(..., B) nats: -log softmax(logits)[y] of each row; logits (..., B, C), y (..., B)."""
    # over an axis that is not the last one, log_softmax and gather work on many rows at a time
    return -log_softmax(logits.mT.contiguous(), -2).gather(-2, y.unsqueeze(-2)).squeeze(-2)


def squared_error(out: Tensor, y: Tensor) -> Tensor:
    """(..., B): |out - y|^2 of each row; out and y (..., B, O)."""
    return (out - y).square().sum(-1)
