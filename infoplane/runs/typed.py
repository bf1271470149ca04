"""The types of settings, which read and describe values.

Values come from Python, from files and from the command line. A setting is declared once, as an
annotated field:

    epochs: Annotated[Whole, Field(ge=1), About("Training", "Number of epochs.")] = 400

and everything else follows from that line: the check of its type and range, the error, the option
of the command line with its help, and the documentation's table. Numbers may come as text, because
YAML reads 4e-4 as the text "4e-4".
"""

from __future__ import annotations

import math
import numbers
import os
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Strict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ..errors import InfoplaneError, choose

__all__ = [
    "About",
    "File",
    "Flag",
    "Numbers",
    "Real",
    "Whole",
    "Wholes",
    "Words",
    "fields_of",
    "shown",
    "such_that",
]


@dataclass(frozen=True)
class About:
    """The description of a setting for its users.

    Args:
        group: The heading under which --help and the documentation list it.
        help: One line, without the default and without the choices.
        expected: The values that it takes, in words, if its type and range do not say it.
        default: Its default in words, if that is None or depends on another setting.
        choices: The registry of its values, if its type is no Literal.
        metavar: The form of its value in --help, if the type does not say it.
        names: Words that stand for a value.
    """

    group: str
    help: str
    expected: str = ""
    default: str = ""
    choices: Collection[str] = ()
    metavar: str = ""
    names: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        name: Its name in Python and in files.
        hint: Its annotated type.
        default: Its default value.
        about: Its description.
    """

    name: str
    hint: Any
    default: Any
    about: About

    @property
    def option(self) -> str:
        """The option of the command line."""
        return f"--{self.shown_name}"

    @property
    def shown_name(self) -> str:
        """The name on the command line, with hyphens."""
        return self.name.replace("_", "-")

    @cached_property
    def kind(self) -> Any:
        """The plain type: int, float, bool, str, a tuple of one of these, or a Literal."""
        return _plain(self.hint)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it accepts; empty for a setting that takes other values too."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else tuple(self.about.choices)

    @property
    def expected(self) -> str:
        """The values that it takes, in words, such as "a whole number of at least 1"."""
        if self.about.expected:
            return self.about.expected
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kinds: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}
        return kinds.get(self.kind, "text") + _range(self.hint)

    def text(self, value: Any) -> str:
        """Return a value as one writes it on the command line."""
        if value in self.about.names.values():
            return next(name for name, named in self.about.names.items() if named == value)
        if isinstance(value, tuple):
            return (" " if self.kind == tuple[str, ...] else ",").join(self.text(each) for each in value)
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)

    def read(self, value: Any) -> Any:
        """Return the value in the setting's own type.

        Raises:
            InfoplaneError: If it is of another type or out of range.
        """
        if isinstance(value, str):
            value = self.about.names.get(value, value)
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            for each in error.errors():
                cause = each.get("ctx", {}).get("error")
                if isinstance(cause, InfoplaneError):
                    raise cause from None
        if self.choices and isinstance(value, str) and len(value) < 40:
            choose(value, self.choices, self.shown_name)
        raise InfoplaneError(f"{self.shown_name} is {shown(value)}; expected {self.expected}.")

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.hint)


def fields_of(cls: type, extra: dict[str, Any]) -> dict[str, Setting]:
    """Return the settings in `extra`, annotated types by name, and in the fields of a dataclass."""
    hints = extra | typing.get_type_hints(cls, include_extras=True)
    return {name: Setting(name, hint, getattr(cls, name, None), _about(hint)) for name, hint in hints.items()}


def such_that(holds: Callable[[Any], bool]) -> AfterValidator:
    """Accept only values for which `holds` is true."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError
        return value

    return AfterValidator(check)


# -- readers, which raise a ValueError without a message; `Setting.read` words the error


def _real(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str):
        number = float(value)
    elif isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:
            raise ValueError from None
    else:
        raise ValueError
    if not math.isfinite(number):
        raise ValueError
    return number


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        number = int(value)
    elif isinstance(value, numbers.Integral):
        number = int(value)
    else:  # 1e4, which YAML reads as text
        real = _real(value)
        if not real.is_integer():
            raise ValueError
        number = int(real)
    if abs(number) >= 2**63:
        raise ValueError
    return number


def _flag(value: Any) -> bool:
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if type(value).__name__ in ("bool", "bool_"):  # of Python and of NumPy
        return bool(value)
    raise ValueError


def _numbers(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return tuple(part for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,)  # one number; anything else fails as a number


def _words(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return tuple(value.replace(";", " ").split())
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError


def _file(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


Whole = Annotated[int, BeforeValidator(_whole)]
Real = Annotated[float, BeforeValidator(_real)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, Strict()]
File = Annotated[Text, BeforeValidator(_file)]
#: Whole numbers, as a list or as text with commas between.
Wholes = Annotated[tuple[Whole, ...], BeforeValidator(_numbers)]
#: Numbers, as a list or as text with commas between.
Numbers = Annotated[tuple[Real, ...], BeforeValidator(_numbers)]
#: Words, as a list or as text with blanks or semicolons between.
Words = Annotated[tuple[Text, ...], BeforeValidator(_words)]


def shown(value: Any) -> str:
    """Return the text of any value for an error message, which is short."""
    try:
        return repr(value) if len(repr(value)) <= 80 else reprlib.repr(value)
    except Exception:  # a number of too many digits, or somebody's object
        return f"a {type(value).__name__}"


def _plain(hint: Any) -> Any:
    """Return a type without its annotations and without `| None`."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return _plain(next(each for each in get_args(hint) if each is not type(None)))
    if get_origin(hint) is tuple:
        return tuple[_plain(get_args(hint)[0]), ...]  # type: ignore[misc]
    return hint


def _about(hint: Any) -> About:
    return next(each for each in hint.__metadata__ if isinstance(each, About))


def _range(hint: Any) -> str:
    """Return the range of numbers that a type allows, as the end of a sentence."""
    limits = {
        name: getattr(limit, name)
        for each in hint.__metadata__
        if isinstance(each, FieldInfo)
        for limit in each.metadata
        for name in ("gt", "ge", "lt", "le")
        if hasattr(limit, name)
    }
    match sorted(limits):
        case ["ge"]:
            return f" of at least {limits['ge']:g}"
        case ["gt"]:
            return f" above {limits['gt']:g}"
        case ["gt", "lt"]:
            return f" between {limits['gt']:g} and {limits['lt']:g}, both excluded"
        case _:
            return ""
