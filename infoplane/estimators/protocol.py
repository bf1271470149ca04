"""What the Recorder gives an estimator, and what it wants back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..records import Estimate

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Estimator", "Reading"]


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
    """

    layer: str
    codes: Tensor
    clean: Tensor | None = None
    draw: Callable[[int], Tensor] | None = None
    limits: tuple[Tensor, Tensor] | None = None
    affine: Callable[[], Tensor | None] | None = None

    @property
    def noisy(self) -> bool:
        return self.clean is not None


@runtime_checkable
class Estimator(Protocol):
    """An estimator for the Recorder: a frozen dataclass that carries its options."""

    @property
    def name(self) -> str:
        """What stands in the column `estimator`."""

    @property
    def deferred(self) -> bool:
        """True if it needs `Reading.limits`, the range over the whole run, and so a second pass."""

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """The numbers of each replica. labels: (N,) or (R, N), classes as integers; None: no I(T;Y)."""
