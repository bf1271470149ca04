"""Loss and error against epoch: training and test, with the noise and without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.points import loss_unit, needs
from ..errors import choose
from .labels import replica_counts, replica_note
from .layout import keep, label_once, page
from .legend import Legend
from .style import DASHED, LOOK, Colors, band, epoch_axis, path_colors

__all__ = ["loss"]

_LINES: dict[str, Any] = {"train": "-", "test": DASHED}
_METRICS = ("run", "epoch", "replica", "split", "path", "loss", "error")


def loss(metrics: pd.DataFrame, *, unit: str = "bits", epochs: Iterable[int] | None = None) -> Figure:
    """Draw loss and error against epoch, on a logarithmic axis with a place for 0.

    There is a row for each run, on common axes. Solid: training points, dashed: test points. The
    colour is the path through the network: noisy (single draws), noise-off (the same network with
    its noise off), plain (it has no noise). Lines are means over replicas, bands one standard
    deviation to either side. Where no run has an error (regression), there is only the loss.

    Args:
        metrics: A frame as metrics.csv is; losses in nats.
        unit: "bits" or "nats", of a cross-entropy.
        epochs: Default: all.

    Raises:
        InfoplaneError: The frame does not hold what was asked for.
    """
    needs(metrics, _METRICS, "metrics")
    scale, unit = loss_unit(metrics, unit)
    if epochs is not None:
        known = [str(epoch) for epoch in sorted(set(metrics["epoch"]))]
        metrics = metrics[metrics["epoch"].isin([int(choose(str(epoch), known, "epoch")) for epoch in epochs])]
    metrics = metrics.assign(loss=metrics["loss"] / scale)
    runs = list(dict.fromkeys(metrics["run"]))
    columns = {"loss": f"loss [{unit}]"} | ({"error": "error"} if metrics["error"].notna().any() else {})
    colors = path_colors(metrics["path"])
    counts = replica_counts(own for _, own in metrics.groupby("run"))
    mean = metrics.groupby(["run", "path", "split", "epoch"], sort=False)[[*columns]].agg(["mean", "std"]).reset_index()

    with matplotlib.rc_context(LOOK):
        fig, axes = page(
            [2.0] * len(runs), len(columns), _legend(metrics, colors, counts), sharex=True, sharey="col",
            width=7.0 if len(columns) > 1 else 4.2,
        )  # fmt: skip
        panels = {}
        for row, run in enumerate(runs):
            for column, (name, label) in enumerate(columns.items()):
                own = mean[(mean["run"] == run) & mean[name, "mean"].notna()]
                if own.empty:
                    continue
                ax = panels[run, name] = axes[row, column]
                for (path, split), line in own.groupby(["path", "split"], sort=False):
                    _draw(ax, line.sort_values("epoch"), name, colors[path], _LINES.get(split, ":"), f"_{path} {split}")
                ax.set_ylabel(label)
                title = [run if len(runs) > 1 else "", replica_note(metrics[metrics["run"] == run], counts)]
                ax.set_title(", ".join(word for word in title if word))
        keep(axes, panels.values())
        for (_, name), ax in panels.items():  # last, for it fixes the limits that the panels share
            epoch_axis(ax, metrics["epoch"].tolist())
            ax.set_ylim(bottom=min(0.0, *(other.dataLim.y0 for (_, n), other in panels.items() if n == name)))
        label_once(panels.values())
        return fig


def _draw(ax: Axes, line: pd.DataFrame, name: str, color: Any, style: Any, label: str) -> None:
    epoch, value, spread = line["epoch"], line[name, "mean"], line[name, "std"].fillna(0.0)
    band(ax, epoch, value - spread, value + spread, color, label)
    marker: dict[str, Any] = {}
    if len(line) == 1:  # a dot, for one epoch makes no line
        marker = {"marker": "o", "markersize": 3, "fillstyle": "full" if style == "-" else "none"}
    ax.plot(epoch, value, color=color, linestyle=style, label=label, **marker)


def _legend(metrics: pd.DataFrame, colors: Colors, counts: Sequence[int]) -> Legend:
    legend = Legend().names(colors)
    alone = metrics.groupby("run")["epoch"].nunique().min() == 1
    for split in dict.fromkeys(metrics["split"]):
        style = _LINES.get(split, ":")
        marker: dict[str, Any] = {"marker": "o", "fillstyle": "full" if style == "-" else "none"} if alone else {}
        legend.line(split, linestyle=style, **marker)
    return legend.replicas(counts, "s.d. over replicas", band=True)
