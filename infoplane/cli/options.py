"""The options that several commands share, and the types of their values.

A type takes the words that it accepts from a registry. --help shows them, shells complete them, and
an unknown word is refused with a hint at the nearest one.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import Any, TypeVar

import click
import cloup
from click.shell_completion import CompletionItem

from ..data import DATASETS
from ..errors import InfoplaneError, choose
from ..records import UNITS
from ..runs.settings import FIELDS, GROUPS, SCHEDULES, default_text
from ..runs.typed import Setting
from .runs import words

__all__ = [
    "ESTIMATOR_NAMES",
    "Choice",
    "Output",
    "RunPath",
    "device",
    "estimators",
    "layers",
    "output",
    "read_layers",
    "refuse_given",
    "settings",
]

F = TypeVar("F", bound=Callable[..., Any])


class Choice(click.Choice[str]):
    """A word of a registry, which is loaded only when it is needed, because some take seconds.

    Args:
        known: A function that returns the words.
        what: The kind of word, for error messages.
        closed: Whether a value must be one of the words.
        metavar: The form of the value in --help; by default the list of words.
        files: Whether a value may also be a file.
    """

    def __init__(
        self,
        known: Callable[[], Iterable[str]],
        what: str,
        *,
        closed: bool = True,
        metavar: str | None = None,
        files: bool = False,
    ) -> None:
        self._known, self._what, self._closed, self._metavar, self._files = known, what, closed, metavar, files
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self._known())

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self._metavar or super().get_metavar(param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return choose(value, self.choices, self._what) if self._closed else str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, blank, last = incomplete.rpartition(" ")  # of several words in quotes, complete the last
        items = super().shell_complete(ctx, param, last)
        for item in items:
            item.value = before + blank + item.value
        return items or [CompletionItem(incomplete, type="file")] if self._files else items


class RunPath(click.Path):
    """The directory of a run. A shell completes the runs that exist, here and in runs/.

    Args:
        files: Whether the value may also be a file.
    """

    name = "run"

    def __init__(self, *, files: bool = False) -> None:
        super().__init__()
        self._other = "file" if files else "dir"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(run) for run in _runs(incomplete)]
        return found or [CompletionItem(incomplete, type=self._other)]


def _runs(incomplete: str) -> Iterator[str]:
    """Yield the runs whose path, or whose parent's path, begins with a text."""
    for path in sorted(glob(escape(incomplete) + "*")):
        inside = sorted(glob(os.path.join(escape(path), "*")))
        yield from (each for each in (path, *inside) if _is_run(each))


def _is_run(path: str) -> bool:
    return all((Path(path) / name).is_file() for name in ("config.json", "environment.json"))


# -- options that are no settings


def read_layers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    """Return the names in a text with commas between them."""
    return None if value is None else [name.strip() for name in value.split(",")]


def _estimators() -> Iterable[str]:
    from ..estimators import ESTIMATORS

    return ESTIMATORS


#: Texts such as 'kde binning:bins=30'. Only completion loads the estimators, which need torch.
ESTIMATOR_TEXTS = Choice(_estimators, "estimator", closed=False, metavar="ESTIMATORS")

#: The name of an estimator in the tables, where Echo layers count as the estimator "echo".
ESTIMATOR_NAMES = Choice(lambda: ("echo", *_estimators()), "estimator", closed=False, metavar="NAME")


def estimators(help: str) -> Callable[[F], F]:
    """Add --estimators, whose value is a list of texts."""
    return cloup.option(
        "--estimators", type=ESTIMATOR_TEXTS, callback=lambda _ctx, _param, text: words(text), help=help
    )


def layers(help: str) -> Callable[[F], F]:
    """Add --layers, whose value is a list of names."""
    return cloup.option("--layers", metavar="NAMES", callback=read_layers, help=help)


def device() -> Callable[[F], F]:
    """Add --device."""
    return cloup.option(
        "--device",
        type=Choice(lambda: ("auto", "cpu", "cuda"), "device", closed=False, metavar="auto|cpu|cuda"),
        default="auto",
        help="Where to compute; auto takes a GPU if there is one. [default: auto]",
    )


