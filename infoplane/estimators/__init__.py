"""Estimators of the information in a layer: what there is, and how the command line names it.

`kde_bounds` and `binned_entropy` are functions of tensors; `KDE` and `Binning` carry their options for the Recorder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from ..records import InfoplaneError, choose
from .binning import BinnedEntropy, Binning, binned_entropy
from .kde import KDE, KDEBounds, kde_bounds
from .linear import LinearGaussian
from .protocol import Estimator, Reading

__all__ = [
    "ESTIMATORS",
    "KDE",
    "BinnedEntropy",
    "Binning",
    "Estimator",
    "KDEBounds",
    "LinearGaussian",
    "Listed",
    "Reading",
    "binned_entropy",
    "kde_bounds",
    "parse_estimator",
]


@dataclass(frozen=True)
class Listed:
    """One entry of the registry of estimators. cost: time in the N points and D units of a layer."""

    quantity: str
    standing: str
    conditions: str
    cost: str
    source: str
    make: Callable[..., Estimator]


#: Every estimator, by the name the command line and the tables call it.
ESTIMATORS: dict[str, Listed] = {
    "kde": Listed(
        quantity="I(X;T), I(T;Y)",
        standing="upper and lower, for these N points through Gaussian noise",
        conditions="noise_variance near the squared distance of neighbours: below it both bounds read ln N, "
        "so scale it with the layer (scale=layer) where D is large; no bound for a population",
        cost="N^2 D",
        source="Kolchinsky & Tracey, Entropy 19 (2017) 361",
        make=KDE,
    ),
    "binning": Listed(
        quantity="I(X;T), I(T;Y)",
        standing="estimate, the plug-in of the cells",
        conditions="several points a cell; bins that stay where they are (width, LOW..HIGH, range=run) "
        "for epochs to be comparable",
        cost="N D + N log N",
        source="Saxe et al., ICLR 2018; range=quantile: Chelombiev et al., ICLR 2019",
        make=Binning,
    ),
    "linear": Listed(
        quantity="I(X;T), I(T;Y)",
        standing="exact for the population, through Gaussian noise",
        conditions="a layer that is an affine function of its input, and inputs of a known Gaussian law (data set "
        "student-teacher); the noise is of each layer alone, so layers need not keep the data-processing order",
        cost="D^3",
        source="Saxe et al., ICLR 2018",
        make=LinearGaussian,
    ),
}


def parse_estimator(text: str) -> Estimator:
    """The estimator that a command line names: NAME or NAME:OPTION=VALUE,...

    >>> parse_estimator("binning:bins=30,range=-1..1")
    Binning(width=None, bins=30, range=(-1.0, 1.0), replicates=0)

    Raises InfoplaneError for an unknown name or option (with the nearest one) and for a value that does not do.
    """
    name, _, rest = text.partition(":")
    make = ESTIMATORS[choose(name.strip(), ESTIMATORS, "estimator")].make
    known = [f.name for f in fields(make) if f.name in _VALUES]  # type: ignore[arg-type]
    options: dict[str, object] = {}
    for word in rest.split(",") if rest else []:
        option, equals, value = (part.strip() for part in word.partition("="))
        choose(option, known, f"option of {name}")
        if not equals or not value:
            raise InfoplaneError(f"{text!r}: {word!r} has no value; expected {option}=VALUE.")
        if option in options:
            raise InfoplaneError(f"{text!r}: {option} is given twice.")
        read, expected = _VALUES[option]
        try:
            options[option] = read(value)
        except ValueError as error:
            raise InfoplaneError(f"{text!r}: {option}={value!r}; expected {expected}.") from error
    return make(**options)


def _range(text: str) -> str | tuple[float, float]:
    low, dots, high = text.partition("..")
    return (float(low), float(high)) if dots else text


#: How the value of an option is read, and what it should be.
_VALUES: dict[str, tuple[Callable[[str], object], str]] = {
    "width": (float, "a number"),
    "bins": (int, "a whole number"),
    "range": (_range, "a word or LOW..HIGH"),
    "replicates": (int, "a whole number"),
    "noise_variance": (float, "a number"),
    "scale": (str, "a word"),
}
