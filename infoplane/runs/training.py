"""The training loop: R replicas of a network, recorded as they learn, in a run directory that survives a kill."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..channels.insertion import insert_channel
from ..channels.models import noisy_layers, rate
from ..errors import InfoplaneError
from ..estimators import parse_estimator
from ..estimators.tap import Tap
from ..nn.activations import ACTIVATIONS
from ..nn.networks import CNN, MLP, initialise
from ..recording.probe import Probe
from ..recording.recorder import Recorder
from ..records import TABLES
from ..streams import Streams, derive
from ..threads import torch_threads
from .directory import RunDir
from .evaluation import evaluate, max_rows
from .settings import Settings, snapshot_epochs
from .task import Task, load

__all__ = ["DivergedError", "Training", "build", "choose_device", "recorder_of", "same_data", "train"]


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


def build(settings: Settings, task: Task) -> nn.Module:
    """The network of the settings, initialised, with its noisy layers."""
    common = (settings.widths, task.outputs, settings.activation, settings.replicas, settings.bits)
    model: nn.Module
    if settings.model == "cnn":
        model = CNN(task.x.shape[1:], settings.conv_channels, *common)
    else:
        model = MLP(task.x.shape[1], *common)
    initialise(model, settings.init or ACTIVATIONS[settings.activation].init, settings.seeds)
    model.to(task.x.device)
    if settings.bits:  # the ranges that epoch 0 is measured with are those of a batch
        streams = Streams([derive("range", seed) for seed in settings.seeds], task.x.device)
        order = torch.take_along_dim(task.train, streams.permutations(task.train.shape[1]), -1)
        rows = order[:, : settings.batch_size or order.shape[1]]
        with torch.no_grad():
            model(task.x[rows] if settings.replicas > 1 else task.x[rows[0]])
    if settings.echo_at and settings.echo_mode == "chain":
        options: dict[str, dict[str, Any]] = {
            "echo": {
                "max_scale": settings.max_scale,
                "echoes": settings.echoes,
                "scale": settings.scale,
                "mixing": settings.mixing,
                "shuffle": False,  # batches are drawn in random order
            },
            "gaussian": {"std": settings.noise_std, "scale": settings.scale},
            "dropout": {"p": settings.dropout},
        }
        insert_channel(
            model,
            settings.noisy_layers,
            task.x[:2],
            settings.noise,
            inplace=True,
            **options[settings.noise],
        )
    return model


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
    def start(cls, settings: Settings, device: torch.device, *, download: bool = False) -> Training:
        task = load(settings, device, download=download)
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

    @cached_property
    def rated(self) -> bool:
        """Whether there is a rate to train with."""
        return any(layer.rated for layer in noisy_layers(self.model).values())

    def batches(self, streams: Streams) -> Iterator[Tensor]:
        """The minibatches of an epoch, (R, B) rows of the task, each replica's in an order drawn from its stream; a
        last one too small for its echoes is left out."""
        s, train = self.settings, self.task.train
        order = torch.take_along_dim(train, streams.permutations(train.shape[1]), -1)
        echoes = s.echoes if s.noise == "echo" and noisy_layers(self.model) else 0
        for rows in order.split(s.batch_size or order.shape[1], dim=1):
            if rows.shape[1] > echoes:
                yield rows

    def loss(self, rows: Tensor) -> Tensor:
        """(R,): what a minibatch of this epoch is trained on, the mean loss and beta times the rate."""
        many = self.settings.replicas > 1
        x, y = self.task.at(rows)
        logits = self.model(x if many else x[0])
        loss = self.task.loss(logits if many else logits.unsqueeze(0), y).mean(-1)
        return loss + self.beta(self.epoch) * rate(self.model) if self.rated else loss

    def run_epoch(self) -> None:
        """One epoch for all replicas, each in its own order and with its own noise.

        The random streams start afresh in every epoch from (seed, epoch): a resumed run needs no random state.
        """
        streams = Streams([derive("epoch", seed, self.epoch) for seed in self.settings.seeds], self.task.x.device)
        layers = noisy_layers(self.model)
        for layer in layers.values():
            layer.streams = streams
        self.model.train()
        total, batches = torch.zeros_like(self.rates), 0
        for rows in self.batches(streams):
            loss = self.loss(rows)
            if self.rated:
                total += rate(self.model).detach()
            self.optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            self.optimizer.step()
            batches += 1
        self.rates = total / batches if self.rated else self.rates
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


def train(
    settings: Settings,
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    keep_weights: bool = False,
    threads: int | None = None,
    workers: int | None = None,
    download: bool = False,
) -> RunDir:
    """Train and record: the run directory `out`, complete, is what is left (see `rundir`).

    resume: go on with the run in `out` from its last checkpoint, with its own settings; it ends as if never killed.
    force: replace the run in `out`. keep_weights: keep the weights of every snapshot in checkpoints/.
    threads: of torch, on the CPU; default 1, for networks whose operations are too small to be shared, and the other
    cores measure (workers: so many of them). A resumed run takes those it had: with another number it would not end
    bit-equal. download: the data
    set, where its files are not there.
    Raises InfoplaneError for what cannot be done and DivergedError when no replica is left.
    """
    if resume:
        run = RunDir.open(out)
        run.check_format()
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
    training = Training.start(settings, where, download=download)
    if resume:
        same_data(run, training.task)
    recorder = recorder_of(training, workers=workers)
    keep_weights = keep_weights or any(e.deferred for e in recorder.estimators)
    config = {"settings": settings.asdict(), "keep_weights": keep_weights, "device": where.type, "threads": threads}
    if not resume:
        run = RunDir.create(out, config | {"data": training.task.fingerprint}, force=force)
    recorder.run = run.name
    with torch_threads(threads), run:
        _go(run, training, recorder, keep_weights, progress)
    return run


def same_data(run: RunDir, task: Task) -> None:
    """InfoplaneError where the data are not those that the run was started with."""
    if run.config.get("data", task.fingerprint) != task.fingerprint:
        raise InfoplaneError(
            f"The data are not those that {run.path} was started with: its numbers, and its seeds, are of others. Give "
            "it back its files (--data-root)."
        )


def recorder_of(training: Training, probe: str | None = None, **options: Any) -> Recorder:
    """Make the Recorder of a run.

    Args:
        training: The run: its network, data and settings.
        probe: "train", "test" or "all"; by default that of the settings.
        options: Options of `Recorder`, in place of what the settings say.
    """
    settings, task = training.settings, training.task
    name = probe or settings.probe
    x, y = task.part(name)
    chosen = [parse_estimator(e) if isinstance(e, str) else e for e in options.pop("estimators", settings.estimators)]
    if settings.echo_mode == "tap" and not any(e.name == Tap.name for e in chosen):
        chosen.append(Tap(settings.tap_objective, settings.tap_betas, layers=tuple(settings.noisy_layers)))
    population = task.enumerated and task.whole and name == "all"
    return Recorder(
        training.model,
        Probe(x, None if task.regression else y, name, population),
        estimators=[e.bind(task.law) for e in chosen],
        seed=settings.seeds,
        batch_size=max_rows(task.x, settings.replicas, task.x.dim() - 1),
        **options,
    )


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
    for table, rows in recorder.finish().items():
        key = list(TABLES[table].key)
        written = set(run.read(table)[key].itertuples(index=False, name=None))
        run.append({table: [row for row in rows if tuple(row[k] for k in key) not in written]})
    run.mark_done()


def _record(run: RunDir, training: Training, recorder: Recorder, keep_weights: bool) -> None:
    """Measure, write the rows, and only then the checkpoint that stands for them."""
    model, settings = training.model, training.settings
    streams = Streams([derive("evaluate", s, training.epoch) for s in settings.seeds], training.task.x.device)
    metrics = evaluate(model, training.task, streams)
    place = {"run": run.name, "epoch": training.epoch, "step": training.step}
    rates = training.rates.tolist()
    run.append(recorder.snapshot(training.epoch, training.step))
    if settings.gradients:
        orders = Streams([derive("order", s, training.epoch) for s in settings.seeds], training.task.x.device)
        run.append(recorder.gradients(training.epoch, training.loss, training.batches(orders), training.step))
    run.append({"metrics": [place | row | {"rate_nats": rates[int(str(row["replica"]))]} for row in metrics]})
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
