"""Random numbers for tests, each from a seed of its own, so that no test touches the global random state."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["generator", "normal", "normal_32"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def normal_32(*shape: int, seed: int = 0) -> Tensor:
    return normal(*shape, seed=seed, dtype=torch.float32)
