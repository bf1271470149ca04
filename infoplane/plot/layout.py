"""The panels of a figure, and the legend below them."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .legend import Legend
from .style import LOOK

__all__ = ["flow", "grid", "keep", "label_once", "page"]

_MARKUP = str.maketrans("", "", "${}_")


def grid(
    runs: Sequence[str], names: Sequence[str], legend: Legend, absent: Container[tuple[str, str]] = ()
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Make a figure of panels that share their axes, up to three per row.

    Each run has rows of its own. If there is only one name, the runs stand side by side (four runs
    as two rows of two). The figure is as wide as a page of two columns (7 in), or a little wider
    than one column if there is one panel.

    Args:
        runs: The runs.
        names: The names of the panels of each run.
        legend: The legend below the panels.
        absent: The panels (run, name) to leave out.

    Returns:
        The figure, and its panels by (run, name).
    """
    keys = [[(run, name) for name in names] for run in runs]
    across = min(3, len(names))
    shared: dict[str, Any] = {"sharex": True, "sharey": True}
    if len(names) == 1 < len(runs):
        keys = [[key for row in keys for key in row]]
        across = -(-len(runs) // -(-len(runs) // 3))
        shared["gridspec_kw"] = {"wspace": 0.06}  # room for the last tick of a panel and the first of the next
    down = -(-len(keys[0]) // across)
    fig, axes = page([2.4] * (down * len(keys)), across, legend, width=_width(across), **shared)
    panels = {
        key: axes[at * down + i // across, i % across]
        for at, row in enumerate(keys)
        for i, key in enumerate(row)
        if key not in absent
    }
    keep(axes, panels.values())
    return fig, panels


def flow(number: int, height: float, across: int, legend: Legend, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Make a figure with a number of panels, at most `across` per row.

    Args:
        number: The number of panels.
        height: The height of each row, in inches.
        across: The largest number of panels per row.
        legend: The legend below the panels.
        shared: Options of `plt.subplots`, such as sharex and sharey.

    Returns:
        The figure, and its panels.
    """
    across = min(across, number)
    fig, axes = page([height] * -(-number // across), across, legend, width=_width(across), **shared)
    panels: list[Axes] = list(axes.flat)[:number]
    keep(axes, panels)
    return fig, panels


def _width(across: int) -> float:
    """Return the width of a figure: a page of two columns (7 in), or a bit more than one column."""
    return 7.0 if across > 1 else 4.2


def page(
    heights: Sequence[float], across: int, legend: Legend, *, width: float = 7.0, **shared: Any
) -> tuple[Figure, Any]:
    """Make a figure with rows of panels and a legend below.

    Args:
        heights: The height of each row, in inches.
        across: The number of panels per row.
        legend: The legend below the panels.
        width: The width of the figure, in inches.
        shared: Options of `plt.subplots`, such as sharex and sharey.

    Returns:
        The figure, and its axes as an array (rows, across).
    """
    columns = _legend_columns(legend.handles, width)
    fig, axes = plt.subplots(
        len(heights), across, squeeze=False, layout="constrained", height_ratios=heights, **shared,
        figsize=(width, sum(heights) + 0.16 * -(-len(legend.handles) // columns) + 0.15),
    )  # fmt: skip
    fig.legend(handles=legend.handles, loc="outside lower center", ncols=columns)
    return fig, axes


def keep(axes: Any, panels: Iterable[Axes]) -> None:
    """Remove all other axes of an array, and label the ticks of the panels next to the gaps."""
    panels = list(panels)
    for column in axes.T:
        for above, below in itertools.pairwise(column):
            if below not in panels:
                above.xaxis.set_tick_params(labelbottom=True)
    for row in axes:
        for left, right in itertools.pairwise(row):
            if left not in panels:
                right.yaxis.set_tick_params(labelleft=True)
    for ax in axes.flat:
        if ax not in panels:
            ax.remove()


def label_once(axes: Iterable[Axes]) -> None:
    """Remove the label of an axis if the panel to its left, or below it, has the same label."""
    by_place = {
        (spec.rowspan.start, spec.colspan.start): ax for ax in axes if (spec := ax.get_subplotspec()) is not None
    }
    labels = {place: (ax.get_xlabel(), ax.get_ylabel()) for place, ax in by_place.items()}
    for (row, column), ax in by_place.items():
        x, y = labels[row, column]
        if labels.get((row + 1, column), ("", ""))[0] == x:
            ax.set_xlabel("")
        if labels.get((row, column - 1), ("", ""))[1] == y:
            ax.set_ylabel("")


def _legend_columns(handles: Sequence[Artist], width: float) -> int:
    """Return the largest number of columns, up to 6, that fits a legend into `width` inches."""
    room = (width * 72 - 20) / (0.56 * LOOK["legend.fontsize"])  # in letters, with a margin of 10 points to either side
    sizes = [len(str(handle.get_label()).translate(_MARKUP)) + 7 for handle in handles]
    for columns in range(min(6, len(sizes)), 1, -1):
        rows = -(-len(sizes) // columns)
        tops = [max(sizes[at : at + rows]) for at in range(0, len(sizes), rows)]
        if sum(tops) <= room:
            return len(tops)
    return 1
