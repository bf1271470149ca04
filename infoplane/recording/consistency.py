"""Mark the numbers of a snapshot that cannot be true.

A number is marked if it is more than its quantity can be, or negative, or if it breaks the data
processing inequality: a layer that is a function of another cannot hold more than that one, and no
layer can hold more about the label than about what it was sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import TypeVar

from ..records import OF_LABEL, Estimate, Measurement

__all__ = ["impossible", "mark"]

#: By how many nats, and by how many standard errors more, a number must be off to be marked.
_SLACK, _ERRORS = 1e-3, 4.0
#: By how many combined standard errors one estimate must be above another.
_ERRORS_APART = 3.0
#: The share by which two exact numbers of one quantity may differ through rounding.
_ROUNDING = 1e-9
#: KSG and Ross's estimator are one method: the former for continuous inputs, the latter for labels.
_FAMILY = {"ross": "ksg"}

E = TypeVar("E", bound=Estimate)


def impossible(e: E) -> E:
    """Add the warning `over-ceiling` or `negative` to a number that its quantity cannot be.

    Args:
        e: An estimate or a measurement.

    Returns:
        The same number, with the warning if it is due.
    """
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
    """Mark the impossible ones among the numbers of a snapshot.

    Args:
        rows: The numbers of one snapshot.
        chain: Layers of which each is a function of the one before it (and of noise of its own), in
            order. Layers that are not listed are not compared with each other.

    Returns:
        The same numbers in the same order. Of two numbers that contradict each other, the one that
        is too large has the warning `data-processing`.
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
    """Yield pairs of numbers, of a layer and the one below, of which the first cannot be larger.

    The layer below is the next lower one that has a number of the same quantity, estimator, channel
    and parameters. Two estimates are compared by value; of two brackets, the lower bound of the
    first is compared with the upper bound of the second.
    """
    place = {layer: at for at, layer in enumerate(chain)}
    groups: dict[tuple[object, ...], dict[int, list[int]]] = {}
    for at in sound:
        m = rows[at]
        # the numbers of an Echo tap describe its own code and not that of the layer
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
    """Yield such pairs within a layer: what it holds about the label, and about what it was sent.

    Both went through one channel. Estimates are compared if they share the estimator and its
    parameters, and bounds and exact numbers of any estimators if they share the law.
    """
    groups: dict[tuple[object, ...], tuple[list[int], list[int]]] = {}
    for at in sound:
        m = rows[at]
        # matrix Renyi information is not Shannon's, and has different kernels for labels and inputs
        if m.estimator != "renyi":
            key = (m.replica, m.layer, *_through(m), m.params if _is_tap(m) else "")
            groups.setdefault(key, ([], []))[m.quantity in OF_LABEL].append(at)
    for of_input, of_label in groups.values():
        for low, high in _opposed(rows, of_label, of_input):
            a, b = rows[low], rows[high]
            proven = a.standing in ("lower", "exact") and b.standing in ("upper", "exact") and _law(a) == _law(b)
            if proven or (_family(a), a.params) == (_family(b), b.params):
                yield low, high


def _opposed(rows: Sequence[Measurement], lower: Sequence[int], upper: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield all pairs except those with an upper bound first or a lower bound second."""
    for low, high in product(lower, upper):
        if not _is(rows[low], "upper") and not _is(rows[high], "lower"):
            yield low, high


def _room(a: Estimate, b: Estimate) -> float:
    """Return by how many nats `a` may exceed `b` through errors alone."""
    standings = {a.standing, b.standing}
    if standings == {"exact"}:
        return math.hypot(_reach(a, slack=0.0), _reach(b, slack=0.0)) + _ROUNDING * max(abs(a.value), abs(b.value))
    errors = _ERRORS_APART if standings == {"estimate"} else _ERRORS
    return math.hypot(_reach(a, errors), _reach(b, errors))


def _reach(e: Estimate, errors: float = _ERRORS, slack: float = _SLACK) -> float:
    """Return how far from the truth, in nats, a sound number may be."""
    return slack + errors * (e.stderr if math.isfinite(e.stderr) else 0.0) + (e.error if e.error > 0 else 0.0)


def _is_measured(e: Estimate) -> bool:
    """Return whether a number describes the layer; the null beside a kernel's value does not."""
    return e.side != "null"


def _is_tap(e: Estimate) -> bool:
    return e.estimator == "tap"


def _through(e: Estimate) -> tuple[str, str]:
    """Return the path and the channel that two numbers must share to be compared.

    Sampled codes count as the codes themselves: both are single draws of the noise.
    """
    apart = e.path == "noise-off" or (e.path == "replicates" and e.quantity == "I(X;T)")
    return e.path if apart else "", e.channel


def _is(e: Estimate, side: str) -> bool:
    return side in (e.standing, e.side)


def _family(e: Estimate) -> str:
    return _FAMILY.get(e.estimator, e.estimator)


def _law(e: Estimate) -> str:
    """Return the law without the resolution at which an exact rate is seen."""
    return e.law.split(",")[0]


def _with(e: E, codes: Iterable[str]) -> E:
    new = tuple(code for code in codes if code not in e.warnings)
    return replace(e, warnings=(*e.warnings, *new)) if new else e
