"""The conditions of certificates against epoch: why a rate is exact, or is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from ..analysis.points import echo_places, layers_of, needs
from ..errors import InfoplaneError, choose
from ..records import UNITS
from ..warning_codes import LIMITS
from .labels import place_title, replica_counts, replica_note, with_count
from .layout import page
from .legend import Legend
from .style import LOOK, RULE, Colors, band, epoch_axis, marks, name_colors

__all__ = ["CONDITIONS", "VERDICTS", "certificate"]


class Condition(NamedTuple):
    """A value of a certificate that has a limit.

    Args:
        column: Its column.
        label: The label of its axis.
        above: Whether it holds above the limit, and not below.
        log: Whether the axis is logarithmic.
        verdict: The column of the verdict on this value alone, where there is one.
    """

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
#: the rows of the strip, from the top: a column of verdicts, and its name
VERDICTS = {"exact": "exact"} | {
    f"{name}_ok": name
    for name in ("margin", "resolution", "independent", "tail", "references", "bank", "deterministic", "law")
}
#: a verdict says nothing where this value is NaN: the limit does not apply to the layer, or the rate
#: had failed already
_ASKED_BY = {
    "resolution_ok": "seen",
    "independent_ok": "aligned",
    "references_ok": "references",
    "deterministic_ok": "repeat",
}
_FULL, _HATCH = (0.16, 0.24, 0.36), "//////"


def certificate(
    certificates: pd.DataFrame,
    *,
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
) -> Figure:
    """Draw the conditions of exactness against epoch, a column per Echo layer.

    A column is the first Echo layer of all runs, or the second, and so on. There is a row for each
    value that has a limit (dashed): the median over replicas, with a band from the least to the
    largest, in the colour of the run. A mark is filled where the value of every replica passes, and
    hollow where one does not. Below, a strip for each run says in how many replicas each condition
    holds: the fuller a cell, the more; hatched where none was asked, because the layer has no such
    limit or its rate had failed before. A value of which no replica has a number (above zero, on a
    logarithmic axis) has no row, and is in the strip alone.

    Args:
        certificates: A frame as certificates.csv is.
        unit: "bits" or "nats", of the tail.
        layers: Names of Echo layers; default: all.
        epochs: Default: all.

    Raises:
        InfoplaneError: The frame does not hold what was asked for.
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
    colors = name_colors(runs)
    counts = replica_counts(own for _, own in rows.groupby("run"))
    shown = [c for c in CONDITIONS if (rows[c.column] > (0 if c.log else -np.inf)).any()]
    heights = [0.85] * len(shown) + [1.25] * len(runs)

    with matplotlib.rc_context(LOOK):
        fig, axes = page(heights, len(places), _legend(colors, counts), sharex=True, sharey="row")
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
            note = replica_note(rows[rows["run"] == run], counts)
            heading = f"{run}: conditions that hold" if len(runs) > 1 else "conditions that hold"
            heading += f" ({note})" if note else ""
            strips[0].set_title(heading, fontsize=7, pad=3, loc="left")
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        for ax in axes[-1]:
            ax.set_xlabel("epoch")
        return fig


def _judged(certificates: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The frame with the share of the rate that is seen; a verdict is NaN where none was asked."""
    scale = UNITS[choose(unit, UNITS, "unit")]
    # of the rate without dead coordinates: the value of every layer that is asked
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
    above = condition.column == "bank_shift" and own["repeat"].isna().all()  # repeated below noise only
    return LIMITS["bank_shift_above" if above else condition.column]


def _condition(ax: Axes, condition: Condition, own: pd.DataFrame, colors: Colors, unit: str) -> None:
    """The values of one condition of one layer, and its limit."""
    name, limit = condition.column, _limit(condition, own, unit)
    holds = own[name] >= limit if condition.above else own[name] <= limit
    if condition.verdict:  # it knows more, such as the sampling error of a share
        holds = (own[condition.verdict] != 0.0) & (holds if name == "margin" else True)
    drawn = own.assign(holds=holds)[own[name] > (0.0 if condition.log else -np.inf)]
    if condition.log:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(numticks=4))
        ax.yaxis.set_minor_locator(NullLocator())
    for run, rows in drawn.groupby("run", sort=False):
        by = rows.groupby("epoch")
        value, held = by[name].median(), by["holds"].all()
        band(ax, value.index, by[name].min(), by[name].max(), colors[run])
        ax.plot(value.index, value, color=colors[run], linewidth=0.9, label=f"_{run}")
        standing = np.where(held, "exact", "upper")  # what fails makes a bound
        marks(ax, value.index, value, colors[run], standing, ~held, along={}, size=2.6, label=str(run))
    if drawn.empty:
        why = "not asked" if own[name].isna().all() else "none above 0"
        ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", size="small")
    else:
        ax.axhline(limit, label="_limit", **RULE)
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
    edges = _edges(ax, sorted(set(own["epoch"])))
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


def _legend(colors: Colors, counts: Sequence[int]) -> Legend:
    legend = Legend().names(colors)
    if max(counts) > 1:
        legend.patch(with_count("line: median, band: least to largest of the replicas", counts))
    legend.mark("filled: holds in all replicas", markersize=3)
    legend.mark("hollow: fails in some replica", markersize=3, markerfacecolor="none")
    legend.rule("limit")
    legend.patch("filled: share of replicas in which it holds", facecolor=_FULL)
    legend.patch("empty: fails in all", facecolor="1.0", edgecolor="0.7", linewidth=0.4)
    return legend.patch("not asked", facecolor="0.93", edgecolor="0.7", linewidth=0.4, hatch=_HATCH)
