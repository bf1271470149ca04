"""How far each estimator is to be trusted: its numbers against the truth, and its error as units and points grow."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..records import UNITS, InfoplaneError, choose
from .style import LOOK, estimator_colors, keep, label_once, page

__all__ = ["calibration", "calibration_errors"]

#: the marker of a standing: which way the truth may lie
_MARKERS = {"exact": "o", "upper": "v", "lower": "^", "estimate": "s"}
_CALLED = {"exact": "exact", "upper": "upper bound", "lower": "lower bound", "estimate": "estimate"}
#: below this a scale of truths is linear, nats
_LINEAR = 0.5


def calibration(frame: pd.DataFrame, *, unit: str = "nats", quantity: str = "I(X;T)") -> Figure:
    """Draw each number against the truth of its law, a panel an estimator (`infoplane.calibration.calibrate`).

    The colour is the family of channels, the marker the standing (a triangle points to where the truth may be), hollow
    where the number has a warning that it may be off; the band is 10 % to either side. Raises InfoplaneError where no
    number has a truth.
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    known = frame[frame["verdict"].ne("") & frame["value_nats"].notna()]
    labels = known["quantity"].isin(["I(T;Y)", "I(Z;Y)"])
    known = known[labels if quantity == "I(T;Y)" else ~labels]
    if known.empty:
        raise InfoplaneError(f"The frame holds no number of {quantity} whose truth is known.")
    families = list(dict.fromkeys(frame["family"]))
    colors = dict(zip(families, sns.color_palette("colorblind", len(families)), strict=True))
    names = list(dict.fromkeys(known["estimator"]))
    across = min(4, len(names))
    legend: list[Artist] = [
        Patch(color=colors[f], label=f) for f in families if f in set(known["family"])
    ]  # fmt: skip
    legend += [_marker(s, True, _CALLED[s]) for s in _MARKERS if s in set(known["standing"])]
    legend.append(_marker("estimate", False, "with a warning (any shape)"))
    with matplotlib.rc_context(LOOK):
        fig, axes = page([1.75] * -(-len(names) // across), across, legend, sharex=True, sharey=True)
        panels: list[Axes] = list(axes.flat)[: len(names)]
        keep(axes, panels)
        top = 1.3 * max(known["truth_nats"].max(), known["value_nats"].max()) / size
        low = min(-0.3, 1.2 * float(known["value_nats"].min())) / size
        for name, ax in zip(names, panels, strict=True):
            own = known[known["estimator"] == name]
            _scale(ax, low, top, size)
            line = np.geomspace(0.02, top, 200)
            ax.fill_between(line, 0.9 * line, 1.1 * line, color="0.9", linewidth=0, zorder=0)
            ax.plot([low, top], [low, top], color="0.35", linewidth=0.7, zorder=1)
            for (family, standing, warned), points in own.assign(warned=own["verdict"].isin(["warned"]) | (
                own["warnings"].ne("") & own["standing"].ne("exact"))
            ).groupby(["family", "standing", "warned"], sort=False):  # fmt: skip
                ax.plot(
                    points["truth_nats"] / size, points["value_nats"] / size, linestyle="none", zorder=3,
                    marker=_MARKERS[standing], markersize=3.4, markeredgewidth=0.7, markeredgecolor=colors[family],
                    markerfacecolor="none" if warned else colors[family], alpha=0.85,
                )  # fmt: skip
            silent = int(own["verdict"].isin(["UNWARNED", "WRONG"]).sum())
            ax.set_title(name + (f" ({silent} of {len(own)} unwarned)" if silent else ""), loc="left")
            ax.set_xlabel(f"truth [{unit}]")
            ax.set_ylabel(f"value [{unit}]")
        label_once(panels)
    return fig


def calibration_errors(frame: pd.DataFrame, *, unit: str = "nats", channel: str = "tanh neurons, s = 0.3") -> Figure:
    """Draw the error of each estimator on one kind of channel, as a share of the truth: against the number of units D,
    and against the number of points N, in a panel for each D of which there are several N.

    Means over seeds, with one standard deviation; hollow markers where a number has a warning. Raises InfoplaneError
    where the frame does not hold the channel.
    """
    choose(unit, UNITS, "unit")
    own = frame[(frame["channel_name"] == channel) & frame["verdict"].ne("") & frame["value_nats"].notna()]
    if own.empty:
        raise InfoplaneError(
            f"The frame does not hold {channel!r}; it has: {', '.join(dict.fromkeys(frame['channel_name']))}."
        )
    own = own.assign(share=100 * own["error_nats"] / own["truth_nats"])
    own = own.assign(line=own["estimator"] + np.where(own["estimator"].eq("kde"), ", " + own["standing"], ""))
    sizes = own.groupby("dimension")["points"].nunique()
    common = own["points"].value_counts().idxmax()
    panels: list[tuple[str, str, pd.DataFrame]] = [
        (f"N = {common}", "dimension", own[own["points"] == common]),
        *(
            (f"D = {d}", "points", own[own["dimension"] == d])
            for d in sizes.index[sizes > 1]
        ),
    ]  # fmt: skip
    lines = list(dict.fromkeys(own["line"]))
    of: dict[str, Any] = dict(estimator_colors(own["estimator"]))
    legend: list[Artist] = []
    for line in lines:
        name, standing = line.split(",")[0], own.loc[own["line"] == line, "standing"].iloc[0]
        label = f"{name}, {_CALLED[standing]}"
        legend.append(Line2D([], [], color=of[name], marker=_MARKERS[standing], label=label))
    legend.append(Line2D([], [], color="0.3", marker="s", markerfacecolor="none", linestyle="none", label="warned"))
    with matplotlib.rc_context(LOOK):
        fig, axes = page([2.6], len(panels), legend, sharey=True)
        for (title, x, points), ax in zip(panels, axes[0], strict=True):
            ax.axhspan(-10, 10, color="0.92", linewidth=0, zorder=0)
            ax.axhline(0, color="0.35", linewidth=0.7, zorder=1)
            for at, line in enumerate(lines):
                found = points[points["line"] == line].groupby(x)
                if not len(found):
                    continue
                mean, spread = found["share"].mean(), found["share"].std().fillna(0.0)
                standing = points.loc[points["line"] == line, "standing"].iloc[0]
                shift = 1.0 + 0.02 * (at - len(lines) / 2)  # so that what is equal can be told apart
                color = of[line.split(",")[0]]
                ax.errorbar(mean.index * shift, mean, spread, color=color, linewidth=0.9, elinewidth=0.6)
                warned = found["warnings"].apply(lambda w: (w != "").any())
                for hollow in (False, True):
                    some = mean[warned == hollow]
                    ax.plot(
                        some.index * shift, some, linestyle="none", marker=_MARKERS[standing], markersize=4,
                        color=color, markerfacecolor="white" if hollow else color,
                    )  # fmt: skip
            _counts(ax, sorted(points[x].unique()))
            ax.set_title(title, loc="left", fontsize=6.8)
            ax.set_xlabel("units D" if x == "dimension" else "points N")
            ax.set_ylabel(f"error [% of the truth], {channel}", fontsize=7)
            ax.set_yscale("symlog", linthresh=10)
            ax.yaxis.set_major_locator(FixedLocator([-100, -50, -20, -10, 0, 10, 20, 50, 100, 200, 500]))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            ax.yaxis.set_minor_locator(NullLocator())
        label_once(axes[0])
    return fig


def _marker(standing: str, filled: bool, label: str) -> Line2D:
    return Line2D(
        [], [], linestyle="none", color="0.3", marker=_MARKERS[standing],
        markerfacecolor="0.3" if filled else "none", label=label,
    )  # fmt: skip


def _scale(ax: Axes, low: float, top: float, size: float) -> None:
    """Linear below _LINEAR and logarithmic above, the same along both axes."""
    ticks = [t for t in (-100, -10, -1, 0, 1, 10, 100) if low <= t <= top]
    for axis, limit in (("x", ax.set_xlim), ("y", ax.set_ylim)):
        scale: Any = getattr(ax, f"set_{axis}scale")
        scale("symlog", linthresh=_LINEAR / size, linscale=0.5)
        limit(low if axis == "y" else min(low, 0.0), top)
        of = getattr(ax, f"{axis}axis")
        of.set_major_locator(FixedLocator(ticks))
        of.set_minor_locator(NullLocator())
        of.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def _counts(ax: Axes, values: list[int]) -> None:
    """A logarithmic axis with a tick at each of the values."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
