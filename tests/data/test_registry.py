"""Data sets and files of points are read and divided, and bad ones are refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import infoplane as ip
from infoplane.cli import main
from infoplane.data import DATASETS, Place, load_points
from infoplane.data.icosahedron import icosahedron, icosahedron_law
from infoplane.data.points import label_entropy, stratified
from infoplane.errors import InfoplaneError
from infoplane.runs.settings import Settings
from infoplane.runs.task import load

DATA = Path(os.environ.get("INFOPLANE_DATA", Path(__file__).parents[3] / "shared" / "data"))
CPU = torch.device("cpu")


def images_here(name: str) -> pytest.MarkDecorator:
    there = (DATA / name / "raw").is_dir()
    return pytest.mark.skipif(not there, reason=f"no {name} in $INFOPLANE_DATA or ../shared/data")


def idx(array: np.ndarray) -> bytes:
    """Write an array of bytes as a file of the MNIST format."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def fake(tmp_path):
    """A folder with a small data set in the format of MNIST: 60 training and 40 test images."""
    random = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 60), ("t10k", 40)):
        y = np.arange(n, dtype=np.uint8) % 10
        x = (random.integers(0, 60, (n, 28, 28)) + 15 * y[:, None, None]).astype(np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(x))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(y))
    return tmp_path


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["train", "--epochs", "1", "--out", "/nowhere/run", *arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr


# -- images


def test_images_come_in_their_shape_between_0_and_1(fake):
    points = load_points("mnist", Place(str(fake)))
    assert points.x.shape == (100, 1, 28, 28)
    assert points.classes == 10
    assert points.test.tolist() == [False] * 60 + [True] * 40
    raw = np.frombuffer((fake / "MNIST/raw/t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    torch.testing.assert_close(points.x[60:].flatten(), torch.from_numpy(raw.astype(np.float32) / 255))


@images_here("MNIST")
def test_the_real_mnist():
    points = load_points("mnist", Place(str(DATA)))
    assert points.x.shape == (70_000, 1, 28, 28)
    assert float(points.x[:60_000].mean()) == pytest.approx(0.1307, abs=1e-4)  # as published
    assert torch.bincount(points.y[60_000:]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_files_that_are_missing_or_cut_short_are_said(fake, name):
    file = fake / "MNIST" / "raw" / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    message = refused("--dataset", "mnist", "--data-root", str(fake))
    assert "Cannot read the" in message
    assert "--download" in message
    file.unlink()
    assert "--data-root" in refused("--dataset", "mnist", "--data-root", str(fake))


def test_images_of_another_size_and_labels_that_are_no_classes_are_refused(fake):
    raw = fake / "MNIST" / "raw"
    images = (raw / "train-images-idx3-ubyte").read_bytes()
    (raw / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((60, 32, 32), np.uint8)))
    assert "expected (1, 28, 28)" in refused("--dataset", "mnist", "--data-root", str(fake))
    (raw / "train-images-idx3-ubyte").write_bytes(images)
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(np.full(60, 11, np.uint8)))
    assert "expected classes 0 to 9" in refused("--dataset", "mnist", "--data-root", str(fake))
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(59, np.uint8)))
    assert "one label per image" in refused("--dataset", "mnist", "--data-root", str(fake))


def test_a_data_set_that_is_not_there_and_one_without_a_name(tmp_path):
    assert "--download" in refused("--dataset", "cifar10", "--data-root", str(tmp_path))
    assert "Did you mean 'mnist'" in refused("--dataset", "minst")
    assert "no file" in refused("--dataset", str(tmp_path / "nothing.npz"))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_training_on_images_takes_the_published_division(fake, model):
    settings = Settings.of(dataset="mnist", data_root=str(fake), model=model, subset=20, replicas=2)
    task = load(settings, CPU)
    assert task.x.shape[1:] == ((784,) if model == "mlp" else (1, 28, 28))
    assert task.train.shape == (2, 20)
    assert task.test.shape == (2, 40)
    for rows in task.train:
        assert torch.bincount(task.y[rows]).tolist() == [2] * 10
    assert not torch.equal(task.train[0].sort().values, task.train[1].sort().values)
    alone = load(Settings.of(dataset="mnist", data_root=str(fake), model=model, subset=20, replicas=1, seed=1), CPU)
    for name in ("train", "test", "all"):  # a replica has the points of its seed, in the same order
        for both, one in zip(task.part(name), alone.part(name), strict=True):
            one = one if one.shape[:1] == (1,) else one.unsqueeze(0)
            assert sorted(map(str, both[1].tolist())) == sorted(map(str, one[0].tolist()))


