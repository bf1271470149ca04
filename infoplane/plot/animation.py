"""The information plane with every replica as a dot: at a few epochs side by side, or from epoch to epoch as a film."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from ..records import InfoplaneError, choose
from .plane import lines, panels_of
from .points import chosen, layers_of, points, title_of
from .style import LOOK, grid, label_once, layer_colors

__all__ = ["FILMS", "Film", "animate", "dots", "film"]

#: the formats of a film
FILMS = ("gif", "html")
_DPI = 120
#: milliseconds a picture is shown, and the last one of a GIF
_PAUSE, _REST = 160, 2000
#: how many shades of each layer's colour, and of grey, a picture has at the most
_SHADES = 24


@dataclass(frozen=True)
class Film:
    """A figure whose dots are set to an epoch: `at(epoch)`, or all of its epochs written with `save`."""

    figure: Figure
    epochs: tuple[int, ...]
    _dots: tuple[_Dots, ...]
    _colors: tuple[Any, ...]

    def at(self, epoch: int) -> Figure:
        """The figure at the last recorded epoch that is not later."""
        for each in self._dots:
            each.at(epoch)
        return self.figure

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a GIF, or a page with a slider that needs nothing else, by the ending of `path`; the same bytes each
        time. Raises InfoplaneError for another ending, or where the file cannot be written."""
        path = Path(path)
        kind = choose(path.suffix.removeprefix(".").lower(), FILMS, "format of an animation")
        pictures = self._pictures()
        try:
            if kind == "gif":
                pauses = [_PAUSE] * (len(pictures) - 1) + [_REST]
                pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=pauses, loop=0, disposal=1)
            else:
                path.write_text(_page(pictures, self.epochs), encoding="utf-8")
        except OSError as error:
            raise InfoplaneError(f"Cannot write {path}: {error.strerror or error}.") from error
        return path

    def _pictures(self) -> list[Image.Image]:
        """One picture an epoch, all in the same colours: shades of grey and of the colours of the layers."""
        canvas: Any = FigureCanvasAgg(self.figure)
        dpi, engine = self.figure.dpi, self.figure.get_layout_engine()
        self.figure.set_dpi(_DPI)
        shots = []
        try:
            for epoch in self.epochs:
                self.at(epoch)
                canvas.draw()
                self.figure.set_layout_engine("none")  # nothing moves but the dots
                shots.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
        finally:
            self.figure.set_dpi(dpi)
            self.figure.set_layout_engine(engine)
        pure = np.array([(0.0, 0.0, 0.0), *(color[:3] for color in self._colors)])
        # short of white, which Pillow, searching in steps of 8, would take for a pale shade
        pale = np.linspace(0.0, 0.85, min(_SHADES, 255 // len(pure)))[:, None, None]
        shades = np.concatenate([(pale + (1 - pale) * pure).reshape(-1, 3), np.ones((1, 3))])
        palette = Image.new("P", (1, 1))
        palette.putpalette(np.rint(255 * shades).astype(np.uint8).tobytes())
        return [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in shots]


class _Dots:
    """The dots of one panel, a collection for each layer: hollow where either number has a warning.

    Its limits hold the dots of all epochs. name: what stands in its title above the epoch.
    """

    def __init__(self, ax: Axes, both: pd.DataFrame, colors: dict[str, Any], name: str) -> None:
        values = both[["value_x", "value_y"]].to_numpy(float)
        ax.update_datalim(values[np.isfinite(values).all(1)])
        ax.autoscale_view()
        self._title = ax.set_title("", loc="left", pad=12)
        self._name = name
        self._frames = {epoch: rows for epoch, rows in both.groupby("epoch")}
        self._epochs = np.array(sorted(self._frames))
        self._colors = {layer: colors[layer] for layer in colors if (both["layer"] == layer).any()}
        self._drawn: dict[str, PathCollection] = {
            layer: ax.scatter([], [], s=11, linewidths=0.6, zorder=3, label=f"_{layer}") for layer in self._colors
        }

    def at(self, epoch: int) -> None:
        known = self._epochs[self._epochs <= epoch]
        rows = self._frames[known.max()] if len(known) else None
        self._title.set_text(f"{self._name}\n" + (f"epoch {known.max()}" if len(known) else "no epoch yet"))
        for layer, drawn in self._drawn.items():
            own = rows[rows["layer"] == layer] if rows is not None else pd.DataFrame(columns=["value_x", "value_y"])
            drawn.set_offsets(own[["value_x", "value_y"]].to_numpy(float).reshape(-1, 2))
            color = self._colors[layer]
            warned = (own["warned_x"] | own["warned_y"]).tolist() if len(own) else []
            drawn.set_edgecolor([color] * len(own))
            drawn.set_facecolor([(*color[:3], 0.0 if hollow else 0.7) for hollow in warned])


def film(
    frame: pd.DataFrame,
    *,
    estimator: str | None = None,
    x: str = "I(X;T)",
    y: str = "I(T;Y)",
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
    bound: str = "mid",
    pictures: int = 100,
) -> Film:
    """The information plane of a frame of measurements as a film, one picture an epoch.

    Every replica is a dot, its colour the layer, hollow where either of its numbers has a warning; a panel for each run
    and estimator, named with its channel. The axes hold all epochs and stay; dashed lines are the largest ceilings. Of
    a bracket the dot is at its `bound`: "mid", "lower" or "upper".

    pictures: how many at the most; of more epochs, as many evenly chosen ones. Everything else is as in `plane`.
    Raises InfoplaneError for what the frame does not hold.
    """
    if pictures < 2:
        raise InfoplaneError(f"film: pictures={pictures}; expected at least 2.")
    table, rows, colors = _table(frame, unit, estimator, layers, epochs, bound)
    panels = panels_of(table, x, y)
    runs, names = (list(dict.fromkeys(key[at] for key in panels)) for at in (0, 1))
    there = sorted(set().union(*(set(each["epoch"]) for each in panels.values())))
    if len(there) > pictures:
        there = [there[round(k)] for k in np.linspace(0, len(there) - 1, pictures)]
    with matplotlib.rc_context(LOOK):
        legend = _legend(panels.values(), colors)
        figure, cells = grid(runs, names, legend, {(run, name) for run in runs for name in names} - set(panels))
        moving = []
        for key, both in panels.items():
            name = title_of(rows, key[1], key[0] if len(runs) > 1 else "")
            moving.append(_Dots(cells[key], both, colors, name))
        _finish(cells.values(), panels.values(), unit)
    made = Film(figure, tuple(there), tuple(moving), tuple(colors.values()))
    made.at(there[-1])
    return made


def animate(frame: pd.DataFrame, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write the film of a frame (`film`, with its options) to a .gif or .html file; HTML has a slider over the epochs.

    from infoplane import plot
    plot.animate(frame, "plane.html", estimator="binning")
    """
    choose(Path(path).suffix.removeprefix(".").lower(), FILMS, "format of an animation")
    made = film(frame, **options)
    try:
        return made.save(path)
    finally:
        plt.close(made.figure)


def dots(
    frame: pd.DataFrame,
    *,
    epochs: Sequence[int] | None = None,
    estimator: str | None = None,
    x: str = "I(X;T)",
    y: str = "I(T;Y)",
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    bound: str = "mid",
) -> Figure:
    """Planes side by side, a panel an epoch and a row a run, drawn as in `film`: Shwartz-Ziv & Tishby 2017, figure 2.

    epochs: default the first, the middle and the last. One estimator must be chosen where there are several.
    """
    table, rows, colors = _table(frame, unit, estimator, layers, epochs, bound)
    panels = panels_of(table, x, y)
    names = list(dict.fromkeys(name for _, name in panels))
    if len(names) > 1:
        raise InfoplaneError(f"There are {len(names)} estimators to draw; choose estimator= ({', '.join(names)}).")
    runs = [run for run, _ in panels]
    there = sorted(set(table["epoch"]))
    shown = list(epochs) if epochs is not None else sorted({there[0], there[len(there) // 2], there[-1]})
    with matplotlib.rc_context(LOOK):
        legend = _legend(panels.values(), colors)
        figure, cells = grid(runs, [str(epoch) for epoch in shown], legend)
        for (run, name), both in panels.items():
            for epoch in shown:
                title = title_of(rows, name, run if len(runs) > 1 else "") if epoch == shown[0] else ""
                _Dots(cells[run, str(epoch)], both, colors, title).at(epoch)
        _finish(cells.values(), [both for both in panels.values() for _ in shown], unit)
        return figure


def _table(
    frame: pd.DataFrame,
    unit: str,
    estimator: str | None,
    layers: Iterable[str] | None,
    epochs: Iterable[int] | None,
    bound: str,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    colors = layer_colors(layers_of(frame)) if "layer" in frame else {}
    rows = chosen(frame, unit=unit, estimator=estimator, layers=layers, epochs=epochs)
    return points(rows, bound), rows, colors


def _finish(axes: Iterable[Axes], panels: Iterable[pd.DataFrame], unit: str) -> None:
    axes = list(axes)
    for ax, both in zip(axes, panels, strict=True):  # after all points, for it fixes the limits that the panels share
        lines(ax, both, unit)
    label_once(axes)


def _legend(panels: Iterable[pd.DataFrame], colors: dict[str, Any]) -> list[Artist]:
    panels = list(panels)
    shown = [layer for layer in colors if any((each["layer"] == layer).any() for each in panels)]
    dot: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 4, "markeredgewidth": 0.7}
    handles: list[Artist] = [Line2D([], [], color=colors[layer], label=layer, **dot) for layer in shown]
    if any((each["warned_x"] | each["warned_y"]).any() for each in panels):
        handles.append(Line2D([], [], color="0.3", fillstyle="none", label="hollow: warned", **dot))
    replicas = max(each["replica"].nunique() for each in panels)
    handles.append(Line2D([], [], linestyle="", label=f"one dot a layer and replica ({replicas})"))
    return handles


_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px sans-serif; margin: 1em auto; width: {width}px; max-width: 96vw }}
img {{ width: 100% }}
div {{ display: flex; gap: 0.7em; align-items: center }}
input {{ flex: 1 }}
output {{ width: 6.5em }}
</style>
<img id="picture" alt="{title}">
<div>
<button id="play">play</button>
<input id="at" type="range" min="0" max="{last}" value="{last}" aria-label="epoch">
<output id="epoch"></output>
</div>
<script>
const epochs = {epochs};
const pictures = {pictures};
const [picture, play, at, epoch] = ["picture", "play", "at", "epoch"].map(id => document.getElementById(id));
let timer = null;
function show() {{
  picture.src = "data:image/png;base64," + pictures[at.value];
  epoch.value = "epoch " + epochs[at.value];
}}
function stop() {{ clearInterval(timer); timer = null; play.textContent = "play"; }}
at.oninput = () => {{ stop(); show(); }};
play.onclick = () => {{
  if (timer) return stop();
  if (at.value == at.max) at.value = 0;
  play.textContent = "stop";
  show();
  timer = setInterval(() => {{ at.value++; show(); if (at.value == at.max) stop(); }}, {pause});
}};
show();
</script>
</html>
"""


def _page(pictures: Sequence[Image.Image], epochs: Sequence[int]) -> str:
    """A page that holds its pictures, with a slider: no file beside it, and nothing from a network."""
    coded = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "png", optimize=True)
        coded.append(base64.b64encode(buffer.getvalue()).decode())
    return _HTML.format(
        title=html.escape("Information plane, epoch by epoch"),
        width=pictures[0].width,
        last=len(pictures) - 1,
        epochs=json.dumps(list(map(int, epochs))),
        pictures=json.dumps(coded, indent=0),
        pause=_PAUSE,
    )
