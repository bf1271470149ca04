"""The settings of a training run. Importing this module does not load torch.

Each setting is declared once, with its type, range, group and help (see `typed`). `FIELDS` holds
them by name; the command line, files of settings, their errors and the table in the documentation
all follow from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from ..data import DATASETS, check_dataset
from ..errors import InfoplaneError, choose
from ..nn.activations import ACTIVATIONS
from .presets import OTHER_NOISE, PRESETS
from .schedules import SCHEDULES, snapshot_epochs
from .typed import About, File, Flag, Numbers, Real, Setting, Text, Whole, Wholes, Words, fields_of, shown, such_that

__all__ = [
    "FIELDS",
    "FORMER",
    "GROUPS",
    "INIT_NAMES",
    "MODELS",
    "OPTIMIZERS",
    "PRESETS",
    "PROBES",
    "SCHEDULES",
    "Settings",
    "current_names",
    "default_text",
    "echo_places",
    "known",
    "snapshot_epochs",
]

Model = Literal["mlp", "cnn"]
Init = Literal["glorot", "he", "balanced", "tishby", "saxe"]
Optimizer = Literal["adam", "sgd"]
Probe = Literal["train", "test", "all"]
Noise = Literal["echo", "gaussian", "dropout"]
Position = Literal["before", "after"]
Mode = Literal["chain", "tap"]
Objective = Literal["label", "reconstruction"]
Scale = Literal["input", "constant"]
Mixing = Literal["diagonal", "rotation", "full"]

MODELS: tuple[str, ...] = get_args(Model)
INIT_NAMES: tuple[str, ...] = get_args(Init)
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
PROBES: tuple[str, ...] = get_args(Probe)


def _schedule(epochs: Any) -> Any:
    """Return epochs that a file lists as numbers as the text that `snapshot_epochs` reads."""
    numbers = epochs if isinstance(epochs, list | tuple) else [epochs]
    whole = all(isinstance(e, int) and not isinstance(e, bool) for e in numbers)
    return ",".join(map(str, numbers)) if whole else epochs


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a training run.

    They have the names of the options of `infoplane train`, with underscores. Every value is
    checked by type and range. Numbers may be text, as in files and on the command line, and lists
    become tuples. The defaults are those of the 12-bit task; `Settings.of` has those of every data
    set. Replica r has the seed `seed` + r.

    Args:
        **given: Settings by name. `infoplane settings` and `runs.settings.FIELDS` describe them.

    Raises:
        InfoplaneError: If there is no such setting, its value has another type or is out of range,
            or two settings contradict each other.

    Example:
        >>> import infoplane as ip
        >>> settings = ip.Settings(lr="4e-4", widths="4,3", replicas=2)
        >>> settings.lr, settings.widths, settings.seeds
        (0.0004, (4, 3), [0, 1])
    """

    # fmt: off
    dataset: Annotated[
        File,
        AfterValidator(check_dataset),
        About("Data", "The data set: a name of `infoplane datasets`, or a file with arrays x and y.",
              expected="the name of a data set, or a .mat or .npz file", metavar="NAME|FILE"),
    ] = "icosahedron"
    data_root: Annotated[
        File | None,
        About("Data", "The folder that holds the files of the data set.",
              default="$INFOPLANE_DATA, else ./data", metavar="FOLDER"),
    ] = None
    subset: Annotated[
        Whole, Field(ge=0),
        About("Data", "Number of training points to use, with the classes in proportion; 0 for all.",
              expected="a number of training points, or 0 for all"),
    ] = 0
    split: Annotated[
        Real, Field(gt=0, lt=1),
        About("Data", "Share of the points to train on, if the data set is not divided already.",
              expected="a share of training points between 0 and 1, both excluded"),
    ] = 0.8
    ordered: Annotated[Flag, About("Data", "Train on the first points instead of a random choice.")] = False

    model: Annotated[Model, About("Network", "The kind of network.")] = "mlp"
    conv_channels: Annotated[
        Wholes, such_that(lambda channels: all(c >= 1 for c in channels)),
        About("Network", "Channels of the convolutions of a cnn, such as 16,32.",
              expected="whole numbers of at least 1 with commas between, such as 16,32", metavar="CHANNELS"),
    ] = ()
    widths: Annotated[
        Wholes, such_that(lambda widths: all(w >= 1 for w in widths)),
        About("Network", "Widths of the hidden layers, such as 10,7,5 (in a cnn, those after its convolutions).",
              expected="whole numbers of at least 1 with commas between, such as 10,7,5", metavar="WIDTHS"),
    ] = (10, 7, 5, 4, 3)
    activation: Annotated[
        Text, such_that(ACTIVATIONS.__contains__),
        About("Network", "Activation of the hidden layers.", choices=ACTIVATIONS),
    ] = "tanh"
    bits: Annotated[
        Whole, such_that(lambda bits: bits == 0 or 2 <= bits <= 16),
        About("Network", "Bits of every activation, 2 to 16, in a quantised network; 0 for floating-point numbers.",
              expected="2 to 16, or 0 for floating-point numbers"),
    ] = 0
    init: Annotated[
        Init | None, About("Network", "Initialisation of the weights.", default="what suits the activation")
    ] = None

    noise: Annotated[
        Noise,
        About("Noise", "Noise of the noisy layers. Gaussian noise and dropout follow every hidden layer by default."),
    ] = "echo"
    echo_at: Annotated[
        Wholes,
        About("Noise", "Hidden layers, counted from 1 with convolutions first, that get a noisy layer, such as 2,4.",
              default="none; all with --noise gaussian or dropout and with --echo-mode tap",
              expected="numbers of hidden layers with commas between, such as 2,4", metavar="LAYERS"),
    ] = ()
    echo_on: Annotated[
        Position | None,
        About("Noise", "Whether a noisy layer goes before or after the activation.",
              default="what suits the data set and the activation"),
    ] = None
    max_scale: Annotated[
        Real, Field(gt=0, lt=1), About("Noise", "Largest scale of Echo noise, below 1.")
    ] = 0.9155
    echoes: Annotated[
        Whole, such_that(lambda echoes: echoes >= 1 and not echoes & (echoes - 1)),
        About("Noise", "Terms of an echo in training, a power of two below the batch size.",
              expected="a power of two (..., 16, 32, 64, ...)"),
    ] = 64
    scale: Annotated[
        Scale,
        About("Noise", "Whether the scale of the noise is learned from the layer's input or is one constant per unit.",
              default="input; constant with --noise gaussian"),
    ] = "input"
    mixing: Annotated[
        Mixing,
        About("Noise", "How Echo noise mixes units: not at all, by a fixed rotation, or by learned rotations."),
    ] = "diagonal"
    beta: Annotated[
        Real, Field(ge=0), About("Noise", "Weight of the rate in the loss, in nats per nat.")
    ] = 0.03
    warmup: Annotated[
        Real, such_that(lambda share: 0 <= share < 0.5),
        About("Noise", "Share of training before beta sets in; it then grows linearly over another such share.",
              expected="a share of training of at least 0 and below 0.5"),
    ] = 0.1
    noise_std: Annotated[
        Real, Field(gt=0), About("Noise", "Standard deviation of the noise (--noise gaussian).")
    ] = 0.1
    dropout: Annotated[
        Real, Field(gt=0, lt=1),
        About("Noise", "Share of continuous dropout (--noise dropout).",
              expected="a share between 0 and 1, both excluded"),
    ] = 0.2
    echo_mode: Annotated[
        Mode,
        About("Noise", "chain: noisy layers are part of the network; tap: they are side branches that do not affect "
              "the network, fitted again at each snapshot."),
    ] = "chain"
    tap_objective: Annotated[
        Objective,
        About("Noise", "What side branches minimise besides beta times their rate: the cross-entropy of the label, or "
              "the error in the layer's reconstruction (--echo-mode tap)."),
    ] = "label"
    tap_betas: Annotated[
        Numbers, such_that(lambda betas: betas and all(b > 0 for b in betas)),
        About("Noise", "Values of beta, with a side branch for each (--echo-mode tap).",
              expected="positive numbers with commas between, such as 0.01,0.1", metavar="BETAS"),
    ] = (0.01, 0.03, 0.1, 0.3)

    optimizer: Annotated[Optimizer, About("Training", "The optimiser.")] = "adam"
    lr: Annotated[Real, Field(gt=0), About("Training", "Learning rate.")] = 4e-3
    batch_size: Annotated[
        Whole, Field(ge=0),
        About("Training", "Rows per step; full (or 0) for the full batch.",
              expected="'full' or a whole number of at least 1", metavar="ROWS|full", names={"full": 0}),
    ] = 256
    epochs: Annotated[Whole, Field(ge=1), About("Training", "Number of epochs.")] = 400
    replicas: Annotated[
        Whole, Field(ge=1), About("Training", "Number of networks trained at once, each with its own seed.")
    ] = 5
    seed: Annotated[Whole, About("Training", "Seed of the first replica; replica r has the seed SEED + r.")] = 0

    snapshots: Annotated[
        Text, BeforeValidator(_schedule),
        About("Measurement", "Epochs to measure at: log:16, every:10, "
              f"{', '.join(SCHEDULES)}, or a list such as 0,1,10.",
              expected="log:COUNT, every:EPOCHS, a published schedule, or a list such as 0,1,10", metavar="SCHEDULE"),
    ] = "log:16"
    estimators: Annotated[
        Words,
        About("Measurement", "Names of `infoplane estimators` with their options, such as 'kde:noise_variance=0.1 "
              "binning:bins=30'.",
              expected="names of estimators with blanks between, such as 'kde binning'", metavar="ESTIMATORS"),
    ] = ("kde", "binning")
    probe: Annotated[Probe, About("Measurement", "The points to measure on.")] = "all"
    gradients: Annotated[
        Flag, About("Measurement", "Record at each snapshot how the gradients vary over the training batches.")
    ] = False

    # fmt: on

    def __new__(cls, **given: Any) -> Settings:
        """Refuse unknown names with an InfoplaneError, before `__init__` raises a TypeError."""
        for name in given:
            known(name)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name in _NAMES:
            object.__setattr__(self, name, FIELDS[name].read(getattr(self, name)))
        for check in (_check_network, _check_noise, _check_training, _check_measurement):
            check(self)

    @property
    def depth(self) -> int:
        """The number of layers that can have a noisy layer, which are all but the output."""
        return len(self.conv_channels) + len(self.widths)

    @property
    def noisy_layers(self) -> list[str]:
        """The modules of our networks that noisy layers follow, or that have Echo taps."""
        names = [(f"conv{k + 1}", "conv") for k in range(len(self.conv_channels))]
        names += [(f"hidden{k + 1}", "linear") for k in range(len(self.widths))]
        in_chain = self.noise == "echo" and self.echo_mode == "chain"
        suits = ACTIVATIONS[self.activation].echo if in_chain else "after"
        before = (self.echo_on or suits) == "before"
        chosen = [names[k - 1] for k in sorted(self.echo_at)]
        return [f"{layer}.{affine}" if before else layer for layer, affine in chosen]

    @property
    def seeds(self) -> list[int]:
        """The seed of each replica."""
        return [self.seed + r for r in range(self.replicas)]

    @classmethod
    def of(cls, *, preset: str | None = None, echo_layers: int | None = None, **given: Any) -> Settings:
        """Return settings that are completed by a preset and by those that suit the data set.

        The given settings take precedence over the preset, and the preset over those that suit the
        data set and the model.

        Args:
            preset: A name in `PRESETS`.
            echo_layers: The number of Echo layers, at default places, instead of `echo_at`.
            **given: Settings by name.

        Raises:
            InfoplaneError: As for `Settings`.

        Example:
            >>> import infoplane as ip
            >>> ip.Settings.of(dataset="student-teacher").activation
            'linear'
        """
        preset, echo_layers = (FIELDS[k].read(v) for k, v in {"preset": preset, "echo_layers": echo_layers}.items())
        given = {name: known(name).read(value) for name, value in given.items()}
        chosen = PRESETS[preset] | given if preset is not None else given
        name = chosen.get("dataset", cls.dataset)
        suits = DATASETS[name].defaults if name in DATASETS else {}
        if suits and chosen.get("model", suits.get("model")) == "mlp":
            suits = suits | DATASETS[name].mlp
        noise = chosen.get("noise", cls.noise)
        if noise != "echo":
            suits = suits | OTHER_NOISE[noise]
        tapped = chosen.get("echo_mode", cls.echo_mode) == "tap"
        if tapped:  # every snapshot fits a branch for each layer and beta
            suits = suits | {"snapshots": "log:6"}
        settings = cls(**(suits | chosen))
        if echo_layers is None:
            if (noise != "echo" or tapped) and "echo_at" not in chosen:
                return dataclasses.replace(settings, echo_at=tuple(range(1, settings.depth + 1)))
            return settings
        if "echo_at" in chosen:
            raise InfoplaneError("echo-layers and echo-at were both given; expected how many, or where.")
        places = echo_places(echo_layers, settings.depth, convolutions=len(settings.conv_channels))
        return dataclasses.replace(settings, echo_at=places)

    def asdict(self) -> dict[str, Any]:
        """Return the settings by name, as config.json holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def fromdict(cls, values: Mapping[str, Any]) -> Settings:
        """Return the settings from a dict that `asdict` returned, now or in an earlier version.

        Args:
            values: Settings by name, as config.json holds them; former names are those in `FORMER`.

        Raises:
            InfoplaneError: As for `Settings`.
        """
        return cls(**current_names(values))


_CHOSEN_FIRST: dict[str, Any] = {
    "preset": Annotated[
        Text | None,
        such_that(lambda name: name is None or name in PRESETS),
        About("Starting point", "Published settings to start from; other options override them.", default="none",
              choices=PRESETS),
    ],
    "echo_layers": Annotated[
        Whole | None, Field(ge=0),
        About("Noise", "Number of noisy layers, at default places (instead of --echo-at).",
              default="0; all with --noise gaussian or dropout and with --echo-mode tap"),
    ],
}  # fmt: skip

#: The headings under which settings are listed, in order.
GROUPS = ("Starting point", "Data", "Network", "Noise", "Training", "Measurement")

#: Every setting by name. Before them come "preset" and "echo_layers", from which `Settings.of`
#: derives others.
FIELDS = fields_of(Settings, _CHOSEN_FIRST)
_NAMES = tuple(f.name for f in dataclasses.fields(Settings))


def default_text(setting: Setting) -> str:
    """Return the default of a setting in words, for --help and the documentation."""
    if setting.about.default:
        return setting.about.default
    if any(setting.name in listed.defaults | listed.mlp for listed in DATASETS.values()):
        return "what suits the data set"
    return setting.text(setting.default) or "none"


#: The names of settings in runs of format 1, and their present names.
FORMER = {"channel": "noise", "channels": "conv_channels", "bound": "max_scale"}


def known(name: str) -> Setting:
    """Return the setting of a name.

    Raises:
        InfoplaneError: If there is no such setting; the message names the nearest one.
    """
    if name in FORMER:
        raise InfoplaneError(f"Unknown setting {name!r}; it is now called {FORMER[name]!r}.")
    return FIELDS[choose(name, _NAMES, "setting")]


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded settings under their present names.

    Args:
        values: Settings under present or former names.

    Raises:
        InfoplaneError: If the keys are not names, or a setting is given under both of its names.
    """
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise InfoplaneError(f"The settings are {shown(values)}; expected values by name.")
    if both := [(old, new) for old, new in FORMER.items() if old in values and new in values]:
        old, new = both[0]
        raise InfoplaneError(f"The settings hold both {new!r} and {old!r}, its former name; expected one of them.")
    return {FORMER.get(name, name): value for name, value in values.items()}


