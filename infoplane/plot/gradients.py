"""Gradients over minibatches against epoch: the norms of their mean and standard deviation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.points import layers_of, needs
from ..errors import choose
from .labels import replica_counts, replica_note
from .layout import label_once, page
from .legend import Legend
from .style import DASHED, LOOK, Colors, band, epoch_axis, layer_colors

__all__ = ["gradients"]

_COLUMNS = ("run", "epoch", "replica", "layer", "batches", "mean_norm", "std_norm", "weight_norm", "snr")
_LINES: dict[str, Any] = {"mean": "-", "std": DASHED}


def gradients(
    frame: pd.DataFrame, *, layers: Iterable[str] | None = None, epochs: Iterable[int] | None = None
) -> Figure:
    """Draw the gradient over minibatches against epoch, on logarithmic axes.

    There is one row of panels per run. On the left are the norms of the mean (solid) and of the
    standard deviation (dashed) over minibatches, each divided by the norm of the weights. On the
    right is the first norm divided by the second; the thin line is at 1. The colour is the layer.
    Lines are geometric means over replicas, and bands are one standard deviation of the logarithm
    to either side.

    Args:
        frame: The gradients, as in gradients.csv.
        layers: The names of the layers to draw; all by default.
        epochs: The epochs to draw; all by default.

    Returns:
        The figure.

    Raises:
        InfoplaneError: If the frame does not hold what was asked for.

    Example:
        >>> import pandas as pd
        >>> import infoplane as ip
        >>> frame = pd.DataFrame(
        ...     {"run": "run", "epoch": [1, 2], "replica": 0, "layer": "hidden1", "batches": 13,
        ...      "mean_norm": [0.4, 0.1], "std_norm": 0.2, "weight_norm": 2.0, "snr": [2.0, 0.5]}
        ... )
        >>> figure = ip.plot.gradients(frame)
        >>> figure.axes[0].get_title(loc="left")
        'over 13 minibatches'
    """
    needs(frame, _COLUMNS, "gradients")
    colors = layer_colors(layers_of(frame))
    if layers is not None:
        frame = frame[frame["layer"].isin([choose(layer, list(colors), "layer") for layer in layers])]
    if epochs is not None:
        known = [str(epoch) for epoch in sorted(set(frame["epoch"]))]
        frame = frame[frame["epoch"].isin([int(choose(str(epoch), known, "epoch")) for epoch in epochs])]
    values = {"mean": frame["mean_norm"] / frame["weight_norm"], "std": frame["std_norm"] / frame["weight_norm"]}
    with np.errstate(divide="ignore"):
        logs = pd.DataFrame({name: np.log10(v) for name, v in (values | {"snr": frame["snr"]}).items()})
    logs = logs.where(np.isfinite(logs))  # a gradient of 0 has no place on a logarithmic axis
    table = frame[["run", "layer", "epoch"]].join(logs)
    mean = table.groupby(["run", "layer", "epoch"], sort=False).agg(["mean", "std"]).reset_index()
    runs = list(dict.fromkeys(frame["run"]))
    shown = [layer for layer in colors if layer in set(frame["layer"])]

    with matplotlib.rc_context(LOOK):
        counts = replica_counts(own for _, own in frame.groupby("run"))
        legend = _legend(shown, colors, counts)
        fig, axes = page([2.3] * len(runs), 2, legend, sharex=True, sharey="col")
        for run, (left, right) in zip(runs, axes, strict=True):
            for layer in shown:
                own = mean[(mean["run"] == run) & (mean["layer"] == layer)].sort_values("epoch")
                for ax, name in ((left, "mean"), (left, "std"), (right, "snr")):
                    _draw(ax, own, name, colors[layer], f"_{layer} {name}")
            right.axhline(1.0, color="0.35", linewidth=0.7, zorder=1)
            left.set_ylabel("norm of gradient / norm of weights")
            right.set_ylabel("norm of mean / norm of s.d. (SNR)")
            batches = frame.loc[frame["run"] == run, "batches"].unique()
            over = f"over {batches[0]} minibatches" if len(batches) == 1 else "over minibatches"
            title = [run if len(runs) > 1 else "", over, replica_note(frame[frame["run"] == run], counts)]
            left.set_title(", ".join(word for word in title if word), loc="left")
        for ax in axes.flat:
            ax.set_yscale("log")
            epoch_axis(ax, frame["epoch"].tolist())
        label_once(axes.flat)
        return fig


def _draw(ax: Axes, line: pd.DataFrame, name: str, color: Any, label: str) -> None:
    epoch, value, spread = line["epoch"], line[name, "mean"], line[name, "std"].fillna(0.0)
    band(ax, epoch, 10 ** (value - spread), 10 ** (value + spread), color)
    # a single epoch is drawn as a dot, because it makes no line
    marker: dict[str, Any] = {"marker": "o", "markersize": 3} if len(line) == 1 else {}
    ax.plot(epoch, 10**value, color=color, linestyle=_LINES.get(name, "-"), label=label, **marker)


def _legend(layers: list[str], colors: Colors, counts: Sequence[int]) -> Legend:
    legend = Legend().names(colors, layers)
    legend.line("of the mean, and SNR", linestyle=_LINES["mean"])
    legend.line("of the standard deviation", linestyle=_LINES["std"])
    return legend.replicas(counts, "s.d. over replicas", band=True)
