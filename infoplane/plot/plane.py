"""The information plane: how much each layer holds of the input and of the label, from epoch to epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..records import InfoplaneError, choose
from .points import chosen, curves, layers_of, name_of_ceiling, points, title_of
from .style import (
    FAINT,
    LOOK,
    arrow,
    ceiling_line,
    epoch_colors,
    epoch_norm,
    epoch_ticks,
    grid,
    label_once,
    layer_markers,
    replicas_of,
    symbol,
)

__all__ = ["lines", "panels_of", "plane"]

#: how far the last epoch is from a power of ten to have a tick of its own in the colour bar
_APART = 1.6
#: the line of a bracket whose ends are estimates
_ESTIMATED = (0, (1, 1))
#: what an Echo layer's own quantities are called
_OF_ECHO = {"I(X;T)": "I(Z;X)", "I(T;Y)": "I(Z;Y)"}


def plane(
    frame: pd.DataFrame,
    *,
    ax: Axes | None = None,
    estimator: str | None = None,
    x: str = "I(X;T)",
    y: str = "I(T;Y)",
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
    bound: str = "mid",
) -> Figure | Axes:
    """Draw the information plane of a frame of measurements (`records.COLUMNS`, nats).

    One marker a layer and epoch, its shape the layer and its colour the epoch; a thin line joins the layers of one
    epoch. Points are means over replicas, and each replica is a faint line. A marker is hollow where a warning is
    attached to either number of any replica; a dot in it says that x is exact in every replica, an arrow that a number
    is an upper or a lower bound alone. Bars reach from the lower to the upper bound, dotted where these are estimates,
    and the point is their `bound`: "mid", "lower" or "upper"; of more than 8 epochs only those next to the ticks of the
    colour bar have bars.
    Dashed lines: the largest ceilings, H(Y) and ln N.

    estimator: which to draw; default: a panel for each that has both quantities (a row of panels for each run, or the
        runs side by side where there is one). For
        Echo layers x and y stand for I(Z;X) and I(Z;Y). layers, epochs: which; default all.
    ax: draw one panel there, in the style that is set. The legend goes below it: a figure with layout="constrained"
        makes room for it.

    Returns the figure, or `ax` where it was given. Raises InfoplaneError for what the frame does not hold, and where
    `ax` is given and there is more than one panel to draw.
    """
    markers = layer_markers(layers_of(frame)) if "layer" in frame else {}
    rows = chosen(frame, unit=unit, estimator=estimator, layers=layers, epochs=epochs)
    table = points(rows, bound)
    panels = panels_of(table, x, y)
    runs, names = (list(dict.fromkeys(key[at] for key in panels)) for at in (0, 1))
    norm, cmap = epoch_norm(table["epoch"].tolist()), epoch_colors()
    shown = [layer for layer in markers if any((each["layer"] == layer).any() for each in panels.values())]
    legend = _legend(shown, markers, panels.values())
    mappable = ScalarMappable(norm, cmap)

    if ax is not None:
        if len(panels) > 1:
            what = f"estimator= ({', '.join(names)})" if len(names) > 1 else f"one run ({', '.join(runs)})"
            raise InfoplaneError(f"There are {len(panels)} panels to draw and one Axes: choose {what}.")
        (both,) = panels.values()
        _draw(ax, both, markers, norm, cmap)
        lines(ax, both, unit)
        _colorbar(ax.figure.colorbar(mappable, ax=ax), table)
        ax.legend(
            handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2,
            fontsize="small", frameon=False, handlelength=1.5, columnspacing=1.2,
        )  # fmt: skip
        return ax
    with matplotlib.rc_context(LOOK):
        fig, cells = grid(runs, names, legend, {(run, name) for run in runs for name in names} - set(panels))
        for key, both in panels.items():
            _draw(cells[key], both, markers, norm, cmap)
            cells[key].set_title(title_of(rows, key[1], key[0] if len(runs) > 1 else ""), pad=12)
        for key, both in panels.items():  # after all points, for it fixes the limits that the panels share
            lines(cells[key], both, unit)
        label_once(cells.values())
        _colorbar(fig.colorbar(mappable, ax=list(cells.values()), aspect=30, pad=0.015), table)
        return fig


def panels_of(table: pd.DataFrame, x: str, y: str) -> dict[tuple[str, str], pd.DataFrame]:
    """For each run and panel that has both quantities: the points with the columns of either, suffixed _x and _y."""
    known = list(dict.fromkeys(table["quantity"]))
    for quantity in (x, y):
        if quantity.endswith("Y)") and not any(each.endswith("Y)") for each in known):
            raise InfoplaneError(
                "The frame holds no information about a label: it was recorded without labels, and has no plane. Draw "
                "the plot `rates`."
            )
        if _OF_ECHO.get(quantity) not in known:
            choose(quantity, known, "quantity")
    out = {}
    for key, rows in table.groupby(["run", "panel"], sort=False):
        names = [q if q in set(rows["quantity"]) else _OF_ECHO.get(q, q) for q in (x, y)]
        sides = [rows[rows["quantity"] == name] for name in names]
        both = sides[0].merge(sides[1], on=["run", "panel", "layer", "epoch", "replica"], suffixes=("_x", "_y"))
        if not both.empty:
            out[key] = both
    if not out:
        raise InfoplaneError(f"No estimator has both {x} and {y} of one layer; there is no plane to draw.")
    return out


def _mean(both: pd.DataFrame) -> pd.DataFrame:
    """The means over replicas, quantity by quantity, side by side as in `panels_of`."""
    keys = ["run", "panel", "layer", "epoch", "replica"]
    means = []
    for side in ("_x", "_y"):
        names = {name: name.removesuffix(side) for name in both if name.endswith(side)}
        means.append(curves(both[[*keys, *names]].rename(columns=names)))
    return means[0].merge(means[1], on=keys[:-1], suffixes=("_x", "_y"))


def _draw(ax: Axes, both: pd.DataFrame, markers: dict[str, str], norm: Normalize, cmap: Colormap) -> None:
    mean = _mean(both).dropna(subset=["value_x", "value_y"])
    rank = {layer: at for at, layer in enumerate(markers)}
    mean = mean.sort_values(["epoch", "layer"], key=lambda c: c.map(rank) if c.name == "layer" else c, kind="stable")
    if both["replica"].nunique() > 1:
        paths = [path[["value_x", "value_y"]].to_numpy() for _, path in both.groupby(["layer", "replica"], sort=False)]
        faint = LineCollection(paths, colors=FAINT, linewidths=0.35, alpha=0.6, zorder=1.5, label="_replicas")
        ax.add_collection(faint)
    for epoch, path in mean.groupby("epoch"):
        ax.plot(path["value_x"], path["value_y"], color=cmap(norm(epoch)), linewidth=0.5, alpha=0.7, zorder=2)
    for horizontal, (a, b) in ((True, "xy"), (False, "yx")):
        known = mean[(mean[f"upper_{a}"] > mean[f"lower_{a}"]) & mean["epoch"].isin(_barred(mean["epoch"]))]
        ends = known[[f"lower_{a}", f"upper_{a}"]].to_numpy()
        other = np.repeat(known[[f"value_{b}"]].to_numpy(), 2, axis=1)
        bars = np.stack([ends, other] if horizontal else [other, ends], axis=-1)
        look: dict[str, Any] = {"colors": cmap(norm(known["epoch"])), "linewidths": 0.4, "alpha": 0.45}
        look["linestyles"] = [_ESTIMATED if kind == "estimate" else "-" for kind in known[f"standing_{a}"]]
        ax.add_collection(LineCollection(list(bars), label=f"_bars {a}", **look))
        for standing in ("upper", "lower"):
            ends = mean[mean[f"standing_{a}"] == standing]
            if len(ends):
                ax.scatter(
                    ends["value_x"], ends["value_y"], s=70, marker=arrow(a, standing), linewidths=0.6, zorder=2.5,
                    facecolors="none", edgecolors=cmap(norm(ends["epoch"])), label=f"_{standing}-{a} only",
                )  # fmt: skip
    for layer, marker in markers.items():
        own = mean[mean["layer"] == layer]
        warned = own["warned_x"] | own["warned_y"]
        for hollow, some in ((True, own[warned]), (False, own[~warned])):
            if len(some):
                colors = cmap(norm(some["epoch"]))
                ax.scatter(
                    some["value_x"], some["value_y"], s=15, marker=marker, linewidths=0.7, zorder=3,
                    facecolors="none" if hollow else colors, edgecolors=colors if hollow else "none",
                    label=f"_{layer}{' warned' if hollow else ''}",
                )  # fmt: skip
    exact = mean[mean["standing_x"] == "exact"]
    if len(exact):
        ax.scatter(exact["value_x"], exact["value_y"], s=1.6, color="0.0", linewidths=0, zorder=4, label="_exact")
    ax.autoscale_view()


def _barred(epochs: pd.Series) -> set[int]:
    """The epochs with bars: all if they are few, else those next to the ticks of the colour bar; more hide the rest."""
    epochs = epochs.drop_duplicates()
    if len(epochs) <= 8:
        return set(epochs)
    return {int(epochs.loc[(epochs - tick).abs().idxmin()]) for tick in epoch_ticks(epochs.tolist(), _APART)}


def lines(ax: Axes, both: pd.DataFrame, unit: str) -> None:
    """The ceilings as dashed lines, and the names of the axes."""
    for axis, set_label in (("x", ax.set_xlabel), ("y", ax.set_ylabel)):
        quantity = both[f"quantity_{axis}"].iloc[0]
        set_label(f"{symbol(quantity)} [{unit}]")
        ceiling_line(ax, axis, *name_of_ceiling(quantity, both, unit, f"_{axis}"))


def _colorbar(bar: Any, table: pd.DataFrame) -> None:
    bar.set_label("epoch")
    bar.set_ticks(epoch_ticks(table["epoch"].tolist(), _APART))
    bar.ax.minorticks_off()
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.outline.set_linewidth(0.6)


def _legend(layers: Sequence[str], markers: dict[str, str], panels: Iterable[pd.DataFrame]) -> list[Artist]:
    panels = list(panels)
    grey: dict[str, Any] = {"color": "0.3", "linestyle": "", "markersize": 4, "markeredgewidth": 0.7}
    handles: list[Artist] = [Line2D([], [], marker=markers[layer], label=layer, **grey) for layer in layers]
    means = [_mean(each) for each in panels]
    standings = {axis: set().union(*(each[f"standing_{axis}"] for each in means)) for axis in "xy"}
    if "exact" in standings["x"]:
        exact = (each.loc[each["standing_x"] == "exact", "quantity_x"] for each in means)
        label = f"dot: {', '.join(symbol(q) for q in dict.fromkeys(itertools.chain(*exact)))} exact"
        handles.append(Line2D([], [], **grey | {"marker": ".", "color": "0.0", "markersize": 3}, label=label))
    for standing in ("upper", "lower"):
        if any(standing in found for found in standings.values()):
            label = f"arrow: {standing} bound alone"
            handles.append(Line2D([], [], marker=arrow("x", standing), label=label, **grey | {"markersize": 9}))
    if any((each["warned_x"] | each["warned_y"]).any() for each in panels):
        handles.append(Line2D([], [], marker="o", fillstyle="none", label="hollow: warned", **grey))
    if any((each[f"upper_{a}"] > each[f"lower_{a}"]).any() for each in panels for a in "xy"):
        some = ", some epochs" if max(each["epoch"].nunique() for each in panels) > 8 else ""
        handles.append(Line2D([], [], color="0.3", linewidth=0.6, label=f"bounds{some}; marker: their middle"))
    ends = [each[[f"upper_{a}", f"lower_{a}", f"standing_{a}"]].to_numpy() for each in means for a in "xy"]
    estimated = [upper > lower for each in ends for upper, lower, standing in each if standing == "estimate"]
    if any(estimated):
        label = "the same, both ends estimates"
        handles.append(Line2D([], [], color="0.3", linewidth=0.6, linestyle=_ESTIMATED, label=label))
    if not all(estimated):
        handles.append(Line2D([], [], marker="o", label="no dot, arrow or bar: estimate", **grey))
    if replicas := replicas_of(panels):
        handles.append(Line2D([], [], color=FAINT, linewidth=1.0, label=f"single replicas ({replicas})"))
    return handles
