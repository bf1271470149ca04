"""Frames of measurements in, axes out. Never sees torch.

from infoplane import plot
plot.save(plot.plane(frame), "plane.pdf")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .plane import plane
from .rates import rates
from .style import in_unit, save

__all__ = ["PLOTS", "in_unit", "plane", "rates", "save"]

#: what `infoplane plot NAME` draws, by name: each takes a frame with `records.COLUMNS` and returns a Figure
PLOTS: dict[str, Callable[..., Any]] = {"plane": plane, "rates": rates}
