from .activations import ACTIVATIONS as ACTIVATIONS
from .networks import CNN as CNN
from .networks import INITS as INITS
from .networks import MLP as MLP
from .networks import initialise as initialise
from .quantise import Quantise as Quantise
from .replicas import ReplicaConv2d as ReplicaConv2d
from .replicas import ReplicaLinear as ReplicaLinear
