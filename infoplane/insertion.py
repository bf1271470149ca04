"""Putting Echo layers into any model, and asking them for their rates and reference codes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .channels.bank import Bank
from .channels.layer import Echo, Passed, Phase
from .records import InfoplaneError, choose
from .replicas import Streams

__all__ = [
    "echo_layers",
    "execution_order",
    "fill_banks",
    "insert_echo",
    "measuring",
    "plain",
    "rate",
    "separating",
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


def _through_echo(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """The forward hook behind which an Echo layer sits; a plain function, so that it is copied with the model."""
    echo = module.echo
    assert isinstance(echo, Echo)
    if isinstance(output, Tensor):
        return echo(output)
    z = echo(first_tensor(output, type(module).__name__))
    if isinstance(output, dict):
        first = next(k for k, v in output.items() if isinstance(v, Tensor))
        return {**output, first: z}
    at = next(i for i, v in enumerate(output) if isinstance(v, Tensor))
    parts = [*output[:at], z, *output[at + 1 :]]
    if hasattr(output, "_fields"):
        return type(output)(*parts)
    return type(output)(parts)


def insert_echo(
    model: nn.Module, after: Sequence[str], example: Tensor, *, inplace: bool = False, **options: Any
) -> nn.Module:
    """A copy of `model` with an Echo layer behind each of the named modules.

    The Echo layer becomes the child `echo` of the module it follows, so the keys of the original state_dict stay as
    they are (new ones, `NAME.echo...`, are added), and weights load before or after. Widths are found by running
    `example`.

    after: dotted names of modules. example: a small batch of inputs, (B, ...). options: those of `Echo` (bound, echoes,
    scale, mixing, ...). inplace: change `model` itself.
    Raises InfoplaneError for a name that is not in the model, runs not once a forward, or carries an Echo layer
    already.
    """
    model = plain(model)
    if not inplace:
        model = copy.deepcopy(model)
    if isinstance(after, str):
        raise InfoplaneError(f"insert_echo: after={after!r}; expected a list of names, such as [{after!r}].")
    replicas = int(getattr(model, "replicas", 1))
    targets: dict[str, nn.Module] = {}
    for name in after:
        targets[name] = _last_child(resolve(model, name))
        if hasattr(targets[name], "echo"):
            raise InfoplaneError(
                f"insert_echo: {name!r} has a child named 'echo' already; expected a layer without one."
            )
    outputs: dict[str, list[Tensor]] = {name: [] for name in targets}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, name=name: outputs[name].append(first_tensor(out, name)))
        for name, module in targets.items()
    ]
    try:
        with _eval(model), torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    for name, module in targets.items():
        if len(outputs[name]) != 1:
            raise InfoplaneError(
                f"insert_echo: {name!r} ran {len(outputs[name])} times in one forward pass; expected once. Choose a "
                "module that runs once (one that is called through .forward() or used functionally is not seen)."
            )
        out = outputs[name][0]
        if not out.is_floating_point():
            raise InfoplaneError(f"insert_echo: {name!r} gave {out.dtype}; expected floating-point numbers.")
        per_row = out.shape[2:] if replicas > 1 else out.shape[1:]
        echo = Echo(per_row.numel(), replicas=replicas, **options)
        echo.to(out.device, out.dtype if out.dtype == torch.float64 else torch.float32)
        echo.train(module.training)
        module.add_module("echo", echo)
        module.register_forward_hook(_through_echo)
    return model


def resolve(model: nn.Module, name: str) -> nn.Module:
    """The module of that dotted name; an error with the nearest name if there is none."""
    known = [n for n, _ in model.named_modules() if n]
    return model.get_submodule(choose(name, known, "layer"))


def _last_child(module: nn.Module) -> nn.Module:
    """The module whose output `module` gives: a Sequential runs all its children, so an Echo layer goes to the last."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module


def echo_layers(model: nn.Module) -> dict[str, Echo]:
    """The Echo layers of a model by their dotted names, in the order in which they are registered."""
    return {name: m for name, m in plain(model).named_modules() if isinstance(m, Echo)}


def rate(model: nn.Module, *, per_layer: bool = False) -> Any:
    """The batch-mean rate of the last training forward, with its graph, in nats: add beta * rate to a loss.

    A scalar, or (R,) with replicas: the sum over Echo layers; per_layer=True: a dict from name to each layer's.
    """
    layers = echo_layers(model)
    if not layers:
        raise InfoplaneError("rate: the model has no Echo layer; insert one with infoplane.insert_echo.")
    rates = {name: layer.rate for name, layer in layers.items()}
    return rates if per_layer else sum(rates.values())


