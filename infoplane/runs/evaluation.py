"""How well a network does: loss, error and accuracy on training and test points, with its noise and without."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..channels.models import measuring
from ..channels.stack import fill_banks
from ..streams import Streams
from .task import Task

__all__ = ["evaluate", "max_rows"]

#: numbers that the inputs of one forward pass hold at most: larger sets of points go through in parts
_PASS = 2**24


def max_rows(x: Tensor, replicas: int, sample_axes: int) -> int:
    """How many inputs to pass at once: all, unless they are so many that the layers would fill the memory."""
    size = math.prod(x.shape[x.dim() - sample_axes :]) * replicas
    return max(256, _PASS // size)


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, streams: Streams) -> list[dict[str, object]]:
    """Loss, error and accuracy on the training and test points: of single noisy draws, and with the noise off.

    Echoes are those of the training points, which is what a prediction has at hand. One row a replica, split and path;
    of a regression the loss is the mean squared error, and error and accuracy are NaN.
    """
    replicas, paths = len(task.train), ["plain"]
    x, y = task.part("all")
    own = task.part("train")[0]
    if replicas == 1 and not task.whole:
        x = x[0]
    y = y if y.dim() > (1 if not task.regression else 2) else y.expand(replicas, *y.shape)
    rows = max_rows(task.x, replicas, task.x.dim() - 1)
    logits: dict[str, Tensor] = {}
    with measuring(model, "draw", streams) as layers:
        if layers:  # of Echo layers; no other has one
            fill_banks(model, own if replicas > 1 else own[0], streams=streams, batch_size=rows)
            paths = ["noisy", "noise-off"]
        axis = x.dim() - task.x.dim()
        for path in paths:
            for layer in layers.values():
                layer.phase = "mean" if path == "noise-off" else "draw"
            out = torch.cat([model(part) for part in x.split(rows, axis)], 1 if replicas > 1 else 0)
            logits[path] = out if replicas > 1 else out.unsqueeze(0)
    table: list[dict[str, object]] = []
    for path, out in logits.items():
        losses = task.loss(out, y)
        wrong = torch.full_like(losses, math.nan).double() if task.regression else (out.argmax(-1) != y).double()
        for name, points in task.places.items():
            loss = losses.gather(-1, points).double().mean(-1)
            error = torch.where(loss.isfinite(), wrong.gather(-1, points).mean(-1), math.nan)
            table += [
                {
                    "replica": r,
                    "split": name,
                    "path": path,
                    "objective": "squared error" if task.regression else "cross-entropy",
                    "loss": float(loss[r]),
                    "error": float(error[r]),
                    "accuracy": 1.0 - float(error[r]),
                }
                for r in range(replicas)
            ]
    return table
