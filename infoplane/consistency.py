"""One number beside another: what cannot be true of layers that are functions of one another is found and marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from .records import Estimate, Measurement

__all__ = ["CODES", "impossible", "mark"]

#: The warnings that say so.
CODES = ("data-processing", "over-ceiling", "negative")
#: Nats, and standard errors, by which a number must be off.
_SLACK, _ERRORS = 1e-3, 4.0

E = TypeVar("E", bound=Estimate)


def impossible(e: E) -> E:
    """The same number with `over-ceiling` or `negative` where it is what its quantity cannot be."""
    off = reach(e)
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

    chain: layers of which each is a function of the one before it (and of noise of its own); others are not compared.
    Of an estimate, the value is compared with that of the next lower layer that has one of the same estimator, channel
    and parameters; of a bracket, the lower bound with the upper one of that layer.
    """
    place = {layer: at for at, layer in enumerate(chain)}
    groups: dict[tuple[object, ...], dict[int, dict[str, int]]] = {}
    for at, m in enumerate(rows):
        if m.layer in place and m.quantity in ("I(X;T)", "I(T;Y)") and not math.isnan(m.value) and _is_measured(m):
            params = m.params.replace(",bound=upper", "").replace(",bound=lower", "")
            key = (m.replica, m.quantity, m.channel, m.estimator, params)
            side = "upper" if _is(m, "upper") else "lower" if _is(m, "lower") else "value"
            groups.setdefault(key, {}).setdefault(place[m.layer], {})[side] = at
    marked = [impossible(m) for m in rows]
    for layers in groups.values():
        order = sorted(layers)
        for below, above in pairwise(order):
            high = layers[below].get("value", layers[below].get("upper"))
            low = layers[above].get("value", layers[above].get("lower"))
            if high is None or low is None:
                continue
            a, b = rows[low], rows[high]
            if a.value > b.value + math.hypot(reach(a), reach(b)):
                marked[low] = _with(marked[low], ["data-processing"])
    return marked


def reach(e: Estimate) -> float:
    """How far from the truth a number may be and still be right, nats."""
    return _SLACK + _ERRORS * (e.stderr if math.isfinite(e.stderr) else 0.0) + (e.error if e.error > 0 else 0.0)


def _is_measured(e: Estimate) -> bool:
    """The null that stands beside a kernel's value is no number of the layer."""
    return not e.channel.startswith("permuted")


def _is(m: Measurement, side: str) -> bool:
    return m.standing == side or f"bound={side}" in m.params


def _with(e: E, codes: Iterable[str]) -> E:
    new = tuple(code for code in codes if code not in e.warnings)
    return replace(e, warnings=(*e.warnings, *new)) if new else e
