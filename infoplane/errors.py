"""The error that the package raises for what it cannot do, and the nearest known word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InfoplaneError", "choose"]


class InfoplaneError(ValueError):
    """Something that was asked for cannot be done; the message says what arrived, what was expected and what to do."""


def choose(name: str, known: Iterable[str], what: str) -> str:
    """`name` if it is one of `known`; otherwise an error with the nearest one and the whole list."""
    known = list(known)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InfoplaneError(f"Unknown {what} {name!r}.{hint} Known: {', '.join(known)}.")
