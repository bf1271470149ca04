"""Hooks that read the layers of any module, and leave nothing behind.

An Echo layer is the child `echo` of the module it follows (a Gaussian or dropout layer the child `noise`). The tap on
that module reads f, what goes into the Echo layer; the tap on `NAME.echo` reads z, what comes out. Of a layer that
pools a feature map, both are the code that its channel acts on, (N, C h w), and not the map: what its rate is the
information of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..channels.channel import Channel
from ..channels.models import channel_of, eager, first_tensor, measuring, plain, resolve
from ..errors import InfoplaneError

__all__ = ["Trace", "TraceError", "once"]


class TraceError(InfoplaneError):
    """A layer that was to be read did not run, or ran more than once, in a forward pass."""


class Trace:
    """Read the named layers of `model` in every forward pass within the `with` block.

        with Trace(model, ["hidden1", "hidden2.echo"]) as trace:
            model(x)
        codes = trace.take()          # {"hidden1": (N, D) ..., ...}, and ready for the next pass

    What is read is detached, copied and at least float32 (an in-place activation would overwrite it, autocast would
    round it), and flattened to rows: (N, D), or (R, N, D) for a model with R > 1 replicas. reduce: a function from what
    the layer gave to (N, D), where flattening is not what is wanted, or rows are not inputs, as in (L, B, d).

    Inside the block nothing runs compiled or fused (`models.eager`), or no tap within would fire.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], *, reduce: Callable[[Any], Tensor] | None = None
    ) -> None:
        self._model = plain(model)
        self._modules = {name: resolve(self._model, name) for name in layers}
        self._replicas = int(getattr(self._model, "replicas", 1))
        self._reduce = reduce
        self._read: dict[str, list[Tensor]] = {name: [] for name in layers}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._eager = ExitStack()
        self._inside = False

    def __enter__(self) -> Trace:
        self._eager.enter_context(eager())
        self._inside = True
        for name, module in self._modules.items():
            below = channel_of(module)
            if below is not None:
                self._handles.append(below.register_forward_pre_hook(self._reader_of_input(name)))
            else:
                self._handles.append(module.register_forward_hook(self._reader_of_output(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._inside = False
        self._eager.close()
        for read in self._read.values():
            read.clear()

    def _reader_of_output(self, name: str) -> Callable[..., None]:
        def read(module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(module, Channel) and module.pool is not None and self._reduce is None:
                output = self._alone(module.code_of_output(output))
            self._keep(name, output)

        return read

    def _reader_of_input(self, name: str) -> Callable[..., None]:
        def read(module: nn.Module, inputs: Any) -> None:
            assert isinstance(module, Channel)
            pooled = module.pool is not None and self._reduce is None
            self._keep(name, self._alone(module.code(inputs[0])) if pooled else inputs[0])

        return read

    def _alone(self, code: Tensor) -> Tensor:
        return code if self._replicas > 1 else code.squeeze(0)

    def _keep(self, name: str, value: Any) -> None:
        t = self._reduce(value) if self._reduce is not None else first_tensor(value, name)
        t = t.detach()
        t = t.clone() if t.dtype in (torch.float32, torch.float64) else t.float()
        axes = 2 if self._replicas > 1 else 1
        if t.dim() < axes:
            raise InfoplaneError(f"Layer {name!r} gave {tuple(t.shape)}; expected one row an input.")
        self._read[name].append(t.flatten(axes) if t.dim() > axes else t.unsqueeze(-1))

    def take(self) -> dict[str, Tensor]:
        """Return what the layers gave in the forward pass since the last call, and get ready for the next one.

        Returns:
            For each layer (N, D), or (R, N, D) for a model with R > 1 replicas.

        Raises:
            TraceError: unless every layer ran just once since then, and outside the `with` block.
        """
        if not self._inside:
            raise TraceError(
                "Trace.take() was called outside the `with` block: a trace reads nothing there, and keeps nothing "
                "when the block ends; call it inside the block, after the forward pass."
            )
        for name, read in self._read.items():
            if not read:
                raise TraceError(
                    f"Layer {name!r} did not run in the forward pass, so its tap never fired. It may be unused, called "
                    "through .forward(), or compiled before the tap was set; choose a module that the model calls."
                )
            if len(read) > 1:
                raise TraceError(
                    f"Layer {name!r} ran {len(read)} times in one forward pass (a shared module); choose a module that "
                    "runs once."
                )
        out = {name: read.pop() for name, read in self._read.items()}
        return out


def once(model: nn.Module, names: Sequence[str], x: Tensor) -> list[str]:
    """Those of the named layers that run just once in a forward pass and give a tensor, in the order they run in."""
    ran: list[str] = []

    def noting(name: str) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            value = next(iter(output), None) if isinstance(output, tuple | list) else output
            if isinstance(value, Tensor) and value.is_floating_point():
                ran.append(name)

        return note

    handles = [resolve(model, name).register_forward_hook(noting(name)) for name in names]
    try:
        with measuring(model, "off"):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in ran if ran.count(name) == 1]
