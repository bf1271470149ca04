"""The generalisation gap against information, one point a replica."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .correlation import GAPS, correlations, gap_table
from .points import loss_unit, place_title
from .style import LOOK, label_once, page, run_colors, symbol

__all__ = ["gap"]

#: the standing of a point's information: its marker, and what the legend calls it
_STANDINGS = {
    "exact": ("o", "exact"),
    "upper": ("<", "upper bound"),
    "lower": (">", "lower bound"),
    "bracket": ("D", "middle of lower and upper bound"),
    "estimate": ("s", "estimate"),
}


def gap(
    measurements: pd.DataFrame,
    metrics: pd.DataFrame,
    *,
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    estimator: str | None = None,
    epoch: int | None = None,
    path: str | None = None,
    bound: str = "mid",
) -> Figure:
    """Draw the generalisation gap against information at one epoch: one point a replica, a row of panels a layer (the
    first Echo layers of all runs have one row, the second another).

    x: I(Z;X) of Echo layers, or I(X;T) of an estimator; y: test minus train, of the loss and (where there is one) of
    the error, along one path through the network. The options choose as in `correlation.gap_table`. The colour is the
    run and the marker the standing of the information, hollow where it has a warning; a bar reaches from the lower to
    the upper bound. Above each panel: Spearman's rho with its 95 % interval, over all points and within each run
    (`correlation.correlations`).

    Raises InfoplaneError for what the frames do not hold.
    """
    table = gap_table(
        measurements, metrics, unit=unit, layers=layers, estimator=estimator, epoch=epoch, path=path, bound=bound
    )
    found = correlations(table)
    gaps = [name for name in GAPS if table[name].notna().any()] or ["gap_loss"]
    colors = run_colors(measurements["run"])
    epochs = table["epoch"].drop_duplicates().tolist()
    when = f"at epoch {epochs[0]}" if len(epochs) == 1 else "at the last epoch"
    loss_in = loss_unit(metrics, unit)[1]
    paths = list(dict.fromkeys(table["path"].dropna()))
    one_path = f", {paths[0]}" if len(paths) == 1 else ""
    several = table["panel"].nunique() > 1
    rows = list(table.groupby(["panel", "place"], sort=False))
    lines = 1 + max((len(own) for _, own in found.groupby(["panel", "place", "gap"])), default=0)

    with matplotlib.rc_context(LOOK):
        fig, axes = page(
            [1.75 + 0.13 * lines] * len(rows), len(gaps), _legend(table, colors, len(paths) > 1),
            width=7.0 if len(gaps) > 1 else 4.2, sharex=True, sharey="col",
        )  # fmt: skip
        for ((panel, place), points), panels in zip(rows, axes, strict=True):
            for name, ax in zip(gaps, panels, strict=True):
                _draw(ax, points, name, colors)
                own = found[(found["panel"] == panel) & (found["place"] == place) & (found["gap"] == name)]
                heading = place_title(place, points) + (f", {panel}" if several else "")
                ax.set_title("\n".join([heading, *map(_said, own.itertuples())]), loc="left", fontsize=6.5)
                ax.set_xlabel(f"{symbol(table['quantity'].iloc[0])} {when} [{unit}]")
                of_what = f"loss{one_path} [{loss_in}]" if name == "gap_loss" else f"error{one_path}"
                ax.set_ylabel(f"gap in {of_what}")
                ax.axhline(0.0, color="0.35", linestyle=(0, (4, 3)), linewidth=0.7, zorder=1)
        label_once(axes.flat)
        return fig


def _draw(ax: Axes, points: pd.DataFrame, name: str, colors: dict[str, Any]) -> None:
    bars = points[points["upper"] > points["lower"]]
    ax.hlines(bars[name], bars["lower"], bars["upper"], colors=[colors[run] for run in bars["run"]], linewidth=0.6)
    for (run, standing, warned), own in points.groupby(["run", "standing", "warned"], sort=False):
        ax.plot(
            own["value"], own[name], linestyle="", marker=_STANDINGS[standing][0], color=colors[run], markersize=4.5,
            markeredgewidth=0.8, fillstyle="none" if warned else "full", label=f"_{run} {standing} {warned}",
        )  # fmt: skip


def _said(found: Any) -> str:
    """A correlation as a line of text."""
    who = f"{_short(found.run)}: " if found.run else "all: "
    n = f"n = {found.n}" + (f" of {found.of}" if found.n < found.of else "")
    if pd.isna(found.rho):
        return f"{who}ρ {found.note}, {n}"
    interval = f"({found.note})" if pd.isna(found.low) else f"[{found.low:.2f}, {found.high:.2f}]"
    return f"{who}ρ = {found.rho:.2f} {interval}, {n}"


def _short(run: str) -> str:
    return run if len(run) <= 24 else f"…{run[-23:]}"


def _legend(table: pd.DataFrame, colors: dict[str, Any], say_path: bool) -> list[Artist]:
    path = table.groupby("run")["path"].first()
    handles: list[Artist] = [
        Patch(color=color, label=f"{run} ({path[run]})" if say_path else run) for run, color in colors.items()
    ]
    grey: dict[str, Any] = {"color": "0.3", "linestyle": "", "markersize": 4.5, "markeredgewidth": 0.8}
    shown = set(table["standing"])
    handles += [Line2D([], [], marker=m, label=name, **grey) for kind, (m, name) in _STANDINGS.items() if kind in shown]
    if table["warned"].any():
        handles.append(Line2D([], [], marker="o", fillstyle="none", label="hollow: warned", **grey))
    if (table["upper"] > table["lower"]).any():
        handles.append(Line2D([], [], color="0.3", linewidth=0.6, label="from lower to upper bound"))
    handles.append(Line2D([], [], linestyle="", label="ρ: Spearman's [95 % interval]"))
    return handles
