"""Linear networks on Gaussian data: the information plane in closed form.

    x ~ N(0, S_x)
    y = W_o x + o,           o ~ N(0, s_o^2 I)
    T = W x + b + noise,     noise ~ N(0, s^2 I)

The noise of T makes I(T;X) finite; it is not part of the network. All information is in nats.

References:
    Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018, section 3 and
    appendix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InfoplaneError

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int

__all__ = [
    "LinearTask",
    "generalisation_error",
    "input_information",
    "label_ceiling",
    "label_information",
    "subset_information",
]


@dataclass(frozen=True)
class LinearTask:
    """The law of a linear teacher with Gaussian inputs.

    Args:
        covariance: The covariance S_x of the inputs, (D, D).
        teacher: The weights W_o of the teacher, (O, D).
        label_noise: The variance s_o^2 of the noise of the label.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> task = ip.theory.LinearTask(torch.eye(3), torch.ones(1, 3), label_noise=1.0)
        >>> round(float(ip.theory.linear.label_ceiling(task)), 4)
        0.6931
    """

    covariance: Float[Tensor, "D D"]
    teacher: Float[Tensor, "O D"]
    label_noise: float


def input_information(
    w: Float[Tensor, "*R K D"], covariance: Float[Tensor, "D D"], noise_variance: float
) -> Float64[Tensor, "*R"]:
    """Compute I(T;X) = 1/2 ln |W S_x W' + s^2 I| - 1/2 ln |s^2 I|.

    Args:
        w: The linear map W from the inputs to the layer, (..., K, D).
        covariance: The covariance S_x of the inputs, (D, D).
        noise_variance: The variance s^2 of the noise of the layer.

    Returns:
        I(T;X), (...), in nats.

    Raises:
        InfoplaneError: If the shapes do not match, or the noise variance is not positive.

    Example:
        >>> import torch
        >>> from infoplane.theory import linear
        >>> round(float(linear.input_information(torch.eye(2), torch.eye(2), 1.0)), 4)
        0.6931
    """
    w, covariance = _double(w, covariance, noise_variance)
    return 0.5 * _logdet_one_plus(w @ covariance @ w.mT / noise_variance)


def label_information(w: Float[Tensor, "*R K D"], task: LinearTask, noise_variance: float) -> Float64[Tensor, "*R"]:
    """Compute I(T;Y) of the noisy layer and the noisy label.

        I(T;Y) = 1/2 ln |S_T| + 1/2 ln |S_Y| - 1/2 ln |S_TY| = -1/2 ln |I - S_T^-1 C S_Y^-1 C'|

    Here C = W S_x W_o' is the cross-covariance. The second form is the one computed, because it
    loses no digits when the information is small.

    Args:
        w: The linear map W from the inputs to the layer, (..., K, D).
        task: The law of the inputs and the label; its label noise must be positive.
        noise_variance: The variance s^2 of the noise of the layer.

    Returns:
        I(T;Y), (...), in nats.

    Raises:
        InfoplaneError: If the shapes do not match, or one of the two noise variances is not
            positive.

    Example:
        >>> import torch
        >>> from infoplane.theory import linear
        >>> task = linear.LinearTask(torch.eye(2), torch.ones(1, 2), label_noise=1.0)
        >>> round(float(linear.label_information(torch.eye(2), task, 1.0)), 4)
        0.2027
    """
    w, covariance = _double(w, task.covariance, noise_variance)
    teacher = task.teacher.double()
    if not task.label_noise > 0.0:
        raise InfoplaneError(
            f"label_information: label_noise is {task.label_noise}; expected a positive variance, because I(T;Y) needs "
            "a label with a density."
        )
    s_t = w @ covariance @ w.mT + noise_variance * _eye(w)
    s_y = teacher @ covariance @ teacher.mT + task.label_noise * _eye(teacher)
    cross = w @ covariance @ teacher.mT
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(s_t), cross, upper=False)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(s_y), half.mT, upper=False)
    return -0.5 * _logdet_one_plus(-(half @ half.mT))


def label_ceiling(task: LinearTask) -> Float64[Tensor, ""]:
    """Compute I(X;Y) = 1/2 ln |I + W_o S_x W_o' / s_o^2|, which no layer can exceed.

    Args:
        task: The law of the inputs and the label; its label noise must be positive.

    Returns:
        I(X;Y), a scalar, in nats.
    """
    return input_information(task.teacher, task.covariance, task.label_noise)


def subset_information(
    w: Float[Tensor, "*R K D"], covariance: Float[Tensor, "D D"], noise_variance: float, inputs: Int[Tensor, " S"]
) -> Float64[Tensor, "*R"]:
    """Compute I(T;X_S) of a subset S of the inputs.

        I(T;X_S) = 1/2 ln |S_T| - 1/2 ln |W_r C W_r' + s^2 I|

    Here r are the other inputs, and C is their covariance given X_S.

    Args:
        w: The linear map W from the inputs to the layer, (..., K, D).
        covariance: The covariance S_x of the inputs, (D, D).
        noise_variance: The variance s^2 of the noise of the layer.
        inputs: The indices of the inputs in S, (S,).

    Returns:
        I(T;X_S), (...), in nats.

    Raises:
        InfoplaneError: If the shapes do not match, or the noise variance is not positive.
    """
    w, covariance = _double(w, covariance, noise_variance)
    rest = torch.ones(len(covariance), dtype=torch.bool, device=covariance.device)
    rest[inputs] = False
    known, other = covariance[inputs][:, inputs], covariance[rest]
    cross = other[:, inputs]
    given = other[:, rest] - cross @ torch.linalg.solve(known, cross.mT)
    w_r = w[..., rest]
    whole = _logdet_one_plus(w @ covariance @ w.mT / noise_variance)
    return 0.5 * (whole - _logdet_one_plus(w_r @ given @ w_r.mT / noise_variance))


def generalisation_error(total: Float[Tensor, "*R O D"], task: LinearTask) -> Float64[Tensor, "*R"]:
    """Compute the expected squared error E |y - V x|^2 of a student on new points.

    Args:
        total: The total linear map V of the student, (..., O, D).
        task: The law of the inputs and the label.

    Returns:
        The expected squared error, (...).
    """
    off = task.teacher.double() - total.double()
    spread = off @ task.covariance.double() @ off.mT
    return spread.diagonal(dim1=-2, dim2=-1).sum(-1) + off.shape[-2] * task.label_noise


def _double(w: Tensor, covariance: Tensor, noise_variance: float) -> tuple[Tensor, Tensor]:
    if w.dim() < 2 or covariance.shape != (w.shape[-1], w.shape[-1]):
        raise InfoplaneError(
            f"Got a linear map of shape {tuple(w.shape)} and a covariance of shape {tuple(covariance.shape)}; expected "
            "(..., K, D) and (D, D)."
        )
    if not noise_variance > 0.0:
        raise InfoplaneError(
            f"noise_variance is {noise_variance}; expected a positive number, because I(T;X) is infinite without noise."
        )
    return w.double(), covariance.double()


def _eye(w: Tensor) -> Tensor:
    return torch.eye(w.shape[-2], dtype=torch.float64, device=w.device)


def _logdet_one_plus(m: Tensor) -> Tensor:
    """Return ln |I + M| for a symmetric M > -I.

    It is computed from the eigenvalues, so that a small M loses no digits.
    """
    values: Tensor = torch.linalg.eigvalsh(m)
    return values.clamp(min=-1.0).log1p().sum(-1)
