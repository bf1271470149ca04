"""Frames in, figures out; nothing here loads torch.

from infoplane import plot
plot.save(plot.plane(frame), "plane.pdf")
"""

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
        draw: draw(*frames, **options) returns a Figure, or a Film.
        tables: The tables that the frames are.
        save: Writes what `draw` returned.
        formats: The formats of the file; the first one unless another is asked for.
    """

    draw: Callable[..., Any]
    tables: tuple[str, ...]
    save: Callable[[Any, Path], Path] = save
    formats: tuple[str, ...] = FORMATS

    @property
    def options(self) -> tuple[str, ...]:
        """The keywords of `draw`."""
        parameters = inspect.signature(self.draw).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


#: the plots, by name
PLOTS: dict[str, Plot] = {
    "plane": Plot(plane, ("measurements",)),
    "rates": Plot(rates, ("measurements",)),
    "loss": Plot(loss, ("metrics",)),
    "gap": Plot(gap, ("measurements", "metrics")),
    "certificate": Plot(certificate, ("certificates",)),
    "taps": Plot(taps, ("taps",)),
    "gradients": Plot(gradients, ("gradients",)),
    "animation": Plot(film, ("measurements",), Film.save, FILMS),
}
