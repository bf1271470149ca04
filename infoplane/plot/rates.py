"""Information against epoch: the exact rates of Echo layers beside what the estimators say of the same network."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..records import InfoplaneError
from .points import chosen, curves, layers_of, name_of_ceiling, points, title_of
from .style import (
    LOOK,
    STANDINGS,
    Stroke,
    ceiling_line,
    epoch_axis,
    grid,
    label_once,
    layer_colors,
    replicas_of,
    symbol,
)

__all__ = ["rates"]

BAND = 0.18
_NAMES = {"upper": "upper bound", "lower": "lower bound"}
_MARKERS = ("o", "s", "D", "v", "P", "X")


def rates(
    frame: pd.DataFrame,
    *,
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
) -> Figure:
    """Draw information against epoch (logarithmic, 0 included) of a frame of measurements (`records.COLUMNS`, nats).

    A row of panels for each run, or the runs side by side where each has one panel: the rates of the Echo layers,
    I(Z;X) and I(Z2;Z1) and so on, and I(X;T) of each estimator. Lines are means over replicas. Echo: exact values have
    filled markers and solid lines, upper bounds hollow ones and dashed lines; a number with a warning has a hollow
    marker everywhere. A bracket is a band from the lower to the upper bound, with each replica as a thin line; else the
    band is one standard deviation over replicas to either side. Dashed grey: the ceiling, ln N. A layer has one colour
    in every panel, and an Echo layer a darker shade of the colour of the layer before it.

    Raises InfoplaneError for what the frame does not hold.
    """
    colors = layer_colors(layers_of(frame)) if "layer" in frame else {}
    rows = chosen(frame, unit=unit, layers=layers, epochs=epochs)
    table = points(rows)
    echo = (table["panel"] == "echo") & table["quantity"].str.startswith("I(Z") & (table["quantity"] != "I(Z;Y)")
    table = table[echo | (table["quantity"] == "I(X;T)")]
    if table.empty:
        raise InfoplaneError("The frame holds neither rates of Echo layers nor I(X;T) of an estimator to draw.")
    runs = list(dict.fromkeys(table["run"]))
    names = sorted(dict.fromkeys(table["panel"]), key=lambda name: name != "echo")
    replicas = replicas_of(own for _, own in table.groupby("run"))
    mean = curves(table)
    mean["spread"] = mean["spread"].fillna(0.0)
    quantities = list(dict.fromkeys(mean.loc[mean["panel"] == "echo", "quantity"]))
    markers = dict(zip(quantities, _MARKERS * len(quantities), strict=False))
    legend = _legend(mean, colors, markers, replicas)

    with matplotlib.rc_context(LOOK):
        there = set(zip(table["run"], table["panel"], strict=True))
        fig, cells = grid(runs, names, legend, {(r, name) for r in runs for name in names} - there)
        for (run, name), ax in cells.items():
            here = (table["run"] == run) & (table["panel"] == name)
            own = mean[(mean["run"] == run) & (mean["panel"] == name)]
            for (layer, quantity), line in own.groupby(["layer", "quantity"], sort=False):
                line = line.dropna(subset="value").sort_values("epoch")
                if name == "echo":
                    _rate(ax, line, colors[layer], markers[quantity])
                else:
                    _estimate(ax, line, table[here & (table["layer"] == layer)], colors[layer])
            ax.autoscale_view()
            ax.set_title(title_of(rows, name, run if len(runs) > 1 else ""))
            ax.set_ylabel(f"{'rate' if name == 'echo' else symbol('I(X;T)')} [{unit}]")
        for (run, name), ax in cells.items():  # after all lines, for it fixes the limits that the panels share
            own = mean[(mean["run"] == run) & (mean["panel"] == name)]
            ceiling_line(ax, "y", *name_of_ceiling("I(X;T)", own, unit), crossed=True)
            epoch_axis(ax, table["epoch"].tolist())
            ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        label_once(cells.values())
        return fig


def _rate(ax: Axes, line: pd.DataFrame, color: tuple[float, ...], marker: str) -> None:
    """An Echo layer's rate: what lies between two exact values is solid, all else has the line of its standing."""
    epoch, value, spread, standing = (line[c].to_numpy() for c in ("epoch", "value", "spread", "standing"))
    ax.fill_between(epoch, value - spread, value + spread, color=color, alpha=BAND, linewidth=0)
    between = [b if a == "exact" else a for a, b in pairwise(standing)]
    start = 0
    for kind, segments in groupby(between):  # in stretches of one standing, or the dashes begin anew at each point
        end = start + len(list(segments))
        ax.plot(epoch[start : end + 1], value[start : end + 1], color=color, linestyle=_stroke(kind).linestyle)
        start = end
    warned = line["warned"].to_numpy()
    for kind, hollow in dict.fromkeys(zip(standing, warned, strict=True)):
        own = (standing == kind) & (warned == hollow)
        filling = ("bottom" if kind == "exact" else "none") if hollow else _stroke(kind).fillstyle
        ax.plot(
            epoch[own], value[own], color=color, linestyle="", marker=marker, fillstyle=filling,
            markersize=4.4 if marker == _MARKERS[0] else 2.2, markeredgewidth=0.5, label=f"_{kind}",
        )  # fmt: skip


