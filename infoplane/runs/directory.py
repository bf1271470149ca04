"""The run directory: one run as a folder of plain files, with one writer, that survives a kill.

    config.json        every setting, as strict JSON, and the format of the folder
    environment.json   versions, platform, device, threads; its key "infoplane" marks the folder as
                       a run
    TABLE.csv          an append-only table for each of `records.TABLES`: measurements,
                       certificates, metrics, taps and gradients
    checkpoints/       NAME.pt, read back with weights_only=True
    figures/           made when it is first used
    done               exists once the run is complete
    .lock              held while a process writes; the kernel frees it when that process dies

Every file except the tables is written under another name and then renamed, so that it is the old
one or the new one. A table grows only at its end: a kill can leave a half-written last line, which
reading leaves out, and which appending and cutting remove.
"""

from __future__ import annotations

import io
import json
import math
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ..errors import InfoplaneError, choose
from ..records import TABLES
from .tables import TEMPORARY, Table, reason, write_whole

if TYPE_CHECKING:
    import pandas

__all__ = ["FORMAT", "RunDir"]

#: The format that is written. In format 1 (config.json has no "format") the side and the path of a
#: number are parts of other columns, and some settings have other names. Such a run can be read,
#: plotted and measured, but not resumed.
FORMAT = 2

_CONFIG, _ENVIRONMENT, _DONE, _LOCK = "config.json", "environment.json", "done", ".lock"


