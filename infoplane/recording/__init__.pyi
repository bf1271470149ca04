from .gradients import Gradient as Gradient
from .gradients import gradient_statistics as gradient_statistics
from .hooks import Trace as Trace
from .hooks import TraceError as TraceError
from .probe import Probe as Probe
from .recorder import NonFiniteWarning as NonFiniteWarning
from .recorder import Recorder as Recorder
