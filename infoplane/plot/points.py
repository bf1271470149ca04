"""From rows of measurements to points of a figure: what is shown, brackets put together, means over replicas."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..records import COLUMNS, UNITS, InfoplaneError, choose
from .style import in_unit

__all__ = [
    "BOUNDS",
    "chosen",
    "curves",
    "echo_places",
    "layers_of",
    "loss_unit",
    "name_of_ceiling",
    "place_title",
    "points",
    "title_of",
]

#: which end of a bracket is drawn as the point
BOUNDS = ("mid", "lower", "upper")
#: whose numbers stand in the panel of another: the decoder's bound completes the bracket of the Echo layer
_PANEL_OF = {"decoder": "echo"}
_POINT = ["run", "panel", "quantity", "layer", "epoch", "replica"]


def layers_of(frame: pd.DataFrame) -> list[str]:
    """The layers of a frame, in the order in which they first appear."""
    return list(dict.fromkeys(frame["layer"]))


def echo_places(frame: pd.DataFrame) -> pd.Series:
    """Z1, Z2, ... for each row of a frame of Echo layers: which one of its run its layer is, counted from the input.

    Runs may call the same place by different names (an Echo layer before a ReLU, or after a tanh).
    """
    number: dict[tuple[str, str], str] = {}
    for run, rows in frame.groupby("run", sort=False):
        number |= {(str(run), layer): f"Z{at}" for at, layer in enumerate(layers_of(rows), start=1)}
    keys = zip(frame["run"], frame["layer"], strict=True)
    return pd.Series([number[key] for key in keys], index=frame.index, dtype=object)


def place_title(place: str, rows: pd.DataFrame) -> str:
    """What a place is called in a figure: Z1 with the names of the layers there, or the layer alone."""
    names = layers_of(rows)
    return place if names == [place] else "\n".join(textwrap.wrap(f"{place}: {', '.join(names)}", 48))


def title_of(frame: pd.DataFrame, panel: str, run: str = "") -> str:
    """The title of a panel: its name and, unless it says the parameters, the channel if that is one for all layers."""
    rows = frame[frame["panel"] == panel]
    channels = set(rows["channel"].fillna("").str.removeprefix("noise-off, ")) - {"", panel}
    name = f"{panel}, {channels.pop()}" if len(channels) == 1 and "," not in panel else panel
    return "\n".join(textwrap.wrap(name, 32) + textwrap.wrap(run, 28))


def name_of_ceiling(quantity: str, table: pd.DataFrame, unit: str, suffix: str = "") -> tuple[float, str]:
    """The largest ceiling of a quantity, and its name and value as text: H(Y), ln N, or just a ceiling."""
    value, ln_n = table[f"ceiling{suffix}"].max(), table[f"ln_n{suffix}"].max()
    if quantity.endswith("Y)"):  # of a law, and no points, Y is a number, and the ceiling what x says of it
        return float(value), f"${'H(Y)' if ln_n > 0 else 'I(X;Y)'}$ = {value:.3g} {unit}"
    name = r"\ln N" if np.isclose(value, ln_n) else r"\mathrm{ceiling}"
    return float(value), f"${name}$ = {value:.3g} {unit}"


def loss_unit(metrics: pd.DataFrame, unit: str) -> tuple[float, str]:
    """What to divide a loss by for `unit`, and what it is in then; a squared error is in no unit of information."""
    size = UNITS[choose(unit, UNITS, "unit")]
    objectives = set(metrics["objective"]) if "objective" in metrics else {"cross-entropy"}
    if len(objectives) > 1:
        raise InfoplaneError(
            f"The runs have different losses, {' and '.join(sorted(objectives))}; expected runs of one kind to draw."
        )
    return (size, unit) if objectives <= {"cross-entropy"} else (1.0, objectives.pop())


def chosen(
    frame: pd.DataFrame,
    *,
    unit: str,
    estimator: str | None = None,
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
) -> pd.DataFrame:
    """The rows asked for, of a frame with `records.COLUMNS`: in `unit` (see `style.in_unit`), with a column `panel`.

    A panel is an estimator; where one was run with several parameters, an estimator and its parameters.
    Raises InfoplaneError for an empty frame, one without the columns, one of several probes, and for unknown names.
    """
    if missing := [column for column in COLUMNS if column not in frame.columns]:
        raise InfoplaneError(f"The frame lacks the columns {', '.join(missing)}: expected a frame of measurements.")
    if frame.empty:
        raise InfoplaneError("The frame holds no measurements; there is nothing to draw.")
    probes = list(dict.fromkeys(frame["probe"]))
    if len(probes) > 1:
        raise InfoplaneError(
            f"The frame holds the probes {', '.join(map(str, probes))}, which are not to be averaged. Choose one, e.g. "
            f"frame[frame.probe == {probes[0]!r}]."
        )
    frame = in_unit(frame, unit).reset_index(drop=True)  # frames put together repeat their labels
    frame["params"] = frame["params"].fillna("").astype(str)
    frame["panel"] = frame["estimator"].replace(_PANEL_OF)
    frame["side"] = _sides(frame)
    frame["ln_n"] = np.log(frame["n"].where(frame["n"] > 0)) / UNITS[unit]
    keep = pd.Series(True, index=frame.index)
    if estimator is not None:
        keep &= frame["panel"] == choose(estimator, dict.fromkeys(frame["panel"]), "estimator")
    if layers is not None:
        keep &= frame["layer"].isin([choose(layer, layers_of(frame), "layer") for layer in layers])
    if epochs is not None:
        known = [str(epoch) for epoch in sorted(set(frame["epoch"]))]
        keep &= frame["epoch"].isin([int(choose(str(epoch), known, "epoch")) for epoch in epochs])
    if lost := [run for run in dict.fromkeys(frame["run"]) if run not in set(frame.loc[keep, "run"])]:
        own = frame[frame["run"] == lost[0]]
        raise InfoplaneError(
            f"{lost[0]} has none of the layers, estimators and epochs asked for. Its layers: "
            f"{', '.join(layers_of(own))}; its estimators: {', '.join(dict.fromkeys(own['panel']))}."
        )
    frame = frame[keep].copy()
    for panel, rows in frame.groupby("panel", sort=False):
        if _clashing(rows).any() and panel not in _PANEL_OF.values():
            plain = rows["params"].str.replace(r"[,;\s]*bound=(upper|lower)$", "", regex=True)
            if plain.nunique() > 1:
                frame.loc[rows.index, "panel"] = f"{panel}, " + plain
    again = _clashing(frame)
    if again.any():
        first = frame[again].iloc[0]
        same = frame[again & (frame[_POINT] == first[_POINT]).all(axis=1)]
        differ = [c for c in ("step", "standing", "channel", "law", "estimator", "params") if same[c].nunique() > 1]
        raise InfoplaneError(
            f"The frame holds {len(same)} values of {first['quantity']} of layer {first['layer']!r} at epoch "
            f"{first['epoch']}, replica {first['replica']}, which differ in {', '.join(differ) or 'nothing'}. "
            "Keep one of them."
        )
    return frame


def _sides(frame: pd.DataFrame) -> np.ndarray:
    """What end of a bracket a row is: upper, lower or both. Estimates say so in their parameters."""
    upper = (frame["standing"] == "upper") | frame["params"].str.endswith("bound=upper")
    lower = (frame["standing"] == "lower") | frame["params"].str.endswith("bound=lower")
    return np.select([upper, lower], ["upper", "lower"], "both")


def _clashing(frame: pd.DataFrame) -> pd.Series:
    """Which rows say the same end of the same point as another."""
    clashing = pd.Series(False, index=frame.index)
    for side in ("lower", "upper"):
        own = frame[frame["side"].isin([side, "both"])]
        clashing |= own.duplicated(_POINT, keep=False).reindex(frame.index, fill_value=False)
    return clashing


def points(rows: pd.DataFrame, bound: str = "mid") -> pd.DataFrame:
    """One row a run, panel, quantity, layer, epoch and replica of what `chosen` gave.

    Columns: lower and upper, the same for a number that is no bracket, NaN for an end that is not known; value, what
    `bound` says of them, or the end there is; warned; ceiling; ln_n; is_exact ... is_estimate: the standings of it.
    """
    choose(bound, BOUNDS, "bound")
    ends = {
        side: rows[rows["side"].isin([side, "both"])].set_index(_POINT)["value"].rename(side)
        for side in ("lower", "upper")
    }
    said = rows.assign(
        warned=rows["warnings"].fillna("").ne(""),
        **{f"is_{standing}": rows["standing"] == standing for standing in ("exact", "upper", "lower", "estimate")},
    )
    flags = [column for column in said if str(column).startswith("is_")]
    how = {"ceiling": "max", "ln_n": "max", **dict.fromkeys(["warned", *flags], "any")}
    table = said.groupby(_POINT, sort=False).agg(how)
    table = table.join(ends["lower"]).join(ends["upper"])
    middle = table[["lower", "upper"]].mean(axis=1)
    table["value"] = middle if bound == "mid" else table[bound].fillna(middle)
    return table.reset_index()


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """The means over replicas of what `points` gave, NaN left out.

    One row a run, panel, quantity, layer and epoch: lower, upper, value; spread, the standard deviation of value over
    replicas (NaN for one); ceiling and ln_n, the largest; standing (exact | upper | lower | estimate | bracket), exact
    only if every replica is; warned, if any replica is. An end of the bracket is NaN if a replica lacks it.
    """
    flags = [column for column in table if str(column).startswith("is_")]
    by = table.groupby(_POINT[:-1], sort=False)
    mean = by[["lower", "upper", "value"]].mean()
    count = by[["lower", "upper", "value"]].count()
    for end in ("lower", "upper"):
        mean.loc[count[end] < count["value"], end] = np.nan
    mean["spread"] = by["value"].std()
    mean[["ceiling", "ln_n"]] = by[["ceiling", "ln_n"]].max()
    mean = mean.join(by[["warned", *flags]].any())
    kinds = [
        mean["is_estimate"],
        mean["is_upper"] & mean["is_lower"],
        mean["is_upper"],
        mean["is_lower"],
    ]
    mean["standing"] = np.select(kinds, ["estimate", "bracket", "upper", "lower"], "exact")
    return mean.drop(columns=flags).reset_index()
