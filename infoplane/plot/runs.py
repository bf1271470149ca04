"""Several runs in one frame: their names, and the epochs that are shown."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import InfoplaneError

__all__ = ["between", "epochs_range", "run_names"]


def run_names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return a name for each run: its folder, with as much of the path as tells it from the others.

    Raises:
        InfoplaneError: A folder was given twice.
    """
    parts = [Path(path).resolve().parts for path in paths]
    for at, path in enumerate(paths):
        if parts[at] in parts[:at]:
            raise InfoplaneError(f"The run {path} was given twice; expected each run once.")

    def name(own: tuple[str, ...]) -> str:
        others = [other for other in parts if other != own]
        size = next(k for k in range(1, len(own) + 1) if all(own[-k:] != other[-k:] for other in others))
        return str(Path(*own[-size:]))

    return [name(own) for own in parts]


def epochs_range(text: str) -> tuple[int | None, int | None]:
    """Read `A..B`, `A..` or `..B` as (A, B), both included; an open end is None.

    Example:
        >>> epochs_range("10..")
        (10, None)
    """
    found = re.fullmatch(r"(\d*)\.\.(\d*)", text.strip())
    if not found or found.groups() == ("", ""):
        raise InfoplaneError(
            f"The range of epochs {text!r} cannot be read; expected A..B, A.. or ..B, such as 10..400."
        )
    first, last = (int(end) if end else None for end in found.groups())
    if first is not None and last is not None and first > last:
        raise InfoplaneError(f"The range of epochs {text!r} ends before it begins; did you mean {last}..{first}?")
    return first, last


def between(frame: pd.DataFrame, first: int | None, last: int | None) -> pd.DataFrame:
    """Return the rows with first <= epoch <= last.

    Raises:
        InfoplaneError: A run has no such epoch; the message names those it has.
    """
    epoch = frame["epoch"]
    inside = (epoch >= (0 if first is None else first)) & (epoch <= (epoch.max() if last is None else last))
    for run, rows in frame.groupby("run", sort=False):
        if not inside[rows.index].any():
            epochs = sorted(set(rows["epoch"]))
            some = ", ".join(map(str, epochs)) if len(epochs) < 30 else f"{epochs[0]} to {epochs[-1]}"
            raise InfoplaneError(
                f"No recorded epoch of {run} lies in {'' if first is None else first}..{'' if last is None else last}; "
                f"it has {some}."
            )
    return frame[inside].reset_index(drop=True)