@dataclass(frozen=True)
class Output:
    """The options of a command's output.

    Args:
        out: The folder to write to, or None for a new one.
        force: Whether to replace what is in the folder.
        unit: The unit of the numbers that are shown.
        as_json: Whether to print JSON instead of a table.
        quiet: Whether to print nothing.
    """

    out: str | None
    force: bool
    unit: str
    as_json: bool
    quiet: bool


def output(*, unit: str, out: str) -> Callable[[F], F]:
    """Add --out, --force, --unit, --json and --quiet, which arrive as one argument, `output`.

    Args:
        unit: The default unit.
        out: The help of --out.
    """

    def decorate(command: F) -> F:
        @cloup.option_group(
            "Output",
            cloup.option("--out", type=click.Path(), metavar="FOLDER", help=f"{out} [default: a new one in runs/]"),
            cloup.option("--force", is_flag=True, help="Replace the run in --out."),
            cloup.option(
                "--unit",
                type=Choice(lambda: UNITS, "unit"),
                default=unit,
                help=f"Unit of the numbers that are shown. [default: {unit}]",
            ),
            cloup.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table."),
            cloup.option("--quiet", is_flag=True, help="Print no progress bar and no table."),
        )
        @functools.wraps(command)
        def wrapped(out: str | None, force: bool, unit: str, as_json: bool, quiet: bool, **given: Any) -> Any:
            return command(output=Output(out, force, unit, as_json, quiet), **given)

        return wrapped  # type: ignore[return-value]

    return decorate


# -- the options of Settings


def settings(first: Mapping[str, Iterable[Any]]) -> Callable[[F], F]:
    """Add an option without a default for every setting, under the heading of its group.

    Args:
        first: More options by heading, which are shown before the settings.
    """
    grouped: dict[str, list[Any]] = {heading: list(first.get(heading, ())) for heading in GROUPS}
    for setting in FIELDS.values():
        grouped[setting.about.group].append(_option(setting))

    def decorate(command: F) -> F:
        for heading, options in reversed(grouped.items()):
            command = cloup.option_group(heading, *options)(command)
        return command

    return decorate


class _Value(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in newer versions of click
    """The value of a setting that has no list of words."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.name = {int: "integer", float: "number"}.get(setting.kind, "text")

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self._setting.about.metavar or None

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._setting.read(value)


class _Word(Choice):
    """The value of a setting that is a word of a list, or begins with one."""

    def __init__(self, setting: Setting, known: Callable[[], Iterable[str]], files: bool = False) -> None:
        super().__init__(known, setting.name, metavar=setting.about.metavar or None, files=files)
        self._setting = setting

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._setting.read(value)


def _option(setting: Setting) -> Any:
    """Return the option of a setting."""
    about = setting.about
    if setting.kind is bool:
        names = f"{setting.option}/--no-{setting.shown_name}"
        return cloup.option(names, default=None, help=f"{about.help} [default: {default_text(setting)}]")
    kind: click.ParamType[Any]
    if setting.name == "dataset":
        kind = _Word(setting, lambda: DATASETS, files=True)
    elif setting.name == "estimators":
        kind = _Word(setting, _estimators)
    elif setting.name == "snapshots":
        kind = _Word(setting, lambda: ("log:", "every:", *SCHEDULES))
    elif setting.about.metavar == "FOLDER":
        kind = click.Path(file_okay=False)
    elif setting.choices:
        kind = _Word(setting, lambda: setting.choices)
    else:
        kind = _Value(setting)
    return cloup.option(setting.option, type=kind, help=f"{about.help} [default: {default_text(setting)}]")


def refuse_given(given: Mapping[str, Any], where: str) -> None:
    """Refuse options that do not apply.

    Args:
        given: Values by the name of their option.
        where: The rest of the sentence, which says where the option was given.

    Raises:
        InfoplaneError: If an option has a value.
    """
    for name, value in given.items():
        if value:
            raise InfoplaneError(f"--{name.replace('_', '-')} was given {where}")
