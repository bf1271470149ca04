"""Putting noisy layers into any model."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError, choose
from .ceilings import WIDE
from .channel import Channel
from .gaussian import Dropout, Gaussian
from .layer import Echo
from .models import channel_of, first_tensor, measuring, modules, plain, replica_axis, resolve
from .names import CHILDREN

__all__ = ["CHANNELS", "insert_channel", "insert_echo"]

#: The noisy layers there are, by the name of the channel.
CHANNELS: dict[str, type[Channel]] = {channel.kind: channel for channel in (Echo, Gaussian, Dropout)}

#: Layers whose (B, C, L) is a map of L places; that of any other layer may be a sequence, (B, L, d).
_MAPS_1D = (
    *(nn.Conv1d, nn.ConvTranspose1d, nn.LazyConv1d, nn.LazyConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
)


def _through_channel(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """The forward hook behind which a noisy layer sits; a plain function, so that it is copied with the model."""
    channel = channel_of(module)
    assert channel is not None
    if isinstance(output, Tensor):
        return channel(output)
    z = channel(first_tensor(output, type(module).__name__))
    if isinstance(output, dict):
        first = next(k for k, v in output.items() if isinstance(v, Tensor))
        return {**output, first: z}
    at = next(i for i, v in enumerate(output) if isinstance(v, Tensor))
    parts = [*output[:at], z, *output[at + 1 :]]
    if hasattr(output, "_fields"):
        return type(output)(*parts)
    return type(output)(parts)


def insert_echo(
    model: nn.Module,
    after: Sequence[str],
    example: Tensor,
    *,
    inplace: bool = False,
    pool: str | tuple[int, ...] | None = "auto",
    **options: Any,
) -> nn.Module:
    """A copy of `model` with an Echo layer behind each of the named modules: `insert_channel` of the channel "echo"."""
    return insert_channel(model, after, example, "echo", inplace=inplace, pool=pool, **options)


def insert_channel(
    model: nn.Module,
    after: Sequence[str],
    example: Tensor,
    channel: str = "echo",
    *,
    inplace: bool = False,
    pool: str | tuple[int, ...] | None = "auto",
    **options: Any,
) -> nn.Module:
    """A copy of `model` with a noisy layer behind each of the named modules.

    It becomes a child of the module it follows, `echo` (or `noise`, of the other channels), so the keys of the original
    state_dict stay as they are (new ones, `NAME.echo...`, are added), and weights load before or after. Widths are
    found by running `example`. A compiled model gives a copy that is not: insert first, then compile.

    after: dotted names of modules. example: a small batch of inputs, (B, ...). inplace: change `model` itself.
    channel: "echo", "gaussian" (additive) or "dropout" (continuous); options: those of `Echo`
        (max_scale, echoes, scale, mixing, ...), `Gaussian` (std, scale) or `Dropout` (p).
    pool: how the code of a feature map is made. (h, w): the map is averaged over h x w areas, and z is spread over them
        (see `Echo`); None: all its numbers are the code; "auto": maps (B, C, H, W), and (B, C, L) behind a layer of
        such maps, of more than 64 numbers are pooled to the largest h x w of the map's proportions with C h w <= 64.
        The least rate of a wide code, -C h w log max_scale, is soon above .6 ln N, where none is exact:
        raise `max_scale` then.
    Raises InfoplaneError for a name that is not in the model, runs not once a forward, carries a noisy layer already,
    or gives rows that are not the inputs; for a compiled model that is to be changed in place.
    """
    make = CHANNELS[choose(channel, CHANNELS, "channel")]
    where = f"insert_{'echo' if make is Echo else 'channel'}"
    wrapped, model = model, plain(model)
    if inplace and any(hasattr(m, "_orig_mod") or m._compiled_call_impl for m in wrapped.modules()):
        raise InfoplaneError(f"{where}: inplace=True, and the model is compiled; insert first, then compile.")
    _let_the_compiler_see_hooks()
    if not inplace:
        model = copy.deepcopy(model)
    if isinstance(after, str):
        raise InfoplaneError(f"{where}: after={after!r}; expected a list of names, such as [{after!r}].")
    targets = {name: _target(model, name, make, where) for name in after}
    shapes = _shapes(model, targets, example, where)
    for name, module in targets.items():
        shape, out = shapes[name]
        cells = _cells(shape, pool, module, name)
        features = shape.numel() if cells is None else shape[0] * math.prod(cells)
        layer = make(features, replicas=int(getattr(model, "replicas", 1)), pool=cells, **options)
        layer.to(out.device, out.dtype if out.dtype == torch.float64 else torch.float32)
        layer.train(module.training)
        module.add_module(CHILDREN[make.kind], layer)
        module.register_forward_hook(_through_channel)
    return model


def _target(model: nn.Module, name: str, make: type[Channel], where: str) -> nn.Module:
    """The module that a noisy layer is to follow, which has none yet."""
    target = _last_child(resolve(model, name))
    held = channel_of(target)
    if held is not None or hasattr(target, CHILDREN[make.kind]):
        child = CHILDREN[make.kind if held is None else held.kind]
        raise InfoplaneError(f"{where}: {name!r} has a child named {child!r} already; expected a layer without one.")
    return target


def _shapes(
    model: nn.Module, targets: Mapping[str, nn.Module], example: Tensor, where: str
) -> dict[str, tuple[torch.Size, Tensor]]:
    """The shape of one row of what each of the modules gives, and what it gave; they must give one row per input."""
    replicas, axis = int(getattr(model, "replicas", 1)), replica_axis(model, example)[1]
    rows = example.shape[axis]
    front = (replicas, rows) if replicas > 1 or axis == 1 else (rows,)
    given = _outputs(model, targets, example)
    # one row more, all of them the last one: what counts the inputs counts one more, and a row keeps to itself
    again = _outputs(model, targets, torch.cat([example.narrow(axis, -1, 1)] * (rows + 1), axis))
    for name, out in given.items():
        if not out.is_floating_point():
            raise InfoplaneError(f"{where}: {name!r} gave {out.dtype}; expected floating-point numbers.")
        longer = again[name].shape[: len(front)] == (*front[:-1], rows + 1)
        if out.shape[: len(front)] != front or not longer or _sequence_first(model, name, out, again[name]):
            raise InfoplaneError(
                f"{where}: {name!r} gave {tuple(out.shape)} for {rows} inputs; expected one row an "
                f"input, ({', '.join(map(str, front))}, ...). A sequence model that gives (L, B, d) needs "
                "batch_first=True."
            )
    return {name: (out.shape[len(front) :], out) for name, out in given.items()}


def _let_the_compiler_see_hooks() -> None:
    """Have torch.compile look whether a module has hooks before it runs code that it compiled for another one.

    By default it does not, and a model with Echo layers would run the code of the same model without.
    """
    import torch._dynamo

    if torch._dynamo.config.skip_nnmodule_hook_guards:
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()  # what has been compiled till now does not look


def _outputs(model: nn.Module, targets: Mapping[str, nn.Module], x: Tensor) -> dict[str, Tensor]:
    """The output of each of the modules in one pass, in which it ran once."""
    given: dict[str, list[Tensor]] = {name: [] for name in targets}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, name=name: given[name].append(first_tensor(out, name)))
        for name, module in targets.items()
    ]
    try:
        with measuring(model, "off"):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    for name, outputs in given.items():
        if len(outputs) != 1:
            raise InfoplaneError(
                f"insert_echo: {name!r} ran {len(outputs)} times in one forward pass; expected once. Choose a "
                "module that runs once (one that is called through .forward() or used functionally is not seen)."
            )
    return {name: outputs[0] for name, outputs in given.items()}


def _sequence_first(model: nn.Module, name: str, out: Tensor, again: Tensor) -> bool:
    """Whether rows are places of a sequence: a module in, at or around it says so, and the last row heard the others.

    again: what came out when all rows were the last one.
    """
    near = [m for n, m in modules(model).items() if f"{n}.".startswith(f"{name}.") or f"{name}.".startswith(f"{n}.")]
    near += [child for m in near for child in m.children()]  # a layer of attention says it of its `self_attn`
    if not any(getattr(m, "batch_first", True) is False for m in (*near, model)):
        return False
    return not torch.allclose(out[-1], again[len(out) - 1], 1e-2, 1e-4)


def _cells(
    shape: torch.Size, pool: str | tuple[int, ...] | None, module: nn.Module, name: str
) -> tuple[int, ...] | None:
    """The areas that a map of this shape, (C, H, W) or (C, L), is averaged over; None: it is taken as it is."""
    sizes = tuple(shape[1:])
    if isinstance(pool, str):
        choose(pool, ("auto",), "pool")
        is_map = len(sizes) == 2 or (len(sizes) == 1 and isinstance(module, _MAPS_1D))
        if not is_map or shape.numel() <= WIDE:
            return None
        longest = max(sizes)
        pool = (1,) * len(sizes)
        for cells in range(2, longest + 1):
            finer = tuple(max(1, round(cells * size / longest)) for size in sizes)
            if shape[0] * math.prod(finer) > WIDE:
                break
            pool = finer
    elif pool is None:
        return None
    elif len(pool) != len(sizes) or any(not 1 <= cells <= size for cells, size in zip(pool, sizes, strict=True)):
        raise InfoplaneError(
            f"insert_echo: pool={pool} for {name!r}, which gave {tuple(shape)} a row; expected one "
            f"size for each axis but the first, and none larger than it."
        )
    return None if pool == sizes else pool


def _last_child(module: nn.Module) -> nn.Module:
    """The module whose output `module` gives: a Sequential runs all its children, so an Echo layer goes to the last."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module
