"""The command `infoplane compare-estimators`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from ..errors import InfoplaneError
from .group import main
from .options import Output, RunPath, estimators, layers, output, refuse_given
from .runs import finite, new_folder, print_json

if TYPE_CHECKING:
    import pandas

__all__ = ["compare"]


@main.command("compare-estimators")
@cloup.argument("run", required=False, type=RunPath())
@cloup.option_group(
    "Without a RUN",
    cloup.option("--thorough", is_flag=True, help="Take more sizes and dimensions, and 10 seeds."),
    cloup.option("--seeds", type=click.IntRange(1), help="Draws of each channel. [default: 2]"),
    cloup.option("--only", metavar="FAMILIES", help="Families of channels with commas between. [default: all]"),
)
@cloup.option_group(
    "With a RUN",
    estimators("Estimators as for `infoplane train`. [default: all, with sweeps of kde and binning]"),
    layers("Names of layers with commas between. [default: all]"),
    cloup.option("--snapshots", type=click.IntRange(1), help="Number of snapshots, the last among them. [default: 1]"),
    cloup.option("--replicas", type=click.IntRange(1), help="Number of replicas, from the first. [default: 1]"),
    cloup.option(
        "--data-root",
        type=click.Path(file_okay=False),
        metavar="FOLDER",
        help="The folder that holds the files of the data set of the run.",
    ),
)
@output(unit="nats", out="The folder for tables and figures.")
def compare(
    run: str | None,
    thorough: bool,
    seeds: int | None,
    only: str | None,
    estimators: list[str] | None,
    layers: list[str] | None,
    snapshots: int | None,
    replicas: int | None,
    data_root: str | None,
    output: Output,
) -> None:
    """Compare every estimator with exact values.

    \b
    infoplane compare-estimators        on channels whose information is known (two minutes)
    infoplane compare-estimators RUN    on a trained run, beside the exact rates of its Echo layers

    The table, as CSV and JSON, and figures are written to a folder.
    """
    known = {"thorough": thorough, "seeds": seeds, "only": only}
    trained = {"estimators": estimators, "layers": layers, "data-root": data_root, "snapshots": snapshots}
    if run is None:
        refuse_given(trained | {"replicas": replicas}, "without a RUN to compare them on.")
        _calibrate(thorough, seeds, only, output)
        return
    refuse_given(known, f"with {run}, but the comparison on known channels, to which it belongs, takes no RUN.")

    from ..runs import comparison as comparing

    made = comparing.compare_run(
        run,
        output.out or new_folder(f"{Path(run).resolve().name}-compared"),
        estimators=estimators,
        layers=layers,
        snapshots=snapshots or 1,
        replicas=replicas or 1,
        data_root=data_root,
        force=output.force,
        progress=not output.quiet,
    )
    rows = comparing.compared(made.read("measurements"))
    rows.to_csv(made.path / "compared.csv", index=False)
    last = comparing.last_snapshots(rows)

    from ..plot import beside, sweeps

    made.figures.mkdir(exist_ok=True)
    drawings = (("beside", beside, last), ("sweeps", sweeps, comparing.sweep(last)))
    drawn = []
    for name, draw, table in drawings:
        try:
            drawn.append(_save(draw(table, unit=output.unit), made.figures / f"{name}.png"))
        except InfoplaneError:  # there is no noisy layer, or no sweep, to draw
            continue
    result = {"run": str(made.path), "numbers": _records(rows), "figures": drawn}
    _write(made.path / "compared.json", result)
    if output.as_json:
        print_json(result)
    elif not output.quiet:
        click.echo(comparing.render(rows, output.unit))
        click.echo(f"\nrun: {made.path}    figures: {', '.join(drawn)}")


def _calibrate(thorough: bool, seeds: int | None, only: str | None, output: Output) -> None:
    """Compare the estimators on known channels; write tables and figures to a folder."""
    from ..calibration import calibrate, render, summarise

    families = [] if only is None else [family.strip() for family in only.split(",")]
    folder = Path(output.out or new_folder("calibration"))
    if folder.exists() and any(folder.iterdir()) and not output.force:
        raise InfoplaneError(f"{folder} holds files already; expected a new or empty folder, or --force.")
    frame = calibrate(thorough=thorough, seeds=seeds, only=families, progress=not output.quiet)
    summary = summarise(frame)
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "calibration.csv", index=False)
    result = {"folder": str(folder), "numbers": _records(frame), "summary": _records(summary)}
    _write(folder / "calibration.json", result)

    from ..plot import calibration, calibration_errors

    figures: dict[str, Callable[..., Any]] = {"calibration.png": calibration}
    if "neurons" in set(frame["family"]):
        figures["errors.png"] = calibration_errors
    for name, draw in figures.items():
        _save(draw(frame, unit=output.unit), folder / name)
    if output.as_json:
        print_json(result)
    elif not output.quiet:
        click.echo(render(frame, output.unit))
        click.echo(f"\n{folder}: calibration.csv, calibration.json, {', '.join(figures)}")


def _save(figure: Any, path: Path) -> str:
    """Save a figure, close it, and return its path."""
    from matplotlib import pyplot as plt

    from ..plot import save

    saved = str(save(figure, path))
    plt.close(figure)
    return saved


def _write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(finite(result), indent=1) + "\n")


def _records(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
