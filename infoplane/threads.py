"""The number of cores, the threads of torch, and threads for compiled loops."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["cores", "in_threads", "torch_threads"]

T = TypeVar("T")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Run the block with `number` torch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Threads that are kept, because to start one takes as long as the sums of a small layer."""
    return ThreadPoolExecutor(cores())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def in_threads(work: Callable[[int, int], T], most: int) -> list[T]:
    """Run work(k, threads) in as many threads as torch uses, of which the calling thread is one.

    This is for loops that release the GIL. What comes before them is best done in NumPy: the
    threads of torch that an operation has used go on spinning for milliseconds, on the cores that
    the loops are to have.

    Args:
        work: a function of the number of its thread, k = 0, 1, ..., and of the number of threads.
        most: the largest number of threads.

    Returns:
        What the threads returned, in the order of k.
    """
    threads = min(torch.get_num_threads(), most)
    others = [_pool().submit(work, k, threads) for k in range(1, threads)]
    return [work(0, threads), *(other.result() for other in others)]
