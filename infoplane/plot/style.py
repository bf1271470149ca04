"""The grammar of figures: how standings, layers, estimators and epochs look in every plot.

- The colour of a mark or a line is its layer. In figures that compare, it is the estimator or the
  run, and in the plane it is the epoch.
- The filling of a mark says how far to trust the number: full for an exact number, pale for a bound
  or an estimate, hollow for a number with a warning. An exact number with a warning is hollow with
  a dot.
- An arrow at a mark says that the number is a bound without a partner, and points to where the
  truth is.
- A bar or a band reaches from the lower to the upper bound. The ends of a dotted bar are estimates.
- A dashed grey line is a ceiling or a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize, SymLogNorm, to_rgba_array
from matplotlib.path import Path as MarkerPath
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..analysis.points import base_layers

__all__ = [
    "BAND",
    "DASHED",
    "FAINT",
    "GREY",
    "LOOK",
    "RULE",
    "arrow",
    "band",
    "bars",
    "ceiling_line",
    "count_axis",
    "epoch_axis",
    "epoch_bar",
    "epoch_colors",
    "epoch_norm",
    "epoch_ticks",
    "estimator_colors",
    "fill_of",
    "layer_colors",
    "layer_markers",
    "line_of",
    "marks",
    "name_colors",
    "pale",
    "path_colors",
]

Color = Any
Colors = Mapping[Any, Color]

#: the settings of Matplotlib for all figures; they are legible in print if a figure is as wide as a
#: page of two columns (7 in)
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
#: the colours of things without a colour of their own: single replicas, and the marks and lines of
#: a legend
FAINT, GREY = "0.72", "0.3"
#: the second of two lines that belong together, such as test points next to training points
DASHED = (0, (2.5, 1.2))
DOTTED = (0, (1, 1))
#: the look of a ceiling or a limit
RULE: dict[str, Any] = {"color": "0.35", "linestyle": (0, (4, 3)), "linewidth": 0.7, "zorder": 1}
#: the opacity of a band
BAND = 0.18
_EDGE = 0.7
#: the share of its colour that a pale mark keeps
_PALE = 0.35
_BOUNDS = ("upper", "lower")

# standings


def fill_of(standing: str, warned: bool) -> str:
    """Return the filling of a mark: full, pale, hollow or dotted."""
    if standing == "exact":
        return "dotted" if warned else "full"
    return "hollow" if warned else "pale"


def line_of(standing: str) -> Any:
    """Return the style of the line through numbers of a standing: dashed through bounds."""
    return DASHED if standing in _BOUNDS else "-"


def pale(colors: Any) -> np.ndarray:
    """Mix n colours with white, as in the filling of a pale mark; return an array (n, 4)."""
    mixed: np.ndarray = to_rgba_array(colors).copy()
    mixed[:, :3] = _PALE * mixed[:, :3] + (1 - _PALE)
    return mixed


def arrow(axis: str, standing: str) -> MarkerPath:
    """Return the marker of a bound: an arrow from the point towards the truth."""
    shape = np.array([(-0.42, 0.0), (-1.0, 0.0), (-0.72, 0.2), (-1.0, 0.0), (-0.72, -0.2)])
    shape = shape if standing == "upper" else -shape
    return MarkerPath(shape if axis == "x" else shape[:, ::-1], closed=False)


def marks(
    ax: Axes,
    x: Any,
    y: Any,
    color: Any,
    standing: Any,
    warned: Any,
    *,
    along: Mapping[str, Any] | None = None,
    marker: str = "o",
    size: float = 3.9,
    label: str = "",
    on_line: bool = True,
    zorder: float = 3.0,
) -> None:
    """Draw points in the grammar of standings: their filling, and arrows at bounds.

    Args:
        ax: The axes to draw on.
        x: The values along x, (n,).
        y: The values along y, (n,).
        color: One colour, or one per point.
        standing: exact, upper, lower, bracket or estimate; one, or one per point.
        warned: Whether the number has a warning; one, or one per point.
        along: The standings of the numbers along "x", "y" or both; a bound has an arrow. By
            default `standing` along y.
        marker: The shape.
        size: The diameter, in points.
        label: The name of the artists: "_LABEL FILLING" for marks, "_LABEL AXIS upper" for arrows.
        on_line: Whether hollow marks cover the line below them.
        zorder: The order of drawing.
    """
    x, y = (np.asarray(values, dtype=float) for values in (x, y))
    standing = np.broadcast_to(np.asarray(standing, dtype=object), x.shape)
    warned = np.broadcast_to(np.asarray(warned, dtype=bool), x.shape)
    colors = np.broadcast_to(to_rgba_array(color), (len(x), 4))
    fills = np.array([fill_of(*pair) for pair in zip(standing, warned, strict=True)], dtype=object)
    for axis, standings in (along if along is not None else {"y": standing}).items():
        standings = np.broadcast_to(np.asarray(standings, dtype=object), x.shape)
        for kind in _BOUNDS:
            own = standings == kind
            if own.any():
                ax.scatter(
                    x[own], y[own], s=(2.1 * size) ** 2, marker=arrow(axis, kind), linewidths=0.6, zorder=zorder - 0.5,
                    facecolors="none", edgecolors=colors[own], label=f"_{label} {axis} {kind}",
                )  # fmt: skip
    for fill in ("hollow", "dotted", "pale", "full"):
        own = fills == fill
        if not own.any():
            continue
        edges = colors[own]
        faces = edges if fill == "full" else pale(edges) if fill == "pale" else "white" if on_line else "none"
        ax.scatter(
            x[own], y[own], s=size**2, marker=marker, linewidths=_EDGE, zorder=zorder,
            facecolors=faces, edgecolors=edges, label=f"_{label} {fill}",
        )  # fmt: skip
        if fill == "dotted":
            ax.scatter(x[own], y[own], s=(0.34 * size) ** 2, color=edges, linewidths=0, zorder=zorder + 0.1)


def bars(
    ax: Axes,
    axis: str,
    lower: Any,
    upper: Any,
    at: Any,
    color: Any,
    standing: Any,
    *,
    alpha: float = 0.45,
    linewidth: float = 0.4,
) -> None:
    """Draw bars along an axis from lower to upper bounds.

    Args:
        ax: The axes to draw on.
        axis: The axis along which the bars lie: "x" or "y".
        lower: The lower bounds, (n,).
        upper: The upper bounds, (n,).
        at: The values along the other axis, (n,).
        color: One colour, or one per bar.
        standing: The standing of each bar, (n,); an "estimate" is dotted, because both its ends are
            estimates.
        alpha: The opacity.
        linewidth: The width of the bars, in points.
    """
    ends = np.stack([np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)], axis=-1)
    other = np.repeat(np.asarray(at, dtype=float)[:, None], 2, axis=1)
    segments = np.stack([ends, other] if axis == "x" else [other, ends], axis=-1)
    styles: list[Any] = [DOTTED if kind == "estimate" else "-" for kind in np.asarray(standing, dtype=object)]
    look: dict[str, Any] = {"colors": color, "linewidths": linewidth, "alpha": alpha, "linestyles": styles or "-"}
    ax.add_collection(LineCollection(list(segments), label=f"_bars {axis}", **look))


def band(ax: Axes, x: Any, low: Any, high: Any, color: Color, label: str = "_band") -> None:
    """Draw a band, for a bracket or for the spread over replicas."""
    ax.fill_between(x, low, high, color=color, alpha=BAND, linewidth=0, label=label)


# colours

_ESTIMATORS = ("binning", "kde", "echo", "mixture", "ksg", "renyi", "infonce", "counting", "decoder", "mean-field")
#: the estimators that have a darker or lighter shade of the colour of a related one
_SHADES = {
    "ross": ("ksg", 0.55),
    "nwj": ("infonce", 0.55),
    "smile": ("infonce", 1.35),
    "linear": ("counting", 0.55),
    "tap": ("echo", 0.55),
    "kde-upper": ("kde", 0.55),
}
_DARKER = 0.62
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">", "h", "d", "8")


def name_colors(names: Iterable[str]) -> dict[Any, Color]:
    """Return a colour per name, in order, for runs or families of channels."""
    names = list(dict.fromkeys(names))
    n = len(names)
    palette = sns.color_palette("colorblind", n) if n <= 10 else sns.color_palette("husl", n)
    return dict(zip(names, [tuple(color) for color in palette], strict=True))


def layer_colors(layers: Iterable[str]) -> dict[Any, Color]:
    """Return a colour per layer; a noisy layer has a darker shade of the colour of its layer.

    Args:
        layers: The names of all layers of a frame, so that a layer has the same colour in every
            figure.

    Returns:
        The colours, as (red, green, blue), by layer.

    Example:
        >>> import infoplane as ip
        >>> colors = ip.plot.layer_colors(["hidden1", "hidden2", "hidden2.echo"])
        >>> all(dark < pure for dark, pure in zip(colors["hidden2.echo"], colors["hidden2"]))
        True
    """
    base = base_layers(layers)
    of = name_colors(base.values())
    shades: dict[str, int] = {}
    out: dict[Any, Color] = {}
    for layer, name in base.items():
        if layer != name:
            shades[name] = shades.get(name, 0) + 1
        out[layer] = of[name] if layer == name else tuple(_DARKER ** shades[name] * c for c in of[name])
    return out


def layer_markers(layers: Iterable[str]) -> dict[str, str]:
    """Return a marker per layer, in order."""
    return {layer: _MARKERS[at % len(_MARKERS)] for at, layer in enumerate(dict.fromkeys(layers))}


def estimator_colors(names: Iterable[str]) -> dict[Any, Color]:
    """Return a colour per estimator, the same in every figure for those of the package."""
    names = list(dict.fromkeys(names))
    colors = name_colors([*_ESTIMATORS, *(name for name in names if name not in _ESTIMATORS and name not in _SHADES)])
    for name, (of, shade) in _SHADES.items():
        colors[name] = tuple(shade * c if shade <= 1 else 1 - (1 - c) / shade**2 for c in colors[of])
    return {name: colors[name] for name in names}


def path_colors(paths: Iterable[str]) -> dict[Any, Color]:
    """Return a colour per path through a network, the same in every figure."""
    colors = name_colors(["noisy", "noise-off", "plain", *paths])
    return {path: colors[path] for path in dict.fromkeys(paths)}


# ceilings


def ceiling_line(ax: Axes, axis: str, value: float, text: str, *, crossed: bool = False) -> None:
    """Draw a dashed line at a ceiling, with its name next to it; nothing if the ceiling is NaN.

    Args:
        ax: The axes to draw on.
        axis: "x" or "y".
        value: The ceiling.
        text: Its name and value.
        crossed: Whether data of other kinds may lie above a ceiling along y. Its name then stands
            to the right of the panel.
    """
    if not np.isfinite(value):
        return
    if axis == "x":
        ax.axvline(value, **RULE)
        ax.text(value, 1.0, text, transform=ax.get_xaxis_transform(), ha="right", va="bottom", size="small")
        return
    ax.axhline(value, **RULE)
    beside = ax.get_yaxis_transform()
    if crossed:
        ax.text(1.01, value, text.partition(" =")[0], transform=beside, ha="left", va="center", size="small")
        return
    ax.text(0.02, value, text, transform=beside, ha="left", va="bottom", size="small")
    low, high = ax.get_ylim()
    ax.set_ylim(top=max(high, value + 0.08 * (value - low)))  # room for the text


# epochs, on a logarithmic scale with a place for 0


def epoch_norm(epochs: Sequence[int]) -> Normalize:
    """Return the logarithmic map, with a place for 0, from epochs to the range of colours."""
    low, high = min(epochs), max(epochs)
    if low == high:
        return Normalize(low, low + 1)
    return LogNorm(low, high) if low > 0 else SymLogNorm(1, linscale=0.4, vmin=low, vmax=high)


def epoch_colors() -> Colormap:
    """Return viridis without its last yellow, which is invisible on paper."""
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.94, 256)), name="epochs")


def epoch_bar(fig: Any, axes: Any, epochs: Sequence[int], *, apart: float = 1.6, **how: Any) -> None:
    """Add the colour bar of epochs next to some axes; for `apart`, see `epoch_ticks`."""
    bar = fig.colorbar(ScalarMappable(epoch_norm(epochs), epoch_colors()), ax=axes, **how)
    bar.set_label("epoch")
    bar.set_ticks(epoch_ticks(epochs, apart))
    bar.ax.minorticks_off()
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.outline.set_linewidth(0.6)


def epoch_axis(ax: Axes, epochs: Sequence[int]) -> None:
    """Make the x axis of `ax` a logarithmic axis of epochs, with a place for epoch 0."""
    low, high = min(epochs), max(epochs)
    if low > 0:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.25, high * 1.25)
    else:
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ax.set_xlim(-0.15, max(1, high) * 1.25)
    _ticks(ax, epoch_ticks(epochs))
    ax.set_xlabel("epoch")


def count_axis(ax: Axes, values: Iterable[float]) -> None:
    """Make the x axis of `ax` logarithmic, with a tick at each value."""
    ax.set_xscale("log")
    _ticks(ax, sorted(values))


def _ticks(ax: Axes, ticks: Sequence[float]) -> None:
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def epoch_ticks(epochs: Sequence[int], apart: float = 2.5) -> list[float]:
    """Return the ticks of an axis of epochs.

    The ticks are 0 (if it is among the epochs), the powers of ten in their range, and the last
    epoch if it is at least `apart` times the last power. If that gives a single tick, the first and
    the last epoch are ticks too, provided that they differ by at least a factor of `apart`.

    Example:
        >>> epoch_ticks([0, 400])
        [0.0, 1.0, 10.0, 100.0, 400.0]
    """
    low, high = min(epochs), max(epochs)
    powers = [10.0**k for k in range(int(np.log10(max(1, high))) + 1) if low <= 10**k <= high]
    ticks = ([0.0] if low <= 0 else []) + powers
    if not powers or high >= apart * powers[-1]:
        ticks.append(float(high))
    if len(ticks) == 1 and high >= apart * low:  # all epochs lie within a decade
        ticks += [float(low), float(high)]
    return sorted(set(ticks))
