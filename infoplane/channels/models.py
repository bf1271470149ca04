"""Anybody's model, without its wrappers: its modules by name, its Echo layers, and how it is run to be measured."""

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
    """The model itself, out of the wrappers of torch.compile and DataParallel, whose hooks fire late or never."""
    while True:
        inner = getattr(model, "_orig_mod", None) or (
            model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else None
        )
        if inner is None:
            return model
        model = inner


def modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model by their dotted names, which are those of the model without its wrappers.

    Of what torch.compile or DataParallel wraps, inside a model too, there is the inner module alone: its names have no
    `_orig_mod.` and no `module.`.
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
    """The tensor a layer gave: itself, or the first one in a tuple, list or mapping."""
    if isinstance(value, Tensor):
        return value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    for item in items:
        if isinstance(item, Tensor):
            return item
    raise InfoplaneError(
        f"Layer {where!r} gave a {type(value).__name__} without a tensor; expected a tensor or a tuple."
    )


def resolve(model: nn.Module, name: str) -> nn.Module:
    """The module of that dotted name (see `modules`); an error with the nearest name if there is none."""
    known = modules(model)
    if name in known and name:
        return known[name]
    # what an Echo layer is made of is no layer to offer
    within = tuple(f"{n}." for n in noisy_layers(model))
    return known[choose(name, [n for n in known if n and not n.startswith(within)], "layer")]


def replica_axis(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """The replicas of the model (1 for a module that is not ours), and which axis of x counts the inputs."""
    replicas = getattr(plain(model), "replicas", None)
    sample_axes = getattr(plain(model), "sample_axes", 1)
    return replicas or 1, 1 if replicas is not None and x.dim() == sample_axes + 2 else 0


def echo_layers(model: nn.Module) -> dict[str, Echo]:
    """The Echo layers of a model by their dotted names, in the order in which they are registered."""
    return {name: m for name, m in modules(model).items() if isinstance(m, Echo)}


def noisy_layers(model: nn.Module) -> dict[str, Channel]:
    """The Echo, Gaussian and dropout layers of a model (`channels`), as `echo_layers`."""
    return {name: m for name, m in modules(model).items() if isinstance(m, Channel)}


def channel_of(module: nn.Module) -> Channel | None:
    """The noisy layer that follows a module, which is its child."""
    return next((child for child in module.children() if isinstance(child, Channel)), None)


def sent_to(name: str) -> str:
    """The name of the module that a noisy layer of a model follows, and of what goes into it: hidden2 of hidden2.echo.

    For a name without its model, see `channels.names.noisy_name`.
    """
    return name.rpartition(".")[0]


def rate(model: nn.Module, *, per_layer: bool = False) -> Any:
    """The batch-mean rate of the last training forward, with its graph, in nats: add beta * rate to a loss.

    A scalar, or (R,) with replicas: the sum over Echo layers, exact, and Gaussian ones, upper bounds
    (`channels.gaussian.mean_field_bound`); per_layer=True: a dict from name to each layer's.
    """
    layers = {name: layer for name, layer in noisy_layers(model).items() if layer.rated}
    if not layers:
        raise InfoplaneError("rate: the model has no Echo layer; insert one with infoplane.insert_echo.")
    rates = {name: layer.rate for name, layer in layers.items()}
    return rates if per_layer else sum(rates.values())


@contextmanager
def eager() -> Iterator[None]:
    """Every module runs as it is written: no compiled code and no fused kernel that passes hooks and Echo layers by."""
    # nobody has compiled anything while the compiler is not imported, and to import it takes a second
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
    """Eval mode, and the buffers of every module as they were afterwards."""
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
            if t._version != version:  # only then, for a graph that is yet to be run backward may hold it
                with torch.no_grad():
                    t.copy_(held)


@contextmanager
def measuring(model: nn.Module, phase: Phase = "draw", streams: Streams | None = None) -> Iterator[dict[str, Channel]]:
    """Eval mode without gradients, uncompiled, noisy layers in the given phase; all (banks too) is put back afterwards.

    The global random state is forked: what is drawn inside (by a data loader, say) does not change the training.
    """
    model = plain(model)
    with _put_back(model) as layers, eager(), _eval(model), torch.no_grad():
        for layer in layers.values():
            layer.phase = phase
            layer.streams = streams if streams is not None else layer.streams
        yield layers


@contextmanager
def trying(model: nn.Module, streams: Streams | None = None) -> Iterator[None]:
    """Forward passes as training takes them, for gradients, after which all is as it was, `rate(model)` too.

    Within, buffers are copies: a graph that is yet to be run backward may hold the model's own.
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
    """Afterwards the global random state, the flag of every module (net.train() would un-freeze a frozen BatchNorm) and
    what noisy layers hold are as they were."""
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
