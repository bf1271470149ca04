"""A probe set, taps, estimators and a model: snapshots of how much each layer holds, that change nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .consistency import mark
from .estimators.inputs import ends_of
from .estimators.protocol import Estimator, Noise, Reading
from .estimators.tap import Tap
from .gradients import gradient_statistics
from .models import echo_layers, noisy_layers, plain, replica_axis, sent_to
from .passes import Observation, Passes
from .rates import certificates_of, label_bounds, missing_rates, rates_of
from .records import COLUMNS, Estimate, InfoplaneError, Measurement
from .replay import Replay
from .streams import Streams, derive
from .taps import once
from .threads import cores, torch_threads

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NonFiniteWarning", "Recorder"]

S = TypeVar("S")
T = TypeVar("T")
Limits = dict[str, tuple[Tensor, Tensor]]


class NonFiniteWarning(UserWarning):
    """A layer held NaN or infinite values: that replica was not measured, the others were."""


class Recorder:
    """Measure the layers of a model on a fixed set of inputs, as often as `snapshot` is called.

    model: any nn.Module; with Echo layers, their exact rates and certificates are recorded too.
    probe: what is measured on: (x, y), x alone, a Dataset or a DataLoader. x: (N, ...), or (R, N, ...) for networks
    of R
        replicas with inputs of their own; y: classes, (N,) or (R, N); without y there is no I(T;Y).
    layers: dotted names; `NAME` is what goes into the Echo layer behind NAME, `NAME.echo` what comes out (`NAME.noise`
        of a Gaussian or dropout layer). Default: the layers of one of our networks, of any other model its direct
        children that run; and all noisy layers.
    estimators: default KDE() and Binning(); or as the command line names them, "kde:noise_variance=0.1".
    law: inputs whose law the echoes follow; default: the probe itself, which exact rates need.
    references: independent reference codes for each Echo layer. batch_size: rows a forward pass, default all.
    seed: of the noise drawn in measuring and of nothing else; seeds: one for each replica, default seed + r.
    reduce: see `Taps`. run, name: what stands in the columns `run` and `probe`.
    population: the probe holds every input there is, and nothing is a sample (the 12-bit task).
    chain: each of the layers is a function of the one before it, so that none can hold more (warning data-processing);
        None: where that is known, in our networks and torch.nn.Sequential.
    workers: threads that measure layers side by side; default: the cores.

    A snapshot leaves weights, buffers, flags, random states and `rate(model)` as they were. Layers at or above noise
    are measured on noisy draws (I(T;Y)) and on the mean path (I(X;T), channel "noise-off"): see `estimators.protocol`.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Any,
        layers: Sequence[str] | None = None,
        estimators: Sequence[Estimator | str] | None = None,
        *,
        run: str = "run",
        name: str = "all",
        law: Tensor | None = None,
        references: int = 4096,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        batch_size: int | None = None,
        reduce: Callable[[Any], Tensor] | None = None,
        population: bool = False,
        chain: bool | None = None,
        workers: int | None = None,
    ) -> None:
        from .estimators import KDE, Binning, parse_estimator

        self.model = plain(model)
        self.run, self.name = run, name
        chosen: Sequence[Estimator | str] = [KDE(), Binning()] if estimators is None else estimators
        self.estimators: list[Estimator] = [parse_estimator(e) if isinstance(e, str) else e for e in chosen]
        x, y = _probe(probe)
        device = next((p.device for p in self.model.parameters()), x.device)
        replicas, axis = replica_axis(self.model, x)
        if axis == 1 and x.shape[0] != replicas:
            raise InfoplaneError(
                f"Recorder: the probe is {tuple(x.shape)} for {replicas} replicas; expected "
                f"({replicas}, N, D) or (N, D)."
            )
        if axis == 1 and replicas == 1:
            x = x[0]
        x = x.to(device)
        self.layers = list(layers) if layers is not None else _default_layers(self.model, x)
        self.passes = Passes(
            self.model,
            x,
            self.layers,
            law=None if law is None else law.to(device),
            references=references,
            batch_size=batch_size,
            reduce=reduce,
        )
        if self.passes.n < 2:
            raise InfoplaneError(f"Recorder: the probe holds {self.passes.n} inputs; expected at least 2.")
        self._same_law = law is None
        self._population, self._workers = population, workers or cores()
        known = isinstance(self.model, nn.Sequential) or hasattr(self.model, "layer_names")
        given = self.layers
        if (known and not isinstance(self.model, Replay)) if chain is None else chain:
            given = given if chain else [n for n in _default_layers(self.model, x) if n in self.layers]
        else:
            given = []
        self._chain = given
        axis = self.passes.axis
        flat = x.flatten(axis + 1) if x.dim() > axis + 1 else x.unsqueeze(-1)
        self._inputs = (
            None if isinstance(self.model, Replay) else (flat if axis else flat.unsqueeze(0)).expand(replicas, -1, -1)
        )
        self._labels = _labels(y, replicas, self.passes.n, device)
        self._seeds = list(seeds) if seeds is not None else [seed + r for r in range(replicas)]
        self.measurements: list[Measurement] = []
        self.certificates: list[dict[str, object]] = []
        #: what Echo taps know beside their numbers, for taps.csv
        self.taps: list[dict[str, object]] = []
        self.gradient_rows: list[dict[str, object]] = []
        #: weights of past snapshots, by (epoch, step), for estimators that need the range of the whole run
        self.held: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._diverged: set[int] = set()

    @property
    def replicas(self) -> int:
        return self.passes.replicas

    def snapshot(self, epoch: int, step: int | None = None) -> list[Measurement]:
        """Measure now. Returns the new measurements, which `frame` then holds too."""
        step = epoch if step is None else step
        now = [m for m in self.estimators if not m.deferred]
        with self.passes.observe(self._streams(epoch, step)) as seen:
            # Many small operations: two threads on each of them take up to fifty times as long on a busy machine.
            with torch_threads(1):
                new = self._estimates(seen, now, epoch, step) + self._rates(seen, epoch, step)
        new = mark(new, self._chain)
        self.measurements += new
        if len(now) < len(self.estimators):
            self.held[epoch, step] = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        return new

    def gradients(
        self, epoch: int, loss: Callable[..., Tensor], batches: Iterable[Any], step: int | None = None
    ) -> list[dict[str, object]]:
        """Record how the gradient of a loss varies over the batches of the training set, which `gradient_frame` holds.

        loss: of a batch, with the forward pass: lambda x, y: cross_entropy(model(x), y); with replicas (R,).
        batches: a loader, or any iterable of batches; the model runs in the mode in which it is
        (`gradients.gradient_statistics`). Returns the new rows. Changes nothing, as `snapshot`.
        """
        step = epoch if step is None else step
        with _untouched(batches):
            found = gradient_statistics(
                self.model,
                loss,
                batches,
                streams=self._streams(epoch, step, "gradients") if self.passes.order else None,
            )
        new: list[dict[str, object]] = []
        for name, gradient in found.items():
            columns = {n: getattr(gradient, n).tolist() for n in ("mean_norm", "std_norm", "weight_norm", "snr")}
            for r in range(len(gradient.mean_norm)):
                place = {"run": self.run, "epoch": epoch, "step": step, "replica": r, "layer": self._layer_of(name)}
                new.append(place | {"batches": gradient.batches} | {n: values[r] for n, values in columns.items()})
        self.gradient_rows += new
        return new

    def finish(self) -> list[Measurement]:
        """The second pass: measure all snapshots again with bins over the range of the whole run."""
        deferred = [m for m in self.estimators if m.deferred]
        if not deferred or not self.held:
            return []
        present = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        limits: Limits = {}
        new: list[Measurement] = []
        try:
            for measure in (False, True):
                for (epoch, step), state in self.held.items():
                    self.model.load_state_dict(state)
                    with self.passes.observe(self._streams(epoch, step)) as seen:
                        if measure:
                            with torch_threads(1):
                                new += mark(self._estimates(seen, deferred, epoch, step, limits), self._chain)
                        else:
                            _widen(limits, seen)
        finally:
            self.model.load_state_dict(present)
        self.held.clear()
        self.measurements += new
        return new

    def frame(self) -> pd.DataFrame:
        """A tidy table, one row a number (`records.COLUMNS`); values in nats."""
        import pandas as pd

        return pd.DataFrame([m.row() for m in self.measurements], columns=list(COLUMNS))

    def tap_frame(self) -> pd.DataFrame:
        """One row an Echo tap (layer, beta), replica and snapshot: its certificate, cross-entropy or distortion."""
        import pandas as pd

        return pd.DataFrame(self.taps)

    def certificate_frame(self) -> pd.DataFrame:
        """One row an Echo layer, replica and snapshot: every condition of its certificate."""
        import pandas as pd

        return pd.DataFrame(self.certificates)

    def gradient_frame(self) -> pd.DataFrame:
        """One row a weight matrix, replica and call of `gradients`: norms of the mean and the standard deviation."""
        import pandas as pd

        return pd.DataFrame(self.gradient_rows)

    def _layer_of(self, weight: str) -> str:
        """In our networks the layer that a weight matrix is of: hidden1 of hidden1.linear."""
        own = weight.partition(".")[0]
        return own if own in getattr(self.model, "layer_names", ()) else weight

    def _streams(self, epoch: int, step: int, what: str = "measure") -> Streams:
        return Streams([derive(what, self.name, s, epoch, step) for s in self._seeds], self.passes.x.device)

    def _estimates(
        self, seen: Observation, estimators: Sequence[Estimator], epoch: int, step: int, limits: Limits | None = None
    ) -> list[Measurement]:
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
                inputs=None if self._inputs is None else pick(self._inputs),
                seeds=tuple(derive("estimate", self.name, self._seeds[r], epoch, step) for r in good),
                population=self._population,
            )
            labels = None if self._labels is None else pick(self._labels)
            tasks += [(layer, good, estimator, reading, labels) for estimator in estimators]
        new: list[Measurement] = []
        for (layer, good, estimator, _, _), (found, more) in zip(
            tasks, _side_by_side(_measure, tasks, self._workers), strict=True
        ):
            rows = dict(zip(good, found, strict=True))
            for r, lines in zip(good, more, strict=False):
                self.taps += [self._where(epoch, step, r, layer) | line for line in lines]
            pattern = next(iter(rows.values()), None)
            for r in range(self.replicas):
                estimates = rows[r] if r in rows else self._missing(pattern, estimator)
                new += [self._place(e, epoch, step, r, layer) for e in estimates]
        return new

    def _rates(self, seen: Observation, epoch: int, step: int) -> list[Measurement]:
        new: list[Measurement] = []
        good = set(range(self.replicas))
        layers = echo_layers(self.model)
        noisy = noisy_layers(self.model)
        for name in self.passes.order:
            f, log_s, z = seen.crossings[name]
            scale = log_s if name in layers else log_s.exp()  # a unit without noise is nothing odd but in an Echo layer
            good &= set(self._finite(name, epoch, torch.cat([f, scale, z], -1)))
        certificates = certificates_of(self.passes, seen, sorted(good), self._same_law)
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
                new += [self._place(e, epoch, step, r, name) for e in rows]
                if name in layers and r in good:
                    self.certificates.append(self._where(epoch, step, r, name) | certificates[name][r].row())
        return new

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
        """The replicas whose codes are all finite; of each other it is said once where and when it was lost."""
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
            "probe": self.name,
            "layer": layer,
        }


