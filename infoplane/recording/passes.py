"""Run the forward passes that a snapshot needs, and leave the model unchanged.

If a model has noisy layers, the banks of its Echo layers are first filled from the law (one pass
per layer). Then the probe goes through once with fresh noise, and once along the mean path. A layer
whose codes are the same in both is a function of its input.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from ..channels.bank import Bank
from ..channels.channel import Channel, Crossing
from ..channels.models import measuring, noisy_layers, replica_axis
from ..channels.stack import execution_order, fill_banks, separating
from ..errors import InfoplaneError
from ..estimators.protocol import Noise
from ..streams import Streams
from .hooks import Trace

__all__ = ["Observation", "Passes"]

_TRIAL = 64  # rows of the probe with which the structure of the model is explored
_AFFINE = 1e-6  # how far a unit may be from W x + b, in standard deviations of the unit


@dataclass
class Observation:
    """The layers of a model as one snapshot saw them.

    Args:
        codes: The codes of each layer, (R, N, D), one draw per point.
        clean: The codes along the mean path, of the layers with noise at or below them.
        draw: (layer, k) -> (k, R, N, D), fresh noisy replicates of a layer's codes.
        logits: The output, (R, N, C), if it is a tensor of scores.
        affine: layer -> W, (R, D, D_x), if the layer is W x + b of the input; otherwise None.
        crossings: The input, scale and output of each noisy layer in the noisy pass, in the order
            of execution.
        kinds: "echo", "gaussian" or "dropout" for each noisy layer.
        banks: The reference codes of Echo layers.
        first: The noisy layers whose input is a function of x.
        repeats: For each of these, and each replica, how far f moved between passes, in standard
            deviations.
        through: For each noisy layer, and for the output (""), the noisy layers below through which
            everything passes that it knows about x (`separating`).
        resend: (layer, k) -> (k, R, N, K), fresh noisy replicates of the input of a noisy layer.
    """

    codes: dict[str, Tensor]
    clean: dict[str, Tensor]
    draw: Callable[[str, int], Tensor]
    logits: Tensor | None
    affine: Callable[[str], Tensor | None]
    crossings: dict[str, Crossing] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    banks: dict[str, Bank] = field(default_factory=dict)
    first: set[str] = field(default_factory=set)
    repeats: dict[str, list[float]] = field(default_factory=dict)
    through: dict[str, list[str]] = field(default_factory=lambda: {"": []})
    resend: Callable[[str, int], Tensor] | None = None

    def noise(self, layer: str) -> Noise:
        """Return the channel of a noisy layer; its `quantity` names the information in the rate.

        This is I(Z;X) if the layer's input is a function of x. Above noise it is the information
        between neighbours, I(Z_k;Z_j), if everything that reaches layer k has passed through Z_j,
        and otherwise I(Z_k;F_k) with the layer's input F_k.
        """
        f, log_s, _ = self.crossings[layer]
        kind = self.kinds[layer]
        std = None if kind == "echo" else log_s.exp()
        if layer in self.first:
            return Noise(kind, f, std, scale=log_s.exp())
        number = {name: k for k, name in enumerate(self.crossings, start=1)}
        below = self.through[layer]
        other = f"Z{number[below[-1]]}" if below else f"F{number[layer]}"
        resend = self.resend
        assert resend is not None
        return Noise(kind, f, std, f"I(Z{number[layer]};{other})", lambda k: resend(layer, k), log_s.exp())


class Passes:
    """The forward passes of a model on the inputs of a probe.

    The attribute `order` holds the noisy layers in the order of execution.

    Args:
        model: Any nn.Module.
        x: The inputs, (N, ...), or (R, N, ...) for a network whose replicas have their own inputs.
        layers: Dotted names of the layers to read.
        law: Inputs of the law that the echoes follow, with axes like x; by default x.
        references: The number of reference codes of each Echo layer.
        batch_size: Rows per forward pass; by default all.
        reduce: A function that makes (N, D) of a layer's output; see `Trace`.

    Raises:
        InfoplaneError: If the model has no layer of one of these names, or cannot take x.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        layers: Sequence[str],
        *,
        law: Tensor | None = None,
        references: int = 4096,
        batch_size: int | None = None,
        reduce: Callable[[Any], Tensor] | None = None,
    ) -> None:
        self.model, self.x, self.layers = model, x, list(layers)
        self.replicas, self.axis = replica_axis(model, x)
        self.n = x.shape[self.axis]
        self._law = law
        self._references, self._batch_size, self._reduce = references, batch_size, reduce
        Trace(model, self.layers)  # refuses unknown names now, and not at the first snapshot
        self.order: list[str] = []
        if noisy_layers(model):
            self.order = execution_order(model, x.narrow(self.axis, 0, min(self.n, _TRIAL, batch_size or _TRIAL)))

    @contextmanager
    def observe(self, streams: Streams) -> Iterator[Observation]:
        """Run the passes and yield what they observed, which can draw replicates inside the block.

        Args:
            streams: The random streams of the noise, one per replica.
        """
        with measuring(self.model, "draw", streams) as layers:
            yield self._observe_noisy(layers, streams) if self.order else self._observe_plain()

    def _observe_plain(self) -> Observation:
        """Run the one pass that a model without noise needs."""
        codes, logits = self._run()

        def draw(layer: str, k: int) -> Tensor:
            return codes[layer].expand(k, *codes[layer].shape)

        return Observation(codes=codes, clean={}, draw=draw, logits=logits, affine=_Affine(self, codes))

    def _observe_noisy(self, layers: dict[str, Channel], streams: Streams) -> Observation:
        """Run the passes of a model with noise.

        They draw from the same streams, so every number depends on their order.
        """
        law = self.x if self._law is None else self._law
        banks = fill_banks(self.model, law, references=self._references, streams=streams, batch_size=self._batch_size)
        codes, logits, crossings = self._sweep(layers)
        through = self._separating(crossings)
        for layer in layers.values():
            layer.phase = "mean"
        mean, _, inputs = self._sweep(layers)
        first = {name for name in self.order if _same(inputs[name].f, crossings[name].f)}
        repeats = self._repeats(first, crossings)
        for layer in layers.values():
            layer.phase, layer.watch = "draw", None
        replicates = _Replicates(self)
        return Observation(
            codes=codes,
            clean={name: t for name, t in mean.items() if not _same(t, codes[name])},
            draw=replicates.codes,
            logits=logits,
            affine=lambda _: None,
            crossings=crossings,
            kinds={name: layers[name].kind for name in self.order},
            banks=banks,
            first=first,
            repeats=repeats,
            through=through,
            resend=replicates.sent,
        )

    def _sweep(self, layers: dict[str, Channel]) -> tuple[dict[str, Tensor], Tensor | None, dict[str, Crossing]]:
        """Pass the probe once; return the codes, the logits, and the crossings of noisy layers."""
        watches: dict[str, list[Crossing]] = {name: [] for name in self.order}
        for name, layer in layers.items():
            layer.watch = watches.get(name)
        codes, logits = self._run()
        return codes, logits, {name: self._crossing(name, watches[name], self.n) for name in self.order}

    def _run(self, x: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor | None]:
        x = self.x if x is None else x
        n = x.shape[self.axis]
        parts: list[dict[str, Tensor]] = []
        outputs: list[Any] = []
        step = self._batch_size or n
        with Trace(self.model, self.layers, reduce=self._reduce) as trace:
            for start in range(0, n, step):
                outputs.append(self.model(x.narrow(self.axis, start, min(step, n - start))))
                parts.append(trace.take())
        rows = 1 if self.replicas > 1 else 0
        codes = {name: self._replicated(_joined([p[name] for p in parts], rows)) for name in self.layers}
        for name, t in codes.items():
            if t.shape[1] != n:
                raise InfoplaneError(
                    f"Layer {name!r} gave {t.shape[1]} rows for {n} inputs; expected one row per input. Pass "
                    "reduce=, a function that makes (N, D) of the layer's output."
                )
        if all(isinstance(o, Tensor) and o.dim() == rows + 2 and o.is_floating_point() for o in outputs):
            return codes, self._replicated(torch.cat(outputs, rows))
        return codes, None

    def _replicated(self, t: Tensor) -> Tensor:
        return t if self.replicas > 1 else t.unsqueeze(0)

    def _crossing(self, name: str, watch: list[Crossing], rows: int) -> Crossing:
        """Join what crossed a noisy layer batch by batch in a sweep over `rows` inputs."""
        joined = Crossing(*(torch.cat(parts, -2) for parts in zip(*watch, strict=True)))
        if joined.f.shape[-2] != rows:
            raise InfoplaneError(
                f"The noisy layer {name!r} got {joined.f.shape[-2]} rows for {rows} inputs; expected one row per "
                "input. Its rows may be the positions of sequences, or it ran more than once in a forward pass."
            )
        return joined

    def _separating(self, crossings: dict[str, Crossing]) -> dict[str, list[str]]:
        """Find which noisy layers separate which others from x, with the present weights.

        Every input of the probe is tried, because a gate may open for only a few of them.
        """
        step, other = self._batch_size or self.n, self.x.roll(1, self.axis)
        parts = []
        for start in range(0, self.n, step):
            size = min(step, self.n - start)
            held = {name: crossings[name].z.narrow(1, start, size) for name in self.order}
            here, there = (t.narrow(self.axis, start, size) for t in (self.x, other))
            parts.append(separating(self.model, here, there, held))
        return {name: [j for j in below if all(j in p[name] for p in parts)] for name, below in parts[0].items()}

    def _repeats(self, first: set[str], crossings: dict[str, Crossing]) -> dict[str, list[float]]:
        """Pass some inputs again, in another order and batch: f must not move.

        At most half of the probe is passed, once from either end, so that whatever depends on the
        rest of a batch changes.
        """
        layers = noisy_layers(self.model)
        moved = {name: torch.zeros(self.replicas, device=self.x.device) for name in first}
        few = min((self.n + 1) // 2, _TRIAL, self._batch_size or self.n)
        head = torch.arange(few - 1, -1, -1, device=self.x.device)
        if few == 1:
            head = head.expand(2)  # none of our layers needs two rows, but some of other people's do
        for rows in (head, self.n - 1 - head) if first else ():
            for name in first:
                layers[name].watch = []
            self.model(self.x.index_select(self.axis, rows))
            for name in first:
                f = crossings[name].f
                again = self._crossing(name, layers[name].watch or [], len(rows)).f
                # relative to the spread, so that a large constant hides no movement, but no finer
                # than rounding is
                size = torch.maximum(f.std(1), 1e-2 * f.square().mean(1).sqrt()).clamp(min=1e-30)
                moved[name] = torch.maximum(moved[name], ((f[:, rows] - again).abs().amax(1) / size).amax(1))
        return {name: t.tolist() for name, t in moved.items()}


class _Replicates:
    """Noisy replicates of every layer at once, drawn when the first one is requested."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._drawn: dict[int, tuple[dict[str, Tensor], dict[str, Tensor]]] = {}
        self._lock = Lock()  # estimators run side by side in threads
        device = passes.x.device.type  # the state of autocast belongs to a thread
        self._cast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))

    def codes(self, layer: str, k: int) -> Tensor:
        return self._draw(k)[0][layer]

    def sent(self, layer: str, k: int) -> Tensor:
        return self._draw(k)[1][layer]

    def _draw(self, k: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        with self._lock, torch.no_grad(), torch.autocast(*self._cast):
            if k not in self._drawn:
                codes, sent = zip(*(self._once() for _ in range(k)), strict=True)
                self._drawn[k] = _stacked(codes), _stacked(sent)
            return self._drawn[k]

    def _once(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        passes = self._passes
        layers = noisy_layers(passes.model)
        try:
            codes, _, crossings = passes._sweep(layers)
        finally:
            for layer in layers.values():
                layer.watch = None
        return codes, {name: crossing.f for name, crossing in crossings.items()}


def _stacked(draws: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}


class _Affine:
    """The affine maps of the layers of a noise-free model, computed when the first is requested."""

    def __init__(self, passes: Passes, codes: dict[str, Tensor]) -> None:
        self._passes, self._codes = passes, codes
        self._maps: dict[str, Tensor | None] | None = None
        self._lock = Lock()

    def __call__(self, layer: str) -> Tensor | None:
        with self._lock, torch.no_grad():
            if self._maps is None:
                x = self._passes.x
                flat = x.dim() == self._passes.axis + 2
                self._maps = self._read(x) if flat else dict.fromkeys(self._codes)
            return self._maps[layer]

    def _read(self, x: Tensor) -> dict[str, Tensor | None]:
        """Compute W from the outputs for 0 and the unit vectors, and check it on the probe."""
        size, axis = x.shape[-1], self._passes.axis
        basis = torch.cat([x.new_zeros(1, size), torch.eye(size, dtype=x.dtype, device=x.device)])
        both = torch.cat([basis if axis == 0 else basis.expand(len(x), -1, -1), x], axis).double()
        # float32 would lose the map of a layer with a large bias
        given, _ = Passes(copy.deepcopy(self._passes.model).double(), both, self._passes.layers)._run()
        maps: dict[str, Tensor | None] = {}
        for layer, out in given.items():
            offset, w, t = out[:, :1], (out[:, 1 : size + 1] - out[:, :1]).mT, out[:, size + 1 :]
            off = (t - offset - both.narrow(axis, size + 1, x.shape[axis]) @ w.mT).abs().amax(1)
            maps[layer] = w if bool((off <= _AFFINE * t.std(1) + 1e-12 * t.abs().amax(1)).all()) else None
        return maps


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are equal to the last bit, NaN included.

    Codes that noise has touched never are.
    """
    return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
