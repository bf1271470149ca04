"""Run the calibration: every channel, estimator and seed, in parallel over the cores."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from ..errors import InfoplaneError
from ..estimators import parse_estimator
from ..estimators.mean_field import stand_in
from ..estimators.protocol import Estimator
from ..records import POINTS, POPULATION, Estimate, format_warnings
from ..threads import cores, torch_threads
from .cases import INPUT, LABEL, Case, Shown, Truth, cases
from .verdict import verdict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["calibrate", "standard_estimators"]

#: The estimators that are tried per family of channels, as they are written on the command line;
#: {s2} stands for the variance of the noise.
_ADDITIVE = (
    *("kde:noise_variance={s2}", "mixture:noise_variance={s2}", "mean-field:noise_variance={s2}"),
    *("ksg:noise_variance={s2}", "infonce:noise_variance={s2},steps=200"),
    *("nwj:noise_variance={s2},steps=200", "smile:noise_variance={s2},steps=200", "renyi"),
)
#: These estimators take a second per number, so neurons are tried with these numbers of units only.
_COSTLY, _COSTLY_UNITS = ("nwj", "smile"), (1, 5, 20)
_OF_ECHO = (
    "ksg",
    "infonce:steps=200",
    "nwj:steps=200",
    "smile:steps=200",
    "mean-field",
    "binning:bins=30,replicates=64",
    "renyi",
)
_TRIED: dict[str, tuple[str, ...]] = {
    "neurons": _ADDITIVE,
    "linear net": _ADDITIVE,
    "binary": (*_ADDITIVE, "ross:noise_variance={s2}"),
    "12 bits": _ADDITIVE,
    "quantised": ("counting", "binning:width=0.05", "binning:width=0.5", "decoder"),
    "echo": _OF_ECHO,
    "echo, two points": _OF_ECHO,
}
#: (index of the case, seed, thorough)
Task = tuple[int, int, bool]
_QUANTITY = {"I(X;T)": INPUT, "I(Z;X)": INPUT, "I(T;Y)": LABEL, "I(Z;Y)": LABEL}


def standard_estimators(family: str, variance: float, dimension: int, n: int) -> tuple[Estimator, ...]:
    """List the estimators that apply to a family of channels.

    Args:
        family: The family: neurons, linear net, binary, 12 bits, quantised, echo, or
            echo, two points.
        variance: The variance of the noise of the channel.
        dimension: The number of units.
        n: The number of points.

    Returns:
        The estimators, set up for that noise.

    Example:
        >>> import infoplane as ip
        >>> found = ip.calibration.standard_estimators("quantised", 0.001, 3, 4096)
        >>> [estimator.name for estimator in found]
        ['counting', 'binning', 'binning', 'decoder']
    """
    tried = [
        text
        for text in _TRIED[family]
        if family != "neurons" or dimension in _COSTLY_UNITS or not text.startswith(_COSTLY)
    ]
    return tuple(parse_estimator(text.format(s2=f"{variance:.12g}")) for text in tried)


def calibrate(
    *,
    thorough: bool = False,
    seeds: int | None = None,
    only: Sequence[str] = (),
    processes: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Try every estimator on channels whose information is known.

    Args:
        thorough: Whether to try more sizes N, more dimensions and more seeds.
        seeds: The number of draws of each channel; by default 2, or 10 if `thorough`.
        only: The families of channels to try; all if empty.
        processes: The number of processes, each with one thread; by default one per core.
        progress: Whether to show a progress bar.

    Returns:
        One row per channel, seed and number. The columns are those of a number
        (`records.Estimate`) and channel_name, family, dimension, points, seed, truth_nats,
        truth_stderr_nats (the standard error of the truth), error_nats (the value minus the
        truth), allowed_nats (the bound on its error that the number states), seconds, megabytes
        (the growth of the peak memory of the process) and verdict.

    Raises:
        InfoplaneError: If no channel is of the families in `only`.

    Example:
        >>> import infoplane as ip
        >>> options = {"seeds": 1, "processes": 1, "progress": False}
        >>> frame = ip.calibration.calibrate(only=["quantised"], **options)
        >>> counted = frame[frame["estimator"] == "counting"]
        >>> dict(zip(counted["quantity"], counted["verdict"], strict=True))
        {'I(X;T)': 'right', 'I(T;Y)': 'right'}
    """
    import pandas as pd

    chosen = [at for at, case in enumerate(_all(thorough)) if not only or case.family in only]
    if not chosen:
        known = ", ".join(dict.fromkeys(case.family for case in _all(thorough)))
        raise InfoplaneError(f"No channel is of the families {', '.join(only)}; the known families are: {known}.")
    count = seeds if seeds is not None else 10 if thorough else 2
    work = [(at, seed, thorough) for at in chosen for seed in range(count)]
    workers = min(processes or cores(), len(work))
    rows: dict[tuple[int, int], list[dict[str, Any]]] = {}
    hidden = None if progress else True
    with tqdm(total=len(work), unit="channel", desc="calibrating", file=sys.stderr, disable=hidden) as bar:
        for (at, seed, _), found in _run(work, workers):
            rows[at, seed] = found
            bar.update()
    return pd.DataFrame([row for key in sorted(rows) for row in rows[key]])