def _stroke(standing: str) -> Stroke:
    return STANDINGS.get(standing, STANDINGS["estimate"])


def _estimate(ax: Axes, line: pd.DataFrame, replicas: pd.DataFrame, color: tuple[float, ...]) -> None:
    """An estimator's number: a bracket with the single replicas, or a mean with its standard deviation."""
    epoch, value, spread, low, high = (line[c].to_numpy() for c in ("epoch", "value", "spread", "lower", "upper"))
    bracket = bool((high > low).any())
    ends = (low, high) if bracket else (value - spread, value + spread)
    ax.fill_between(epoch, *ends, color=color, alpha=BAND, linewidth=0)
    ax.plot(epoch, value, color=color)
    warned = line["warned"].to_numpy()
    for label, face, own in (("_warned", "1.0", warned), ("_sound", color, ~warned)):  # no line shows through
        ax.plot(
            epoch[own], value[own], color=color, linestyle="", marker="o", markerfacecolor=face, markersize=2.4,
            markeredgewidth=0.5, label=label,
        )  # fmt: skip
    if bracket and replicas["replica"].nunique() > 1:
        paths = [path[["epoch", "value"]].to_numpy() for _, path in replicas.sort_values("epoch").groupby("replica")]
        ax.add_collection(LineCollection(paths, colors=[color], linewidths=0.4, alpha=0.5, label="_replicas"))


def _legend(mean: pd.DataFrame, colors: dict[str, Any], markers: dict[str, str], replicas: str) -> list[Artist]:
    shown = set(mean["layer"])
    handles: list[Artist] = [Line2D([], [], color=colors[layer], label=layer) for layer in colors if layer in shown]
    grey: dict[str, Any] = {"color": "0.3", "markersize": 4, "markeredgewidth": 0.7}
    for quantity, marker in markers.items():
        handles.append(Line2D([], [], linestyle="", marker=marker, label=symbol(quantity), **grey))
    echo = mean["panel"] == "echo"
    for kind in dict.fromkeys(mean.loc[echo, "standing"]):
        line, _, filling = _stroke(kind)
        name = _NAMES.get(kind, kind)
        handles.append(Line2D([], [], linestyle=line, marker="o", fillstyle=filling, label=name, **grey))
    if (echo & mean["warned"] & (mean["standing"] == "exact")).any():
        handles.append(Line2D([], [], linestyle="-", marker="o", fillstyle="bottom", label="exact, warned", **grey))
    estimated = ~echo & (mean["standing"] == "estimate")
    if estimated.any():
        handles.append(
            Line2D([], [], marker="o", label=f"{_list(mean[estimated])}: estimate", **grey | {"markersize": 2})
        )
    if (mean["warned"] & ~echo).any():
        handles.append(Line2D([], [], linestyle="", marker="o", fillstyle="none", label="hollow: warned", **grey))
    bracket = ~echo & (mean["upper"] > mean["lower"])
    if bracket.any():
        label = f"{_list(mean[bracket])}: lower to upper bound"
        handles.append(Patch(color="0.3", alpha=BAND, linewidth=0, label=label))
    if replicas:
        if bracket.any():
            label = f"{_list(mean[bracket])}: single replicas"
            handles.append(Line2D([], [], color="0.3", linewidth=0.5, alpha=0.6, label=label))
        if not bracket.all():
            label = f"{_list(mean[~bracket])}: s.d. over {replicas} replicas"
            handles.append(Patch(color="0.3", alpha=BAND, linewidth=0, label=label))
    return handles


def _list(mean: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(panel.partition(",")[0] for panel in mean["panel"]))
