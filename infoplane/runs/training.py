"""Train R replicas of a network, and record them while they learn.

Everything is written to a run directory as it is measured, so that a run that was killed can be
resumed.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..channels.models import noisy_layers, rate
from ..errors import InfoplaneError
from ..estimators import parse_estimator
from ..estimators.tap import Tap
from ..recording.probe import Probe
from ..recording.recorder import Recorder
from ..records import TABLES
from ..streams import Streams, derive
from ..threads import torch_threads
from .build import build, choose_device
from .directory import RunDir
from .evaluation import evaluate, max_rows
from .settings import Settings, snapshot_epochs
from .task import Task, load

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

__all__ = ["DivergedError", "Training", "recorder_of", "same_data", "train"]


class DivergedError(InfoplaneError):
    """The error of `train` when every replica holds NaN or infinite values.

    Everything that was recorded before is in the run directory.

    Example:
        >>> import tempfile, warnings
        >>> import infoplane as ip
        >>> options = {"activation": "relu", "optimizer": "sgd", "lr": 1e30, "subset": 200}
        >>> settings = ip.Settings(epochs=1, widths=(3,), replicas=1, estimators=(), **options)
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", ip.recording.NonFiniteWarning)
        ...     try:
        ...         run = ip.train(settings, f"{folder}/run", progress=False)
        ...     except ip.runs.DivergedError as error:
        ...         print(str(error).partition(" (")[0])
        Every replica holds NaN or infinite values at epoch 1
    """


@dataclass
class Training:
    """The state of a run between two epochs: everything that a later epoch depends on.

    Args:
        settings: The settings of the run.
        task: The data and the loss.
        model: The network, with all replicas.
        optimizer: The optimiser of its weights.
        epoch: The number of epochs trained so far.
        step: The number of training steps so far.
        rates: (R,), the mean training rate over the last epoch, in nats. It is an approximation
            above the first Echo layer.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> settings = ip.Settings(epochs=10, widths=(3,), replicas=2, subset=200, warmup=0)
        >>> training = ip.runs.Training.start(settings, torch.device("cpu"))
        >>> training.run_epoch()
        >>> training.epoch, training.step, training.beta(training.epoch)
        (1, 1, 0.03)
    """

    settings: Settings
    task: Task
    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    rates: Tensor = field(default_factory=lambda: torch.tensor(math.nan))

    @classmethod
    def start(cls, settings: Settings, device: torch.device, *, download: bool = False) -> Training:
        """Load the data, and build the network and its optimiser, before the first epoch.

        Args:
            settings: The settings of the run.
            device: The device of data and network.
            download: Whether to fetch missing data.

        Raises:
            InfoplaneError: If the data cannot be read, or the settings do not fit them.
        """
        task = load(settings, device, download=download)
        model = build(settings, task)
        if settings.optimizer == "adam":
            # Fused Adam rounds the ends of a tensor differently, so that a replica would depend on
            # its neighbours.
            optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, foreach=True)
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr, foreach=True)
        return cls(settings, task, model, optimizer, rates=torch.full((settings.replicas,), math.nan, device=device))

    def beta(self, epoch: int) -> float:
        """Return the weight of the rate in the loss of an epoch, in nats per nat.

        It is 0 at first, then grows linearly to the beta of the settings, and stays there.
        """
        s = self.settings
        if s.warmup == 0.0:
            return s.beta
        return s.beta * min(max((epoch / s.epochs - s.warmup) / s.warmup, 0.0), 1.0)

    @cached_property
    def rated(self) -> bool:
        """Whether the network has a rate that the loss can contain."""
        return any(layer.rated for layer in noisy_layers(self.model).values())

    def batches(self, streams: Streams) -> Iterator[Tensor]:
        """Yield the minibatches of an epoch, (R, B) rows of the task, in the order of each replica.

        A last batch that is too small for the echoes is left out.

        Args:
            streams: The random streams of the orders, one per replica.
        """
        s, train = self.settings, self.task.train
        order = torch.take_along_dim(train, streams.permutations(train.shape[1]), -1)
        echoes = s.echoes if s.noise == "echo" and noisy_layers(self.model) else 0
        for rows in order.split(s.batch_size or order.shape[1], dim=1):
            if rows.shape[1] > echoes:
                yield rows

    def loss(self, rows: Int64[Tensor, "R B"]) -> Float[Tensor, " R"]:
        """Return the training loss of a minibatch of this epoch, (R,).

        It is the mean loss of the task plus beta times the rate.

        Args:
            rows: (R, B), the rows of each replica in the task.
        """
        many = self.settings.replicas > 1
        x, y = self.task.at(rows)
        logits = self.model(x if many else x[0])
        loss = self.task.loss(logits if many else logits.unsqueeze(0), y).mean(-1)
        return loss + self.beta(self.epoch) * rate(self.model) if self.rated else loss

    def run_epoch(self) -> None:
        """Train all replicas for one epoch, each in its own order and with its own noise.

        The random streams start anew in every epoch from (seed, epoch), so that a resumed run needs
        no random state.
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
        """Return the state as a checkpoint holds it."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "rates": self.rates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned.

        Raises:
            InfoplaneError: If the state does not fit the settings.
        """
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
    """Train a network and record its layers while it learns.

    Args:
        settings: The settings of the run. A resumed run keeps its own.
        out: The run directory, which is made if it does not exist.
        device: "auto" takes a GPU if there is one; or "cpu", "cuda".
        resume: Continue the run in `out` from its last checkpoint. It ends as if it had never been
            stopped.
        force: Replace a run that is in `out`.
        progress: Show a progress bar.
        keep_weights: Keep the weights of every snapshot in checkpoints/.
        threads: The number of torch threads on the CPU. The default is 1, because the operations of
            small networks are too small to be shared. A resumed run keeps its number: with another
            one it would not end equal to the bit.
        workers: The number of threads that measure; by default one per core.
        download: Fetch missing files of the data set.

    Returns:
        The run directory, complete.

    Raises:
        InfoplaneError: If the run cannot be made, resumed or written.
        DivergedError: If every replica holds NaN or infinite values.

    Example:
        >>> import tempfile
        >>> import infoplane as ip
        >>> settings = ip.Settings(epochs=2, widths=(3,), replicas=2, subset=200, probe="train")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = ip.train(settings, f"{folder}/run", progress=False)
        ...     sorted(set(run.read("measurements")["epoch"])), run.done
        ([0, 1, 2], True)
    """
    if resume:
        run = _stopped(out)
        settings = Settings.fromdict(run.config["settings"])
        keep_weights, threads = run.config["keep_weights"], run.config["threads"]
        device = run.config["device"] if device == "auto" else device
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


