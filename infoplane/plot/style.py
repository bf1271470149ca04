"""How figures look and how they are written: palettes, markers, line styles, the epoch scale, the unit, files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.path import Path as MarkerPath
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..records import UNITS, InfoplaneError, choose

__all__ = [
    "FAINT",
    "FORMATS",
    "LOOK",
    "STANDINGS",
    "Stroke",
    "arrow",
    "ceiling_line",
    "epoch_axis",
    "epoch_colors",
    "epoch_norm",
    "epoch_ticks",
    "estimator_colors",
    "grid",
    "in_unit",
    "keep",
    "label_once",
    "layer_colors",
    "layer_markers",
    "page",
    "path_colors",
    "replicas_of",
    "run_colors",
    "save",
    "symbol",
]

#: legible in print where the figure is as wide as a page of two columns (7 in)
LOOK: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "savefig.dpi": 300,
}
FAINT = "0.72"


class Stroke(NamedTuple):
    """How a standing is drawn: the line, the marker ("" for none) and its filling."""

    linestyle: Any
    marker: str
    fillstyle: Any


STANDINGS = {
    "exact": Stroke("-", "o", "full"),
    "upper": Stroke((0, (2.5, 1.2)), "o", "none"),
    "lower": Stroke((0, (4, 1.2, 1, 1.2)), "^", "none"),
    "estimate": Stroke("-", "", "none"),
}

_ESTIMATORS = ("binning", "kde", "echo", "mixture", "ksg", "renyi", "infonce", "counting", "decoder", "mean-field")
#: a shade of the colour of a relative: darker, or lighter
_SHADES = {
    "ross": ("ksg", 0.55),
    "nwj": ("infonce", 0.55),
    "smile": ("infonce", 1.35),
    "linear": ("counting", 0.55),
    "tap": ("echo", 0.55),
    "kde-upper": ("kde", 0.55),
}
_MARKUP = str.maketrans("", "", "${}_")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">", "h", "d", "8")


def _palette(n: int) -> list[tuple[float, float, float]]:
    return list(sns.color_palette("colorblind", n) if n <= 10 else sns.color_palette("husl", n))


def arrow(axis: str, standing: str) -> MarkerPath:
    """A marker beside a point that says on which side of it the truth is: of an upper bound to the left, or below."""
    shape = np.array([(-0.42, 0.0), (-1.0, 0.0), (-0.72, 0.2), (-1.0, 0.0), (-0.72, -0.2)])
    shape = shape if standing == "upper" else -shape
    return MarkerPath(shape if axis == "x" else shape[:, ::-1], closed=False)


def layer_colors(layers: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """A colour for each layer, in order; a noisy layer `NAME.echo` has a darker shade of the colour of NAME."""
    layers = list(layers)
    names = {layer: layer.removesuffix(".echo").removesuffix(".noise") for layer in layers}
    of = dict(zip(dict.fromkeys(names.values()), _palette(len(set(names.values()))), strict=True))
    return {x: of[name] if x == name else tuple(0.62 * c for c in of[name]) for x, name in names.items()}


def layer_markers(layers: Iterable[str]) -> dict[str, str]:
    """A marker for each layer, in order."""
    return {layer: _MARKERS[at % len(_MARKERS)] for at, layer in enumerate(layers)}


def estimator_colors(names: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """A colour for each estimator: the same in every figure for those the package has, whatever else is shown."""
    names = list(dict.fromkeys(names))
    known = [*_ESTIMATORS, *(name for name in names if name not in _ESTIMATORS and name not in _SHADES)]
    colors: dict[str, tuple[float, ...]] = dict(zip(known, _palette(len(known)), strict=True))
    for name, (of, shade) in _SHADES.items():
        colors[name] = tuple(shade * c if shade <= 1 else 1 - (1 - c) / shade**2 for c in colors[of])
    return {name: colors[name] for name in names}


def replicas_of(frames: Iterable[pd.DataFrame]) -> str:
    """How many replicas each has, for a legend: "5", or "5 to 50"; nothing where all have one."""
    counts = sorted({frame["replica"].nunique() for frame in frames})
    if counts[-1] <= 1:
        return ""
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def run_colors(runs: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """A colour for each run, in order."""
    runs = list(dict.fromkeys(runs))
    return dict(zip(runs, _palette(len(runs)), strict=True))


def path_colors(paths: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """A colour for each path through a network: the same in every figure for those `train` records."""
    known = list(dict.fromkeys(["noisy", "noise-off", "plain", *paths]))
    colors = dict(zip(known, _palette(len(known)), strict=True))
    return {path: colors[path] for path in dict.fromkeys(paths)}


def grid(
    runs: Sequence[str], names: Sequence[str], legend: list[Artist], absent: Container[tuple[str, str]] = ()
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A figure of panels that share their axes, up to three a row and each run in rows of its own, with a legend below.
    Where there is one name the runs stand side by side, four of them as two and two.

    It is as wide as a page of two columns (7 in), or a little wider than one column for one panel. Returns the panels
    by (run, name), without those that are `absent`.
    """
    keys = [[(run, name) for name in names] for run in runs]
    across = min(3, len(names))
    shared: dict[str, Any] = {"sharex": True, "sharey": True}
    if len(names) == 1 < len(runs):
        keys = [[key for row in keys for key in row]]
        across = -(-len(runs) // -(-len(runs) // 3))
        shared["gridspec_kw"] = {"wspace": 0.06}  # the last tick of one panel, and the first of the next
    down = -(-len(keys[0]) // across)
    fig, axes = page([2.4] * (down * len(keys)), across, legend, width=7.0 if across > 1 else 4.2, **shared)
    panels = {
        key: axes[at * down + i // across, i % across]
        for at, row in enumerate(keys)
        for i, key in enumerate(row)
        if key not in absent
    }
    keep(axes, panels.values())
    return fig, panels


def page(
    heights: Sequence[float], across: int, legend: list[Artist], *, width: float = 7.0, **shared: Any
) -> tuple[Figure, Any]:
    """A figure with rows of these heights (in), `across` panels each, and a legend below; and its axes, an array.

    shared: sharex, sharey and so on, as `plt.subplots` takes them.
    """
    columns = _legend_columns(legend, width)
    fig, axes = plt.subplots(
        len(heights), across, squeeze=False, layout="constrained", height_ratios=heights, **shared,
        figsize=(width, sum(heights) + 0.16 * -(-len(legend) // columns) + 0.15),
    )  # fmt: skip
    fig.legend(handles=legend, loc="outside lower center", ncols=columns)
    return fig, axes


def keep(axes: Any, panels: Iterable[Axes]) -> None:
    """Remove all other axes of an array, and number the ticks of those beside or above the gaps they leave."""
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
    """Take away the label of an axis where the panel to the left, or the one below, has the same."""
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
    """The most columns, up to 6, in which the entries of a legend fit into `width` inches, its rows filled."""
    room = (width * 72 - 20) / (0.56 * LOOK["legend.fontsize"])  # letters, and 10 points to either side
    sizes = [len(str(handle.get_label()).translate(_MARKUP)) + 7 for handle in handles]
    for columns in range(min(6, len(sizes)), 1, -1):
        rows = -(-len(sizes) // columns)
        tops = [max(sizes[at : at + rows]) for at in range(0, len(sizes), rows)]
        if sum(tops) <= room:
            return len(tops)
    return 1


def symbol(quantity: str) -> str:
    """A quantity as mathematics: I(Z2;Z1) with its digits as subscripts."""
    body = "".join(f"_{{{c}}}" if c.isdigit() else c for c in quantity)
    return f"${body}$"


def in_unit(frame: pd.DataFrame, unit: str) -> pd.DataFrame:
    """A copy of a frame of measurements with the columns value, stderr, error and ceiling in `unit` (bits or nats) in
    place of value_nats, stderr_nats, error_nats and ceiling_nats."""
    size = UNITS[choose(unit, UNITS, "unit")]
    names = {f"{name}_nats": name for name in ("value", "stderr", "error", "ceiling")}
    out = frame.rename(columns=names)
    for name in names.values():
        out[name] = out[name] / size
    return out


def ceiling_line(ax: Axes, axis: str, value: float, text: str, *, crossed: bool = False) -> None:
    """A dashed line at a ceiling of the x or the y axis of `ax`, and what it is, where the data below it do not come.

    crossed: data of other kinds may lie above the ceiling of y; its name then stands to the right of the panel.
    Draws nothing where the ceiling is NaN.
    """
    if not np.isfinite(value):
        return
    dashed: dict[str, Any] = {"color": "0.35", "linestyle": (0, (4, 3)), "linewidth": 0.7, "zorder": 1}
    if axis == "x":
        ax.axvline(value, **dashed)
        ax.text(value, 1.0, text, transform=ax.get_xaxis_transform(), ha="right", va="bottom", size="small")
        return
    ax.axhline(value, **dashed)
    beside = ax.get_yaxis_transform()
    if crossed:
        ax.text(1.01, value, text.partition(" =")[0], transform=beside, ha="left", va="center", size="small")
        return
    ax.text(0.02, value, text, transform=beside, ha="left", va="bottom", size="small")
    low, high = ax.get_ylim()
    ax.set_ylim(top=max(high, value + 0.08 * (value - low)))  # room for the text


# the scale of epochs: logarithmic, with a place for 0


def epoch_norm(epochs: Sequence[int]) -> Normalize:
    """Epochs to colours: logarithmic, linear below 1 where there is an epoch 0."""
    low, high = min(epochs), max(epochs)
    if low == high:
        return Normalize(low, low + 1)
    return LogNorm(low, high) if low > 0 else SymLogNorm(1, linscale=0.4, vmin=low, vmax=high)


def epoch_colors() -> ListedColormap:
    """viridis short of its last yellow, which paper does not show."""
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.94, 256)), name="epochs")


def epoch_axis(ax: Axes, epochs: Sequence[int]) -> None:
    """Make the x axis of `ax` one of epochs: logarithmic, with a tick labelled 0 where there is an epoch 0."""
    low, high = min(epochs), max(epochs)
    if low > 0:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.25, high * 1.25)
    else:
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ax.set_xlim(-0.15, max(1, high) * 1.25)
    ax.xaxis.set_major_locator(FixedLocator(epoch_ticks(epochs)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("epoch")


def epoch_ticks(epochs: Sequence[int], apart: float = 2.5) -> list[float]:
    """0 where it is among the epochs, the powers of ten they span, and the last epoch if `apart` times those; two at
    least, if first and last are `apart`."""
    low, high = min(epochs), max(epochs)
    powers = [10.0**k for k in range(int(np.log10(max(1, high))) + 1) if low <= 10**k <= high]
    ticks = ([0.0] if low <= 0 else []) + powers
    if not powers or high >= apart * powers[-1]:
        ticks.append(float(high))
    if len(ticks) == 1 and high >= apart * low:  # within a decade: both ends
        ticks += [float(low), float(high)]
    return sorted(set(ticks))


# files

_METADATA: dict[str, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
FORMATS = tuple(_METADATA)


def save(fig: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, PDF or SVG, by the ending of `path`: the same figure gives the same bytes at any time.

    Raises InfoplaneError for another ending, or where the file cannot be written.
    """
    path = Path(path)
    kind = choose(path.suffix.removeprefix(".").lower(), FORMATS, "figure format")
    fixed: dict[Any, Any] = {"pdf.fonttype": 42, "svg.hashsalt": "infoplane", "savefig.dpi": LOOK["savefig.dpi"]}
    try:
        with matplotlib.rc_context(fixed):
            fig.savefig(path, format=kind, metadata=_METADATA[kind])
    except OSError as error:
        raise InfoplaneError(f"Cannot write {path}: {error.strerror or error}.") from error
    return path
