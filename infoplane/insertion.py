"""Putting Echo layers into any model, and asking them for their rates and reference codes."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .channels.bank import Bank
from .channels.layer import Echo, Passed, Phase
from .records import InfoplaneError, choose
from .replicas import Streams

__all__ = [
    "eager",
    "echo_layers",
    "execution_order",
    "fill_banks",
    "insert_echo",
    "measuring",
    "modules",
    "plain",
    "rate",
    "separating",
]

#: Numbers in a code, beyond which a feature map is pooled and the certificate of a layer is a bound (warning "wide").
_MOST = 64
#: Layers whose (B, C, L) is a map of L places; that of any other layer may be a sequence, (B, L, d).
_MAPS_1D = (
    *(nn.Conv1d, nn.ConvTranspose1d, nn.LazyConv1d, nn.LazyConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
)


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
    model: nn.Module,
    after: Sequence[str],
    example: Tensor,
    *,
    inplace: bool = False,
    pool: str | tuple[int, ...] | None = "auto",
    **options: Any,
) -> nn.Module:
    """A copy of `model` with an Echo layer behind each of the named modules.

    The Echo layer becomes the child `echo` of the module it follows, so the keys of the original state_dict stay as
    they are (new ones, `NAME.echo...`, are added), and weights load before or after. Widths are found by running
    `example`. A compiled model gives a copy that is not: insert first, then compile.

    after: dotted names of modules. example: a small batch of inputs, (B, ...). options: those of `Echo` (bound, echoes,
    scale, mixing, ...). inplace: change `model` itself.
    pool: how the code of a feature map is made. (h, w): the map is averaged over h x w areas, and z is spread over them
        (see `Echo`); None: all its numbers are the code; "auto": maps (B, C, H, W), and (B, C, L) behind a layer of
        such maps, of more than 64 numbers are pooled to the largest h x w of the map's proportions with C h w <= 64.
        The least rate of a wide code, -C h w log bound, is soon above .6 ln N, where none is exact: raise `bound` then.
    Raises InfoplaneError for a name that is not in the model, runs not once a forward, carries an Echo layer already,
    or gives rows that are not the inputs; for a compiled model that is to be changed in place.
    """
    wrapped, model = model, plain(model)
    if inplace and any(hasattr(m, "_orig_mod") or m._compiled_call_impl for m in wrapped.modules()):
        raise InfoplaneError("insert_echo: inplace=True, and the model is compiled; insert first, then compile.")
    _let_the_compiler_see_hooks()
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
    _, axis = replica_axis(model, example)
    given = _outputs(model, targets, example)
    # one row more, all of them the last one: what counts the inputs counts one more, and a row keeps to itself
    last = example.narrow(axis, -1, 1)
    again = _outputs(model, targets, torch.cat([last] * (example.shape[axis] + 1), axis))
    for name, module in targets.items():
        out = given[name]
        if not out.is_floating_point():
            raise InfoplaneError(f"insert_echo: {name!r} gave {out.dtype}; expected floating-point numbers.")
        rows = example.shape[axis]
        front = (replicas, rows) if replicas > 1 or axis == 1 else (rows,)
        longer = again[name].shape[: len(front)] == (*front[:-1], rows + 1)
        if out.shape[: len(front)] != front or not longer or _sequence_first(model, name, out, again[name]):
            raise InfoplaneError(
                f"insert_echo: {name!r} gave {tuple(out.shape)} for {rows} inputs; expected one row an "
                f"input, ({', '.join(map(str, front))}, ...). A sequence model that gives (L, B, d) needs "
                "batch_first=True."
            )
        shape = out.shape[len(front) :]
        cells = _cells(shape, pool, module, name)
        features = shape.numel() if cells is None else shape[0] * math.prod(cells)
        echo = Echo(features, replicas=replicas, pool=cells, **options)
        echo.to(out.device, out.dtype if out.dtype == torch.float64 else torch.float32)
        echo.train(module.training)
        module.add_module("echo", echo)
        module.register_forward_hook(_through_echo)
    return model


def _let_the_compiler_see_hooks() -> None:
    """Have torch.compile look whether a module has hooks before it runs code that it compiled for another one.

    By default it does not, and a model with Echo layers would run the code of the same model without.
    """
    import torch._dynamo

    if torch._dynamo.config.skip_nnmodule_hook_guards:
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()  # what has been compiled till now does not look


def _outputs(model: nn.Module, targets: Mapping[str, nn.Module], x: Tensor) -> dict[str, Tensor]:
    """What each of the modules gave in one pass, in which it ran once."""
    given: dict[str, list[Tensor]] = {name: [] for name in targets}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, name=name: given[name].append(first_tensor(out, name)))
        for name, module in targets.items()
    ]
    try:
        with measuring(model, "pass"):
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
        if not is_map or shape.numel() <= _MOST:
            return None
        longest = max(sizes)
        pool = (1,) * len(sizes)
        for cells in range(2, longest + 1):
            finer = tuple(max(1, round(cells * size / longest)) for size in sizes)
            if shape[0] * math.prod(finer) > _MOST:
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


def resolve(model: nn.Module, name: str) -> nn.Module:
    """The module of that dotted name (see `modules`); an error with the nearest name if there is none."""
    known = modules(model)
    return known[choose(name, [n for n in known if n], "layer")]


def _last_child(module: nn.Module) -> nn.Module:
    """The module whose output `module` gives: a Sequential runs all its children, so an Echo layer goes to the last."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module


