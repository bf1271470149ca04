"""All estimators on the layers of one run: next to exact rates, and over sweeps of settings."""

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

#: warnings that say what a number is about, and not that it may be wrong
_NO_FLAW = ("noise-off", "sampled-codes", "chain")
_SWEPT = {"binning": "width of the bins", "kde": "variance of the noise"}


def beside(rows: pd.DataFrame, *, unit: str = "bits") -> Figure:
    """Draw the number of each estimator on each noisy layer next to the exact rate.

    There is one panel per layer, with a line at its exact rate. The numbers are information about
    the input, or about the code that is sent to the layer. The colour is the estimator. A mark is
    filled if the number is exact, pale if it is a bound or an estimate, and hollow if it has a
    warning. An arrow points from a bound to where the truth is. Bars are two standard errors to
    either side. If a number was measured through another channel than the layer's own noise, the
    channel stands below the name of the estimator; such a number is not an estimate of the rate.

    Args:
        rows: The rows of one snapshot that `infoplane.runs.comparison.compared` returned.
        unit: "bits" or "nats".

    Returns:
        The figure.

    Raises:
        InfoplaneError: If there is no noisy layer.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> from infoplane.runs.comparison import compared
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> model = ip.insert_echo(model, after=["1"], example=x[:2])
        >>> recorder = ip.Recorder(model, x, estimators=["ksg"])
        >>> tables = recorder.snapshot(epoch=0)
        >>> figure = ip.plot.beside(compared(recorder.frame()))
        >>> figure.axes[0].get_title(loc="left")
        '1.echo'
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    noisy = rows[rows["layer"].isin(noisy_layers(rows))]
    own = noisy[~noisy["quantity"].isin(LABEL) & (noisy["path"] != "noise-off") & (noisy["side"] != "null")]
    if own.empty:
        raise InfoplaneError("The run has no noisy layer, so there is no rate to compare with; draw the sweeps.")
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
    """Draw the numbers of one layer, one row per estimator, quantity and channel."""
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

    The line of KDE is its upper bound, with a band down to the lower bound. Marks are pale, because
    none of these numbers is exact, and hollow if there is a warning.

    Args:
        swept: The rows of one snapshot that `infoplane.runs.comparison.sweep` returned; noisy
            layers are left out.
        unit: "bits" or "nats".

    Returns:
        The figure.

    Raises:
        InfoplaneError: If nothing was swept.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> from infoplane.runs.comparison import compared, sweep
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> estimators = ["binning:width=0.1", "binning:width=0.5"]
        >>> recorder = ip.Recorder(model, x, estimators=estimators)
        >>> tables = recorder.snapshot(epoch=0)
        >>> figure = ip.plot.sweeps(sweep(compared(recorder.frame())))
        >>> figure.axes[0].get_xlabel()
        'width of the bins'
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    own = swept[swept["side"] != "null"]
    own = own[own["layer"].map(base_layers(own["layer"])) == own["layer"]]
    if own.empty:
        raise InfoplaneError("Nothing was swept: the frame holds neither binning nor KDE at several settings.")
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
