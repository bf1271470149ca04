"""Why a rate is exact, or is not: the conditions of the certificates of Echo layers against epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from ..records import LIMITS, UNITS, InfoplaneError, choose
from .points import echo_places, layers_of, place_title
from .runs import needs
from .style import LOOK, epoch_axis, page, run_colors

__all__ = ["CONDITIONS", "VERDICTS", "certificate"]


class Condition(NamedTuple):
    """A value of a certificate that has a limit: its column, what the axis says, whether it holds above the limit (and
    not below), the scale, and the verdict on it, where there is one on nothing else."""

    column: str
    label: str
    above: bool = False
    log: bool = False
    verdict: str = ""


CONDITIONS = (
    Condition("margin", "margin", verdict="margin_ok"),
    Condition("seen", "share seen", above=True, verdict="resolution_ok"),
    Condition("aligned", "few-valued"),
    Condition("smallest_eigenvalue", "smallest\neigenvalue", above=True, log=True),
    Condition("tail_nats", "tail\n[{unit}]", log=True, verdict="tail_ok"),
    Condition("references", "reference\ncodes", above=True, verdict="references_ok"),
    Condition("bank_shift", "bank shift\n[s.d. or s.e.]", log=True, verdict="bank_ok"),
    Condition("repeat", "repeat", log=True, verdict="deterministic_ok"),
)
#: the rows of the strip, from the top: a column of verdicts, and its name; "exact" is the standing itself
VERDICTS = {"exact": "exact"} | {
    f"{name}_ok": name
    for name in ("margin", "resolution", "independent", "tail", "references", "bank", "deterministic", "law")
}
#: a verdict that stands for something that was not looked at, where this value is NaN: its limit does not apply to the
#: layer, or the rate had failed already
_ASKED_BY = {
    "resolution_ok": "seen",
    "independent_ok": "aligned",
    "references_ok": "references",
    "deterministic_ok": "repeat",
}
_FULL, _HATCH = (0.16, 0.24, 0.36), "//////"
_BAND = 0.18


def certificate(
    certificates: pd.DataFrame,
    *,
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
) -> Figure:
    """Draw the conditions of exactness against epoch, of a frame as certificates.csv is: a column an Echo
    layer (the first of all runs, the second, ...).

    A row for each value that has a limit (dashed): the median over replicas, with a band from the least to the largest,
    in the colour of the run. A marker is hollow where the value of a replica does not pass. Below, for each run, a
    strip that says in how many replicas each condition holds: the fuller a cell, the more; hatched where none was
    asked, for the layer has no such limit or its rate had failed before.
    A value of which no replica has a number (above zero, on a logarithmic axis) has no row, and is in the strip alone.

    Raises InfoplaneError for what the frame does not hold.
    """
    needs(certificates, ("run", "epoch", "replica", "layer", "standing", "value_nats", "seen_nats"), "certificates")
    rows = _judged(certificates, unit)
    if layers is not None:
        rows = rows[rows["layer"].isin([choose(layer, layers_of(rows), "Echo layer") for layer in layers])]
    if epochs is not None:
        known = [str(epoch) for epoch in sorted(set(rows["epoch"]))]
        rows = rows[rows["epoch"].isin([int(choose(str(epoch), known, "epoch")) for epoch in epochs])]
    places, runs = sorted(set(rows["place"]), key=lambda place: int(place[1:])), list(dict.fromkeys(rows["run"]))
    if lost := [run for run in dict.fromkeys(certificates["run"]) if run not in runs]:
        own = layers_of(certificates[certificates["run"] == lost[0]])
        raise InfoplaneError(f"{lost[0]} has none of the layers and epochs asked for. Its layers: {', '.join(own)}.")
    colors = run_colors(runs)
    shown = [c for c in CONDITIONS if (rows[c.column] > (0 if c.log else -np.inf)).any()]
    heights = [0.85] * len(shown) + [1.25] * len(runs)

    with matplotlib.rc_context(LOOK):
        fig, axes = page(heights, len(places), _legend(rows, colors), sharex=True, sharey="row")
        for column, place in enumerate(places):
            own = rows[rows["place"] == place]
            for condition, ax in zip(shown, axes[:, column], strict=False):
                _condition(ax, condition, own, colors, unit)
            axes[0, column].set_title(place_title(place, own))
        for ax in axes.flat:
            epoch_axis(ax, rows["epoch"].tolist())
            ax.set_xlabel("")
        for run, strips in zip(runs, axes[len(shown) :], strict=True):
            for place, ax in zip(places, strips, strict=True):
                _strip(ax, rows[(rows["place"] == place) & (rows["run"] == run)])
            heading = f"{run}: conditions that hold" if len(runs) > 1 else "conditions that hold"
            strips[0].set_title(heading, fontsize=7, pad=3, loc="left")
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        for ax in axes[-1]:
            ax.set_xlabel("epoch")
        return fig


def _judged(certificates: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The frame with the share of the rate that is seen, and verdicts that are NaN where nothing was asked."""
    scale = UNITS[choose(unit, UNITS, "unit")]
    # of the rate without dead coordinates, which is the value of all that come so far as to be asked
    seen = certificates["seen_nats"] / certificates["value_nats"].where(certificates["value_nats"] > 0)
    rows = certificates.assign(seen=seen, exact=certificates["standing"] == "exact")
    rows["place"] = echo_places(rows)
    rows["tail_nats"] = rows["tail_nats"] / scale
    # a first layer's law is that of its references, however few; only there codes are passed twice
    rows["references"] = rows["references"].where(rows["repeat"].isna())
    for verdict in VERDICTS:
        holds = rows[verdict].astype(float)
        if verdict in _ASKED_BY:  # what failed was asked
            holds = holds.where(rows[_ASKED_BY[verdict]].notna() | (holds == 0.0))
        rows[verdict] = holds
    return rows.reset_index(drop=True)


