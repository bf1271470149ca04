"""Multilayer perceptrons and convolutional networks with a replica axis, and initialisations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError, choose
from ..streams import derive
from .activations import ACTIVATIONS
from .quantise import Quantise
from .replicas import OwnWeights, ReplicaConv2d, ReplicaLinear

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["CNN", "INITS", "MLP", "Convolution", "Hidden", "Init", "Output", "initialise"]


@dataclass(frozen=True, slots=True)
class Init:
    """An initialisation of the weights and biases of a layer.

    Args:
        weights: Draws the weights, (outputs, fan_in), from (outputs, fan_in, generator, fan_out).
            fan_out is the number of outputs, which for a convolution is multiplied by the size of
            its kernel.
        bias: The value of every bias.
        source: The distribution of the weights, and where it was published.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> ip.nn.INITS["he"].weights(3, 5, torch.Generator().manual_seed(0), 3).shape
        torch.Size([3, 5])
    """

    weights: Callable[[int, int, torch.Generator, int], Tensor]
    bias: float
    source: str


def _normal(std: float, outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Draw normal numbers of mean 0."""
    return std * torch.randn(outputs, inputs, generator=generator)


def _truncated(std: float, outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Draw normal numbers cut at two standard deviations, like TensorFlow's truncated_normal.

    They are drawn by inverting the distribution function.
    """
    edge = math.erf(2.0 / math.sqrt(2.0))
    u = (2.0 * torch.rand(outputs, inputs, generator=generator, dtype=torch.float64) - 1.0) * edge
    return (std * math.sqrt(2.0) * torch.erfinv(u)).float()


def _balanced(std: float, outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Draw weights of normal size, as many positive as negative ones per unit (or one more)."""
    ranks = torch.rand(outputs, inputs, generator=generator).argsort(1).argsort(1)
    sign = torch.where(ranks < (inputs + 1) // 2, 1.0, -1.0)
    return sign * _normal(std, outputs, inputs, generator).abs()


def _glorot(outputs: int, inputs: int, generator: torch.Generator, fan_out: int) -> Tensor:
    """Draw uniform numbers of variance 2 / (fan_in + fan_out)."""
    limit = math.sqrt(6.0 / (inputs + fan_out))
    return (2.0 * torch.rand(outputs, inputs, generator=generator) - 1.0) * limit


#: Every initialisation, by the name that the command line and the settings use.
INITS: dict[str, Init] = {
    "glorot": Init(_glorot, 0.0, "uniform, variance 2 / (fan_in + fan_out): Glorot & Bengio 2010, eq. 16"),
    "he": Init(
        lambda o, i, g, _: _normal(math.sqrt(2.0 / i), o, i, g),
        0.1,
        "normal, variance 2 / fan_in: He et al. 2015, eq. 10; biases of 0.1 keep narrow ReLU layers alive",
    ),
    "balanced": Init(
        lambda o, i, g, _: _balanced(math.sqrt(2.0 / i), o, i, g),
        0.1,
        "as he, with as many positive as negative weights per unit: behind ReLUs a unit of negative weights is dead, "
        "which happens to one unit in sixteen at a fan-in of 4",
    ),
    "tishby": Init(
        lambda o, i, g, _: _truncated(1.0 / math.sqrt(i), o, i, g),
        0.0,
        "truncated normal of std 1 / sqrt(fan_in): Shwartz-Ziv & Tishby's code",
    ),
    "saxe": Init(
        lambda o, i, g, out: _normal(1.0 / math.sqrt(out), o, i, g),
        0.0,
        "normal of std 1 / sqrt(fan_out): Saxe et al.'s code",
    ),
}


class Hidden(nn.Module):
    """A dense layer, activation(W h + b).

    Args:
        inputs: The number of inputs.
        outputs: The number of units.
        activation: A name in `ACTIVATIONS`.
        replicas: R.
        bits: The bits of the activations (see `Quantise`); 0 for floating-point numbers.
    """

    def __init__(self, inputs: int, outputs: int, activation: str, replicas: int = 1, bits: int = 0) -> None:
        super().__init__()
        self.linear = ReplicaLinear(inputs, outputs, replicas)
        self.activation = choose(activation, ACTIVATIONS, "activation")
        self.quantise = Quantise(bits, activation, replicas) if bits else None

    def forward(self, h: Float[Tensor, "*R N D"]) -> Float[Tensor, "*R N K"]:
        """Compute the activations, (R, N, outputs), of h, (R, N, inputs)."""
        t = ACTIVATIONS[self.activation].function(self.linear(h))
        return t if self.quantise is None else self.quantise(t)

    def extra_repr(self) -> str:
        return self.activation


class Convolution(nn.Module):
    """A convolutional layer, activation(W * h + b), that halves the height and width of a map.

    Its kernel is 5 x 5, with stride 2 and padding 2.

    Args:
        inputs: The number of channels of the input.
        outputs: The number of channels of the output.
        activation: A name in `ACTIVATIONS`.
        replicas: R.
        bits: The bits of the activations (see `Quantise`); 0 for floating-point numbers.
    """

    def __init__(self, inputs: int, outputs: int, activation: str, replicas: int = 1, bits: int = 0) -> None:
        super().__init__()
        self.conv = ReplicaConv2d(inputs, outputs, kernel=5, stride=2, padding=2, replicas=replicas)
        self.activation = choose(activation, ACTIVATIONS, "activation")
        self.quantise = Quantise(bits, activation, replicas) if bits else None

    def forward(self, h: Float[Tensor, "*R N C H W"]) -> Float[Tensor, "*R N K h w"]:
        """Compute the maps, (R, N, outputs, H / 2, W / 2), of h, (R, N, inputs, H, W)."""
        t = ACTIVATIONS[self.activation].function(self.conv(h))
        return t if self.quantise is None else self.quantise(t)

    def extra_repr(self) -> str:
        return self.activation


class Output(ReplicaLinear):
    """The last layer, whose logits are W h + b.

    Args:
        inputs: The number of inputs.
        outputs: The number of classes.
        replicas: R.
        bits: The bits of the logits (see `Quantise`); 0 for floating-point numbers.
    """

    def __init__(self, inputs: int, outputs: int, replicas: int = 1, bits: int = 0) -> None:
        super().__init__(inputs, outputs, replicas)
        self.quantise = Quantise(bits, replicas=replicas) if bits else None

    def forward(self, x: Float[Tensor, "*R N D"]) -> Float[Tensor, "*R N C"]:
        """Compute the logits, (R, N, outputs), of x, (R, N, inputs)."""
        t = super().forward(x)
        return t if self.quantise is None else self.quantise(t)


class _Layered(nn.Module):
    """R networks computed as one, a chain of named layers that ends in `output`.

    Args:
        replicas: R.
        sample_axes: The number of axes of one input. A batch has one more, and one in front of
            that where each replica has inputs of its own.
    """

    def __init__(self, replicas: int, sample_axes: int) -> None:
        super().__init__()
        self.replicas = replicas
        self.sample_axes = sample_axes

    @property
    def layer_names(self) -> list[str]:
        """The names of the layers, in order."""
        return [name for name, _ in self.named_children()]

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers one after the other."""
        if self.replicas > 1 and x.dim() == self.sample_axes + 1:
            x = x.expand(self.replicas, *x.shape)
        for layer in self.children():
            if x.dim() > 3 and isinstance(layer, Hidden | ReplicaLinear):
                x = x.flatten(-3)
            x = layer(x)
        return x


class MLP(_Layered):
    """R multilayer perceptrons computed as one, with layers `hidden1`, `hidden2`, ..., `output`.

    The weights are zero until `initialise` draws them. Replica r of a network of R replicas is
    bit-equal to the network of its seed alone.

    Args:
        inputs: D, the number of inputs.
        widths: The number of units of each hidden layer.
        outputs: C, the number of classes.
        activation: A name in `ACTIVATIONS`.
        replicas: R.
        bits: The bits of every activation and logit, in training and after it (see `Quantise`);
            0 for floating-point numbers.

    Raises:
        InfoplaneError: A size is not a whole number of at least 1, or the activation is unknown.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> model = ip.MLP(12, [10, 7], 2, replicas=3)
        >>> ip.nn.initialise(model, "glorot", seeds=[0, 1, 2])
        >>> model.layer_names
        ['hidden1', 'hidden2', 'output']
        >>> model(torch.zeros(5, 12)).shape
        torch.Size([3, 5, 2])
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        outputs: int,
        activation: str = "tanh",
        replicas: int = 1,
        bits: int = 0,
    ) -> None:
        super().__init__(replicas, sample_axes=1)
        _add_dense(self, inputs, widths, outputs, activation, bits)

    def forward(self, x: Float[Tensor, "*#R N D"]) -> Float[Tensor, "*R N C"]:
        """Compute the logits.

        Args:
            x: (N, D), shared by the replicas, or (R, N, D).

        Returns:
            The logits, (R, N, C), or (N, C) for one replica and inputs (N, D).
        """
        return super().forward(x)


class CNN(_Layered):
    """R convolutional networks computed as one: `conv1`, ..., `hidden1`, ..., `output`.

    The weights are zero until `initialise` draws them.

    Args:
        shape: (C, H, W) of an image.
        channels: The number of channels of each convolution. Each of them halves H and W.
        widths: The number of units of each dense hidden layer behind the convolutions.
        outputs: The number of classes.
        activation: A name in `ACTIVATIONS`.
        replicas: R.
        bits: The bits of every activation and logit, in training and after it (see `Quantise`);
            0 for floating-point numbers.

    Raises:
        InfoplaneError: A size is not a whole number of at least 1, or the activation is unknown.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> model = ip.CNN((1, 28, 28), channels=[4, 8], widths=[16], outputs=10)
        >>> ip.nn.initialise(model, "balanced", seeds=[0])
        >>> model.layer_names
        ['conv1', 'conv2', 'hidden1', 'output']
        >>> model(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        widths: Sequence[int],
        outputs: int,
        activation: str = "relu",
        replicas: int = 1,
        bits: int = 0,
    ) -> None:
        super().__init__(replicas, sample_axes=3)
        if len(shape) != 3 or any(size < 1 for size in (*shape, *channels)):
            raise InfoplaneError(
                f"CNN: shape={tuple(shape)}, channels={tuple(channels)}; expected (C, H, W) and channels, all whole "
                "numbers of at least 1."
            )
        maps, height, width = shape
        for k, (fan_in, fan_out) in enumerate(pairwise([maps, *channels]), start=1):
            self.add_module(f"conv{k}", Convolution(fan_in, fan_out, activation, replicas, bits))
            height, width, maps = -(-height // 2), -(-width // 2), fan_out
        _add_dense(self, maps * height * width, widths, outputs, activation, bits)

    def forward(self, x: Float[Tensor, "*#R N C H W"]) -> Float[Tensor, "*R N classes"]:
        """Compute the logits.

        Args:
            x: (N, C, H, W), shared by the replicas, or (R, N, C, H, W).

        Returns:
            The logits, (R, N, classes), or (N, classes) for one replica and inputs (N, C, H, W).
        """
        return super().forward(x)


def _add_dense(model: _Layered, inputs: int, widths: Sequence[int], outputs: int, activation: str, bits: int) -> None:
    """Add the dense layers `hidden1`, `hidden2`, ..., `output`."""
    sizes = [inputs, *widths, outputs]
    if any(not isinstance(w, int) or w < 1 for w in sizes):
        raise InfoplaneError(f"The sizes of the layers are {sizes}; expected whole numbers of at least 1.")
    for k, (fan_in, fan_out) in enumerate(pairwise(sizes[:-1]), start=1):
        model.add_module(f"hidden{k}", Hidden(fan_in, fan_out, activation, model.replicas, bits))
    model.add_module("output", Output(sizes[-2], outputs, model.replicas, bits))


@torch.no_grad()
def initialise(model: nn.Module, init: str, seeds: Sequence[int]) -> None:
    """Draw the weights of a network, for replica r from seeds[r] alone.

    Every `ReplicaLinear` and `ReplicaConv2d` outside a noisy layer is drawn. Each layer has a
    random stream of its own, so adding an Echo layer, or a layer above, changes no other layer.

    Args:
        model: An `MLP` or a `CNN`, whose weights are changed.
        init: A name in `INITS`.
        seeds: One seed per replica.

    Raises:
        InfoplaneError: The initialisation is unknown.

    Example:
        >>> import infoplane as ip
        >>> model = ip.MLP(12, [10], 2, replicas=2)
        >>> ip.nn.initialise(model, "tishby", seeds=[7, 7])
        >>> weights = model.hidden1.linear.weight
        >>> bool((weights[0] == weights[1]).all())
        True
    """
    chosen = INITS[choose(init, INITS, "initialisation")]
    within = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, OwnWeights))
    for name, module in model.named_modules():
        if not isinstance(module, ReplicaLinear | ReplicaConv2d) or name.startswith(within):
            continue
        outputs, *fan_in = module.weight.shape[1:]
        for r, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(derive("weights", seed, name))
            drawn = chosen.weights(outputs, math.prod(fan_in), generator, outputs * math.prod(fan_in[1:]))
            module.weight[r] = drawn.reshape(module.weight.shape[1:]).to(module.weight.device)
        module.bias.fill_(chosen.bias if name != "output" else 0.0)
