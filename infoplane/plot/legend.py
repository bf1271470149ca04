"""The legend of a figure: the same words and marks for the same things in every plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path as MarkerPath

from .labels import with_count
from .style import BAND, DOTTED, FAINT, GREY, RULE, arrow, fill_of, pale

__all__ = ["Legend"]

_FILLS = {
    "full": "filled: {}exact",
    "pale": "pale: bound or estimate",
    "hollow": "hollow: warned",
    "dotted": "hollow with a dot: {}exact, warned",
}
_MARK: dict[str, Any] = {"color": GREY, "linestyle": "", "markersize": 4, "markeredgewidth": 0.7}


class Legend:
    """The entries of a legend, in the order in which they are added; an empty group adds none.

    Example:
        >>> drawn = [("exact", False), ("upper", True)]
        >>> legend = Legend().names({"hidden1": "C0"}).standings(drawn)
        >>> legend.labels
        ['hidden1', 'filled: exact', 'hollow: warned', 'arrow: upper bound']
    """

    def __init__(self) -> None:
        self.handles: list[Artist] = []

    @property
    def labels(self) -> list[str]:
        """The words of the entries."""
        return [str(handle.get_label()) for handle in self.handles]

    def line(self, label: str, **look: Any) -> Legend:
        """Add a line, in grey unless `look` (options of `Line2D`) says otherwise."""
        self.handles.append(Line2D([], [], **{"color": GREY} | look, label=label))
        return self

    def mark(self, label: str, **look: Any) -> Legend:
        """Add a mark without a line; `look` has options of `Line2D`."""
        self.handles.append(Line2D([], [], **_MARK | {"marker": "o"} | look, label=label))
        return self

    def patch(self, label: str, **look: Any) -> Legend:
        """Add a rectangle, in grey and as pale as a band unless `look` says otherwise."""
        self.handles.append(Patch(**look or {"color": GREY, "alpha": BAND, "linewidth": 0}, label=label))
        return self

    def text(self, label: str) -> Legend:
        """Add words alone."""
        return self.line(label, linestyle="")

    def names(
        self, colors: Mapping[str, Any], shown: Iterable[str] | None = None, *, markers: Mapping[str, str] | None = None
    ) -> Legend:
        """Add an entry per name and colour: a line, or a mark if `markers` is given.

        Args:
            colors: The colours by name.
            shown: The names that are in the figure; all by default.
            markers: The shape of each name.
        """
        there = set(colors if shown is None else shown)
        for name, color in colors.items():
            if name in there and markers is None:
                self.line(name, color=color)
            elif name in there and markers is not None:
                self.mark(name, color=color, marker=markers[name])
        return self

    def standings(
        self, drawn: Iterable[tuple[str, bool]], of: str = "", *, along: Iterable[str] = (), arrows: str = "x"
    ) -> Legend:
        """Add the fillings and arrows that occur.

        Args:
            drawn: The standing of each mark, and whether it is warned.
            of: The quantity that is exact, if not all quantities are.
            along: Further standings, along the other axis; their bounds have an arrow too.
            arrows: The axis along which the arrows of bounds point; "" if there are no arrows.
        """
        drawn = set(drawn)
        fills = {fill_of(*each) for each in drawn}
        faces = {"full": GREY, "pale": pale(GREY)[0], "hollow": "none", "dotted": "none"}
        for fill, words in _FILLS.items():
            if fill in fills:
                label = words.format(f"{of} " if of else "")
                if fill == "dotted":
                    self.mark(label, marker="$\\odot$", markersize=5, markeredgewidth=0.3)
                else:
                    self.mark(label, markerfacecolor=faces[fill])
        kinds = {standing for standing, _ in drawn} | set(along)
        for kind in ("upper", "lower"):
            if arrows and kind in kinds:
                self.mark(f"arrow: {kind} bound", marker=_centred(arrow(arrows, kind)), markerfacecolor="none")
        return self

    def bar(self, label: str, *, estimated: bool = False) -> Legend:
        """Add a bar from the lower to the upper bound, dotted where both are estimates."""
        return self.line(label, linewidth=0.6, linestyle=DOTTED if estimated else "-")

    def rule(self, label: str) -> Legend:
        """Add the dashed line of a ceiling or a limit."""
        return self.line(label, **RULE)

    def replicas(self, counts: Sequence[int], label: str = "single replicas", *, band: bool = False) -> Legend:
        """Add the single replicas, or their spread (`band`), if any panel has several replicas."""
        if max(counts, default=1) < 2:
            return self
        said = with_count(label, counts)
        return self.patch(said) if band else self.line(said, color=FAINT, linewidth=1.0)


def _centred(path: MarkerPath) -> MarkerPath:
    """Shift a marker so that its middle is at the point."""
    corners = np.asarray(path.vertices, dtype=float)
    return MarkerPath(corners - (corners.min(0) + corners.max(0)) / 2, closed=False)
