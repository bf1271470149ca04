"""A linear teacher with Gaussian inputs, whose linear students hold exactly known information.

    x ~ N(0, I / D),   y = W_o x + o,   W_o ~ N(0, 1),   o ~ N(0, 1/5)

The signal has 5 times the variance of the noise.

References:
    A. Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018, section 3
"""

from __future__ import annotations

import torch

from ..errors import InfoplaneError
from ..streams import derive
from ..theory.linear import LinearTask
from .points import Points

__all__ = ["student_teacher"]

_POOL, _TEST = 10_000, 1000


def student_teacher(
    inputs: int = 100,
    outputs: int = 1,
    label_noise: float = 0.2,
    teacher_variance: float = 1.0,
    seed: int = 0,
    irrelevant: int = 0,
) -> Points:
    """Generate a pool of 10 000 points to draw training sets from, 1000 test points, and their law.

    The same seed always gives the same task.

    Args:
        inputs: The number of inputs; x is (11000, inputs).
        outputs: The number of outputs; y is (11000, outputs).
        label_noise: The variance of the noise in y.
        teacher_variance: The variance of the teacher's weights.
        seed: The seed of the teacher, the inputs and the noise.
        irrelevant: The number of inputs, from the last, that have no weight in the teacher. The
            other weights are larger to compensate, so that the signal keeps its variance.

    Raises:
        InfoplaneError: If no input is left.

    Example:
        >>> points = student_teacher(inputs=5)
        >>> tuple(points.x.shape), tuple(points.y.shape), int(points.test.sum())
        ((11000, 5), (11000, 1), 1000)
    """
    if not 0 <= irrelevant < inputs:
        raise InfoplaneError(
            f"student_teacher: irrelevant={irrelevant}, with {inputs} inputs; expected 0 to {inputs - 1}."
        )
    generator = torch.Generator().manual_seed(derive("student-teacher", seed))
    teacher = teacher_variance**0.5 * torch.randn(outputs, inputs, generator=generator)
    if irrelevant:
        teacher[:, inputs - irrelevant :] = 0.0
        teacher *= (inputs / (inputs - irrelevant)) ** 0.5
    x = torch.randn(_POOL + _TEST, inputs, generator=generator) / inputs**0.5
    y = x @ teacher.T + label_noise**0.5 * torch.randn(len(x), outputs, generator=generator)
    law = LinearTask(torch.eye(inputs, dtype=torch.float64) / inputs, teacher, label_noise)
    return Points(x, y, 0, torch.arange(len(x)) >= _POOL, law)
