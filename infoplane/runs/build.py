"""Build the network of a run on its device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..channels.insertion import insert_channel
from ..errors import InfoplaneError
from ..nn.activations import ACTIVATIONS
from ..nn.networks import CNN, MLP, initialise
from ..streams import Streams, derive
from .settings import Settings
from .task import Task

__all__ = ["build", "choose_device"]


def choose_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: "cpu", "cuda" or another name that torch knows; "auto" takes a GPU if there is one.

    Raises:
        InfoplaneError: If the device is not available.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InfoplaneError(
            f"Device {name!r} is not available ({str(error).splitlines()[0]}); expected auto, cpu, or "
            "cuda on a machine with a GPU."
        ) from None
    return device


def build(settings: Settings, task: Task) -> nn.Module:
    """Build the network of the settings with its noisy layers, initialised, on the task's device.

    Args:
        settings: The settings of the run.
        task: Its data, which set the sizes of input and output.

    Raises:
        InfoplaneError: If the network cannot be built, for instance from images that are too small.
    """
    common = (settings.widths, task.outputs, settings.activation, settings.replicas, settings.bits)
    model: nn.Module
    if settings.model == "cnn":
        model = CNN(task.x.shape[1:], settings.conv_channels, *common)
    else:
        model = MLP(task.x.shape[1], *common)
    initialise(model, settings.init or ACTIVATIONS[settings.activation].init, settings.seeds)
    model.to(task.x.device)
    if settings.bits:
        _set_ranges(model, settings, task)
    if settings.echo_at and settings.echo_mode == "chain":
        options = _noise_options(settings)
        insert_channel(model, settings.noisy_layers, task.x[:2], settings.noise, inplace=True, **options)
    return model


def _set_ranges(model: nn.Module, settings: Settings, task: Task) -> None:
    """Set the ranges with which a quantised network is measured at epoch 0: those of a batch."""
    streams = Streams([derive("range", seed) for seed in settings.seeds], task.x.device)
    order = torch.take_along_dim(task.train, streams.permutations(task.train.shape[1]), -1)
    rows = order[:, : settings.batch_size or order.shape[1]]
    with torch.no_grad():
        model(task.x[rows] if settings.replicas > 1 else task.x[rows[0]])


def _noise_options(settings: Settings) -> dict[str, Any]:
    """Return the options of the noisy layers."""
    if settings.noise == "gaussian":
        return {"std": settings.noise_std, "scale": settings.scale}
    if settings.noise == "dropout":
        return {"p": settings.dropout}
    return {
        "max_scale": settings.max_scale,
        "echoes": settings.echoes,
        "scale": settings.scale,
        "mixing": settings.mixing,
        "shuffle": False,  # batches are drawn in random order already
    }
