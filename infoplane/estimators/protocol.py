"""The contract between the Recorder and an estimator: what is read of a layer and what an estimator gives back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from ..records import Estimate

if TYPE_CHECKING:
    from torch import Tensor

    from ..theory.linear import LinearTask

__all__ = ["About", "Estimator", "Noise", "Reading", "Tables"]

#: Rows of further tables: name of the table -> replica -> rows, each column name -> value.
Tables = dict[str, list[list[dict[str, object]]]]


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
    """An estimator for the Recorder: a frozen dataclass whose fields are its options.

    Inherit from it and give `name` and `measure`; the other members have defaults that suit most estimators. The
    command line sets the options by the names of the fields. Estimators in the registry also have a class attribute
    `about`, an `About`.

    Example:
        >>> from dataclasses import dataclass
        >>> from infoplane.estimators import Estimator, per_replica
        >>> from infoplane.records import Estimate
        >>> @dataclass(frozen=True)
        ... class Zero(Estimator):
        ...     name = "zero"
        ...
        ...     def measure(self, reading, labels):
        ...         zero = Estimate(quantity="I(X;T)", value=0.0, standing="lower", channel="any", estimator=self.name)
        ...         return per_replica(zero, len(reading.codes))
    """

    #: The word in the column `estimator`.
    name: ClassVar[str]

    @property
    def deferred(self) -> bool:
        """Whether it needs `Reading.limits`, the range over the whole run, and so a second pass."""
        return False

    def bind(self, law: LinearTask | None) -> Estimator:
        """Return the estimator for a task whose inputs have this law.

        Args:
            law: The law of inputs and labels; None if it is not known.

        Returns:
            The estimator itself, unless it depends on the law.

        Raises:
            InfoplaneError: The estimator needs a law and has none.
        """
        return self

    @abstractmethod
    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Measure one layer.

        Args:
            reading: What the layer gave for the inputs of the probe.
            labels: Classes as integers, of shape (N,) or (R, N); None if there are none, and then no I(T;Y).

        Returns:
            The numbers of each replica, in nats.
        """

    def measure_with_tables(self, reading: Reading, labels: Tensor | None) -> tuple[list[list[Estimate]], Tables]:
        """Measure one layer, and give what else is known of it, for tables of their own.

        Args:
            reading: As for `measure`.
            labels: As for `measure`.

        Returns:
            The numbers of each replica, and by the name of a table the rows of each replica; no tables by default.
        """
        return self.measure(reading, labels), {}