# -- settings that must fit each other, by group


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise InfoplaneError(f"{FIELDS[name].shown_name} is {value!r}; expected {expected}.")


def _check_network(s: Settings) -> None:
    _require(
        s.model == "cnn" or not s.conv_channels, "conv_channels", s.conv_channels, "none, because the model is an mlp"
    )
    _require(s.depth >= 1, "widths", s.widths, "at least one hidden layer")


def _check_noise(s: Settings) -> None:
    different = len(set(s.echo_at)) == len(s.echo_at)
    inside = all(1 <= k <= s.depth for k in s.echo_at)
    _require(different and inside, "echo_at", s.echo_at, f"different hidden layers from 1 to {s.depth}")
    if s.echo_mode == "tap":
        _require(s.noise == "echo", "noise", s.noise, "echo, because the echo-mode is tap")
    if s.noise == "dropout" and s.echo_at:
        _require(s.beta == 0, "beta", s.beta, "0, because a dropout layer has no rate; expected --beta 0")
    if s.noise == "echo" and s.echo_mode == "chain" and s.echo_at and 0 < s.batch_size <= s.echoes:
        raise InfoplaneError(
            f"batch-size {s.batch_size} is too small for {s.echoes} echoes; expected at least {s.echoes + 1}, or fewer "
            "echoes (--echoes 16)."
        )


