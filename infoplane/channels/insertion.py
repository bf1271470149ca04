"""Insertion of noisy layers into any model."""

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

#: The kinds of noisy layers, by the name of the channel.
CHANNELS: dict[str, type[Channel]] = {channel.kind: channel for channel in (Echo, Gaussian, Dropout)}

#: Layers whose output (B, C, L) is a map of L places. Other layers may give sequences, (B, L, d).
_MAPS_1D = (
    *(nn.Conv1d, nn.ConvTranspose1d, nn.LazyConv1d, nn.LazyConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
)


def _through_channel(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """Pass the output of a module through its noisy layer.

    This forward hook is a plain function, so that it is copied with the model.
    """
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
    """Copy a model and insert an Echo layer behind each of the named modules.

    This is `insert_channel` with channel="echo"; see there for the details.

    Args:
        model: The model.
        after: Dotted names of modules.
        example: A small batch of inputs, (B, ...), from which the widths are found.
        inplace: Whether to change `model` itself rather than a copy.
        pool: How the code of a feature map is made; see `insert_channel`.
        options: Options of `Echo`, such as max_scale, echoes, scale and mixing.

    Returns:
        The model with Echo layers.

    Raises:
        InfoplaneError: As for `insert_channel`.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> x = torch.randn(4096, 8, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 2), torch.nn.Tanh())
        >>> model = ip.insert_echo(model, after=["1"], example=x[:2], bias=0.0)
        >>> recorder = ip.Recorder(model, x, estimators=[])
        >>> row = recorder.snapshot(epoch=0)["measurements"][0]
        >>> row["layer"], row["quantity"], row["standing"]
        ('1.echo', 'I(Z;X)', 'exact')
    """
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
    """Copy a model and insert a noisy layer behind each of the named modules.

    A noisy layer becomes a child of the module that it follows, named `echo` (or `noise` for the
    other channels). The keys of the original state_dict stay as they are and new ones,
    `NAME.echo...`, are added, so weights can be loaded before or after the insertion. The copy of a
    compiled model is not compiled: insert first, then compile.

    Args:
        model: The model.
        after: Dotted names of modules.
        example: A small batch of inputs, (B, ...), from which the widths are found.
        channel: "echo", "gaussian" (additive noise) or "dropout" (continuous dropout).
        inplace: Whether to change `model` itself rather than a copy.
        pool: How the code of a feature map is made. (h, w) averages the map over h x w areas and
            spreads z over them. None takes all numbers of the map as the code. "auto" pools maps of
            more than 64 numbers, (B, C, H, W), or (B, C, L) behind a layer that gives such maps, to
            the largest h x w of the map's proportions with C h w <= 64. The smallest rate of a wide
            code, -C h w ln max_scale, is soon above .6 ln N, where no rate is exact; raise
            `max_scale` then.
        options: Options of `Echo` (max_scale, echoes, scale, mixing, ...), `Gaussian` (std, scale)
            or `Dropout` (p).

    Returns:
        The model with noisy layers.

    Raises:
        InfoplaneError: A name is not in the model; its module does not run exactly once per forward
            pass, already has a noisy layer, or gives rows that are not the inputs; or a compiled
            model is to be changed in place.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
        >>> ip.channels.insert_channel(model, ["0"], torch.zeros(2, 3), "gaussian", std=0.1)
        Sequential(
          (0): Linear(
            in_features=3, out_features=2, bias=True
            (noise): Gaussian(2, std=0.1, scale=constant)
          )
          (1): Linear(in_features=2, out_features=2, bias=True)
        )
    """
    make = CHANNELS[choose(channel, CHANNELS, "channel")]
    where = f"insert_{'echo' if make is Echo else 'channel'}"
    wrapped, model = model, plain(model)
    if inplace and any(hasattr(m, "_orig_mod") or m._compiled_call_impl for m in wrapped.modules()):
        raise InfoplaneError(f"{where}: inplace=True, but the model is compiled; insert first, then compile.")
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
    """Find the module that a noisy layer is to follow, which must not have one yet."""
    target = _last_child(resolve(model, name))
    held = channel_of(target)
    if held is not None or hasattr(target, CHILDREN[make.kind]):
        child = CHILDREN[make.kind if held is None else held.kind]
        raise InfoplaneError(f"{where}: {name!r} already has a child named {child!r}; expected a layer without one.")
    return target


def _shapes(
    model: nn.Module, targets: Mapping[str, nn.Module], example: Tensor, where: str
) -> dict[str, tuple[torch.Size, Tensor]]:
    """Run the model and find the shape of one row of each module's output, and the output.

    Every output must have one row per input.
    """
    replicas, axis = int(getattr(model, "replicas", 1)), replica_axis(model, example)[1]
    rows = example.shape[axis]
    front = (replicas, rows) if replicas > 1 or axis == 1 else (rows,)
    given = _outputs(model, targets, example)
    # one row more, each a copy of the last input: an axis of inputs is longer by one
    again = _outputs(model, targets, torch.cat([example.narrow(axis, -1, 1)] * (rows + 1), axis))
    for name, out in given.items():
        if not out.is_floating_point():
            raise InfoplaneError(f"{where}: {name!r} gave {out.dtype}; expected floating-point numbers.")
        longer = again[name].shape[: len(front)] == (*front[:-1], rows + 1)
        if out.shape[: len(front)] != front or not longer or _sequence_first(model, name, out, again[name]):
            raise InfoplaneError(
                f"{where}: {name!r} gave {tuple(out.shape)} for {rows} inputs; expected one row per "
                f"input, ({', '.join(map(str, front))}, ...). A sequence model that gives (L, B, d) needs "
                "batch_first=True."
            )
    return {name: (out.shape[len(front) :], out) for name, out in given.items()}


def _let_the_compiler_see_hooks() -> None:
    """Make torch.compile check the hooks of a module before it reuses compiled code.

    By default it does not, and a model with noisy layers would run the code of the same model
    without them.
    """
    import torch._dynamo

    if torch._dynamo.config.skip_nnmodule_hook_guards:
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()  # code that was compiled before does not check


def _outputs(model: nn.Module, targets: Mapping[str, nn.Module], x: Tensor) -> dict[str, Tensor]:
    """Run the model once and return the output of each of the modules, which must run once."""
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
                "module that runs once. (A module that is called through .forward() or used functionally is not seen.)"
            )
    return {name: outputs[0] for name, outputs in given.items()}


def _sequence_first(model: nn.Module, name: str, out: Tensor, again: Tensor) -> bool:
    """Return whether the rows of an output are places of a sequence.

    They are if a module in, at or around the named one has batch_first=False and the last row
    depends on the others.

    Args:
        model: The model.
        name: The name of the module.
        out: Its output.
        again: Its output when every row of the input was the last one.
    """
    near = [m for n, m in modules(model).items() if f"{n}.".startswith(f"{name}.") or f"{name}.".startswith(f"{n}.")]
    near += [child for m in near for child in m.children()]  # a layer of attention has it in `self_attn`
    if not any(getattr(m, "batch_first", True) is False for m in (*near, model)):
        return False
    return not torch.allclose(out[-1], again[len(out) - 1], 1e-2, 1e-4)


def _cells(
    shape: torch.Size, pool: str | tuple[int, ...] | None, module: nn.Module, name: str
) -> tuple[int, ...] | None:
    """Find the areas to average a map, (C, H, W) or (C, L), over; None to take it as it is."""
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
            f"insert_echo: pool={pool} for {name!r}, which gave {tuple(shape)} per row; expected one "
            f"size for each axis but the first, and none larger than it."
        )
    return None if pool == sizes else pool


def _last_child(module: nn.Module) -> nn.Module:
    """Find the module whose output a module returns: the last child of a Sequential."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module