# -- random labels


def test_every_replica_draws_its_labels_from_its_seed_and_the_law():
    task = load(Settings.of(dataset="icosahedron-stochastic", replicas=40), CPU)
    p = icosahedron_law()
    assert task.y.shape == (40, 4096)
    sure = (p < 1e-12) | (p > 1 - 1e-12)
    assert (task.y[:, sure] == p[sure].round()).all()
    drawn, variance = task.y.double().sum(0), p * (1 - p)
    assert abs(float((drawn - 40 * p).sum())) < 5 * float((40 * variance).sum()) ** 0.5
    flips = (task.y != p.round()).sum(1).double()
    assert float(flips.mean()) == pytest.approx(float(torch.minimum(p, 1 - p).sum()), abs=5 * (5.1 / 40) ** 0.5)
    assert len({tuple(y.tolist()) for y in task.y}) == 40
    alone = load(Settings.of(dataset="icosahedron-stochastic", replicas=1, seed=3), CPU)
    assert torch.equal(alone.y[0], task.y[3])
    for name in ("train", "test", "all"):
        x, y = task.part(name)
        assert torch.equal(y[3], alone.part(name)[1][0])
        numbers = (x if name == "all" else x[3]).long() @ 2 ** torch.arange(11, -1, -1)
        assert torch.equal(y[3], task.y[3][numbers])  # each label is that of its own pattern
    assert torch.equal(task.at(task.train)[1], task.part("train")[1])


def test_a_subset_of_labels_of_chance_keeps_the_points_and_their_labels():
    settings = Settings.of(dataset="icosahedron-stochastic", replicas=2, subset=100)
    task = load(settings, CPU)
    whole = load(Settings.of(dataset="icosahedron-stochastic", replicas=2), CPU)
    x, y = task.part("train")
    assert y.shape == (2, 100)
    for r in range(2):
        assert torch.equal(y[r], whole.y[r][x[r].long() @ 2 ** torch.arange(11, -1, -1)])


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_run_with_labels_of_chance(replicas, tmp_path):
    settings = Settings.of(dataset="icosahedron-stochastic", replicas=replicas, epochs=1, estimators=("binning",))
    frame = ip.train(settings, str(tmp_path / "run"), device="cpu", progress=False).read("measurements")
    labels = load(settings, CPU).y
    ceilings = frame[(frame.quantity == "I(T;Y)") & (frame.layer == "hidden1")].groupby("replica").ceiling_nats.first()
    for r in range(replicas):
        assert ceilings[r] == pytest.approx(label_entropy(labels[r]), abs=1e-12)


# -- a subset


@pytest.mark.parametrize("count", [3, 4, 10, 57, 100])
def test_a_subset_has_the_classes_in_proportion_and_the_size_asked_for(count, seeded):
    y = torch.tensor([0] * 70 + [1] * 28 + [2] * 2)
    rows = stratified(y, count, seeded(0))
    assert len(rows) == count == len(set(rows.tolist()))
    counts = torch.bincount(y[rows], minlength=3)
    assert int(counts.min()) >= 1
    assert ((counts - torch.tensor([0.7, 0.28, 0.02]) * count).abs() <= 1.5).all()


@pytest.mark.parametrize("count", [0, 2, 101])
def test_a_subset_larger_than_all_or_smaller_than_the_classes_is_refused(count, seeded):
    with pytest.raises(InfoplaneError, match=r"expected 3 .* to 100"):
        stratified(torch.tensor([0] * 70 + [1] * 28 + [2] * 2), count, seeded(0))


# -- files


