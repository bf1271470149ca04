"""How the gradient of a loss varies over minibatches, for every weight matrix of a network.

The weights are held fixed, and every minibatch b of the training set gives a gradient G_b for each
weight matrix W. With Frobenius norms,

    M = mean_b G_b,   S = std_b G_b (element by element, divided by the number of batches),
    snr = |M| / |S|.

Shwartz-Ziv & Tishby (figure 4) draw |M| / |W| and |S| / |W|, and call snr > 1 drift and snr < 1
diffusion. Saxe et al. (figures 9, 10, 20 and 21) draw snr.

References:
    R. Shwartz-Ziv, N. Tishby, Opening the black box of deep neural networks via information, 2017,
    https://arxiv.org/abs/1703.00810
    A. Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..channels.channel import Channel
from ..channels.models import modules, trying
from ..errors import InfoplaneError
from ..nn.replicas import ReplicaConv2d, ReplicaLinear
from ..streams import Streams

if TYPE_CHECKING:
    from jaxtyping import Float64

__all__ = ["Gradient", "gradient_statistics"]


@dataclass(frozen=True)
class Gradient:
    """The mean and the spread of the gradient of one weight matrix over minibatches.

    Few batches leave a mean even of gradients that have none: independent gradients of mean 0 have
    an snr of about 1 / sqrt(batches - 1).

    Args:
        batches: The number of minibatches.
        mean_norm: |M|, (R,), the norm of the mean gradient of each replica.
        std_norm: |S|, (R,), the norm of the standard deviations of its elements.
        weight_norm: |W|, (R,), the norm of the weights.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> ip.recording.Gradient(8, mean_norm=3 * one, std_norm=2 * one, weight_norm=one).snr
        tensor([1.5000], dtype=torch.float64)
    """

    batches: int
    mean_norm: Float64[Tensor, " R"]
    std_norm: Float64[Tensor, " R"]
    weight_norm: Float64[Tensor, " R"]

    @property
    def snr(self) -> Float64[Tensor, " R"]:
        """The ratio |M| / |S|, (R,); NaN if both are 0."""
        return self.mean_norm / self.std_norm


def gradient_statistics(
    model: nn.Module, loss: Callable[..., Tensor], batches: Iterable[Any], *, streams: Streams | None = None
) -> dict[str, Gradient]:
    """Measure the mean and the spread of the gradient of each weight matrix over minibatches.

    Weight matrices are the parameters with two or more axes; the weights of a convolution count as
    one matrix. Those of noisy layers are left out. A weight that the loss does not depend on has a
    gradient of 0. Nothing is changed: neither weights, `.grad`, buffers and flags, nor random
    states and `ip.rate(model)`.

    Args:
        model: The model, in the mode in which its gradients are wanted; for those of training call
            `model.train()` first.
        loss: The loss of a batch, in nats or any other unit: a scalar, or (R,) for a network of R
            replicas. It runs the model. A batch that is a tuple or a list is passed as loss(x, y).
        batches: At least two batches, such as a loader, which draws them as it does in training.
            They must have one size if the mean is to be the gradient of the whole set.
        streams: The random streams of Echo and other noise, one per replica; by default the noise
            is drawn as in training.

    Returns:
        A `Gradient` for each weight matrix. Its name is that of the parameter without ".weight".

    Raises:
        InfoplaneError: For fewer than two batches, and for a model without weight matrices that
            learn.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> model = ip.MLP(3, [4], 2, "tanh")
        >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        >>> y = (x[:, 0] > 0).long()
        >>> batches = list(zip(x.split(16), y.split(16)))
        >>> loss = lambda x, y: torch.nn.functional.cross_entropy(model(x), y)
        >>> found = ip.recording.gradient_statistics(model, loss, batches)
        >>> {name: gradient.batches for name, gradient in found.items()}
        {'hidden1.linear': 4, 'output': 4}
    """
    weights = _weights(model)
    if not weights:
        raise InfoplaneError(
            "gradient_statistics: the model has no weight matrix that requires a gradient; expected at least one."
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
                off = g.double() - mean  # Welford's recurrence does not cancel when the spread is small
                mean += off / count
                square += off * (g.double() - mean)
    if count < 2:
        raise InfoplaneError(
            f"gradient_statistics got {count} batch{'es' * (not count)}; expected at least two, to see a spread. "
            "Use smaller batches."
        )
    return {
        name: Gradient(
            count, _norm(mean, replicated), _norm((square / count).sqrt(), replicated), _norm(w.detach(), replicated)
        )
        for (name, (w, replicated)), mean, square in zip(weights.items(), means, squares, strict=True)
    }


def _weights(model: nn.Module) -> dict[str, tuple[nn.Parameter, bool]]:
    """Return the weight matrices by name, and whether each has a replica axis.

    A shared matrix has the name under which it comes first.
    """
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
    """Return the Frobenius norm of each replica's slice, (R,)."""
    return torch.stack([part.double().norm() for part in (t if replicated else t.unsqueeze(0))])
