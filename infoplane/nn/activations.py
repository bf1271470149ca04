"""The activations of the networks. Importing this module does not load torch.

Softplus and ELU are written with operations whose vectorised and scalar code paths agree to the
last bit. PyTorch's own kernels round the last few entries of a tensor differently from the rest,
and then a replica would depend on how many others are trained beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ACTIVATIONS", "Activation"]


def _softplus(x: Tensor) -> Tensor:
    """Compute log(1 + exp x)."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(-x)


def _elu(x: Tensor) -> Tensor:
    """Compute x above 0, and exp(x) - 1 below."""
    return x.clamp(min=0.0) + x.clamp(max=0.0).expm1()


@dataclass(frozen=True, slots=True)
class Activation:
    """An elementwise function, and the initialisation and place of an Echo layer that suit it.

    After a ReLU many codes are the same number, 0, and some units are dead, so that a rate there is
    often only a bound. This is why an Echo layer comes before it.

    Args:
        function: A map from a tensor to a tensor of the same shape.
        formula: The function in words, with its range.
        init: The initialisation that suits it, a name in `networks.INITS`.
        echo: Whether an Echo layer comes "before" it or "after" it by default.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> ip.nn.ACTIVATIONS["relu"].function(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
        >>> ip.nn.ACTIVATIONS["tanh"].init
        'glorot'
    """

    function: Callable[[Tensor], Tensor]
    formula: str
    init: str
    echo: str = "after"


#: Every activation, by the name that the command line and the settings use.
ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(lambda x: x.tanh(), "tanh(x), in [-1, 1]", "glorot"),
    "relu": Activation(lambda x: x.relu(), "max(x, 0)", "balanced", "before"),
    "linear": Activation(lambda x: x, "x", "glorot"),
    "softsign": Activation(lambda x: x / (1.0 + x.abs()), "x / (1 + |x|), in [-1, 1]", "glorot"),
    "softplus": Activation(_softplus, "log(1 + exp x)", "he"),
    "elu": Activation(_elu, "x above 0, exp(x) - 1 below", "he"),
    "hardtanh": Activation(lambda x: x.clamp(-1.0, 1.0), "x cut to [-1, 1]", "glorot"),
}
