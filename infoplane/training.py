"""The training loop: R replicas of a classifier, recorded as they learn, in a run directory that survives a kill."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from tqdm import tqdm

from .activations import ACTIVATIONS
from .data import split
from .data.icosahedron import icosahedron
from .estimators import parse_estimator
from .insertion import echo_layers, fill_banks, insert_echo, measuring, rate
from .networks import MLP, initialise
from .recorder import Recorder
from .records import KEY, InfoplaneError
from .replicas import Streams, derive
from .rundir import RunDir
from .settings import Settings, snapshot_epochs

__all__ = ["DivergedError", "Task", "Training", "build", "choose_device", "cross_entropy", "evaluate", "train"]


class DivergedError(InfoplaneError):
    """Every replica holds NaN or infinite values; what was recorded before is in the run directory."""


def choose_device(name: str) -> torch.device:
    """The device of that name; auto takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InfoplaneError(
            f"Device {name!r} is not there ({str(error).splitlines()[0]}); expected auto, cpu, or "
            "cuda on a machine with a GPU."
        ) from None
    return device


@dataclass(frozen=True)
class Task:
    """Inputs x (N, D), classes y (N,), and for each replica which of them it trains on: (R, n_train), (R, n_test)."""

    x: Tensor
    y: Tensor
    train: Tensor
    test: Tensor
    classes: int

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """The inputs and labels of "train", "test" (a slice a replica, (R, n, D)) or "all" (one for all, (N, D))."""
        if name == "all":
            return self.x, self.y
        rows = self.train if name == "train" else self.test
        return self.x[rows], self.y[rows]


def load(settings: Settings, device: torch.device) -> Task:
    x, y = icosahedron()
    rows: list[tuple[Tensor, Tensor]] = []
    for seed in settings.seeds:
        if settings.ordered:
            cut = round(settings.split * len(x))
            rows.append((torch.arange(cut), torch.arange(cut, len(x))))
        else:
            rows.append(split(len(x), settings.split, torch.Generator().manual_seed(derive("split", seed))))
    train, test = (torch.stack(part).to(device) for part in zip(*rows, strict=True))
    return Task(x.to(device), y.to(device), train, test, int(y.max()) + 1)


def build(settings: Settings, task: Task) -> nn.Module:
    """The network of the settings, initialised, with its Echo layers."""
    model: nn.Module = MLP(task.x.shape[1], settings.widths, task.classes, settings.activation, settings.replicas)
    initialise(model, settings.init or ACTIVATIONS[settings.activation].init, settings.seeds)
    model.to(task.x.device)
    if settings.echo_at:
        insert_echo(
            model,
            settings.echo_layers,
            task.x[:2],
            inplace=True,
            bound=settings.bound,
            echoes=settings.echoes,
            scale=settings.scale,
            mixing=settings.mixing,
            shuffle=False,  # batches are drawn in random order
        )
    return model


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """(..., B) nats: -log softmax(logits)[y] of each row; logits (..., B, C), y (..., B)."""
    return -log_softmax(logits, -1).gather(-1, y.unsqueeze(-1)).squeeze(-1)


def evaluate(model: nn.Module, task: Task, streams: Streams) -> list[dict[str, object]]:
    """Loss, error and accuracy on the training and test points: of single noisy draws, and with the noise off.

    Echoes are those of the training points, which is what a prediction has at hand. One row a replica, split and path.
    """
    paths = ["plain"]
    replicas = len(task.train)
    logits: dict[str, Tensor] = {}
    with measuring(model, "draw", streams) as layers:
        if layers:
            inputs = task.x[task.train] if replicas > 1 else task.x[task.train[0]]
            fill_banks(model, inputs, streams=streams)
            paths = ["noisy", "noise-off"]
        for path in paths:
            for layer in layers.values():
                layer.phase = "mean" if path == "noise-off" else "draw"
            out = model(task.x)
            logits[path] = out if replicas > 1 else out.unsqueeze(0)
    rows: list[dict[str, object]] = []
    for path, out in logits.items():
        losses = cross_entropy(out, task.y.expand(out.shape[:-1]))
        wrong = (out.argmax(-1) != task.y).double()
        for name, points in (("train", task.train), ("test", task.test)):
            loss = losses.gather(-1, points).double().mean(-1)
            error = torch.where(loss.isfinite(), wrong.gather(-1, points).mean(-1), math.nan)
            rows += [
                {"replica": r, "split": name, "path": path, "loss": float(loss[r]), "error": float(error[r])}
                | {"accuracy": 1.0 - float(error[r])}
                for r in range(replicas)
            ]
    return rows


