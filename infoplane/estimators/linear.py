"""Compute I(X;T) and I(T;Y) of linear layers of Gaussian inputs in closed form."""

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

#: A bound on the error in nats that rounding in the map makes, which is read in double precision
#: (tests/estimators/test_linear.py).
_ERROR = 1e-9


@dataclass(frozen=True)
class LinearGaussian(Estimator):
    """Compute the exact information of a linear layer for the Recorder.

    The layer is T = W x + b + N(0, noise_variance I), and x has a known Gaussian law. W is read
    from the network; a layer that is not an affine function of its input gets NaN and the warning
    not-linear. Saxe et al. use a noise variance of 1.

    Args:
        noise_variance: The variance of the noise that is added to the layer.
        law: The law of x and y. A data set with a known law provides it (student-teacher).

    Raises:
        InfoplaneError: If the noise variance is not a finite number above 0.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> law = ip.theory.LinearTask(torch.eye(2), teacher=torch.ones(1, 2), label_noise=1.0)
        >>> w = torch.tensor([[[1.0, 0.0]]])
        >>> x = torch.randn(1, 50, 2, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=x @ w.mT, affine=lambda: w)
        >>> estimator = ip.estimators.LinearGaussian(law=law)
        >>> [[of_input, of_label]] = estimator.measure(reading, labels=None)
        >>> of_input.standing, round(of_input.value, 4), of_label.value < of_input.value
        ('exact', 0.3466, True)

    References:
        Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018.
    """

    noise_variance: float = 1.0
    law: LinearTask | None = field(default=None, repr=False)

    name = "linear"
    about = About(
        quantity="It measures I(X;T) and I(T;Y).",
        standing="The numbers are exact for the population through Gaussian noise.",
        conditions="It needs a layer that is an affine function of its input, and inputs with a known Gaussian law "
        "(data set student-teacher). Each layer has its own noise, so the values need not follow the data-processing "
        "order from layer to layer.",
        cost="The time grows with D^3.",
        source="Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018.",
    )

    def __post_init__(self) -> None:
        if not is_positive(self.noise_variance):
            raise InfoplaneError(
                f"LinearGaussian: noise_variance={self.noise_variance!r}; expected a finite number above 0."
            )

    def bind(self, law: LinearTask | None) -> LinearGaussian:
        """Return the same estimator with the law of a task, unless it already has one.

        Args:
            law: The law of the task; None if it is not known.

        Returns:
            An estimator that knows its law.

        Raises:
            InfoplaneError: If neither it nor the task has a law.
        """
        return replace(self, law=self._law(law))

    def _law(self, law: LinearTask | None) -> LinearTask:
        """Choose between the estimator's own law and that of a task."""
        law = self.law or law
        if law is None:
            raise InfoplaneError(
                "The estimator linear needs inputs with a known Gaussian law; expected the data set "
                "student-teacher, or in Python LinearGaussian(law=LinearTask(...))."
            )
        return law

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Compute I(X;T) and I(T;Y) of each replica.

        Args:
            reading: The values of the layer, with its affine map.
            labels: Not used, because the law describes Y.

        Returns:
            A list per replica of its two numbers, in nats.

        Raises:
            InfoplaneError: If the law is not known.
        """
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
