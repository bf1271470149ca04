"""Threads that stay for compiled loops, and torch's own number of them."""

import os
import signal
import warnings

import pytest
import torch

from infoplane.estimators import kde_bounds
from infoplane.threads import in_threads, torch_threads


def test_work_is_dealt_to_as_many_threads_as_torch_uses():
    with torch_threads(3):
        assert in_threads(lambda k, threads: (k, threads), 8) == [(0, 3), (1, 3), (2, 3)]
        assert in_threads(lambda k, threads: (k, threads), 2) == [(0, 2), (1, 2)]
    with torch_threads(1):
        assert in_threads(lambda k, threads: (k, threads), 8) == [(0, 1)]


@pytest.mark.parametrize("where", [0, 1])
def test_an_error_of_any_thread_is_raised_and_nothing_is_left_changed(where):
    def work(k, threads):
        if k == where:
            raise ValueError(f"in {k}")

    with torch_threads(2):
        with pytest.raises(ValueError, match=f"in {where}"):
            in_threads(work, 2)
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("units", [5, 64])
def test_an_estimate_leaves_torch_its_threads(units):
    with torch_threads(2):
        kde_bounds(torch.randn(600, units), 1.0)
        assert torch.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_starts_threads_of_its_own():
    """A loader's workers are forks: threads of the parent are not there in them, and would be waited for."""
    with torch_threads(2), warnings.catch_warnings():
        in_threads(lambda k, threads: k, 2)
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 on: a fork of a process with threads
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a thread that is not there is waited for without end
            os._exit(in_threads(lambda k, threads: k, 2) != [0, 1])
        _, status = os.waitpid(child, 0)
    assert status == 0
