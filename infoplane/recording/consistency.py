"""One number beside another: what cannot be true of layers that are functions of one another is found and marked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import TypeVar

from ..records import OF_LABEL, Estimate, Measurement

__all__ = ["impossible", "mark"]

#: Nats, and standard errors, by which a number must be off.
_SLACK, _ERRORS = 1e-3, 4.0
#: Combined standard errors by which one estimate must be above another.
_ERRORS_APART = 3.0
#: By which share two exact numbers of one quantity may differ through rounding.
_ROUNDING = 1e-9
#: Two names of one estimator, of what is sent and of the labels.
_FAMILY = {"ross": "ksg"}

E = TypeVar("E", bound=Estimate)


def impossible(e: E) -> E:
    """The same number with `over-ceiling` or `negative` where it is what its quantity cannot be."""
    off = _reach(e)
    codes: list[str] = []
    if not _is_measured(e):
        return e
    if e.standing != "upper" and e.value > e.ceiling + off:
        codes.append("over-ceiling")
    if e.standing != "lower" and e.value + off < 0.0:
        codes.append("negative")
    return _with(e, codes)


def mark(rows: Sequence[Measurement], chain: Sequence[str]) -> list[Measurement]:
    """The numbers of one snapshot, those that are impossible marked.

    chain: layers of which each is a function of the one before it (and of noise of its own); others are not compared
    with each other.
    """
    marked = [impossible(m) for m in rows]
    sound = [at for at, m in enumerate(rows) if not math.isnan(m.value) and _is_measured(m)]
    for low, high in {*_from_layer_to_layer(rows, sound, chain), *_of_one_layer(rows, sound)}:
        if rows[low].value > rows[high].value + _room(rows[low], rows[high]):
            marked[low] = _with(marked[low], ["data-processing"])
    return marked


def _from_layer_to_layer(
    rows: Sequence[Measurement], sound: Sequence[int], chain: Sequence[str]
) -> Iterator[tuple[int, int]]:
    """Pairs of numbers of which the first cannot be the larger: of a layer, and of the next lower one with a number of
    the same quantity, estimator, channel and parameters. Of an estimate that is the value, of a bracket the lower bound
    and the upper one.
    """
    place = {layer: at for at, layer in enumerate(chain)}
    groups: dict[tuple[object, ...], dict[int, list[int]]] = {}
    for at in sound:
        m = rows[at]
        # what a tap lets through is of its own code, not of the layer
        if m.layer in place and m.quantity in ("I(X;T)", "I(T;Y)", "I(Z;X)") and not _is_tap(m):
            params = m.params
            if m.quantity == "I(Z;X)":  # replicates are drawn above noise alone
                params = re.sub(r",replicates=\d+", "", params)
            key = (m.replica, m.quantity, *_through(m), m.estimator, params)
            groups.setdefault(key, {}).setdefault(place[m.layer], []).append(at)
    for layers in groups.values():
        for below, above in pairwise(sorted(layers)):
            yield from _opposed(rows, layers[above], layers[below])


def _of_one_layer(rows: Sequence[Measurement], sound: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The same of what a layer holds of the label and of what it was sent, through one channel: estimates of one
    estimator and its parameters; bounds and exact numbers of any, if their law is one."""
    groups: dict[tuple[object, ...], tuple[list[int], list[int]]] = {}
    for at in sound:
        m = rows[at]
        if m.estimator != "renyi":  # not Shannon's: the kernel of the labels is another than that of the input
            key = (m.replica, m.layer, *_through(m), m.params if _is_tap(m) else "")
            groups.setdefault(key, ([], []))[m.quantity in OF_LABEL].append(at)
    for of_input, of_label in groups.values():
        for low, high in _opposed(rows, of_label, of_input):
            a, b = rows[low], rows[high]
            proven = a.standing in ("lower", "exact") and b.standing in ("upper", "exact") and _law(a) == _law(b)
            if proven or (_family(a), a.params) == (_family(b), b.params):
                yield low, high


def _opposed(rows: Sequence[Measurement], lower: Sequence[int], upper: Sequence[int]) -> Iterator[tuple[int, int]]:
    """All pairs but those with an upper bound first or a lower bound second."""
    for low, high in product(lower, upper):
        if not _is(rows[low], "upper") and not _is(rows[high], "lower"):
            yield low, high


def _room(a: Estimate, b: Estimate) -> float:
    """How far `a` may be above `b` where it cannot be more, nats."""
    standings = {a.standing, b.standing}
    if standings == {"exact"}:
        return math.hypot(_reach(a, slack=0.0), _reach(b, slack=0.0)) + _ROUNDING * max(abs(a.value), abs(b.value))
    errors = _ERRORS_APART if standings == {"estimate"} else _ERRORS
    return math.hypot(_reach(a, errors), _reach(b, errors))


def _reach(e: Estimate, errors: float = _ERRORS, slack: float = _SLACK) -> float:
    """How far from the truth a number may be and still be right, nats."""
    return slack + errors * (e.stderr if math.isfinite(e.stderr) else 0.0) + (e.error if e.error > 0 else 0.0)


def _is_measured(e: Estimate) -> bool:
    """The null that stands beside a kernel's value is no number of the layer."""
    return e.side != "null"


def _is_tap(e: Estimate) -> bool:
    return e.estimator == "tap"


def _through(e: Estimate) -> tuple[str, str]:
    """What a number must share with another to be compared: a draw of the noise is as good as the codes themselves."""
    apart = e.path == "noise-off" or (e.path == "replicates" and e.quantity == "I(X;T)")
    return e.path if apart else "", e.channel


def _is(e: Estimate, side: str) -> bool:
    return side in (e.standing, e.side)


def _family(e: Estimate) -> str:
    return _FAMILY.get(e.estimator, e.estimator)


def _law(e: Estimate) -> str:
    """Without the resolution at which an exact rate is seen."""
    return e.law.split(",")[0]


def _with(e: E, codes: Iterable[str]) -> E:
    new = tuple(code for code in codes if code not in e.warnings)
    return replace(e, warnings=(*e.warnings, *new)) if new else e
