"""Define the contract between the Recorder and an estimator.

A `Reading` is what the Recorder reads from a layer, a `Noise` is the noisy channel that the layer
is the output of, and an `Estimator` turns a reading into numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from ..records import Estimate

if TYPE_CHECKING:
    from ..theory.linear import LinearTask

__all__ = ["About", "Estimator", "Noise", "Reading", "Tables"]

#: Rows of further tables, by the name of the table and then by replica. A row is a dict from the
#: name of a column to its value.
Tables = dict[str, list[list[dict[str, object]]]]


@dataclass(frozen=True, slots=True)
class About:
    """Describe an estimator, in the sentences that `infoplane estimators` prints.

    Args:
        quantity: The information that it measures.
        standing: Whether its numbers are exact, bounds or estimates, and under which law.
        conditions: When its numbers can be trusted.
        cost: The time that it takes, in terms of the N points and D units of a layer.
        source: The papers that it comes from.

    Example:
        >>> import infoplane as ip
        >>> ip.estimators.Binning.about.cost
        'The time grows with N D + N log N.'
    """

    quantity: str
    standing: str
    conditions: str
    cost: str
    source: str


@dataclass(frozen=True, slots=True)
class Noise:
    """Describe the noisy channel whose output a layer is: codes = sent + noise.

    The fields describe the very draw of the noise that gave `Reading.codes`.

    Args:
        kind: The kind of noise, which becomes the column `channel`: "echo", "gaussian" or
            "dropout".
        sent: The input of the channel, (R, N, D).
        std: The standard deviation of the noise, (R, N, D), where the noise is Gaussian and
            independent from unit to unit given `sent`. A unit of standard deviation 0 passes
            unchanged. None where the density of the noise is not known (Echo).
        quantity: The name of I(sent; codes): I(Z;X) where `sent` is a function of X, and otherwise
            I(Z2;Z1) or I(Z2;F2).
        resend: A function that takes k and returns `sent` for k fresh draws of the noise below, (k,
            R, N, D). None where `sent` is a function of X.
        scale: The scale of the noise, (R, N, D): `std`, or the s of z = f + s e for an Echo layer
            whose S is diagonal.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> generator = torch.Generator().manual_seed(0)
        >>> sent = torch.randn(1, 100, 2, generator=generator)
        >>> std = torch.full_like(sent, 0.5)
        >>> codes = sent + std * torch.randn(1, 100, 2, generator=generator)
        >>> noise = ip.estimators.Noise("gaussian", sent, std=std)
        >>> reading = ip.estimators.Reading(layer="fc1.noise", codes=codes, noise=noise)
        >>> [[number]] = ip.estimators.Mixture().measure(reading, labels=None)
        >>> number.quantity, number.channel
        ('I(Z;X)', 'gaussian')
    """

    kind: str
    sent: Tensor
    std: Tensor | None = None
    quantity: str = "I(Z;X)"
    resend: Callable[[int], Tensor] | None = None
    scale: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold the values of a layer for the N inputs of the probe, in R replicas.

    Args:
        layer: The name of the layer, for messages.
        codes: The values of the layer, (R, N, D): one noisy draw per point, or a function of the
            input where no noise lies at or below the layer.
        clean: The values with all noise switched off (the mean path), (R, N, D), where noise lies
            at or below the layer; None where `codes` is a function of X.
        draw: A function that takes k and returns k fresh noisy replicates of every input, (k, R, N,
            D); None where `codes` is a function of X.
        limits: The least and the largest value of each unit over the whole run, (R, D) each; None
            before they are known.
        affine: A function that returns the map W, (R, D, D_x), where the layer is W x + b of its
            input and free of noise. It returns None, or is None, for any other layer.
        noise: The channel whose output the layer is. None for any other layer, including one above
            a noisy layer.
        inputs: The inputs of the probe, flattened, (R, N, D_x); None where they are not known.
        seeds: One seed per replica for whatever an estimator draws at random (`streams.derive`
            makes further seeds from it). Without seeds, replica r has seed r.
        population: Whether the probe holds every possible input, as often as it occurs, so that
            nothing is a sample.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> codes = torch.randn(1, 100, 2, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=codes)
        >>> [[upper, lower]] = ip.estimators.KDE().measure(reading, labels=None)
        >>> upper.side, lower.side, upper.n
        ('upper', 'lower', 100)
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
        """Whether noise lies at or below the layer."""
        return self.clean is not None

    @property
    def seed_of(self) -> tuple[int, ...]:
        """The seed of each replica."""
        return self.seeds or tuple(range(len(self.codes)))


@runtime_checkable
class Estimator(Protocol):
    """Measure a layer for the Recorder.

    An estimator is a frozen dataclass whose fields are its options. To add one, inherit from this
    class and define `name` and `measure`; the other members have defaults that suit most
    estimators. An instance can be passed to the Recorder. An estimator in the registry `ESTIMATORS`
    can also be named on the command line, which sets its fields by name; it then needs a class
    attribute `about`, an `About`.

    Example:
        This estimator measures the entropy of the pattern of active units.

        >>> import math
        >>> from dataclasses import dataclass
        >>> import torch
        >>> import infoplane as ip
        >>> from infoplane.records import Estimate
        >>> @dataclass(frozen=True)
        ... class ActivePattern(ip.estimators.Estimator):
        ...     threshold: float = 0.0
        ...
        ...     name = "active-pattern"
        ...
        ...     def measure(self, reading, labels):
        ...         # At or above noise, I(X;T) is measured with the noise off.
        ...         noisy = reading.clean is not None
        ...         values = []
        ...         for codes in reading.clean if noisy else reading.codes:
        ...             active = codes > self.threshold
        ...             counts = torch.unique(active, dim=0, return_counts=True)[1]
        ...             shares = counts / len(codes)
        ...             values.append(-(shares * shares.log()).sum().item())
        ...         common = Estimate(
        ...             quantity="I(X;T)",
        ...             value=math.nan,
        ...             standing="estimate",
        ...             channel=f"units above {self.threshold}",
        ...             estimator=self.name,
        ...             params=f"threshold={self.threshold}",
        ...             path="noise-off" if noisy else "",
        ...             n=reading.codes.shape[1],
        ...             ceiling=math.log(reading.codes.shape[1]),
        ...             warnings=("noise-off",) if noisy else (),
        ...         )
        ...         return ip.estimators.per_replica(common, len(values), value=values)

        The Recorder takes it like any other estimator. Two units have at most four patterns.

        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
        >>> recorder = ip.Recorder(model, x, layers=["1"], estimators=[ActivePattern(0.1)])
        >>> tables = recorder.snapshot(epoch=0)
        >>> [row] = tables["measurements"]
        >>> row["estimator"], row["params"], 0 <= row["value_nats"] <= math.log(4)
        ('active-pattern', 'threshold=0.1', True)
    """

    #: The name of the estimator in the column `estimator`.
    name: ClassVar[str]

    @property
    def deferred(self) -> bool:
        """Whether the estimator needs `Reading.limits`, and so a second pass over the run."""
        return False

    def bind(self, law: LinearTask | None) -> Estimator:
        """Return the estimator for a task whose inputs have this law.

        Args:
            law: The law of inputs and labels; None if it is not known.

        Returns:
            The estimator itself, unless it depends on the law.

        Raises:
            InfoplaneError: If the estimator needs a law and has none.
        """
        return self

    @abstractmethod
    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Measure one layer.

        Args:
            reading: The values of the layer for the inputs of the probe.
            labels: Classes as integers, (N,) or (R, N). With None, I(T;Y) is not measured.

        Returns:
            A list per replica of its numbers, in nats.

        Raises:
            InfoplaneError: If the reading or the labels do not suit the estimator.
        """

    def measure_with_tables(self, reading: Reading, labels: Tensor | None) -> tuple[list[list[Estimate]], Tables]:
        """Measure one layer, and return rows for further tables as well.

        Args:
            reading: As for `measure`.
            labels: As for `measure`.

        Returns:
            The numbers of each replica, and a dict from the name of a table to the rows of each
            replica.  By default there are no further tables.
        """
        return self.measure(reading, labels), {}