def _all(thorough: bool) -> list[Case]:
    return cases(standard_estimators, thorough=thorough)


def _run(work: list[Task], workers: int) -> Iterator[tuple[Task, list[dict[str, Any]]]]:
    if workers < 2:
        with torch_threads(1):
            for task in work:
                yield task, _trial(task)
        return
    # spawn the processes, because a fork of a process with torch threads hangs
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_alone) as pool:
        # the longest tasks go first, so that all cores finish at about the same time
        pending = {pool.submit(_trial, task): task for task in sorted(work, key=_cost, reverse=True)}
        for done in as_completed(pending):
            yield pending[done], done.result()


def _cost(task: Task) -> float:
    case = _all(task[2])[task[0]]
    return case.n**2 * case.dimension * len(case.estimators)


def _alone() -> None:
    torch.set_num_threads(1)


def _trial(task: Task) -> list[dict[str, Any]]:
    """Try all estimators on one draw of one channel."""
    at, seed, thorough = task
    case = _all(thorough)[at]
    shown = case.show(seed)
    rows: list[dict[str, Any]] = []
    place = {
        "channel_name": case.channel,
        "family": case.family,
        "dimension": case.dimension,
        "points": case.n,
        "seed": seed,
    }
    if shown.known is not None:
        start = time.perf_counter()
        rows += [place | row for row in _judged(shown.known(), shown, time.perf_counter() - start, math.nan)]
    for estimator in case.estimators:
        before = _peak(reset=True)
        start = time.perf_counter()
        try:
            found = estimator.measure(shown.reading, shown.labels)[0]
        except InfoplaneError:
            found = [
                Estimate(quantity=INPUT, value=math.nan, standing="estimate", channel="", estimator=estimator.name)
            ]
        seconds = time.perf_counter() - start
        rows += [place | row for row in _judged(found, shown, seconds, _peak() - before)]
    return rows


def _judged(found: Iterable[Estimate], shown: Shown, seconds: float, megabytes: float) -> Iterator[dict[str, Any]]:
    stand_ins = () if shown.reading.noise is None else (stand_in(shown.reading.noise.kind),)
    for e in found:
        law = POPULATION if e.law == POPULATION else POINTS
        what = _QUANTITY.get(e.quantity)
        # the truth applies neither to a permuted baseline nor to a bound for a stand-in channel
        own = e.side != "null" and e.channel not in stand_ins
        truth = shown.truths.get((what, law), Truth(math.nan)) if what and own else Truth(math.nan)
        row = {f.name: getattr(e, f.name) for f in fields(Estimate)}
        row["warnings"] = format_warnings(e.warnings)
        for name in ("value", "stderr", "ceiling"):
            row[f"{name}_nats"] = row.pop(name)
        row["allowed_nats"] = row.pop("error")
        yield row | {
            "truth_nats": truth.value,
            "truth_stderr_nats": truth.stderr,
            "error_nats": e.value - truth.value,
            "seconds": seconds,
            "megabytes": megabytes,
            "verdict": verdict(
                e.value,
                e.standing,
                truth.value,
                stderr=e.stderr,
                error=e.error,
                truth_stderr=truth.stderr,
                warnings=e.warnings,
            ),
        }


def _peak(*, reset: bool = False) -> float:
    """Return the peak memory of this process, in MB; NaN if the system does not tell.

    Args:
        reset: Whether to start the measurement of the peak anew first.
    """
    with contextlib.suppress(OSError):
        if reset:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    return math.nan
