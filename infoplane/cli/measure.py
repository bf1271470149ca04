"""infoplane measure"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..data import is_file
from ..records import UNITS, InfoplaneError, choose
from ..settings import PROBES
from .group import main
from .runs import new_folder, show, words

__all__ = ["measure"]


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
    common: dict[str, Any] = {"estimators": words(estimators), "force": force, "progress": not quiet}
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

    from .. import measure as measuring

    name = Path(source).stem if kind == "file" else Path(source).resolve().name.replace(":", "-")
    where = out or new_folder(f"{name}-measured")
    if kind == "run":
        run = measuring.measure_run(source, where, probe=probe, data_root=data_root, device=device, **common)
    elif kind == "file":
        run = measuring.measure_activations(source, where, **common)
    else:
        from ..data import Place, load_points

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
    show(run, unit, as_json, quiet)
