"""Several runs in one frame: their names, and the range of their epochs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import InfoplaneError

__all__ = ["between", "epochs_range", "run_names"]


def run_names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Name each run after its folder, with enough of the path to tell it from the others.

    Args:
        paths: The folders of the runs.

    Returns:
        The names, in the same order.

    Raises:
        InfoplaneError: If a folder was given twice.

    Example:
        >>> import infoplane as ip
        >>> ip.plot.run_names(["runs/monday/tanh", "runs/tuesday/tanh", "runs/relu"])
        ['monday/tanh', 'tuesday/tanh', 'relu']
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
    """Parse a range of epochs, `A..B`, `A..` or `..B`, that includes both ends.

    Args:
        text: The range.

    Returns:
        The first and the last epoch; an open end is None.

    Raises:
        InfoplaneError: If the text is not such a range, or ends before it begins.

    Example:
        >>> import infoplane as ip
        >>> ip.plot.epochs_range("10..")
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
    """Select the rows whose epoch lies in a range that includes both ends.

    Args:
        frame: Any table with the columns run and epoch.
        first: The first epoch; None for an open end.
        last: The last epoch; None for an open end.

    Returns:
        The rows, with a new index.

    Raises:
        InfoplaneError: If a run has no such epoch.

    Example:
        >>> import pandas as pd
        >>> import infoplane as ip
        >>> frame = pd.DataFrame({"run": "run", "epoch": [0, 10, 100]})
        >>> ip.plot.between(frame, 1, 10)["epoch"].tolist()
        [10]
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
