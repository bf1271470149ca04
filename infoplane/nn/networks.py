"""Networks with a replica axis, multilayer perceptrons and convolutional ones, and their initialisations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import InfoplaneError, choose
from ..streams import derive
from .activations import ACTIVATIONS
from .quantise import Quantise
from .replicas import OwnWeights, ReplicaConv2d, ReplicaLinear

__all__ = ["CNN", "INITS", "MLP", "Convolution", "Hidden", "Init", "Output", "initialise"]


@dataclass(frozen=True, slots=True)
class Init:
    """weights(outputs, fan_in, generator, fan_out) -> (outputs, fan_in), the constant of the biases, and where it comes
    from. fan_out is the number of outputs, and for a convolution that times the size of its kernel."""

    weights: Callable[[int, int, torch.Generator, int], Tensor]
    bias: float
    source: str


def _normal(std: float, outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    return std * torch.randn(outputs, inputs, generator=generator)


def _truncated(std: float, outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Normal, redrawn beyond two standard deviations (TensorFlow's truncated_normal), by inverting its distribution."""
    edge = math.erf(2.0 / math.sqrt(2.0))
    u = (2.0 * torch.rand(outputs, inputs, generator=generator, dtype=torch.float64) - 1.0) * edge
    return (std * math.sqrt(2.0) * torch.erfinv(u)).float()


def _balanced(std: float, outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """Normal in size, with as many positive as negative weights in every unit (or one more)."""
    ranks = torch.rand(outputs, inputs, generator=generator).argsort(1).argsort(1)
    sign = torch.where(ranks < (inputs + 1) // 2, 1.0, -1.0)
    return sign * _normal(std, outputs, inputs, generator).abs()


def _glorot(outputs: int, inputs: int, generator: torch.Generator, fan_out: int) -> Tensor:
    limit = math.sqrt(6.0 / (inputs + fan_out))
    return (2.0 * torch.rand(outputs, inputs, generator=generator) - 1.0) * limit


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
        "as he, with as many positive as negative weights a unit: behind ReLUs a unit of negative weights is dead, "
        "which is one in sixteen at a fan-in of 4",
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
    """activation(W h + b), of `bits` bits (`Quantise`) where they are not 0."""

    def __init__(self, inputs: int, outputs: int, activation: str, replicas: int = 1, bits: int = 0) -> None:
        super().__init__()
        self.linear = ReplicaLinear(inputs, outputs, replicas)
        self.activation = choose(activation, ACTIVATIONS, "activation")
        self.quantise = Quantise(bits, activation, replicas) if bits else None

    def forward(self, h: Tensor) -> Tensor:
        t = ACTIVATIONS[self.activation].function(self.linear(h))
        return t if self.quantise is None else self.quantise(t)

    def extra_repr(self) -> str:
        return self.activation


class Convolution(nn.Module):
    """activation(W * h + b), a convolution of kernel 5, stride 2 and padding 2: it halves the size of a map.

    bits: as of `Hidden`.
    """

    def __init__(self, inputs: int, outputs: int, activation: str, replicas: int = 1, bits: int = 0) -> None:
        super().__init__()
        self.conv = ReplicaConv2d(inputs, outputs, kernel=5, stride=2, padding=2, replicas=replicas)
        self.activation = choose(activation, ACTIVATIONS, "activation")
        self.quantise = Quantise(bits, activation, replicas) if bits else None

    def forward(self, h: Tensor) -> Tensor:
        t = ACTIVATIONS[self.activation].function(self.conv(h))
        return t if self.quantise is None else self.quantise(t)

    def extra_repr(self) -> str:
        return self.activation


class Output(ReplicaLinear):
    """W h + b, the logits, of `bits` bits (`Quantise`) where they are not 0."""

    def __init__(self, inputs: int, outputs: int, replicas: int = 1, bits: int = 0) -> None:
        super().__init__(inputs, outputs, replicas)
        self.quantise = Quantise(bits, replicas=replicas) if bits else None

    def forward(self, x: Tensor) -> Tensor:
        t = super().forward(x)
        return t if self.quantise is None else self.quantise(t)


class _Layered(nn.Module):
    """R networks computed as one, as a chain of named layers that ends in `output`.

    sample_axes: the axes of one input; x has them and one for the N inputs, and may have one for the replicas in front.
    """

    def __init__(self, replicas: int, sample_axes: int) -> None:
        super().__init__()
        self.replicas = replicas
        self.sample_axes = sample_axes

    @property
    def layer_names(self) -> list[str]:
        return [name for name, _ in self.named_children()]

    def forward(self, x: Tensor) -> Tensor:
        if self.replicas > 1 and x.dim() == self.sample_axes + 1:
            x = x.expand(self.replicas, *x.shape)
        for layer in self.children():
            if x.dim() > 3 and isinstance(layer, Hidden | ReplicaLinear):
                x = x.flatten(-3)
            x = layer(x)
        return x


class MLP(_Layered):
    """A multilayer perceptron: layers `hidden1`, `hidden2`, ..., `output`, R copies computed as one.

    Input (N, D), shared by the replicas, or (R, N, D); output logits (R, N, C), or (N, C) for one replica.

    inputs: D; widths: of the hidden layers; outputs: C; activation: a name in `ACTIVATIONS`; replicas: R.
    bits: of every activation, logits too, in training and after it (`Quantise`); 0: floating-point numbers.
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


class CNN(_Layered):
    """A convolutional network: layers `conv1`, ..., `hidden1`, ..., `output`, R copies computed as one.

    Input (N, C, H, W), shared by the replicas, or (R, N, C, H, W); output as of `MLP`.

    shape: (C, H, W) of an image; channels: of the convolutions, each of which halves H and W; widths: of the hidden
    layers behind them; outputs, activation, replicas, bits: as in `MLP`.
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
                f"CNN: images of {tuple(shape)} and channels {tuple(channels)}; expected (C, H, W) and whole numbers "
                "of at least 1."
            )
        maps, height, width = shape
        for k, (fan_in, fan_out) in enumerate(pairwise([maps, *channels]), start=1):
            self.add_module(f"conv{k}", Convolution(fan_in, fan_out, activation, replicas, bits))
            height, width, maps = -(-height // 2), -(-width // 2), fan_out
        _add_dense(self, maps * height * width, widths, outputs, activation, bits)


def _add_dense(model: _Layered, inputs: int, widths: Sequence[int], outputs: int, activation: str, bits: int) -> None:
    sizes = [inputs, *widths, outputs]
    if any(not isinstance(w, int) or w < 1 for w in sizes):
        raise InfoplaneError(f"Sizes of layers are {sizes}; expected whole numbers of at least 1 for every layer.")
    for k, (fan_in, fan_out) in enumerate(pairwise(sizes[:-1]), start=1):
        model.add_module(f"hidden{k}", Hidden(fan_in, fan_out, activation, model.replicas, bits))
    model.add_module("output", Output(sizes[-2], outputs, model.replicas, bits))


@torch.no_grad()
def initialise(model: nn.Module, init: str, seeds: Sequence[int]) -> None:
    """Draw the weights of every layer of ours outside noisy layers, replica r from seeds[r] alone.

    Each layer has a stream of its own, so that adding an Echo layer, or a layer above, leaves the others as they were.
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
