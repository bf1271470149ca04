"""Which of the optional packages are there."""

from importlib.util import find_spec

__all__ = ["COMPILED"]

#: Whether numba is there, for loops that are compiled: the extra `fast`.
COMPILED = find_spec("numba") is not None
