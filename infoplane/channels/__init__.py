"""Noisy layers whose information is known: Echo, Gaussian noise and dropout, and their certificates."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
