"""The commands. Only what a command needs is loaded, and only when it runs."""

from __future__ import annotations

import json
import math
import sys
import warnings as warnings_module
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import __version__
from .data import DATASETS, is_file
from .records import UNITS, WARNINGS, InfoplaneError, choose
from .settings import PRESETS, PROBES, Settings

if TYPE_CHECKING:
    from .rundir import RunDir

__all__ = ["main"]


F = TypeVar("F", bound=Callable[..., Any])


class Refused(click.ClickException):
    """Bad input: the message, exit status 2, no traceback."""

    exit_code = 2


class Commands(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-"):
            try:
                choose(args[0], self.commands, "command")
            except InfoplaneError as error:
                raise Refused(str(error)) from None
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        def plainly(message: Warning | str, *_: Any, **__: Any) -> None:
            click.echo(f"Warning: {message}", err=True)  # without the line of our code that raised it

        try:
            with warnings_module.catch_warnings():
                warnings_module.showwarning = plainly
                return super().invoke(ctx)
        except InfoplaneError as error:
            raise Refused(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Information-plane analysis of supervised networks, with exact rates from Echo noise.

    Every number says what it is: exact, upper or lower bound, or estimate; through which channel, under which law and
    ceiling; and which warnings it carries.
    """


def _whole_numbers(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r}; expected whole numbers with commas between, such as 10,7,5.") from None


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
    click.option("--channels", callback=_whole_numbers, help="Of the convolutions of a cnn, e.g. 16,32."),
    click.option("--activation", help="tanh, relu, linear, softsign, softplus, elu or hardtanh."),
    click.option("--widths", callback=_whole_numbers, help="Hidden layers, e.g. 10,7,5,4,3."),
    click.option("--init", help="glorot, he, balanced, tishby or saxe; default: what suits the activation."),
    click.option("--echo-layers", type=int, help="How many Echo layers, at default places; default: none."),
    click.option("--echo-at", callback=_whole_numbers, help="Or which hidden layers they follow, e.g. 2,4."),
    click.option("--echo-on", help="before or after the activation; default: before ReLU, after others."),
    click.option("--bound", type=float, help="The largest echo scale s, below 1."),
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
        where = out or _new_folder(_name(settings))

    from .training import train as run_training

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
    _show(run, unit, as_json, quiet)


def _settings(preset: str | None, echo_layers: int | None, estimators: str | None, given: dict[str, Any]) -> Settings:
    if estimators is not None:
        given["estimators"] = tuple(_listed(estimators) or ())
    settings = Settings.of(preset=preset, echo_layers=echo_layers, **given)

    from .estimators import parse_estimator

    for text in settings.estimators:
        parse_estimator(text)
    return settings


def _name(settings: Settings) -> str:
    echo = f"-echo{'.'.join(map(str, settings.echo_at))}" if settings.echo_at else ""
    dataset = Path(settings.dataset).stem
    subset = f"-{settings.subset}" if settings.subset else ""
    return f"{dataset}{subset}-{settings.model}-{settings.activation}{echo}-seed{settings.seed}"


def _new_folder(name: str) -> str:
    for number in range(1, 10_000):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return str(folder)
    raise InfoplaneError(f"runs/ holds too many runs named {name}; name one with --out.")


def _listed(text: str | None) -> list[str] | None:
    """Words with blanks or semicolons between."""
    return None if text is None else text.replace(";", " ").split()


def _show(run: RunDir, unit: str, as_json: bool, quiet: bool) -> None:
    from .summary import render, summary

    result = {"run": str(run.path)} | summary(run.read("measurements"), run.read("metrics"), unit)
    if as_json:
        click.echo(json.dumps(_finite(result), indent=1))
    elif not quiet:
        click.echo(render(result))
        click.echo(f"\nrun: {run.path}    plot it: infoplane plot plane {run.path}")


def _finite(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@main.command()
@click.argument("source", metavar="RUN|FILE.npz|MODULE:FUNCTION")
@click.option("--estimators", help="As of `infoplane train`; default: those of the run, or kde and binning.")
@click.option("--layers", help="Names with commas between; default: all.")
@click.option("--probe", help="train, test or all; default: that of the run, or all.")
@click.option("--weights", multiple=True, type=click.Path(), help="Of a model: a state_dict; several are epochs.")
@click.option("--dataset", help="Of a model: what it is measured on, as of `infoplane train`.")
@click.option("--limit", type=click.IntRange(2), default=10_000, show_default=True, help="Of a model: points at most.")
@click.option("--data-root", help="The folder with the files of the data set.")
@click.option("--download", is_flag=True, help="Of a model: fetch the files of the data set through torchvision.")
@click.option("--out", type=click.Path(), help="The run directory; default: a new one in runs/.")
@click.option("--force", is_flag=True, help="Replace the run in --out.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--unit", default="bits", show_default=True, help="bits or nats, of the table.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, in place of the table.")
@click.option("--quiet", is_flag=True, help="No progress bar and no table.")
def measure(
    source: str,
    estimators: str | None,
    layers: str | None,
    probe: str | None,
    weights: tuple[str, ...],
    dataset: str | None,
    limit: int,
    data_root: str | None,
    download: bool,
    out: str | None,
    force: bool,
    device: str,
    unit: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure what exists already, without training: the checkpoints of a run, saved activations, or a model.

    \b
    infoplane measure runs/RUN --probe test --estimators "kde:noise_variance=0.1 binning:bins=30"
    infoplane measure activations.npz        arrays LAYER -> (epoch, N, D), and labels (N,)
    infoplane measure nets:resnet --weights resnet.pt --dataset cifar10 --layers layer1,layer4

    It leaves a run directory as `infoplane train` does. Weights of every epoch are there where the run was trained with
    --keep-weights.
    """
    choose(unit, UNITS, "unit")
    if probe is not None:
        choose(probe, PROBES, "probe")
    common: dict[str, Any] = {"estimators": _listed(estimators), "force": force, "progress": not quiet}
    common["layers"] = layers.split(",") if layers else None
    kind = "run" if Path(source).is_dir() else "file" if is_file(source) else "model" if ":" in source else None
    if kind is None:
        raise InfoplaneError(
            f"{source} is no run directory, no .npz file and no module:function; expected one of these to measure."
        )
    of_model = {"weights": weights, "dataset": dataset, "download": download}
    for name, value in of_model.items():
        if kind != "model" and value:
            raise InfoplaneError(f"--{name} is for a model (module:function); {source} is a {kind}.")
    if kind == "file" and (probe or data_root):
        raise InfoplaneError(f"--{'probe' if probe else 'data-root'} is for a run or a model; {source} is a file.")
    if kind == "model" and dataset is None:
        raise InfoplaneError(f"{source} is to be measured on some inputs; expected --dataset, a name or a file.")

    from . import measure as measuring

    where = out or _new_folder(f"{Path(source).stem.replace(':', '-')}-measured")
    if kind == "run":
        run = measuring.measure_run(source, where, probe=probe, data_root=data_root, device=device, **common)
    elif kind == "file":
        run = measuring.measure_activations(source, where, **common)
    else:
        from .data import Place, load_points

        assert dataset is not None
        model = measuring.model_of(source)
        points = load_points(dataset, Place(data_root, download))
        run = measuring.measure_model(
            model,
            points,
            where,
            weights=weights,
            source=source,
            probe=probe or "all",
            limit=limit,
            device=device,
            **common,
        )
    _show(run, unit, as_json, quiet)


@main.command()
@click.argument("kind")
@click.argument("runs", nargs=-1, required=True, type=click.Path(), metavar="RUN...")
@click.option(
    "--out", type=click.Path(), help="The file; default: RUN/figures/KIND.png; of several runs, KIND.png here."
)
@click.option("--format", "formats", multiple=True, help="png, pdf or svg; may be given several times.")
@click.option("--unit", default="bits", show_default=True, help="bits or nats.")
@click.option("--epochs-range", "shown", metavar="A..B", help="Which epochs; also A.. and ..B.")
@click.option("--layers", help="Names with commas between; default: all.")
@click.option("--estimator", help="Of plane and gap; default: all, and Echo layers or the first.")
@click.option("--epoch", type=int, help="Of gap; default: the last.")
@click.option("--path", help="Of gap: noisy, noise-off or plain; default: noisy, or plain without Echo layers.")
def plot(
    kind: str, runs: tuple[str, ...], out: str | None, formats: tuple[str, ...], shown: str | None, **given: Any
) -> None:
    """Draw runs, side by side on common axes: KIND is plane, rates, loss, gap or certificate."""
    from .rundir import RunDir

    directories = [RunDir.open(run) for run in runs]

    from matplotlib import pyplot as plt

    from .plot import PLOTS, epochs_range, run_names, save
    from .plot.style import FORMATS

    chosen = PLOTS[choose(kind, PLOTS, "plot")]
    options = {name: value for name, value in given.items() if value is not None}
    if "layers" in options:
        options["layers"] = [layer.strip() for layer in options["layers"].split(",")]
    for name in options:
        if name not in chosen.options:
            known = ", ".join(f"--{option}" for option in given if option in chosen.options)
            raise InfoplaneError(f"--{name} was given, which `plot {kind}` has no use for; expected {known}.")
    target = Path(out) if out else Path(f"{kind}.png") if len(runs) > 1 else directories[0].figures / f"{kind}.png"
    suffixes = [choose(f, FORMATS, "format") for f in formats or [target.suffix.lstrip(".") or "png"]]
    names, ends = run_names(runs), epochs_range(shown) if shown is not None else (None, None)
    frames = [_together(table, dict(zip(names, directories, strict=True)), *ends) for table in chosen.tables]
    figure = chosen.draw(*frames, **options)
    try:
        for suffix in suffixes:
            path = target.with_suffix(f".{suffix}")
            save(figure, path)
            click.echo(str(path))
    finally:
        plt.close(figure)


def _together(table: str, runs: dict[str, Any], first: int | None, last: int | None) -> Any:
    """A table of several runs as one frame; the column `run` has the names given here."""
    import pandas

    from .plot import between

    frames = []
    for name, run in runs.items():
        frame = run.read(table)
        if frame.empty:
            why = "It has no Echo layers (see `infoplane train --echo-layers`), or" if table == "certificates" else "It"
            raise InfoplaneError(f"{run.path} holds no {table}. {why} was stopped before its first snapshot.")
        frames.append(frame.assign(run=name))
    return between(pandas.concat(frames, ignore_index=True), first, last)


@main.command()
def datasets() -> None:
    """List the data sets, with their sizes and sources, and the settings that a run takes for each unless given."""
    for name, listed in DATASETS.items():
        click.echo(name)
        for field in ("what", "points", "source"):
            click.echo(f"  {field:<9} {getattr(listed, field)}")
        for setting, value in listed.defaults.items():
            text = " ".join(map(str, value)) if setting == "estimators" else value
            text = ",".join(map(str, value)) if isinstance(value, tuple) and setting != "estimators" else text
            text = "full" if setting == "batch_size" and value == 0 else text
            click.echo(f"  --{setting.replace('_', '-')} {text}")
    click.echo("FILE.npz, FILE.mat")
    click.echo("  what      arrays x (N, ...) and y (N,), classes; or F and y; or x_train, y_train, x_test, y_test")


@main.command()
def estimators() -> None:
    """List the estimators: what each measures, its standing, conditions, cost and source."""
    from .estimators import ESTIMATORS

    for name, listed in ESTIMATORS.items():
        click.echo(name)
        for field in ("quantity", "standing", "conditions", "cost", "source"):
            click.echo(f"  {field:<11} {getattr(listed, field)}")


@main.command()
@click.argument("codes", nargs=-1)
def warnings(codes: tuple[str, ...]) -> None:
    """Explain the warnings a number can carry: all, or the codes given."""
    for code in codes or WARNINGS:
        warned = WARNINGS[choose(code, WARNINGS, "warning code")]
        click.echo(
            f"{code}\n  means      {warned.meaning}\n  raised at  {warned.threshold}\n  remedy     {warned.remedy}"
        )


if __name__ == "__main__":
    sys.exit(main())
