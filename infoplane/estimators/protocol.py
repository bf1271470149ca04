"""What the Recorder gives an estimator, what it wants back, and what an estimator says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..records import Estimate

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["About", "Estimator", "Noise", "Reading"]


@dataclass(frozen=True, slots=True)
class About:
    """What `infoplane estimators` says of one. cost: time in the N points and D units of a layer."""

    quantity: str
    standing: str
    conditions: str
    cost: str
    source: str


@dataclass(frozen=True, slots=True)
class Noise:
    """The channel that a layer is the output of, in the very draw that gave `Reading.codes`: codes = sent + noise.

    kind: "echo", "gaussian" or "dropout", for the column `channel`.
    sent: (R, N, D), what went in.
    std: (R, N, D), where the noise is Gaussian, independent from unit to unit given `sent`; a unit of std 0 passes
        as it is. None where the noise has no known density (Echo).
    quantity: what I(sent; codes) is called: I(Z;X) where `sent` is a function of X, else I(Z2;Z1) or I(Z2;F2).
    resend: k -> (k, R, N, D), `sent` of fresh draws of the noise below; None where `sent` is a function of X.
    scale: (R, N, D), of the noise: `std`, or of an Echo layer the s of z = f + s e, if its S is diagonal.
    """

    kind: str
    sent: Tensor
    std: Tensor | None = None
    quantity: str = "I(Z;X)"
    resend: Callable[[int], Tensor] | None = None
    scale: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a layer gave for the N inputs of the probe, in R replicas.

    layer: its name, for messages.
    codes: (R, N, D), one draw a point; a function of the input where no noise lies below.
    clean: (R, N, D), the mean path, where noise lies at or below the layer; None where `codes` is a function of X.
    draw: k -> (k, R, N, D), fresh noisy replicates of every input; None where `codes` is a function of X.
    affine: () -> (R, D, D_x), the map W where the layer is W x + b of its input and noise-free; gives None, or is
    None, where it is not.
    limits: (low, high), each (R, D), the range over the whole run; None before it is known.
    noise: the channel whose output the layer is; None for any other layer, also above one.
    inputs: (R, N, D_x), the probe itself, flat; None where it is not known.
    seeds: one a replica, of whatever an estimator draws (`replicas.derive` makes others of it).
    population: the probe holds every input there is, each as often as it comes: nothing is a sample.
    """

    layer: str
    codes: Tensor
    clean: Tensor | None = None
    draw: Callable[[int], Tensor] | None = None
    limits: tuple[Tensor, Tensor] | None = None
    affine: Callable[[], Tensor | None] | None = None
    noise: Noise | None = None
    inputs: Tensor | None = None
    seeds: tuple[int, ...] = ()
    population: bool = False

    @property
    def noisy(self) -> bool:
        return self.clean is not None

    @property
    def seed_of(self) -> tuple[int, ...]:
        """A seed for each replica."""
        return self.seeds or tuple(range(len(self.codes)))


@runtime_checkable
class Estimator(Protocol):
    """An estimator for the Recorder: a frozen dataclass that carries its options, which the command line sets by name.

    Those in the registry have a class attribute `about` too, of class About.
    """

    @property
    def name(self) -> str:
        """What stands in the column `estimator`."""

    @property
    def deferred(self) -> bool:
        """True if it needs `Reading.limits`, the range over the whole run, and so a second pass."""

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """The numbers of each replica. labels: (N,) or (R, N), classes as integers; None: no I(T;Y)."""
