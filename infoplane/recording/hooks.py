"""Hooks that read the layers of any module, and leave nothing behind.

An Echo layer is the child `echo` of the module that it follows, and a Gaussian or dropout layer is
the child `noise`. Reading that module gives f, the input of the Echo layer; reading `NAME.echo`
gives z, its output. If the layer pools a feature map, both are the code that its channel acts on,
(N, C h w), and not the map, because the rate is the information in that code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..channels.channel import Channel
from ..channels.models import channel_of, eager, first_tensor, measuring, plain, resolve
from ..errors import InfoplaneError

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Trace", "TraceError", "once"]


class TraceError(InfoplaneError):
    """The error of `Trace` when a layer did not run, or ran more than once, in a forward pass.

    It is an `InfoplaneError`.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> model = ip.MLP(3, [4], 2, "tanh")
        >>> with ip.Trace(model, ["hidden1"]) as trace:
        ...     try:
        ...         trace.take()
        ...     except ip.recording.TraceError as error:
        ...         print(str(error).partition(".")[0])
        Layer 'hidden1' did not run in the forward pass
    """


class Trace:
    """Read the named layers of a model in every forward pass within a `with` block.

    The activations are detached and copied, because an in-place operation would overwrite them, and
    have at least float32, because autocast would round them. They are flattened to rows: (N, D), or
    (R, N, D) for a model with R > 1 replicas. Inside the block no module runs compiled or fused,
    because the hooks inside such a module would not fire.

    Args:
        model: Any nn.Module.
        layers: Dotted names of modules. `NAME` is the input of a noisy layer that follows NAME, and
            `NAME.echo` (or `NAME.noise`) is its output.
        reduce: A function that makes (N, D) of a layer's output. It is needed if the output is no
            tensor or tuple of tensors, or if its rows are not inputs, as in (L, B, d).

    Raises:
        InfoplaneError: If the model has no module of that name.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> model = ip.MLP(3, [4], 2, "tanh")
        >>> with ip.Trace(model, ["hidden1", "output"]) as trace:
        ...     out = model(torch.zeros(5, 3))
        ...     codes = trace.take()
        >>> {name: tuple(t.shape) for name, t in codes.items()}
        {'hidden1': (5, 4), 'output': (5, 2)}
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
            raise InfoplaneError(f"Layer {name!r} gave a tensor of shape {tuple(t.shape)}; expected one row per input.")
        self._read[name].append(t.flatten(axes) if t.dim() > axes else t.unsqueeze(-1))

    def take(self) -> dict[str, Float[Tensor, "*R N _D"]]:
        """Return the activations of the forward pass since the last call, and prepare for the next.

        Returns:
            The activations by layer: (N, D), or (R, N, D) for a model with R > 1 replicas.

        Raises:
            TraceError: Unless every layer ran exactly once since the last call; and outside the
                `with` block.
        """
        if not self._inside:
            raise TraceError(
                "Trace.take() was called outside the `with` block, where a trace reads nothing; what it read is "
                "dropped when the block ends. Call it inside the block, after the forward pass."
            )
        for name, read in self._read.items():
            if not read:
                raise TraceError(
                    f"Layer {name!r} did not run in the forward pass. It may be unused, called through .forward(), or "
                    "compiled earlier; choose a module that the model calls."
                )
            if len(read) > 1:
                raise TraceError(
                    f"Layer {name!r} ran {len(read)} times in one forward pass, as a shared module does; choose a "
                    "module that runs once."
                )
        return {name: read.pop() for name, read in self._read.items()}


def once(model: nn.Module, names: Sequence[str], x: Tensor) -> list[str]:
    """Find the layers that run exactly once in a forward pass and return a tensor.

    Args:
        model: The model, which is left unchanged.
        names: Dotted names of its modules.
        x: Some inputs, with the replica axis in front if the model needs one.

    Returns:
        Those of the names, in the order in which they run.
    """
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
