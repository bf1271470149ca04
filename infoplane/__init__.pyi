from . import analysis as analysis
from . import calibration as calibration
from . import channels as channels
from . import data as data
from . import estimators as estimators
from . import nn as nn
from . import plot as plot
from . import recording as recording
from . import runs as runs
from . import theory as theory
from .channels.insertion import insert_echo as insert_echo
from .channels.layer import Echo as Echo
from .channels.models import rate as rate
from .channels.stack import fill_banks as fill_banks
from .errors import InfoplaneError as InfoplaneError
from .nn.networks import CNN as CNN
from .nn.networks import MLP as MLP
from .recording.hooks import Trace as Trace
from .recording.recorder import Recorder as Recorder
from .records import Measurement as Measurement
from .runs.directory import RunDir as RunDir
from .runs.settings import Settings as Settings
from .runs.sweep import Sweep as Sweep
from .runs.sweep import train_all as train_all
from .runs.training import train as train
from .warning_codes import WARNINGS as WARNINGS

__version__: str
