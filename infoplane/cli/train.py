"""infoplane train"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

from ..errors import InfoplaneError
from ..runs.settings import Settings
from .group import Refused, main
from .options import Output, RunPath, device, output, settings
from .runs import new_folder, show

__all__ = ["train"]

_CONFIG = cloup.option(
    "--config",
    type=click.Path(),
    metavar="FILE",
    help="Settings in a YAML or JSON file (see `infoplane settings`), or the config.json of a run; other options "
    "override them.",
)


@main.command()
@settings({"Starting point": [_CONFIG]})
@cloup.option_group(
    "Run",
    cloup.option("--download", is_flag=True, help="Fetch the files of the data set through torchvision."),
    device(),
    cloup.option(
        "--threads",
        type=click.IntRange(1),
        help="Threads of torch on the CPU; the other cores measure. [default: 1]",
    ),
    cloup.option(
        "--keep-weights/--no-keep-weights", default=None, help="Keep the weights of every snapshot. [default: false]"
    ),
    cloup.option("--resume", type=RunPath(), metavar="RUN", help="Continue a run that was stopped."),
)
@output(unit="bits", out="The run directory.")
def train(
    config: str | None,
    preset: str | None,
    echo_layers: int | None,
    download: bool,
    device: str,
    threads: int | None,
    keep_weights: bool | None,
    resume: str | None,
    output: Output,
    **given: Any,
) -> None:
    """Train a network and record its information plane.

    \b
    infoplane train --activation relu --echo-layers 2
    infoplane train --dataset fashion-mnist --model cnn --echo-layers 1 --subset 10000 --download
    infoplane train --config runs/RUN/config.json --seed 5

    No Echo layer is added unless --echo-layers or --echo-at ask for it. A setting that is not given
    takes the value that suits the data set (`infoplane datasets`).
    """
    given = {name: value for name, value in given.items() if value is not None}
    first = {"preset": preset, "echo_layers": echo_layers}
    first = {name: value for name, value in first.items() if value is not None}
    if resume is not None:
        others = {"config": config, "out": output.out, "threads": threads, "keep_weights": keep_weights}
        more = [*given, *first, *(name for name, value in others.items() if value is not None)]
        if more or output.force:
            name = (more or ["force"])[0].replace("_", "-")
            raise InfoplaneError(
                f"--{name} was given with --resume, but a resumed run keeps its own settings and folder."
            )
        chosen, where = Settings(), resume
    else:
        recorded: dict[str, Any] = {}
        if config is not None:
            given, recorded = _beside(config, given, first)
            first = {}
        chosen = _checked(Settings.of(**(given | first)))
        threads = recorded.get("threads") if threads is None else threads
        keep_weights = recorded.get("keep_weights") if keep_weights is None else keep_weights
        where = output.out or new_folder(_name(chosen))

    from ..runs.training import train as run_training

    try:
        run = run_training(
            chosen,
            where,
            device=device,
            resume=resume is not None,
            force=output.force,
            progress=not output.quiet,
            keep_weights=bool(keep_weights),
            threads=threads,
            download=download,
        )
    except KeyboardInterrupt:
        raise Refused(
            f"Stopped. The recorded rows are in {where}; continue with: infoplane train --resume {where}"
        ) from None
    show(run, output.unit, output.as_json, output.quiet)


def _beside(config: str, given: dict[str, Any], first: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of a file with the given ones over them, and its options of a run."""
    from ..runs.settings_file import read_settings

    if "preset" in first:
        raise InfoplaneError(
            "--preset was given with --config; expected one of them, or a line 'preset: NAME' in the file."
        )
    file = read_settings(config)
    replaced = {"echo_at": "echo_layers", "echo_layers": "echo_at"}  # each replaces the other
    dropped = {replaced[name] for name in given | first if name in replaced}
    kept = {name: value for name, value in file.settings.items() if name not in dropped}
    return kept | given | first, file.options


def _checked(settings: Settings) -> Settings:
    """Return the settings, after a check of their estimators, which loads torch."""
    from ..estimators import parse_estimator

    for text in settings.estimators:
        parse_estimator(text)
    return settings


def _name(settings: Settings) -> str:
    """Return the name of the folder of a run with these settings."""
    kind = "tap" if settings.echo_mode == "tap" else settings.noise
    echo = f"-{kind}{'.'.join(map(str, settings.echo_at))}" if settings.echo_at else ""
    echo += f"-{settings.bits}bit" if settings.bits else ""
    dataset = Path(settings.dataset).stem
    subset = f"-{settings.subset}" if settings.subset else ""
    return f"{dataset}{subset}-{settings.model}-{settings.activation}{echo}-seed{settings.seed}"
