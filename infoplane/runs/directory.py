"""The run directory: one run as a folder that explains itself with `cat`, survives being killed and has one writer.

    config.json        every setting, strict JSON, and the format of the folder
    environment.json   versions, platform, device, threads; its key "infoplane" is what marks the folder as a run
    TABLE.csv          append-only, for each of `records.TABLES`: measurements, certificates, metrics, taps, gradients
    checkpoints/       NAME.pt, read back with weights_only=True
    figures/           made when first asked for
    done               there once the run is complete
    .lock              held while a process writes; the kernel frees it when that process dies

Every file but the tables is written beside its place and renamed over it, so that it is the old one or the new one. A
table grows at its end only: what a kill can leave is a half-written last line, which reading leaves out, and appending
and cutting remove.
"""

from __future__ import annotations

import io
import json
import math
import os
import platform
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

#: The format that is written. 1 (config.json has no "format"): the side and the path of a number are parts of other
#: columns, and settings have older names; such a run can be read, plotted and measured, and not gone on with.
FORMAT = 2

_CONFIG, _ENVIRONMENT, _DONE, _LOCK = "config.json", "environment.json", "done", ".lock"


class RunDir:
    """One run on disk. Made with `create` or `open`; the first write takes the lock, `close` (or `with`) gives it back.

    Reading takes no lock. A second writer, in this process or another, gets an `InfoplaneError`.
    """

    def __init__(self, path: str | os.PathLike[str], config: dict[str, Any]) -> None:
        self.path = Path(path)
        self.config = config
        self._lock = FileLock(self.path / _LOCK, blocking=False, thread_local=False)
        self._tables = {name: Table(self.path / f"{name}.csv", schema) for name, schema in TABLES.items()}

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: dict[str, Any], *, force: bool = False) -> RunDir:
        """Start a run in the folder `path`, made if need be, and hold its lock.

        config: JSON values, tuples, paths and NumPy scalars; `.config` is what JSON gives back. A NaN or an infinity
            is refused, for JSON has none.
        force: empty a folder that holds another run of the run's own files: tables, checkpoints (*.pt), the figures
            (*.png, *.pdf, *.svg, *.csv in figures/) and the done mark. Other files stay.

        Raises InfoplaneError where the folder holds a run and `force` is off, holds anything else, is being written by
        another process, or cannot be written.
        """
        path = Path(path)
        config = _strict({"format": FORMAT} | config, "config")
        try:
            path.mkdir(parents=True, exist_ok=True)
            _check_free(path, force)
            run = cls(path, config)
            run._take_lock()
            try:
                _check_free(path, force)  # another process may have come and gone before the lock was ours
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
        """The run in the folder `path`, to read or to go on with. Raises InfoplaneError where there is none."""
        path = Path(path)
        if not _is_run(path):
            what = "holds no run" if path.is_dir() else "is a file" if path.exists() else "is not there"
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
        """The format of the folder: `FORMAT`, or that of the older version that wrote it."""
        found: int = self.config.get("format", 1) if isinstance(self.config, dict) else 0
        return found

    def check_format(self) -> None:
        """Refuse, with an InfoplaneError, to write to a run of an older format."""
        if self.format != FORMAT:
            raise InfoplaneError(
                f"{self.path} was written by an earlier version of infoplane (format {self.format}; this version "
                f"writes format {FORMAT}). It can be read, plotted and measured (infoplane measure {self.path}), but "
                "not resumed or changed: train it again into another folder, or resume it with the version that "
                "wrote it."
            )

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def figures(self) -> Path:
        """The folder figures/, made if need be."""
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
        """Say that the run is complete."""
        self._take_lock()
        write_whole(self.path / _DONE, b"done\n")

    # the tables

    def append(self, tables: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Add rows at the end of tables, all on disk when this returns; a table where that fails is as it was.

        Args:
            tables: Rows by the name of their table, as `Recorder.snapshot` gives them. The columns
                of a row are those of `records.TABLES`; text has one line, float64 is kept to the
                last bit, and None or NaN is an empty field.

        Raises:
            InfoplaneError: For any other row or table, and for a folder of an older format.
        """
        self._take_lock()
        for name, rows in tables.items():
            self._tables[choose(name, TABLES, "table")].append(rows)

    def read(self, table: str) -> pandas.DataFrame:
        """A table as a frame, numbers to the last bit, empty text as "", booleans as bool; empty where not yet written.

        A half-written last line is left out with a Python warning. Raises InfoplaneError, with file and line, for a
        damaged line anywhere else.
        """
        return self._tables[choose(table, TABLES, "table")].read()

    def cut(self, epoch: int) -> None:
        """Remove from every table the rows later than `epoch` and a half-written last line, and nothing else.

        Each table is replaced whole; a kill between two of them is mended by the next cut.
        """
        self._take_lock()
        for table in self._tables.values():
            table.cut(epoch)

    # checkpoints

    def save_checkpoint(self, state: Any, name: str = "last") -> None:
        """Write checkpoints/NAME.pt: tensors, numbers, text and containers of them. The old one stays until it is done.

        Raises InfoplaneError for a state that `weights_only=True` could not read back.
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
                "does not read back. Keep to tensors, numbers, text and containers of them."
            )
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise InfoplaneError(f"Cannot make {path.parent}: {reason(error)}.") from error
        write_whole(path, buffer.getbuffer())

    def load_checkpoint(self, name: str = "last", *, map_location: Any = "cpu") -> Any:
        """What `save_checkpoint` was given, nothing unpickled. Raises InfoplaneError where it is missing or damaged."""
        import torch

        path = self._checkpoint(name)
        if not path.exists():
            known = ", ".join(self.checkpoints()) or "none"
            raise InfoplaneError(f"{self.path} has no checkpoint {name!r}. There: {known}.")
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            raise InfoplaneError(f"Cannot read {path}: it is damaged or not ours: {error}") from error

    def checkpoints(self) -> list[str]:
        """The names of the checkpoints, sorted."""
        return sorted(p.stem for p in (self.path / "checkpoints").glob("*.pt"))

    def _checkpoint(self, name: str) -> Path:
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise InfoplaneError(f"{name!r} cannot name a checkpoint: expected a plain file name such as 'last'.")
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
        """Give the lock back. The run can still be read; the next write takes the lock again."""
        for table in self._tables.values():
            table.let_go()  # another process may write next
        self._lock.release(force=True)

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"


