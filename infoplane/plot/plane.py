"""The information plane: how much each layer knows about the input and about the label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ..analysis.points import LABEL, OWN, chosen, curves, layers_of, points
from ..errors import InfoplaneError, choose
from .labels import name_of_ceiling, replica_counts, replica_note, symbol, title_of
from .layout import grid, label_once
from .legend import Legend
from .style import (
    FAINT,
    LOOK,
    bars,
    ceiling_line,
    epoch_bar,
    epoch_colors,
    epoch_norm,
    epoch_ticks,
    layer_markers,
    marks,
)

__all__ = ["label_axes", "panels_of", "plane"]

#: the last epoch has a tick in the colour bar if it is at least this many times a power of ten
_APART = 1.6


@overload
def plane(
    frame: pd.DataFrame,
    *,
    ax: None = None,
    estimator: str | None = None,
    x: str = "I(X;T)",
    y: str = "I(T;Y)",
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
    side: str = "mid",
) -> Figure: ...


@overload
def plane(
    frame: pd.DataFrame,
    *,
    ax: Axes,
    estimator: str | None = None,
    x: str = "I(X;T)",
    y: str = "I(T;Y)",
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
    side: str = "mid",
) -> Axes: ...


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
    side: str = "mid",
) -> Figure | Axes:
    """Draw the information plane.

    There is one marker per layer and epoch. Its shape is the layer and its colour is the epoch, and
    a thin line joins the layers of an epoch. Points are means over replicas, and each replica is a
    faint line. A marker is filled if the number along x is exact in every replica, pale if it is a
    bound or an estimate, and hollow if either number has a warning in any replica. An arrow at a
    number says that it is a bound without a partner, and points to where the truth is.

    Bars reach from the lower to the upper bound; they are dotted if both are estimates. If there
    are more than 8 epochs, only those next to the ticks of the colour bar have bars. Dashed lines
    are the largest ceilings, H(Y) and ln N.

    Args:
        frame: Measurements (`records.COLUMNS`, in nats).
        ax: Axes to draw on, if there is only one panel; the current style applies. The legend goes
            below them, and a figure with layout="constrained" makes room for it.
        estimator: The estimator to draw. By default, each estimator that has both quantities has a
            panel. Each run then has a row of panels; if there is only one estimator, the runs stand
            side by side.
        x: The quantity along x; for Echo layers, I(X;T) stands for I(Z;X).
        y: The quantity along y; for Echo layers, I(T;Y) stands for I(Z;Y).
        unit: "bits" or "nats".
        layers: The names of the layers to draw; all by default.
        epochs: The epochs to draw; all by default.
        side: The value that stands for a bracket: "mid", "lower" or "upper".

    Returns:
        The figure, or `ax` if it was given.

    Raises:
        InfoplaneError: If the frame does not hold what was asked for, or `ax` is given and there
            are several panels.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> recorder = ip.Recorder(model, (x, (x[:, 0] > 0).long()), estimators=["binning"])
        >>> tables = recorder.snapshot(epoch=0)
        >>> figure = ip.plot.plane(recorder.frame())
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('$I(X;T)$ [bits]', '$I(T;Y)$ [bits]')

    References:
        Tishby & Zaslavsky, Deep learning and the information bottleneck principle, 2015.
    """
    markers = layer_markers(layers_of(frame)) if "layer" in frame else {}
    rows = chosen(frame, unit=unit, estimator=estimator, layers=layers, epochs=epochs)
    table = points(rows, side)
    panels = panels_of(table, x, y)
    runs, names = (list(dict.fromkeys(key[at] for key in panels)) for at in (0, 1))
    every = table["epoch"].tolist()
    counts = replica_counts(panels.values())
    legend = _legend(markers, panels, counts, side)

    if ax is not None:
        if len(panels) > 1:
            what = f"estimator= ({', '.join(names)})" if len(names) > 1 else f"one run ({', '.join(runs)})"
            raise InfoplaneError(f"There are {len(panels)} panels to draw, but only one Axes: choose {what}.")
        (both,) = panels.values()
        _draw(ax, both, markers, every)
        label_axes(ax, both, unit)
        epoch_bar(ax.figure, ax, every, apart=_APART)
        ax.legend(
            handles=legend.handles, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2,
            fontsize="small", frameon=False, handlelength=1.5, columnspacing=1.2,
        )  # fmt: skip
        return ax
    with matplotlib.rc_context(LOOK):
        fig, cells = grid(runs, names, legend, {(run, name) for run in runs for name in names} - set(panels))
        for (run, name), both in panels.items():
            _draw(cells[run, name], both, markers, every)
            title = title_of(rows, name, run if len(runs) > 1 else "", replica_note(both, counts))
            cells[run, name].set_title(title, pad=12)
        for key, both in panels.items():  # last, because it fixes the limits that the panels share
            label_axes(cells[key], both, unit)
        label_once(cells.values())
        epoch_bar(fig, list(cells.values()), every, apart=_APART, aspect=30, pad=0.015)
        return fig


def panels_of(table: pd.DataFrame, x: str, y: str) -> dict[tuple[str, str], pd.DataFrame]:
    """Pair the two quantities of a plane.

    Args:
        table: The table that `points` returned.
        x: The quantity along x.
        y: The quantity along y.

    Returns:
        The points by (run, panel), for every panel that has both quantities. Their columns have the
        suffixes _x and _y.

    Raises:
        InfoplaneError: If no panel has both quantities, or the frame does not hold one of them.
    """
    known = list(dict.fromkeys(table["quantity"]))
    for quantity in (x, y):
        if quantity in LABEL and not set(LABEL) & set(known):
            raise InfoplaneError(
                "The frame holds no information about a label, because it was recorded without labels. So there is no "
                "plane; draw the plot `rates` instead."
            )
        if OWN.get(quantity) not in known:
            choose(quantity, known, "quantity")
    out: dict[tuple[str, str], pd.DataFrame] = {}
    for (run, panel), rows in table.groupby(["run", "panel"], sort=False):
        names = [q if q in set(rows["quantity"]) else OWN.get(q, q) for q in (x, y)]
        axes = [rows[rows["quantity"] == name] for name in names]
        both = axes[0].merge(axes[1], on=["run", "panel", "layer", "epoch", "replica"], suffixes=("_x", "_y"))
        if not both.empty:
            out[str(run), str(panel)] = both
    if not out:
        raise InfoplaneError(f"No estimator has both {x} and {y} of the same layer, so there is no plane to draw.")
    return out


def _mean(both: pd.DataFrame) -> pd.DataFrame:
    """Return the means over replicas of both quantities, in the form of `panels_of`."""
    keys = ["run", "panel", "layer", "epoch", "replica"]
    means = []
    for suffix in ("_x", "_y"):
        names = {name: name.removesuffix(suffix) for name in map(str, both) if name.endswith(suffix)}
        means.append(curves(both[[*keys, *names]].rename(columns=names)))
    return means[0].merge(means[1], on=keys[:-1], suffixes=("_x", "_y"))


def _draw(ax: Axes, both: pd.DataFrame, markers: dict[str, str], every: Sequence[int]) -> None:
    """Draw the points, paths and bars of one panel; `every` holds the epochs of all panels."""
    norm, cmap = epoch_norm(every), epoch_colors()
    mean = _mean(both).dropna(subset=["value_x", "value_y"])
    rank = {layer: at for at, layer in enumerate(markers)}
    mean = mean.sort_values(["epoch", "layer"], key=lambda c: c.map(rank) if c.name == "layer" else c, kind="stable")
    if both["replica"].nunique() > 1:
        paths = [path[["value_x", "value_y"]].to_numpy() for _, path in both.groupby(["layer", "replica"], sort=False)]
        faint = LineCollection(paths, colors=FAINT, linewidths=0.35, alpha=0.6, zorder=1.5, label="_replicas")
        ax.add_collection(faint)
    for _, path in mean.groupby("epoch"):
        color = cmap(norm(path["epoch"].iloc[0]))
        ax.plot(path["value_x"], path["value_y"], color=color, linewidth=0.5, alpha=0.7, zorder=2)
    for a, b in ("xy", "yx"):
        known = mean[(mean[f"upper_{a}"] > mean[f"lower_{a}"]) & mean["epoch"].isin(_barred(mean["epoch"]))]
        colors = cmap(norm(known["epoch"]))
        bars(ax, a, known[f"lower_{a}"], known[f"upper_{a}"], known[f"value_{b}"], colors, known[f"standing_{a}"])
    for layer, marker in markers.items():
        own = mean[mean["layer"] == layer]
        if len(own):
            marks(
                ax, own["value_x"], own["value_y"], cmap(norm(own["epoch"])), own["standing_x"],
                own["warned_x"] | own["warned_y"], along={axis: own[f"standing_{axis}"] for axis in "xy"},
                marker=marker, label=layer, on_line=False,
            )  # fmt: skip
    ax.autoscale_view()


def _barred(epochs: pd.Series) -> set[int]:
    """Return the epochs with bars: all if they are few, or those next to a tick."""
    known = [int(epoch) for epoch in epochs.drop_duplicates()]
    if len(known) <= 8:
        return set(known)
    return {min(known, key=lambda epoch: abs(epoch - tick)) for tick in epoch_ticks(known, _APART)}


def label_axes(ax: Axes, both: pd.DataFrame, unit: str) -> None:
    """Label the axes of a plane, and draw the ceilings as dashed lines."""
    for axis, set_label in (("x", ax.set_xlabel), ("y", ax.set_ylabel)):
        quantity = both[f"quantity_{axis}"].iloc[0]
        set_label(f"{symbol(quantity)} [{unit}]")
        ceiling_line(ax, axis, *name_of_ceiling(quantity, both, unit, f"_{axis}"))


def _legend(
    markers: dict[str, str], panels: dict[tuple[str, str], pd.DataFrame], counts: Sequence[int], side: str
) -> Legend:
    means = pd.concat([_mean(each) for each in panels.values()], ignore_index=True)
    legend = Legend().names(dict.fromkeys(markers, "0.3"), set(means["layer"]), markers=markers)
    exact = means.loc[means["standing_x"] == "exact", "quantity_x"]
    legend.standings(
        zip(means["standing_x"], means["warned_x"] | means["warned_y"], strict=True),
        ", ".join(map(symbol, dict.fromkeys(exact))),
        along=means["standing_y"],
    )
    wide = [means[means[f"upper_{a}"] > means[f"lower_{a}"]][f"standing_{a}"] for a in "xy"]
    some = ", some epochs" if max(each["epoch"].nunique() for each in panels.values()) > 8 else ""
    kinds = set().union(*wide)
    if kinds:
        at = "their middle" if side == "mid" else f"the {side} one"
        legend.bar(f"bounds{some}; marker: {at}")
    if "estimate" in kinds:
        legend.bar("the same, both ends estimates", estimated=True)
    return legend.replicas(counts)
