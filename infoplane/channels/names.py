"""The names of noisy layers.

A noisy layer is a child of the module that it follows. That module's name, `hidden2`, stands for
what goes into the noisy layer, and the name of the child, `hidden2.echo` or `hidden2.noise`, for
what comes out. Where there is a model, ask it (`models.noisy_layers`, `models.sent_to`), for a
layer may have been put into it by hand under another name; a table has the names alone. Nothing
here needs torch.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CHILDREN", "NoisyName", "noisy_name"]

#: The name of the child that a noisy layer is of the module it follows, by the kind of its channel.
CHILDREN = {"echo": "echo", "gaussian": "noise", "dropout": "noise"}


class NoisyName(NamedTuple):
    """The parts of the name of a noisy layer.

    Args:
        sent: the name of what goes into the layer, "hidden2".
        output: the name of what comes out of it, "hidden2.echo".
        kinds: the kinds of channel that it may be, ("echo",) or ("gaussian", "dropout"); which of
            them it is stands in the column `channel` of its rows.
    """

    sent: str
    output: str
    kinds: tuple[str, ...]


def noisy_name(layer: str) -> NoisyName | None:
    """Read the name of a layer as that of a noisy one; None if it is that of any other.

    Example:
        >>> noisy_name("hidden2.echo")
        NoisyName(sent='hidden2', output='hidden2.echo', kinds=('echo',))
        >>> noisy_name("hidden2") is None
        True
    """
    sent, _, child = layer.rpartition(".")
    kinds = tuple(kind for kind, known in CHILDREN.items() if known == child)
    return NoisyName(sent, layer, kinds) if kinds else None
