"""Saved activations as a model, so that all that measures a model measures them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..channels.names import noisy_name
from ..errors import InfoplaneError

__all__ = ["Replay"]


class Replay(nn.Module):
    """Saved activations as a model: its layers give what was saved, and which epoch they give is its only weight.

    arrays: for each layer (epoch, N, ...), or (N, D). Inputs are numbers of rows, (N, 1).
    Raises InfoplaneError for arrays that are no activations of the same inputs and epochs.
    """

    def __init__(self, path: str, arrays: dict[str, Any]) -> None:
        super().__init__()
        self.at: Tensor
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))
        if not arrays:
            raise InfoplaneError(f"{path} holds no layer; expected arrays (epoch, N, D) under the names of layers.")
        sizes: dict[str, tuple[int, int]] = {}
        for name, array in arrays.items():
            if array.dtype.kind not in "fiu" or array.ndim < 2 or array.size == 0:
                raise InfoplaneError(
                    f"{path}: {name} is {array.dtype} of shape {array.shape}; expected real numbers, (epoch, N, D)."
                )
            if noisy_name(name) is not None:
                raise InfoplaneError(
                    f"{path}: {name} holds noisy codes, whose information needs the noise of its channel: measure the "
                    "run or the model instead, or leave this layer out of the file."
                )
            t = torch.from_numpy(array if array.dtype.kind == "f" and array.itemsize > 2 else array.astype("float32"))
            t = t.unsqueeze(0) if t.dim() == 2 else t.flatten(2)
            sizes[name] = (t.shape[0], t.shape[1])
            self._place(name, _Saved(t))
        if len(set(sizes.values())) > 1:
            text = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise InfoplaneError(
                f"{path}: layers have different (epochs, N): {text}; expected one N and number of epochs."
            )
        self.layer_names = list(arrays)
        self.epochs, self.n = next(iter(sizes.values()))

    def _place(self, name: str, saved: nn.Module) -> None:
        """Put a layer under its dotted name."""
        *parents, last = name.split(".")
        module: nn.Module = self
        for part in parents:
            if part not in module._modules:
                module.add_module(part, _Saved(None))
            module = module.get_submodule(part)
        held = module._modules.get(last)
        if held is not None:
            for child_name, child in held.named_children():
                saved.add_module(child_name, child)
        module.add_module(last, saved)

    def forward(self, x: Tensor) -> None:
        rows = x[:, 0].long()
        for module in self.modules():
            if isinstance(module, _Saved) and module.values is not None:
                module(int(self.at), rows)


class _Saved(nn.Module):
    """What one layer gave, (epoch, N, D); None where the name is only part of others'."""

    def __init__(self, values: Tensor | None) -> None:
        super().__init__()
        self.values = values  # no buffer: it is no weight that a snapshot would have to keep

    def forward(self, epoch: int, rows: Tensor) -> Tensor:
        assert self.values is not None
        return self.values[epoch, rows]
