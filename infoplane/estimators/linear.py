"""Linear layers of Gaussian inputs: I(X;T) and I(T;Y) in closed form, with no sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..errors import InfoplaneError
from ..records import POPULATION, Estimate
from ..theory.linear import LinearTask, input_information, label_ceiling, label_information
from .inputs import is_positive, number
from .protocol import About, Estimator, Reading

__all__ = ["LinearGaussian"]

#: what the map that is read off, in double precision, can be wrong by, in nats
#: (tests/estimators/test_linear.py)
_ERROR = 1e-9


@dataclass(frozen=True)
class LinearGaussian(Estimator):
    """The information of T = W x + b + N(0, noise_variance I) under a known Gaussian law of x, exact for it.

    W is read off the network; a layer that is not an affine function of its input has NaN and the warning not-linear.
    Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018, section 3 (noise variance 1).

    law: of x and y; a data set with a known law gives it (student-teacher).
    """

    noise_variance: float = 1.0
    law: LinearTask | None = field(default=None, repr=False)

    name = "linear"
    about = About(
        quantity="I(X;T), I(T;Y)",
        standing="exact for the population, through Gaussian noise",
        conditions="a layer that is an affine function of its input, and inputs of a known Gaussian law (data set "
        "student-teacher); the noise is of each layer alone, so layers need not keep the data-processing order",
        cost="D^3",
        source="Saxe et al., ICLR 2018",
    )

    def __post_init__(self) -> None:
        if not is_positive(self.noise_variance):
            raise InfoplaneError(f"LinearGaussian: noise_variance={self.noise_variance!r}; expected a positive number.")

    def bind(self, law: LinearTask | None) -> LinearGaussian:
        """Return the same estimator with the law of a task, unless it has one already.

        Args:
            law: The law of the task; None if it is not known.

        Returns:
            An estimator that knows its law.

        Raises:
            InfoplaneError: Neither it nor the task has a law.
        """
        return replace(self, law=self._law(law))

    def _law(self, law: LinearTask | None) -> LinearTask:
        law = self.law or law
        if law is None:
            raise InfoplaneError(
                "The estimator linear needs inputs whose law is known to be Gaussian; expected the data set "
                "student-teacher, or in Python LinearGaussian(law=LinearTask(...))."
            )
        return law

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """I(X;T) and I(T;Y) of each replica, in nats; `labels` are not looked at, for the law knows Y."""
        law = self._law(None)
        common = Estimate(
            quantity="I(X;T)",
            value=math.nan,
            standing="estimate",
            channel=f"noise of variance {number(self.noise_variance)}",
            estimator=self.name,
            params=f"noise_variance={number(self.noise_variance)}",
            law=POPULATION,
            warnings=("not-linear",),
        )
        w = None if reading.affine is None else reading.affine()
        if w is None:
            return [[common, replace(common, quantity="I(T;Y)")] for _ in reading.codes]
        w = w.cpu()
        of_input = input_information(w, law.covariance, self.noise_variance)
        of_label = label_information(w, law, self.noise_variance)
        exact = replace(common, standing="exact", stderr=0.0, error=_ERROR, warnings=())
        ceiling = float(label_ceiling(law))
        return [
            [replace(exact, value=float(x)), replace(exact, quantity="I(T;Y)", value=float(y), ceiling=ceiling)]
            for x, y in zip(of_input, of_label, strict=True)
        ]
