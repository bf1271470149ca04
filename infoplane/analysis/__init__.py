"""Frames of a run in, frames out: means over replicas, falls, gaps and correlations.

Nothing in this package loads torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