@contextmanager
def _eval(model: nn.Module) -> Iterator[None]:
    """Eval mode, and afterwards the flag of every module as it was (net.train() would un-freeze a frozen BatchNorm)."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


@contextmanager
def measuring(model: nn.Module, phase: Phase = "draw", streams: Streams | None = None) -> Iterator[dict[str, Echo]]:
    """Eval mode without gradients, Echo layers in the given phase; everything (banks too) is put back on the way out.

    The global random state is forked: what is drawn inside (by a data loader, say) does not change the training.
    """
    model = plain(model)
    layers = echo_layers(model)
    before = [(layer, layer.phase, layer.streams, layer.watch, layer.bank) for layer in layers.values()]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices), _eval(model), torch.no_grad():
            for layer in layers.values():
                layer.phase = phase
                layer.streams = streams if streams is not None else layer.streams
            yield layers
    finally:
        for layer, layer.phase, layer.streams, layer.watch, layer.bank in before:
            layer.replay = None


def execution_order(model: nn.Module, x: Tensor) -> list[str]:
    """The names of the Echo layers in the order in which a forward pass reaches them."""
    order: list[str] = []
    with measuring(model, "pass") as layers:
        handles = [
            layer.register_forward_pre_hook(lambda _m, _i, name=name: order.append(name))
            for name, layer in layers.items()
        ]
        try:
            plain(model)(x)
        finally:
            for handle in handles:
                handle.remove()
    return order


def separating(model: nn.Module, x: Tensor, order: Sequence[str]) -> dict[str, list[str]]:
    """For each Echo layer, the ones below through which all it knows of the input has passed; "" stands for the output.

    Found by replaying: with the output of layer j held fixed, another input must leave what goes into layer k as it is.
    A connection that skips layer j shows, and then R_j does not bound I(Z_k;X). x: a few inputs that differ.
    """
    _, axis = replica_axis(model, x)
    other = x.roll(1, axis)
    passed: dict[str, list[str]] = {name: [] for name in (*order, "")}
    for j, below in enumerate(order):
        seen: list[dict[str, Tensor]] = []
        for inputs in (x, other):
            with measuring(model, "pass") as layers:
                watches: dict[str, list[Passed]] = {name: [] for name in order}
                for name, layer in layers.items():
                    layer.watch = watches[name]
                if seen:
                    layers[below].phase, layers[below].replay = "replay", seen[0][below]
                output = plain(model)(inputs)
            seen.append({name: watches[name][0].f for name in order})
            if isinstance(output, Tensor):
                seen[-1][""] = output
        for above in [name for name in (*order[j + 1 :], "") if name in seen[0]]:
            if torch.equal(torch.nan_to_num(seen[0][above]), torch.nan_to_num(seen[1][above])):
                passed[above].append(below)
    return passed


def fill_banks(
    model: nn.Module,
    x: Tensor,
    *,
    references: int = 4096,
    streams: Streams | None = None,
    batch_size: int | None = None,
) -> dict[str, Bank]:
    """Give every Echo layer independent reference codes, made with the present weights from inputs x.

    x: (N, ...), or (R, N, ...) for a model with a replica axis of its own. The law q of the echoes is that of x:
    every x equally often, as often as gives at least `references` codes, in random order.

    The k-th Echo layer gets its codes from a noisy pass of its own through the layers below it, because codes of one
    batch share the echoes of the layer below: at B = 100 that gives .26 nats for .18 (tests/test_bank.py).
    Returns the banks by layer, in the order of execution. They are not saved with the model and go stale with training.
    """
    replicas, axis = replica_axis(model, x)
    size = x.shape[axis]
    if size < 2:
        raise InfoplaneError(f"fill_banks: {size} inputs; expected at least 2, and for exact rates {references}.")
    order = execution_order(model, x.narrow(axis, 0, min(size, 2)))
    if streams is None:  # seeded from the global stream, because that is forked in the passes below
        streams = Streams(torch.randint(2**62, (replicas,)).tolist(), x.device)
    banks: dict[str, Bank] = {}
    for name in order:
        picks = streams.permutations(size * -(-references // size)) % size
        with measuring(model, "draw", streams) as layers:
            for filled, bank in banks.items():
                layers[filled].bank = bank
            for unfilled in order[len(banks) :]:
                layers[unfilled].phase = "pass"
            watch: list[Passed] = []
            layers[name].watch = watch
            for rows in _row_batches(x, picks, batch_size, replicas, axis):
                plain(model)(rows)
            f = torch.cat([p.f for p in watch], -2)
            banks[name] = Bank(f, layers[name].scales(f)[1])
    for name, bank in banks.items():
        echo_layers(model)[name].bank = bank
    return banks


def replica_axis(model: nn.Module, x: Tensor) -> tuple[int, int]:
    """The replicas of the model (1 for a module that is not ours), and which axis of x counts the inputs."""
    replicas = getattr(plain(model), "replicas", None)
    sample_axes = getattr(plain(model), "sample_axes", 1)
    return replicas or 1, 1 if replicas is not None and x.dim() == sample_axes + 2 else 0


def _row_batches(x: Tensor, picks: Tensor, batch_size: int | None, replicas: int, axis: int) -> Iterator[Tensor]:
    step = batch_size or picks.shape[-1]
    for start in range(0, picks.shape[-1], step):
        chosen = picks[:, start : start + step]
        if axis == 1:
            yield torch.take_along_dim(x, chosen[(..., *[None] * (x.dim() - 2))], 1)
        elif replicas > 1:
            yield x[chosen]
        else:
            yield x[chosen[0]]
