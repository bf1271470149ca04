"""The Echo layers of a model one after the other: their order, what each hears of the others, their reference codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError
from ..streams import Streams
from .bank import Bank
from .channel import Crossing
from .models import echo_layers, measuring, plain, replica_axis

__all__ = ["execution_order", "fill_banks", "separating"]


def execution_order(model: nn.Module, x: Tensor) -> list[str]:
    """The names of the noisy layers in the order in which a forward pass reaches them, each once or InfoplaneError."""
    order: list[str] = []
    with measuring(model, "off") as layers:
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
                f"The noisy layer {name!r} ran {order.count(name)} times in one forward pass; expected once. Its "
                "rate would be of one of its calls: give each place a layer of its own."
            )
    return order


def separating(model: nn.Module, x: Tensor, other: Tensor, held: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """For each noisy layer, the ones below through which all it knows of the input has passed; "" is for the output.

    Found by replaying: with the output of layer j held fixed, other inputs must leave what goes into layer k as it is.
    A connection that skips layer j shows, and then R_j does not bound I(Z_k;X). With the weights it may open or close.
    x, other: inputs, different in each row. held: z of the noisy layers, (R, B, K), in the order of execution.
    """
    order = list(held)
    passed: dict[str, list[str]] = {name: [] for name in (*order, "")}
    for j, below in enumerate(order):
        seen: list[dict[str, Tensor]] = []
        for inputs in (x, other):
            with measuring(model, "off") as layers:
                watches: dict[str, list[Crossing]] = {name: [] for name in order}
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
    batch share the echoes of the layer below: at B = 100 that gives .26 nats for .18 (tests/channels/test_bank.py).
    Returns the banks by layer, in the order of execution. They are not saved with the model and go stale with training.
    """
    replicas, axis = replica_axis(model, x)
    size = x.shape[axis]
    if size < 2:
        raise InfoplaneError(f"fill_banks: {size} inputs; expected at least 2, and for exact rates {references}.")
    echoes = echo_layers(model)
    order = [name for name in execution_order(model, x.narrow(axis, 0, min(size, 2))) if name in echoes]
    if streams is None:  # seeded from the global stream, because that is forked in the passes below
        streams = Streams(torch.randint(2**62, (replicas,)).tolist(), x.device)
    banks: dict[str, Bank] = {}
    for name in order:
        picks = streams.permutations(size * -(-references // size)) % size
        with measuring(model, "draw", streams) as layers:
            for filled, bank in banks.items():
                echoes[filled].bank = bank
            for unfilled in order[len(banks) :]:
                layers[unfilled].phase = "off"
            watch: list[Crossing] = []
            layers[name].watch = watch
            for rows in _row_batches(x, picks, batch_size, replicas, axis):
                plain(model)(rows)
            f = torch.cat([p.f for p in watch], -2)
            banks[name] = Bank(f, layers[name].scales(f)[1])
    for name, bank in banks.items():
        echoes[name].bank = bank
    return banks


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
