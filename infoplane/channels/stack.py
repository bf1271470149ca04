"""Several noisy layers in one model: their order, their dependence, and their reference codes."""

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
    """Find the order in which a forward pass reaches the noisy layers.

    Args:
        model: The model, which is left unchanged.
        x: A few inputs, (N, ...) or (R, N, ...).

    Returns:
        The dotted names of the noisy layers.

    Raises:
        InfoplaneError: A layer runs more than once per forward pass.

    Example:
        >>> import infoplane as ip
        >>> layers = [torch.nn.Linear(3, 2), ip.Echo(2), ip.channels.Gaussian(2)]
        >>> execution_order(torch.nn.Sequential(*layers), torch.zeros(4, 3))
        ['1', '2']
    """
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
                f"The noisy layer {name!r} ran {order.count(name)} times in one forward pass; expected once, "
                "because its rate would be the rate of only one call. Give each place a layer of its own."
            )
    return order


def separating(model: nn.Module, x: Tensor, other: Tensor, held: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Find the noisy layers that separate each noisy layer from the input.

    Layer j separates layer k if all that k knows of the input has passed through j; R_j then bounds
    I(Z_k;X). This is found by replaying: with the output of layer j held fixed, other inputs must
    leave the input of layer k as it is. A connection that skips layer j shows. It may open or close
    as the weights change.

    Args:
        model: The model, which is left unchanged.
        x: Inputs, (B, ...) or (R, B, ...).
        other: Inputs that differ from x in each row.
        held: z of the noisy layers, (R, B, K), in the order of execution.

    Returns:
        The separating layers below each noisy layer, by its name; under "", those below the output
        of the model.
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
    """Give every Echo layer independent reference codes, made with the present weights.

    In eval mode the layers then draw their echoes from these codes, so predictions and rates do not
    depend on the other inputs of a batch. The echoes follow the law of x: every input is used
    equally often, in random order. The banks are not saved with the model, and go stale when the
    weights change.

    The k-th Echo layer gets its codes from a noisy pass of its own through the layers below,
    because the codes of one batch share the echoes of the layer below. Using them would give .26
    nats for .18 in one case with a batch of 100.

    Args:
        model: The model.
        x: The inputs, (N, ...), or (R, N, ...) for a model with a replica axis of its own.
        references: The least number of codes per layer. Inputs repeat if there are fewer.
        streams: The random generators, one per replica. By default they are seeded from PyTorch's
            global generator.
        batch_size: Rows per forward pass; by default all.

    Returns:
        The banks by the name of their layer, in the order of execution.

    Raises:
        InfoplaneError: There are fewer than 2 inputs, or a layer runs more than once per pass.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        >>> model = ip.insert_echo(torch.nn.Sequential(torch.nn.Linear(3, 2)), ["0"], x[:2])
        >>> {name: bank.size for name, bank in ip.fill_banks(model.eval(), x).items()}
        {'0.echo': 5000}
        >>> model(x[:1]).shape  # one row is enough now
        torch.Size([1, 2])
    """
    replicas, axis = replica_axis(model, x)
    size = x.shape[axis]
    if size < 2:
        raise InfoplaneError(f"fill_banks: {size} inputs; expected at least 2, and {references} for exact rates.")
    echoes = echo_layers(model)
    order = [name for name in execution_order(model, x.narrow(axis, 0, min(size, 2))) if name in echoes]
    if streams is None:  # seeded here, because the passes below fork the global generator
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
    """Yield batches of x in the order of picks, (R, rows)."""
    step = batch_size or picks.shape[-1]
    for start in range(0, picks.shape[-1], step):
        chosen = picks[:, start : start + step]
        if axis == 1:
            yield torch.take_along_dim(x, chosen.view(*chosen.shape, *[1] * (x.dim() - 2)), 1)
        elif replicas > 1:
            yield x[chosen]
        else:
            yield x[chosen[0]]
