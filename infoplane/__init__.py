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
import os
from typing import TYPE_CHECKING, Any

# On some processors MKL rounds by where its operands lie in memory, and a replica would not be bit-equal to the network of
# its seed alone. This costs no time; MKL reads it at its first product, so that it must be set early.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

if TYPE_CHECKING:
    from . import plot as plot
    from .calibration import calibrate as calibrate
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
    from .compression import fall_from_peak as fall_from_peak
    from .compression import mean_over_replicas as mean_over_replicas
    from .data.icosahedron import icosahedron as icosahedron
    from .data.icosahedron import icosahedron_law as icosahedron_law
    from .estimators import KDE as KDE
    from .estimators import KSG as KSG
    from .estimators import NWJ as NWJ
    from .estimators import SMILE as SMILE
    from .estimators import Binning as Binning
    from .estimators import Counting as Counting
    from .estimators import Decoder as Decoder
    from .estimators import InfoNCE as InfoNCE
    from .estimators import LinearGaussian as LinearGaussian
    from .estimators import MeanField as MeanField
    from .estimators import Mixture as Mixture
    from .estimators import Renyi as Renyi
    from .estimators import Ross as Ross
    from .estimators import Tap as Tap
    from .estimators import binned_entropy as binned_entropy
    from .estimators import cell_numbers as cell_numbers
    from .estimators import corrected_entropy as corrected_entropy
    from .estimators import counted_information as counted_information
    from .estimators import decoder_information as decoder_information
    from .estimators import infonce as infonce
    from .estimators import kde_bounds as kde_bounds
    from .estimators import ksg_information as ksg_information
    from .estimators import mixture_information as mixture_information
    from .estimators import nwj as nwj
    from .estimators import renyi_information as renyi_information
    from .estimators import ross_information as ross_information
    from .estimators import smile as smile
    from .gradients import gradient_statistics as gradient_statistics
    from .insertion import insert_channel as insert_channel
    from .insertion import insert_echo as insert_echo
    from .models import rate as rate
    from .networks import CNN as CNN
    from .networks import MLP as MLP
    from .networks import initialise as initialise
    from .recorder import NonFiniteWarning as NonFiniteWarning
    from .recorder import Recorder as Recorder
    from .records import WARNINGS as WARNINGS
    from .records import InfoplaneError as InfoplaneError
    from .records import Measurement as Measurement
    from .rundir import RunDir as RunDir
    from .settings import Settings as Settings
    from .sweep import Sweep as Sweep
    from .sweep import train_all as train_all
    from .taps import TapError as TapError
    from .taps import Taps as Taps
    from .theory.bottleneck import InformationCurve as InformationCurve
    from .theory.bottleneck import information_curve as information_curve
    from .theory.bottleneck import partition_information as partition_information
    from .training import DivergedError as DivergedError
    from .training import train as train

_HOME = {
    "Bank": "channels.bank",
    "Binning": "estimators",
    "CNN": "networks",
    "Certificate": "channels.certificate",
    "Counting": "estimators",
    "Decoder": "estimators",
    "DivergedError": "training",
    "Dropout": "channels.gaussian",
    "Echo": "channels.layer",
    "Gaussian": "channels.gaussian",
    "InfoNCE": "estimators",
    "InfoplaneError": "records",
    "InformationCurve": "theory.bottleneck",
    "KDE": "estimators",
    "KSG": "estimators",
    "LinearGaussian": "estimators",
    "MLP": "networks",
    "MeanField": "estimators",
    "Measurement": "records",
    "Mixture": "estimators",
    "NWJ": "estimators",
    "NonFiniteWarning": "recorder",
    "Recorder": "recorder",
    "Renyi": "estimators",
    "Ross": "estimators",
    "RunDir": "rundir",
    "SMILE": "estimators",
    "Settings": "settings",
    "Sweep": "sweep",
    "Tap": "estimators",
    "TapError": "taps",
    "Taps": "taps",
    "WARNINGS": "records",
    "binned_entropy": "estimators",
    "calibrate": "calibration",
    "cell_numbers": "estimators",
    "corrected_entropy": "estimators",
    "counted_information": "estimators",
    "decoder_information": "estimators",
    "echo": "channels.echo",
    "echo_noise": "channels.echo",
    "fall_from_peak": "compression",
    "fill_banks": "chain",
    "gradient_statistics": "gradients",
    "icosahedron": "data.icosahedron",
    "icosahedron_law": "data.icosahedron",
    "infonce": "estimators",
    "information_curve": "theory.bottleneck",
    "initialise": "networks",
    "insert_channel": "insertion",
    "insert_echo": "insertion",
    "kde_bounds": "estimators",
    "ksg_information": "estimators",
    "mean_field_bound": "channels.gaussian",
    "mean_over_replicas": "compression",
    "mixture_information": "estimators",
    "nwj": "estimators",
    "partition_information": "theory.bottleneck",
    "rate": "models",
    "renyi_information": "estimators",
    "ross_information": "estimators",
    "smile": "estimators",
    "stationary_moments": "channels.echo",
    "train": "training",
    "train_all": "sweep",
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
