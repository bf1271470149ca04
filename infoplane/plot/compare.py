"""All estimators on the layers of one run: beside the exact rates, and as bins and noise are swept."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from ..records import UNITS, InfoplaneError, choose
from .style import LOOK, ceiling_line, estimator_colors, keep, label_once, layer_colors, layer_markers, page

__all__ = ["beside", "sweeps"]

_MARKERS = {"exact": "o", "upper": "v", "lower": "^", "estimate": "s"}
_CALLED = {"exact": "exact", "upper": "upper bound", "lower": "lower bound", "estimate": "estimate"}


def beside(rows: pd.DataFrame, *, unit: str = "bits") -> Figure:
    """Draw what each estimator says of each noisy layer, a panel a layer, with a line at the exact rate.

    rows: of `infoplane.compare.compared`, of one snapshot. Information about the input, or between what the layer is
    sent and what it hands on; markers are hollow where a number has a warning. Raises InfoplaneError where there is no
    noisy layer.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    noisy = rows[rows["layer"].str.endswith((".echo", ".noise"))]
    own = noisy[~noisy["quantity"].str.contains("Y") & ~noisy["channel"].str.startswith(("noise-off", "permuted"))]
    if own.empty:
        raise InfoplaneError("The run has no noisy layer, so there is nothing to draw beside one; see the sweeps.")
    layers = list(dict.fromkeys(own["layer"]))
    across = min(2, len(layers))
    standings = [s for s in _MARKERS if s in set(own["standing"])]
    legend: list[Artist] = [
        Line2D([], [], linestyle="none", color="0.3", marker=_MARKERS[s], label=_CALLED[s]) for s in standings
    ]
    legend.append(Line2D([], [], linestyle="none", color="0.3", marker="s", markerfacecolor="none", label="warned"))
    if own["truth_nats"].notna().any():
        legend.append(
            Line2D([], [], color="0.35", linestyle=(0, (4, 3)), linewidth=0.8, label="exact rate, Echo noise")
        )
    colors = estimator_colors(own["estimator"])
    most = max(own.loc[own["layer"] == layer, ["estimator", "quantity", "channel"]].drop_duplicates().shape[0]
               for layer in layers)  # fmt: skip
    with matplotlib.rc_context(LOOK):
        fig, axes = page([0.5 + 0.17 * most] * -(-len(layers) // across), across, legend, sharex=True)
        panels: list[Axes] = list(axes.flat)[: len(layers)]
        keep(axes, panels)
        for layer, ax in zip(layers, panels, strict=True):
            here = own[own["layer"] == layer]
            names: list[str] = []
            for row in here.itertuples():
                name = f"{row.estimator}  {row.quantity}" + (
                    ", Gaussian noise" if "gaussian noise" in str(row.channel) else ""
                )
                if name not in names:
                    names.append(name)
                if math.isnan(row.value_nats):
                    said = ax.text(0.0, names.index(name), " none: " + str(row.warnings), fontsize=6, color="0.4")
                    said.set(va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
                    continue
                warned = bool(set(str(row.warnings).split(";")) - {"", "sampled-codes", "chain"})
                ax.errorbar(
                    row.value_nats / size, names.index(name),
                    xerr=None if math.isnan(row.stderr_nats) else 2 * row.stderr_nats / size,
                    color=colors[row.estimator], marker=_MARKERS[row.standing], markersize=4.5, elinewidth=0.8,
                    markerfacecolor="white" if warned else colors[row.estimator],
                )  # fmt: skip
            for truth in here["truth_nats"].dropna().unique():
                ax.axvline(truth / size, color="0.35", linestyle=(0, (4, 3)), linewidth=0.8, zorder=0)
            ax.set_yticks(range(len(names)), names)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_title(layer, loc="left")
            ax.set_xlabel(f"information [{unit}]")
        label_once(panels)
    return fig


def sweeps(swept: pd.DataFrame, *, unit: str = "bits") -> Figure:
    """Draw how I(X;T) of each layer moves with the width of the bins and the variance of KDE's noise.

    swept: of `infoplane.compare.sweep`, of one snapshot; noisy layers are left out. KDE: the upper bound as a line,
    down to the lower one as a band. Hollow markers: warned. Raises InfoplaneError where nothing was swept.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    own = swept[~swept["layer"].str.endswith((".echo", ".noise"))]
    if own.empty:
        raise InfoplaneError("Nothing was swept: the frame has no binning or KDE at several settings.")
    layers = list(dict.fromkeys(own["layer"]))
    colors: dict[str, Any] = dict(layer_colors(layers))
    markers = layer_markers(layers)
    legend: list[Artist] = [
        Line2D([], [], color=colors[layer], marker=markers[layer], label=layer) for layer in layers
    ]  # fmt: skip
    what = {"binning": "width of the bins", "kde": "variance of the noise (band: down to the lower bound)"}
    panels = [name for name in what if name in set(own["estimator"])]
    with matplotlib.rc_context(LOOK):
        fig, axes = page([2.6], len(panels), legend, sharey=True)
        for name, ax in zip(panels, axes[0], strict=True):
            for layer in layers:
                here = own[(own["estimator"] == name) & (own["layer"] == layer)].sort_values("setting")
                top = here[here["standing"].isin(["upper", "estimate"])]
                low = here[here["standing"] == "lower"]
                values = top["value_nats"] / size
                ax.plot(top["setting"], values, color=colors[layer])
                if len(low) == len(top):
                    ax.fill_between(
                        top["setting"], low["value_nats"] / size, values, color=colors[layer], alpha=0.15, linewidth=0
                    )
                warned = top["warnings"].str.replace("noise-off", "").str.strip(";").ne("")
                for hollow in (False, True):
                    some = (warned == hollow).to_numpy()
                    ax.plot(
                        top["setting"][some], values[some], linestyle="none", marker=markers[layer],
                        color=colors[layer], markerfacecolor="white" if hollow else colors[layer],
                    )  # fmt: skip
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(numticks=12))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_title(name, loc="left")
            ax.set_xlabel(what[name])
            ax.set_ylabel(f"$I(X;T)$ [{unit}]")
            ax.set_ylim(bottom=0)
            n = int(own["n"].max())
            ceiling_line(ax, "y", math.log(n) / size, f"ln N = {math.log(n) / size:.2f}")
        label_once(axes[0])
    return fig
