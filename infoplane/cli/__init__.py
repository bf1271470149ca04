"""The commands, a module each. Only what a command needs is loaded, and only when it runs."""

from __future__ import annotations

from . import compare, lists, measure, plot, study, train
from .group import main

__all__ = ["compare", "lists", "main", "measure", "plot", "study", "train"]
