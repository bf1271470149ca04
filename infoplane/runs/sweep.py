"""Several settings trained side by side, a process each, and their tables as one."""

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

#: seconds between two looks at the processes
_WAIT = 0.2


class Sweep(Mapping[str, RunDir]):
    """The runs by name, and their tables: `measurements`, `metrics` and so on, frames with the names as column `run`.

    An empty frame where no run has that table.
    """

    def __init__(self, runs: dict[str, RunDir]) -> None:
        self._runs = runs
        self._frames = {table: self._read(table) for table in TABLES}  # now: the folder may be a temporary one

    def _read(self, table: str) -> pd.DataFrame:
        import pandas as pd

        frames = [run.read(table).assign(run=name) for name, run in self._runs.items()]
        filled = [frame for frame in frames if not frame.empty]
        return pd.concat(filled, ignore_index=True) if filled else frame_of(table, [])

    def frame(self, table: str = "measurements") -> pd.DataFrame:
        """Give a table of all runs, with the names as column `run`; empty where no run has that table."""
        return self._frames[choose(table, TABLES, "table")]

    def __getattr__(self, table: str) -> pd.DataFrame:
        if table in TABLES:
            return self._frames[table]
        raise AttributeError(f"a Sweep has no attribute {table!r}; its tables are {', '.join(TABLES)}")

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
    """Train each of the settings as `train` does, into folder/NAME, as many at once as there are cores.

    folder: where the run directories go; a run that is there with the same settings is not trained again, and one that
        was killed goes on, so that a sweep may be interrupted. None: a temporary folder, gone afterwards: only the
        tables of the `Sweep` are left.
    processes: how many at once; default: the cores. 1: in this process, one after the other. (With a GPU give 1: they
        would share it.)
    options: `device`, `keep_weights`, `threads`, `download` of `train`.

    Raises InfoplaneError where a run cannot be made or diverges, after the others have been stopped; what is recorded
    stays in its folder.
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
    """What a process is told; None for a run that is complete."""
    resume = (path / "config.json").exists()
    if resume:
        run = RunDir.open(path)
        if run.config.get("settings") != json.loads(json.dumps(settings.asdict())):
            raise InfoplaneError(f"{path} holds a run of other settings; choose another folder, or remove it.")
        if run.done:
            return None
    return {"settings": settings.asdict(), "out": str(path), "resume": resume, "options": options}


def _work(job: dict[str, Any], progress: bool = False) -> None:
    from .training import train

    settings = Settings.fromdict(job["settings"])
    train(settings, job["out"], resume=job["resume"], progress=progress, **job["options"])


def _run(waiting: dict[str, dict[str, Any]], total: dict[str, int], processes: int, progress: bool) -> None:
    """Processes of their own, not forks: torch's threads do not survive a fork, and nothing of the caller's script is
    imported again."""
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
            for name, (process, said) in list(running.items()):
                over = process.poll() is not None
                if not bar.disable or over:
                    now = total[name] if over else _snapshots(Path(waiting[name]["out"]))
                    bar.update(now - seen[name])
                    seen[name] = now
                if over:
                    said.seek(0)
                    text = said.read().decode(errors="replace").strip()
                    if process.returncode:
                        raise InfoplaneError(f"The run {name} stopped: {text.splitlines()[-1] if text else 'killed'}")
                    if text:
                        tqdm.write(text, file=sys.stderr)
                    _close(process, said)
                    del running[name]


def _start(job: dict[str, Any]) -> tuple[subprocess.Popen[bytes], Any]:
    said = tempfile.TemporaryFile()
    process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=said, stderr=said)
    assert process.stdin is not None
    process.stdin.write(json.dumps(job).encode() + b"\n")
    process.stdin.flush()  # and not closed: that is how the process knows that this one is still there
    return process, said


def _close(process: subprocess.Popen[bytes], said: Any) -> None:
    assert process.stdin is not None
    process.stdin.close()
    said.close()


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its processes; what they have recorded can be gone on with."""

    def watch() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock would be held while the interpreter ends
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _killed(running: dict[str, tuple[subprocess.Popen[bytes], Any]]) -> Iterator[None]:
    """Whatever ends this, no process is left behind."""
    try:
        yield
    finally:
        for process, said in running.values():
            process.terminate()
            process.wait()
            _close(process, said)


def _snapshots(path: Path) -> int:
    """How many snapshots a run has recorded so far."""
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
