"""The task of a run: the points of its data set, their division for each replica, and the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from ..data import Place, load_points
from ..data.points import Points, split, stratified
from ..errors import InfoplaneError
from ..streams import derive
from ..theory.linear import LinearTask
from .settings import Settings

if TYPE_CHECKING:
    from jaxtyping import Float, Int64, Shaped

__all__ = ["Task", "cross_entropy", "load", "squared_error"]


@dataclass(frozen=True)
class Task:
    """The points of a run, and their division into training and test points for each replica.

    Args:
        x: Inputs, (N, ...).
        y: Classes, (N,), or (R, N) if each replica has drawn its own (`Points.chances`); or the
            targets of a regression, (N, O).
        train: The training points of each replica, (R, n_train).
        test: The test points of each replica, (R, n_test).
        classes: The number of classes; 0 for a regression.
        whole: Whether every replica has all points of the data set, for training or for testing,
            and hence the same points.
        law: The law of a regression, if it is known.
        fingerprint: The fingerprint of the data set.
        enumerated: Whether the data set holds every input that exists, so that part("all") does if
            the task is `whole`.
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
        """Whether the targets are numbers and not classes."""
        return self.classes == 0

    @property
    def outputs(self) -> int:
        """The number of outputs of a network for this task."""
        return self.classes or self.y.shape[1]

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of a part of the points.

        Args:
            name: "train", "test" or "all".

        Returns:
            Inputs (R, n, ...) and targets, with one slice per replica; or (N, ...) without the
            replica axis for all points if they are the same in every replica.
        """
        if name == "all" and self.whole:
            return self.x, self.y
        rows = {"train": [self.train], "test": [self.test], "all": [self.train, self.test]}[name]
        both = torch.cat(rows, 1)
        return self.at(both)

    def at(self, rows: Int64[Tensor, "R n"]) -> tuple[Shaped[Tensor, "R n *d"], Shaped[Tensor, "R n *o"]]:
        """Return the inputs, (R, n, ...), and the targets, (R, n) or (R, n, O), of some rows.

        Args:
            rows: The rows of each replica, (R, n).
        """
        x, y = self.x, self.y
        inputs = x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:])
        if not self.regression and y.dim() == 2:
            return inputs, torch.take_along_dim(y, rows, 1)
        return inputs, y.index_select(0, rows.flatten()).view(*rows.shape, *y.shape[1:])

    @property
    def places(self) -> dict[str, Tensor]:
        """The places of training and test points in part("all"), (R, n_train) and (R, n_test)."""
        if self.whole:
            return {"train": self.train, "test": self.test}
        n = self.train.shape[1] + self.test.shape[1]
        train, test = (
            torch.arange(n, device=self.x.device)
            .expand(len(self.train), n)
            .split([self.train.shape[1], self.test.shape[1]], 1)
        )
        return {"train": train, "test": test}

    def loss(self, out: Float[Tensor, "*R B C"], y: Shaped[Tensor, "*targets"]) -> Float[Tensor, "*R B"]:
        """Return the loss of each row: cross-entropy in nats, or the sum of squared errors.

        Args:
            out: The output of the network, (..., B, C) logits or (..., B, O) numbers.
            y: The targets, (..., B) classes or (..., B, O) numbers.
        """
        return squared_error(out, y) if self.regression else cross_entropy(out, y)


def load(settings: Settings, device: torch.device, *, download: bool = False) -> Task:
    """Load the data of the settings, and divide them for each replica.

    Args:
        settings: The settings of the run.
        device: The device of the points.
        download: Whether to fetch missing files.

    Returns:
        The task, with only the points that some replica uses.

    Raises:
        InfoplaneError: If the data cannot be read, or the settings do not fit them.
    """
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
            f"The inputs of {settings.dataset} have the shape {tuple(x.shape[1:])}, but a cnn takes images (C, H, W). "
            "Use --model mlp."
        )
    x, y, train, test = (t.to(device) for t in (x, y, train, test))
    return Task(x, y, train, test, points.classes, whole, points.law, points.fingerprint, points.enumerated)


def _rows(settings: Settings, points: Points, seed: int, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the training and test points of one replica with targets y, from its seed alone."""
    n = len(points.x)
    if points.test is not None:
        train, test = (~points.test).nonzero().squeeze(1), points.test.nonzero().squeeze(1)
    elif settings.ordered:
        cut = round(settings.split * n)
        train, test = torch.arange(cut), torch.arange(cut, n)
    else:
        train, test = split(n, settings.split, torch.Generator().manual_seed(derive("split", seed)))
    if not len(test):
        raise InfoplaneError(f"No test points are left of {n} points; use a smaller --split.")
    if settings.subset:
        labels = y[train] if points.classes else torch.zeros(len(train), dtype=torch.int64)
        generator = torch.Generator().manual_seed(derive("subset", seed))
        train = train[stratified(labels, settings.subset, generator)]
    return train, test


def cross_entropy(logits: Float[Tensor, "*R B C"], y: Int64[Tensor, "*R B"]) -> Float[Tensor, "*R B"]:
    """Return the cross-entropy -log softmax(logits)[y] of each row in nats, (..., B).

    Args:
        logits: (..., B, C).
        y: Classes, (..., B).

    Example:
        >>> cross_entropy(torch.zeros(3, 2), torch.tensor([0, 1, 0])).div(torch.tensor(2.0).log())
        tensor([1., 1., 1.])
    """
    # over an axis other than the last one, log_softmax and gather work on many rows at a time
    return -log_softmax(logits.mT.contiguous(), -2).gather(-2, y.unsqueeze(-2)).squeeze(-2)


def squared_error(out: Float[Tensor, "*R B O"], y: Float[Tensor, "*R B O"]) -> Float[Tensor, "*R B"]:
    """Return the squared error |out - y|^2 of each row, (..., B).

    Args:
        out: The output of the network, (..., B, O).
        y: The targets, (..., B, O).

    Example:
        >>> squared_error(torch.ones(2, 3), torch.zeros(2, 3))
        tensor([3., 3.])
    """
    return (out - y).square().sum(-1)
