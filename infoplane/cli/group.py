"""The group of all commands, which reports errors, warnings and unknown commands."""

from __future__ import annotations

import warnings as warnings_module
from typing import Any

import click
import cloup

from .. import __version__
from ..errors import InfoplaneError, choose

__all__ = ["Refused", "main"]


class Refused(click.ClickException):
    """Bad input, reported as a message with exit status 2 and without a traceback."""

    exit_code = 2


class Commands(cloup.Group):
    """A group that names the nearest command and turns `InfoplaneError` into a message."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and not ctx.resilient_parsing:
            try:
                choose(args[0], self.commands, "command")
            except InfoplaneError as error:
                raise Refused(str(error)) from None
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        def plainly(message: Warning | str, *_: Any, **__: Any) -> None:
            click.echo(f"Warning: {message}", err=True)  # without the line of code that raised it

        try:
            with warnings_module.catch_warnings():
                warnings_module.showwarning = plainly
                return super().invoke(ctx)
        except InfoplaneError as error:
            raise Refused(str(error)) from error


@cloup.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def main() -> None:
    """Analyse neural networks in the information plane, with exact rates from Echo noise.

    Every number says what it is (exact, an upper or lower bound, or an estimate), through which
    channel and under which law and ceiling it holds, and which warnings it has.
    """
