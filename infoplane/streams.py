"""Seeds made of words, and R random generators that are drawn from side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["Streams", "derive"]


def derive(*words: object) -> int:
    """A 63-bit seed from any words: the same on every machine, unrelated for unrelated words."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """R generators drawn from side by side; every result has the replica axis in front.

    seeds: one a replica; None in place of a seed stands for PyTorch's global stream (what an Echo layer in a user's own
    model uses, so that `torch.manual_seed` repeats it as it does dropout).
    """

    def __init__(self, seeds: Sequence[int | None], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._generators = [None if s is None else torch.Generator(self.device).manual_seed(s) for s in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def __iter__(self) -> Iterator[torch.Generator | None]:
        return iter(self._generators)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(R, *shape) standard normal numbers."""
        out = torch.empty(len(self), *shape, dtype=dtype, device=self.device)
        for row, generator in zip(out, self, strict=True):
            torch.randn(shape, generator=generator, out=row)
        return out

    def permutations(self, n: int) -> Tensor:
        """(R, n), one random order of n rows a replica."""
        out = torch.empty(len(self), n, dtype=torch.int64, device=self.device)
        for row, generator in zip(out, self, strict=True):
            torch.randperm(n, generator=generator, out=row)
        return out
