"""How far each estimator can be trusted: its numbers and its errors against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..analysis.points import LABEL, warned
from ..errors import InfoplaneError, choose
from ..records import UNITS
from .layout import flow, label_once, page
from .legend import Legend
from .style import LOOK, count_axis, estimator_colors, line_of, marks, name_colors

__all__ = ["calibration", "calibration_errors"]

#: below this value the scales of the truths are linear; in nats
_LINEAR = 0.5
#: the verdicts of numbers that are wrong without a warning
_SILENT = ("UNWARNED", "WRONG")
#: the columns that identify a line of `calibration_errors`
_LINE = ["estimator", "side", "standing"]


def calibration(frame: pd.DataFrame, *, unit: str = "nats", quantity: str = "I(X;T)") -> Figure:
    """Draw each number against the truth of its law, with one panel per estimator.

    The colour is the family of channels. A mark is filled if the number is exact, pale if it is a
    bound or an estimate, and hollow if it has a warning that it may be wrong. An arrow points from
    a bound to where the truth may be. The grey band is 10 % of the truth to either side.

    Args:
        frame: A table that `infoplane.calibration.calibrate` returned.
        unit: "bits" or "nats".
        quantity: "I(X;T)" for all information about the input, or "I(T;Y)" for all information
            about the label.

    Returns:
        The figure.

    Raises:
        InfoplaneError: If no number of that quantity has a known truth.

    Example:
        >>> import infoplane as ip
        >>> options = {"seeds": 1, "processes": 1, "progress": False}
        >>> frame = ip.calibration.calibrate(only=["quantised"], **options)
        >>> figure = ip.plot.calibration(frame, quantity="I(T;Y)")
        >>> [ax.get_title(loc="left") for ax in figure.axes]
        ['counting', 'binning (1 of 2 unwarned)', 'decoder']
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    known = frame[frame["verdict"].ne("") & frame["value_nats"].notna()]
    labels = known["quantity"].isin(LABEL)
    known = known[labels if quantity in LABEL else ~labels]
    if known.empty:
        raise InfoplaneError(f"The frame holds no number of {quantity} with a known truth.")
    off = known["verdict"].eq("warned") | (warned(known["warnings"]) & known["standing"].ne("exact"))
    known = known.assign(warned=off, value=known["value_nats"] / size, truth=known["truth_nats"] / size)
    colors = name_colors(frame["family"])
    names = list(dict.fromkeys(known["estimator"]))
    legend = Legend().names(colors, set(known["family"]), markers=dict.fromkeys(colors, "o"))
    legend.standings(zip(known["standing"], known["warned"], strict=True), arrows="y")
    with matplotlib.rc_context(LOOK):
        fig, panels = flow(len(names), 1.75, 4, legend, sharex=True, sharey=True)
        top = 1.3 * max(known["truth"].max(), known["value"].max())
        low = min(-0.3 / size, 1.2 * float(known["value"].min()))
        for name, ax in zip(names, panels, strict=True):
            own = known[known["estimator"] == name]
            _scale(ax, low, top, size)
            line = np.geomspace(0.02, top, 200)
            ax.fill_between(line, 0.9 * line, 1.1 * line, color="0.9", linewidth=0, zorder=0)
            ax.plot([low, top], [low, top], color="0.35", linewidth=0.7, zorder=1)
            for family, points in own.groupby("family", sort=False):
                marks(
                    ax, points["truth"], points["value"], colors[family], points["standing"], points["warned"],
                    size=3.4, label=str(family), on_line=False,
                )  # fmt: skip
            silent = int(own["verdict"].isin(_SILENT).sum())
            ax.set_title(name + (f" ({silent} of {len(own)} unwarned)" if silent else ""), loc="left")
            ax.set_xlabel(f"truth [{unit}]")
            ax.set_ylabel(f"value [{unit}]")
        label_once(panels)
    return fig


