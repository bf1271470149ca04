"""Frames in, figures out. Never sees torch.

from infoplane import plot
plot.save(plot.plane(frame), "plane.pdf")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .animation import FILMS, Film, animate, dots, film
from .calibration import calibration, calibration_errors
from .certificate import certificate
from .compare import beside, sweeps
from .correlation import RankCorrelation, correlations, gap_table, rank_correlation
from .gap import gap
from .gradients import gradients
from .loss import loss
from .plane import plane
from .rates import rates
from .runs import between, epochs_range, run_names
from .style import FORMATS, LOOK, in_unit, layer_colors, save
from .taps import taps

__all__ = [
    "LOOK",
    "PLOTS",
    "Plot",
    "RankCorrelation",
    "animate",
    "beside",
    "between",
    "calibration",
    "calibration_errors",
    "certificate",
    "correlations",
    "dots",
    "epochs_range",
    "film",
    "gap",
    "gap_table",
    "gradients",
    "in_unit",
    "layer_colors",
    "loss",
    "plane",
    "rank_correlation",
    "rates",
    "run_names",
    "save",
    "sweeps",
    "taps",
]


@dataclass(frozen=True, slots=True)
class Plot:
    """What `infoplane plot NAME` draws: draw(*frames, **options) gives a Figure, or a Film; tables: the tables the
    frames are; save and formats: how it is written, the first format unless another is asked for."""

    draw: Callable[..., Any]
    tables: tuple[str, ...]
    save: Callable[[Any, Path], Path] = save
    formats: tuple[str, ...] = FORMATS

    @property
    def options(self) -> tuple[str, ...]:
        """The keywords that `draw` takes."""
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
