"""From rows of measurements to points of a figure: choose rows, join brackets, average replicas."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..errors import InfoplaneError, choose
from ..records import COLUMNS, UNITS

__all__ = [
    "ENDS",
    "LABEL",
    "NOISE",
    "OWN",
    "base_layers",
    "chosen",
    "curves",
    "echo_places",
    "in_unit",
    "layers_of",
    "loss_unit",
    "needs",
    "noisy_layers",
    "points",
    "warned",
]

#: the value that can stand for a bracket
ENDS = ("mid", "lower", "upper")
#: the quantities about the label; all others are about the input
LABEL = ("I(T;Y)", "I(Z;Y)")
#: the name of a quantity for a noisy layer itself, by its name for an estimator of a layer
OWN = {"I(X;T)": "I(Z;X)", "I(T;Y)": "I(Z;Y)"}
#: the channels of rows that measure a noisy layer through its own noise
NOISE = ("echo", "gaussian", "dropout")
#: the last part of the name of a noisy layer that was inserted after another layer
_BEHIND = ("echo", "noise")
#: estimators whose numbers belong in the panel of another one: the decoder's lower bound on I(Z;Y)
#: completes the upper bound of an Echo layer
_PANEL_OF = {"decoder": "echo"}
_POINT = ["run", "panel", "quantity", "layer", "epoch", "replica"]
_TEXTS = ("side", "path", "channel", "params", "warnings")


def layers_of(frame: pd.DataFrame) -> list[str]:
    """Return the layers of a frame, in the order in which they first appear."""
    return list(dict.fromkeys(frame["layer"]))


def noisy_layers(frame: pd.DataFrame) -> list[str]:
    """Return the layers of a frame that have a number measured through their own noise."""
    return layers_of(frame[frame["channel"].isin(NOISE)])


def base_layers(layers: Iterable[str]) -> dict[str, str]:
    """Return the layer that each layer belongs to: for most layers, the layer itself.

    A noisy layer that was inserted after a module has the name of the module and one more word. It
    belongs to that module. If the frame has no number for that module, the noisy layer belongs to
    the nearest enclosing module that the frame has.

    Args:
        layers: The names of all layers of a frame.

    Returns:
        The name of the base layer, by the name of the layer.

    Example:
        >>> base_layers(["hidden1", "hidden1.linear.echo", "1.noise"])
        {'hidden1': 'hidden1', 'hidden1.linear.echo': 'hidden1', '1.noise': '1'}
    """
    names = list(dict.fromkeys(layers))
    out = {}
    for name in names:
        behind, _, last = name.rpartition(".")
        if last not in _BEHIND or not behind:
            out[name] = name
            continue
        around = behind
        while around and around not in names:
            around = around.rpartition(".")[0]
        out[name] = around or behind
    return out


def echo_places(frame: pd.DataFrame) -> pd.Series:
    """Return the place of each row's layer among the Echo layers of its run: Z1, Z2 and so on.

    The same place can have different names in different runs, because an Echo layer goes before a
    ReLU but after a tanh.
    """
    number: dict[tuple[str, str], str] = {}
    for run, rows in frame.groupby("run", sort=False):
        number |= {(str(run), layer): f"Z{at}" for at, layer in enumerate(layers_of(rows), start=1)}
    keys = zip(frame["run"], frame["layer"], strict=True)
    return pd.Series([number[key] for key in keys], index=frame.index, dtype=object)


def in_unit(frame: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return a copy of a frame of measurements in another unit.

    Args:
        frame: Measurements, with the columns value_nats, stderr_nats, error_nats and ceiling_nats.
        unit: "bits" or "nats".

    Returns:
        The frame, with the columns value, stderr, error and ceiling in place of those four.

    Raises:
        InfoplaneError: If the unit is not known.

    Example:
        >>> import math
        >>> import pandas as pd
        >>> import infoplane as ip
        >>> names = ["value_nats", "stderr_nats", "error_nats", "ceiling_nats"]
        >>> frame = pd.DataFrame([dict.fromkeys(names, math.log(4))])
        >>> ip.analysis.in_unit(frame, "bits").to_dict("records")
        [{'value': 2.0, 'stderr': 2.0, 'error': 2.0, 'ceiling': 2.0}]
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    names = {f"{name}_nats": name for name in ("value", "stderr", "error", "ceiling")}
    out = frame.rename(columns=names)
    for name in names.values():
        out[name] = out[name] / size
    return out


def loss_unit(metrics: pd.DataFrame, unit: str) -> tuple[float, str]:
    """Return the number to divide a loss by, and the unit of the result.

    A cross-entropy is converted from nats to `unit`. A squared error keeps its own unit.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    objectives = set(metrics["objective"]) if "objective" in metrics else {"cross-entropy"}
    if len(objectives) > 1:
        raise InfoplaneError(
            f"The runs have different losses, {' and '.join(sorted(objectives))}; expected runs with the same loss."
        )
    return (size, unit) if objectives <= {"cross-entropy"} else (1.0, objectives.pop())


