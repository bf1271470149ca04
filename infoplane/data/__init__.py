"""Tasks and data sets: which there are, and how they are loaded. Does not load torch until one is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..records import InfoplaneError, choose

if TYPE_CHECKING:
    from .points import Points

__all__ = ["DATASETS", "FILES", "Dataset", "Place", "check_dataset", "is_file", "load_points"]

#: endings of files of points that a run can be told to take
FILES = (".mat", ".npz")


@dataclass(frozen=True)
class Place:
    """Where data files are: the folder `root` (None: $INFOPLANE_DATA, else ./data), and whether to download them."""

    root: str | None = None
    download: bool = False

    @property
    def folder(self) -> str:
        return self.root or os.environ.get("INFOPLANE_DATA") or "data"


@dataclass(frozen=True)
class Dataset:
    """One entry of the registry: what it is, and the settings of a run that suit it unless others are given.

    mlp: those that differ where the model is an mlp. test: whether the points come divided into training and test
    points.
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


#: What all image tasks share. Beta and the place of Echo layers, before the activation, are such that the rate ends
#: inside the margin with 10 000 images (README); behind a saturated tanh codes repeat, as they do behind a ReLU.
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

#: Every data set, by the name the command line calls it.
DATASETS: dict[str, Dataset] = {
    "icosahedron": Dataset(
        "binary classification of all patterns of 12 bits, the task of Shwartz-Ziv & Tishby",
        "4096 x 12, generated: the whole population",
        "Shwartz-Ziv & Tishby 2017",
        _icosahedron,
    ),
    "icosahedron-stochastic": Dataset(
        "the same with a stochastic rule, I(X;Y) = .99 bits: labels drawn from p(y|x), anew for each replica",
        "4096 x 12, generated: all inputs, some 5 labels of which differ from the hard ones",
        "Shwartz-Ziv & Tishby 2017",
        _icosahedron_stochastic,
    ),
    "student-teacher": Dataset(
        "regression on a random linear teacher with Gaussian inputs and noise; a linear student's plane is known in "
        "closed form (estimator linear)",
        "100 training and 1000 test points in 100 dimensions for each replica, generated",
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
    """Whether a data set is named as a file and not as one of `DATASETS`."""
    return name.lower().endswith(FILES)


def check_dataset(name: str) -> str:
    """`name`, if it is one of `DATASETS` or a file of points that is there; InfoplaneError else."""
    if is_file(name):
        if not os.path.isfile(name):
            raise InfoplaneError(f"There is no file {name}; expected a {' or '.join(FILES)} file with x and y.")
        return name
    try:
        return choose(name, DATASETS, "dataset")
    except InfoplaneError as error:
        raise InfoplaneError(f"{error} Or a {' or '.join(FILES)} file with arrays x and y.") from None


def load_points(name: str, place: Place | None = None) -> Points:
    """The points of a data set of `DATASETS`, or of a file with arrays x and y (see `files`)."""
    if is_file(check_dataset(name)):
        from .files import points_of

        return points_of(name)
    return DATASETS[name].load(place or Place())
