"""Seeds made of words, and R random generators that are used side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

__all__ = ["Streams", "derive"]


def derive(*words: object) -> int:
    """Derive a 63-bit seed from words.

    It is the same on every machine, and different words give unrelated seeds.

    Args:
        words: What the seed is for. Each is converted to text.

    Returns:
        A whole number from 0 to 2^63 - 1.

    Example:
        >>> derive("weights", 0, "hidden1") == derive("weights", 0, "hidden1")
        True
    """
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """R random generators that are used side by side.

    Every result has the replica axis in front, and slice r depends on seed r alone.

    Args:
        seeds: One seed per replica. None in place of a seed stands for PyTorch's global generator.
            An Echo layer in a user's own model draws from that one, so that `torch.manual_seed`
            repeats its noise as it repeats dropout.
        device: Where the numbers are drawn.

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

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "R ..."]:
        """Draw standard normal numbers.

        Args:
            shape: The shape of one replica's numbers.
            dtype: The type of the numbers.

        Returns:
            (R, *shape).
        """
        out = torch.empty(len(self), *shape, dtype=dtype, device=self.device)
        for row, generator in zip(out, self, strict=True):
            torch.randn(shape, generator=generator, out=row)
        return out

    def permutations(self, n: int) -> Int64[Tensor, "R n"]:
        """Draw a random order of n rows per replica.

        Args:
            n: The number of rows.

        Returns:
            (R, n): the numbers from 0 to n - 1 in each slice.
        """
        out = torch.empty(len(self), n, dtype=torch.int64, device=self.device)
        for row, generator in zip(out, self, strict=True):
            torch.randperm(n, generator=generator, out=row)
        return out
