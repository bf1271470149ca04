"""Compare all estimators on the layers of a trained run with the exact rates of its Echo layers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import choose
from ..records import UNITS
from .directory import RunDir
from .measure import measure_run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NOISE_VARIANCES", "SIDE_BY_SIDE", "WIDTHS", "compare_run", "compared", "last_snapshots", "render", "sweep"]

#: The estimators that measure every layer, besides the exact rates of Echo layers.
SIDE_BY_SIDE = (
    *("mixture", "mean-field", "counting", "ksg", "ross", "infonce", "nwj", "smile", "decoder", "renyi"),
    "binning:bins=60,replicates=8",
)
#: The options of the two sweeps, which show how much a value depends on an option.
WIDTHS = (0.01, 0.03, 0.07, 0.2, 0.5, 1.5)
NOISE_VARIANCES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: The quantities whose truth is a rate I(Z;X).
_OF_INPUT = ("I(X;T)", "I(Z;X)")
#: The columns of a snapshot, because a rate is the truth only of its own snapshot.
_SNAPSHOT = ["run", "probe", "epoch", "step"]


def compare_run(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    estimators: Sequence[str] | None = None,
    widths: Sequence[float] = WIDTHS,
    noise_variances: Sequence[float] = NOISE_VARIANCES,
    snapshots: int = 1,
    replicas: int = 1,
    **options: Any,
) -> RunDir:
    """Measure a run with all estimators, and with binning and KDE over a range of their options.

    Args:
        source: The directory of a trained run.
        out: The run directory to make.
        estimators: The estimators, by default `SIDE_BY_SIDE`.
        widths: The bin widths of the sweep of binning.
        noise_variances: The noise variances of the sweep of KDE.
        snapshots: The number of snapshots, the last among them. By default it is one, because some
            estimators take a second per layer.
        replicas: The number of replicas, from the first.
        **options: Other options of `measure_run`.

    Returns:
        The new run directory, complete. `compared` reads its measurements.

    Raises:
        InfoplaneError: As for `measure_run`.

    Example:
        >>> import tempfile
        >>> import infoplane as ip
        >>> settings = ip.Settings(epochs=2, widths=(3,), replicas=1, subset=200, probe="train")
        >>> options = {"estimators": ["ksg"], "widths": [0.1, 0.5], "noise_variances": [0.1]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = ip.train(settings, f"{folder}/run", progress=False)
        ...     made = ip.runs.compare_run(run.path, f"{folder}/all", progress=False, **options)
        ...     sorted(set(made.read("measurements")["estimator"]))
        ['binning', 'kde', 'ksg']
    """
    chosen = [*(SIDE_BY_SIDE if estimators is None else estimators)]
    chosen += [f"binning:width={w:g}" for w in widths] + [f"kde:noise_variance={v:g}" for v in noise_variances]
    return measure_run(source, out, estimators=chosen, snapshots=snapshots, replicas=replicas, **options)


def compared(measurements: pd.DataFrame) -> pd.DataFrame:
    """Take the means of measurements over replicas, with the truth beside them where it is known.

    Args:
        measurements: The measurements of one or several runs.

    Returns:
        One row per snapshot (run, probe, epoch and step), layer and number. `truth_nats` is the
        exact rate of the Echo layer, for the information that the rate is and if it is exact in all
        replicas of the snapshot; NaN otherwise. `off_nats` is the value minus the truth.
    """
    keys = [*_SNAPSHOT, "layer", "quantity", "path", "channel", "estimator", "params", "side", "standing"]
    rates = measurements[(measurements["estimator"] == "echo") & (measurements["quantity"] != "I(Z;Y)")]
    by_layer = rates.groupby([*_SNAPSHOT, "layer", "quantity"])
    known = by_layer["standing"].agg(lambda own: own.eq("exact").all())
    truths = by_layer["value_nats"].mean()[known].to_dict()

    def truth(row: Any) -> float:
        asked = "I(Z;X)" if row.quantity in _OF_INPUT else row.quantity
        of_channel = row.channel == "echo" or row.path == "replicates"  # the only channel it is the rate of
        if not of_channel:
            return math.nan
        return float(truths.get((row.run, row.probe, row.epoch, row.step, row.layer, asked), math.nan))

    grouped = measurements.groupby(keys, sort=False)
    rows = grouped.agg(
        value_nats=("value_nats", "mean"),
        spread_nats=("value_nats", "std"),
        stderr_nats=("stderr_nats", "mean"),
        ceiling_nats=("ceiling_nats", "mean"),
        law=("law", "first"),
        n=("n", "max"),
        replicas=("replica", "nunique"),
        warnings=(
            "warnings",
            lambda w: ";".join(dict.fromkeys(code for each in w for code in each.split(";") if code)),
        ),
    ).reset_index()
    rows["truth_nats"] = [truth(row) for row in rows.itertuples()]
    rows["off_nats"] = rows["value_nats"] - rows["truth_nats"]
    return rows


def last_snapshots(rows: pd.DataFrame) -> pd.DataFrame:
    """Select the rows of the last epoch and step of each run and probe.

    Args:
        rows: Any frame with the columns run, probe, epoch and step.
    """
    for time in ("epoch", "step"):
        rows = rows[rows[time] == rows.groupby(["run", "probe"])[time].transform("max")]
    return rows


def sweep(rows: pd.DataFrame) -> pd.DataFrame:
    """Select the two sweeps of I(X;T): binning over the bin width, and KDE over the noise variance.

    Args:
        rows: Rows of `compared`.

    Returns:
        The rows of the sweeps, with the width or the variance in the column `setting`.
    """
    import pandas as pd

    own = rows[rows["quantity"].eq("I(X;T)")]
    return own.assign(setting=pd.to_numeric(_setting(own))).dropna(subset="setting")


def _setting(rows: pd.DataFrame) -> pd.Series:
    """Return the width or the variance of each row of a sweep as text; NaN for other rows."""
    found = rows["params"].str.extract(r"^(?:width|noise_variance)=([^,]+)$", expand=False)
    return found.where(rows["estimator"].isin(["binning", "kde"]))


def render(rows: pd.DataFrame, unit: str = "bits") -> str:
    """Write the last snapshot of each run and probe as text.

    For each layer it says which truth is known, the value of each estimator, and its error.

    Args:
        rows: Rows of `compared`.
        unit: "bits" or "nats".

    Raises:
        InfoplaneError: If there is no such unit.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    several = len(rows[["run", "probe"]].drop_duplicates()) > 1
    return "\n\n".join(
        f"{f'{run}, {probe}: ' if several else ''}epoch {last['epoch'].iloc[0]}, {unit}\n\n{_layers(last, unit, size)}"
        for (run, probe), last in last_snapshots(rows).groupby(["run", "probe"], sort=False)
    )


def _layers(last: pd.DataFrame, unit: str, size: float) -> str:
    from ..analysis.summary import columns, through

    swept = sweep(last)
    shown = last[_setting(last).isna()]
    shown = shown.assign(late=shown["estimator"].ne("echo")).sort_values("late", kind="stable")
    text = []
    for layer in dict.fromkeys(last["layer"]):
        own = shown[shown["layer"] == layer]
        known = own["truth_nats"].dropna()
        moves = [_moves(part, size) for _, part in swept[swept["layer"] == layer].groupby("estimator", sort=False)]
        if len(known):
            head = f"{layer}: the exact rate is the truth, {known.iloc[0] / size:.3f} {unit}"
        elif (own["estimator"] == "echo").any():
            head = f"{layer}: no truth is known; the rate is an upper bound"
        elif own["channel"].isin(["gaussian", "dropout"]).any():
            head = f"{layer}: no truth is known; mixture Monte Carlo comes nearest to it"
        else:
            head = f"{layer}: there is no truth; the value depends on bins or noise: {'; '.join(moves)}"
        body = [
            [
                row.quantity,
                row.estimator,
                _with_error(row.value_nats / size, row.stderr_nats / size),
                row.standing,
                "" if math.isnan(row.off_nats) else f"{row.off_nats / size:+z.3f}",
                through(row.path, row.channel, row.side == "null"),
                row.warnings.replace(";", ", "),
            ]
            for row in own.itertuples()
        ]  # fmt: skip
        heads = ["quantity", "estimator", f"{unit} ± stderr", "standing", "off by", "channel", "warnings"]
        text.append(f"{head}\n{columns(heads, body)}")
    return "\n\n".join(text)


def _with_error(value: float, stderr: float) -> str:
    return f"{value:z.3f}" + ("" if math.isnan(stderr) else f" ± {stderr:.3f}")


def _moves(swept: pd.DataFrame, size: float) -> str:
    """Say how far KDE's upper bound, or the binned value, moves over a sweep."""
    own = swept[swept["standing"].isin(["upper", "estimate"])].sort_values("setting")
    low, high = own.iloc[0], own.iloc[-1]
    name = {"binning": "bins of", "kde": "noise of"}[str(low["estimator"])]
    values = [row["value_nats"] / size for row in (low, high)]
    return f"{values[0]:.2f} at {name} {low['setting']:g}, {values[1]:.2f} at {high['setting']:g}"