@dataclass
class Training:
    """The state of a run between two epochs: everything that a later epoch depends on."""

    settings: Settings
    task: Task
    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    #: (R,), mean training rate of the last epoch, nats; an approximation above the first Echo layer
    rates: Tensor = field(default_factory=lambda: torch.tensor(math.nan))

    @classmethod
    def start(cls, settings: Settings, device: torch.device) -> Training:
        task = load(settings, device)
        model = build(settings, task)
        if settings.optimizer == "adam":
            # Fused Adam rounds the ends of a tensor differently, and a replica would depend on its neighbours.
            optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, foreach=True)
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr, foreach=True)
        return cls(settings, task, model, optimizer, rates=torch.full((settings.replicas,), math.nan, device=device))

    def beta(self, epoch: int) -> float:
        """The weight of the rate in the loss of an epoch: 0 at first, then growing linearly, then the full beta."""
        s = self.settings
        if s.warmup == 0.0:
            return s.beta
        return s.beta * min(max((epoch / s.epochs - s.warmup) / s.warmup, 0.0), 1.0)

    def run_epoch(self) -> None:
        """One epoch for all replicas, each in its own order and with its own noise.

        The random streams start afresh in every epoch from (seed, epoch): a resumed run needs no random state.
        """
        s, task = self.settings, self.task
        streams = Streams([derive("epoch", seed, self.epoch) for seed in s.seeds], task.x.device)
        layers = echo_layers(self.model)
        for layer in layers.values():
            layer.streams = streams
        self.model.train()
        beta = self.beta(self.epoch)
        order = torch.take_along_dim(task.train, streams.permutations(task.train.shape[1]), -1)
        total, batches = torch.zeros_like(self.rates), 0
        for rows in _batches(order, s.batch_size or order.shape[1], s.echoes if layers else 0):
            x, y = task.x[rows], task.y[rows]
            logits = self.model(x if s.replicas > 1 else x[0])
            loss = cross_entropy(logits if s.replicas > 1 else logits.unsqueeze(0), y).mean(-1)
            if layers:
                rates = rate(self.model)
                loss = loss + beta * rates
                total += rates.detach()
            self.optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            self.optimizer.step()
            batches += 1
        self.rates = total / batches if layers else self.rates
        self.epoch += 1
        self.step += batches

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "rates": self.rates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.step = state["epoch"], state["step"]
            self.rates = state["rates"].to(self.rates.device)
        except (KeyError, RuntimeError, ValueError) as error:
            raise InfoplaneError(f"The checkpoint does not fit the settings of its run: {error}") from error


def _batches(order: Tensor, size: int, echoes: int) -> Iterator[Tensor]:
    """Slices of `size` columns of (R, n); a last one too small for its echoes is left out."""
    for rows in order.split(size, dim=1):
        if rows.shape[1] > echoes:
            yield rows


