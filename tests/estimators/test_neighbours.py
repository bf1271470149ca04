"""Nearest-neighbour estimates against references, closed forms, quadrature and symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from torch import Tensor

from infoplane.errors import InfoplaneError
from infoplane.estimators import neighbours
from infoplane.estimators.neighbours import KSG, NeighbourInformation, Ross, ksg_information, ross_information
from infoplane.estimators.protocol import Estimator, Noise, Reading
from infoplane.theory.channels import rotated_neurons
from infoplane.threads import torch_threads


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def gaussian_pair(n: int, d: int, rho: float, seed: int) -> tuple[Tensor, Tensor]:
    """Correlation rho between each unit of x and the same unit of y: I = -d/2 ln(1 - rho^2)."""
    x, z = rng(seed).standard_normal((2, n, d))
    return torch.tensor(x), torch.tensor(rho * x + math.sqrt(1 - rho**2) * z)


def plain_ksg(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """Algorithm 1 of Kraskov et al. as in the paper, for variables of unit deviation."""
    x, y = ((v.astype(np.float64) - v.mean(0, dtype=np.float64)) for v in (x, y))
    x, y = x / math.sqrt(np.mean(x**2)), y / math.sqrt(np.mean(y**2))
    total = 0.0
    for i in range(len(x)):
        of_x = np.max(np.abs(np.delete(x, i, 0) - x[i]), axis=1)
        of_y = np.max(np.abs(np.delete(y, i, 0) - y[i]), axis=1)
        half_epsilon = np.sort(np.maximum(of_x, of_y))[k - 1]
        total += digamma(np.sum(of_x < half_epsilon) + 1) + digamma(np.sum(of_y < half_epsilon) + 1)
    return float(digamma(k) - total / len(x) + digamma(len(x)))


def plain_ross(t: np.ndarray, y: np.ndarray, k: int) -> float:
    """Ross's equation 2, where m_i counts the k-th neighbour; small classes as in scikit-learn."""
    kept = np.array([np.sum(y == c) > 1 for c in y])
    t, y = t[kept].astype(np.float64), y[kept]
    terms = []
    for i in range(len(t)):
        others, labels = np.delete(t, i, 0), np.delete(y, i)
        distance = np.max(np.abs(others - t[i]), axis=1)
        size = 1 + np.sum(labels == y[i])
        neighbours = min(k, size - 1)
        d = np.sort(distance[labels == y[i]])[neighbours - 1]
        terms.append(digamma(len(t)) - digamma(size) + digamma(neighbours) - digamma(np.sum(distance <= d)))
    return float(np.mean(terms))