def test_a_file_of_points_is_the_data_set_it_holds(tmp_path):
    x, y = icosahedron()
    for keys in (("x", "y"), ("F", "y"), ("X", "Y")):
        np.savez(tmp_path / "points.npz", **dict(zip(keys, (x.numpy(), y[None].numpy() + 7), strict=True)))
        points = load_points(str(tmp_path / "points.npz"))
        assert torch.equal(points.x, x)
        assert torch.equal(points.y, y)
        assert points.test is None
    np.savez(tmp_path / "both.npz", x_train=x[:9], y_train=y[:9], x_test=x[-9:], y_test=y[-9:])
    assert load_points(str(tmp_path / "both.npz")).test.tolist() == [False] * 9 + [True] * 9


@pytest.mark.skipif(not (DATA / "tishby" / "var_u.mat").exists(), reason="no var_u.mat in ../shared/data")
def test_the_published_file_is_the_generated_task():
    points, (x, y) = load_points(str(DATA / "tishby" / "var_u.mat")), icosahedron()
    assert torch.equal(points.x, x)
    assert torch.equal(points.y, y)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
BAD = {
    "objects": ({"x": np.array([Bomb()] * 20, dtype=object), "y": np.arange(20) % 2}, "Python objects"),
    "no y": ({"x": X}, "expected arrays x and y"),
    "too few labels": ({"x": X, "y": np.arange(19) % 2}, "one label per input"),
    "fractions": ({"x": X, "y": X[:, 0]}, "expected classes"),
    "one class": ({"x": X, "y": np.ones(20)}, "at least two classes"),
    "no classes": ({"x": X, "y": np.arange(20)}, "classes that repeat"),
    "words": ({"x": X, "y": np.array(list("ab" * 10))}, "expected classes"),
    "complex": ({"x": X + 1j, "y": np.arange(20) % 2}, "real numbers"),
    "one axis": ({"x": X[:, 0], "y": np.arange(20) % 2}, "(N, ...)"),
    "NaN": ({"x": np.where(X > 1, np.nan, X), "y": np.arange(20) % 2}, "NaN or infinite"),
    "parts of other shapes": (
        {"x_train": X, "y_train": np.arange(20) % 2, "x_test": X[:, :2], "y_test": np.arange(20) % 2},
        "test points of shape (2,)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_points_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays, message = BAD[name]
    np.savez("bad.npz", **arrays)
    assert message in refused("--dataset", "bad.npz")
    assert not Path("exploded").exists()  # nothing was unpickled


@pytest.mark.parametrize("name", ["cut.npz", "cut.mat", "text.npz", "text.mat", "array.npz"])
def test_a_damaged_file_is_said(name, tmp_path):
    from scipy.io import savemat

    path = tmp_path / name
    arrays = {"x": X, "y": np.arange(20) % 2}
    np.savez(tmp_path / "whole.npz", **arrays)
    savemat(tmp_path / "whole.mat", arrays)
    if name.startswith("cut"):
        whole = (tmp_path / f"whole{path.suffix}").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif name.startswith("text"):
        path.write_text("no such thing\n" * 20)
    else:
        np.save(tmp_path / "one.npy", X)
        shutil.move(tmp_path / "one.npy", path)
    message = refused("--dataset", str(path))
    assert str(path) in message
    with pytest.raises(InfoplaneError):
        load_points(str(path))


def test_a_cnn_wants_images(tmp_path):
    np.savez(tmp_path / "flat.npz", x=X, y=np.arange(20) % 2)
    assert "--model mlp" in refused("--dataset", str(tmp_path / "flat.npz"), "--model", "cnn", "--conv-channels", "4")


def test_the_list_of_data_sets_gives_settings_that_can_be_had():
    text = CliRunner().invoke(main, ["datasets"]).output
    assert "--epochs 400" in text.partition("student-teacher")[0]
    for name in DATASETS:
        assert name in text
        for model in ("mlp", "cnn") if DATASETS[name].test else ("mlp",):
            settings = Settings.of(dataset=name, model=model)
            assert settings.depth >= 1
            assert Settings.of(dataset=name, model=model, echo_layers=1).noisy_layers
