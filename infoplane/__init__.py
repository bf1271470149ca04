"""infoplane: information-plane analysis of supervised networks, with exact rates from Echo noise.

    import infoplane as ip
    model = ip.insert_echo(model, after=["1", "3"], example=x[:2])
    loss = cross_entropy(model(x), y) + beta * ip.rate(model)
    recorder = ip.Recorder(model, probe=(x, y))
    recorder.snapshot(epoch)
    ip.plot.plane(recorder.frame())

The names are listed once, in `__init__.pyi`, and loaded when they are first used: importing the
package is cheap, and torch, pandas and matplotlib come only with a name that needs them. Everything
else is in the namespaces: `ip.estimators.KDE`, `ip.channels.Gaussian`, `ip.analysis.fall_from_peak`.
"""

import os

import lazy_loader

# On some processors MKL rounds by where its operands lie in memory, and a replica would not be
# bit-equal to the network of its seed alone. This setting costs no time; MKL reads it at its first
# product, so that it must come early.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
