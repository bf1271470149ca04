"""Measure the checkpoints of a run, saved activations, or any model with its weights.

The result is always a run directory like that of `train`, with the same tables and plots. Nothing
is trained.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..channels.models import plain
from ..data.files import arrays_of, classes_of
from ..data.points import Points
from ..errors import InfoplaneError
from ..recording.probe import Probe
from ..recording.recorder import Recorder
from ..recording.saved import Replay
from ..threads import torch_threads
from .build import choose_device
from .directory import RunDir
from .evaluation import max_rows
from .settings import Settings
from .training import Training, recorder_of, same_data

__all__ = ["load_weights", "measure_activations", "measure_model", "measure_run", "model_of"]

_LABELS = ("labels", "y")


def measure_run(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    estimators: Sequence[str] | None = None,
    probe: str | None = None,
    layers: Sequence[str] | None = None,
    data_root: str | None = None,
    device: str = "auto",
    snapshots: int | None = None,
    replicas: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> RunDir:
    """Measure the checkpoints of a run with other estimators, on another probe, or on other layers.

    A run that was trained with keep_weights has the weights of every snapshot, and any other run
    only the last ones. The noise of a snapshot is that of the run, so that the same settings give
    the same numbers. By default every option is that of the run.

    Args:
        source: The directory of a trained run.
        out: The run directory to make.
        estimators: Estimators with their options, such as "kde:noise_variance=0.1".
        probe: "train", "test" or "all".
        layers: Dotted names of layers.
        data_root: The folder that holds the files of the data set.
        device: "auto" takes a GPU if there is one; or "cpu", "cuda".
        snapshots: The number of snapshots to measure, spread evenly over those of the run, with
            the last one among them, and the first one if it is more than one; by default all.
        replicas: The number of replicas to measure, from the first; by default all.
        force: Replace a run that is in `out`.
        progress: Show a progress bar.

    Returns:
        The new run directory, complete. Its metrics are those of the run.

    Raises:
        InfoplaneError: If `source` is no trained run or has no checkpoint, if an option does not
            fit it, or if `out` cannot be written.

    Example:
        >>> import tempfile
        >>> import infoplane as ip
        >>> settings = ip.Settings(epochs=2, widths=(3,), replicas=1, subset=200, probe="train")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = ip.train(settings, f"{folder}/run", progress=False)
        ...     made = ip.runs.measure_run(
        ...         run.path, f"{folder}/again", estimators=["counting"], progress=False
        ...     )
        ...     sorted(set(made.read("measurements")["estimator"]))
        ['counting']
    """
    run = RunDir.open(source)
    if "measured" in run.config or "settings" not in run.config:
        raise InfoplaneError(
            f"{run.path} is no run of `infoplane train`, because it was measured itself; expected a trained run."
        )
    settings = Settings.fromdict(run.config["settings"] | ({"data_root": data_root} if data_root else {}))
    states = _states(run, snapshots)
    if replicas is not None and not 1 <= replicas <= settings.replicas:
        raise InfoplaneError(f"{replicas} replicas of {run.path} were asked for; expected 1 to {settings.replicas}.")
    settings = replace(settings, replicas=replicas or settings.replicas)
    training = Training.start(settings, choose_device(device))
    same_data(run, training.task)
    options: dict[str, Any] = {"layers": layers, "estimators": estimators}
    recorder = recorder_of(training, probe, **{k: v for k, v in options.items() if v is not None})
    config = {"measured": str(source), "settings": settings.asdict(), **_request(estimators, probe)}

    shapes = {name: t.shape for name, t in training.model.state_dict().items()}

    def loaded() -> Iterator[tuple[int, int]]:
        for state in states:
            held = {name: _first(t, shapes.get(name), settings.replicas) for name, t in state["model"].items()}
            _load(training.model, held, str(run.path))
            yield state["epoch"], state["step"]

    with torch_threads(run.config.get("threads") or 1):
        made = _record(out, config, recorder, loaded(), len(states), force=force, progress=progress)
    metrics = run.read("metrics")
    if len(metrics):
        kept = metrics["epoch"].isin([state["epoch"] for state in states]) & (metrics["replica"] < settings.replicas)
        own = metrics[kept].assign(run=made.name)
        with made:
            made.append({"metrics": own.to_dict("records")})
    return made


def measure_activations(
    path: str,
    out: str | os.PathLike[str],
    *,
    estimators: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    force: bool = False,
    progress: bool = True,
) -> RunDir:
    """Measure activations that were saved in an .npz file.

    The file holds an array for each layer, (epochs, N, D), or (N, D) for a single epoch; further
    axes are flattened. Two more arrays are optional: `labels` (or `y`), (N,) classes, without which
    there is no I(T;Y); and `epochs`, the numbers of the epochs, by default 0, 1, 2, ... The
    activations are taken to be functions of N different inputs, without noise.

    Args:
        path: The file.
        out: The run directory to make.
        estimators: Estimators with their options; by default kde and binning.
        layers: The names of the layers to measure; by default all.
        force: Replace a run that is in `out`.
        progress: Show a progress bar.

    Returns:
        The new run directory, complete.

    Raises:
        InfoplaneError: If the file cannot be read or holds anything else, or `out` cannot be
            written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import infoplane as ip
        >>> t = np.random.default_rng(0).normal(size=(3, 100, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/saved.npz", hidden=t, labels=np.arange(100) % 2)
        ...     run = ip.runs.measure_activations(
        ...         f"{folder}/saved.npz", f"{folder}/run", estimators=["binning"], progress=False
        ...     )
        ...     run.read("measurements")[["epoch", "layer", "quantity"]].drop_duplicates().shape
        (6, 3)
    """
    arrays = arrays_of(path)
    labels = next((arrays.pop(name) for name in _LABELS if name in arrays), None)
    epochs = arrays.pop("epochs", None)
    model = Replay(path, arrays)
    numbers = list(range(model.epochs)) if epochs is None else [int(e) for e in epochs.reshape(-1)]
    if len(numbers) != model.epochs or sorted(set(numbers)) != numbers:
        raise InfoplaneError(
            f"{path}: epochs are {numbers}; expected {model.epochs} different numbers in rising order."
        )
    x = torch.arange(model.n, dtype=torch.float32).unsqueeze(1)
    y = None if labels is None else torch.from_numpy(classes_of(path, labels, model.n))
    # layers may come in any order, so none is known to be a function of another
    recorder = Recorder(model, Probe(x, y, readable=False), layers or model.layer_names, estimators, chain=False)

    def snapshots() -> Iterator[tuple[int, int]]:
        for at, epoch in enumerate(numbers):
            model.at.fill_(at)
            yield epoch, epoch

    config = {"measured": path, **_request(estimators, "all")}
    with torch_threads(1):
        return _record(out, config, recorder, snapshots(), len(numbers), force=force, progress=progress)


def measure_model(
    model: nn.Module,
    points: Points,
    out: str | os.PathLike[str],
    *,
    weights: Sequence[str] = (),
    source: str = "",
    probe: str = "all",
    estimators: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    limit: int = 10_000,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    progress: bool = True,
) -> RunDir:
    """Measure any model on the points of a data set.

    Each file of weights is one epoch. Its number is the last one in the name of the file if these
    numbers rise, and otherwise its place in the list.

    Args:
        model: Any nn.Module.
        points: The points of the data set, as `data.load_points` returns them.
        out: The run directory to make.
        weights: Files with a state_dict of the model; without them, the model is measured as it is.
        source: The name of the model in config.json; by default that of its class.
        probe: "all", or "train" or "test" if the data set is divided.
        estimators: Estimators with their options; by default kde and binning.
        layers: Dotted names of layers; by default all.
        limit: The largest number of points; from more points, this number is drawn at random.
        seed: The seed of that draw, and of the noise drawn in measuring.
        device: "auto" takes a GPU if there is one; or "cpu", "cuda".
        force: Replace a run that is in `out`.
        progress: Show a progress bar.

    Returns:
        The new run directory, complete.

    Raises:
        InfoplaneError: If the model does not take these inputs or weights, or `out` cannot be
            written.

    Example:
        >>> import tempfile
        >>> import infoplane as ip
        >>> points = ip.data.load_points("icosahedron")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = ip.runs.measure_model(
        ...         ip.MLP(12, [3], 2), points, f"{folder}/run", limit=200, progress=False
        ...     )
        ...     sorted(set(run.read("measurements")["layer"]))
        ['hidden1', 'output']
    """
    x, y = _chosen_points(points, probe, limit, seed)
    where = choose_device(device)
    model = plain(model).to(where)
    states = [load_weights(path) for path in weights]
    numbers = _epochs_of(weights)
    if states:
        _load(model, states[0], weights[0])
    population = points.enumerated and len(x) == len(points.x)
    inputs = Probe(x.to(where), y.to(where) if points.classes else None, probe, population=population)
    try:
        recorder = Recorder(model, inputs, layers, estimators, seed=seed, batch_size=max_rows(x, 1, x.dim() - 1))
    except (RuntimeError, TypeError, IndexError) as error:
        if isinstance(error, InfoplaneError):
            raise
        reason = str(error).splitlines()[0]
        raise InfoplaneError(
            f"The model cannot take inputs of shape {tuple(x.shape[1:])}, which this data set has: {reason}"
        ) from error

    def snapshots() -> Iterator[tuple[int, int]]:
        if not states:
            yield 0, 0
        for path, state, number in zip(weights, states, numbers, strict=True):
            _load(model, state, path)
            yield number, number

    config = {"measured": source or type(model).__name__, "weights": list(weights), "data": points.fingerprint}
    config |= _request(estimators, probe)
    return _record(out, config, recorder, snapshots(), max(len(states), 1), force=force, progress=progress)


def model_of(text: str) -> nn.Module:
    """Import a function, call it, and return its model.

    Args:
        text: "module:function". The module is installed, or lies in the current folder. The name
            may also be that of a model.

    Raises:
        InfoplaneError: If there is no such function, or it returns no nn.Module.
    """
    module, _, name = text.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        make: Callable[[], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InfoplaneError(
            f"Cannot import {text!r}: {error}. Expected module:function, such as models:resnet."
        ) from error
    model = make if isinstance(make, nn.Module) else make()
    if not isinstance(model, nn.Module):
        raise InfoplaneError(f"{text} returned a {type(model).__name__}; expected a torch.nn.Module.")
    return model


def load_weights(path: str) -> dict[str, Tensor]:
    """Read a state_dict from a file that `torch.save` wrote.

    Only tensors, numbers, text and containers of them are unpickled. The prefixes of
    DataParallel and torch.compile are removed from the names.

    Args:
        path: A file that holds the state_dict itself, or a dict with it under "model" or
            "state_dict".

    Raises:
        InfoplaneError: If the file cannot be read, or holds anything else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InfoplaneError(f"There is no file {path}.") from None
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InfoplaneError(
            f"Cannot read {path}: it is damaged, or holds more than tensors ({reason}). Save model.state_dict()."
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InfoplaneError(f"{path} holds no state_dict; expected a dict of tensors, as model.state_dict() returns.")
    return {re.sub(r"(^|\.)(module|_orig_mod)\.", r"\1", name): value for name, value in state.items()}


def _record(
    out: str | os.PathLike[str],
    config: dict[str, Any],
    recorder: Recorder,
    snapshots: Iterator[tuple[int, int]],
    count: int,
    *,
    force: bool,
    progress: bool,
) -> RunDir:
    """Record a snapshot of each epoch and step that `snapshots` yields after loading the model."""
    run = RunDir.create(out, config, force=force)
    recorder.run = run.name
    hidden = None if progress else True
    with run:
        for epoch, step in tqdm(
            snapshots, total=count, unit="snapshot", desc="measuring", file=sys.stderr, disable=hidden
        ):
            run.append(recorder.snapshot(epoch, step))
        run.append(recorder.finish())
        run.mark_done()
    return run


def _states(run: RunDir, count: int | None) -> list[dict[str, Any]]:
    """Load the checkpoints of a run in the order of epochs: `count` of them, or all."""
    names = [name for name in run.checkpoints() if name.startswith("epoch-")] or run.checkpoints()
    if not names:
        raise InfoplaneError(
            f"{run.path} holds no checkpoint to measure, because the run was stopped before its first snapshot."
        )
    states = sorted((run.load_checkpoint(name) for name in names), key=lambda state: state["epoch"])
    return states if count is None or count >= len(states) else _spread(states, count)


def _chosen_points(points: Points, probe: str, limit: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of a part of the points, or `limit` of them at random."""
    chosen = {"all": slice(None), "train": None if points.test is None else ~points.test, "test": points.test}[probe]
    if chosen is None:
        raise InfoplaneError(
            f"The data set is not divided into training and test points; expected --probe all, not {probe}."
        )
    x, y = points.x[chosen], points.y[chosen]
    if len(x) > limit:
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:limit]
        x, y = x[rows], y[rows]
    return x, y


def _spread(states: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return `count` states at even distances, the first and the last among them; one: the last."""
    if count < 1:
        raise InfoplaneError(f"{count} snapshots were asked for; expected at least 1.")
    if count == 1:
        return states[-1:]
    return [states[round(k * (len(states) - 1) / (count - 1))] for k in range(count)]


def _first(t: Tensor, shape: torch.Size | None, replicas: int) -> Tensor:
    """Return the first replicas of a tensor with one slice per replica, and any other as it is."""
    return t[:replicas] if shape is not None and t.shape != shape and t.shape[1:] == shape[1:] else t


def _request(estimators: Sequence[str] | None, probe: str | None) -> dict[str, Any]:
    """Return the request for config.json, where None is the default of the run or the Recorder."""
    return {"estimators": None if estimators is None else list(estimators), "probe": probe}


def _load(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise InfoplaneError(
            f"The weights in {where} do not fit the architecture of {type(model).__name__}: " + " ".join(lines)[:600]
        ) from error


def _epochs_of(paths: Sequence[str]) -> list[int]:
    """Return the last number in each name if these numbers rise, and otherwise 0, 1, 2, ..."""
    found = [re.findall(r"\d+", Path(path).stem) for path in paths]
    if all(found):
        numbers = [int(digits[-1]) for digits in found]
        if numbers == sorted(set(numbers)):
            return numbers
    return list(range(len(paths)))