def _limit(condition: Condition, own: pd.DataFrame, unit: str) -> float:
    """The limit of a condition of one layer, in the units of its axis."""
    if condition.column == "tail_nats":
        return LIMITS["tail_nats"] / UNITS[unit]
    above = condition.column == "bank_shift" and own["repeat"].isna().all()  # only above noise is nothing repeated
    return LIMITS["bank_shift_above" if above else condition.column]


def _condition(ax: Axes, condition: Condition, own: pd.DataFrame, colors: dict[str, Any], unit: str) -> None:
    """The values of one condition of one layer, and its limit."""
    name, limit = condition.column, _limit(condition, own, unit)
    holds = own[name] >= limit if condition.above else own[name] <= limit
    if condition.verdict:  # the verdict knows of more: a margin of what was not searched, the sampling error of a share
        holds = (own[condition.verdict] != 0.0) & (holds if name == "margin" else True)
    drawn = own.assign(holds=holds)[own[name] > (0.0 if condition.log else -np.inf)]
    if condition.log:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(numticks=4))
        ax.yaxis.set_minor_locator(NullLocator())
    for run, rows in drawn.groupby("run", sort=False):
        by = rows.groupby("epoch")
        value, held = by[name].median(), by["holds"].all()
        ax.fill_between(value.index, by[name].min(), by[name].max(), color=colors[run], alpha=_BAND, linewidth=0)
        ax.plot(value.index, value, color=colors[run], linewidth=0.9, label=f"_{run}")
        for filling, some in (("full", value[held]), ("none", value[~held])):
            ax.plot(
                some.index, some, color=colors[run], linestyle="", marker="o", markersize=2.6, markeredgewidth=0.6,
                fillstyle=filling, label=f"_{run} {filling}",
            )  # fmt: skip
    if drawn.empty:
        why = "not asked" if own[name].isna().all() else "none above 0"
        ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", size="small")
    else:
        ax.axhline(limit, color="0.35", linestyle=(0, (4, 3)), linewidth=0.7, zorder=1, label="_limit")
    ax.set_ylabel(condition.label.format(unit=unit))


def _strip(ax: Axes, own: pd.DataFrame) -> None:
    """In how many replicas each condition holds: a cell an epoch and condition."""
    ax.set_ylim(len(VERDICTS), 0)
    ax.set_yticks(np.arange(len(VERDICTS)) + 0.5, list(VERDICTS.values()), fontsize=6)
    ax.tick_params(axis="y", length=0)
    if own.empty:  # another run has this layer
        ax.text(0.5, 0.5, "no such layer", transform=ax.transAxes, ha="center", va="center", size="small")
        return
    by = own.groupby("epoch")
    edges = _edges(ax, list(by.groups))
    for row, verdict in enumerate(VERDICTS):
        asked, share = by[verdict].count(), by[verdict].sum() / by["replica"].nunique()
        for left, right, known, full in zip(edges, edges[1:], asked, share, strict=False):
            look: dict[str, Any] = {"facecolor": "1.0" if known else "0.93", "hatch": "" if known else _HATCH}
            ax.add_patch(Rectangle((left, row), right - left, 1, edgecolor="0.7", linewidth=0.3, **look))
            if full:
                ax.add_patch(
                    Rectangle((left, row + 1 - full), right - left, full, facecolor=_FULL, linewidth=0, label="_holds")
                )


def _edges(ax: Axes, epochs: list[int]) -> list[float]:
    """The limits of the cells of epochs: midway between them on the axis of `ax`."""
    transform = ax.xaxis.get_transform()
    at = transform.transform(np.array(epochs, dtype=float))
    low, high = transform.transform(np.array(ax.get_xlim()))
    middle = (at[1:] + at[:-1]) / 2
    return list(transform.inverted().transform(np.array([low, *middle, high])))


def _legend(rows: pd.DataFrame, colors: dict[str, Any]) -> list[Artist]:
    handles: list[Artist] = [Line2D([], [], color=color, label=run) for run, color in colors.items()]
    replicas = rows.groupby("run")["replica"].nunique().max()
    if replicas > 1:
        label = f"line: median, band: least to largest of {replicas} replicas"
        handles.append(Patch(color="0.3", alpha=_BAND, linewidth=0, label=label))
    grey: dict[str, Any] = {"color": "0.3", "linestyle": "", "marker": "o", "markersize": 3, "markeredgewidth": 0.6}
    handles.append(Line2D([], [], label="holds in all replicas", **grey))
    handles.append(Line2D([], [], fillstyle="none", label="fails in some replica", **grey))
    handles.append(Line2D([], [], color="0.35", linestyle=(0, (4, 3)), linewidth=0.7, label="limit"))
    handles.append(Patch(facecolor=_FULL, label="filled: share of replicas in which it holds"))
    handles.append(Patch(facecolor="1.0", edgecolor="0.7", linewidth=0.4, label="empty: fails in all"))
    handles.append(Patch(facecolor="0.93", edgecolor="0.7", linewidth=0.4, hatch=_HATCH, label="not asked"))
    return handles
