"""The replica axis: R independently seeded copies of a network computed as one, each as if it were alone.

A tensor of our networks is (R, N, D). With one replica it may as well be (N, D).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ..errors import InfoplaneError

__all__ = ["OwnWeights", "ReplicaConv2d", "ReplicaLinear"]


class OwnWeights:
    """Mark a module that draws its own weights, so that `networks.initialise` leaves them alone."""


class ReplicaLinear(nn.Module):
    """R affine maps side by side: (R, N, in) -> (R, N, out); with one replica also (N, in) -> (N, out).

    weight: (R, out, in); bias: (R, out). Zero until they are initialised (`networks.initialise`).
    """

    def __init__(self, inputs: int, outputs: int, replicas: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(replicas, outputs))

    def forward(self, x: Tensor) -> Tensor:
        replicas, _, inputs = self.weight.shape
        alone = x.dim() == 2 and replicas == 1
        if not (alone or (x.dim() == 3 and x.shape[0] == replicas)) or x.shape[-1] != inputs:
            raise InfoplaneError(
                f"ReplicaLinear got {tuple(x.shape)}; expected ({replicas}, N, {inputs})"
                + (f" or (N, {inputs})." if replicas == 1 else ", one slice a replica.")
            )
        out = torch.baddbmm(self.bias.unsqueeze(-2), x.unsqueeze(0) if alone else x, self.weight.transpose(-1, -2))
        return out.squeeze(0) if alone else out

    def extra_repr(self) -> str:
        replicas, outputs, inputs = self.weight.shape
        return f"{inputs}, {outputs}, replicas={replicas}"


class ReplicaConv2d(nn.Module):
    """R convolutions side by side: (R, N, C, H, W) -> (R, N, C', H', W'); with one replica also without that axis.

    weight: (R, C', C, k, k); bias: (R, C'). One at a time: grouped convolutions take 1.3 times as long.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, padding: int = 0, replicas: int = 1
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.zeros(replicas, outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(replicas, outputs))

    def forward(self, x: Tensor) -> Tensor:
        replicas, _, inputs = self.weight.shape[:3]
        alone = x.dim() == 4 and replicas == 1
        if not (alone or (x.dim() == 5 and x.shape[0] == replicas)) or x.shape[-3] != inputs:
            raise InfoplaneError(
                f"ReplicaConv2d got {tuple(x.shape)}; expected ({replicas}, N, {inputs}, H, W)"
                + (f" or (N, {inputs}, H, W)." if replicas == 1 else ", one slice a replica.")
            )
        parts = [
            conv2d(part, w, b, self.stride, self.padding)
            for part, w, b in zip(x.unsqueeze(0) if alone else x, self.weight, self.bias, strict=True)
        ]
        return parts[0] if alone else torch.stack(parts)

    def extra_repr(self) -> str:
        replicas, outputs, inputs, kernel, _ = self.weight.shape
        return f"{inputs}, {outputs}, kernel={kernel}, stride={self.stride}, replicas={replicas}"
