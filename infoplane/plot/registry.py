"""The registry of the plots that `infoplane plot NAME` draws."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .animation import FILMS, Film, film
from .certificate import certificate
from .files import FORMATS, save
from .gap import gap
from .gradients import gradients
from .loss import loss
from .plane import plane
from .rates import rates
from .taps import taps

__all__ = ["PLOTS", "Plot"]


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure that `infoplane plot NAME` draws.

    Args:
        draw: Makes a Figure or a Film from frames (in the order of `tables`) and options.
        tables: The names of the tables that the plot needs.
        about: What `infoplane plot --help` says of it.
        save: Writes the result of `draw` to a file.
        formats: The formats of the file; the first one is the default.

    Example:
        >>> import infoplane as ip
        >>> plot = ip.plot.Plot(ip.plot.loss, tables=("metrics",))
        >>> plot.options
        ('unit', 'epochs')
    """

    draw: Callable[..., Any]
    tables: tuple[str, ...]
    about: str = ""
    save: Callable[[Any, Path], Path] = save
    formats: tuple[str, ...] = FORMATS

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the keyword options of `draw`."""
        parameters = inspect.signature(self.draw).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


#: the plots of `infoplane plot`, by name
PLOTS: dict[str, Plot] = {
    "plane": Plot(plane, ("measurements",), "I(T;Y) against I(X;T), or I(Z;Y) against I(Z;X), from epoch to epoch"),
    "rates": Plot(rates, ("measurements",), "exact rates and I(X;T) against epoch"),
    "loss": Plot(loss, ("metrics",), "loss and error against epoch"),
    "gap": Plot(gap, ("measurements", "metrics"), "generalisation gap against information, with rank correlations"),
    "certificate": Plot(certificate, ("certificates",), "why a rate is exact or not: each condition against epoch"),
    "taps": Plot(taps, ("taps",), "rate of Echo taps against cross-entropy or distortion (--echo-mode tap)"),
    "gradients": Plot(
        gradients,
        ("gradients",),
        "mean and standard deviation of gradients over minibatches against epoch (--gradients)",
    ),
    "animation": Plot(
        film,
        ("measurements",),
        "the plane from epoch to epoch, with a dot for every replica: a GIF, or HTML with a slider",
        Film.save,
        FILMS,
    ),
}