def calibration_errors(frame: pd.DataFrame, *, unit: str = "nats", channel: str = "tanh neurons, s = 0.3") -> Figure:
    """Draw the error of each estimator on one kind of channel, as a share of the truth.

    The first panel shows the error against the number of units D. Each D that has several numbers
    of points N has a further panel, which shows the error against N. Lines are means over seeds,
    with one standard deviation as error bars. The lines of bounds are dashed, and their marks have
    an arrow to where the truth may be. Marks are hollow if a number has a warning.

    Args:
        frame: A table that `infoplane.calibration.calibrate` returned.
        unit: "bits" or "nats"; the shares are the same in both.
        channel: The name of the channel.

    Returns:
        The figure.

    Raises:
        InfoplaneError: If the frame does not hold the channel.

    Example:
        >>> import infoplane as ip
        >>> options = {"seeds": 1, "processes": 1, "progress": False}
        >>> frame = ip.calibration.calibrate(only=["quantised"], **options)
        >>> figure = ip.plot.calibration_errors(frame, channel="4-bit tanh net of 12 bits")
        >>> figure.axes[0].get_xlabel()
        'units D'
    """
    choose(unit, UNITS, "unit")
    own = frame[(frame["channel_name"] == channel) & frame["verdict"].ne("") & frame["value_nats"].notna()]
    if own.empty:
        raise InfoplaneError(
            f"The frame does not hold {channel!r}; it has: {', '.join(dict.fromkeys(frame['channel_name']))}."
        )
    own = own.assign(share=100 * own["error_nats"] / own["truth_nats"], warned=warned(own["warnings"]))
    sizes = own.groupby("dimension")["points"].nunique()
    common = own["points"].value_counts().idxmax()
    panels: list[tuple[str, str, pd.DataFrame]] = [
        (f"N = {common}", "dimension", own[own["points"] == common]),
        *(
            (f"D = {d}", "points", own[own["dimension"] == d])
            for d in sizes.index[sizes > 1]
        ),
    ]  # fmt: skip
    colors = estimator_colors(own["estimator"])
    lines = list(own[_LINE].drop_duplicates().itertuples(index=False, name=None))
    legend = Legend()
    for name, side, standing in lines:
        called = f"{name}, {side}" if side else name
        legend.line(called, color=colors[name], linestyle=line_of(standing))
    legend.standings(zip(own["standing"], own["warned"], strict=True), arrows="y")
    with matplotlib.rc_context(LOOK):
        fig, axes = page([2.6], len(panels), legend, sharey=True)
        for (title, x, points), ax in zip(panels, axes[0], strict=True):
            _errors(ax, points, x, lines, colors)
            ax.set_title(title, loc="left", fontsize=6.8)
            ax.set_xlabel("units D" if x == "dimension" else "points N")
            ax.set_ylabel(f"error [% of the truth], {channel}", fontsize=7)
        label_once(axes[0])
    return fig


def _errors(
    ax: Axes, points: pd.DataFrame, x: str, lines: Sequence[tuple[str, str, str]], colors: dict[Any, Any]
) -> None:
    """Draw the errors of the numbers `points` against the column `x`, with one line per number."""
    ax.axhspan(-10, 10, color="0.92", linewidth=0, zorder=0)
    ax.axhline(0, color="0.35", linewidth=0.7, zorder=1)
    found = dict(list(points.groupby(_LINE)))
    for at, line in enumerate(lines):
        if line not in found:
            continue
        by = found[line].groupby(x)
        mean, spread = by["share"].mean(), by["share"].std().fillna(0.0)
        shift = 1.0 + 0.02 * (at - len(lines) / 2)  # so that equal values can be told apart
        name, _, standing = line
        ax.errorbar(
            mean.index * shift, mean, spread, color=colors[name], linestyle=line_of(standing),
            linewidth=0.9, elinewidth=0.6,
        )  # fmt: skip
        marks(ax, mean.index * shift, mean, colors[name], standing, by["warned"].any(), size=3.6, label=name)
    count_axis(ax, points[x].unique())
    ax.set_yscale("symlog", linthresh=10)
    ax.yaxis.set_major_locator(FixedLocator([-100, -50, -20, -10, 0, 10, 20, 50, 100, 200, 500]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _scale(ax: Axes, low: float, top: float, size: float) -> None:
    """Make both axes linear below _LINEAR and logarithmic above."""
    ticks = [t for t in (-100, -10, -1, 0, 1, 10, 100) if low <= t <= top]
    for axis, limit in (("x", ax.set_xlim), ("y", ax.set_ylim)):
        scale: Any = getattr(ax, f"set_{axis}scale")
        scale("symlog", linthresh=_LINEAR / size, linscale=0.5)
        limit(low if axis == "y" else min(low, 0.0), top)
        of = getattr(ax, f"{axis}axis")
        of.set_major_locator(FixedLocator(ticks))
        of.set_minor_locator(NullLocator())
        of.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
