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
    from .analysis.means import fall_from_peak as fall_from_peak
    from .analysis.means import mean_over_replicas as mean_over_replicas
    from .calibration import calibrate as calibrate
    from .channels.bank import Bank as Bank
    from .channels.certificate import Certificate as Certificate
    from .channels.echo import echo as echo
    from .channels.echo import echo_noise as echo_noise
    from .channels.echo import stationary_moments as stationary_moments
    from .channels.gaussian import Dropout as Dropout
    from .channels.gaussian import Gaussian as Gaussian
    from .channels.gaussian import mean_field_bound as mean_field_bound
    from .channels.insertion import insert_channel as insert_channel
    from .channels.insertion import insert_echo as insert_echo
    from .channels.layer import Echo as Echo
    from .channels.models import rate as rate
    from .channels.stack import fill_banks as fill_banks
    from .data.icosahedron import icosahedron as icosahedron
    from .data.icosahedron import icosahedron_law as icosahedron_law
    from .errors import InfoplaneError as InfoplaneError
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
    from .nn.networks import CNN as CNN
    from .nn.networks import MLP as MLP
    from .nn.networks import initialise as initialise
    from .recording.gradients import gradient_statistics as gradient_statistics
    from .recording.hooks import TapError as TapError
    from .recording.hooks import Taps as Taps
    from .recording.recorder import NonFiniteWarning as NonFiniteWarning
    from .recording.recorder import Recorder as Recorder
    from .records import Measurement as Measurement
    from .runs.directory import RunDir as RunDir
    from .runs.settings import Settings as Settings
    from .runs.sweep import Sweep as Sweep
    from .runs.sweep import train_all as train_all
    from .runs.training import DivergedError as DivergedError
    from .runs.training import train as train
    from .theory.bottleneck import InformationCurve as InformationCurve
    from .theory.bottleneck import information_curve as information_curve
    from .theory.bottleneck import partition_information as partition_information
    from .warning_codes import WARNINGS as WARNINGS

_HOME = {
    "Bank": "channels.bank",
    "Binning": "estimators",
    "CNN": "nn.networks",
    "Certificate": "channels.certificate",
    "Counting": "estimators",
    "Decoder": "estimators",
    "DivergedError": "runs.training",
    "Dropout": "channels.gaussian",
    "Echo": "channels.layer",
    "Gaussian": "channels.gaussian",
    "InfoNCE": "estimators",
    "InfoplaneError": "errors",
    "InformationCurve": "theory.bottleneck",
    "KDE": "estimators",
    "KSG": "estimators",
    "LinearGaussian": "estimators",
    "MLP": "nn.networks",
    "MeanField": "estimators",
    "Measurement": "records",
    "Mixture": "estimators",
    "NWJ": "estimators",
    "NonFiniteWarning": "recording.recorder",
    "Recorder": "recording.recorder",
    "Renyi": "estimators",
    "Ross": "estimators",
    "RunDir": "runs.directory",
    "SMILE": "estimators",
    "Settings": "runs.settings",
    "Sweep": "runs.sweep",
    "Tap": "estimators",
    "TapError": "recording.hooks",
    "Taps": "recording.hooks",
    "WARNINGS": "warning_codes",
    "binned_entropy": "estimators",
    "calibrate": "calibration",
    "cell_numbers": "estimators",
    "corrected_entropy": "estimators",
    "counted_information": "estimators",
    "decoder_information": "estimators",
    "echo": "channels.echo",
    "echo_noise": "channels.echo",
    "fall_from_peak": "analysis.means",
    "fill_banks": "channels.stack",
    "gradient_statistics": "recording.gradients",
    "icosahedron": "data.icosahedron",
    "icosahedron_law": "data.icosahedron",
    "infonce": "estimators",
    "information_curve": "theory.bottleneck",
    "initialise": "nn.networks",
    "insert_channel": "channels.insertion",
    "insert_echo": "channels.insertion",
    "kde_bounds": "estimators",
    "ksg_information": "estimators",
    "mean_field_bound": "channels.gaussian",
    "mean_over_replicas": "analysis.means",
    "mixture_information": "estimators",
    "nwj": "estimators",
    "partition_information": "theory.bottleneck",
    "rate": "channels.models",
    "renyi_information": "estimators",
    "ross_information": "estimators",
    "smile": "estimators",
    "stationary_moments": "channels.echo",
    "train": "runs.training",
    "train_all": "runs.sweep",
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
