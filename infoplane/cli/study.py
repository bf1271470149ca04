"""infoplane study, infoplane studies"""

from __future__ import annotations

from pathlib import Path

import click

from .group import main

__all__ = ["studies", "study"]


@main.command()
@click.argument("name")
@click.option("--quick", is_flag=True, help="A few seconds, fewer points and seeds: to see that it runs.")
@click.option("--out", type=click.Path(), default="figures", show_default=True, help="The folder for what it writes.")
def study(name: str, quick: bool, out: str) -> None:
    """Run a study: one figure of the debate, and the numbers behind it (`infoplane studies` lists them)."""
    from ..study import run

    run(name, Path(out), quick=quick)


@main.command()
def studies() -> None:
    """List the studies: what each claims, where that is from, and how long it takes on two cores."""
    from ..study import studies as listed

    for name, each in listed().items():
        click.echo(f"{name}\n  claim   {each.claim}\n  source  {each.source}\n  time    {each.time}")