def train(
    settings: Settings,
    out: str,
    *,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    keep_weights: bool = False,
    threads: int | None = None,
) -> RunDir:
    """Train and record: the run directory `out`, complete, is what is left (see `rundir`).

    resume: go on with the run in `out` from its last checkpoint, with its own settings; it ends as if never killed.
    force: replace the run in `out`. keep_weights: keep the weights of every snapshot in checkpoints/.
    threads: of torch, on the CPU; default 1, for networks whose operations are too small to be shared, and the other
    cores measure. A resumed run takes those it had: with another number it would not end bit-equal.
    Raises InfoplaneError for what cannot be done and DivergedError when no replica is left.
    """
    if resume:
        run = RunDir.open(out)
        try:
            settings = Settings.fromdict(run.config["settings"])
            keep_weights, threads = run.config["keep_weights"], run.config["threads"]
            device = run.config["device"] if device == "auto" else device
        except KeyError as error:
            raise InfoplaneError(
                f"{run.path}/config.json has no {error}; expected what `infoplane train` writes."
            ) from None
    threads = threads or 1
    where = choose_device(device)
    estimators = [parse_estimator(text) for text in settings.estimators]
    training = Training.start(settings, where)
    recorder = Recorder(
        training.model,
        training.task.part(settings.probe),
        estimators=estimators,
        name=settings.probe,
        seeds=settings.seeds,
    )
    keep_weights = keep_weights or any(e.deferred for e in estimators)
    config = {"settings": settings.asdict(), "keep_weights": keep_weights, "device": where.type, "threads": threads}
    if not resume:
        run = RunDir.create(out, config, force=force)
    recorder.run = run.name
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with run:
            _go(run, training, recorder, keep_weights, progress)
    finally:
        torch.set_num_threads(before)
    return run


def _go(run: RunDir, training: Training, recorder: Recorder, keep_weights: bool, progress: bool) -> None:
    settings = training.settings
    if run.done:
        return
    names = run.checkpoints()
    if "last" in names:
        training.load_state(run.load_checkpoint())
        run.cut(training.epoch)
        deferred = any(e.deferred for e in recorder.estimators)
        for name in names if deferred else ():
            if name.startswith("epoch-") and int(name.removeprefix("epoch-")) <= training.epoch:
                held = run.load_checkpoint(name)
                recorder.held[held["epoch"], held["step"]] = held["model"]
    else:
        run.cut(-1)
        _record(run, training, recorder, keep_weights)
    due = set(snapshot_epochs(settings.snapshots, settings.epochs))
    every = max(settings.epochs // 20, 1)
    with tqdm(
        total=settings.epochs,
        initial=training.epoch,
        unit="epoch",
        desc="training",
        file=sys.stderr,
        disable=None if progress else True,
    ) as bar:
        while training.epoch < settings.epochs:
            training.run_epoch()
            bar.update()
            if training.epoch in due:
                _record(run, training, recorder, keep_weights)
            elif training.epoch % every == 0:
                run.save_checkpoint(training.state())
    _finish(run, recorder)


def _finish(run: RunDir, recorder: Recorder) -> None:
    """The second pass, and the mark. Its rows are of past epochs: those that a kill left here are not written twice."""
    rows = [m.row() for m in recorder.finish()]
    if rows:
        written = set(run.read("measurements")[list(KEY)].itertuples(index=False, name=None))
        run.append("measurements", [row for row in rows if tuple(row[k] for k in KEY) not in written])
    run.mark_done()


def _record(run: RunDir, training: Training, recorder: Recorder, keep_weights: bool) -> None:
    """Measure, write the rows, and only then the checkpoint that stands for them."""
    model, settings = training.model, training.settings
    seen = len(recorder.certificates)
    streams = Streams([derive("evaluate", s, training.epoch) for s in settings.seeds], training.task.x.device)
    metrics = evaluate(model, training.task, streams)
    measurements = recorder.snapshot(training.epoch, training.step)
    place = {"run": run.name, "epoch": training.epoch, "step": training.step}
    rates = training.rates.tolist()
    run.append("measurements", [m.row() for m in measurements])
    if recorder.certificates[seen:]:
        run.append("certificates", recorder.certificates[seen:])
    run.append("metrics", [place | row | {"rate_nats": rates[int(str(row["replica"]))]} for row in metrics])
    if keep_weights:
        run.save_checkpoint(
            {"model": model.state_dict(), "epoch": training.epoch, "step": training.step}, f"epoch-{training.epoch}"
        )
    run.save_checkpoint(training.state())
    if all(math.isnan(float(str(row["loss"]))) for row in metrics):
        raise DivergedError(
            f"Every replica holds NaN or infinite values at epoch {training.epoch} (lr {settings.lr:g}). What was "
            f"recorded until then is in {run.path}. Try a smaller --lr."
        )
