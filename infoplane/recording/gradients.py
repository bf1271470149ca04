"""The gradient of a loss from minibatch to minibatch: the mean and the standard deviation of each weight matrix's.

With the weights held fixed, every minibatch b of the training set has a gradient G_b for each weight matrix W.

    M = mean_b G_b,   S = std_b G_b (element by element, over the number of batches),   snr = |M| / |S|

Norms are Frobenius norms. Shwartz-Ziv & Tishby 2017, https://arxiv.org/abs/1703.00810, figure 4, draw |M| / |W| and
|S| / |W| and call snr > 1 drift and snr < 1 diffusion; Saxe et al. 2018, figures 9, 10, 20 and 21, draw snr.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..channels.channel import Channel
from ..channels.models import modules, trying
from ..errors import InfoplaneError
from ..nn.replicas import ReplicaConv2d, ReplicaLinear
from ..streams import Streams

__all__ = ["Gradient", "gradient_statistics"]


@dataclass(frozen=True)
class Gradient:
    """The mean and the spread of the gradient of one weight matrix over `batches` minibatches; tensors (R,), float64.

    mean_norm: |M|; std_norm: |S|; weight_norm: |W|. Of a mean over few batches some is left of gradients that have
    none: independent ones of mean 0 have an snr of 1 / sqrt(batches - 1).
    """

    batches: int
    mean_norm: Tensor
    std_norm: Tensor
    weight_norm: Tensor

    @property
    def snr(self) -> Tensor:
        """(R,): |M| / |S|; NaN where both are 0."""
        return self.mean_norm / self.std_norm


def gradient_statistics(
    model: nn.Module, loss: Callable[..., Tensor], batches: Iterable[Any], *, streams: Streams | None = None
) -> dict[str, Gradient]:
    """The gradient of each weight matrix of a model, by the name of its module.

    loss: of a batch, a scalar, or (R,) for networks with replicas; it runs the model, in the mode in which it is: for
        gradients of training, `model.train()`. A batch that is a tuple or list is handed over as loss(x, y).
    batches: at least two, all of one size if the mean is to be the gradient of all of them; a loader draws them as it
        does in training.
    streams: of Echo and other noise; None: as in training.

    Weight matrices are the parameters of two or more axes (a convolution's are one matrix), those of noisy layers left
    out; the name is that of the parameter without ".weight". A weight that the loss does not know has gradients of 0.
    Nothing is changed: neither weights, `.grad`, buffers and flags, nor random states and `ip.rate(model)`.
    Raises InfoplaneError for fewer than two batches, and for a model without weight matrices that learn.
    """
    weights = _weights(model)
    if not weights:
        raise InfoplaneError(
            "gradient_statistics: the model has no weight matrix that requires a gradient; expected one at least."
        )
    means = [torch.zeros_like(w, dtype=torch.float64) for w, _ in weights.values()]
    squares = [torch.zeros_like(mean) for mean in means]
    count = 0
    with trying(model, streams):
        for batch in batches:
            value = loss(*batch) if isinstance(batch, tuple | list) else loss(batch)
            found = torch.autograd.grad(value.sum(), [w for w, _ in weights.values()], materialize_grads=True)
            count += 1
            for g, mean, square in zip(found, means, squares, strict=True):
                off = g.double() - mean  # Welford's recurrence: nothing cancels where the spread is small
                mean += off / count
                square += off * (g.double() - mean)
    if count < 2:
        raise InfoplaneError(
            f"gradient_statistics got {count} batch{'es' * (not count)}; expected at least two, for a spread. "
            "Use smaller batches."
        )
    return {
        name: Gradient(
            count, _norm(mean, replicated), _norm((square / count).sqrt(), replicated), _norm(w.detach(), replicated)
        )
        for (name, (w, replicated)), mean, square in zip(weights.items(), means, squares, strict=True)
    }


def _weights(model: nn.Module) -> dict[str, tuple[nn.Parameter, bool]]:
    """The weight matrices by name, and whether they have a replica axis; one that is there twice has its first name."""
    known = modules(model)
    within = tuple(f"{name}." for name, module in known.items() if isinstance(module, Channel))
    found: dict[str, tuple[nn.Parameter, bool]] = {}
    seen: set[nn.Parameter] = set()
    for place, module in known.items():
        replicated = isinstance(module, ReplicaLinear | ReplicaConv2d)
        for name, p in module._parameters.items():
            if p is None or p in seen or not p.requires_grad or p.dim() - replicated < 2 or place.startswith(within):
                continue
            seen.add(p)
            found[f"{place}.{name}".removeprefix(".").removesuffix(".weight")] = p, replicated
    return found


def _norm(t: Tensor, replicated: bool) -> Tensor:
    """(R,): the Frobenius norm of each replica's slice."""
    return torch.stack([part.double().norm() for part in (t if replicated else t.unsqueeze(0))])