def mixed(n: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Half of each unit is 0, as after a ReLU, so that distances and coordinates are equal."""
    x, z = rng(d).standard_normal((2, n, d))
    return torch.tensor(np.maximum(x, 0), dtype=dtype), torch.tensor(np.maximum(x + z, 0), dtype=dtype)


def same(a: NeighbourInformation, b: NeighbourInformation) -> None:
    for field in ("value", "stderr", "ties", "saturated", "dimensions", "n"):
        torch.testing.assert_close(getattr(a, field), getattr(b, field), rtol=0, atol=1e-12)


# the formulae


@pytest.mark.parametrize("method", ["tree", "blocks"])
@pytest.mark.parametrize(("d_x", "d_y", "k"), [(1, 1, 3), (1, 4, 1), (3, 2, 5), (6, 6, 3)])
def test_ksg_is_the_published_formula(d_x, d_y, k, method):
    x = rng(1).standard_normal((200, d_x)) * 3 + 100
    y = x[:, :1] + 0.2 * rng(2).standard_normal((200, d_y))
    found = ksg_information(torch.tensor(x), torch.tensor(y), k=k, method=method)
    assert float(found.value) == pytest.approx(plain_ksg(x, y, k), abs=1e-9)
    assert (int(found.dimensions), int(found.n), float(found.ties)) == (max(d_x, d_y), 200, 0.0)


@pytest.mark.parametrize("method", ["tree", "blocks"])
@pytest.mark.parametrize(("d", "k"), [(1, 3), (2, 1), (9, 4)])
@pytest.mark.parametrize("sizes", [(100, 100), (150, 40, 10), (150, 44, 3, 2, 1)])
def test_ross_is_the_published_formula(d, k, sizes, method):
    y = rng(3).permutation(np.repeat(np.arange(len(sizes)), sizes))
    t = rng(4).standard_normal((200, d)) + 0.7 * y[:, None]
    found = ross_information(torch.tensor(t), torch.tensor(y) + 5, k=k, method=method)
    assert float(found.value) == pytest.approx(plain_ross(t, y, k), abs=1e-9)
    assert int(found.n) == 200 - (1 in sizes)


@pytest.mark.parametrize("k", [1, 3])
def test_agrees_with_scikit_learn(k):
    selection = pytest.importorskip("sklearn.feature_selection")
    x, y = gaussian_pair(400, 1, 0.8, 0)
    theirs = selection.mutual_info_regression(x.numpy(), y[:, 0].numpy(), n_neighbors=k, random_state=0)
    assert float(ksg_information(x, y, k=k).value) == pytest.approx(theirs[0], abs=1e-3)
    labels = torch.tensor(rng(1).integers(3, size=400))
    labels[7] = 3  # a class of one
    t = x + labels[:, None]
    theirs = selection.mutual_info_classif(t.numpy(), labels.numpy(), n_neighbors=k, random_state=0)
    assert float(ross_information(t, labels, k=k).value) == pytest.approx(theirs[0], abs=1e-3)


LAYERS = {
    "normal": lambda d, dtype: tuple(v.to(dtype) for v in gaussian_pair(300, d, 0.7, d)),
    "half at 0": lambda d, dtype: mixed(300, d, dtype),
    "lattice": lambda d, dtype: (
        torch.tensor(rng(d).integers(4, size=(300, d)), dtype=dtype),
        torch.tensor(rng(d + 1).integers(4, size=(300, d)), dtype=dtype),
    ),
    "quantised": lambda d, dtype: tuple((v * 8).round().to(dtype) / 8 for v in gaussian_pair(300, d, 0.7, d)),
    "large offset": lambda d, dtype: tuple((v + 1000).to(dtype) for v in gaussian_pair(300, d, 0.7, d)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("layer", LAYERS)
def test_trees_and_blocks_agree_to_the_last_point(layer, d, dtype):
    x, y = LAYERS[layer](d, dtype)
    same(ksg_information(x, y, method="tree"), ksg_information(x, y, method="blocks", chunk=37))
    same(ksg_information(x, y[:, :1], method="tree"), ksg_information(x, y[:, :1], method="blocks"))
    same(ksg_information(x, y, k=5, method="tree"), ksg_information(x, y, k=5, method="compiled"))
    same(ksg_information(x, y), ksg_information(x.double(), y.double()))
    labels = (y[:, 0] > y[:, 0].mean()).long() + 2 * (torch.arange(300) % 50 == 0)
    same(ross_information(x, labels, method="tree"), ross_information(x, labels, method="blocks", chunk=37))


@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_loops_over_some_of_the_points(threads):
    x, y = (v.double() for v in gaussian_pair(200, 2, 0.7, 0))
    at = torch.tensor([199, 3, 3, 50, 0])
    with torch_threads(threads):
        terms, radius = neighbours._pair_terms(x, y, 4, None, "compiled", at)
    expected = neighbours._pair_terms(x, y, 4, None, "tree", at)
    assert torch.equal(terms, expected[0])
    assert torch.equal(radius, expected[1])


def test_compiled_loops_from_4_units_on_for_few_points_and_from_8_for_many(monkeypatch):
    def by_loops(n, units):
        return neighbours._by_loops(torch.empty(n, 0), units)

    assert [by_loops(10_000, u) for u in (3, 4, 8)] == [False, True, True]
    assert [by_loops(10_001, u) for u in (4, 7, 8)] == [False, False, True]
    monkeypatch.setattr(neighbours, "COMPILED", False)
    assert not by_loops(10_000, 8)
    x, _ = gaussian_pair(50, 4, 0.5, 0)
    with pytest.raises(InfoplaneError, match="Unknown method 'compiled'"):
        ross_information(x, torch.arange(50) % 2, method="compiled")


def test_a_tree_below_8_units_in_all(monkeypatch):
    monkeypatch.setattr(neighbours, "COMPILED", False)
    used = []

    def noting(name, function):
        def noted(*arguments):
            used.append(name)
            return function(*arguments)

        return noted

    for name in ("_pair_tree", "_pair_blocks", "_class_tree", "_class_blocks"):
        monkeypatch.setattr(neighbours, name, noting(name, getattr(neighbours, name)))
    x, y = gaussian_pair(50, 4, 0.5, 0)
    ksg_information(x, y[:, :3])
    ksg_information(x, y)
    ksg_information(x, torch.cat([y[:, :3], torch.ones(50, 1)], 1))
    ross_information(torch.cat([x, y], 1)[:, 1:], torch.arange(50) % 2)
    ross_information(torch.cat([x, y], 1), torch.arange(50) % 2)
    assert used == ["_pair_tree", "_pair_blocks", "_pair_tree", "_class_tree", "_class_blocks"]


def test_memory_is_linear_in_the_number_of_points(monkeypatch):
    sizes = []
    whole = neighbours._distances
    monkeypatch.setattr(neighbours, "_distances", lambda a, b: (sizes.append(len(a) * len(b)), whole(a, b))[1])
    x, y = gaussian_pair(3000, 1, 0.5, 0)
    ksg_information(x, y, method="blocks")
    ross_information(x, torch.arange(3000) % 2, method="blocks")
    assert max(sizes) <= 2**20
    sizes.clear()
    ksg_information(x[:100], y[:100], method="blocks", chunk=7)
    assert max(sizes) == 700


# closed forms


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_gaussian_pairs_of_little_information(rho, d):
    pairs = [gaussian_pair(800, d, rho, 10 * d + seed) for seed in range(12)]
    found = ksg_information(torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
    spread = float(found.value.std()) / math.sqrt(12)
    # beyond chance, the bias: 0 but for rho = 0.3 and d = 4, where it is -0.04
    assert float(found.value.mean()) == pytest.approx(-d / 2 * math.log(1 - rho**2), abs=4 * spread + 0.0125 * (d - 1))
    assert not found.saturated.any()


@pytest.mark.parametrize(("d", "bias"), [(1, (0, 0.03)), (2, (-0.06, 0)), (3, (-0.4, -0.1)), (4, (-1.0, -0.5))])
def test_gaussian_pairs_of_much_information_are_biased_down_in_many_units(d, bias):
    pairs = [gaussian_pair(1000, d, 0.9, 10 * d + seed) for seed in range(12)]
    found = ksg_information(torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
    off = float(found.value.mean()) + d / 2 * math.log(1 - 0.9**2)
    spread = 4 * float(found.value.std()) / math.sqrt(12)
    assert bias[0] - spread < off < bias[1] + spread


def two_gaussians(distance: float) -> float:
    """I(T;Y) of T = +-distance + N(0, 1), by quadrature."""
    u = np.linspace(-12 - distance, 12 + distance, 40001)
    density = sum(np.exp(-0.5 * (u - m) ** 2) for m in (distance, -distance)) / math.sqrt(8 * math.pi)
    entropy = -np.trapezoid(density * np.log(np.maximum(density, 1e-300)), u)
    return float(entropy - 0.5 * math.log(2 * math.pi * math.e))


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.0, 2.0])
def test_ross_two_gaussians(distance):
    labels = torch.tensor(rng(6).integers(2, size=(12, 1000)))
    t = torch.tensor(rng(7).standard_normal((12, 1000, 1))) + distance * (2 * labels[..., None] - 1)
    found = ross_information(t, labels)
    spread = float(found.value.std()) / math.sqrt(12)
    assert float(found.value.mean()) == pytest.approx(two_gaussians(distance), abs=4 * spread)


def test_ross_classes_apart_show_the_entropy_of_the_classes():
    labels = torch.arange(2000) % 2
    t = torch.tensor(rng().standard_normal((2000, 3))) + 100 * labels[:, None]
    found = ross_information(t, labels)
    assert float(found.value) == pytest.approx(math.log(2), abs=1 / 2000)
    assert float(found.value) == pytest.approx(float(digamma(2000) - digamma(1000)), abs=1e-12)
    assert float(found.stderr) == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_standard_error_of_ksg_is_that_of_the_spread_over_samples(d, rho):
    pairs = [gaussian_pair(500, d, rho, seed) for seed in range(300)]
    found = ksg_information(torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
    assert 0.75 < float(found.stderr.mean() / found.value.std()) < 1.45
    within = (found.value - found.value.mean()).abs() < 1.96 * found.stderr
    assert 0.85 < float(within.double().mean()) <= 1.0


def test_standard_error_covers_the_truth_in_one_unit():
    pairs = [gaussian_pair(500, 1, 0.6, seed) for seed in range(100)]
    found = ksg_information(torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
    within = (found.value + 0.5 * math.log(1 - 0.6**2)).abs() < 1.96 * found.stderr
    assert int(within.sum()) >= 90
    labels = torch.tensor(rng(8).integers(2, size=(100, 500)))
    t = torch.tensor(rng(9).standard_normal((100, 500, 1))) + (2 * labels[..., None] - 1)
    found = ross_information(t, labels)
    within = (found.value - two_gaussians(1.0)).abs() < 1.96 * found.stderr
    assert int(within.sum()) >= 90


# symmetries


def test_order_scale_shift_and_exchange_do_not_matter():
    x, y = gaussian_pair(400, 2, 0.8, 3)
    whole = ksg_information(x, y)
    order = torch.tensor(rng().permutation(400))
    same(ksg_information(x[order], y[order]), whole)
    same(ksg_information(y, x), whole)
    same(ksg_information(x[:, [1, 0]], y), whole)
    same(ksg_information(-x, y), whole)
    for scale in (1e-30, 1e-3, 7.0, 1e30):
        same(ksg_information(scale * x, y), whole)
        same(ksg_information(x, scale * y), whole)
    same(ksg_information(x + 1e3, y - 50), whole)
    labels = (x[:, 1] > 0).long()
    of_class = ross_information(y, labels)
    same(ross_information(y[order], labels[order]), of_class)
    same(ross_information(1e-3 * y + 5, 7 - labels), of_class)


def test_one_scale_for_all_units_keeps_the_shape_of_a_layer():
    # a dead unit, of a deviation far below the noise, hides the other if each unit is scaled for
    # itself: 2.0 nats
    x = torch.tensor(rng().standard_normal((1500, 2))) * torch.tensor([1.0, 1e-3])
    found = ksg_information(x, x + 0.0316 * torch.tensor(rng(1).standard_normal((1500, 2))))
    assert float(found.value) == pytest.approx(0.5 * math.log(1 + 1 / 0.0316**2), abs=0.15)


def test_replicas_are_measured_one_by_one():
    x, y = (torch.tensor(rng(s).standard_normal((3, 100, 2))) for s in (0, 1))
    y[1] += x[1]
    x[2] = 1.0
    together = ksg_information(x, y)
    assert together.value.shape == together.saturated.shape == (3,)
    labels = torch.arange(100) % 3
    by_class = ross_information(y, labels)
    for r in range(3):
        alone = ksg_information(x[r], y[r])
        assert alone.value.shape == ()
        assert alone.value == together.value[r]
        assert ross_information(y[r], labels).value == by_class.value[r]


# constant, small or repeated values


@pytest.mark.parametrize("method", ["tree", "blocks"])
def test_constant_units_carry_nothing(method):
    x, y = gaussian_pair(100, 2, 0.8, 0)
    wide = torch.cat([torch.full((100, 3), 7.0), x, torch.zeros(100, 3)], 1).double()
    same(ksg_information(wide, y, method=method), ksg_information(x, y, method=method))
    assert int(ksg_information(wide, y).dimensions) == 2
    for nothing in (torch.ones(100, 1), torch.zeros(100, 4)):
        for found in (ksg_information(nothing, y, method=method), ksg_information(y, nothing, method=method)):
            assert [float(v) for v in (found.value, found.stderr, found.ties)] == [0, 0, 0]
            assert not found.saturated
        assert float(ross_information(nothing, torch.arange(100) % 2, method=method).value) == 0
    assert float(ksg_information(torch.ones(100, 2), torch.ones(100, 2)).value) == 0
    labels = torch.arange(100) % 2
    same(ross_information(wide, labels, method=method), ross_information(x, labels, method=method))
    one_class = ross_information(x, torch.full((100,), 4), method=method)
    assert (float(one_class.value), float(one_class.stderr), int(one_class.n)) == (0, 0, 100)


def test_as_few_points_as_there_can_be():
    x, y = gaussian_pair(4, 1, 0.5, 0)
    assert float(ksg_information(x, y, k=3).value) == pytest.approx(plain_ksg(x.numpy(), y.numpy(), 3), abs=1e-12)
    labels = torch.tensor([0, 0, 1, 1])
    assert float(ross_information(x, labels).value) == pytest.approx(
        plain_ross(x.numpy(), labels.numpy(), 3), abs=1e-12
    )


def test_discrete_data_are_nonsense_and_say_so():
    x = torch.tensor(rng().integers(2, size=(1000, 1))).double()
    found = ksg_information(x, x)
    assert abs(float(found.value) - math.log(2)) > 2
    assert float(found.ties) == 1.0
    # the zeros of a ReLU unit
    x, y = mixed(1000, 1)
    assert 0.2 < float(ksg_information(x, y).ties) < 0.6
    assert 0.2 < float(ross_information(x, torch.arange(1000) % 2).ties) < 0.6
    assert float(ksg_information(*gaussian_pair(1000, 1, 0.5, 0)).ties) == 0.0


def test_a_deterministic_relation_grows_without_end_and_says_so():
    for n in (100, 1000):
        x, _ = gaussian_pair(n, 1, 0, 0)
        found = ksg_information(x, x)
        assert float(found.value) == pytest.approx(float(digamma(n) - digamma(3)), abs=1e-12)
        assert found.saturated
        assert ksg_information(x, 1 - 2 * x).saturated
        assert ksg_information(x, (x / 2).tanh()).saturated
    assert not ksg_information(*gaussian_pair(1000, 1, 0.99, 0)).saturated
    # as far from the truth, infinity, but not near enough to the most that can be shown for the
    # flag
    few, more = (ksg_information(x[:n], x[:n] ** 3) for n in (100, 1000))
    assert float(more.value - few.value) > 1.5
    assert not more.saturated
    for size, many in {4: True, 10: False}.items():
        labels = torch.arange(1000) // size
        found = ross_information(100 * labels[:, None] + x, labels)
        assert float(found.value) == pytest.approx(float(digamma(1000) - digamma(size)), abs=1e-12)
        assert bool(found.saturated) == many


# input that cannot be measured


def test_bad_input():
    x, y = gaussian_pair(10, 2, 0.5, 0)
    labels = torch.arange(10) % 2
    for call, says in {
        (lambda: ksg_information(x[:3], y[:3])): "3 points have no k-th neighbour for k=3; expected at least 4 points",
        (lambda: ross_information(x[:3], labels[:3])): "3 points have no k-th neighbour",
        (lambda: ksg_information(x, y[:9])): r"x has shape \(10, 2\) and y \(9, 2\); expected the same number",
        (lambda: ksg_information(x, y[None])): r"x has shape \(10, 2\) and y \(1, 10, 2\)",
        (lambda: ross_information(x, labels[:9])): r"labels have shape \(9,\); expected \(10,\)",
        (lambda: ksg_information(x, y.to("meta"))): "x is on cpu and y on meta; expected both on one device",
        (lambda: ross_information(x, labels.to("meta"))): "labels are on meta; expected cpu",
        (lambda: ksg_information(x, y.to(torch.complex64))): "y: the layer is a tensor of torch.complex64",
        (lambda: ksg_information(x.long(), y)): "x: the layer is a tensor of torch.int64",
        (lambda: ross_information(x, labels.double())): "labels are a tensor of torch.float64",
        (lambda: ksg_information(x, y.numpy())): "y: the layer is a ndarray",
        (lambda: ksg_information(x[:, :0], y)): r"x: the layer has shape \(10, 0\)",
        (lambda: ross_information(x[:, :0], labels)): r"the layer has shape \(10, 0\)",
        (lambda: ksg_information(x[:, 0], y)): r"x: the layer has shape \(10,\)",
        (lambda: ksg_information(x / 0, y)): "20 of the 20 values are NaN or infinite",
        (lambda: ksg_information(x, y, k=0)): "k=0; expected an integer of at least 1",
        (lambda: ross_information(x, labels, k=2.0)): "k=2.0; expected an integer of at least 1",
        (lambda: ksg_information(x, y, k=True)): "k=True; expected an integer",
        (lambda: ksg_information(x, y, chunk=0)): "chunk=0; expected an integer of at least 1",
        (lambda: ksg_information(x, y, method="trees")): "Unknown method 'trees'. Did you mean 'tree'",
        (lambda: ross_information(x, torch.arange(10))): "0 of the 10 classes of 10 points have two points or more",
        (lambda: ross_information(x, torch.arange(10).clamp(max=8))): "1 of the 9 classes of 10 points",
    }.items():
        with pytest.raises(InfoplaneError, match=says):
            call()


# for the Recorder


def reading(codes: Tensor, clean: Tensor | None = None, noise: Noise | None = None) -> Reading:
    return Reading(layer="0", codes=codes, clean=clean, noise=noise, seeds=tuple(range(len(codes))))


def test_ksg_for_the_recorder():
    codes = torch.tensor(rng().standard_normal((2, 500, 2)))
    estimator = KSG(noise_variance=0.1)
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.deferred) == ("ksg", False)
    found = estimator.measure(reading(codes), torch.arange(500) % 2)
    assert found == estimator.measure(reading(codes), None)
    assert len(found) == 2
    for (e,) in found:
        assert e.value == pytest.approx(math.log(11), abs=0.25)
        assert (e.quantity, e.standing, e.channel, e.estimator) == ("I(X;T)", "estimate", "noise 0.1", "ksg")
        assert (e.params, e.n, e.law) == ("k=3,noise_variance=0.1,points=5000", 500, "population")
        assert math.isnan(e.ceiling)
        assert 0 < e.stderr < 0.1
        assert set(e.warnings) <= {"sample-bias"}
    assert found[0][0].value != found[1][0].value


def test_ross_for_the_recorder():
    labels = torch.arange(500) % 2
    codes = torch.tensor(rng().standard_normal((2, 500, 1))) + 50 * labels[:, None]
    estimator = Ross(noise_variance=0.1, scale="layer", k=4)
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.deferred) == ("ross", False)
    for (e,) in estimator.measure(reading(codes), labels):
        assert e.value == pytest.approx(math.log(2), abs=0.06)
        assert (e.quantity, e.standing, e.estimator) == ("I(T;Y)", "estimate", "ross")
        assert e.channel == "noise 0.1 x mean square of the layer"
        assert (e.params, e.n, e.law) == ("k=4,noise_variance=0.1,scale=layer,points=5000", 500, "population")
        assert e.ceiling == pytest.approx(math.log(2))
        assert e.warnings == ()
    assert estimator.measure(reading(codes), None) == [[], []]
    three = estimator.measure(reading(codes), torch.stack([labels, torch.arange(500) % 5]))
    assert three[1][0].ceiling == pytest.approx(math.log(5))


def test_downstream_of_noise():
    clean, noise = torch.tensor(rng().standard_normal((2, 1, 400, 2)))
    labels = (clean[0, :, 0] > 0).long()
    (of_mean_path,) = KSG(noise_variance=0.1).measure(reading(clean + noise, clean), labels)[0]
    (alone,) = KSG(noise_variance=0.1).measure(reading(clean), labels)[0]
    assert of_mean_path.value == alone.value
    assert (of_mean_path.channel, of_mean_path.path) == ("noise 0.1", "noise-off")
    assert of_mean_path.warnings == ("sample-bias", "noise-off")
    (by_class,) = Ross(noise_variance=0.1).measure(reading(clean + noise, clean), labels)[0]
    (of_clean,) = Ross(noise_variance=0.1).measure(reading(clean), labels)[0]
    assert by_class.value < of_clean.value - 0.05
    assert (by_class.channel, by_class.path, by_class.warnings) == ("noise 0.1", "sampled", ("sampled-codes",))


@pytest.mark.parametrize("kind", ["echo", "gaussian"])
def test_the_channel_of_a_noisy_layer_is_measured_as_it_is(kind):
    sent, drawn = torch.tensor(rng().standard_normal((2, 1, 1000, 1)))
    received = sent + 0.5 * drawn
    layer = reading(received, sent, Noise(kind, sent, quantity="I(Z2;Z1)"))
    (e,) = KSG().measure(layer, None)[0]
    assert e.value == float(ksg_information(sent[0], received[0]).value)
    assert (e.quantity, e.channel, e.path, e.warnings) == ("I(Z2;Z1)", kind, "", ())
    labels = (sent[0, :, 0] > 0).long()
    (e,) = Ross().measure(layer, labels)[0]
    assert e.value == float(ross_information(received[0], labels).value)
    assert (e.quantity, e.channel, e.warnings) == ("I(T;Y)", kind, ("sampled-codes",))


def test_warnings():
    codes = torch.tensor(rng().standard_normal((1, 300, 6)))
    labels = torch.arange(300) % 2
    assert KSG(noise_variance=10.0).measure(reading(codes), None)[0][0].warnings == ("high-dimension",)
    assert Ross().measure(reading(codes), labels)[0][0].warnings == ("high-dimension",)
    codes[..., 5] = 1.0  # five that vary
    same_noise = Noise("gaussian", codes)
    assert KSG().measure(reading(codes, codes, same_noise), None)[0][0].warnings == ("saturated", "sample-bias")
    # the noise makes the sixth unit vary again in what is received, unless the layer has its own
    assert "high-dimension" in KSG().measure(reading(codes), None)[0][0].warnings
    assert Ross().measure(reading(codes, codes, same_noise), labels)[0][0].warnings == ("sampled-codes",)
    (row,) = KSG(noise_variance=1e-14).measure(reading(codes[..., :1]), None)[0]
    assert row.warnings == ("saturated", "sample-bias")
    for n, warned in ((80, ("sample-bias",)), (300, ())):  # of 80 points none has 80 neighbours
        (row,) = KSG(k=20, noise_variance=1e6).measure(reading(codes[:, :n, :1]), None)[0]
        assert row.warnings == warned
    bits = torch.tensor(rng().integers(2, size=(1, 300, 1))).double()
    assert "ties" in KSG().measure(reading(bits, bits, Noise("dropout", bits)), None)[0][0].warnings
    assert "ties" in Ross().measure(reading(bits, bits, Noise("dropout", bits)), labels)[0][0].warnings


def test_at_most_so_many_points():
    labels = torch.arange(600) % 3
    codes = torch.tensor(rng().standard_normal((2, 600, 1))) + labels[:, None]
    for estimator in (KSG(points=200), Ross(points=200)):
        found = estimator.measure(reading(codes), labels)
        assert found == estimator.measure(reading(codes), labels)
        assert [e.n for (e,) in found] == [200, 200]
        assert found[0][0].params.endswith("points=200")
        alone = estimator.measure(Reading(layer="0", codes=codes[1:], seeds=(1,)), labels)
        assert alone[0][0].value == found[1][0].value
    # pairs and labels stay together
    assert Ross(points=300).measure(reading(codes + 50 * labels[:, None]), labels)[0][0].value > 1.0
    assert KSG(points=300).measure(reading(codes), None)[0][0].value > 2.0


def test_options_are_checked():
    for make in (KSG, Ross):
        for options, says in {
            (("k", 0),): "k=0; expected an integer of at least 1",
            (("k", 1.5),): "k=1.5; expected an integer",
            (("points", 3),): "points=3; expected an integer above k=3",
            (("noise_variance", 0.0),): "noise_variance=0.0; expected a finite number above 0",
            (("scale", "layers"),): "Unknown scale of the noise 'layers'. Did you mean 'layer'",
        }.items():
            with pytest.raises(InfoplaneError, match=says):
                make(**dict(options))
        with pytest.raises(InfoplaneError, match=r"layer '0': 3 points have no k-th neighbour for k=3"):
            make().measure(reading(torch.randn(1, 3, 2, generator=torch.Generator())), torch.tensor([0, 0, 1]))
    with pytest.raises(InfoplaneError, match="Ross, layer '0': labels have shape"):
        Ross().measure(reading(torch.zeros(1, 5, 2)), torch.zeros(4, dtype=torch.int64))


def test_a_value_that_is_biased_down_still_rises_and_says_so():
    """Values more than 10 % too low get a warning, and values within 3 % mostly do not."""
    found = {}
    for name, function, units, std, n in [
        ("one", np.tanh, 1, 0.3, 1000),
        ("two", np.tanh, 2, 0.3, 2000),
        ("three, little noise", lambda x: x, 3, 0.1, 1000),
        ("five", lambda x: np.maximum(x, 0), 5, 0.3, 1000),
    ]:
        warned, share = 0, []
        for seed in range(6):
            _, f, _, truth = rotated_neurons(function, units, std, n, torch.Generator().manual_seed(seed))
            (row,) = KSG(noise_variance=std**2).measure(Reading("T", f.unsqueeze(0), seeds=(seed,)), None)[0]
            warned += "sample-bias" in row.warnings
            share.append(row.value / truth - 1)
        found[name] = (warned, float(np.mean(share)))
    for name in ("one", "two"):
        assert abs(found[name][1]) < 0.03, found
        assert found[name][0] <= 1, found
    for name in ("three, little noise", "five"):
        assert found[name][1] < -0.1, found
        assert found[name][0] == 6, found


@pytest.mark.parametrize(
    ("d", "rho", "n", "bias", "most", "least"),
    [
        (4, 0.5, 2000, -0.15, 12, 10),  # little information: halves of the points tell 8 of these 12
        (5, 0.95, 1000, -0.42, 12, 12),
        (2, 0.9, 1000, -0.02, 1, 0),
        (2, 0.5, 1000, 0.0, 1, 0),
        (1, 0.5, 2000, 0.0, 1, 0),
        (1, 0.9999, 1000, -0.02, 1, 0),  # near saturation
    ],
)
def test_more_neighbours_show_how_far_a_value_is_low(d, rho, n, bias, most, least):
    """Values 10 % too low nearly always get a warning, and values within 5 % hardly ever."""
    truth, values, warned = -d / 2 * math.log1p(-(rho**2)), [], 0
    for seed in range(12):
        x, y = (side.unsqueeze(0) for side in gaussian_pair(n, d, rho, 100 + seed))
        (e,) = KSG().measure(reading(y, None, Noise("gaussian", x)), None)[0]
        values.append(e.value / truth - 1)
        warned += "sample-bias" in e.warnings
    spread = float(np.std(values)) / math.sqrt(12)
    assert float(np.mean(values)) == pytest.approx(bias, abs=4 * spread + 0.02)
    assert least <= warned <= most


def test_the_order_of_the_points_does_not_matter_to_the_value():
    x, y = gaussian_pair(500, 3, 0.9, 0)
    order = torch.tensor(rng().permutation(500))
    one, other = (
        KSG().measure(reading(b.unsqueeze(0), None, Noise("gaussian", a.unsqueeze(0))), None)[0][0]
        for a, b in ((x, y), (x[order], y[order]))
    )
    assert one.value == pytest.approx(other.value, abs=1e-12)
    assert one.warnings == other.warnings == ("sample-bias",)
