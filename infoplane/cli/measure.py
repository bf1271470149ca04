"""The command `infoplane measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

from ..data import DATASETS, is_file
from ..errors import InfoplaneError
from ..runs.settings import PROBES
from .group import main
from .options import Choice, Output, RunPath, device, estimators, layers, output, refuse_given
from .runs import new_folder, show

__all__ = ["measure"]


@main.command()
@cloup.argument("source", metavar="RUN|FILE.npz|MODULE:FUNCTION", type=RunPath(files=True))
@cloup.option_group(
    "Measurement",
    estimators("Estimators as for `infoplane train`. [default: those of the run, or kde and binning]"),
    layers("Names of layers with commas between. [default: all]"),
    cloup.option(
        "--probe",
        type=Choice(lambda: PROBES, "probe"),
        help="The points to measure a run or a model on. [default: those of the run, or all]",
    ),
    cloup.option(
        "--data-root",
        type=click.Path(file_okay=False),
        metavar="FOLDER",
        help="The folder that holds the files of the data set.",
    ),
    device(),
)
@cloup.option_group(
    "Models",
    cloup.option(
        "--weights",
        multiple=True,
        type=click.Path(),
        metavar="FILE",
        help="A state_dict of the model. If the option is given several times, each file is one epoch.",
    ),
    cloup.option(
        "--dataset",
        type=Choice(lambda: DATASETS, "dataset", closed=False, metavar="NAME|FILE", files=True),
        help="The data set to measure the model on, as for `infoplane train`.",
    ),
    cloup.option(
        "--limit",
        type=click.IntRange(2),
        default=10_000,
        help="Largest number of points; from more points, this number is drawn. [default: 10000]",
    ),
    cloup.option("--download", is_flag=True, help="Fetch the files of the data set through torchvision."),
)
@output(unit="bits", out="The run directory.")
def measure(
    source: str,
    estimators: list[str] | None,
    layers: list[str] | None,
    probe: str | None,
    data_root: str | None,
    device: str,
    weights: tuple[str, ...],
    dataset: str | None,
    limit: int,
    download: bool,
    output: Output,
) -> None:
    """Measure a trained run, saved activations or a model.

    \b
    infoplane measure runs/RUN --probe test --estimators "kde:noise_variance=0.1 binning:bins=30"
    infoplane measure activations.npz        arrays LAYER -> (epochs, N, D), and labels (N,)
    infoplane measure nets:resnet --weights resnet.pt --dataset cifar10 --layers layer1,layer4

    Nothing is trained. The result is a run directory like those of `infoplane train`. A run that
    was trained with --keep-weights has the weights of every snapshot, and any other run only the
    last ones. MODULE:FUNCTION is imported and called, which runs its code.
    """
    common: dict[str, Any] = {"estimators": estimators, "layers": layers}
    common |= {"force": output.force, "progress": not output.quiet}
    kind = "run" if Path(source).is_dir() else "file" if is_file(source) else "model" if ":" in source else None
    if kind is None:
        raise InfoplaneError(
            f"{source} is no run directory, no .npz file and no module:function; expected one of these."
        )
    if kind != "model":
        of_model = {"weights": weights, "dataset": dataset, "download": download}
        refuse_given(of_model, f"with {source}, a {kind}; it is for a model (module:function).")
    if kind == "file":
        refuse_given({"probe": probe, "data-root": data_root}, f"with {source}, a file; it is for a run or a model.")
    if kind == "model" and dataset is None:
        raise InfoplaneError(f"{source} needs inputs to be measured on; expected --dataset with a name or a file.")

    from ..runs import measure as measuring

    name = Path(source).stem if kind == "file" else Path(source).resolve().name.replace(":", "-")
    where = output.out or new_folder(f"{name}-measured")
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
    show(run, output.unit, output.as_json, output.quiet)
