"""infoplane compare-estimators"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..records import UNITS, InfoplaneError, choose
from .group import main
from .runs import finite, new_folder, words

if TYPE_CHECKING:
    import pandas

__all__ = ["compare"]


@main.command("compare-estimators")
@click.argument("run", required=False, type=click.Path())
@click.option("--thorough", is_flag=True, help="Without RUN: more sizes, more dimensions, 10 seeds.")
@click.option("--seeds", type=click.IntRange(1), help="Without RUN: draws of each channel; default: 2.")
@click.option("--only", help="Without RUN: families of channels, with commas between.")
@click.option("--estimators", help="Of a RUN, as of `infoplane train`; default: all, and sweeps of kde and binning.")
@click.option("--layers", help="Of a RUN: names with commas between; default: all.")
@click.option("--snapshots", type=click.IntRange(1), default=1, show_default=True, help="Of a RUN: the last, or more.")
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Of a RUN: the first ones.")
@click.option("--data-root", help="Of a RUN: the folder with the files of its data set.")
@click.option("--out", type=click.Path(), help="The folder for tables and figures; default: a new one in runs/.")
@click.option("--force", is_flag=True, help="Replace what is in --out.")
@click.option("--unit", default="nats", show_default=True, help="bits or nats.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, in place of the table.")
@click.option("--quiet", is_flag=True, help="No progress bar and no table.")
def compare(
    run: str | None,
    thorough: bool,
    seeds: int | None,
    only: str | None,
    estimators: str | None,
    layers: str | None,
    snapshots: int,
    replicas: int,
    data_root: str | None,
    out: str | None,
    force: bool,
    unit: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Hold every estimator against what is known exactly.

    \b
    infoplane compare-estimators           channels whose information is known: two minutes on two cores
    infoplane compare-estimators RUN       the layers of a trained run, beside the exact rates of its Echo layers

    It leaves the table as CSV and JSON, and figures, in a folder.
    """
    choose(unit, UNITS, "unit")
    if run is None:
        of_run = {"estimators": estimators, "layers": layers, "data-root": data_root}
        for name, value in of_run.items():
            if value:
                raise InfoplaneError(f"--{name} was given without a RUN to compare them on; expected RUN --{name} ...")
        _calibrate(thorough, seeds, only, out, force, unit, as_json, quiet)
    else:
        for name, asked in {"thorough": thorough, "seeds": seeds, "only": only}.items():
            if asked:
                raise InfoplaneError(f"--{name} is for the calibration, which takes no RUN; {run} was given.")
        _compare(run, estimators, layers, snapshots, replicas, data_root, out, force, unit, as_json, quiet)


def _calibrate(
    thorough: bool,
    seeds: int | None,
    only: str | None,
    out: str | None,
    force: bool,
    unit: str,
    as_json: bool,
    quiet: bool,
) -> None:
    from ..calibration import calibrate, render, summarise

    families = [] if only is None else [family.strip() for family in only.split(",")]
    folder = Path(out or new_folder("calibration"))
    if folder.exists() and any(folder.iterdir()) and not force:
        raise InfoplaneError(f"{folder} holds files already; expected a new or empty folder, or --force.")
    frame = calibrate(thorough=thorough, seeds=seeds, only=families, progress=not quiet)
    summary = summarise(frame)
    figures = ["calibration", "errors"] if "neurons" in set(frame["family"]) else ["calibration"]
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "calibration.csv", index=False)
    result = {"folder": str(folder), "numbers": _records(frame), "summary": _records(summary)}
    (folder / "calibration.json").write_text(json.dumps(finite(result), indent=1) + "\n")

    from matplotlib import pyplot as plt

    from ..plot import calibration, calibration_errors, save

    for name in figures:
        figure = (calibration if name == "calibration" else calibration_errors)(frame, unit=unit)
        save(figure, folder / f"{name}.png")
        plt.close(figure)
    if as_json:
        click.echo(json.dumps(finite(result), indent=1))
    elif not quiet:
        click.echo(render(frame, unit))
        click.echo(f"\n{folder}: calibration.csv, calibration.json, {', '.join(f'{name}.png' for name in figures)}")


def _compare(
    run: str,
    estimators: str | None,
    layers: str | None,
    snapshots: int,
    replicas: int,
    data_root: str | None,
    out: str | None,
    force: bool,
    unit: str,
    as_json: bool,
    quiet: bool,
) -> None:
    from .. import compare as comparing

    made = comparing.compare_run(
        run,
        out or new_folder(f"{Path(run).resolve().name}-compared"),
        estimators=words(estimators),
        layers=None if layers is None else [name.strip() for name in layers.split(",")],
        snapshots=snapshots,
        replicas=replicas,
        data_root=data_root,
        force=force,
        progress=not quiet,
    )
    rows = comparing.compared(made.read("measurements"))
    rows.to_csv(made.path / "compared.csv", index=False)
    last = comparing.last_snapshots(rows)

    from matplotlib import pyplot as plt

    from ..plot import beside, save, sweeps

    drawn = []
    made.figures.mkdir(exist_ok=True)
    for name, draw, table in (("beside", beside, last), ("sweeps", sweeps, comparing.sweep(last))):
        try:
            figure = draw(table, unit=unit)
        except InfoplaneError:  # no noisy layer, or nothing swept
            continue
        drawn.append(str(save(figure, made.figures / f"{name}.png")))
        plt.close(figure)
    result = {"run": str(made.path), "numbers": _records(rows), "figures": drawn}
    (made.path / "compared.json").write_text(json.dumps(finite(result), indent=1) + "\n")
    if as_json:
        click.echo(json.dumps(finite(result), indent=1))
    elif not quiet:
        click.echo(comparing.render(rows, unit))
        click.echo(f"\nrun: {made.path}    figures: {', '.join(drawn)}")


def _records(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
