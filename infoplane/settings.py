"""Everything a training run is told: one record, its presets and its snapshot schedules. Does not load torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from .activations import ACTIVATIONS
from .data import DATASETS, check_dataset
from .records import InfoplaneError, choose

__all__ = ["MODELS", "OPTIMIZERS", "PRESETS", "PROBES", "SCHEDULES", "Settings", "echo_places", "snapshot_epochs"]

MODELS = ("mlp", "cnn")
OPTIMIZERS = ("adam", "sgd")
PROBES = ("train", "test", "all")
ECHO_ON = ("before", "after")
ECHO_MODES = ("chain", "tap")
TAP_OBJECTIVES = ("label", "reconstruction")
CHANNEL_NAMES = ("echo", "gaussian", "dropout")
INIT_NAMES = ("glorot", "he", "balanced", "tishby", "saxe")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of `infoplane train`, under the same names.

    The defaults are those of the 12-bit task; `Settings.of` has those of every data set.

    dataset: a name in `data.DATASETS`, or a .mat or .npz file (`data.files`). data_root: the folder its files are in;
    None: $INFOPLANE_DATA, else ./data. subset: how many of the training points to train on, the classes in proportion;
    0 for all. model: "mlp", or "cnn" with `channels` of its convolutions. widths: of the hidden layers (of a cnn: of
    those behind its convolutions). bits: of every activation (`networks.MLP`), 2 to 16; 0 for floating-point
    numbers. init: None takes what suits the activation. batch_size: 0 for the full batch.
    channel: of the noisy layers, "echo", "gaussian" (additive noise; noise_std is its standard deviation, or with
    scale="input" where it starts) or "dropout" (continuous; `dropout` is the share).
    echo_mode: "chain", the layers are in the network; "tap", each is a side branch that the network does not feel,
    refitted at each snapshot with tap_objective for each of tap_betas (`estimators.tap`).
    beta: nats of loss a nat of rate. warmup: the share of training after which beta sets in; it then grows linearly
    over another such share. echo_at: hidden layers, counted from 1, convolutions first, that get a noisy layer, before
    or after their activation (echo_on: None takes what suits the activation); bound, echoes, scale, mixing: see
    `channels.layer.Echo`. snapshots: see `snapshot_epochs`. split: the share of training points, where the data set
    does not divide them; ordered: the first ones, not a random choice. gradients: record at each snapshot how the
    gradient varies over the training batches (`infoplane.gradients`). Replica r has the seed seed + r.
    """

    dataset: str = "icosahedron"
    data_root: str | None = None
    subset: int = 0
    model: str = "mlp"
    channels: tuple[int, ...] = ()
    widths: tuple[int, ...] = (10, 7, 5, 4, 3)
    activation: str = "tanh"
    bits: int = 0
    init: str | None = None
    optimizer: str = "adam"
    lr: float = 4e-3
    batch_size: int = 256
    epochs: int = 400
    channel: str = "echo"
    echo_mode: str = "chain"
    tap_objective: str = "label"
    tap_betas: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    noise_std: float = 0.1
    dropout: float = 0.2
    beta: float = 0.03
    warmup: float = 0.1
    echo_at: tuple[int, ...] = ()
    echo_on: str | None = None
    bound: float = 0.9155
    echoes: int = 64
    scale: str = "input"
    mixing: str = "diagonal"
    snapshots: str = "log:16"
    estimators: tuple[str, ...] = ("kde", "binning")
    probe: str = "all"
    split: float = 0.8
    ordered: bool = False
    gradients: bool = False
    replicas: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_dataset(self.dataset)
        choose(self.model, MODELS, "model")
        choose(self.activation, ACTIVATIONS, "activation")
        choose(self.optimizer, OPTIMIZERS, "optimizer")
        choose(self.probe, PROBES, "probe")
        choose(self.channel, CHANNEL_NAMES, "channel")
        choose(self.echo_mode, ECHO_MODES, "mode of Echo layers (echo-mode)")
        choose(self.tap_objective, TAP_OBJECTIVES, "objective of taps")
        _expect(
            bool(self.tap_betas) and all(b > 0 and math.isfinite(b) for b in self.tap_betas),
            "tap-betas", self.tap_betas, "positive numbers",
        )  # fmt: skip
        if self.echo_mode == "tap" and self.channel != "echo":
            raise InfoplaneError(f"channel is {self.channel!r} and echo-mode 'tap'; expected channel echo.")
        _expect(self.noise_std > 0 and math.isfinite(self.noise_std), "noise-std", self.noise_std, "a positive number")
        _expect(0 < self.dropout < 1, "dropout", self.dropout, "a share between 0 and 1, both excluded")
        if self.channel == "dropout" and self.beta and self.echo_at:
            raise InfoplaneError(f"beta is {self.beta:g}, and a dropout layer has no rate; expected --beta 0.")
        if self.echo_on is not None:
            choose(self.echo_on, ECHO_ON, "place of Echo layers (echo-on)")
        if self.init is not None:
            choose(self.init, INIT_NAMES, "initialisation")
        _expect(all(w >= 1 for w in self.widths), "widths", self.widths, "widths of at least 1")
        _expect(all(c >= 1 for c in self.channels), "channels", self.channels, "channels of at least 1")
        _expect(self.model == "cnn" or not self.channels, "channels", self.channels, "none, for the model is an mlp")
        _expect(self.depth >= 1, "widths", self.widths, "at least one hidden layer")
        _expect(self.bits == 0 or 2 <= self.bits <= 16, "bits", self.bits, "2 to 16, or 0 for floating-point numbers")
        _expect(self.subset >= 0, "subset", self.subset, "a number of training points, or 0 for all")
        _expect(self.lr > 0 and math.isfinite(self.lr), "lr", self.lr, "a positive number")
        _expect(self.batch_size >= 0, "batch-size", self.batch_size, "'full' or a whole number of at least 1")
        _expect(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _expect(self.beta >= 0 and math.isfinite(self.beta), "beta", self.beta, "a number of at least 0")
        _expect(0 <= self.warmup < 0.5, "warmup", self.warmup, "a share of training between 0 and 0.5")
        _expect(0 < self.split < 1, "split", self.split, "a share of training points between 0 and 1, both excluded")
        _expect(self.replicas >= 1, "replicas", self.replicas, "at least 1")
        _expect(
            all(1 <= k <= self.depth for k in self.echo_at) and len(set(self.echo_at)) == len(self.echo_at),
            "echo-at",
            self.echo_at,
            f"different hidden layers from 1 to {self.depth}",
        )
        power_of_two = self.echoes >= 1 and not self.echoes & (self.echoes - 1)
        _expect(power_of_two, "echoes", self.echoes, "a power of two (..., 16, 32, 64, ...)")
        if self.channel == "echo" and self.echo_mode == "chain" and self.echo_at and 0 < self.batch_size <= self.echoes:
            raise InfoplaneError(
                f"batch-size {self.batch_size} is too small for {self.echoes} echoes: expected at least "
                f"{self.echoes + 1}, or fewer echoes (--echoes 16)."
            )
        if self.gradients and not self.batch_size:
            raise InfoplaneError("gradients are recorded over minibatches, and batch-size is full; expected a size.")
        snapshot_epochs(self.snapshots, self.epochs)

    @property
    def depth(self) -> int:
        """The number of layers that can have an Echo layer: all but the output."""
        return len(self.channels) + len(self.widths)

    @property
    def noisy_layers(self) -> list[str]:
        """The modules of our networks that noisy layers follow, or that are tapped."""
        names = [(f"conv{k + 1}", "conv") for k in range(len(self.channels))]
        names += [(f"hidden{k + 1}", "linear") for k in range(len(self.widths))]
        in_chain = self.channel == "echo" and self.echo_mode == "chain"
        suits = ACTIVATIONS[self.activation].echo if in_chain else "after"
        before = (self.echo_on or suits) == "before"
        chosen = [names[k - 1] for k in sorted(self.echo_at)]
        return [f"{layer}.{affine}" if before else layer for layer, affine in chosen]

    @property
    def seeds(self) -> list[int]:
        return [self.seed + r for r in range(self.replicas)]

    @classmethod
    def of(cls, *, preset: str | None = None, echo_layers: int | None = None, **given: Any) -> Settings:
        """The settings given, and else those of the preset, and else those that suit the data set and the model.

        echo_layers: how many Echo layers, at default places, in place of echo_at.
        """
        chosen = PRESETS[choose(preset, PRESETS, "preset")] | given if preset is not None else given
        name = chosen.get("dataset", cls.dataset)
        suits = DATASETS[name].defaults if check_dataset(name) in DATASETS else {}
        if suits and chosen.get("model", suits.get("model")) == "mlp":
            suits = suits | DATASETS[name].mlp
        channel = choose(chosen.get("channel", cls.channel), CHANNEL_NAMES, "channel")
        if channel != "echo":  # the published noisy networks: noise of one size everywhere, and no penalty on the rate
            suits = suits | OTHER_CHANNELS[channel]
        tapped = chosen.get("echo_mode", cls.echo_mode) == "tap"
        if tapped:  # every snapshot fits a branch for each layer and beta
            suits = suits | {"snapshots": "log:6"}
        settings = cls(**(suits | chosen))
        if echo_layers is None:
            if (channel != "echo" or tapped) and "echo_at" not in chosen:
                return dataclasses.replace(settings, echo_at=tuple(range(1, settings.depth + 1)))
            return settings
        if "echo_at" in chosen:
            raise InfoplaneError("echo-layers and echo-at were both given; expected how many, or where.")
        places = echo_places(echo_layers, settings.depth, convolutions=len(settings.channels))
        return dataclasses.replace(settings, echo_at=places)

    def asdict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def fromdict(cls, values: dict[str, Any]) -> Settings:
        known = {f.name for f in fields(cls)}
        for name in values:
            choose(name, sorted(known), "setting")
        kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**kept)


