"""infoplane: information-plane analysis of supervised networks, with exact rates from Echo noise.

    import infoplane as ip
    model = ip.insert_echo(model, after=["1", "3"], example=x[:2])
    loss = cross_entropy(model(x), y) + beta * ip.rate(model)
    recorder = ip.Recorder(model, probe=(x, y))
    recorder.snapshot(epoch)
    ip.plot.plane(recorder.frame())

Importing the package is cheap: torch, pandas and matplotlib are loaded when a name that needs them is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import plot as plot
    from .chain import fill_banks as fill_banks
    from .channels.bank import Bank as Bank
    from .channels.certificate import Certificate as Certificate
    from .channels.echo import echo as echo
    from .channels.echo import echo_noise as echo_noise
    from .channels.echo import stationary_moments as stationary_moments
    from .channels.gaussian import Dropout as Dropout
    from .channels.gaussian import Gaussian as Gaussian
    from .channels.gaussian import mean_field_bound as mean_field_bound
    from .channels.layer import Echo as Echo
    from .data.icosahedron import icosahedron as icosahedron
    from .estimators import KDE as KDE
    from .estimators import Binning as Binning
    from .estimators import binned_entropy as binned_entropy
    from .estimators import kde_bounds as kde_bounds
    from .insertion import insert_channel as insert_channel
    from .insertion import insert_echo as insert_echo
    from .models import rate as rate
    from .networks import MLP as MLP
    from .networks import initialise as initialise
    from .recorder import NonFiniteWarning as NonFiniteWarning
    from .recorder import Recorder as Recorder
    from .records import WARNINGS as WARNINGS
    from .records import InfoplaneError as InfoplaneError
    from .records import Measurement as Measurement
    from .rundir import RunDir as RunDir
    from .settings import Settings as Settings
    from .taps import TapError as TapError
    from .taps import Taps as Taps
    from .training import DivergedError as DivergedError
    from .training import train as train

_HOME = {
    "Bank": "channels.bank",
    "Binning": "estimators",
    "Certificate": "channels.certificate",
    "DivergedError": "training",
    "Dropout": "channels.gaussian",
    "Echo": "channels.layer",
    "Gaussian": "channels.gaussian",
    "InfoplaneError": "records",
    "KDE": "estimators",
    "MLP": "networks",
    "Measurement": "records",
    "NonFiniteWarning": "recorder",
    "Recorder": "recorder",
    "RunDir": "rundir",
    "Settings": "settings",
    "TapError": "taps",
    "Taps": "taps",
    "WARNINGS": "records",
    "binned_entropy": "estimators",
    "echo": "channels.echo",
    "echo_noise": "channels.echo",
    "fill_banks": "chain",
    "icosahedron": "data.icosahedron",
    "initialise": "networks",
    "insert_channel": "insertion",
    "insert_echo": "insertion",
    "kde_bounds": "estimators",
    "mean_field_bound": "channels.gaussian",
    "rate": "models",
    "stationary_moments": "channels.echo",
    "train": "training",
}

__version__ = "0.1.0"
__all__ = ["__version__", "plot", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "plot":
        return importlib.import_module(".plot", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
