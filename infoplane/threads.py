"""The number of cores, the number of torch threads, and threads for compiled loops."""

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
    """Return the number of cores that this process may use.

    Example:
        >>> cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Run the block with `number` torch threads.

    Args:
        number: The number of threads. The previous number is restored after the block.

    Example:
        >>> with torch_threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Return threads that are kept: starting one takes as long as the sums of a small layer."""
    return ThreadPoolExecutor(cores())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def in_threads(work: Callable[[int, int], T], most: int) -> list[T]:
    """Run work(k, threads) in as many threads as torch uses, one of which is the calling thread.

    This is for loops that release the GIL. Prepare their input in NumPy rather than in torch:
    after an operation, torch's threads keep spinning for milliseconds on the cores that the loops
    need.

    Args:
        work: A function of the index of its thread, k = 0, 1, ..., and of the number of threads.
        most: The largest number of threads.

    Returns:
        The values that the threads returned, in the order of k.

    Example:
        >>> sum(in_threads(lambda k, threads: sum(range(k, 10, threads)), most=4))
        45
    """
    threads = min(torch.get_num_threads(), most)
    others = [_pool().submit(work, k, threads) for k in range(1, threads)]
    return [work(0, threads), *(other.result() for other in others)]