def needs(frame: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Raise InfoplaneError if a frame of `what` is empty or lacks any of the columns."""
    if frame.empty:
        raise InfoplaneError(f"The frame holds no {what}, so there is nothing to draw.")
    if missing := [column for column in columns if column not in frame.columns]:
        raise InfoplaneError(f"The frame lacks the columns {', '.join(missing)}: expected a frame of {what}.")


def warned(warnings: pd.Series, but: Iterable[str] = ()) -> pd.Series:
    """Return whether each number has a warning other than those in `but`, given its codes."""
    but = {"", *but}
    return warnings.fillna("").map(lambda codes: not but.issuperset(codes.split(";"))).astype(bool)


def chosen(
    frame: pd.DataFrame,
    *,
    unit: str,
    estimator: str | None = None,
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
) -> pd.DataFrame:
    """Select the rows that were asked for, and add the columns `panel` and `end`.

    A panel is an estimator, with its parameters if it was run with several. The end says which end
    of a bracket the number is: lower, upper, or both if it is not part of a bracket. Baselines from
    permuted points (side "null") are left out, because they are not points of a figure.

    Args:
        frame: Measurements (`records.COLUMNS`).
        unit: "bits" or "nats" (see `in_unit`).
        estimator: The panel to keep; all by default.
        layers: The names of the layers to keep; all by default.
        epochs: The epochs to keep; all by default.

    Returns:
        The selected rows, in `unit`, with the columns `panel`, `end` and `ln_n` (ln N, in `unit`).

    Raises:
        InfoplaneError: If the frame is empty, lacks columns, has several probes or several values
            for one point, or does not hold what was asked for.
    """
    _check(frame)
    frame = in_unit(frame, unit).reset_index(drop=True)  # concatenated frames repeat their index
    for name in _TEXTS:
        frame[name] = frame[name].fillna("").astype(str)
    frame = frame[frame["side"] != "null"].reset_index(drop=True)
    frame["panel"] = frame["estimator"].replace(_PANEL_OF)
    frame["end"] = _ends(frame)
    frame["ln_n"] = np.log(frame["n"].where(frame["n"] > 0)) / UNITS[unit]
    frame = frame[_asked(frame, estimator, layers, epochs)].copy()
    for panel, rows in frame.groupby("panel", sort=False):
        settings = rows["params"]
        if _clashing(rows).any() and panel not in _PANEL_OF.values() and settings.nunique() > 1:
            frame.loc[rows.index, "panel"] = f"{panel}, " + settings
    _check_single(frame)
    return frame


def _check(frame: pd.DataFrame) -> None:
    """Raise InfoplaneError unless a frame holds measurements on a single probe."""
    if missing := [column for column in COLUMNS if column not in frame.columns]:
        raise InfoplaneError(f"The frame lacks the columns {', '.join(missing)}: expected a frame of measurements.")
    if frame.empty:
        raise InfoplaneError("The frame holds no measurements, so there is nothing to draw.")
    probes = list(dict.fromkeys(frame["probe"]))
    if len(probes) > 1:
        raise InfoplaneError(
            f"The frame holds the probes {', '.join(map(str, probes))}, which must not be averaged. Choose one of "
            f"them, e.g. frame[frame.probe == {probes[0]!r}]."
        )


def _asked(
    frame: pd.DataFrame, estimator: str | None, layers: Iterable[str] | None, epochs: Iterable[int] | None
) -> pd.Series:
    """Return which rows were asked for; every run must have some."""
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
    return keep


def _check_single(frame: pd.DataFrame) -> None:
    """Raise InfoplaneError if a point has several values."""
    again = _clashing(frame)
    if again.any():
        first = frame[again].iloc[0]
        same = frame[again & (frame[_POINT] == first[_POINT]).all(axis=1)]
        asked = ("step", "standing", "side", "path", "channel", "law", "estimator", "params")
        differ = [c for c in asked if same[c].nunique() > 1]
        raise InfoplaneError(
            f"The frame holds {len(same)} values of {first['quantity']} of layer {first['layer']!r} at epoch "
            f"{first['epoch']}, replica {first['replica']}, which differ in {', '.join(differ) or 'nothing'}. "
            "Keep one of them."
        )


def _ends(frame: pd.DataFrame) -> np.ndarray:
    """Return the end of a bracket that each row is, from its side or its standing."""
    said = frame["side"].where(frame["side"] != "", frame["standing"])
    return np.where(said.isin(["upper", "lower"]), said, "both")


def _clashing(frame: pd.DataFrame) -> pd.Series:
    """Return which rows give the same end of the same point as another row."""
    clashing = pd.Series(False, index=frame.index)
    for end in ("lower", "upper"):
        own = frame[frame["end"].isin([end, "both"])]
        clashing |= own.duplicated(_POINT, keep=False).reindex(frame.index, fill_value=False)
    return clashing


def points(rows: pd.DataFrame, side: str = "mid") -> pd.DataFrame:
    """Join the two ends of each bracket.

    Args:
        rows: The rows that `chosen` returned.
        side: The value that stands for a bracket: "mid", "lower" or "upper".

    Returns:
        One row per run, panel, quantity, layer, epoch and replica. The columns are lower and upper
        (equal for a number that is not a bracket, NaN for an end that is not known); value (as
        `side` says, or the only end there is); warned; ceiling; ln_n; standing (exact | upper |
        lower | bracket | estimate).

    Raises:
        InfoplaneError: If `side` is not known.
    """
    choose(side, ENDS, "side")
    ends = {
        end: rows[rows["end"].isin([end, "both"])].set_index(_POINT)["value"].rename(end) for end in ("lower", "upper")
    }
    flags = {f"is_{standing}": rows["standing"] == standing for standing in ("exact", "upper", "lower", "estimate")}
    said = rows.assign(warned=warned(rows["warnings"]), **flags)
    how = {"ceiling": "max", "ln_n": "max", **dict.fromkeys(["warned", *flags], "any")}
    table = said.groupby(_POINT, sort=False).agg(how)
    table = table.join(ends["lower"]).join(ends["upper"])
    middle = table[["lower", "upper"]].mean(axis=1)
    table["value"] = middle if side == "mid" else table[side].fillna(middle)
    table["standing"] = _standing({name: table[name] for name in flags})
    return table.drop(columns=[*flags]).reset_index()


def _standing(flags: dict[str, pd.Series]) -> np.ndarray:
    """Combine the standings of several numbers: exact only if all of them are exact."""
    kinds = [flags["is_estimate"], flags["is_upper"] & flags["is_lower"], flags["is_upper"], flags["is_lower"]]
    return np.select(kinds, ["estimate", "bracket", "upper", "lower"], "exact")


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Take the means over replicas; NaN values are left out.

    Args:
        table: The table that `points` returned.

    Returns:
        One row per run, panel, quantity, layer and epoch. The columns are lower, upper and value
        (means); spread (the standard deviation of value over replicas, NaN for a single one);
        ceiling and ln_n (the largest); standing (exact only if every replica is); warned (true if
        any replica is). An end of the bracket is NaN if any replica lacks it.
    """
    of = {kind: table["standing"] == kind for kind in ("exact", "upper", "lower", "estimate")}
    bracket = table["standing"] == "bracket"
    flags = {f"is_{kind}": own | (bracket if kind in ("upper", "lower") else False) for kind, own in of.items()}
    by = table.assign(**flags).groupby(_POINT[:-1], sort=False)
    mean = by[["lower", "upper", "value"]].mean()
    count = by[["lower", "upper", "value"]].count()
    for end in ("lower", "upper"):
        mean.loc[count[end] < count["value"], end] = np.nan
    mean["spread"] = by["value"].std()
    mean[["ceiling", "ln_n"]] = by[["ceiling", "ln_n"]].max()
    mean = mean.join(by[["warned", *flags]].any())
    mean["standing"] = _standing({name: mean[name] for name in flags})
    return mean.drop(columns=[*flags]).reset_index()
