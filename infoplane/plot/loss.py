"""Loss and error against epoch: on training and test points, with and without noise."""

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
    """Draw loss and error against epoch, on a logarithmic axis with a place for epoch 0.

    There is one row of panels per run, on common axes. Solid lines are training points, and dashed
    ones are test points. The colour is the path through the network: noisy (single draws),
    noise-off (the same network with its noise off) or plain (a network without noise). Lines are
    means over replicas, and bands are one standard deviation to either side. If no run has an error
    (regression), only the loss is drawn.

    Args:
        metrics: The losses (in nats) and errors, as in metrics.csv.
        unit: The unit of a cross-entropy: "bits" or "nats".
        epochs: The epochs to draw; all by default.

    Returns:
        The figure.

    Raises:
        InfoplaneError: If the frame does not hold what was asked for.

    Example:
        >>> import pandas as pd
        >>> import infoplane as ip
        >>> metrics = pd.DataFrame(
        ...     {"run": "run", "epoch": [0, 10], "replica": 0, "split": "train", "path": "plain",
        ...      "loss": [0.7, 0.2], "error": [0.5, 0.1]}
        ... )
        >>> [ax.get_ylabel() for ax in ip.plot.loss(metrics).axes]
        ['loss [bits]', 'error']
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
        for (_, name), ax in panels.items():  # last, because it fixes the limits that the panels share
            epoch_axis(ax, metrics["epoch"].tolist())
            ax.set_ylim(bottom=min(0.0, *(other.dataLim.y0 for (_, n), other in panels.items() if n == name)))
        label_once(panels.values())
        return fig


def _draw(ax: Axes, line: pd.DataFrame, name: str, color: Any, style: Any, label: str) -> None:
    epoch, value, spread = line["epoch"], line[name, "mean"], line[name, "std"].fillna(0.0)
    band(ax, epoch, value - spread, value + spread, color, label)
    marker: dict[str, Any] = {}
    if len(line) == 1:  # a single epoch is drawn as a dot, because it makes no line
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
