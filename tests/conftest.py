"""What several test files need."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from .shapes import enforce

enforce()  # before a test module takes a function by its name

Weights = Callable[[int], torch.Generator]


# One thread, as `train` runs: the tests are many small operations, which two threads take longer over than one.
torch.set_num_threads(1)


@pytest.fixture
def seeded() -> Weights:
    """A generator of its own for every seed: no test touches the global random state."""
    return lambda seed: torch.Generator().manual_seed(seed)


class Handwritten(nn.Module):
    """A module as a user writes it: functional calls, a layer that gives a tuple, a layer that is never called."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.encoder = nn.Linear(12, 8)
        self.act = nn.ReLU(inplace=True)
        self.middle = TupleLayer()
        self.head = nn.Linear(6, 2)
        self.unused = nn.Linear(2, 2)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.encoder(x))
        h, _ = self.middle(h)
        return self.head(torch.tanh(h))


class TupleLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 6)

    def forward(self, h: Tensor) -> tuple[Tensor, str]:
        return self.linear(h), "and something else"


@pytest.fixture
def handwritten() -> Handwritten:
    return Handwritten()


@pytest.fixture
def bits(seeded: Weights) -> tuple[Tensor, Tensor]:
    """300 random 12-bit inputs, and as label whether more than six bits are on."""
    x = torch.randint(0, 2, (300, 12), generator=seeded(5)).float()
    return x, (x.sum(1) > 6).long()
