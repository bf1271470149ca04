"""A probe set, taps, estimators and a model: snapshots of how much each layer holds, that change nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ..channels.models import echo_layers, noisy_layers, plain, replica_axis, sent_to
from ..errors import InfoplaneError, choose
from ..estimators.inputs import ends_of
from ..estimators.protocol import Estimator, Noise, Reading
from ..records import TABLES, Estimate, Measurement, frame_of
from ..streams import Streams, derive
from ..threads import cores, torch_threads
from .consistency import mark
from .exact import certificates_of, label_bounds, missing_rates, rates_of
from .gradients import gradient_statistics
from .hooks import once
from .passes import Observation, Passes
from .probe import Probe, unmoved

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NonFiniteWarning", "Recorder"]

S = TypeVar("S")
T = TypeVar("T")
Row = dict[str, Any]
Limits = dict[str, tuple[Tensor, Tensor]]


class NonFiniteWarning(UserWarning):
    """A layer held NaN or infinite values: that replica was not measured, the others were."""


class Recorder:
    """Measure the layers of a model on a fixed set of inputs, as often as `snapshot` is called.

    A snapshot leaves weights, buffers, flags, random states and `rate(model)` as they were. Layers
    at or above noise are measured on noisy draws (I(T;Y), path "sampled") and on the mean path
    (I(X;T), path "noise-off"); see `estimators.protocol`.

    Args:
        model: Any nn.Module. With Echo layers, their exact rates and certificates are recorded too.
        probe: A `Probe`, or what makes one: (x, y), x alone, a Dataset or a DataLoader. x is
            (N, ...), or (R, N, ...) for networks of R replicas with inputs of their own; y holds
            classes, (N,) or (R, N); without y there is no I(T;Y).
        layers: Dotted names. `NAME` is what goes into the Echo layer behind NAME, and `NAME.echo`
            what comes out (`NAME.noise` of a Gaussian or dropout layer). By default the layers of
            one of our networks, or the direct children that run of any other model; and all noisy
            layers.
        estimators: By default KDE() and Binning(). Text is read as on the command line, such as
            "kde:noise_variance=0.1".
        run: The text in the column `run`.
        references: The number of independent reference codes of each Echo layer.
        seed: The seed of the noise drawn in measuring and of nothing else, or one for each replica.
            Replica r of a single seed has seed + r.
        batch_size: Rows per forward pass; by default all.
        reduce: Makes a tensor of a layer's output that is none; see `Trace`.
        chain: Whether each of the layers is a function of the one before it, so that none can hold
            more (warning data-processing). None: where that is known, in our networks and in
            torch.nn.Sequential.
        workers: Threads that measure layers side by side; by default the cores.

    Raises:
        InfoplaneError: For a probe, layers, labels or estimators that do not fit the model.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
        >>> recorder = ip.Recorder(model, (x, (x[:, 0] > 0).long()))
        >>> tables = recorder.snapshot(epoch=0)
        >>> sorted(set(recorder.frame()["quantity"]))
        ['I(T;Y)', 'I(X;T)']
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Any,
        layers: Sequence[str] | None = None,
        estimators: Sequence[Estimator | str] | None = None,
        *,
        run: str = "run",
        references: int = 4096,
        seed: int | Sequence[int] = 0,
        batch_size: int | None = None,
        reduce: Callable[[Any], Tensor] | None = None,
        chain: bool | None = None,
        workers: int | None = None,
    ) -> None:
        from ..estimators import KDE, Binning, parse_estimator

        self.model, self.run = plain(model), run
        self.probe = Probe.of(probe)
        chosen: Sequence[Estimator | str] = [KDE(), Binning()] if estimators is None else estimators
        self.estimators: list[Estimator] = [parse_estimator(e) if isinstance(e, str) else e for e in chosen]
        replicas, x = _inputs(self.model, self.probe.x)
        law = self.probe.law
        self.layers = list(layers) if layers is not None else _default_layers(self.model, x)
        self.passes = Passes(
            self.model,
            x,
            self.layers,
            law=None if law is None else law.to(x.device),
            references=references,
            batch_size=batch_size,
            reduce=reduce,
        )
        if self.passes.n < 2:
            raise InfoplaneError(f"Recorder: the probe holds {self.passes.n} inputs; expected at least 2.")
        self._workers = workers or cores()
        self._chain = self._chained(chain)
        axis = self.passes.axis
        flat = x.flatten(axis + 1) if x.dim() > axis + 1 else x.unsqueeze(-1)
        self._read = (flat if axis else flat.unsqueeze(0)).expand(replicas, -1, -1) if self.probe.readable else None
        self._labels = self.probe.labels(replicas, self.passes.n, x.device)
        self._seeds = [seed + r for r in range(replicas)] if isinstance(seed, int) else list(seed)
        self._rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
        #: weights of past snapshots, by (epoch, step), for estimators that need the range of the whole run
        self.held: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._diverged: set[int] = set()

    @property
    def replicas(self) -> int:
        """The number of replicas that are measured side by side."""
        return self.passes.replicas

    def snapshot(self, epoch: int, step: int | None = None) -> dict[str, list[dict[str, Any]]]:
        """Measure now.

        Args:
            epoch: The number of the epoch, for the tables and for the seeds of the noise.
            step: The number of the training step; by default the epoch.

        Returns:
            The new rows by the name of their table (`records.TABLES`), which `frame` holds from
            now on. `RunDir.append` takes them.
        """
        step = epoch if step is None else step
        now = [m for m in self.estimators if not m.deferred]
        with self.passes.observe(self._streams(epoch, step)) as seen:
            # Many small operations: two threads on each of them take up to fifty times as long on a busy machine.
            with torch_threads(1):
                new = _joined(self._estimates(seen, now, epoch, step), self._rates(seen, epoch, step))
        new = self._marked(new)
        if len(now) < len(self.estimators):
            self.held[epoch, step] = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        return self._keep(new)

    def gradients(
        self, epoch: int, loss: Callable[..., Tensor], batches: Iterable[Any], step: int | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        """Record how the gradient of a loss varies over the batches of the training set.

        Nothing is changed, as in `snapshot`.

        Args:
            epoch: The number of the epoch.
            loss: The loss of a batch, with the forward pass, such as
                `lambda x, y: cross_entropy(model(x), y)`; with replicas (R,).
            batches: A loader, or any iterable of batches. The model runs in the mode in which it is.
            step: The number of the training step; by default the epoch.

        Returns:
            The new rows of the table of gradients, by its name.
        """
        step = epoch if step is None else step
        with unmoved(batches):
            found = gradient_statistics(
                self.model,
                loss,
                batches,
                streams=self._streams(epoch, step, "gradients") if self.passes.order else None,
            )
        new: list[Row] = []
        for name, gradient in found.items():
            columns = {n: getattr(gradient, n).tolist() for n in ("mean_norm", "std_norm", "weight_norm", "snr")}
            for r in range(len(gradient.mean_norm)):
                place = {"run": self.run, "epoch": epoch, "step": step, "replica": r, "layer": self._layer_of(name)}
                new.append(place | {"batches": gradient.batches} | {n: values[r] for n, values in columns.items()})
        return self._keep({"gradients": new})

    def finish(self) -> dict[str, list[dict[str, Any]]]:
        """Take the second pass: measure all snapshots again with bins over the range of the whole run."""
        deferred = [m for m in self.estimators if m.deferred]
        if not deferred or not self.held:
            return {}
        present = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        limits: Limits = {}
        new: dict[str, list[Any]] = {}
        try:
            for measure in (False, True):
                for (epoch, step), state in self.held.items():
                    self.model.load_state_dict(state)
                    with self.passes.observe(self._streams(epoch, step)) as seen:
                        if measure:
                            with torch_threads(1):
                                found = self._estimates(seen, deferred, epoch, step, limits)
                            new = _joined(new, self._marked(found))
                        else:
                            _widen(limits, seen)
        finally:
            self.model.load_state_dict(present)
        self.held.clear()
        return self._keep(new)

    def frame(self, table: str = "measurements") -> pd.DataFrame:
        """Give what was recorded as a tidy table; values in nats.

        Args:
            table: "measurements", one row per number; "certificates", one row per Echo layer,
                replica and snapshot; "taps"; or "gradients" (`records.TABLES`).
        """
        return frame_of(choose(table, TABLES, "table"), self._rows[table])

    def _chained(self, chain: bool | None) -> list[str]:
        """The layers of which each is a function of the one before it."""
        if chain is None:
            known = isinstance(self.model, nn.Sequential) or hasattr(self.model, "layer_names")
            return [n for n in _default_layers(self.model, self.passes.x) if n in self.layers] if known else []
        return self.layers if chain else []

    def _marked(self, new: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The same rows of one snapshot, those of its numbers that are impossible marked."""
        return new | {"measurements": mark(new["measurements"], self._chain)} if "measurements" in new else new

    def _keep(self, new: dict[str, list[Any]]) -> dict[str, list[Row]]:
        """Complete the rows, hold them for `frame`, and give them back."""
        rows: dict[str, list[Row]] = {}
        for table, own in new.items():
            rows[table] = [TABLES[table].row(each.row() if isinstance(each, Measurement) else each) for each in own]
            self._rows[table] += rows[table]
        return rows

    def _layer_of(self, weight: str) -> str:
        """In our networks the layer that a weight matrix is of: hidden1 of hidden1.linear."""
        own = weight.partition(".")[0]
        return own if own in getattr(self.model, "layer_names", ()) else weight

    def _streams(self, epoch: int, step: int, what: str = "measure") -> Streams:
        return Streams([derive(what, self.probe.name, s, epoch, step) for s in self._seeds], self.passes.x.device)

    def _estimates(
        self, seen: Observation, estimators: Sequence[Estimator], epoch: int, step: int, limits: Limits | None = None
    ) -> dict[str, list[Any]]:
        tasks: list[tuple[str, list[int], Estimator, Reading, Tensor | None]] = []
        for layer in self.layers:
            codes, clean = seen.codes[layer], seen.clean.get(layer)
            good = self._finite(layer, epoch, codes)
            chosen = torch.tensor(good, dtype=torch.int64, device=codes.device)
            # all, as a rule: what a large layer holds, and the inputs, are not copied
            pick = _picker(good, self.replicas, chosen)
            reading = Reading(
                layer=layer,
                codes=pick(codes),
                clean=None if clean is None else pick(clean),
                draw=None if clean is None else _drawer(seen, layer, chosen),
                limits=None if limits is None else (limits[layer][0][chosen], limits[layer][1][chosen]),
                affine=_mapper(seen, layer, chosen),
                noise=self._noise(seen, layer, chosen),
                inputs=None if self._read is None else pick(self._read),
                seeds=tuple(derive("estimate", self.probe.name, self._seeds[r], epoch, step) for r in good),
                population=self.probe.population,
            )
            labels = None if self._labels is None else pick(self._labels)
            tasks += [(layer, good, estimator, reading, labels) for estimator in estimators]
        new: dict[str, list[Any]] = {"measurements": []}
        for (layer, good, estimator, _, _), (found, more) in zip(
            tasks, _side_by_side(_measure, tasks, self._workers), strict=True
        ):
            rows = dict(zip(good, found, strict=True))
            for table, own in more.items():
                for r, lines in zip(good, own, strict=True):
                    new.setdefault(table, []).extend(self._where(epoch, step, r, layer) | line for line in lines)
            pattern = next(iter(rows.values()), None)
            for r in range(self.replicas):
                estimates = rows[r] if r in rows else self._missing(pattern, estimator)
                new["measurements"] += [self._place(e, epoch, step, r, layer) for e in estimates]
        return new

    def _rates(self, seen: Observation, epoch: int, step: int) -> dict[str, list[Any]]:
        """The exact rates of Echo layers with their certificates, and what noisy layers hold of the label."""
        measurements: list[Measurement] = []
        verdicts: list[Row] = []
        good = set(range(self.replicas))
        layers = echo_layers(self.model)
        noisy = noisy_layers(self.model)
        for name in self.passes.order:
            f, log_s, z = seen.crossings[name]
            scale = log_s if name in layers else log_s.exp()  # a unit without noise is nothing odd but in an Echo layer
            good &= set(self._finite(name, epoch, torch.cat([f, scale, z], -1)))
        certificates = certificates_of(self.passes, seen, sorted(good), self.probe.law is None)
        scores, labels = seen.logits, self._labels
        if scores is not None and labels is not None and scores.shape[-1] <= int(labels.max()):
            scores = None  # the output is no score for each class
        for name in self.passes.order:
            for r in range(self.replicas):
                rows: list[Estimate] = []
                if name in layers and r in good:
                    rows = rates_of(self.passes, seen, name, r, certificates)
                elif name in layers:
                    rows = missing_rates(layers[name], self.passes.n)
                if r in good and scores is not None and labels is not None and name in seen.through[""]:
                    rows += label_bounds(scores[r], labels[r], rows[-1] if rows else None, noisy[name].kind)
                measurements += [self._place(e, epoch, step, r, name) for e in rows]
                if name in layers and r in good:
                    verdicts.append(self._where(epoch, step, r, name) | certificates[name][r].row())
        return {"measurements": measurements} | ({"certificates": verdicts} if verdicts else {})

    def _noise(self, seen: Observation, layer: str, chosen: Tensor) -> Noise | None:
        if layer not in seen.crossings:
            return None
        channel = noisy_layers(self.model)[layer]
        noise = seen.noise(layer)
        resend = noise.resend
        diagonal = getattr(channel, "mixing", "diagonal") == "diagonal"
        return replace(
            noise,
            sent=noise.sent[chosen],
            std=None if noise.std is None else noise.std[chosen],
            scale=noise.scale[chosen] if diagonal and noise.scale is not None else None,
            resend=None if resend is None else lambda k: resend(k)[:, chosen],
        )

    def _finite(self, layer: str, epoch: int, codes: Tensor) -> list[int]:
        """Find the replicas whose codes are all finite. For every other, warn once, naming the layer and the epoch."""
        # NaN where any is; faster than isfinite, and than aminmax along an axis
        good = [all(map(math.isfinite, ends_of(row))) for row in codes]
        for r, fine in enumerate(good):
            if not fine and r not in self._diverged:
                self._diverged.add(r)
                warnings.warn(
                    f"Layer {layer!r} holds NaN or infinite values at epoch {epoch} in replica {r}; not measured.",
                    NonFiniteWarning,
                    stacklevel=4,
                )
        return [r for r, fine in enumerate(good) if fine]

    def _missing(self, pattern: list[Estimate] | None, estimator: Estimator) -> list[Estimate]:
        """The rows of a replica that has diverged: those of the others, without their numbers."""
        nothing: dict[str, Any] = {
            "value": math.nan,
            "stderr": math.nan,
            "error": math.nan,
            "warnings": ("non-finite",),
        }
        if pattern:
            return [replace(e, **nothing) for e in pattern]
        quantities = ("I(X;T)",) if self._labels is None else ("I(X;T)", "I(T;Y)")
        common: dict[str, Any] = {
            "standing": "estimate",
            "channel": "",
            "estimator": estimator.name,
            "n": self.passes.n,
        }
        return [Estimate(quantity=q, **common, **nothing) for q in quantities]

    def _place(self, e: Estimate, epoch: int, step: int, replica: int, layer: str) -> Measurement:
        number = {f: getattr(e, f) for f in Estimate.__dataclass_fields__}
        return Measurement(**number, **self._where(epoch, step, replica, layer))

    def _where(self, epoch: int, step: int, replica: int, layer: str) -> dict[str, Any]:
        return {
            "run": self.run,
            "epoch": epoch,
            "step": step,
            "replica": replica,
            "probe": self.probe.name,
            "layer": layer,
        }


def _measure(
    task: tuple[str, list[int], Estimator, Reading, Tensor | None],
) -> tuple[list[list[Estimate]], dict[str, list[list[dict[str, object]]]]]:
    """The numbers of each replica, and its rows of the estimator's own tables."""
    _, good, estimator, reading, labels = task
    return estimator.measure_with_tables(reading, labels) if good else ([], {})


def _joined(a: dict[str, list[Any]], b: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows of both, table by table."""
    return {table: [*a.get(table, []), *b.get(table, [])] for table in {**a, **b}}


def _side_by_side(function: Callable[[T], S], tasks: Sequence[T], workers: int) -> Iterable[S]:
    """Map in order, a task a thread: estimators are many small operations, work for one thread each."""
    workers = min(workers, len(tasks))
    if workers < 2:
        return map(function, tasks)
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, tasks))


def _picker(good: list[int], replicas: int, chosen: Tensor) -> Callable[[Tensor], Tensor]:
    return (lambda t: t[chosen]) if 0 < len(good) < replicas else (lambda t: t)


def _drawer(seen: Observation, layer: str, chosen: Tensor) -> Callable[[int], Tensor]:
    return lambda k: seen.draw(layer, k)[:, chosen]


def _mapper(seen: Observation, layer: str, chosen: Tensor) -> Callable[[], Tensor | None]:
    def affine() -> Tensor | None:
        w = seen.affine(layer)
        return None if w is None else w[chosen]

    return affine


def _widen(limits: Limits, seen: Observation) -> None:
    """Let the limits, (R, D) a layer, hold the codes of another snapshot; infinities are none of their business."""
    for layer, codes in seen.codes.items():
        for t in (codes, seen.clean.get(layer)):
            if t is None:
                continue
            low = torch.where(t.isfinite(), t, math.inf).amin(1)
            high = torch.where(t.isfinite(), t, -math.inf).amax(1)
            if layer in limits:
                low, high = torch.minimum(low, limits[layer][0]), torch.maximum(high, limits[layer][1])
            limits[layer] = low, high


def _default_layers(model: nn.Module, x: Tensor) -> list[str]:
    noisy = list(noisy_layers(model))
    own = getattr(model, "layer_names", None)
    names: list[str] = []
    for name in own or once(model, [n for n, _ in model.named_children()], x[:2]):
        within = [n for n in noisy if n.startswith(f"{name}.")]
        for inner in within:  # a noisy layer inside a layer, and what goes into it, come before what the layer gives
            names += [sent_to(inner), inner]
        if name not in map(sent_to, within):
            names.append(name)
    for inner in noisy:
        names += [n for n in (sent_to(inner), inner) if n and n not in names]
    return names


def _inputs(model: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """How many replicas the model has, and the inputs on its device: without a replica axis where there is one."""
    replicas, axis = replica_axis(model, x)
    if axis == 1 and x.shape[0] != replicas:
        raise InfoplaneError(
            f"Recorder: the probe is {tuple(x.shape)} for {replicas} replicas; expected ({replicas}, N, D) or (N, D)."
        )
    device = next((p.device for p in model.parameters()), x.device)
    return replicas, (x[0] if axis == 1 and replicas == 1 else x).to(device)
