"""Networks of many replicas computed side by side, their activations and their quantisation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
