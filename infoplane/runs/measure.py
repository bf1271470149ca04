"""Measuring what exists already: the checkpoints of a run, saved activations, a model with its weights.

Each gives a run directory like the one of `train`: the same tables, the same plots. Training is not needed again.
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
from .directory import RunDir
from .evaluation import max_rows
from .settings import Settings
from .training import Training, choose_device, recorder_of, same_data

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
    """Measure the checkpoints of the run in `source` again: with other estimators, another probe, or other layers.

    Of a run with --keep-weights, the weights of every snapshot; of any other, the last ones. The noise of a snapshot is
    that of the run, so the same settings give the same numbers. What is not given is as in the run.
    snapshots: so many of those there are, the first and the last among them. replicas: the first so many.
    """
    run = RunDir.open(source)
    if "measured" in run.config or "settings" not in run.config:
        raise InfoplaneError(f"{run.path} is no run of `infoplane train` (it was measured itself); expected one.")
    settings = Settings.fromdict(run.config["settings"] | ({"data_root": data_root} if data_root else {}))
    names = [name for name in run.checkpoints() if name.startswith("epoch-")] or run.checkpoints()
    if not names:
        raise InfoplaneError(
            f"{run.path} holds no checkpoint to measure: the run was stopped before its first snapshot."
        )
    states = sorted((run.load_checkpoint(name) for name in names), key=lambda state: state["epoch"])
    if snapshots is not None and snapshots < len(states):
        states = _spread(states, snapshots)
    if replicas is not None and not 1 <= replicas <= settings.replicas:
        raise InfoplaneError(f"{replicas} replicas of {run.path}; expected 1 to {settings.replicas}.")
    settings = replace(settings, replicas=replicas or settings.replicas)
    training = Training.start(settings, choose_device(device))
    same_data(run, training.task)
    options: dict[str, Any] = {"layers": layers, "estimators": estimators}
    recorder = recorder_of(training, probe, **{k: v for k, v in options.items() if v is not None})
    config = {"measured": str(source), "settings": settings.asdict(), **_said(estimators, probe)}

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
    """Measure activations saved in an .npz file: for each layer an array (epoch, N, D), or (N, D) for one epoch.

    labels (or y): (N,), classes; without them there is no I(T;Y). epochs: their numbers, else 0, 1, 2, ... More axes
    than three are flattened. The values are taken to be functions of N different inputs, without noise.
    """
    arrays = arrays_of(path)
    labels = next((arrays.pop(name) for name in _LABELS if name in arrays), None)
    epochs = arrays.pop("epochs", None)
    model = Replay(path, arrays)
    numbers = list(range(model.epochs)) if epochs is None else [int(e) for e in epochs.reshape(-1)]
    if len(numbers) != model.epochs or sorted(set(numbers)) != numbers:
        raise InfoplaneError(f"{path}: epochs are {numbers}; expected {model.epochs} different ones in rising order.")
    x = torch.arange(model.n, dtype=torch.float32).unsqueeze(1)
    y = None if labels is None else torch.from_numpy(classes_of(path, labels, model.n))
    # the layers may come in any order, so that none is known to be a function of another
    recorder = Recorder(model, Probe(x, y, readable=False), layers or model.layer_names, estimators, chain=False)

    def snapshots() -> Iterator[tuple[int, int]]:
        for at, epoch in enumerate(numbers):
            model.at.fill_(at)
            yield epoch, epoch

    config = {"measured": path, **_said(estimators, "all")}
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
    """Measure any model on the points of a data set; with each of several files of weights as one epoch.

    The number of an epoch is the last one in the file's name, or else its place. probe: "train", "test" (where the data
    set is divided) or "all"; of more than `limit` points, that many at random.
    """
    chosen = {"all": slice(None), "train": None if points.test is None else ~points.test, "test": points.test}[probe]
    if chosen is None:
        raise InfoplaneError(
            f"The data set is not divided into training and test points; expected --probe all, not {probe}."
        )
    x, y = points.x[chosen], points.y[chosen]
    if len(x) > limit:
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:limit]
        x, y = x[rows], y[rows]
    where = choose_device(device)
    model = plain(model).to(where)
    states = [load_weights(path) for path in weights]
    numbers = _epochs_of(weights)
    if states:
        _load(model, states[0], weights[0])
    try:
        recorder = Recorder(
            model,
            Probe(
                x.to(where),
                y.to(where) if points.classes else None,
                probe,
                population=points.enumerated and len(x) == len(points.x),
            ),
            layers,
            estimators,
            seed=seed,
            batch_size=max_rows(x, 1, x.dim() - 1),
        )
    except (RuntimeError, TypeError, IndexError) as error:
        if isinstance(error, InfoplaneError):
            raise
        reason = str(error).splitlines()[0]
        raise InfoplaneError(
            f"The model cannot take inputs of shape {tuple(x.shape[1:])}, those of this data set: {reason}"
        ) from error

    def snapshots() -> Iterator[tuple[int, int]]:
        if not states:
            yield 0, 0
        for path, state, number in zip(weights, states, numbers, strict=True):
            _load(model, state, path)
            yield number, number

    config = {"measured": source or type(model).__name__, "weights": list(weights), "data": points.fingerprint}
    config |= _said(estimators, probe)
    return _record(out, config, recorder, snapshots(), max(len(states), 1), force=force, progress=progress)


def model_of(text: str) -> nn.Module:
    """The model that `module:function` gives: the function is imported (from here, or installed) and called."""
    module, _, name = text.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        make: Callable[[], Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InfoplaneError(
            f"Cannot import {text!r}: {error}. Expected module:function, e.g. models:resnet."
        ) from error
    model = make if isinstance(make, nn.Module) else make()
    if not isinstance(model, nn.Module):
        raise InfoplaneError(f"{text} gave a {type(model).__name__}; expected a torch.nn.Module.")
    return model


def load_weights(path: str) -> dict[str, Tensor]:
    """The state_dict in a file that torch.save wrote, by itself or under "model" or "state_dict". Nothing is
    unpickled but tensors, numbers, text and containers of them."""
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
        raise InfoplaneError(f"{path} holds no state_dict; expected a dict of tensors, as model.state_dict() gives.")
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


def _spread(states: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` of the states, the first and the last among them, evenly apart in place; one: the last."""
    if count < 1:
        raise InfoplaneError(f"{count} snapshots; expected at least 1.")
    if count == 1:
        return states[-1:]
    return [states[round(k * (len(states) - 1) / (count - 1))] for k in range(count)]


def _first(t: Tensor, shape: torch.Size | None, replicas: int) -> Tensor:
    """The first replicas of a tensor that has one slice for each, and any other as it is."""
    return t[:replicas] if shape is not None and t.shape != shape and t.shape[1:] == shape[1:] else t


def _said(estimators: Sequence[str] | None, probe: str | None) -> dict[str, Any]:
    """What was asked for; None: what the run, or the Recorder, does by itself."""
    return {"estimators": None if estimators is None else list(estimators), "probe": probe}


def _load(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise InfoplaneError(
            f"The weights in {where} are of another architecture than {type(model).__name__}: " + " ".join(lines)[:600]
        ) from error


def _epochs_of(paths: Sequence[str]) -> list[int]:
    """The last number in each name, if those rise; else 0, 1, 2, ..."""
    found = [re.findall(r"\d+", Path(path).stem) for path in paths]
    if all(found):
        numbers = [int(digits[-1]) for digits in found]
        if numbers == sorted(set(numbers)):
            return numbers
    return list(range(len(paths)))
