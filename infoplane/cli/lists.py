"""infoplane datasets, estimators and warnings: what there is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from ..data import DATASETS
from ..records import WARNINGS, choose
from ..settings import Settings
from .group import main

__all__ = ["datasets", "estimators", "warnings"]


#: what `datasets` shows of the settings of a run
_SHOWN = (
    *("model", "conv_channels", "widths", "activation", "optimizer", "lr", "batch_size", "epochs", "subset", "beta"),
    *("echo_on", "snapshots", "estimators", "probe", "replicas"),
)


@main.command()
def datasets() -> None:
    """List the data sets, with their sizes and sources, and the settings that a run takes for each unless given."""
    for name, listed in DATASETS.items():
        click.echo(name)
        for field in ("what", "points", "source"):
            click.echo(f"  {field:<9} {getattr(listed, field)}")
        settings = Settings.of(dataset=name)
        shown = [_option(field, getattr(settings, field)) for field in _SHOWN if getattr(settings, field)
                 or field == "batch_size"]  # fmt: skip
        click.echo(f"  settings  {' '.join(shown)}")
        if listed.mlp:
            click.echo(f"  with --model mlp: {' '.join(_option(*each) for each in listed.mlp.items() if each[1])}")
    click.echo("FILE.npz, FILE.mat")
    click.echo("  what      arrays x (N, ...) and y (N,), classes; or F and y; or x_train, y_train, x_test, y_test")
    click.echo("  settings  those of icosahedron")


def _option(setting: str, value: Any) -> str:
    """A setting as it would be given."""
    if isinstance(value, tuple):
        value = f"'{' '.join(value)}'" if setting == "estimators" else ",".join(map(str, value))
    elif setting == "batch_size" and value == 0:
        value = "full"
    return f"--{setting.replace('_', '-')} {value}"


@main.command()
def estimators() -> None:
    """List the estimators: what each measures, its standing, conditions, cost and source."""
    from ..estimators import ESTIMATORS

    for name, estimator in ESTIMATORS.items():
        click.echo(name)
        for field in fields(estimator.about):
            click.echo(f"  {field.name:<11} {getattr(estimator.about, field.name)}")


@main.command()
@click.argument("codes", nargs=-1)
def warnings(codes: tuple[str, ...]) -> None:
    """Explain the warnings a number can carry: all, or the codes given."""
    for code in codes or WARNINGS:
        warned = WARNINGS[choose(code, WARNINGS, "warning code")]
        click.echo(
            f"{code}\n  means      {warned.meaning}\n  raised at  {warned.threshold}\n  remedy     {warned.remedy}"
        )
