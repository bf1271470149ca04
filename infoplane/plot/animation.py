"""The information plane with one dot per replica: some epochs side by side, or a film."""

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
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from PIL import Image

from ..analysis.points import chosen, layers_of, points
from ..errors import InfoplaneError, choose
from .labels import replica_counts, replica_note, symbol, title_of, with_count
from .layout import grid, label_once
from .legend import Legend
from .plane import label_axes, panels_of
from .style import LOOK, fill_of, layer_colors, pale

__all__ = ["FILMS", "Film", "animate", "dots", "film"]

#: the formats of a film
FILMS = ("gif", "html")
_DPI = 120
#: the time for which a picture and the last one of a GIF are shown, in milliseconds
_PAUSE, _REST = 160, 2000
_NONE = pd.DataFrame(columns=["value_x", "value_y", "standing_x", "warned_x", "warned_y"])
#: the most shades of each layer's colour, and of grey, in a picture
_SHADES = 24


@dataclass(frozen=True)
class Film:
    """A figure whose dots move from epoch to epoch, made by `film`.

    Args:
        figure: The figure, set to the last epoch at first.
        epochs: The epochs of the pictures, ascending.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> recorder = ip.Recorder(model, (x, (x[:, 0] > 0).long()), estimators=["binning"])
        >>> tables = [recorder.snapshot(epoch) for epoch in (0, 1)]
        >>> film = ip.plot.film(recorder.frame())
        >>> film.epochs
        (0, 1)
        >>> film.at(0).axes[0].get_title(loc="left").splitlines()[-1]
        'epoch 0'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     film.save(Path(folder) / "plane.gif").name
        'plane.gif'
    """

    figure: Figure
    epochs: tuple[int, ...]
    _dots: tuple[_Dots, ...]
    _colors: tuple[Any, ...]

    def at(self, epoch: int) -> Figure:
        """Set the figure to the last recorded epoch up to `epoch`, and return it."""
        for each in self._dots:
            each.at(epoch)
        return self.figure

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a GIF or an HTML page with a slider, depending on the ending of `path`.

        The same film gives the same bytes each time. The page needs no other file and no network.

        Args:
            path: The file, ending in .gif or .html.

        Returns:
            The path.

        Raises:
            InfoplaneError: If the file has another ending or cannot be written.
        """
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
        """Return one picture per epoch, in shades of grey and of the colours of the layers."""
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
        # not up to white: Pillow searches in steps of 8 and would take white for a pale shade
        pale = np.linspace(0.0, 0.85, min(_SHADES, 255 // len(pure)))[:, None, None]
        shades = np.concatenate([(pale + (1 - pale) * pure).reshape(-1, 3), np.ones((1, 3))])
        palette = Image.new("P", (1, 1))
        palette.putpalette(np.rint(255 * shades).astype(np.uint8).tobytes())
        return [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in shots]


class _Dots:
    """The dots of one panel, with one collection per layer, filled as `style.fill_of` says.

    The limits of the panel hold the dots of all epochs.

    Args:
        ax: The panel.
        both: The points of all epochs, as in `plane.panels_of`.
        colors: The colour of each layer.
        name: The title of the panel; the epoch stands below it.
    """

    def __init__(self, ax: Axes, both: pd.DataFrame, colors: dict[str, Any], name: str) -> None:
        values = both[["value_x", "value_y"]].to_numpy(float)
        ax.update_datalim(values[np.isfinite(values).all(1)])
        ax.autoscale_view()
        self._title = ax.set_title("", loc="left", pad=12)
        self._name = name
        self._frames = {int(rows["epoch"].iloc[0]): rows for _, rows in both.groupby("epoch")}
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
            own = rows[rows["layer"] == layer] if rows is not None else _NONE
            drawn.set_offsets(own[["value_x", "value_y"]].to_numpy(float).reshape(-1, 2))
            color = self._colors[layer]
            faces = {"full": (*color[:3], 0.8), "pale": (*pale(color)[0, :3], 0.8), "hollow": (1, 1, 1, 0)}
            faces["dotted"] = faces["hollow"]
            drawn.set_edgecolor([color] * len(own))
            drawn.set_facecolor([faces[fill_of(*each)] for each in _standings(own)])


def film(
    frame: pd.DataFrame,
    *,
    estimator: str | None = None,
    x: str = "I(X;T)",
    y: str = "I(T;Y)",
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
    side: str = "mid",
    pictures: int = 100,
) -> Film:
    """Make a film of the information plane, with one picture per epoch.

    Every replica is a dot in the colour of its layer. A dot is filled if the number along x is
    exact, pale if it is a bound or an estimate, and hollow if either number has a warning. There is
    one panel per run and estimator. The axes cover all epochs and stay the same. Dashed lines are
    the largest ceilings.

    Args:
        frame: Measurements (`records.COLUMNS`, in nats).
        estimator: The estimator to draw; by default all, each with a panel of its own.
        x: The quantity along x; for Echo layers, I(X;T) stands for I(Z;X).
        y: The quantity along y; for Echo layers, I(T;Y) stands for I(Z;Y).
        unit: "bits" or "nats".
        layers: The names of the layers to draw; all by default.
        epochs: The epochs to show; all by default.
        side: The value that stands for a bracket: "mid", "lower" or "upper".
        pictures: The largest number of pictures. If there are more epochs, this many evenly spaced
            ones are shown.

    Returns:
        The film, set to its last epoch.

    Raises:
        InfoplaneError: If the frame does not hold what was asked for, or `pictures` is below 2.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> recorder = ip.Recorder(model, (x, (x[:, 0] > 0).long()), estimators=["binning"])
        >>> tables = [recorder.snapshot(epoch) for epoch in range(5)]
        >>> ip.plot.film(recorder.frame(), pictures=3).epochs
        (0, 2, 4)
    """
    if pictures < 2:
        raise InfoplaneError(f"film: pictures={pictures}; expected at least 2.")
    table, rows, colors = _table(frame, unit, estimator, layers, epochs, side)
    panels = panels_of(table, x, y)
    runs, names = (list(dict.fromkeys(key[at] for key in panels)) for at in (0, 1))
    there = sorted(set().union(*(set(each["epoch"]) for each in panels.values())))
    if len(there) > pictures:
        there = [there[round(k)] for k in np.linspace(0, len(there) - 1, pictures)]
    with matplotlib.rc_context(LOOK):
        counts = replica_counts(panels.values())
        legend = _legend(panels.values(), colors, counts)
        figure, cells = grid(runs, names, legend, {(run, name) for run in runs for name in names} - set(panels))
        moving = []
        for key, both in panels.items():
            name = title_of(rows, key[1], key[0] if len(runs) > 1 else "", replica_note(both, counts))
            moving.append(_Dots(cells[key], both, colors, name))
        _finish(cells.values(), panels.values(), unit)
    made = Film(figure, tuple(there), tuple(moving), tuple(colors.values()))
    made.at(there[-1])
    return made


def animate(frame: pd.DataFrame, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write the film of a frame to a .gif file, or to an .html file with a slider.

    Args:
        frame: Measurements (`records.COLUMNS`, in nats).
        path: The file.
        options: The options of `film`.

    Returns:
        The path.

    Raises:
        InfoplaneError: If the file has another ending or cannot be written, or the frame does not
            hold what was asked for.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> recorder = ip.Recorder(model, (x, (x[:, 0] > 0).long()), estimators=["binning"])
        >>> tables = [recorder.snapshot(epoch) for epoch in (0, 1)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = ip.plot.animate(recorder.frame(), Path(folder) / "plane.html")
        ...     page.read_text().splitlines()[0]
        '<!doctype html>'
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
    side: str = "mid",
) -> Figure:
    """Draw the planes of some epochs side by side, with one dot per replica as in `film`.

    There is one panel per epoch, and one row of panels per run.

    Args:
        frame: Measurements (`records.COLUMNS`, in nats).
        epochs: The epochs to draw; by default the first, the middle and the last.
        estimator: The estimator to draw; it must be given if there are several.
        x: The quantity along x; for Echo layers, I(X;T) stands for I(Z;X).
        y: The quantity along y; for Echo layers, I(T;Y) stands for I(Z;Y).
        unit: "bits" or "nats".
        layers: The names of the layers to draw; all by default.
        side: The value that stands for a bracket: "mid", "lower" or "upper".

    Returns:
        The figure.

    Raises:
        InfoplaneError: If the frame does not hold what was asked for, or has several estimators
            and none is chosen.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> recorder = ip.Recorder(model, (x, (x[:, 0] > 0).long()), estimators=["binning"])
        >>> tables = [recorder.snapshot(epoch) for epoch in (0, 1, 2)]
        >>> figure = ip.plot.dots(recorder.frame(), epochs=(0, 2))
        >>> [ax.get_title(loc="left").splitlines()[-1] for ax in figure.axes]
        ['epoch 0', 'epoch 2']

    References:
        Shwartz-Ziv & Tishby, Opening the black box of deep neural networks via information, 2017,
        figure 2.
    """
    table, rows, colors = _table(frame, unit, estimator, layers, epochs, side)
    panels = panels_of(table, x, y)
    names = list(dict.fromkeys(name for _, name in panels))
    if len(names) > 1:
        raise InfoplaneError(
            f"There are {len(names)} estimators to draw; choose one with estimator= ({', '.join(names)})."
        )
    runs = [run for run, _ in panels]
    there = sorted(set(table["epoch"]))
    shown = list(epochs) if epochs is not None else sorted({there[0], there[len(there) // 2], there[-1]})
    with matplotlib.rc_context(LOOK):
        counts = replica_counts(panels.values())
        legend = _legend(panels.values(), colors, counts)
        figure, cells = grid(runs, [str(epoch) for epoch in shown], legend)
        for (run, name), both in panels.items():
            for epoch in shown:
                first = title_of(rows, name, run if len(runs) > 1 else "", replica_note(both, counts))
                title = first if epoch == shown[0] else ""
                _Dots(cells[run, str(epoch)], both, colors, title).at(epoch)
        _finish(cells.values(), [both for both in panels.values() for _ in shown], unit)
        return figure


def _table(
    frame: pd.DataFrame,
    unit: str,
    estimator: str | None,
    layers: Iterable[str] | None,
    epochs: Iterable[int] | None,
    side: str,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    colors = layer_colors(layers_of(frame)) if "layer" in frame else {}
    rows = chosen(frame, unit=unit, estimator=estimator, layers=layers, epochs=epochs)
    return points(rows, side), rows, colors


def _finish(axes: Iterable[Axes], panels: Iterable[pd.DataFrame], unit: str) -> None:
    axes = list(axes)
    # last, because it fixes the limits that the panels share
    for ax, both in zip(axes, panels, strict=True):
        label_axes(ax, both, unit)
    label_once(axes)


def _standings(both: pd.DataFrame) -> list[tuple[str, bool]]:
    """Return the standing of each point along x, and whether either of its numbers is warned."""
    warned = both["warned_x"].astype(bool) | both["warned_y"].astype(bool)
    return list(zip(both["standing_x"], warned, strict=True))


def _legend(panels: Iterable[pd.DataFrame], colors: dict[str, Any], counts: Sequence[int]) -> Legend:
    every = pd.concat(list(panels), ignore_index=True)
    legend = Legend().names(colors, set(every["layer"]), markers=dict.fromkeys(colors, "o"))
    # the dots are too small for the mark of an exact number with a warning, a dot in a circle
    drawn = [(standing if not warned else "upper", warned) for standing, warned in _standings(every)]
    exact = every.loc[every["standing_x"] == "exact", "quantity_x"]
    legend.standings(drawn, ", ".join(map(symbol, dict.fromkeys(exact))), arrows="")
    return legend.text(with_count("one dot per layer and replica", counts))


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
    """Return a page with a slider and its pictures; it needs no other file and no network."""
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
