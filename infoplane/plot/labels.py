"""The words in figures: titles, quantities as mathematics, ceilings, and numbers of replicas."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ..analysis.points import LABEL, layers_of

__all__ = ["name_of_ceiling", "place_title", "replica_counts", "replica_note", "symbol", "title_of", "with_count"]


def symbol(quantity: str) -> str:
    """Write a quantity as mathematics, its digits as subscripts.

    Example:
        >>> symbol("I(Z2;Z1)")
        '$I(Z_{2};Z_{1})$'
    """
    body = "".join(f"_{{{c}}}" if c.isdigit() else c for c in quantity)
    return f"${body}$"


def title_of(rows: pd.DataFrame, panel: str, run: str = "", note: str = "") -> str:
    """Return the title of a panel: its name and channel, and below them the run and a note.

    The channel is left out if the layers have several, or if the name contains the parameters.
    """
    own = rows[rows["panel"] == panel]
    channels = set(own["channel"]) - {""}
    alone = len(channels) == 1 and (own["estimator"] == panel).any()
    name = ", ".join(dict.fromkeys([panel, *channels])) if alone else panel
    below = ", ".join(word for word in (run, note) if word)
    return "\n".join(textwrap.wrap(name, 32) + textwrap.wrap(below, 28))


def place_title(place: str, rows: pd.DataFrame) -> str:
    """Return the title of a place: Z1 with the names of its layers, or the name of the layer."""
    names = layers_of(rows)
    return place if names == [place] else "\n".join(textwrap.wrap(f"{place}: {', '.join(names)}", 48))


def name_of_ceiling(quantity: str, table: pd.DataFrame, unit: str, suffix: str = "") -> tuple[float, str]:
    """Return the largest ceiling of a quantity, and a text with its name and value."""
    value, ln_n = table[f"ceiling{suffix}"].max(), table[f"ln_n{suffix}"].max()
    if quantity in LABEL:  # without points, Y is a real number, and its ceiling is I(X;Y)
        return float(value), f"${'H(Y)' if ln_n > 0 else 'I(X;Y)'}$ = {value:.3g} {unit}"
    name = r"\ln N" if np.isclose(value, ln_n) else r"\mathrm{ceiling}"
    return float(value), f"${name}$ = {value:.3g} {unit}"


def replica_counts(frames: Iterable[pd.DataFrame]) -> list[int]:
    """Return the different numbers of replicas in the panels of a figure, in ascending order."""
    return sorted({int(frame["replica"].nunique()) for frame in frames})


def with_count(text: str, counts: Sequence[int]) -> str:
    """Add the number of replicas to an entry of a legend if it is the same in all panels."""
    return f"{text} ({counts[0]})" if len(counts) == 1 else text


def replica_note(frame: pd.DataFrame, counts: Sequence[int]) -> str:
    """Return the number of replicas for the title of a panel, or "" if all panels agree."""
    if len(counts) < 2:
        return ""
    n = int(frame["replica"].nunique())
    return f"{n} replicas" if n > 1 else "1 replica"
