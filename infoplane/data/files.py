"""Read points from a .mat or .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InfoplaneError
from .points import Points

__all__ = ["arrays_of", "classes_of", "points_of"]

Array = npt.NDArray[Any]

_KEYS = (("x", "y"), ("F", "y"), ("X", "y"), ("X", "Y"))
_DIVIDED = ("x_train", "y_train", "x_test", "y_test")


def points_of(path: str) -> Points:
    """Read the points in a file, without unpickling anything.

    Args:
        path: A file with arrays x (N, ...) and y (N,), or F and y as in the published file of the
            12-bit task, or x_train, y_train, x_test and y_test if the points are divided. The
            labels are whole numbers; they become classes, counted from 0 in the order of the
            labels.

    Raises:
        InfoplaneError: If the file cannot be read or holds anything else.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/mine.npz", x=np.zeros((6, 3)), y=[5, 7, 5, 7, 5, 7])
        ...     points = points_of(f"{folder}/mine.npz")
        >>> tuple(points.x.shape), points.y.tolist()
        ((6, 3), [0, 1, 0, 1, 0, 1])
    """
    arrays = arrays_of(path)
    if set(_DIVIDED) <= set(arrays):
        x, y = (_joined(path, *(arrays[f"{name}_{part}"] for part in ("train", "test"))) for name in "xy")
        test = torch.arange(len(x)) >= len(arrays["x_train"])
    else:
        keys = next((pair for pair in _KEYS if set(pair) <= set(arrays)), None)
        if keys is None:
            found = ", ".join(arrays) or "no array"
            raise InfoplaneError(
                f"{path} holds {found}; expected arrays x and y, or F and y, or {', '.join(_DIVIDED)}."
            )
        x, y, test = arrays[keys[0]], arrays[keys[1]], None
    if x.dtype.kind not in "fiub" or x.ndim < 2 or x.size == 0:
        raise InfoplaneError(f"{path}: x is {x.dtype} of shape {x.shape}; expected real numbers, (N, ...) with N > 0.")
    x = np.ascontiguousarray(x, dtype=np.float32)
    if not np.isfinite(x).all():
        raise InfoplaneError(
            f"{path}: {int((~np.isfinite(x)).sum())} of the {x.size} numbers in x are NaN or infinite."
        )
    classes = classes_of(path, y, len(x))
    return Points(torch.from_numpy(x), torch.from_numpy(classes), int(classes.max()) + 1, test)


def classes_of(path: str, y: Array, n: int) -> npt.NDArray[np.int64]:
    """Return the classes of labels that are whole numbers.

    Args:
        path: The file of the labels, for error messages.
        y: The labels, of shape (n,), (1, n) or (n, 1).
        n: The number of inputs.

    Returns:
        The classes, (n,), counted from 0 in the order of the labels.

    Raises:
        InfoplaneError: If the labels are not n whole numbers, of at least two classes that repeat.
    """
    flat = y.reshape(-1) if y.ndim == 1 or (y.ndim == 2 and 1 in y.shape) else None
    if flat is None or len(flat) != n:
        raise InfoplaneError(f"{path}: labels have shape {y.shape}; expected ({n},), one label per input.")
    numbers = flat.astype(np.float64) if flat.dtype.kind in "fiub" else None
    off = [0] if numbers is None else np.flatnonzero(numbers != np.round(numbers))
    if len(off):
        raise InfoplaneError(
            f"{path}: labels are {flat.dtype} such as {flat[off[0]]!s}; expected classes, as whole numbers. "
            "(Only the data set student-teacher is a regression.)"
        )
    values, classes = np.unique(flat, return_inverse=True)
    if len(values) < 2:
        raise InfoplaneError(f"{path}: all labels are {values[0]}; expected at least two classes.")
    if len(values) > max(n // 2, 2):
        raise InfoplaneError(f"{path} has {len(values)} different labels for {n} inputs; expected classes that repeat.")
    return np.asarray(classes, dtype=np.int64).reshape(-1)


def arrays_of(path: str) -> dict[str, Array]:
    """Read the arrays of a .mat or .npz file by name, without unpickling anything.

    Args:
        path: The file.

    Raises:
        InfoplaneError: If the file cannot be read, or holds Python objects.
    """
    try:
        return _npz(path) if Path(path).suffix.lower() == ".npz" else _mat(path)
    except FileNotFoundError:
        raise InfoplaneError(f"There is no file {path}.") from None
    except InfoplaneError:
        raise
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InfoplaneError(f"Cannot read {path}: it is damaged or no {Path(path).suffix} file ({error}).") from error


def _npz(path: str) -> dict[str, Array]:
    with open(path, "rb") as raw:  # opened here, because np.load leaves a damaged file open
        file = np.load(raw, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise InfoplaneError(
                f"{path} is a single array without a name; expected an archive, as np.savez writes it."
            )
        out = {}
        for name in file.files:
            try:
                out[name] = file[name]
            except ValueError as error:
                if "pickle" not in str(error):
                    raise
                raise InfoplaneError(
                    f"{path}: {name!r} holds Python objects, and unpickling them could run any code. "
                    "Save plain arrays of numbers."
                ) from None
        return out


def _mat(path: str) -> dict[str, Array]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path)
    except NotImplementedError:
        raise InfoplaneError(f"{path} is a MATLAB 7.3 file; expected an older format. Save it with '-v7'.") from None
    except MatReadError as error:
        raise InfoplaneError(f"Cannot read {path}: it is damaged or no .mat file ({error}).") from error
    return {k: v for k, v in found.items() if not k.startswith("__") and isinstance(v, np.ndarray)}


def _joined(path: str, one: Array, other: Array) -> Array:
    if one.shape[1:] != other.shape[1:]:
        raise InfoplaneError(
            f"{path} has training points of shape {one.shape[1:]} and test points of shape {other.shape[1:]}; expected "
            "one shape."
        )
    return np.concatenate([one, other])
