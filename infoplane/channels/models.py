"""Any model without its wrappers: modules by name, noisy layers, and passes that measure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError, choose
from ..streams import Streams
from .channel import Channel, Phase
from .layer import Echo

__all__ = [
    "channel_of",
    "eager",
    "echo_layers",
    "first_tensor",
    "measuring",
    "modules",
    "noisy_layers",
    "plain",
    "rate",
    "replica_axis",
    "resolve",
    "sent_to",
    "trying",
]


def plain(model: nn.Module) -> nn.Module:
    """Take a model out of the wrappers of torch.compile and DataParallel.

    Hooks on a wrapper fire late or never.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> plain(nn.DataParallel(model)) is model
        True
    """
    while True:
        inner = getattr(model, "_orig_mod", None) or (
            model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else None
        )
        if inner is None:
            return model
        model = inner


def modules(model: nn.Module) -> dict[str, nn.Module]:
    """List the modules of a model by their dotted names.

    Wrappers of torch.compile and DataParallel are left out, also inside the model, so names have no
    `_orig_mod.` and no `module.`.

    Example:
        >>> list(modules(nn.Sequential(nn.Linear(3, 2), nn.Tanh())))
        ['', '0', '1']
    """
    found: dict[str, nn.Module] = {}
    seen: set[nn.Module] = set()

    def walk(name: str, module: nn.Module) -> None:
        module = plain(module)
        if module in seen:
            return
        seen.add(module)
        found[name] = module
        for child_name, child in module._modules.items():
            if child is not None:
                walk(f"{name}.{child_name}" if name else child_name, child)

    walk("", model)
    return found


def first_tensor(value: Any, where: str) -> Tensor:
    """Find the tensor in the output of a layer.

    Args:
        value: A tensor, or a tuple, list or dict that contains one.
        where: The name of the layer, for the message.

    Returns:
        The tensor, or the first one in the container.

    Raises:
        InfoplaneError: There is no tensor.

    Example:
        >>> first_tensor(("text", torch.zeros(2)), "encoder")
        tensor([0., 0.])
    """
    if isinstance(value, Tensor):
        return value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    for item in items:
        if isinstance(item, Tensor):
            return item
    raise InfoplaneError(
        f"Layer {where!r} gave a {type(value).__name__} without a tensor; expected a tensor, or a tuple, "
        "list or dict that contains one."
    )


def resolve(model: nn.Module, name: str) -> nn.Module:
    """Find a module by its dotted name.

    Raises:
        InfoplaneError: There is no such module. The message names the nearest one.

    Example:
        >>> resolve(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), "1")
        Tanh()
    """
    known = modules(model)
    if name in known and name:
        return known[name]
    # the parts of a noisy layer are not offered
    within = tuple(f"{n}." for n in noisy_layers(model))
    return known[choose(name, [n for n in known if n and not n.startswith(within)], "layer")]


def replica_axis(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """Find the number of replicas of a model, and the axis of x that counts the inputs.

    Args:
        model: The model.
        x: Inputs, (N, ...) or (R, N, ...).

    Returns:
        R, which is 1 for a model without a replica axis, and 0 or 1.

    Example:
        >>> import infoplane as ip
        >>> replica_axis(ip.MLP(3, [2], 2, replicas=4), torch.zeros(4, 10, 3))
        (4, 1)
    """
    replicas = getattr(plain(model), "replicas", None)
    sample_axes = getattr(plain(model), "sample_axes", 1)
    return replicas or 1, 1 if replicas is not None and x.dim() == sample_axes + 2 else 0


def echo_layers(model: nn.Module) -> dict[str, Echo]:
    """List the Echo layers of a model by their dotted names, in order of registration.

    Example:
        >>> list(echo_layers(nn.Sequential(nn.Linear(3, 2), Echo(2))))
        ['1']
    """
    return {name: m for name, m in modules(model).items() if isinstance(m, Echo)}


def noisy_layers(model: nn.Module) -> dict[str, Channel]:
    """List the Echo, Gaussian and dropout layers of a model, in order of registration.

    Example:
        >>> import infoplane as ip
        >>> list(noisy_layers(nn.Sequential(ip.channels.Gaussian(3), nn.Linear(3, 2), Echo(2))))
        ['0', '2']
    """
    return {name: m for name, m in modules(model).items() if isinstance(m, Channel)}


def channel_of(module: nn.Module) -> Channel | None:
    """Return the noisy layer that follows a module as its child, or None.

    Example:
        >>> channel_of(nn.Linear(3, 2)) is None
        True
    """
    return next((child for child in module.children() if isinstance(child, Channel)), None)


def sent_to(name: str) -> str:
    """Return the name of the module that a noisy layer follows, which stands for its input.

    For a name from a table, without a model, see `channels.names.noisy_name`.

    Example:
        >>> sent_to("hidden2.echo")
        'hidden2'
    """
    return name.rpartition(".")[0]


def rate(model: nn.Module, *, per_layer: bool = False) -> Any:
    """Return the rate of the last training pass, with its graph, to be added to a loss.

    For an Echo layer it is -log |det S| averaged over the batch (see `Echo` for when it is exact),
    and for a Gaussian layer the upper bound `mean_field_bound`.

    Args:
        model: A model with at least one such layer.
        per_layer: Whether to return each layer's rate rather than their sum.

    Returns:
        The sum over layers in nats, a scalar, or (R,) with R replicas; with per_layer a dict from
        the name of each layer to its rate.

    Raises:
        InfoplaneError: The model has no such layer, or has not run in training mode.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = ip.insert_echo(torch.nn.Sequential(torch.nn.Linear(3, 2)), ["0"], x[:2])
        >>> loss = model(x).square().mean() + 0.01 * ip.rate(model)
        >>> list(ip.rate(model, per_layer=True))
        ['0.echo']
    """
    layers = {name: layer for name, layer in noisy_layers(model).items() if layer.rated}
    if not layers:
        raise InfoplaneError(
            "rate: the model has no Echo layer and no Gaussian one; insert one with infoplane.insert_echo."
        )
    rates = {name: layer.rate for name, layer in layers.items()}
    return rates if per_layer else sum(rates.values())


@contextmanager
def eager() -> Iterator[None]:
    """Run every module in the block as it is written.

    Compiled code and fused kernels are off, because they bypass hooks and noisy layers.
    """
    # nothing has been compiled while the compiler is not imported, and importing it takes a second
    stance = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with stance:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _eval(model: nn.Module) -> Iterator[None]:
    """Run the block in eval mode, and restore the buffers of every module after it."""
    buffers = [
        (module, name, t, t._version, t.clone())
        for module in model.modules()
        for name, t in module._buffers.items()
        if t is not None and not t.is_inference()
    ]
    model.eval()
    try:
        yield
    finally:
        for module, name, t, version, held in buffers:
            module._buffers[name] = t
            if t._version != version:  # only then, because a pending backward pass may hold it
                with torch.no_grad():
                    t.copy_(held)


@contextmanager
def measuring(model: nn.Module, phase: Phase = "draw", streams: Streams | None = None) -> Iterator[dict[str, Channel]]:
    """Run the block as a measurement, and restore the model after it.

    The model is in eval mode, uncompiled and without gradients, and its noisy layers are in the
    given phase. Flags, buffers, banks and rates are restored. The global random state is forked, so
    draws in the block (by a data loader, say) do not change the training.

    Args:
        model: The model.
        phase: The phase of the noisy layers; see `Channel`.
        streams: The random generators of the noisy layers; by default each keeps its own.

    Yields:
        The noisy layers by name.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 2), Echo(2))
        >>> with measuring(model, "off") as layers:
        ...     print(list(layers), model.training)
        ['1'] False
        >>> model.training
        True
    """
    model = plain(model)
    with _put_back(model) as layers, eager(), _eval(model), torch.no_grad():
        for layer in layers.values():
            layer.phase = phase
            layer.streams = streams if streams is not None else layer.streams
        yield layers


@contextmanager
def trying(model: nn.Module, streams: Streams | None = None) -> Iterator[None]:
    """Run forward passes as in training, with gradients, and restore the model after the block.

    `rate(model)` is restored too. Buffers are copies inside the block, because a pending backward
    pass may hold the model's own.

    Args:
        model: The model.
        streams: The random generators of the noisy layers; by default each keeps its own.
    """
    model = plain(model)
    buffers = [(m, name, t) for m in model.modules() for name, t in m._buffers.items() if t is not None]
    with _put_back(model) as layers, torch.enable_grad():
        try:
            for module, name, t in buffers:
                module._buffers[name] = t.clone()
            for layer in layers.values():
                layer.streams = streams if streams is not None else layer.streams
            yield
        finally:
            for module, name, t in buffers:
                module._buffers[name] = t


@contextmanager
def _put_back(model: nn.Module) -> Iterator[dict[str, Channel]]:
    """Restore the random state, the flags of all modules and the noisy layers after the block.

    Each module's own flag is restored, because net.train() would un-freeze a frozen BatchNorm.
    """
    layers = noisy_layers(model)
    flags = {module: module.training for module in model.modules()}
    before = [(layer, layer.phase, layer.streams, layer.watch, layer._rate) for layer in layers.values()]
    banks = [(layer, layer.bank) for layer in layers.values() if isinstance(layer, Echo)]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield layers
    finally:
        for module, flag in flags.items():
            module.training = flag
        for layer, phase, streams, watch, rate in before:
            layer.phase, layer.streams, layer.watch, layer._rate, layer.replay = phase, streams, watch, rate, None
        for echo, bank in banks:
            echo.bank = bank
