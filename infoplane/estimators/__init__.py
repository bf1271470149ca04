"""Estimators of the information in a layer.

Each is a function of tensors, such as `kde_bounds`, and a class that holds its options for the
Recorder, such as `KDE`. `ESTIMATORS` is the registry of the classes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
