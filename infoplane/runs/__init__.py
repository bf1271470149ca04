"""Runs: settings, training, the run directory, sweeps, and measuring what exists already."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
