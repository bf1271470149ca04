"""A CSV table that only grows at its end, and files that are written whole or not at all: what survives a kill."""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .records import COLUMNS, InfoplaneError

if TYPE_CHECKING:
    import pandas

__all__ = ["TEMPORARY", "Table", "reason", "write_whole"]

#: what a file is called until it is whole
TEMPORARY = ".part"
#: columns that are numbers, and columns that are words even where a word reads as a number (a run named 7)
_NUMBERS = {"epoch", "step", "replica", "n", "value_nats", "stderr_nats", "error_nats", "ceiling_nats"}
_WORDS = (set(COLUMNS) | {"split"}) - _NUMBERS


class Table:
    """An append-only CSV file: a header, then one line a row. The caller holds the lock when it writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: tuple[str, ...] = ()  # not known before the first append

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        columns = self.columns or self._begin(rows[0])
        text = "".join(_line(self._fields(row, columns)) for row in rows)
        try:
            # unbuffered: a buffer would write what is left of it after the file was taken back to its size
            with open(self.path, "ab", buffering=0) as file:
                size = file.tell()
                rest = memoryview((text if size else _line([_quote(c) for c in columns]) + text).encode())
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except BaseException:  # also Ctrl-C: the next append must not begin inside a line
                    os.truncate(self.path, size)
                    raise
            if not size:
                _sync_folder(self.path.parent)
            self.columns = columns
        except OSError as error:
            raise InfoplaneError(f"Cannot write {self.path}: {reason(error)}.") from error

    def read(self) -> pandas.DataFrame:
        import pandas

        lines, torn = self._complete()
        if torn:
            warnings.warn(f"{self.path}: the last line is half-written and was left out", stacklevel=3)
        if not lines:
            return pandas.DataFrame(columns=list(COLUMNS) if self.path.stem == "measurements" else [])
        words, names = _WORDS | self._quoted(lines), _split(lines[0])
        text = io.BytesIO(b"".join(lines))
        frame = pandas.read_csv(text, header=0, names=names, dtype=str, keep_default_na=False, encoding="utf-8")
        # not by read_csv, whose own conversion of floats is not exact in every version
        columns = {name: frame[name].tolist() for name in names}
        return pandas.DataFrame({c: texts if c in words else self._typed(c, texts) for c, texts in columns.items()})

    def cut(self, epoch: int) -> None:
        lines, torn = self._complete()
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

    def _begin(self, first: dict[str, Any]) -> tuple[str, ...]:
        """The columns: the file's where it has some. Mends what a kill left at its end."""
        lines, torn = self._complete()
        if torn:
            warnings.warn(f"{self.path}: the last line was half-written and was removed", stacklevel=4)
            write_whole(self.path, b"".join(lines))
        if lines:
            return tuple(_split(lines[0]))
        return COLUMNS if self.path.stem == "measurements" else tuple(first)

    def _complete(self) -> tuple[list[bytes], bool]:
        """The whole lines, header first; and whether a half-written last line was left out."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], False
        except OSError as error:
            raise InfoplaneError(f"Cannot read {self.path}: {reason(error)}.") from error
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

    def _fields(self, row: dict[str, Any], columns: tuple[str, ...]) -> list[str]:
        if row.keys() != set(columns):
            missing = ", ".join(c for c in columns if c not in row) or "none"
            extra = ", ".join(c for c in row if c not in columns) or "none"
            raise InfoplaneError(f"A row does not fit {self.path.name}: columns missing: {missing}; unknown: {extra}.")
        if not _is_integer(row.get("epoch")):
            raise InfoplaneError(f"A row of {self.path.name} needs an integer 'epoch'; it has {row.get('epoch')!r}.")
        return [self._text(row[c], c) for c in columns]

    def _text(self, value: Any, column: str) -> str:
        if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # scalars of NumPy and torch
            value = value.item()
        if isinstance(value, str) and not any(end in value for end in "\r\n\0"):
            return _quote(value)
        if value is None or isinstance(value, bool | int | float):
            return "" if value is None else repr(value)
        expected = "expected text of one line, a number, a boolean or None"
        raise InfoplaneError(f"A row does not fit {self.path.name}: {column} is {value!r}: {expected}.")

    def _typed(self, column: str, texts: list[str]) -> list[Any]:
        """The values of a column that has no quotes: of the kind of its first field that is not empty."""
        first = next((text for text in texts if text), "")
        if first in ("True", "False") and {"True", "False"}.issuperset(texts):
            return [text == "True" for text in texts]
        if column not in _NUMBERS and not _is_number(first):
            return texts
        try:
            return [int(text) for text in texts]
        except ValueError:
            pass
        for line, text in enumerate(texts, start=2):
            if text and not _is_number(text):
                raise self._damaged(line, f"{column} is {text!r}, not a number")
        return [float(text or "nan") for text in texts]

    def _quoted(self, lines: list[bytes]) -> set[str]:
        """The columns with a field in quotes, which only text has. Those of measurements are known anyway."""
        header = _split(lines[0])
        if _NUMBERS | _WORDS >= set(header):
            return set()
        fields = (zip(header, _FIELD.findall(line), strict=False) for line in lines[1:] if b'"' in line)
        return {name for line in fields for name, field in line if field.startswith(b'"')}

    def _damaged(self, line: int, what: str) -> InfoplaneError:
        return InfoplaneError(f"{self.path}, line {line}: {what}. The file is damaged; mend or remove that line.")


_FIELD = re.compile(rb'(?:^|,)("(?:[^"]|"")*"|[^,"]*)')


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


def _is_integer(value: Any) -> bool:
    return not isinstance(value, bool) and hasattr(value, "__index__")


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