class RunDir:
    """One run on disk, from `create` or `open`.

    The first write takes the lock of the folder, and `close` or the end of a `with` block releases
    it. Reading takes no lock. A second writer, in this process or another, gets an
    `InfoplaneError`.

    Args:
        path: The folder.
        config: The content of its config.json.

    Example:
        >>> import tempfile
        >>> import infoplane as ip
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with ip.RunDir.create(f"{folder}/run", {"note": "by hand"}) as run:
        ...         run.save_checkpoint({"epoch": 0})
        ...     again = ip.RunDir.open(f"{folder}/run")
        ...     again.config, again.checkpoints(), again.done, len(again.read("metrics"))
        ({'format': 2, 'note': 'by hand'}, ['last'], False, 0)
    """

    def __init__(self, path: str | os.PathLike[str], config: dict[str, Any]) -> None:
        self.path = Path(path)
        self.config = config
        self._lock = FileLock(self.path / _LOCK, blocking=False, thread_local=False)
        self._tables = {name: Table(self.path / f"{name}.csv", schema) for name, schema in TABLES.items()}

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: dict[str, Any], *, force: bool = False) -> RunDir:
        """Start a run in a folder, and hold its lock.

        Args:
            path: The folder, which is made if it does not exist.
            config: JSON values, tuples, paths and NumPy scalars; `.config` holds them as JSON
                returns them. NaN and infinities are refused, because JSON does not have them.
            force: Replace another run in the folder. Its own files are removed: tables, checkpoints
                (*.pt), figures (*.png, *.pdf, *.svg, *.csv in figures/) and the mark `done`. Other
                files stay.

        Raises:
            InfoplaneError: If the folder holds a run and `force` is off, holds anything else, is
                being written by another process, or cannot be written.
        """
        path = Path(path)
        config = _strict({"format": FORMAT} | config, "config")
        try:
            path.mkdir(parents=True, exist_ok=True)
            _check_free(path, force)
            run = cls(path, config)
            run._take_lock()
            try:
                _check_free(path, force)  # another process may have written before we held the lock
                _empty(path)
                write_whole(path / _ENVIRONMENT, _json(_environment()))
                write_whole(path / _CONFIG, _json(config))  # last: with it the folder is a run
            except BaseException:
                run.close()
                raise
        except OSError as error:
            raise InfoplaneError(f"Cannot write a run to {path}: {reason(error)}. Choose another folder.") from error
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDir:
        """Open the run in a folder, to read or to continue it.

        Args:
            path: The folder.

        Raises:
            InfoplaneError: If the folder holds no run, or one of a later format.
        """
        path = Path(path)
        if not _is_run(path):
            what = "holds no run" if path.is_dir() else "is a file" if path.exists() else "does not exist"
            raise InfoplaneError(
                f"{path} is no run directory: it {what}. A run directory holds {_CONFIG} and "
                f"{_ENVIRONMENT}, as `infoplane train` writes them."
            )
        try:
            config = json.loads((path / _CONFIG).read_bytes())
        except (OSError, ValueError) as error:
            raise InfoplaneError(f"Cannot read {path / _CONFIG}: {error}.") from error
        run = cls(path, config)
        if not (isinstance(run.format, int) and 1 <= run.format <= FORMAT):
            raise InfoplaneError(
                f"{path} has format {run.format!r}; this version of infoplane reads formats 1 to {FORMAT}. Read it "
                "with the version that wrote it, or a later one."
            )
        return run

    @property
    def format(self) -> int:
        """The format of the folder: `FORMAT`, or an earlier one."""
        found: int = self.config.get("format", 1) if isinstance(self.config, dict) else 0
        return found

    def check_format(self) -> None:
        """Refuse to write to a run of an earlier format.

        Raises:
            InfoplaneError: If the run has such a format.
        """
        if self.format != FORMAT:
            raise InfoplaneError(
                f"{self.path} was written by an earlier version of infoplane (format {self.format}; this version "
                f"writes format {FORMAT}). It can be read, plotted and measured (infoplane measure {self.path}), but "
                "not resumed or changed: train it again into another folder, or resume it with the version that "
                "wrote it."
            )

    @property
    def name(self) -> str:
        """The name of the folder, without its parents."""
        return self.path.resolve().name

    @property
    def figures(self) -> Path:
        """The folder figures/, which is made if it does not exist."""
        folder = self.path / "figures"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InfoplaneError(f"Cannot make {folder}: {reason(error)}.") from error
        return folder

    @property
    def done(self) -> bool:
        """Whether the run is complete."""
        return (self.path / _DONE).exists()

    def mark_done(self) -> None:
        """Mark the run as complete."""
        self._take_lock()
        write_whole(self.path / _DONE, b"done\n")

    # the tables

    def append(self, tables: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Add rows at the end of tables; all of them are on the disk when this returns.

        A table whose rows cannot be written stays as it was.

        Args:
            tables: Rows by the name of their table, as `Recorder.snapshot` returns them. The
                columns of a row are those of `records.TABLES`; text has one line, float64 is kept
                to the last bit, and None or NaN is written as an empty field.

        Raises:
            InfoplaneError: For any other row or table, and for a folder of an earlier format.
        """
        self._take_lock()
        for name, rows in tables.items():
            self._tables[choose(name, TABLES, "table")].append(rows)

    def read(self, table: str) -> pandas.DataFrame:
        """Read a table as a frame.

        Numbers are read to the last bit. A half-written last line is left out with a Python
        warning.

        Args:
            table: The name of the table.

        Returns:
            The rows, with NaN for unknown numbers; none if the run has not written the table.

        Raises:
            InfoplaneError: For a damaged line anywhere else, with file and line; and for an unknown
                table.
        """
        return self._tables[choose(table, TABLES, "table")].read()

    def cut(self, epoch: int) -> None:
        """Remove from every table the rows later than an epoch, and a half-written last line.

        Each table is replaced as a whole; the next cut repairs a kill between two of them.

        Args:
            epoch: The last epoch to keep.
        """
        self._take_lock()
        for table in self._tables.values():
            table.cut(epoch)

    # checkpoints

    def save_checkpoint(self, state: Any, name: str = "last") -> None:
        """Write checkpoints/NAME.pt; an earlier one stays until the new one is complete.

        Args:
            state: Tensors, numbers, text and containers of them.
            name: The name of the checkpoint.

        Raises:
            InfoplaneError: If `weights_only=True` could not read the state back, or the file cannot
                be written.
        """
        import torch

        path = self._checkpoint(name)
        self._take_lock()
        buffer = io.BytesIO()
        try:
            torch.save(state, buffer)
        except Exception as error:
            raise InfoplaneError(f"Cannot save the checkpoint {name!r}: {error}") from error
        buffer.seek(0)
        if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(buffer):
            raise InfoplaneError(
                f"Cannot save the checkpoint {name!r}: it holds {', '.join(sorted(unsafe))}, which weights_only=True "
                "does not read back. Save only tensors, numbers, text and containers of them."
            )
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise InfoplaneError(f"Cannot make {path.parent}: {reason(error)}.") from error
        write_whole(path, buffer.getbuffer())

    def load_checkpoint(self, name: str = "last", *, map_location: Any = "cpu") -> Any:
        """Read a checkpoint without unpickling anything.

        Args:
            name: The name of the checkpoint.
            map_location: The device of its tensors, as for `torch.load`.

        Returns:
            The state that `save_checkpoint` was given.

        Raises:
            InfoplaneError: If the checkpoint is missing or damaged.
        """
        import torch

        path = self._checkpoint(name)
        if not path.exists():
            known = ", ".join(self.checkpoints()) or "none"
            raise InfoplaneError(f"{self.path} has no checkpoint {name!r}. It has: {known}.")
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            raise InfoplaneError(f"Cannot read {path}: it is damaged or no checkpoint of a run: {error}") from error

    def checkpoints(self) -> list[str]:
        """The names of the checkpoints, sorted as people do: epoch-2 comes before epoch-10."""
        return sorted((p.stem for p in (self.path / "checkpoints").glob("*.pt")), key=_natural)

    def _checkpoint(self, name: str) -> Path:
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise InfoplaneError(f"{name!r} cannot name a checkpoint; expected a plain file name such as 'last'.")
        return self.path / "checkpoints" / f"{name}.pt"

    # one writer

    def _take_lock(self) -> None:
        if self._lock.is_locked:
            return
        self.check_format()
        path = self.path / _LOCK
        try:
            self._lock.acquire()
            path.write_text(f"{os.getpid()}\n")
        except Timeout as error:
            raise InfoplaneError(
                f"{self.path} is being written by another process (pid {_holder(path)}). "
                "Wait for it, or choose another folder."
            ) from error
        except OSError as error:
            self._lock.release(force=True)
            raise InfoplaneError(f"Cannot write to {self.path}: {reason(error)}. Choose a local disk.") from error

    def close(self) -> None:
        """Release the lock. The run can still be read, and the next write takes the lock again."""
        for table in self._tables.values():
            table.let_go()  # another process may write next
        self._lock.release(force=True)

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts the numbers within names by their size."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _holder(path: Path) -> str:
    try:
        return path.read_text().strip() or "unknown"
    except (OSError, ValueError):
        return "unknown"


# what a folder holds


def _is_run(path: Path) -> bool:
    # Many tools write a config.json, but only ours lies beside an environment.json that names
    # infoplane.
    try:
        return (path / _CONFIG).is_file() and "infoplane" in json.loads((path / _ENVIRONMENT).read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _check_free(path: Path, force: bool) -> None:
    if _is_run(path):
        if not force:
            raise InfoplaneError(
                f"{path} holds another run. Continue it (--resume), replace it (--force), or choose another folder."
            )
        return
    started = {_LOCK, _ENVIRONMENT, _ENVIRONMENT + TEMPORARY, _CONFIG + TEMPORARY}  # a `create` that was killed
    if foreign := sorted(entry.name for entry in path.iterdir() if entry.name not in started):
        raise InfoplaneError(
            f"{path} is not empty and is no run directory (it holds {foreign[0]!r}). Choose another "
            "folder; nothing was changed."
        )


def _empty(path: Path) -> None:
    # The mark goes first, and config.json stays until it is replaced: if this is killed half-way,
    # the folder holds a run that is not complete.
    own = [path / _DONE, *(path / f"{table}.csv" for table in TABLES), *(path / "checkpoints").glob("*.pt")]
    own += [file for kind in ("png", "pdf", "svg", "csv") for file in (path / "figures").glob(f"*.{kind}")]
    own += [*path.glob(f"*{TEMPORARY}"), *(path / "checkpoints").glob(f"*.pt{TEMPORARY}")]
    for file in own:
        file.unlink(missing_ok=True)


def _environment() -> dict[str, Any]:
    import torch

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:  # run from a checkout
            return str(getattr(sys.modules.get(package), "__version__", "unknown"))

    gpu = torch.cuda.is_available()
    return {
        **{package: version(package) for package in ("infoplane", "torch", "numpy", "numba")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "cuda": torch.version.cuda if gpu else None,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _strict(value: Any, where: str) -> Any:
    """Return a value in JSON's own types, and refuse anything that JSON cannot hold."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise InfoplaneError(f"{where} has the key {key!r}; expected a string, as all keys of {_CONFIG} are.")
        return {key: _strict(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each, f"{where}[{at}]") for at, each in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise InfoplaneError(f"{where} is {value}, which JSON cannot hold. Use None or a string.")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InfoplaneError(
        f"{where} is a {type(value).__name__}, which {_CONFIG} cannot hold; expected text, numbers, "
        "booleans, None, and lists and dicts of them."
    )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
