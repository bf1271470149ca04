"""Loss, error and accuracy of a network on training and test points, with and without its noise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..channels.models import measuring
from ..channels.stack import fill_banks
from ..streams import Streams
from .task import Task

__all__ = ["evaluate", "max_rows"]

#: the most numbers that the inputs of one forward pass hold; larger sets are passed in parts
_PASS = 2**24


def max_rows(x: Tensor, replicas: int, sample_axes: int) -> int:
    """Return the number of inputs to pass at once: all, unless the layers would fill the memory.

    Args:
        x: Some inputs.
        replicas: The number of replicas of the network.
        sample_axes: The number of axes of one input.
    """
    size = math.prod(x.shape[x.dim() - sample_axes :]) * replicas
    return max(256, _PASS // size)


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, streams: Streams) -> list[dict[str, object]]:
    """Measure loss, error and accuracy of a network on the training and test points.

    A network with noise is measured on single noisy draws, and again with the noise off. Its echoes
    are those of training points, because a prediction has no others.

    Args:
        model: The network, which is left unchanged.
        task: The points and the loss.
        streams: The random streams of the noise, one per replica.

    Returns:
        Rows of the table of metrics, one per replica, split and path. For a regression the loss is
        the mean squared error, and error and accuracy are NaN.
    """
    rows: list[dict[str, object]] = []
    for path, out in _outputs(model, task, streams).items():
        for name, loss, error in _losses(task, out):
            rows += [
                {
                    "replica": r,
                    "split": name,
                    "path": path,
                    "objective": "squared error" if task.regression else "cross-entropy",
                    "loss": float(loss[r]),
                    "error": float(error[r]),
                    "accuracy": 1.0 - float(error[r]),
                }
                for r in range(len(task.train))
            ]
    return rows


def _outputs(model: nn.Module, task: Task, streams: Streams) -> dict[str, Tensor]:
    """Return the outputs for all points, (R, N, C), by path through the network."""
    replicas, paths = len(task.train), ["plain"]
    x, own = task.part("all")[0], task.part("train")[0]
    if replicas == 1 and not task.whole:
        x = x[0]
    rows = max_rows(task.x, replicas, task.x.dim() - 1)
    logits: dict[str, Tensor] = {}
    with measuring(model, "draw", streams) as layers:
        if layers:  # only Echo layers have a bank
            fill_banks(model, own if replicas > 1 else own[0], streams=streams, batch_size=rows)
            paths = ["noisy", "noise-off"]
        axis = x.dim() - task.x.dim()
        for path in paths:
            for layer in layers.values():
                layer.phase = "mean" if path == "noise-off" else "draw"
            out = torch.cat([model(part) for part in x.split(rows, axis)], 1 if replicas > 1 else 0)
            logits[path] = out if replicas > 1 else out.unsqueeze(0)
    return logits


def _losses(task: Task, out: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield for the training and the test points their name, mean loss (R,) and mean error (R,)."""
    y = task.part("all")[1]
    y = y if y.dim() > (1 if not task.regression else 2) else y.expand(len(out), *y.shape)
    losses = task.loss(out, y)
    wrong = torch.full_like(losses, math.nan).double() if task.regression else (out.argmax(-1) != y).double()
    for name, points in task.places.items():
        loss = losses.gather(-1, points).double().mean(-1)
        yield name, loss, torch.where(loss.isfinite(), wrong.gather(-1, points).mean(-1), math.nan)
