"""From rows of measurements to points: a choice of rows, brackets, means over replicas."""

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

#: which value of a bracket stands for it
ENDS = ("mid", "lower", "upper")
#: the quantities that say something of the label, and not of the input
LABEL = ("I(T;Y)", "I(Z;Y)")
#: what a noisy layer calls its own information, in place of what an estimator of a layer calls it
OWN = {"I(X;T)": "I(Z;X)", "I(T;Y)": "I(Z;Y)"}
#: the channel of a row that measures a noisy layer through the noise of that layer
NOISE = ("echo", "gaussian", "dropout")
#: the last part of the name of a noisy layer that was put behind another one
_BEHIND = ("echo", "noise")
#: whose numbers stand in the panel of another: the decoder's bound completes that of an Echo layer
_PANEL_OF = {"decoder": "echo"}
_POINT = ["run", "panel", "quantity", "layer", "epoch", "replica"]
_TEXTS = ("side", "path", "channel", "params", "warnings")


def layers_of(frame: pd.DataFrame) -> list[str]:
    """Return the layers of a frame, in the order in which they first appear."""
    return list(dict.fromkeys(frame["layer"]))


def noisy_layers(frame: pd.DataFrame) -> list[str]:
    """Return the noisy layers of a frame: those with a number through their own noise."""
    return layers_of(frame[frame["channel"].isin(NOISE)])


def base_layers(layers: Iterable[str]) -> dict[str, str]:
    """Return, for each layer, the layer that it belongs to: for most layers, the layer itself.

    A noisy layer that was put behind a module bears the name of the module and one word more. It
    belongs to that module, or where the frame has no number of it, to the nearest module around it
    that the frame does have.

    Args:
        layers: The names of all layers of a frame.

    Example:
        >>> base_layers(["hidden1", "hidden2", "hidden2.linear.echo", "1.noise"])
        {'hidden1': 'hidden1', 'hidden2': 'hidden2', 'hidden2.linear.echo': 'hidden2', '1.noise': '1'}
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
    """Return the place of the layer of each row among the Echo layers of its run: Z1, Z2, ...

    Runs may call the same place by different names (an Echo layer before a ReLU, or after a tanh).
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
        The frame with the columns value, stderr, error and ceiling in place of those.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    names = {f"{name}_nats": name for name in ("value", "stderr", "error", "ceiling")}
    out = frame.rename(columns=names)
    for name in names.values():
        out[name] = out[name] / size
    return out


def loss_unit(metrics: pd.DataFrame, unit: str) -> tuple[float, str]:
    """Return the divisor of a loss for `unit`, and the unit of the quotient: not of squared errors."""
    size = UNITS[choose(unit, UNITS, "unit")]
    objectives = set(metrics["objective"]) if "objective" in metrics else {"cross-entropy"}
    if len(objectives) > 1:
        raise InfoplaneError(
            f"The runs have different losses, {' and '.join(sorted(objectives))}; expected runs of one kind to draw."
        )
    return (size, unit) if objectives <= {"cross-entropy"} else (1.0, objectives.pop())


def needs(frame: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Raise InfoplaneError where a frame lacks columns, or holds no rows of `what`."""
    if frame.empty:
        raise InfoplaneError(f"The frame holds no {what}; there is nothing to draw.")
    if missing := [column for column in columns if column not in frame.columns]:
        raise InfoplaneError(f"The frame lacks the columns {', '.join(missing)}: expected a frame of {what}.")


def warned(warnings: pd.Series, but: Iterable[str] = ()) -> pd.Series:
    """Return whether each number has a warning other than those in `but`, from its codes."""
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
    """Return the rows that are asked for, with a column `panel` and one `end`.

    A panel is an estimator; where one was run with several parameters, an estimator and its
    parameters. The end says which end of a bracket the number is: lower, upper, or both where it is
    no bracket. The baselines from permuted points (side "null") are left out, for they are no
    points of a figure.

    Args:
        frame: Measurements (`records.COLUMNS`).
        unit: "bits" or "nats" (see `in_unit`).
        estimator: A panel to keep; default: all.
        layers: Names of layers to keep; default: all.
        epochs: Epochs to keep; default: all.

    Raises:
        InfoplaneError: The frame is empty, lacks columns, has several probes or several values of
            one point, or does not hold what was asked for.
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
    for name in _TEXTS:
        frame[name] = frame[name].fillna("").astype(str)
    frame = frame[frame["side"] != "null"].reset_index(drop=True)
    frame["panel"] = frame["estimator"].replace(_PANEL_OF)
    frame["end"] = _ends(frame)
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
        settings = rows["params"]
        if _clashing(rows).any() and panel not in _PANEL_OF.values() and settings.nunique() > 1:
            frame.loc[rows.index, "panel"] = f"{panel}, " + settings
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
    return frame


def _ends(frame: pd.DataFrame) -> np.ndarray:
    """The end of a bracket that each row is: its side, that of a lone bound, or both."""
    said = frame["side"].where(frame["side"] != "", frame["standing"])
    return np.where(said.isin(["upper", "lower"]), said, "both")


def _clashing(frame: pd.DataFrame) -> pd.Series:
    """Which rows say the same end of the same point as another."""
    clashing = pd.Series(False, index=frame.index)
    for end in ("lower", "upper"):
        own = frame[frame["end"].isin([end, "both"])]
        clashing |= own.duplicated(_POINT, keep=False).reindex(frame.index, fill_value=False)
    return clashing


def points(rows: pd.DataFrame, side: str = "mid") -> pd.DataFrame:
    """Put the two ends of each bracket together.

    Args:
        rows: What `chosen` gave.
        side: The value of a bracket: "mid", "lower" or "upper".

    Returns:
        One row per run, panel, quantity, layer, epoch and replica, with the columns lower and upper
        (the same for a number that is no bracket, NaN for an end that is not known); value, as
        `side` says, or the only end; warned; ceiling; ln_n; standing (exact | upper | lower |
        bracket | estimate).
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
    """The standing of several numbers put together: exact only if all of them are."""
    kinds = [flags["is_estimate"], flags["is_upper"] & flags["is_lower"], flags["is_upper"], flags["is_lower"]]
    return np.select(kinds, ["estimate", "bracket", "upper", "lower"], "exact")


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """Take the means over replicas, NaN left out.

    Args:
        table: What `points` gave.

    Returns:
        One row per run, panel, quantity, layer and epoch: lower, upper, value; spread, the standard
        deviation of value over replicas (NaN for one); ceiling and ln_n, the largest; standing,
        exact only if every replica is; warned, if any replica is. An end of the bracket is NaN if a
        replica lacks it.
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
