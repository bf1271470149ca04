"""Layers with a replica axis: R independently seeded copies computed as one, each as if alone.

A tensor of the package's networks is (R, N, D). With one replica it may also be (N, D).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ..errors import InfoplaneError

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["OwnWeights", "ReplicaConv2d", "ReplicaLinear"]


class OwnWeights:
    """Mark a module that draws its own weights, so that `networks.initialise` leaves them alone."""


class ReplicaLinear(nn.Module):
    """R affine maps computed side by side.

    `weight` is (R, outputs, inputs) and `bias` (R, outputs). Both are zero until `initialise` draws
    them.

    Args:
        inputs: The number of inputs.
        outputs: The number of outputs.
        replicas: R.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> ip.nn.ReplicaLinear(3, 2, replicas=4)(torch.zeros(4, 5, 3)).shape
        torch.Size([4, 5, 2])
    """

    def __init__(self, inputs: int, outputs: int, replicas: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(replicas, outputs))

    def forward(self, x: Float[Tensor, "*R N D"]) -> Float[Tensor, "*R N K"]:
        """Apply each map to its slice.

        Args:
            x: (R, N, inputs); with one replica also (N, inputs).

        Returns:
            (R, N, outputs), or (N, outputs).

        Raises:
            InfoplaneError: x has another shape.
        """
        replicas, _, inputs = self.weight.shape
        alone = x.dim() == 2 and replicas == 1
        if not (alone or (x.dim() == 3 and x.shape[0] == replicas)) or x.shape[-1] != inputs:
            raise InfoplaneError(
                f"ReplicaLinear got {tuple(x.shape)}; expected ({replicas}, N, {inputs})"
                + (f" or (N, {inputs})." if replicas == 1 else ", one slice per replica.")
            )
        out = torch.baddbmm(self.bias.unsqueeze(-2), x.unsqueeze(0) if alone else x, self.weight.transpose(-1, -2))
        return out.squeeze(0) if alone else out

    def extra_repr(self) -> str:
        replicas, outputs, inputs = self.weight.shape
        return f"{inputs}, {outputs}, replicas={replicas}"


class ReplicaConv2d(nn.Module):
    """R convolutions computed side by side.

    `weight` is (R, outputs, inputs, kernel, kernel) and `bias` (R, outputs). Both are zero until
    `initialise` draws them.

    Args:
        inputs: The number of channels of the input.
        outputs: The number of channels of the output.
        kernel: The size of the kernel.
        stride: The stride.
        padding: The padding.
        replicas: R.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> conv = ip.nn.ReplicaConv2d(1, 3, kernel=5, stride=2, padding=2, replicas=2)
        >>> conv(torch.zeros(2, 7, 1, 8, 8)).shape
        torch.Size([2, 7, 3, 4, 4])
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, padding: int = 0, replicas: int = 1
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.zeros(replicas, outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(replicas, outputs))

    def forward(self, x: Float[Tensor, "*R N C H W"]) -> Float[Tensor, "*R N K h w"]:
        """Apply each convolution to its slice.

        Args:
            x: (R, N, C, H, W); with one replica also (N, C, H, W).

        Returns:
            The maps, with the same leading axes.

        Raises:
            InfoplaneError: x has another shape.
        """
        replicas, _, inputs = self.weight.shape[:3]
        alone = x.dim() == 4 and replicas == 1
        if not (alone or (x.dim() == 5 and x.shape[0] == replicas)) or x.shape[-3] != inputs:
            raise InfoplaneError(
                f"ReplicaConv2d got {tuple(x.shape)}; expected ({replicas}, N, {inputs}, H, W)"
                + (f" or (N, {inputs}, H, W)." if replicas == 1 else ", one slice per replica.")
            )
        # one at a time: a grouped convolution takes 1.3 times as long
        parts = [
            conv2d(part, w, b, self.stride, self.padding)
            for part, w, b in zip(x.unsqueeze(0) if alone else x, self.weight, self.bias, strict=True)
        ]
        return parts[0] if alone else torch.stack(parts)

    def extra_repr(self) -> str:
        replicas, outputs, inputs, kernel, _ = self.weight.shape
        return f"{inputs}, {outputs}, kernel={kernel}, stride={self.stride}, replicas={replicas}"