def _stopped(out: str | os.PathLike[str]) -> RunDir:
    """Open a run to resume, and check that it says how it was trained."""
    run = RunDir.open(out)
    run.check_format()
    for name in ("settings", "keep_weights", "threads", "device"):
        if name not in run.config:
            raise InfoplaneError(f"{run.path}/config.json has no {name!r}; expected what `infoplane train` writes.")
    return run


def same_data(run: RunDir, task: Task) -> None:
    """Check that a run was started with the data of a task.

    Args:
        run: The run.
        task: The data that are to continue it, or to measure it on.

    Raises:
        InfoplaneError: If the data are different.
    """
    if run.config.get("data", task.fingerprint) != task.fingerprint:
        raise InfoplaneError(
            f"The data are not those that {run.path} was started with, so that its numbers and seeds do not fit them. "
            "Give the folder with its own files (--data-root)."
        )


def recorder_of(training: Training, probe: str | None = None, **options: Any) -> Recorder:
    """Make the Recorder of a run.

    Args:
        training: The run, with its network, data and settings.
        probe: "train", "test" or "all"; by default that of the settings.
        **options: Options of `Recorder`, which replace those of the settings.

    Raises:
        InfoplaneError: As for `Recorder`.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> settings = ip.Settings(widths=(3,), replicas=2, subset=200, probe="train")
        >>> training = ip.runs.Training.start(settings, torch.device("cpu"))
        >>> recorder = ip.runs.recorder_of(training, estimators=["binning"])
        >>> recorder.layers, len(recorder.snapshot(epoch=0)["measurements"])
        (['hidden1', 'output'], 8)
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
    """Train and record from the last checkpoint, or from the start, to the end."""
    settings = training.settings
    if run.done:
        return
    if "last" in run.checkpoints():
        _go_back(run, training, recorder)
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


def _go_back(run: RunDir, training: Training, recorder: Recorder) -> None:
    """Restore the last checkpoint, and remove the rows that are later."""
    training.load_state(run.load_checkpoint())
    run.cut(training.epoch)
    if not any(e.deferred for e in recorder.estimators):
        return
    for name in run.checkpoints():
        if name.startswith("epoch-") and int(name.removeprefix("epoch-")) <= training.epoch:
            held = run.load_checkpoint(name)
            recorder.held[held["epoch"], held["step"]] = held["model"]


def _finish(run: RunDir, recorder: Recorder) -> None:
    """Take the second pass over all snapshots, and mark the run as complete.

    The rows of that pass belong to past epochs, so a resumed run already has those that were
    written before it was killed. They are not written twice.
    """
    for table, rows in recorder.finish().items():
        key = list(TABLES[table].key)
        written = set(run.read(table)[key].itertuples(index=False, name=None))
        run.append({table: [row for row in rows if tuple(row[k] for k in key) not in written]})
    run.mark_done()


def _record(run: RunDir, training: Training, recorder: Recorder, keep_weights: bool) -> None:
    """Measure, write the rows, and only then write the checkpoint that stands for them."""
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
            f"Every replica holds NaN or infinite values at epoch {training.epoch} (lr {settings.lr:g}). The rows "
            f"recorded until then are in {run.path}. Try a smaller --lr."
        )
