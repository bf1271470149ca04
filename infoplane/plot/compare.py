"""All estimators on the layers of one run: beside exact rates, and over sweeps of settings."""

from __future__ import annotations

import math

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ..analysis.points import LABEL, NOISE, base_layers, layers_of, noisy_layers, warned
from ..errors import InfoplaneError, choose
from ..records import UNITS
from .labels import symbol
from .layout import flow, label_once, page
from .legend import Legend
from .style import LOOK, RULE, band, ceiling_line, estimator_colors, layer_colors, layer_markers, marks

__all__ = ["beside", "sweeps"]

#: warnings that say which number this is, and not that it may be off
_NO_FLAW = ("noise-off", "sampled-codes", "chain")
_SWEPT = {"binning": "width of the bins", "kde": "variance of the noise"}


def beside(rows: pd.DataFrame, *, unit: str = "bits") -> Figure:
    """Draw the number of each estimator on each noisy layer, beside the exact rate.

    There is a panel per layer, with a line at its exact rate. The numbers say how much the layer
    holds of the input, or of what it is sent. The colour is the estimator. A mark is filled where
    the number is exact, pale where it is a bound or an estimate, and hollow where it has a warning;
    an arrow points from a bound to where the truth is. Bars are two standard errors to either side.
    Below the name of an estimator stands its channel where that is not the layer's own noise: its
    number is then not one of the rate.

    Args:
        rows: One snapshot of `infoplane.runs.comparison.compared`.
        unit: "bits" or "nats".

    Raises:
        InfoplaneError: There is no noisy layer.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    noisy = rows[rows["layer"].isin(noisy_layers(rows))]
    own = noisy[~noisy["quantity"].isin(LABEL) & (noisy["path"] != "noise-off") & (noisy["side"] != "null")]
    if own.empty:
        raise InfoplaneError("The run has no noisy layer, so there is nothing to draw beside one; see the sweeps.")
    own = own.assign(warned=warned(own["warnings"], _NO_FLAW), value=own["value_nats"] / size)
    layers = layers_of(own)
    known = own[own["value"].notna()]
    legend = Legend().standings(zip(known["standing"], known["warned"], strict=True))
    if own["truth_nats"].notna().any():
        legend.rule("exact rate, Echo noise")
    most = max(own.loc[own["layer"] == layer, ["estimator", "quantity", "channel"]].drop_duplicates().shape[0]
               for layer in layers)  # fmt: skip
    with matplotlib.rc_context(LOOK):
        fig, panels = flow(len(layers), 0.5 + 0.22 * most, 2, legend, sharex=True)
        for layer, ax in zip(layers, panels, strict=True):
            here = own[own["layer"] == layer]
            _beside(ax, here, size)
            for truth in here["truth_nats"].dropna().unique():
                ax.axvline(truth / size, **RULE)
            ax.set_title(layer, loc="left")
            ax.set_xlabel(f"information [{unit}]")
        label_once(panels)
    return fig


def _beside(ax: Axes, here: pd.DataFrame, size: float) -> None:
    """Draw the numbers of one layer, a row for each estimator, quantity and channel."""
    colors = estimator_colors(here["estimator"])
    other = here["channel"].map(lambda channel: "" if channel in NOISE else f"\n{channel}")
    names = here["estimator"] + "  " + here["quantity"].map(symbol) + other
    places = {name: at for at, name in enumerate(dict.fromkeys(names))}
    for estimator, rows in here.assign(at=names.map(places)).groupby("estimator", sort=False):
        known, lost = rows[rows["value"].notna()], rows[rows["value"].isna()]
        ax.errorbar(
            known["value"], known["at"], xerr=2 * known["stderr_nats"] / size, fmt="none",
            ecolor=colors[estimator], elinewidth=0.8,
        )  # fmt: skip
        marks(
            ax, known["value"], known["at"], colors[estimator], known["standing"], known["warned"],
            along={"x": known["standing"]}, size=4.5, label=str(estimator),
        )  # fmt: skip
        for at, why in zip(lost["at"].tolist(), lost["warnings"], strict=True):
            said = ax.text(0.0, at, f" none: {why}", fontsize=6, color="0.4")
            said.set(va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    ax.set_yticks(range(len(places)), list(places), fontsize=6)
    ax.set_ylim(len(places) - 0.5, -0.5)


def sweeps(swept: pd.DataFrame, *, unit: str = "bits") -> Figure:
    """Draw I(X;T) of each layer against the width of the bins and the variance of KDE's noise.

    KDE is its upper bound as a line, with a band down to the lower bound. Marks are pale, for none
    of these numbers is exact, and hollow where there is a warning.

    Args:
        swept: One snapshot of `infoplane.runs.comparison.sweep`; noisy layers are left out.
        unit: "bits" or "nats".

    Raises:
        InfoplaneError: Nothing was swept.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    own = swept[swept["side"] != "null"]
    own = own[own["layer"].map(base_layers(own["layer"])) == own["layer"]]
    if own.empty:
        raise InfoplaneError("Nothing was swept: the frame has no binning or KDE at several settings.")
    own = own.assign(warned=warned(own["warnings"], _NO_FLAW), value=own["value_nats"] / size)
    layers = layers_of(own)
    colors, markers = layer_colors(layers), layer_markers(layers)
    panels = [name for name in _SWEPT if name in set(own["estimator"])]
    tops = own[own["side"] != "lower"]
    legend = Legend()
    for layer in layers:
        legend.line(layer, color=colors[layer], marker=markers[layer])
    legend.standings(zip(tops["standing"], tops["warned"], strict=True), arrows="")
    if (own["side"] == "lower").any():
        legend.patch("kde: down to the lower bound")
    with matplotlib.rc_context(LOOK):
        fig, axes = page([2.6], len(panels), legend, sharey=True)
        for name, ax in zip(panels, axes[0], strict=True):
            for layer in layers:
                here = own[(own["estimator"] == name) & (own["layer"] == layer)].sort_values("setting")
                top, low = here[here["side"] != "lower"], here[here["side"] == "lower"]
                ax.plot(top["setting"], top["value"], color=colors[layer])
                if len(low) == len(top):
                    band(ax, top["setting"], low["value"], top["value"], colors[layer])
                marks(
                    ax, top["setting"], top["value"], colors[layer], top["standing"], top["warned"], along={},
                    marker=markers[layer], label=layer,
                )  # fmt: skip
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(numticks=12))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_title(name, loc="left")
            ax.set_xlabel(_SWEPT[name])
            ax.set_ylabel(f"$I(X;T)$ [{unit}]")
            ax.set_ylim(bottom=0)
            n = int(own["n"].max())
            ceiling_line(ax, "y", math.log(n) / size, f"$\\ln N$ = {math.log(n) / size:.3g} {unit}")
        label_once(axes[0])
    return fig
