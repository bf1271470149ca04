"""The names of noisy layers.

A noisy layer is a child of the module that it follows. The name of that module, `hidden2`, stands
for the input of the noisy layer, and the name of the child, `hidden2.echo` or `hidden2.noise`, for
its output. A user may have put a layer into a model under another name, so use the functions of
`models` (`noisy_layers`, `sent_to`) where there is a model. This module serves tables, which have
only the names. It does not import torch.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CHILDREN", "NoisyName", "noisy_name"]

#: The name under which a noisy layer becomes a child of the module that it follows, by its kind.
CHILDREN = {"echo": "echo", "gaussian": "noise", "dropout": "noise"}


class NoisyName(NamedTuple):
    """The parts of the name of a noisy layer.

    Args:
        sent: The name of its input, "hidden2".
        output: The name of its output, "hidden2.echo".
        kinds: The kinds of channel that it may be, ("echo",) or ("gaussian", "dropout"). The column
            `channel` of a row says which of them it is.
    """

    sent: str
    output: str
    kinds: tuple[str, ...]


def noisy_name(layer: str) -> NoisyName | None:
    """Read the name of a noisy layer.

    Args:
        layer: The dotted name of a layer.

    Returns:
        The parts of the name, or None if the layer is not a noisy one.

    Example:
        >>> noisy_name("hidden2.echo")
        NoisyName(sent='hidden2', output='hidden2.echo', kinds=('echo',))
        >>> noisy_name("hidden2") is None
        True
    """
    sent, _, child = layer.rpartition(".")
    kinds = tuple(kind for kind, known in CHILDREN.items() if known == child)
    return NoisyName(sent, layer, kinds) if kinds else None
