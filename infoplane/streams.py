"""Seeds made of words, and R random generators that are drawn from side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["Streams", "derive"]


def derive(*words: object) -> int:
    """Derive a 63-bit seed from words.

    It is the same on every machine, and different words give unrelated seeds.

    Example:
        >>> derive("weights", 0, "hidden1") == derive("weights", 0, "hidden1")
        True
    """
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """R random generators that are drawn from side by side.

    Every result has the replica axis in front.

    Args:
        seeds: one per replica. None in place of a seed stands for PyTorch's global stream, which an
            Echo layer in a user's own model takes, so that `torch.manual_seed` repeats it as it
            does dropout.
        device: where the numbers are drawn.

    Example:
        >>> Streams([1, 2]).normal(5, 3).shape
        torch.Size([2, 5, 3])
    """

    def __init__(self, seeds: Sequence[int | None], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._generators = [None if s is None else torch.Generator(self.device).manual_seed(s) for s in seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def __iter__(self) -> Iterator[torch.Generator | None]:
        return iter(self._generators)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw standard normal numbers, (R, *shape)."""
        out = torch.empty(len(self), *shape, dtype=dtype, device=self.device)
        for row, generator in zip(out, self, strict=True):
            torch.randn(shape, generator=generator, out=row)
        return out

    def permutations(self, n: int) -> Tensor:
        """Draw a random order of n rows per replica, (R, n)."""
        out = torch.empty(len(self), n, dtype=torch.int64, device=self.device)
        for row, generator in zip(out, self, strict=True):
            torch.randperm(n, generator=generator, out=row)
        return out
