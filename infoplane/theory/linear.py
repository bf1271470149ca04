"""Linear networks on Gaussian data: the information plane in closed form.

    x ~ N(0, S_x),   y = W_o x + o,  o ~ N(0, s_o^2 I),   T = W x + b + N(0, s^2 I)

The noise of T makes I(T;X) finite; it is no part of the network. Saxe et al., On the information bottleneck theory of
deep learning, ICLR 2018, section 3 and appendix. All information in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InfoplaneError

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
    """The law of a linear teacher: covariance S_x (D, D), teacher W_o (O, D), label_noise, the variance s_o^2."""

    covariance: Tensor
    teacher: Tensor
    label_noise: float


def input_information(w: Tensor, covariance: Tensor, noise_variance: float) -> Tensor:
    """I(T;X) = 1/2 ln |W S_x W' + s^2 I| - 1/2 ln |s^2 I|, (...), for w (..., K, D), covariance (D, D); nats."""
    w, covariance = _double(w, covariance, noise_variance)
    return 0.5 * _logdet_one_plus(w @ covariance @ w.mT / noise_variance)


def label_information(w: Tensor, task: LinearTask, noise_variance: float) -> Tensor:
    """I(T;Y) of the noisy layer and the noisy label, (...), for w (..., K, D); nats.

    1/2 ln |S_T| + 1/2 ln |S_Y| - 1/2 ln |S_TY|, as -1/2 ln |I - S_T^-1 C S_Y^-1 C'| with the cross-covariance
    C = W S_x W_o', which loses no digits where the information is small. S_Y must be invertible: s_o^2 > 0.
    """
    w, covariance = _double(w, task.covariance, noise_variance)
    teacher = task.teacher.double()
    if not task.label_noise > 0.0:
        raise InfoplaneError("label_information: the label has no noise, so I(T;Y) has no density to be taken of.")
    s_t = w @ covariance @ w.mT + noise_variance * _eye(w)
    s_y = teacher @ covariance @ teacher.mT + task.label_noise * _eye(teacher)
    cross = w @ covariance @ teacher.mT
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(s_t), cross, upper=False)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(s_y), half.mT, upper=False)
    return -0.5 * _logdet_one_plus(-(half @ half.mT))


def label_ceiling(task: LinearTask) -> Tensor:
    """I(X;Y) = 1/2 ln |I + W_o S_x W_o' / s_o^2|, what no layer can exceed; nats."""
    return input_information(task.teacher, task.covariance, task.label_noise)


def subset_information(w: Tensor, covariance: Tensor, noise_variance: float, inputs: Tensor) -> Tensor:
    """I(T;X_S) of some of the inputs, (...), for w (..., K, D) and the indices `inputs`; nats.

    1/2 ln |S_T| - 1/2 ln |W_r C W_r' + s^2 I|, r the other inputs and C their covariance given X_S.
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


def generalisation_error(total: Tensor, task: LinearTask) -> Tensor:
    """E |y - V x|^2 over new points, (...), for the total map V (..., O, D) of the student."""
    off = task.teacher.double() - total.double()
    spread = off @ task.covariance.double() @ off.mT
    return spread.diagonal(dim1=-2, dim2=-1).sum(-1) + off.shape[-2] * task.label_noise


def _double(w: Tensor, covariance: Tensor, noise_variance: float) -> tuple[Tensor, Tensor]:
    if w.dim() < 2 or covariance.shape != (w.shape[-1], w.shape[-1]):
        raise InfoplaneError(
            f"A linear map of shape {tuple(w.shape)} for inputs of covariance {tuple(covariance.shape)}; expected "
            "(..., K, D) and (D, D)."
        )
    if not noise_variance > 0.0:
        raise InfoplaneError(
            f"noise_variance is {noise_variance}; expected a positive number: without noise I(T;X) is infinite."
        )
    return w.double(), covariance.double()


def _eye(w: Tensor) -> Tensor:
    return torch.eye(w.shape[-2], dtype=torch.float64, device=w.device)


def _logdet_one_plus(m: Tensor) -> Tensor:
    """ln |I + M| for symmetric M > -I, from the eigenvalues, so that a small M loses no digits."""
    values: Tensor = torch.linalg.eigvalsh(m)
    return values.clamp(min=-1.0).log1p().sum(-1)
