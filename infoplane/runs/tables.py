"""CSV tables that only grow at their end, and files that are written whole or not at all: what survives a kill."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InfoplaneError
from ..records import Schema, frame_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TEMPORARY", "Table", "reason", "write_whole"]

#: what a file is called until it is whole
TEMPORARY = ".part"
#: fields that mean "not known" in a column of numbers; tables of format 1 have the second
_UNKNOWN = ["", "nan"]


class Table:
    """An append-only CSV file with the columns of a schema: a header, then one line per row.

    The caller holds the lock when it writes.

    Args:
        path: The file, which need not exist yet.
        schema: Its columns. A file of format 1, from before numbers had a side and a path, is
            translated when it is read.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self.schema = path, schema
        self._checked = False  # whether the end of the file was looked at since the lock was taken

    def let_go(self) -> None:
        """Look at the file again before the next append: another process may have written to it."""
        self._checked = False

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows at the end; all are on the disk when this returns, or the file is as it was."""
        if not rows:
            return
        self._mend()
        text = "".join(_line(self._fields(row)) for row in rows)
        try:
            # unbuffered: a buffer would write what is left of it after the file was taken back to its size
            with open(self.path, "ab", buffering=0) as file:
                size = file.tell()
                rest = memoryview((text if size else _line([*map(_quote, self.schema.columns)]) + text).encode())
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except BaseException:  # also Ctrl-C: the next append must not begin inside a line
                    os.truncate(self.path, size)
                    raise
            if not size:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise InfoplaneError(f"Cannot write {self.path}: {reason(error)}.") from error

    def read(self) -> pd.DataFrame:
        """Read the table: numbers to the last bit, NaN where a number is not known.

        A half-written last line is left out with a Python warning.

        Raises:
            InfoplaneError: For a damaged line anywhere else, with its number.
        """
        data = self._bytes()
        if not data:
            return frame_of(self.path.stem, [])
        whole = data[: data.rfind(b"\n") + 1]
        frame = self._parsed(whole)
        if frame is None:  # something is odd: look at each line, to leave out a torn one or to name a damaged one
            lines, _ = self._complete(data)
            whole = b"".join(lines)
            frame = self._parsed(whole) if lines else frame_of(self.path.stem, [])
        if len(whole) < len(data):
            warnings.warn(f"{self.path}: the last line is half-written and was left out", stacklevel=3)
        if frame is None:
            raise self._misread(whole)
        return frame

    def cut(self, epoch: int) -> None:
        """Remove the rows later than an epoch and a half-written last line."""
        data = self._bytes()
        lines, torn = self._complete(data)
        if not lines and not torn:
            return
        kept = lines[:1]
        column = _split(lines[0]).index("epoch") if lines else 0
        for at, line in enumerate(lines[1:], start=2):
            text = _split(line)[column]
            if not text.removeprefix("-").isdecimal():
                raise self._damaged(at, f"epoch is {text!r}, not an integer")
            if int(text) <= epoch:
                kept.append(line)
        if torn or len(kept) < len(lines):
            write_whole(self.path, b"".join(kept))

    def _mend(self) -> None:
        """Remove a half-written last line, and refuse a file with other columns, before the first append."""
        if self._checked:
            return
        lines, torn = self._complete(self._bytes())
        if torn:
            warnings.warn(f"{self.path}: the last line was half-written and was removed", stacklevel=4)
            write_whole(self.path, b"".join(lines))
        if lines and _split(lines[0]) != list(self.schema.columns):
            raise InfoplaneError(
                f"{self.path} has other columns than this version of infoplane writes; rows cannot be added to it."
            )
        self._checked = True

    def _bytes(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise InfoplaneError(f"Cannot read {self.path}: {reason(error)}.") from error

    def _parsed(self, data: bytes) -> pd.DataFrame | None:
        """The frame of whole lines; None where a line has other fields than the header, or a field another type."""
        import pandas as pd

        header = self._header(data)
        if header is None:
            return None
        kinds = {name: self.schema.columns[name] for name in header}
        try:
            frame = pd.read_csv(
                io.BytesIO(data),
                dtype={name: {int: "int64", float: "float64"}.get(kind, "str") for name, kind in kinds.items()},
                keep_default_na=False,
                na_values={name: _UNKNOWN for name, kind in kinds.items() if kind is float},
                **_exact(pd.__version__),
                skip_blank_lines=False,
                encoding="utf-8",
            )
        except (ValueError, OverflowError):  # ParserError and UnicodeDecodeError are ValueErrors
            return None
        if len(frame) != data.count(b"\n") - 1:  # a quote that is not closed
            return None
        within = _commas(frame[[name for name, kind in kinds.items() if kind is str]]) if b'"' in data else 0
        if data.count(b",") - within != (len(frame) + 1) * (len(header) - 1):  # a line with too few fields
            return None
        for name, kind in kinds.items():
            if kind is bool:
                truth = frame[name].map({"True": True, "False": False, "": None})
                if (truth.isna() & frame[name].ne("")).any():
                    return None
                frame[name] = truth.astype("boolean" if truth.isna().any() else "bool")
        return _translated(self.path.stem, frame)[list(self.schema.columns)]

    def _header(self, data: bytes) -> list[str] | None:
        """The columns of the file, if they are those of the schema, now or in format 1."""
        try:
            header = _split(data[: data.find(b"\n") + 1])
        except (csv.Error, UnicodeDecodeError):
            return None
        known = set(self.schema.columns)
        return header if set(header) in (known, known - _NEW.get(self.path.stem, set())) else None

    def _misread(self, data: bytes) -> InfoplaneError:
        """Which line cannot be read as what its column holds."""
        lines = data.splitlines(keepends=True)
        header = _split(lines[0])
        if self._header(data) is None:
            missing = ", ".join(c for c in self.schema.columns if c not in header) or "none"
            extra = ", ".join(c for c in header if c not in self.schema.columns) or "none"
            return self._damaged(1, f"the columns are not those of this table: missing: {missing}; unknown: {extra}")
        for at, line in enumerate(lines[1:], start=2):
            for name, text in zip(header, _split(line), strict=True):
                kind = self.schema.columns[name]
                if kind is int and not text.removeprefix("-").isdecimal():
                    return self._damaged(at, f"{name} is {text!r}, not an integer")
                if kind is float and text and not _is_number(text):
                    return self._damaged(at, f"{name} is {text!r}, not a number")
                if kind is bool and text not in ("True", "False", ""):
                    return self._damaged(at, f"{name} is {text!r}, neither True nor False")
        return self._damaged(1, "it cannot be read as a table")

    def _complete(self, data: bytes) -> tuple[list[bytes], bool]:
        """The whole lines, header first; and whether a half-written last line was left out."""
        lines = [line + b"\n" for line in data.split(b"\n")]
        torn = lines.pop() != b"\n"
        width = _width(lines[0]) if lines else 0
        for at, line in enumerate(lines, start=1):
            found = _width(line)
            if found == width and found:
                continue
            if at == len(lines) and not torn:
                return lines[:-1], True
            raise self._damaged(at, f"{found or 'no readable'} fields where the header has {width}")
        return lines, torn

    def _fields(self, row: dict[str, Any]) -> list[str]:
        columns = self.schema.columns
        if row.keys() != columns.keys():
            missing = ", ".join(c for c in columns if c not in row) or "none"
            extra = ", ".join(c for c in row if c not in columns) or "none"
            raise InfoplaneError(f"A row does not fit {self.path.name}: columns missing: {missing}; unknown: {extra}.")
        return [self._text(row[name], name, kind) for name, kind in columns.items()]

    def _text(self, value: Any, column: str, kind: type) -> str:
        if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # scalars of NumPy and torch
            value = value.item()
        if kind is str and isinstance(value, str) and not any(end in value for end in "\r\n\0"):
            return _quote(value)
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return repr(value)
        if kind is bool and (value is None or isinstance(value, bool)):
            return "" if value is None else repr(value)
        if kind is float and (value is None or (isinstance(value, int | float) and not isinstance(value, bool))):
            return "" if value is None or value != value else repr(float(value))
        expected = {
            str: "text of one line",
            int: "an integer",
            float: "a number, or None where it is not known",
            bool: "True or False, or None where it is not known",
        }[kind]
        raise InfoplaneError(f"A row does not fit {self.path.name}: {column} is {value!r}: expected {expected}.")

    def _damaged(self, line: int, what: str) -> InfoplaneError:
        return InfoplaneError(f"{self.path}, line {line}: {what}. The file is damaged; mend or remove that line.")


#: The columns that tables of format 1 do not have.
_NEW = {"measurements": {"side", "path"}}


def _translated(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Translate a frame of format 1, where side and path were parts of other columns; any other stays as it is."""
    if table != "measurements" or "side" in frame:
        return frame
    bound = r",?bound=(upper|lower)"
    channel = frame["channel"]
    off, null = channel.str.startswith("noise-off, "), channel.str.startswith("permuted, ")
    through = channel.str.removeprefix("permuted, ").str.startswith("echo, ")
    side = frame["params"].str.extract(bound, expand=False).fillna("")
    paired = frame["estimator"].eq("kde") | (frame["estimator"].eq("tap") & frame["quantity"].eq("I(Z;Y)"))
    side = side.mask(paired & frame["standing"].isin(["upper", "lower"]), frame["standing"])
    path = frame["warnings"].str.split(";").map(lambda codes: "sampled" if "sampled-codes" in codes else "")
    return frame.assign(
        side=side.mask(null, "null"),
        path=path.mask(off, "noise-off").mask(through & frame["estimator"].eq("binning"), "replicates"),
        channel=channel.str.replace(r"^(noise-off, )?(permuted, )?((echo|gaussian|dropout), )?", "", regex=True),
        params=frame["params"].str.replace(bound, "", regex=True),
    )