def _expect(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise InfoplaneError(f"{name} is {value!r}; expected {expected}.")


def echo_places(layers: int, depth: int, *, convolutions: int = 0) -> tuple[int, ...]:
    """Default places of Echo layers among `depth` hidden layers: not the first, whose rate stays above ln N.

    The `convolutions` come first; with them the places are the last layers, for maps are wide.
    """
    if layers == 0:
        return ()
    if not 1 <= layers <= depth:
        raise InfoplaneError(f"echo-layers is {layers}; expected 0 to {depth}, one for each hidden layer at the most.")
    if convolutions:
        return tuple(range(depth - layers + 1, depth + 1))
    low, high = (2, depth - 1) if layers <= depth - 2 else (2, depth) if layers <= depth - 1 else (1, depth)
    if layers == 1:
        return (high,)
    return tuple(round(low + (high - low) * k / (layers - 1)) for k in range(layers))


def _saxe(epochs: int) -> list[int]:
    """ibsgd: all epochs below 20, every 5th to 100, every 20th to 2000, every 100th after."""
    return [
        e for e in range(epochs + 1) if e < 20 or (e < 100 and e % 5 == 0) or (e < 2000 and e % 20 == 0) or e % 100 == 0
    ]


def _log_spaced(epochs: int, count: int, whole: Callable[[float], int] = round) -> list[int]:
    """Epoch 0, then `count` logarithmically spaced epochs (fewer where they fall together) up to the last."""
    if count < 2:
        return [0, epochs]
    return sorted({0} | {whole(epochs ** (k / (count - 1)) + 1e-9) for k in range(count)})


SCHEDULES: dict[str, Callable[[int], list[int]]] = {
    "saxe": _saxe,
    "tishby": lambda epochs: _log_spaced(epochs, 400, math.floor),  # IDNNs: 274 of them in 8000 epochs
}


def snapshot_epochs(text: str, epochs: int) -> list[int]:
    """Epochs at which to measure, the first and the last always among them.

    "log:16": 16 log-spaced ones; "every:10"; "saxe" and "tishby": the published schedules; or a list, "0,1,10,100".
    """
    try:
        if text in SCHEDULES:
            chosen = SCHEDULES[text](epochs)
        elif text.startswith("log:"):
            chosen = _log_spaced(epochs, int(text[4:]))
        elif text.startswith("every:"):
            chosen = list(range(0, epochs + 1, int(text[6:])))
        else:
            chosen = [int(part) for part in text.split(",")]
    except ValueError:
        raise InfoplaneError(
            f"snapshots is {text!r}; expected log:COUNT, every:EPOCHS, {', '.join(SCHEDULES)}, or a list: 0,1,10."
        ) from None
    late = [e for e in chosen if not 0 <= e <= epochs]
    if late:
        raise InfoplaneError(f"snapshots asks for epoch {late[0]}; expected 0 to {epochs}, the epochs of this run.")
    return sorted({0, epochs, *chosen})


#: What suits a channel other than Echo, unless given.
OTHER_CHANNELS: dict[str, dict[str, Any]] = {
    "gaussian": {"beta": 0.0, "scale": "constant", "estimators": ("mean-field", "kde", "binning")},
    "dropout": {"beta": 0.0, "estimators": ("mean-field", "kde", "binning")},
}

#: What the published experiments set; anything given beside a preset wins.
PRESETS: dict[str, dict[str, Any]] = {
    "tishby": {
        "activation": "tanh",
        "init": "tishby",
        "lr": 4e-4,
        "batch_size": 512,
        "epochs": 8000,
        "snapshots": "tishby",
        "estimators": ("binning:bins=30,range=-1..1",),
        "ordered": True,
    },
    "saxe": {
        "init": "saxe",
        "lr": 4e-4,
        "batch_size": 256,
        "epochs": 10_000,
        "snapshots": "saxe",
        "estimators": ("kde", "binning"),
    },
    # The published run has 10 000 epochs.
    "saxe-mnist": {
        "dataset": "mnist",
        "model": "mlp",
        "widths": (1024, 20, 20, 20),
        "activation": "tanh",
        "init": "saxe",
        "optimizer": "sgd",
        "lr": 1e-3,
        "batch_size": 128,
        "epochs": 100,
        "snapshots": "saxe",
        "estimators": ("kde:noise_variance=0.1", "binning:width=0.5"),
        "probe": "test",
        "echo_on": None,
    },
}
