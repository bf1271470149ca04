"""Compute plug-in entropies of counts, of shares and of sorted numbers, in nats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["entropy_of_counts", "entropy_of_runs", "entropy_of_shares"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: Counts: whole numbers, of an integer type or as floats.
Counts = npt.NDArray[np.integer[Any]] | Floats


def entropy_of_counts(counts: Counts) -> Floats:
    """Compute sum_k n_k / N ln(N / n_k), which is exactly 0 where one symbol has all counts.

    Args:
        counts: The number of times that each symbol was seen, (..., K). Symbols that were not seen
            change nothing.

    Returns:
        The entropies, (...).

    Example:
        >>> float(entropy_of_counts(np.array([2, 2, 0, 0])))
        0.6931471805599453
    """
    n = counts.sum(-1, keepdims=True)
    terms = counts * np.log(n / np.where(counts > 0, counts, n))
    return np.asarray(terms.sum(-1) / n[..., 0])


def entropy_of_shares(shares: Floats) -> Floats:
    """Compute -sum_k p_k ln p_k.

    Args:
        shares: The share of each symbol, (..., K), which sum to 1.

    Returns:
        The entropies, (...).
    """
    return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1))


def entropy_of_runs(ordered: Ints) -> tuple[Floats, Floats]:
    """Compute the entropy of the numbers in each row, and count the distinct ones.

    Args:
        ordered: Numbers, (R, N), sorted along N.

    Returns:
        The entropies and the numbers of distinct numbers, (R,) each.
    """
    rows, n = ordered.shape
    new = np.ones(ordered.shape, dtype=np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:])
    starts = np.flatnonzero(new)
    counts = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=counts[:-1])  # np.diff with append= takes longer than all the rest
    counts[-1] = rows * n - starts[-1]
    terms = counts * np.log(n / counts)  # exactly 0 for a single run
    occupied = new.sum(1)
    return np.add.reduceat(terms, np.cumsum(occupied) - occupied) / n, occupied.astype(np.float64)