def _exact(version: str) -> dict[str, Any]:
    """The option that makes pandas read numbers to the last bit, which it does by itself from 3.1 on."""
    major, minor = map(int, version.split(".")[:2])
    return {} if (major, minor) >= (3, 1) else {"float_precision": "round_trip"}


def _commas(frame: pd.DataFrame) -> int:
    """The number of commas inside the fields of columns of text, which repeat."""
    counts = (frame[name].value_counts() for name in frame)
    return sum(int((own.index.str.count(",") * own).sum()) for own in counts)


def _line(fields: Sequence[str]) -> str:
    return ",".join(fields) + "\n"


def _quote(text: str) -> str:
    """Text as a field: in quotes where CSV needs them, and where it would read as a number or a boolean."""
    if "," in text or '"' in text or text in ("True", "False") or _is_number(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _split(line: bytes) -> list[str]:
    """The fields of one line; csv.Error or UnicodeDecodeError where it is no such thing."""
    return next(csv.reader([line.decode().removesuffix("\n")], strict=True), [])


def _width(line: bytes) -> int:
    """How many fields a line has; 0 where it is damaged."""
    try:
        return len(_split(line)) if b'"' in line or not line.isascii() else line.count(b",") + 1
    except (csv.Error, UnicodeDecodeError):
        return 0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# bytes onto the disk


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Replace the file `path` whole: the old one or the new one is there, never a part."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InfoplaneError(f"Cannot write {path}: {reason(error)}.") from error


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def reason(error: OSError) -> str:
    return error.strerror or str(error)