def _check_training(s: Settings) -> None:
    if s.gradients and not s.batch_size:
        raise InfoplaneError(
            "batch-size is full, but gradients are recorded over minibatches; expected a number of rows per step."
        )


def _check_measurement(s: Settings) -> None:
    snapshot_epochs(s.snapshots, s.epochs)


def echo_places(layers: int, depth: int, *, convolutions: int = 0) -> tuple[int, ...]:
    """Return default places of Echo layers among the hidden layers of a network.

    The first hidden layer is the last to get an Echo layer, because its rate stays above ln N. In a
    network with convolutions the places are the last layers, because feature maps are wide.

    Args:
        layers: The number of Echo layers.
        depth: The number of hidden layers, with the convolutions.
        convolutions: The number of convolutions, which come first.

    Returns:
        The places, counted from 1.

    Raises:
        InfoplaneError: If there are fewer hidden layers than that.

    Example:
        >>> echo_places(2, depth=5)
        (2, 4)
    """
    if layers == 0:
        return ()
    if not 1 <= layers <= depth:
        raise InfoplaneError(f"echo-layers is {layers}; expected 0 to {depth}, at most one for each hidden layer.")
    if convolutions:
        return tuple(range(depth - layers + 1, depth + 1))
    low, high = (2, depth - 1) if layers <= depth - 2 else (2, depth) if layers <= depth - 1 else (1, depth)
    if layers == 1:
        return (high,)
    return tuple(round(low + (high - low) * k / (layers - 1)) for k in range(layers))
