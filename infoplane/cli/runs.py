"""Functions shared by the commands that make a run: the name of its folder, and its output."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InfoplaneError
from ..records import OF_LABEL

if TYPE_CHECKING:
    from ..runs.directory import RunDir

__all__ = ["finite", "new_folder", "print_json", "show", "words"]


def new_folder(name: str) -> str:
    """Return a path in runs/ that does not exist yet: the name, or the name with a number."""
    for number in range(1, 10_000):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return str(folder)
    raise InfoplaneError(f"runs/ holds too many runs named {name}; give another name with --out.")


def words(text: str | None) -> list[str] | None:
    """Return the words of a text with blanks or semicolons between them."""
    return None if text is None else text.replace(";", " ").split()


def show(run: RunDir, unit: str, as_json: bool, quiet: bool) -> None:
    """Print the numbers of the last snapshot of a run, as a table or as JSON."""
    from ..analysis.summary import render, summary

    result = {"run": str(run.path)} | summary(run.read("measurements"), run.read("metrics"), unit)
    if as_json:
        print_json(result)
    elif not quiet:
        click.echo(render(result))
        labelled = any(row["quantity"] in OF_LABEL for row in result["numbers"])
        click.echo(f"\nrun: {run.path}    plot it: infoplane plot {'plane' if labelled else 'rates'} {run.path}")


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(finite(result), indent=1))


def finite(value: Any) -> Any:
    """Return a value of JSON's types with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
