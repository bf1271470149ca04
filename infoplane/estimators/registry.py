"""List the estimators, and read one from the text of a command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

from ..errors import InfoplaneError, choose
from .binning import Binning
from .counting import Counting
from .decoder import Decoder
from .kde import KDE
from .linear import LinearGaussian
from .mean_field import MeanField
from .mixture import Mixture
from .neighbours import KSG, Ross
from .protocol import Estimator
from .renyi import Renyi
from .tap import Tap
from .variational import NWJ, SMILE, InfoNCE

__all__ = ["ESTIMATORS", "parse_estimator"]

#: Every estimator, by its name on the command line and in the tables.
ESTIMATORS: dict[str, Any] = {
    "kde": KDE,
    "binning": Binning,
    "mixture": Mixture,
    "mean-field": MeanField,
    "ksg": KSG,
    "ross": Ross,
    "infonce": InfoNCE,
    "nwj": NWJ,
    "smile": SMILE,
    "decoder": Decoder,
    "renyi": Renyi,
    "counting": Counting,
    "linear": LinearGaussian,
    "tap": Tap,
}


def parse_estimator(text: str) -> Estimator:
    """Read the estimator that a command line names: NAME or NAME:OPTION=VALUE,...

    The options are the fields of the estimator's dataclass. Each is read according to its type, or
    by the metadata {"read": function, "is": description} of its field.

    Args:
        text: The name of an estimator and its options, such as "kde:noise_variance=0.1".

    Returns:
        The estimator.

    Raises:
        InfoplaneError: If a name or an option is unknown (the message suggests the nearest one), or
            if a value is missing or not valid.

    Example:
        >>> import infoplane as ip
        >>> ip.estimators.parse_estimator("binning:bins=30,range=-1..1")
        Binning(width=None, bins=30, range=(-1.0, 1.0), replicates=0, correction='plug-in')
    """
    name, _, rest = text.partition(":")
    make = ESTIMATORS[choose(name.strip(), ESTIMATORS, "estimator")]
    known = {f.name: reader for f in fields(make) if (reader := _reader(f)) is not None}
    options: dict[str, object] = {}
    for word in rest.split(",") if rest else []:
        option, equals, value = (part.strip() for part in word.partition("="))
        choose(option, known, f"option of {name}")
        if not equals or not value:
            raise InfoplaneError(f"{text!r}: {word!r} has no value; expected {option}=VALUE.")
        if option in options:
            raise InfoplaneError(f"{text!r}: {option} is given twice; expected each option once.")
        read, expected = known[option]
        try:
            options[option] = read(value)
        except ValueError as error:
            raise InfoplaneError(f"{text!r}: {option}={value!r}; expected {expected}.") from error
    estimator: Estimator = make(**options)
    return estimator


def _flag(text: str) -> bool:
    """Read "true" or "false"."""
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _numbers(text: str) -> tuple[float, ...]:
    """Read numbers that are separated by slashes."""
    return tuple(map(float, text.split("/")))


#: The function that reads a value and the description of the value, by the type of its field.
_READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "float": (float, "a number"),
    "int": (int, "a whole number"),
    "bool": (_flag, "true or false"),
    "str": (str, "a word"),
    "Literal": (str, "a word"),
    "tuple": (_numbers, "numbers separated by slashes"),
}


def _reader(of: Field[Any]) -> tuple[Callable[[str], object], str] | None:
    """Return the function that reads a field, and the description of its values.

    A field that no text can give has no reader: None.
    """
    if "read" in of.metadata:
        return of.metadata["read"], of.metadata["is"]
    return _READERS.get(str(of.type).split("|")[0].split("[")[0].strip())
