"""The commands `infoplane study` and `infoplane studies`."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import click
import cloup

from ..errors import InfoplaneError
from .group import main
from .options import Choice

__all__ = ["studies", "study"]


def _names() -> Iterable[str]:
    from ..runs.study import studies

    return studies()


@main.command()
@cloup.argument("name", required=False, type=Choice(_names, "study", metavar="[NAME]"))
@cloup.option("--all", "every", is_flag=True, help="Run all studies in turn; a failure does not stop the others.")
@cloup.option("--quick", is_flag=True, help="Take few points, seeds and epochs, only to see that it runs.")
@cloup.option("--download", is_flag=True, help="Fetch missing data that a study needs.")
@cloup.option(
    "--out",
    type=click.Path(),
    metavar="FOLDER",
    help="The folder to write to. [default: figures; with --quick figures/quick]",
)
@click.pass_context
def study(context: click.Context, name: str | None, every: bool, quick: bool, download: bool, out: str | None) -> None:
    """Run a study.

    A study tests one claim, draws a figure, and writes the numbers behind it. `infoplane studies`
    lists all of them.

    \b
    infoplane study echo_versus_bounds
    infoplane study --all --quick
    """
    from ..runs.study import run, studies

    if (name is not None) == every:
        got = f"both --all and {name!r}" if every else "neither a NAME nor --all"
        raise InfoplaneError(f"study got {got}; expected one of the two. The studies are: {', '.join(studies())}.")
    folder = Path(out or ("figures/quick" if quick else "figures"))
    if quick:
        click.echo(f"quick: few points, seeds and epochs, only to see that it runs; do not use its numbers ({folder})")
    if name is not None:
        run(name, folder, quick=quick, download=download)
        return
    failed = []
    for each in studies():
        click.echo(f"{each} ...", err=True)
        start = time.monotonic()
        try:
            run(each, folder, quick=quick, download=download)
            how = "done"
        except InfoplaneError as error:
            failed.append(f"{each}: {error}")
            how = "failed"
        except Exception as error:
            click.echo(traceback.format_exc(), err=True)
            failed.append(f"{each}: {type(error).__name__}: {error}")
            how = "failed"
        click.echo(f"{each}: {how} after {time.monotonic() - start:.0f} s")
    if failed:
        click.echo("\n".join([f"{len(failed)} of {len(studies())} studies failed:", *failed]), err=True)
        context.exit(1)


@main.command()
def studies() -> None:
    """List the studies.

    Each is listed with its claim, the source of the claim, and its time on two cores.
    """
    from ..runs.study import studies as listed

    for name, each in listed().items():
        click.echo(f"{name}\n  claim   {each.claim}\n  source  {each.source}\n  time    {each.time}")
