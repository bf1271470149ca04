"""Data sets: a registry, the 12-bit task and its law, images, and points from files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
