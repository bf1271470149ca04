"""The inputs on which a network is measured, and what is known about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import InfoplaneError

if TYPE_CHECKING:
    from jaxtyping import Int64, Shaped

__all__ = ["Probe", "unmoved"]


@dataclass(frozen=True, eq=False)
class Probe:
    """A fixed set of inputs, their labels, and what is known about their law.

    Args:
        x: Inputs (N, ...), or (R, N, ...) if each of R replicas has its own inputs.
        y: Classes counted from 0, (N,) or (R, N). Without them there is no I(T;Y).
        name: The text in the column `probe`.
        population: Whether the probe holds every input that exists, in the right proportions, so
            that it is no sample (as in the 12-bit task).
        law: Inputs whose law the echoes follow, (M, ...). By default this is the probe itself,
            which exact rates need.
        readable: Whether `x` holds the inputs themselves, so that estimators may look at them.
            False if it holds only the row numbers of saved activations.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> probe = ip.recording.Probe(torch.zeros(100, 3), torch.arange(100) % 2, name="test")
        >>> len(probe)
        100
    """

    x: Shaped[Tensor, "*axes"]
    y: Shaped[Tensor, "*#R N"] | None = None
    name: str = "all"
    population: bool = False
    law: Shaped[Tensor, "*law_axes"] | None = None
    readable: bool = True

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, given: Any) -> Probe:
        """Make a probe of whatever holds inputs, without advancing any random stream of torch.

        Args:
            given: A tensor x, a pair (x, y) of tensors, a Dataset or a DataLoader. A probe is
                returned as it is.

        Raises:
            InfoplaneError: For anything else, and for a loader without a batch.
        """
        if isinstance(given, Probe):
            return given
        if isinstance(given, Tensor):
            return cls(given)
        if isinstance(given, tuple | list) and len(given) in (1, 2) and all(isinstance(t, Tensor) for t in given):
            return cls(*given)
        if isinstance(given, Dataset) and not isinstance(given, DataLoader):
            given = DataLoader(given, batch_size=256)
        if isinstance(given, DataLoader):
            with torch.random.fork_rng(devices=[]), unmoved(given):
                batches = [b if isinstance(b, tuple | list) else (b,) for b in given]
            if not batches:
                raise InfoplaneError("Recorder: the loader of the probe gave no batch; expected at least one.")
            columns = [torch.cat([b[i] for b in batches]) for i in range(min(len(batches[0]), 2))]
            return cls(columns[0], columns[1] if len(columns) == 2 else None)
        raise InfoplaneError(
            f"Recorder: the probe is a {type(given).__name__}; expected (x, y) or x as tensors, a Probe, a Dataset or "
            "a DataLoader."
        )

    def labels(self, replicas: int, n: int, device: torch.device) -> Int64[Tensor, "R N"] | None:
        """Return the labels of each replica, (R, N) int64, or None if there are none.

        Args:
            replicas: R, the number of replicas.
            n: N, the number of inputs.
            device: The device of the labels.

        Raises:
            InfoplaneError: If the labels are not whole numbers from 0, or their shape is another.
        """
        y = self.y
        if y is None:
            return None
        if y.is_floating_point() or y.is_complex() or y.shape not in ((n,), (replicas, n)):
            raise InfoplaneError(
                f"Recorder: labels are {y.dtype} of shape {tuple(y.shape)}; expected whole numbers, ({n},)"
                + (f" or ({replicas}, {n})." if replicas > 1 else ".")
            )
        if int(y.min()) < 0:
            raise InfoplaneError(f"Recorder: a label is {int(y.min())}; expected classes counted from 0.")
        return y.to(device, torch.int64).expand(replicas, n)


@contextmanager
def unmoved(batches: Iterable[Any]) -> Iterator[None]:
    """Restore the generators of a loader afterwards, because it may be the one that trains."""
    sampler = getattr(batches, "sampler", None)
    own = [getattr(each, "generator", None) for each in (batches, sampler)] if isinstance(batches, DataLoader) else []
    before = [(g, g.get_state()) for g in own if g is not None]
    try:
        yield
    finally:
        for generator, state in before:
            generator.set_state(state)
