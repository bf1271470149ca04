"""Data sets: the registry, the 12-bit task and its law, files and images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
