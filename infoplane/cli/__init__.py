"""The commands, a module each. Only what a command needs is loaded, and only when it runs."""

from __future__ import annotations

from . import lists, measure, plot, train
from .group import main

__all__ = ["lists", "main", "measure", "plot", "train"]
