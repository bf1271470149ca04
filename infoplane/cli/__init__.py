"""The commands, one module per command, each of which loads only what it needs when it runs."""

from __future__ import annotations

from . import compare, lists, measure, plot, study, train
from .group import main

__all__ = ["compare", "lists", "main", "measure", "plot", "study", "train"]
