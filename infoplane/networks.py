"""Classifier networks with a replica axis, and their initialisations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from .activations import ACTIVATIONS
from .records import InfoplaneError, choose
from .replicas import ReplicaLinear, derive

__all__ = ["INITS", "MLP", "Hidden", "Init", "initialise"]


@dataclass(frozen=True, slots=True)
class Init:
    """weights(shape (out, in), generator) -> tensor, the constant of the biases, and where it comes from."""

    weights: Callable[[int, int, torch.Generator], Tensor]
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


def _glorot(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    limit = math.sqrt(6.0 / (inputs + outputs))
    return (2.0 * torch.rand(outputs, inputs, generator=generator) - 1.0) * limit


INITS: dict[str, Init] = {
    "glorot": Init(_glorot, 0.0, "uniform, variance 2 / (fan_in + fan_out): Glorot & Bengio 2010, eq. 16"),
    "he": Init(
        lambda o, i, g: _normal(math.sqrt(2.0 / i), o, i, g),
        0.1,
        "normal, variance 2 / fan_in: He et al. 2015, eq. 10; biases of 0.1 keep narrow ReLU layers alive",
    ),
    "balanced": Init(
        lambda o, i, g: _balanced(math.sqrt(2.0 / i), o, i, g),
        0.1,
        "as he, with as many positive as negative weights a unit: behind ReLUs a unit of negative weights is dead, "
        "which is one in sixteen at a fan-in of 4",
    ),
    "tishby": Init(
        lambda o, i, g: _truncated(1.0 / math.sqrt(i), o, i, g),
        0.0,
        "truncated normal of std 1 / sqrt(fan_in): Shwartz-Ziv & Tishby's code",
    ),
    "saxe": Init(
        lambda o, i, g: _normal(1.0 / math.sqrt(o), o, i, g), 0.0, "normal of std 1 / sqrt(fan_out): Saxe et al.'s code"
    ),
}


class Hidden(nn.Module):
    """activation(W h + b)."""

    def __init__(self, inputs: int, outputs: int, activation: str, replicas: int = 1) -> None:
        super().__init__()
        self.linear = ReplicaLinear(inputs, outputs, replicas)
        self.activation = choose(activation, ACTIVATIONS, "activation")

    def forward(self, h: Tensor) -> Tensor:
        return ACTIVATIONS[self.activation].function(self.linear(h))

    def extra_repr(self) -> str:
        return self.activation


class MLP(nn.Module):
    """A multilayer perceptron: layers `hidden1`, `hidden2`, ..., `output`, R copies computed as one.

    Input (N, D), shared by the replicas, or (R, N, D); output logits (R, N, C), or (N, C) for one replica.

    inputs: D; widths: of the hidden layers; classes: C; activation: a name in `ACTIVATIONS`; replicas: R.
    """

    def __init__(
        self, inputs: int, widths: Sequence[int], classes: int, activation: str = "tanh", replicas: int = 1
    ) -> None:
        super().__init__()
        sizes = [inputs, *widths, classes]
        if any(not isinstance(w, int) or w < 1 for w in sizes):
            raise InfoplaneError(f"MLP: sizes {sizes}; expected whole numbers of at least 1 for every layer.")
        self.replicas = replicas
        self.depth = len(widths)
        for k, (fan_in, fan_out) in enumerate(pairwise(sizes[:-1]), start=1):
            self.add_module(f"hidden{k}", Hidden(fan_in, fan_out, activation, replicas))
        self.output = ReplicaLinear(sizes[-2], classes, replicas)

    @property
    def layer_names(self) -> list[str]:
        return [f"hidden{k}" for k in range(1, self.depth + 1)] + ["output"]

    def forward(self, x: Tensor) -> Tensor:
        if self.replicas > 1 and x.dim() == 2:
            x = x.expand(self.replicas, *x.shape)
        for name in self.layer_names:
            x = self.get_submodule(name)(x)
        return x


@torch.no_grad()
def initialise(model: nn.Module, init: str, seeds: Sequence[int]) -> None:
    """Draw the weights of every ReplicaLinear outside Echo layers, replica r from seeds[r] alone.

    Each layer has a stream of its own, so that adding an Echo layer, or a layer above, leaves the others as they were.
    """
    chosen = INITS[choose(init, INITS, "initialisation")]
    for name, module in model.named_modules():
        if not isinstance(module, ReplicaLinear) or ".echo" in f".{name}":
            continue
        for r, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(derive("weights", seed, name))
            outputs, inputs = module.weight.shape[1:]
            module.weight[r] = chosen.weights(outputs, inputs, generator).to(module.weight.device)
        module.bias.fill_(chosen.bias if name != "output" else 0.0)