def _measure(
    task: tuple[str, list[int], Estimator, Reading, Tensor | None],
) -> tuple[list[list[Estimate]], list[list[dict[str, object]]]]:
    """The numbers of each replica, and of an Echo tap the rows of its own table."""
    _, good, estimator, reading, labels = task
    if not good:
        return [], []
    if isinstance(estimator, Tap):
        fits = estimator.fit(reading, labels)
        return estimator.estimates(reading, labels, fits), estimator.table(fits)
    return estimator.measure(reading, labels), []


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


def _probe(probe: Any) -> tuple[Tensor, Tensor | None]:
    """Inputs and labels out of a tensor, a pair, a dataset or a loader, without a step of a random stream of torch."""
    if isinstance(probe, Tensor):
        return probe, None
    if isinstance(probe, tuple | list) and len(probe) in (1, 2) and all(isinstance(t, Tensor) for t in probe):
        return probe[0], probe[1] if len(probe) == 2 else None
    if isinstance(probe, Dataset) and not isinstance(probe, DataLoader):
        probe = DataLoader(probe, batch_size=256)
    if isinstance(probe, DataLoader):
        with torch.random.fork_rng(devices=[]), _untouched(probe):
            batches = [b if isinstance(b, tuple | list) else (b,) for b in probe]
        if not batches:
            raise InfoplaneError("Recorder: the probe's loader gave no batch; expected inputs.")
        columns = [torch.cat([b[i] for b in batches]) for i in range(min(len(batches[0]), 2))]
        return columns[0], columns[1] if len(columns) == 2 else None
    raise InfoplaneError(
        f"Recorder: the probe is a {type(probe).__name__}; expected (x, y) or x as tensors, a Dataset or a DataLoader."
    )


@contextmanager
def _untouched(batches: Iterable[Any]) -> Iterator[None]:
    """The generators of a loader, which may be the one that trains, are afterwards where they were."""
    sampler = getattr(batches, "sampler", None)
    own = [getattr(each, "generator", None) for each in (batches, sampler)] if isinstance(batches, DataLoader) else []
    before = [(g, g.get_state()) for g in own if g is not None]
    try:
        yield
    finally:
        for generator, state in before:
            generator.set_state(state)


def _labels(y: Tensor | None, replicas: int, n: int, device: torch.device) -> Tensor | None:
    if y is None:
        return None
    if y.is_floating_point() or y.is_complex() or y.shape not in ((n,), (replicas, n)):
        raise InfoplaneError(
            f"Recorder: labels are {y.dtype} of shape {tuple(y.shape)}; expected whole numbers, ({n},)"
            + (f" or ({replicas}, {n})." if replicas > 1 else ".")
        )
    if int(y.min()) < 0:
        raise InfoplaneError(f"Recorder: a label is {int(y.min())}; expected classes counted from 0.")
    return y.to(device, torch.int64).expand(replicas, n)
