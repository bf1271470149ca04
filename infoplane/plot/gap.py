"""The generalisation gap against information, with one point per replica."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.gap import GAPS, correlations, gap_table
from ..analysis.points import loss_unit
from .labels import place_title, symbol
from .layout import label_once, page
from .legend import Legend
from .style import LOOK, RULE, Colors, bars, marks, name_colors

__all__ = ["gap"]


def gap(
    measurements: pd.DataFrame,
    metrics: pd.DataFrame,
    *,
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    estimator: str | None = None,
    epoch: int | None = None,
    path: str | None = None,
    side: str = "mid",
) -> Figure:
    """Draw the generalisation gap against information at one epoch, with one point per replica.

    There is one row of panels per layer; the first Echo layers of all runs share a row, and so do
    the second ones. The x axis is I(Z;X) of Echo layers, or I(X;T) of an estimator. The y axis is
    the value on test points minus the value on training points, of the loss and (if there is one)
    of the error, along one path through the network. The colour is the run. A mark is filled if its
    information is exact, pale if it is a bound or an estimate, and hollow if it has a warning. An
    arrow points from a bound to where the truth is, and a bar reaches from the lower to the upper
    bound. Spearman's rho with its 95 % interval stands above each panel, over all points and within
    each run (`analysis.correlations`).

    Args:
        measurements: A frame of measurements (`records.COLUMNS`, in nats).
        metrics: The losses and errors of the same runs, as in metrics.csv.
        unit: "bits" or "nats".
        layers: The names of the layers to draw; all by default.
        estimator: The estimator to draw. By default it is "echo", with I(Z;X), if there are Echo
            layers, and otherwise the first estimator, with I(X;T).
        epoch: The epoch; by default the last one that a run has in both frames.
        path: The path of both losses through the network. By default it is "noisy", or "plain" if
            there are no Echo layers.
        side: The value that stands for a bracket: "mid", "lower" or "upper".

    Returns:
        The figure.

    Raises:
        InfoplaneError: If the frames do not hold what was asked for.

    Example:
        >>> import pandas as pd
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> recorder = ip.Recorder(model, (x, (x[:, 0] > 0).long()), estimators=["binning"])
        >>> tables = recorder.snapshot(epoch=5)
        >>> place = {"run": "run", "epoch": 5, "replica": 0, "path": "plain"}
        >>> metrics = pd.DataFrame(
        ...     [place | {"split": "train", "loss": 0.2, "error": 0.0},
        ...      place | {"split": "test", "loss": 0.7, "error": 0.1}]
        ... )
        >>> figure = ip.plot.gap(recorder.frame(), metrics, layers=["1"])
        >>> [ax.get_ylabel() for ax in figure.axes]
        ['gap in loss, plain [bits]', 'gap in error, plain']
    """
    table = gap_table(
        measurements, metrics, unit=unit, layers=layers, estimator=estimator, epoch=epoch, path=path, side=side
    )
    found = correlations(table)
    gaps = [name for name in GAPS if table[name].notna().any()] or ["gap_loss"]
    colors = name_colors(measurements["run"])
    epochs = table["epoch"].drop_duplicates().tolist()
    when = f"at epoch {epochs[0]}" if len(epochs) == 1 else "at the last epoch"
    loss_in = loss_unit(metrics, unit)[1]
    paths = list(dict.fromkeys(table["path"].dropna()))
    one_path = f", {paths[0]}" if len(paths) == 1 else ""
    several = table["panel"].nunique() > 1
    rows = list(table.groupby(["panel", "place"], sort=False))
    lines = 1 + max((len(own) for _, own in found.groupby(["panel", "place", "gap"])), default=0)

    with matplotlib.rc_context(LOOK):
        fig, axes = page(
            [1.75 + 0.13 * lines] * len(rows), len(gaps), _legend(table, colors, len(paths) > 1),
            width=7.0 if len(gaps) > 1 else 4.2, sharex=True, sharey="col",
        )  # fmt: skip
        for ((panel, place), points), panels in zip(rows, axes, strict=True):
            for name, ax in zip(gaps, panels, strict=True):
                _draw(ax, points, name, colors)
                own = found[(found["panel"] == panel) & (found["place"] == place) & (found["gap"] == name)]
                heading = place_title(str(place), points) + (f", {panel}" if several else "")
                ax.set_title("\n".join([heading, *map(_said, own.itertuples())]), loc="left", fontsize=6.5)
                ax.set_xlabel(f"{symbol(table['quantity'].iloc[0])} {when} [{unit}]")
                of_what = f"loss{one_path} [{loss_in}]" if name == "gap_loss" else f"error{one_path}"
                ax.set_ylabel(f"gap in {of_what}")
                ax.axhline(0.0, **RULE)
        label_once(axes.flat)
        return fig


def _draw(ax: Axes, points: pd.DataFrame, name: str, colors: Colors) -> None:
    for run, own in points.groupby("run", sort=False):
        wide = own[own["upper"] > own["lower"]]
        bars(ax, "x", wide["lower"], wide["upper"], wide[name], colors[run], wide["standing"], alpha=1.0, linewidth=0.6)
        marks(
            ax, own["value"], own[name], colors[run], own["standing"], own["warned"], along={"x": own["standing"]},
            size=4.5, label=str(run),
        )  # fmt: skip
    ax.autoscale_view()


def _said(found: Any) -> str:
    """Write a correlation as a line of text."""
    who = f"{_short(found.run)}: " if found.run else "all: "
    n = f"n = {found.n}" + (f" of {found.of}" if found.n < found.of else "")
    if pd.isna(found.rho):
        return f"{who}ρ {found.note}, {n}"
    interval = f"({found.note})" if pd.isna(found.low) else f"[{found.low:.2f}, {found.high:.2f}]"
    return f"{who}ρ = {found.rho:.2f} {interval}, {n}"


def _short(run: str) -> str:
    return run if len(run) <= 24 else f"…{run[-23:]}"


def _legend(table: pd.DataFrame, colors: Colors, say_path: bool) -> Legend:
    path = table.groupby("run")["path"].first()
    called = {f"{run} ({path[run]})" if say_path else run: color for run, color in colors.items()}
    legend = Legend().names(called, markers=dict.fromkeys(called, "o"))
    legend.standings(zip(table["standing"], table["warned"], strict=True))
    wide = table.loc[table["upper"] > table["lower"], "standing"]
    if len(wide):
        legend.bar("from lower to upper bound", estimated=bool((wide == "estimate").all()))
    return legend.text("ρ: Spearman's [95 % interval]")
