"""The error that the package raises, and the search for the nearest known word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InfoplaneError", "choose"]


class InfoplaneError(ValueError):
    """The error raised for every request that cannot be met.

    Its message says what arrived, what was expected and what to do.

    Example:
        >>> import infoplane as ip
        >>> ip.Echo(4, echoes=3)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        infoplane.errors.InfoplaneError: Echo: echoes=3; expected a power of two (...).
    """


def choose(name: str, known: Iterable[str], what: str) -> str:
    """Return `name` if it is one of the known words.

    Args:
        name: The word.
        known: The words that it may be.
        what: The kind of word that it is, for the message.

    Returns:
        `name`.

    Raises:
        InfoplaneError: `name` is not known. The message names the nearest known word and all of
            them.

    Example:
        >>> choose("tanh", ["tanh", "relu"], "activation")
        'tanh'
        >>> choose("rely", ["tanh", "relu"], "activation")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        infoplane.errors.InfoplaneError: Unknown activation 'rely'. Did you mean 'relu'? ...
    """
    known = list(known)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InfoplaneError(f"Unknown {what} {name!r}.{hint} Known: {', '.join(known)}.")
