"""The conditions of certificates against epoch: why a rate is exact or is not."""

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
        column: The column of the value.
        label: The label of its axis.
        above: Whether the condition holds above the limit rather than below it.
        log: Whether the axis is logarithmic.
        verdict: The column of the verdict on this value alone; "" if there is none.
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
#: the rows of a strip from the top: the column of each verdict, and its name
VERDICTS = {"exact": "exact"} | {
    f"{name}_ok": name
    for name in ("margin", "resolution", "independent", "tail", "references", "bank", "deterministic", "law")
}
#: the value that a verdict depends on; where it is NaN, the verdict was not asked for, because the
#: limit does not apply to the layer or the rate had failed before
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
    """Draw the conditions for an exact rate against epoch, with one column per Echo layer.

    The first column is for the first Echo layer of every run, the second one for the second, and so
    on. There is one row per value that has a limit (dashed). It shows the median over replicas in
    the colour of the run, with a band from the smallest to the largest value. A mark is filled if
    the value passes in every replica, and hollow if it fails in some replica.

    Below, there is a strip per run. It shows the share of replicas in which each condition holds,
    as the filled part of a cell. A cell is hatched if the condition was not asked for, because the
    limit does not apply to the layer or the rate had failed before. A value that is not known in
    any replica (or is not positive, on a logarithmic axis) has no row and appears in the strip
    only.

    Args:
        certificates: The certificates, as in certificates.csv.
        unit: The unit of the tail: "bits" or "nats".
        layers: The names of the Echo layers to draw; all by default.
        epochs: The epochs to draw; all by default.

    Returns:
        The figure.

    Raises:
        InfoplaneError: If the frame does not hold what was asked for.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> model = ip.insert_echo(model, after=["1"], example=x[:2])
        >>> recorder = ip.Recorder(model, x, estimators=[])
        >>> tables = recorder.snapshot(epoch=0)
        >>> figure = ip.plot.certificate(recorder.frame("certificates"))
        >>> figure.axes[0].get_title()
        'Z1: 1.echo'
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
    """Add the share of the rate that is seen; a verdict that was not asked for becomes NaN."""
    scale = UNITS[choose(unit, UNITS, "unit")]
    # relative to the value, which is the rate without dead coordinates wherever this is asked for
    seen = certificates["seen_nats"] / certificates["value_nats"].where(certificates["value_nats"] > 0)
    rows = certificates.assign(seen=seen, exact=certificates["standing"] == "exact")
    rows["place"] = echo_places(rows)
    rows["tail_nats"] = rows["tail_nats"] / scale
    # The references of a first layer are its law, so their number has no limit. Only in a first
    # layer are codes passed twice, so that `repeat` is known.
    rows["references"] = rows["references"].where(rows["repeat"].isna())
    for verdict in VERDICTS:
        holds = rows[verdict].astype(float)
        if verdict in _ASKED_BY:  # a condition that failed was asked for
            holds = holds.where(rows[_ASKED_BY[verdict]].notna() | (holds == 0.0))
        rows[verdict] = holds
    return rows.reset_index(drop=True)


def _limit(condition: Condition, own: pd.DataFrame, unit: str) -> float:
    """Return the limit of a condition for one layer, in the units of its axis."""
    if condition.column == "tail_nats":
        return LIMITS["tail_nats"] / UNITS[unit]
    # codes are passed twice only in a first layer
    above = condition.column == "bank_shift" and own["repeat"].isna().all()
    return LIMITS["bank_shift_above" if above else condition.column]


def _condition(ax: Axes, condition: Condition, own: pd.DataFrame, colors: Colors, unit: str) -> None:
    """Draw the values of one condition of one layer, and its limit."""
    name, limit = condition.column, _limit(condition, own, unit)
    holds = own[name] >= limit if condition.above else own[name] <= limit
    if condition.verdict:  # the verdict also uses other facts, such as the sampling error of a share
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
        standing = np.where(held, "exact", "upper")  # a condition that fails makes the rate a bound
        marks(ax, value.index, value, colors[run], standing, ~held, along={}, size=2.6, label=str(run))
    if drawn.empty:
        why = "not asked" if own[name].isna().all() else "none above 0"
        ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", size="small")
    else:
        ax.axhline(limit, label="_limit", **RULE)
    ax.set_ylabel(condition.label.format(unit=unit))


def _strip(ax: Axes, own: pd.DataFrame) -> None:
    """Draw in what share of replicas each condition holds, one cell per epoch and condition."""
    ax.set_ylim(len(VERDICTS), 0)
    ax.set_yticks(np.arange(len(VERDICTS)) + 0.5, list(VERDICTS.values()), fontsize=6)
    ax.tick_params(axis="y", length=0)
    if own.empty:  # only other runs have this layer
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
    """Return the limits of the cells of epochs, midway between the epochs on the axis of `ax`."""
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