def _holder(path: Path) -> str:
    try:
        return path.read_text().strip() or "unknown"
    except (OSError, ValueError):
        return "unknown"


# what a folder holds


def _is_run(path: Path) -> bool:
    # Many tools write a config.json; only ours stands beside an environment.json that names infoplane.
    try:
        return (path / _CONFIG).is_file() and "infoplane" in json.loads((path / _ENVIRONMENT).read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _check_free(path: Path, force: bool) -> None:
    if _is_run(path):
        if not force:
            raise InfoplaneError(
                f"{path} holds another run. Go on with it (--resume), replace it (--force), or choose another folder."
            )
        return
    started = {_LOCK, _ENVIRONMENT, _ENVIRONMENT + TEMPORARY, _CONFIG + TEMPORARY}  # a `create` that was killed
    if foreign := sorted(entry.name for entry in path.iterdir() if entry.name not in started):
        raise InfoplaneError(
            f"{path} is not empty and is no run directory (it holds {foreign[0]!r}). Choose another "
            "folder; nothing was touched."
        )


def _empty(path: Path) -> None:
    # The done mark goes first and config.json stays to be replaced: killed half-way, this is a run that is not done.
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
    """`value` in JSON's own types. Raises InfoplaneError for what JSON has no word for, naming the place."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise InfoplaneError(f"{where} has the key {key!r}: a key of {_CONFIG} is a string.")
        return {key: _strict(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each, f"{where}[{at}]") for at, each in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise InfoplaneError(f"{where} is {value}, which JSON has no word for. Use None or a string.")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InfoplaneError(
        f"{where} is a {type(value).__name__}, which {_CONFIG} cannot hold: expected text, numbers, "
        "booleans, None, and lists and dicts of them."
    )


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
