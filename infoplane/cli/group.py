"""The group that the commands belong to: what it makes of errors, of warnings and of words it does not know."""

from __future__ import annotations

import warnings as warnings_module
from typing import Any

import click

from .. import __version__
from ..records import InfoplaneError, choose

__all__ = ["Refused", "main"]


class Refused(click.ClickException):
    """Bad input: the message, exit status 2, no traceback."""

    exit_code = 2


class Commands(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-"):
            try:
                choose(args[0], self.commands, "command")
            except InfoplaneError as error:
                raise Refused(str(error)) from None
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        def plainly(message: Warning | str, *_: Any, **__: Any) -> None:
            click.echo(f"Warning: {message}", err=True)  # without the line of our code that raised it

        try:
            with warnings_module.catch_warnings():
                warnings_module.showwarning = plainly
                return super().invoke(ctx)
        except InfoplaneError as error:
            raise Refused(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Information-plane analysis of supervised networks, with exact rates from Echo noise.

    Every number says what it is: exact, upper or lower bound, or estimate; through which channel, under which law and
    ceiling; and which warnings it carries.
    """
