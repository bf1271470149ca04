"""Frames in, figures out; nothing here loads torch.

from infoplane import plot
plot.save(plot.plane(frame), "plane.pdf")
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
