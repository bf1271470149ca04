"""The command `infoplane plot`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from ..errors import InfoplaneError, choose
from ..records import TABLES, UNITS
from .group import main
from .options import ESTIMATOR_NAMES, Choice, RunPath, layers

if TYPE_CHECKING:
    from ..runs.directory import RunDir

__all__ = ["plot"]


def _kinds() -> Iterable[str]:
    from ..plot import PLOTS

    return PLOTS


def _formats() -> Iterable[str]:
    from ..plot import PLOTS

    return dict.fromkeys(each for plot in PLOTS.values() for each in plot.formats)


class _Plot(cloup.Command):
    """A command whose --help lists the registry of plots, and loads matplotlib only then."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from ..plot import PLOTS

        super().format_help_text(ctx, formatter)
        with formatter.section("KIND"):
            formatter.write_dl([(name, plot.about) for name, plot in PLOTS.items()])


@main.command(cls=_Plot)
@cloup.argument("kind", type=Choice(_kinds, "plot", metavar="KIND"))
@cloup.argument("runs", nargs=-1, required=True, type=RunPath(), metavar="RUN...")
@cloup.option_group(
    "What is drawn",
    cloup.option(
        "--unit", type=Choice(lambda: UNITS, "unit"), help="Unit of information and of the loss. [default: bits]"
    ),
    cloup.option(
        "--epochs-range", "shown", metavar="A..B", help="Epochs from A to B; also A.. and ..B. [default: all]"
    ),
    layers("Names of layers with commas between. [default: all]"),
    cloup.option(
        "--estimator",
        type=ESTIMATOR_NAMES,
        help="Estimator of the information (plane, gap, animation). [default: all; gap: Echo layers, or the first]",
    ),
    cloup.option("--epoch", type=int, help="Epoch (gap). [default: the last]"),
    cloup.option(
        "--path",
        type=Choice(lambda: ("noisy", "noise-off", "plain"), "path", closed=False),
        help="Path of the loss and the error (gap). [default: noisy, or plain without Echo layers]",
    ),
)
@cloup.option_group(
    "Output",
    cloup.option(
        "--out",
        type=click.Path(),
        metavar="FILE",
        help="The file. [default: RUN/figures/KIND.png, or .gif; for several runs KIND.png here]",
    ),
    cloup.option(
        "--format",
        "formats",
        multiple=True,
        type=Choice(_formats, "format", closed=False, metavar="FORMAT"),
        help="png, pdf or svg; for an animation gif or html. May be given several times. "
        "[default: the ending of --out]",
    ),
)
def plot(
    kind: str, runs: tuple[str, ...], out: str | None, formats: tuple[str, ...], shown: str | None, **given: Any
) -> None:
    """Draw one run, or several side by side on common axes.

    \b
    infoplane plot plane runs/RUN
    infoplane plot rates runs/RUN runs/OTHER --unit nats --format pdf
    """
    from ..runs.directory import RunDir

    directories = [RunDir.open(run) for run in runs]

    from matplotlib import pyplot as plt

    from ..plot import PLOTS, epochs_range, run_names

    chosen = PLOTS[kind]
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in chosen.options:
            known = ", ".join(f"--{option}" for option in given if option in chosen.options)
            raise InfoplaneError(f"--{name} was given, which `plot {kind}` does not take; expected {known}.")
    name = f"{kind}.{chosen.formats[0]}"
    target = Path(out) if out else Path(name) if len(runs) > 1 else directories[0].figures / name
    suffixes = [
        choose(f, chosen.formats, "format") for f in formats or [target.suffix.lstrip(".") or chosen.formats[0]]
    ]
    names, ends = run_names(runs), epochs_range(shown) if shown is not None else (None, None)
    frames = [_together(table, dict(zip(names, directories, strict=True)), *ends) for table in chosen.tables]
    drawn = chosen.draw(*frames, **options)
    try:
        for suffix in suffixes:
            path = target.with_suffix(f".{suffix}")
            chosen.save(drawn, path)
            click.echo(str(path))
    finally:
        plt.close(drawn.figure)


def _together(table: str, runs: dict[str, RunDir], first: int | None, last: int | None) -> Any:
    """Return a table of several runs as one frame, with the given names in its column `run`."""
    import pandas

    from ..plot import between

    frames = []
    for name, run in runs.items():
        frame = run.read(table)
        if frame.empty:
            why = [TABLES[table].absent] * bool(TABLES[table].absent) + [
                "the run was stopped before its first snapshot"
            ]
            raise InfoplaneError(f"{run.path} holds no {table}: {', or '.join(why)}.")
        frames.append(frame.assign(run=name))
    return between(pandas.concat(frames, ignore_index=True), first, last)
