"""Saved activations in the form of a model, which is measured like any other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..channels.names import noisy_name
from ..errors import InfoplaneError

__all__ = ["Replay"]


class Replay(nn.Module):
    """A model whose layers return saved activations.

    Its inputs are the numbers of rows, (N, 1). Its only buffer, `at`, selects the epoch.

    Args:
        path: The file of the arrays, for error messages.
        arrays: The activations by layer, (epochs, N, ...), or (N, D) for a single epoch.

    Raises:
        InfoplaneError: If the arrays are not activations of the same inputs and epochs.
    """

    def __init__(self, path: str, arrays: dict[str, Any]) -> None:
        super().__init__()
        self.at: Tensor
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))
        if not arrays:
            raise InfoplaneError(f"{path} holds no layer; expected arrays (epochs, N, D) under the names of layers.")
        sizes: dict[str, tuple[int, int]] = {}
        for name, array in arrays.items():
            if array.dtype.kind not in "fiu" or array.ndim < 2 or array.size == 0:
                raise InfoplaneError(
                    f"{path}: {name} is {array.dtype} of shape {array.shape}; expected real numbers, (epochs, N, D)."
                )
            if noisy_name(name) is not None:
                raise InfoplaneError(
                    f"{path}: {name} holds noisy codes, and measuring them needs the noise of their channel. Measure "
                    "the run or the model instead, or leave this layer out of the file."
                )
            t = torch.from_numpy(array if array.dtype.kind == "f" and array.itemsize > 2 else array.astype("float32"))
            t = t.unsqueeze(0) if t.dim() == 2 else t.flatten(2)
            sizes[name] = (t.shape[0], t.shape[1])
            self._place(name, _Saved(t))
        if len(set(sizes.values())) > 1:
            text = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise InfoplaneError(
                f"{path}: layers have different (epochs, N): {text}; expected the same for all layers."
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
        """Run every layer, for the hooks that read them.

        Args:
            x: The numbers of the rows, (N, 1).
        """
        rows = x[:, 0].long()
        for module in self.modules():
            if isinstance(module, _Saved) and module.values is not None:
                module(int(self.at), rows)


class _Saved(nn.Module):
    """The saved outputs of one layer, (epochs, N, D); None for a mere part of dotted names."""

    def __init__(self, values: Tensor | None) -> None:
        super().__init__()
        self.values = values  # not a buffer, or every snapshot would have to keep a copy

    def forward(self, epoch: int, rows: Tensor) -> Tensor:
        assert self.values is not None
        return self.values[epoch, rows]
