"""infoplane plot"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..records import InfoplaneError, choose
from .group import main

__all__ = ["plot"]


@main.command()
@click.argument("kind")
@click.argument("runs", nargs=-1, required=True, type=click.Path(), metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(),
    help="The file; default: RUN/figures/KIND.png (or .gif); of several runs, KIND.png here.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    help="png, pdf or svg (of an animation gif or html); may be given several times.",
)
@click.option("--unit", help="bits or nats; default: bits.")
@click.option("--epochs-range", "shown", metavar="A..B", help="Which epochs; also A.. and ..B.")
@click.option("--layers", help="Names with commas between; default: all.")
@click.option("--estimator", help="Of plane, gap and animation; default: all, and Echo layers or the first.")
@click.option("--epoch", type=int, help="Of gap; default: the last.")
@click.option("--path", help="Of gap: noisy, noise-off or plain; default: noisy, or plain without Echo layers.")
def plot(
    kind: str, runs: tuple[str, ...], out: str | None, formats: tuple[str, ...], shown: str | None, **given: Any
) -> None:
    """Draw runs, side by side on common axes.

    \b
    KIND is
      plane        I(T;Y) against I(X;T), or I(Z;Y) against I(Z;X), from epoch to epoch
      rates        exact rates and I(X;T) against epoch
      loss         loss and error against epoch
      gap          generalisation gap against information, with rank correlations
      taps         rate of Echo taps against cross-entropy or distortion (--echo-mode tap)
      certificate  why a rate is exact, or is not: each condition against epoch
      gradients    mean and standard deviation of gradients over minibatches against epoch (--gradients)
      animation    the plane from epoch to epoch, every replica a dot: a GIF, or HTML with a slider
    """
    from ..rundir import RunDir

    directories = [RunDir.open(run) for run in runs]

    from matplotlib import pyplot as plt

    from ..plot import PLOTS, epochs_range, run_names

    chosen = PLOTS[choose(kind, PLOTS, "plot")]
    options = {name: value for name, value in given.items() if value is not None}
    if "layers" in options:
        options["layers"] = [layer.strip() for layer in options["layers"].split(",")]
    for name in options:
        if name not in chosen.options:
            known = ", ".join(f"--{option}" for option in given if option in chosen.options)
            raise InfoplaneError(f"--{name} was given, which `plot {kind}` has no use for; expected {known}.")
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


def _together(table: str, runs: dict[str, Any], first: int | None, last: int | None) -> Any:
    """A table of several runs as one frame; the column `run` has the names given here."""
    import pandas

    from ..plot import between

    frames = []
    for name, run in runs.items():
        frame = run.read(table)
        if frame.empty:
            why = {
                "certificates": "It has no Echo layers (see `infoplane train --echo-layers`), or was",
                "taps": "It has no Echo taps (see `infoplane train --echo-mode`), or was",
                "gradients": "It was trained without `infoplane train --gradients`, or was",
                "metrics": "It was measured and not trained here (see `infoplane measure`), or was",
            }.get(table, "It was")
            raise InfoplaneError(f"{run.path} holds no {table}. {why} stopped before its first snapshot.")
        frames.append(frame.assign(run=name))
    return between(pandas.concat(frames, ignore_index=True), first, last)
