"""Information-plane analysis of supervised networks, with exact rates from Echo noise.

    import infoplane as ip
    model = ip.insert_echo(model, after=["1", "3"], example=x[:2])
    loss = cross_entropy(model(x), y) + beta * ip.rate(model)
    recorder = ip.Recorder(model, probe=(x, y))
    recorder.snapshot(epoch)
    ip.plot.plane(recorder.frame())

The names are listed once, in `__init__.pyi`, and loaded on first use. Importing the package is
therefore cheap, and torch, pandas and matplotlib are imported only with a name that needs them.
Everything else is in the namespaces: `ip.estimators.KDE`, `ip.channels.Gaussian`,
`ip.analysis.fall_from_peak`.
"""

import os

import lazy_loader

# On some processors the rounding of MKL depends on where its operands lie in memory, and a replica
# would then not be bit-equal to the network of its seed alone. This setting costs no time. MKL
# reads it at its first product, so it must be set early.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
