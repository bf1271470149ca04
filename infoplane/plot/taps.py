"""What Echo taps say of each layer: the least rate at each cross-entropy, or at each distortion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..records import UNITS, InfoplaneError, choose
from .points import layers_of
from .style import LOOK, epoch_colors, epoch_norm, epoch_ticks, keep, label_once, page

__all__ = ["taps"]


def taps(table: pd.DataFrame, *, unit: str = "bits", layers: Iterable[str] | None = None) -> Figure:
    """Draw, for each tapped layer, the rate I(Z;X) of its taps against what they lose: cross-entropy of the label, or
    squared error of the whitened layer. One line an epoch through the betas, means over replicas; a run has panels of
    its own.

    Markers are filled where the rate is exact in every replica. A value is of the tap's code, and not of the layer.
    Raises InfoplaneError for what the table does not hold.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    if table.empty:
        raise InfoplaneError("The run has no Echo taps; train with --echo-mode tap.")
    shown = layers_of(table) if layers is None else [choose(layer, layers_of(table), "layer") for layer in layers]
    objectives = list(dict.fromkeys(table["objective"]))
    runs = list(dict.fromkeys(table["run"]))
    panels = [(run, objective, layer) for run in runs for objective in objectives for layer in shown]
    across = min(3, len(panels))
    epochs = sorted(table["epoch"].unique())
    norm, colors = epoch_norm(epochs), epoch_colors()
    legend: list[Artist] = [
        Line2D([], [], color="0.3", marker="o", label="exact in every replica"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", label="bound in some"),
    ]
    with matplotlib.rc_context(LOOK):
        fig, axes = page([2.0] * -(-len(panels) // across), across, legend, sharex=len(objectives) == 1)
        drawn: list[Axes] = list(axes.flat)[: len(panels)]
        keep(axes, drawn)
        for (run, objective, layer), ax in zip(panels, drawn, strict=True):
            own = table[
                (table["run"] == run) & (table["objective"] == objective) & (table["layer"] == layer)
            ]  # fmt: skip
            of_label = objective == "label"
            lost = own["cross_entropy_nats"] / size if of_label else own["distortion"]
            own = own.assign(lost=lost, rate=own["value_nats"] / size, exact=own["standing"] == "exact")
            for epoch in epochs:
                means = own[own["epoch"] == epoch].groupby("beta").agg(
                    rate=("rate", "mean"), lost=("lost", "mean"), exact=("exact", "all")
                )  # fmt: skip
                color: Any = colors(norm(epoch))
                ax.plot(means["rate"], means["lost"], color=color, linewidth=0.9)
                for hollow in (False, True):
                    some = means[means["exact"] != hollow]
                    ax.plot(
                        some["rate"], some["lost"], linestyle="none", marker="o", color=color,
                        markerfacecolor="white" if hollow else color,
                    )  # fmt: skip
            title = [run] * (len(runs) > 1) + [layer] + [objective] * (len(objectives) > 1)
            ax.set_title(", ".join(title), loc="left")
            ax.set_xlabel(f"rate $I(Z;X)$ of the tap [{unit}]")
            ax.set_ylabel(f"cross-entropy [{unit}]" if of_label else "squared error of the layer")
            ax.set_ylim(bottom=0)
            ax.set_xlim(left=0)
        label_once(drawn)
        bar = fig.colorbar(ScalarMappable(norm, colors), ax=drawn, label="epoch", shrink=0.8, aspect=30)
        bar.set_ticks(epoch_ticks(epochs))
        bar.ax.minorticks_off()
        bar.ax.set_yticklabels([f"{t:g}" for t in epoch_ticks(epochs)])
    return fig