def echo_layers(model: nn.Module) -> dict[str, Echo]:
    """The Echo layers of a model by their dotted names, in the order in which they are registered."""
    return {name: m for name, m in modules(model).items() if isinstance(m, Echo)}


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
    """Eval mode; afterwards the flags and buffers of every module (net.train() would un-freeze a frozen BatchNorm)."""
    flags = {module: module.training for module in model.modules()}
    buffers = [
        (module, name, t, t._version, t.clone())
        for module in flags
        for name, t in module._buffers.items()
        if t is not None and not t.is_inference()
    ]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag
        for module, name, t, version, held in buffers:
            module._buffers[name] = t
            if t._version != version:  # only then, for a graph that is yet to be run backward may hold it
                with torch.no_grad():
                    t.copy_(held)


@contextmanager
def measuring(model: nn.Module, phase: Phase = "draw", streams: Streams | None = None) -> Iterator[dict[str, Echo]]:
    """Eval mode without gradients, uncompiled, Echo layers in the given phase; all (banks too) is put back afterwards.

    The global random state is forked: what is drawn inside (by a data loader, say) does not change the training.
    """
    model = plain(model)
    layers = echo_layers(model)
    before = [(layer, layer.phase, layer.streams, layer.watch, layer.bank) for layer in layers.values()]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices), eager(), _eval(model), torch.no_grad():
            for layer in layers.values():
                layer.phase = phase
                layer.streams = streams if streams is not None else layer.streams
            yield layers
    finally:
        for layer, layer.phase, layer.streams, layer.watch, layer.bank in before:
            layer.replay = None


def execution_order(model: nn.Module, x: Tensor) -> list[str]:
    """The names of the Echo layers in the order in which a forward pass reaches them, each once or InfoplaneError."""
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
    for name in order:
        if order.count(name) > 1:
            raise InfoplaneError(
                f"Echo layer {name!r} ran {order.count(name)} times in one forward pass; expected once. Its rate would "
                "be of one of its calls: give each place a layer of its own."
            )
    return order


def separating(model: nn.Module, x: Tensor, other: Tensor, held: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For each Echo layer, the ones below through which all it knows of the input has passed; "" stands for the output.

    Found by replaying: with the output of layer j held fixed, other inputs must leave what goes into layer k as it is.
    A connection that skips layer j shows, and then R_j does not bound I(Z_k;X). With the weights it may open or close.
    x, other: inputs, different in each row. held: z of the Echo layers, (R, B, K), in the order of execution.
    """
    order = list(held)
    passed: dict[str, list[str]] = {name: [] for name in (*order, "")}
    for j, below in enumerate(order):
        seen: list[dict[str, Tensor]] = []
        for inputs in (x, other):
            with measuring(model, "pass") as layers:
                watches: dict[str, list[Passed]] = {name: [] for name in order}
                for name in order:
                    layers[name].watch = watches[name]
                layers[below].phase, layers[below].replay = "replay", held[below]
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
            yield torch.take_along_dim(x, chosen.view(*chosen.shape, *[1] * (x.dim() - 2)), 1)
        elif replicas > 1:
            yield x[chosen]
        else:
            yield x[chosen[0]]
