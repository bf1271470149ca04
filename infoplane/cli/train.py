"""infoplane train"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..data import DATASETS
from ..records import UNITS, InfoplaneError, choose
from ..settings import PRESETS, Settings
from .group import Refused, main
from .runs import new_folder, show, words

__all__ = ["train"]

F = TypeVar("F", bound=Callable[..., Any])


def _whole_numbers(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r}; expected whole numbers with commas between, such as 10,7,5.") from None


def _numbers(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r}; expected numbers with commas between, such as 0.01,0.1.") from None


def _batch_size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    if value == "full":
        return 0
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r}; expected 'full' or a whole number of at least 1.")
    return int(value)


#: what each setting says of itself in --help; None defaults show the default of `Settings`
_TRAIN_OPTIONS: list[Any] = [
    click.option("--preset", help=f"Published settings to start from: {', '.join(PRESETS)}."),
    click.option("--dataset", help=f"{', '.join(DATASETS)}, or a .mat or .npz FILE; default: icosahedron."),
    click.option("--data-root", help="The folder with the files of a data set; default: $INFOPLANE_DATA, else data."),
    click.option("--subset", type=int, help="How many training points to use, the classes in proportion."),
    click.option("--model", help="mlp or cnn; default: what suits the data set."),
    click.option("--conv-channels", callback=_whole_numbers, help="Of the convolutions of a cnn, e.g. 16,32."),
    click.option("--activation", help="tanh, relu, linear, softsign, softplus, elu or hardtanh."),
    click.option("--bits", type=int, help="Of every activation, 2 to 16 (a quantised network); default: 0, floats."),
    click.option("--widths", callback=_whole_numbers, help="Hidden layers, e.g. 10,7,5,4,3."),
    click.option("--init", help="glorot, he, balanced, tishby or saxe; default: what suits the activation."),
    click.option("--echo-layers", type=int, help="How many Echo (or other noisy) layers, at default places."),
    click.option("--echo-at", callback=_whole_numbers, help="Or which hidden layers they follow, e.g. 2,4."),
    click.option("--echo-on", help="before or after the activation; default: before ReLU, after others."),
    click.option("--echo-mode", help="chain: in the network; tap: side branches of all layers, refitted at snapshots."),
    click.option("--tap-objective", help="label (cross-entropy) or reconstruction (of the layer), + beta rate."),
    click.option("--tap-betas", callback=_numbers, help="Of taps, e.g. 0.01,0.1."),
    click.option("--noise", help="echo, gaussian or dropout; the latter two behind all hidden layers by default."),
    click.option("--noise-std", type=float, help="Of the channel gaussian: the standard deviation of its noise."),
    click.option("--dropout", type=float, help="Of the channel dropout: the share."),
    click.option("--max-scale", type=float, help="The largest echo scale s, below 1."),
    click.option("--echoes", type=int, help="Terms of an echo in training, a power of two below the batch size."),
    click.option("--scale", help="input (learned, from the layer's own values) or constant (a unit)."),
    click.option("--mixing", help="diagonal, rotation (fixed) or full (learned, norm-bounded)."),
    click.option("--beta", type=float, help="Nats of loss a nat of rate."),
    click.option("--warmup", type=float, help="Share of training before beta sets in; it ramps over as much again."),
    click.option("--optimizer", help="adam or sgd."),
    click.option("--lr", type=float, help="Learning rate."),
    click.option("--batch-size", callback=_batch_size, help="Rows a step, or full."),
    click.option("--epochs", type=int),
    click.option("--snapshots", help="log:16, every:10, saxe, tishby, or a list of epochs 0,1,10."),
    click.option("--estimators", help="E.g. 'kde binning' or 'kde:noise_variance=0.1 binning:bins=30,range=run'."),
    click.option("--probe", help="What is measured on: train, test or all points."),
    click.option("--split", type=float, help="Share of points to train on."),
    click.option("--ordered", is_flag=True, default=None, help="Train on the first points, not on a random choice."),
    click.option("--gradients", is_flag=True, default=None, help="Record the gradient over batches at each snapshot."),
    click.option("--replicas", type=int, help="Networks trained at once, each with a seed of its own."),
    click.option("--seed", type=int, help="Of the first replica; replica r has seed + r."),
]


def _with(options: list[Any]) -> Callable[[F], F]:
    def decorate(f: F) -> F:
        for option in reversed(options):
            f = option(f)
        return f

    return decorate


@main.command()
@_with(_TRAIN_OPTIONS)
@click.option("--download", is_flag=True, help="Fetch the files of the data set through torchvision.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--threads", type=click.IntRange(1), help="Of torch, on the CPU; default 1, and other cores measure.")
@click.option("--out", type=click.Path(), help="The run directory; default: a new one in runs/.")
@click.option("--resume", type=click.Path(), metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--force", is_flag=True, help="Replace the run in --out.")
@click.option("--keep-weights", is_flag=True, help="Keep the weights of every snapshot.")
@click.option("--unit", default="bits", show_default=True, help="bits or nats, of the table.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, in place of the table.")
@click.option("--quiet", is_flag=True, help="No progress bar and no table.")
def train(
    download: bool,
    device: str,
    threads: int | None,
    out: str | None,
    resume: str | None,
    force: bool,
    keep_weights: bool,
    unit: str,
    as_json: bool,
    quiet: bool,
    preset: str | None,
    echo_layers: int | None,
    estimators: str | None,
    **given: Any,
) -> None:
    """Train a network with Echo layers and record its information plane.

    \b
    infoplane train --activation relu --echo-layers 2
    infoplane train --dataset fashion-mnist --model cnn --echo-layers 1 --subset 10000 --download

    What is not given takes what suits the data set (`infoplane datasets`).
    """
    choose(unit, UNITS, "unit")
    given = {name: value for name, value in given.items() if value is not None}
    if resume is not None:
        more = [
            *given,
            *(
                n
                for n, v in (("preset", preset), ("echo-layers", echo_layers), ("out", out), ("threads", threads))
                if v is not None
            ),
        ]
        if more or force:
            name = (more or ["force"])[0].replace("_", "-")
            raise InfoplaneError(f"--{name} was given with --resume; a resumed run keeps its own settings and place.")
        settings, where = Settings(), resume
    else:
        settings = _settings(preset, echo_layers, estimators, given)
        where = out or new_folder(_name(settings))

    from ..training import train as run_training

    try:
        run = run_training(
            settings,
            where,
            device=device,
            resume=resume is not None,
            force=force,
            progress=not quiet,
            keep_weights=keep_weights,
            threads=threads,
            download=download,
        )
    except KeyboardInterrupt:
        raise Refused(
            f"Stopped. What was recorded is in {where}; go on with: infoplane train --resume {where}"
        ) from None
    show(run, unit, as_json, quiet)


def _settings(preset: str | None, echo_layers: int | None, estimators: str | None, given: dict[str, Any]) -> Settings:
    if estimators is not None:
        given["estimators"] = tuple(words(estimators) or ())
    settings = Settings.of(preset=preset, echo_layers=echo_layers, **given)

    from ..estimators import parse_estimator

    for text in settings.estimators:
        parse_estimator(text)
    return settings


def _name(settings: Settings) -> str:
    kind = "tap" if settings.echo_mode == "tap" else settings.noise
    echo = f"-{kind}{'.'.join(map(str, settings.echo_at))}" if settings.echo_at else ""
    echo += f"-{settings.bits}bit" if settings.bits else ""
    dataset = Path(settings.dataset).stem
    subset = f"-{settings.subset}" if settings.subset else ""
    return f"{dataset}{subset}-{settings.model}-{settings.activation}{echo}-seed{settings.seed}"
