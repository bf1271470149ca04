"""Load images through torchvision, which downloads them only on request."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from ..errors import InfoplaneError
from . import Place
from .points import Points

__all__ = ["images"]

#: The shape of an image, (C, H, W), and the number of classes, by data set of torchvision.
_EXPECTED = {
    "MNIST": ((1, 28, 28), 10),
    "FashionMNIST": ((1, 28, 28), 10),
    "CIFAR10": ((3, 32, 32), 10),
}


def images(name: str, place: Place) -> Points:
    """Load the training and test images of a data set of torchvision, and their classes.

    The files of CIFAR10 are pickles, which torchvision reads only if their checksums are those of
    the published files.

    Args:
        name: The name of the class in torchvision.datasets.
        place: The place of the files.

    Returns:
        The points, with images (N, C, H, W) in [0, 1].

    Raises:
        InfoplaneError: If the files are missing or damaged, or hold something else.
    """
    import torchvision  # takes seconds to import

    make: Any = getattr(torchvision.datasets, name)
    shape, classes = _EXPECTED[name]
    parts: list[tuple[Tensor, Tensor]] = []
    for train in (True, False):
        what = f"the {'training' if train else 'test'} part of {name} in {place.folder}"
        try:
            part = make(place.folder, train=train, download=place.download)
        except (RuntimeError, OSError, ValueError, TypeError, AssertionError, KeyError, EOFError, zlib.error) as error:
            missing = "not found" in str(error)
            advice = (
                "Give the folder that holds it with --data-root or $INFOPLANE_DATA, or fetch it with --download."
                if missing
                else "Remove the damaged files and fetch them again with --download."
                if not place.download
                else "Check the connection and the space on the disk."
            )
            reason = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
            raise InfoplaneError(f"Cannot read {what}: {reason}. {advice}") from error
        x, y = torch.as_tensor(part.data), torch.as_tensor(part.targets, dtype=torch.int64)
        x = x.unsqueeze(1) if x.dim() == 3 else x.permute(0, 3, 1, 2)
        if tuple(x.shape[1:]) != shape or x.dtype != torch.uint8:
            raise InfoplaneError(
                f"{what} holds images of {tuple(x.shape[1:])} {x.dtype}; expected {shape} bytes. "
                "Remove these files and fetch them again with --download, or put other images into an .npz file."
            )
        if len(x) != len(y) or len(y) == 0:
            raise InfoplaneError(f"{what} holds {len(x)} images and {len(y)} labels; expected one label per image.")
        if int(y.min()) < 0 or int(y.max()) >= classes:
            raise InfoplaneError(
                f"{what} holds labels from {int(y.min())} to {int(y.max())}; expected classes 0 to {classes - 1}."
            )
        parts.append((x, y))
    x, y = (torch.cat(both) for both in zip(*parts, strict=True))
    test = torch.arange(len(y)) >= len(parts[0][1])
    return Points(x.float() / 255.0, y, classes, test)
