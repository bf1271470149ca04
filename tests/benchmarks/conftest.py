"""The table at the end: what each row took, beside its reference of the same run, and the bar it is to reach."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

ROWS: list[Row] = []


@dataclass(frozen=True)
class Row:
    name: str
    threads: int
    ours: float
    other: float
    bar: str
    reached: bool

    def line(self) -> str:
        mark = "yes" if self.reached else "NO"
        return (
            f"{self.name:<62} {self.threads:>2} {1e3 * self.ours:>10.2f} {1e3 * self.other:>10.2f} "
            f"{self.other / self.ours:>8.2f}  {self.bar:<34} {mark}"
        )


class SideBySide:
    """Two functions timed in turn, so that what else the machine does falls on both; the medians."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads

    def __call__(
        self,
        ours: Callable[[], object],
        other: Callable[[], object],
        bar: str,
        reached: Callable[[float, float], bool],
        *,
        rounds: int = 7,
        inner: int = 1,
    ) -> None:
        taken: tuple[list[float], list[float]] = ([], [])
        for k in range(rounds + 1):
            for times, function in zip(taken, (ours, other), strict=True):
                start = time.perf_counter()
                for _ in range(inner):
                    function()
                if k:  # the first round warms up
                    times.append((time.perf_counter() - start) / inner)
        a, b = (statistics.median(times) for times in taken)
        ROWS.append(Row(self.name, self.threads, a, b, bar, reached(a, b)))


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def side_by_side(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield SideBySide(request.node.name.partition("[")[0].removeprefix("test_").replace("_", " "), request.param)
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter):
    if ROWS:
        load = "/".join(f"{x:.1f}" for x in os.getloadavg())
        terminalreporter.write_line(f"\nmedians [ms]; load {load}, {os.cpu_count()} cores, torch {torch.__version__}")
        terminalreporter.write_line(f"{'':<62} {'th':>2} {'ours':>10} {'reference':>10} {'ratio':>8}  bar")
        for row in ROWS:
            terminalreporter.write_line(row.line())
