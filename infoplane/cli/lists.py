"""The commands that list registries: `infoplane datasets`, `estimators`, `settings`, `warnings`."""

from __future__ import annotations

import textwrap
from dataclasses import fields
from typing import Any

import click
import cloup

from ..data import DATASETS, FILES
from ..runs.settings import FIELDS, GROUPS, PRESETS, Settings
from ..runs.typed import Setting
from ..warning_codes import WARNINGS
from .group import main
from .options import Choice

__all__ = ["datasets", "estimators", "settings", "warnings"]

#: The settings of a run that `datasets` shows.
_SHOWN = (
    *("model", "conv_channels", "widths", "activation", "optimizer", "lr", "batch_size", "epochs", "subset", "beta"),
    *("echo_on", "snapshots", "estimators", "probe", "replicas"),
)


@main.command()
def datasets() -> None:
    """List the data sets.

    Each is listed with its size, its source, and the default settings of a run on it.
    """
    for name, listed in DATASETS.items():
        click.echo(name)
        for field in ("what", "points", "source"):
            click.echo(f"  {field:<9} {getattr(listed, field)}")
        chosen = Settings.of(dataset=name)
        click.echo(f"  settings  {_options({field: getattr(chosen, field) for field in _SHOWN})}")
        if listed.mlp:
            click.echo(f"  with --model mlp: {_options(listed.mlp)}")
    click.echo(", ".join(f"FILE{ending}" for ending in reversed(FILES)))
    click.echo("  what      arrays x (N, ...) and y (N,), classes; or F and y; or x_train, y_train, x_test, y_test")
    click.echo("  settings  as for icosahedron")


def _options(values: dict[str, Any]) -> str:
    """Return settings as options of the command line, without the empty ones."""
    shown = []
    for name, value in values.items():
        setting = FIELDS[name]
        if value or value in setting.about.names.values():
            text = setting.text(value)
            shown.append(f"{setting.option} {repr(text) if ' ' in text else text}")
    return " ".join(shown)


@main.command()
def estimators() -> None:
    """List the estimators.

    Each is listed with the quantity it measures, the standing of its numbers, its conditions, cost
    and source.
    """
    from ..estimators import ESTIMATORS

    for name, estimator in ESTIMATORS.items():
        click.echo(name)
        for field in fields(estimator.about):
            click.echo(f"  {field.name:<11} {getattr(estimator.about, field.name)}")


@main.command()
@cloup.argument("codes", nargs=-1, type=Choice(lambda: WARNINGS, "warning code", metavar="[CODE...]"))
def warnings(codes: tuple[str, ...]) -> None:
    """Explain the warnings that a number can have.

    All of them are explained unless codes are given.
    """
    for code in codes or WARNINGS:
        warned = WARNINGS[code]
        click.echo(
            f"{code}\n  means      {warned.meaning}\n  raised at  {warned.threshold}\n  remedy     {warned.remedy}"
        )


@main.command()
@cloup.option("--preset", type=Choice(lambda: PRESETS, "preset"), help="Published settings. [default: none]")
@cloup.option(
    "--dataset",
    type=Choice(lambda: DATASETS, "dataset", closed=False, metavar="NAME|FILE", files=True),
    help="The data set. [default: that of the preset, or icosahedron]",
)
def settings(preset: str | None, dataset: str | None) -> None:
    """Print all settings as a file to edit.

    \b
    infoplane settings --dataset mnist > mnist.yaml
    infoplane train --config mnist.yaml

    The file is YAML, with a comment on the meaning and the values of each setting.
    """
    given: dict[str, Any] = {} if dataset is None else {"dataset": dataset}
    chosen = Settings.of(preset=preset, **given)
    listed = [setting for setting in FIELDS.values() if hasattr(chosen, setting.name)]
    for group in GROUPS:
        own = [setting for setting in listed if setting.about.group == group]
        if own:
            click.echo(f"# -- {group}\n\n" + "\n".join(_yaml(each, getattr(chosen, each.name)) for each in own))


def _yaml(setting: Setting, value: Any) -> str:
    import yaml

    about = setting.about.help
    if setting.expected != "text":
        about += f" Expected: {setting.expected}."
    if value is None:
        about += f" null: {setting.about.default}."
    lines = [f"# {line}" for line in textwrap.wrap(about, 98)]
    plain = list(value) if isinstance(value, tuple) else value
    if setting.text(value) in setting.about.names:
        plain = setting.text(value)
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("...\n").rstrip()
    return "\n".join([*lines, f"{setting.name}: {text}", ""])
