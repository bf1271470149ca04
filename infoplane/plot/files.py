"""Write figures to files: the same figure gives the same bytes, and no file is large."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from ..errors import InfoplaneError, choose
from .style import LOOK

__all__ = ["FORMATS", "LARGEST", "save"]

_METADATA: dict[str, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
#: the formats of a figure
FORMATS = tuple(_METADATA)
#: the size that a file should not exceed, in bytes
LARGEST = 1_000_000
#: the resolutions in dots per inch; the next one is tried if a file is too large
_DPI = (LOOK["savefig.dpi"], 220, 160, 110, 80)


def save(fig: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, PDF or SVG, depending on the ending of `path`.

    The same figure gives the same bytes at any time. If the file is larger than 1 MB, it is made
    smaller: the marks, lines and bands of a PDF or an SVG become a picture, while its axes and
    words stay as they are, and a PNG gets a palette of 256 colours. If that is not enough, the
    resolution is reduced.

    Args:
        fig: The figure.
        path: The file, ending in .png, .pdf or .svg.

    Returns:
        The path.

    Raises:
        InfoplaneError: If the file has another ending or cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from matplotlib.figure import Figure
        >>> import infoplane as ip
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ip.plot.save(Figure(), Path(folder) / "empty.png").name
        'empty.png'
    """
    path = Path(path)
    kind = choose(path.suffix.removeprefix(".").lower(), FORMATS, "figure format")
    data = _written(fig, kind, _DPI[0])
    if len(data) > LARGEST:
        with _rasterised(fig):
            for dpi in _DPI:
                data = _written(fig, kind, dpi)
                data = _with_palette(data) if kind == "png" else data
                if len(data) <= LARGEST:
                    break
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InfoplaneError(f"Cannot write {path}: {error.strerror or error}.") from error
    return path


def _written(fig: Figure, kind: str, dpi: float) -> bytes:
    fixed: dict[Any, Any] = {"pdf.fonttype": 42, "svg.hashsalt": "infoplane"}
    buffer = io.BytesIO()
    with matplotlib.rc_context(fixed):
        fig.savefig(buffer, format=kind, metadata=_METADATA[kind], dpi=dpi)
    return buffer.getvalue()


def _with_palette(data: bytes) -> bytes:
    """Reduce a PNG to the 256 colours that suit it best; white stays white."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(buffer, "png", optimize=True, dpi=picture.info["dpi"])
    return buffer.getvalue()


@contextmanager
def _rasterised(fig: Figure) -> Iterator[None]:
    """Draw all data of a figure as a picture within the block."""
    data = [artist for ax in fig.axes for artist in (*ax.lines, *ax.collections, *ax.patches)]
    before = [artist.get_rasterized() for artist in data]
    try:
        for artist in data:
            artist.set_rasterized(True)
        yield
    finally:
        for artist, was in zip(data, before, strict=True):
            artist.set_rasterized(was)
