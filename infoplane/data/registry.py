"""The registry of data sets, and their loading. Importing this module does not load torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import InfoplaneError, choose

if TYPE_CHECKING:
    from .points import Points

__all__ = ["DATASETS", "FILES", "Dataset", "Place", "check_dataset", "is_file", "load_points"]

#: The endings of files from which a run can take its points.
FILES = (".mat", ".npz")


@dataclass(frozen=True)
class Place:
    """The place of data files.

    Args:
        root: The folder that holds them. The default is $INFOPLANE_DATA if that is set, and ./data
            otherwise.
        download: Whether to fetch missing files.

    Example:
        >>> import infoplane as ip
        >>> ip.data.Place("mine").folder
        'mine'
    """

    root: str | None = None
    download: bool = False

    @property
    def folder(self) -> str:
        """The folder that holds the files."""
        return self.root or os.environ.get("INFOPLANE_DATA") or "data"


@dataclass(frozen=True)
class Dataset:
    """One entry of the registry.

    Args:
        what: The task, in words.
        points: The number and kind of points, in words.
        source: The source of the data set.
        load: A function that returns the points.
        defaults: The default settings of a run on this data set.
        mlp: The default settings that are different if the model is an mlp.
        test: Whether the points are divided into training and test points already.

    Example:
        >>> import infoplane as ip
        >>> mine = ip.data.Dataset("two clouds", "100 x 2", "made up", load=lambda place: None)
        >>> mine.defaults, mine.test
        ({}, False)
    """

    what: str
    points: str
    source: str
    load: Callable[[Place], Points]
    defaults: dict[str, Any] = field(default_factory=dict)
    mlp: dict[str, Any] = field(default_factory=dict)
    test: bool = False


def _icosahedron(_: Place) -> Points:
    from .icosahedron import icosahedron
    from .points import Points

    x, y = icosahedron()
    return Points(x, y, classes=2, enumerated=True)


def _icosahedron_stochastic(_: Place) -> Points:
    from dataclasses import replace

    from .icosahedron import icosahedron, icosahedron_law
    from .points import Points

    x, y = icosahedron()
    points = Points(x, y, classes=2, enumerated=True, chances=icosahedron_law())
    return replace(points, y=points.drawn(0))


def _student_teacher(_: Place) -> Points:
    from .student_teacher import student_teacher

    return student_teacher()


def _images(name: str) -> Callable[[Place], Points]:
    def load(place: Place) -> Points:
        from .images import images

        return images(name, place)

    return load


#: The settings that all image tasks share. Beta is chosen, and Echo layers are placed before the
#: activation, so that the rate ends inside the margin with 10 000 images. After a saturated tanh
#: codes repeat, as they do after a ReLU.
_IMAGES: dict[str, Any] = {
    "model": "cnn",
    "widths": (16,),
    "conv_channels": (16, 32),
    "lr": 2e-3,
    "beta": 0.15,
    "echo_on": "before",
    "batch_size": 128,
    "epochs": 20,
    "snapshots": "log:6",
    "estimators": ("kde:noise_variance=0.1", "binning:width=0.5"),
    "probe": "test",
    "replicas": 1,
}
_IMAGES_MLP: dict[str, Any] = {"conv_channels": (), "widths": (1024, 20, 20, 20), "lr": 1e-3, "beta": 0.2, "epochs": 15}

#: Every data set, by the name that the command line and the settings use.
DATASETS: dict[str, Dataset] = {
    "icosahedron": Dataset(
        "binary classification of all patterns of 12 bits, the task of Shwartz-Ziv & Tishby",
        "4096 x 12, generated: the whole population",
        "Shwartz-Ziv & Tishby 2017",
        _icosahedron,
    ),
    "icosahedron-stochastic": Dataset(
        "the same with a stochastic rule, I(X;Y) = .99 bits: labels are drawn from p(y|x), anew for each replica",
        "4096 x 12, generated: all inputs; about 5 labels are not those of the hard rule",
        "Shwartz-Ziv & Tishby 2017",
        _icosahedron_stochastic,
    ),
    "student-teacher": Dataset(
        "regression on a random linear teacher with Gaussian inputs and noise; the plane of a linear student is known "
        "in closed form (estimator linear)",
        "100 training points per replica and 1000 test points in 100 dimensions, generated",
        "Saxe et al. 2018, section 3",
        _student_teacher,
        {
            "widths": (100,),
            "activation": "linear",
            "optimizer": "sgd",
            "lr": 0.1,
            "batch_size": 0,
            "epochs": 1000,
            "subset": 100,
            "estimators": ("linear:noise_variance=1",),
        },
    ),
    "mnist": Dataset(
        "handwritten digits, 10 classes", "60000 + 10000 grey images of 28 x 28", "LeCun et al.; torchvision",
        _images("MNIST"), _IMAGES, _IMAGES_MLP, test=True,
    ),
    "fashion-mnist": Dataset(
        "articles of clothing, 10 classes", "60000 + 10000 grey images of 28 x 28", "Xiao et al. 2017; torchvision",
        _images("FashionMNIST"), _IMAGES, _IMAGES_MLP, test=True,
    ),
    "cifar10": Dataset(
        "animals and vehicles, 10 classes", "50000 + 10000 colour images of 32 x 32", "Krizhevsky 2009; torchvision",
        _images("CIFAR10"), _IMAGES | {"conv_channels": (32, 64), "widths": (64,)}, _IMAGES_MLP, test=True,
    ),
}  # fmt: skip


def is_file(name: str) -> bool:
    """Return whether the name of a data set is that of a file, and not one of `DATASETS`.

    Args:
        name: The name.

    Example:
        >>> import infoplane as ip
        >>> ip.data.is_file("mine.npz"), ip.data.is_file("mnist")
        (True, False)
    """
    return name.lower().endswith(FILES)


def check_dataset(name: str) -> str:
    """Check the name of a data set or a file, and return it.

    Args:
        name: A name in `DATASETS`, or a .mat or .npz file.

    Raises:
        InfoplaneError: If it is neither one of `DATASETS` nor an existing file.

    Example:
        >>> import infoplane as ip
        >>> ip.data.check_dataset("icosahedron")
        'icosahedron'
    """
    if is_file(name):
        if not os.path.isfile(name):
            raise InfoplaneError(f"There is no file {name}; expected a {' or '.join(FILES)} file with arrays x and y.")
        return name
    try:
        return choose(name, DATASETS, "dataset")
    except InfoplaneError as error:
        raise InfoplaneError(f"{error} It may also be a {' or '.join(FILES)} file with arrays x and y.") from None


def load_points(name: str, place: Place | None = None) -> Points:
    """Load the points of a data set.

    Args:
        name: A name in `DATASETS`, or a file with arrays x and y (see `data.files`).
        place: The place of its files; by default `Place()`.

    Raises:
        InfoplaneError: If there is no such data set, or its files cannot be read.

    Example:
        >>> import infoplane as ip
        >>> tuple(ip.data.load_points("icosahedron").x.shape)
        (4096, 12)
    """
    if is_file(check_dataset(name)):
        from .files import points_of

        return points_of(name)
    return DATASETS[name].load(place or Place())
