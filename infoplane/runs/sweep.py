"""Train several settings side by side, with one process per run, and read their tables as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..errors import InfoplaneError, choose
from ..records import TABLES, frame_of
from .directory import RunDir
from .settings import Settings, snapshot_epochs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sweep", "train_all"]

#: seconds between two checks of the processes
_WAIT = 0.2


class Sweep(Mapping[str, RunDir]):
    """Several runs by name, with their tables as one.

    Every table is also an attribute: `measurements`, `metrics` and so on. Its column `run` holds
    the names of the runs. The tables are read at once, because the folders may be temporary ones.

    Args:
        runs: The runs by name.

    Example:
        >>> import infoplane as ip
        >>> common = {"epochs": 1, "widths": (3,), "replicas": 1, "subset": 200, "estimators": ()}
        >>> settings = {name: ip.Settings(activation=name, **common) for name in ("tanh", "relu")}
        >>> sweep = ip.train_all(settings, processes=1, progress=False)
        >>> list(sweep), sorted(set(sweep.metrics["run"])), sweep.frame("taps").empty
        (['tanh', 'relu'], ['relu', 'tanh'], True)
    """

    def __init__(self, runs: dict[str, RunDir]) -> None:
        self._runs = runs
        self._frames = {table: self._read(table) for table in TABLES}

    def _read(self, table: str) -> pd.DataFrame:
        import pandas as pd

        frames = [run.read(table).assign(run=name) for name, run in self._runs.items()]
        filled = [frame for frame in frames if not frame.empty]
        return pd.concat(filled, ignore_index=True) if filled else frame_of(table, [])

    def frame(self, table: str = "measurements") -> pd.DataFrame:
        """Return a table of all runs, with their names in the column `run`.

        Args:
            table: The name of the table (`records.TABLES`).

        Returns:
            The rows of all runs; none if no run has that table.

        Raises:
            InfoplaneError: If there is no such table.
        """
        return self._frames[choose(table, TABLES, "table")]

    def __getattr__(self, table: str) -> pd.DataFrame:
        if table in TABLES:
            return self._frames[table]
        raise AttributeError(f"A Sweep has no attribute {table!r}; its tables are {', '.join(TABLES)}.")

    def __getitem__(self, name: str) -> RunDir:
        return self._runs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)


def train_all(
    settings: Mapping[str, Settings],
    folder: str | os.PathLike[str] | None = None,
    *,
    processes: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Sweep:
    """Train each of several settings as `train` does, side by side.

    A sweep can be interrupted: a complete run in the folder is not trained again, and one that was
    stopped is resumed.

    Args:
        settings: The settings of each run, by its name.
        folder: The folder of the run directories, folder/NAME. By default it is a temporary folder
            that is removed at the end, so that only the tables of the `Sweep` remain.
        processes: The number of runs to train at once; by default one per core. With 1, the runs
            are trained in this process, one after the other; choose this with a GPU, which they
            would have to share.
        progress: Show a progress bar.
        **options: The options `device`, `keep_weights`, `threads` and `download` of `train`.

    Returns:
        The runs and their tables.

    Raises:
        InfoplaneError: If a run cannot be made or diverges, or its folder holds a run with other
            settings or of an earlier format. The other runs are stopped first, and keep the rows
            that they have recorded.

    Example:
        >>> import infoplane as ip
        >>> settings = ip.Settings(epochs=1, widths=(3,), replicas=1, subset=200, estimators=())
        >>> sweep = ip.train_all({"a": settings, "b": settings}, processes=1, progress=False)
        >>> sweep.metrics.groupby("run")["loss"].count().to_dict()
        {'a': 4, 'b': 4}
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="infoplane-") as temporary:
            return train_all(settings, temporary, processes=processes, progress=progress, **options)
    if not settings:
        raise InfoplaneError("train_all got no settings; expected a mapping of names to Settings.")
    paths = {name: Path(folder) / name for name in settings}
    if odd := [name for name, path in paths.items() if not name or path.parent != Path(folder)]:
        raise InfoplaneError(f"{odd[0]!r} cannot name a run; expected a plain folder name.")
    jobs = {name: _job(chosen, paths[name], options) for name, chosen in settings.items()}
    waiting = {name: job for name, job in jobs.items() if job is not None}
    from ..threads import cores

    processes = min(processes or cores(), len(waiting))
    if processes == 1:
        for job in waiting.values():
            _work(job, progress)
    elif waiting:
        total = {name: len(snapshot_epochs(settings[name].snapshots, settings[name].epochs)) for name in waiting}
        for job in waiting.values():
            job["options"] = options | {"workers": max(1, cores() // processes)}
        _run(waiting, total, processes, progress)
    return Sweep({name: RunDir.open(path) for name, path in paths.items()})


def _job(settings: Settings, path: Path, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return the job of a process, or None for a run that is complete already."""
    resume = (path / "config.json").exists()
    if resume:
        run = RunDir.open(path)
        run.check_format()
        recorded = run.config.get("settings")
        if recorded is None or Settings.fromdict(recorded) != settings:
            raise InfoplaneError(f"{path} holds a run with other settings. Choose another folder, or remove it.")
        if run.done:
            return None
    return {"settings": settings.asdict(), "out": str(path), "resume": resume, "options": options}


def _work(job: dict[str, Any], progress: bool = False) -> None:
    """Train the run of a job in this process."""
    from .training import train

    settings = Settings.fromdict(job["settings"])
    train(settings, job["out"], resume=job["resume"], progress=progress, **job["options"])


def _run(waiting: dict[str, dict[str, Any]], total: dict[str, int], processes: int, progress: bool) -> None:
    """Train the jobs in new processes, `processes` at a time.

    These are no forks, because torch's threads do not survive a fork, and no pool of
    `multiprocessing`, which would import the caller's script again.
    """
    left, running = list(waiting), dict[str, tuple[subprocess.Popen[bytes], Any]]()
    seen = dict.fromkeys(waiting, 0)
    with (
        _killed(running),
        tqdm(
            total=sum(total.values()),
            unit="snapshot",
            desc=f"{len(waiting)} runs",
            file=sys.stderr,
            disable=None if progress else True,
        ) as bar,
    ):
        while left or running:
            while left and len(running) < processes:
                name = left.pop(0)
                running[name] = _start(waiting[name])
            time.sleep(_WAIT)
            for name, (process, output) in list(running.items()):
                over = process.poll() is not None
                if not bar.disable or over:
                    now = total[name] if over else _snapshots(Path(waiting[name]["out"]))
                    bar.update(now - seen[name])
                    seen[name] = now
                if over:
                    output.seek(0)
                    text = output.read().decode(errors="replace").strip()
                    if process.returncode:
                        raise InfoplaneError(f"The run {name} stopped: {text.splitlines()[-1] if text else 'killed'}")
                    if text:
                        tqdm.write(text, file=sys.stderr)
                    _close(process, output)
                    del running[name]


def _start(job: dict[str, Any]) -> tuple[subprocess.Popen[bytes], Any]:
    output = tempfile.TemporaryFile()
    process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=output, stderr=output)
    assert process.stdin is not None
    process.stdin.write(json.dumps(job).encode() + b"\n")
    process.stdin.flush()  # not closed: as long as it is open, the process knows that this one lives
    return process, output


def _close(process: subprocess.Popen[bytes], output: Any) -> None:
    assert process.stdin is not None
    process.stdin.close()
    output.close()


def _end_with_parent() -> None:
    """End this process with its parent, which cannot stop it if it is killed.

    The rows recorded so far stay, and the run can be resumed.
    """

    def watch() -> None:
        # not through sys.stdin, whose lock would be held while the interpreter ends
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _killed(running: dict[str, tuple[subprocess.Popen[bytes], Any]]) -> Iterator[None]:
    """Stop the running processes at the end, whatever the reason."""
    try:
        yield
    finally:
        for process, output in running.values():
            process.terminate()
            process.wait()
            _close(process, output)


def _snapshots(path: Path) -> int:
    """Count the snapshots that a run has recorded so far."""
    try:
        with open(path / "metrics.csv", "rb") as file:
            next(file)
            return len({line.split(b",", 2)[1] for line in file})
    except (OSError, StopIteration, IndexError):
        return 0


if __name__ == "__main__":
    try:
        job = json.loads(sys.stdin.buffer.readline())
        _end_with_parent()
        _work(job)
    except InfoplaneError as error:
        sys.exit(str(error))
