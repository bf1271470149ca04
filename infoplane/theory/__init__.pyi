from . import bottleneck as bottleneck
from . import channels as channels
from . import linear as linear
from .bottleneck import InformationCurve as InformationCurve
from .bottleneck import information_curve as information_curve
from .bottleneck import partition_information as partition_information
from .linear import LinearTask as LinearTask
