"""The Kolchinsky-Tracey bounds against references, closed forms, quadrature and symmetries."""

from __future__ import annotations

import itertools
import math
import resource

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from infoplane.errors import InfoplaneError
from infoplane.estimators import ESTIMATORS, KDE, kde_bounds, kernels, parse_estimator
from infoplane.estimators.kde import KDEBounds
from infoplane.estimators.protocol import Estimator, Reading
from infoplane.threads import torch_threads


@pytest.fixture(autouse=True, params=["compiled loops", "blocks"])
def loops(request, monkeypatch):
    """Run every test with the compiled loops and with torch, which GPUs use."""
    monkeypatch.setattr(kernels, "COMPILED", request.param == "compiled loops")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def entropy_bounds(t: np.ndarray, s2: float) -> tuple[float, float]:
    """(upper, lower) bound on I(X;T), as the papers write them."""
    d = cdist(t, t, "sqeuclidean")
    upper, lower = (-np.mean(logsumexp(-d / (c * s2), axis=1) - np.log(len(t))) for c in (2, 8))
    return float(upper), float(lower)


def reference(t: np.ndarray, s2: float, y: np.ndarray | None) -> list[float]:
    t = t.astype(np.float64)
    upper, lower = entropy_bounds(t, s2)
    if y is None:
        return [upper, lower]
    classes, counts = np.unique(y, return_counts=True)
    p = counts / len(y)
    label_entropy = -np.sum(p * np.log(p))
    given = p @ np.array([entropy_bounds(t[y == c], s2) for c in classes])
    bracket = np.clip([upper - given[1], lower - given[0]], 0.0, label_entropy)
    return [upper, lower, *bracket, label_entropy]


def values(bounds: KDEBounds) -> list[float]:
    found = [bounds.upper, bounds.lower, bounds.label_upper, bounds.label_lower, bounds.label_entropy]
    return [float(v) for v in found if v is not None]


def saturated(n: int, d: int) -> np.ndarray:
    """tanh far into saturation: most float32 rows are corners of the cube, many times over."""
    return np.tanh(20 * rng(1).standard_normal((n, d)) * (rng(2).random((n, 1)) > 0.1)).round(5)


LAYERS = {
    "normal": rng().standard_normal((300, 5)),
    "one unit": rng().standard_normal((200, 1)),
    "wide": rng().standard_normal((150, 40)),
    "saturated tanh": saturated(400, 10),
    "offset 10": 10 + rng().standard_normal((200, 4)),
    "offset 100": 100 + rng().standard_normal((200, 4)),
    "offset 1000": 1000 + rng().standard_normal((200, 4)),
    "offset 1000000": 1e6 + rng().standard_normal((200, 4)),
    "ReLU, far apart": np.maximum(30 * rng().standard_normal((300, 3)), 0),
}


@pytest.mark.parametrize(("s2", "classes"), [(1e-3, None), (1e-3, 2), (0.1, 10), (0.1, 40), (3.0, 2), (3.0, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", LAYERS)
def test_agrees_with_float64_reference(layer, dtype, s2, classes):
    t = torch.tensor(LAYERS[layer], dtype=dtype)
    y = None if classes is None else rng(3).integers(classes, size=len(t))
    found = kde_bounds(t, s2, None if y is None else torch.tensor(y), chunk=None if kernels.COMPILED else 24)
    assert values(found) == pytest.approx(reference(t.numpy(), s2, y), abs=1e-5)
    assert found.upper.dtype == torch.float64
    assert found.upper.shape == ()


def test_the_block_size_does_not_matter():
    t, y = torch.tensor(LAYERS["normal"]), torch.tensor(rng(3).integers(3, size=300))
    expected = values(kde_bounds(t, 0.1, y))
    for chunk in (3, 7, 64, 4096):
        assert values(kde_bounds(t, 0.1, y, chunk=chunk)) == pytest.approx(expected, abs=1e-6)


def test_tiles_and_threads_and_coordinates_in_double_precision():
    """Many tiles, some not full and some out of reach, and classes of many sizes."""
    generator = torch.Generator().manual_seed(0)
    t = 4 * torch.randn(3, 700, 3, generator=generator, dtype=torch.float64) + torch.arange(3.0)[:, None, None]
    t[1, :200] = t[1, 200:400]
    y = torch.multinomial(torch.tensor([0.6, 0.3, 0.08, 0.02]), 700, replacement=True, generator=generator)
    for s2 in (1e-4, 0.05, 2.0, 1e4):
        found = {}
        for threads in (1, 3):
            with torch_threads(threads):
                found[threads] = kde_bounds(t, s2, y)
        for r in range(3):
            expected = reference(t[r].numpy(), s2, y.numpy())
            for bounds in found.values():
                got = [float(v[r]) for v in (bounds.upper, bounds.lower, bounds.label_upper, bounds.label_lower)]
                assert got == pytest.approx(expected[:4], abs=1e-6)


def test_far_tiles_and_far_clusters():
    """Kernels of 700 points on a line reach some tiles only; far clusters keep their shape."""
    for line in (10.0, 30.0, 100.0, 1000.0):
        t = torch.linspace(0, line, 700, dtype=torch.float64)[:, None]
        assert values(kde_bounds(t, 0.25)) == pytest.approx(reference(t.numpy(), 0.25, None), abs=1e-6)
    t = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t[::2] += 3e4
    assert values(kde_bounds(t, 0.1)) == pytest.approx(reference(t.numpy(), 0.1, None), abs=1e-6)


def test_replicas_are_measured_one_by_one():
    t = torch.randn(3, 200, 4, generator=torch.Generator().manual_seed(0))
    y = torch.randint(3, (3, 200), generator=torch.Generator().manual_seed(1))
    s2 = torch.tensor([0.01, 0.1, 1.0])
    together = kde_bounds(t, s2, y)
    assert together.upper.shape == (3,)
    for r in range(3):
        alone = kde_bounds(t[r], float(s2[r]), y[r])
        for name in KDEBounds.__slots__:
            assert float(getattr(together, name)[r]) == float(getattr(alone, name))
    shared = kde_bounds(t, 0.1, y[0])
    assert float(shared.label_upper[1]) == float(kde_bounds(t[1], 0.1, y[0]).label_upper)


def test_closed_forms():
    same = kde_bounds(torch.full((50, 3), 7.5), 1e-3, torch.arange(50) % 2)
    assert values(same)[:4] == [0.0, 0.0, 0.0, 0.0]
    assert float(same.self_weight) == pytest.approx(1 / 50)
    far = kde_bounds(torch.tensor([[0.0], [1e6]]), 1e-3, torch.tensor([4, -2]))
    assert values(far) == pytest.approx([math.log(2)] * 5, abs=1e-12)
    # corners of a regular simplex: every pair at distance 1
    n, s2 = 12, 0.2
    simplex = kde_bounds(torch.eye(n) / math.sqrt(2), s2)
    expected = [math.log(n) - math.log1p((n - 1) * math.exp(-1 / (c * s2))) for c in (2, 8)]
    assert values(simplex) == pytest.approx(expected, abs=1e-6)
    assert float(simplex.self_weight) == pytest.approx(1 / (1 + (n - 1) * math.exp(-1 / (2 * s2))), abs=1e-6)
    single = kde_bounds(torch.ones(1, 2), 1.0)
    assert values(single) == [0.0, 0.0]


def test_symmetries():
    t, y = torch.tensor(LAYERS["normal"]), torch.tensor(rng(3).integers(4, size=300))
    expected = pytest.approx(values(kde_bounds(t, 0.1, y)), abs=1e-6)
    order = torch.tensor(rng(4).permutation(300))
    rotation = torch.tensor(np.linalg.qr(rng(5).standard_normal((5, 5)))[0])
    assert values(kde_bounds(t[order], 0.1, y[order])) == expected
    assert values(kde_bounds(t @ rotation + 3.0, 0.1, y)) == expected
    assert values(kde_bounds(t * 10, 10.0, y)) == expected
    assert values(kde_bounds(t, 0.1, 7 - 5 * y)) == expected


@pytest.mark.parametrize("s2", [1e-4, 1e-2, 1.0, 100.0])
def test_order_and_ceilings(s2):
    for layer, classes in itertools.product(LAYERS, (2, 7)):
        t = torch.tensor(LAYERS[layer], dtype=torch.float32)
        found = kde_bounds(t, s2, torch.tensor(rng(3).integers(classes, size=len(t))))
        upper, lower, label_upper, label_lower, label_entropy = values(found)
        assert -1e-12 <= lower <= upper <= math.log(len(t)) + 1e-12
        assert 0 <= label_lower <= label_upper <= label_entropy
        assert 1 / len(t) - 1e-12 <= float(found.self_weight) <= 1


def mixture_information(x: np.ndarray, s2: float) -> float:
    """I(X;T) of T = x_X + N(0, s2) by quadrature."""
    grid = np.linspace(x.min() - 12 * s2**0.5, x.max() + 12 * s2**0.5, 20001)
    density = np.exp(-((grid[:, None] - x) ** 2) / (2 * s2)).mean(1) / np.sqrt(2 * np.pi * s2)
    entropy = -np.trapezoid(density * np.log(np.maximum(density, 1e-300)), grid)
    return float(entropy - 0.5 * np.log(2 * np.pi * np.e * s2))


MIXTURES = {
    "a pair": (np.array([0.0, 2.0]), np.array([0, 1])),
    "interleaved": (np.arange(16.0), np.arange(16) % 2),
    "a point and a comb": (np.r_[np.zeros(8), np.linspace(-4, 4, 8)], np.repeat([0, 1], 8)),
    "side by side": (np.linspace(-4, 4, 30), np.repeat([0, 1, 2], 10)),
    "at random": (3 * rng().standard_normal(40), rng(1).integers(3, size=40)),
}


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("s2", [0.01, 0.3, 1.0, 5.0])
def test_brackets_contain_the_truth(name, s2):
    x, y = MIXTURES[name]
    truth = mixture_information(x, s2)
    given = sum(np.mean(y == c) * mixture_information(x[y == c], s2) for c in np.unique(y))
    upper, lower, label_upper, label_lower, _ = values(kde_bounds(torch.tensor(x[:, None]), s2, torch.tensor(y)))
    assert lower - 1e-6 <= truth <= upper + 1e-6
    assert label_lower - 1e-6 <= truth - given <= label_upper + 1e-6


@pytest.mark.parametrize("name", ["a pair", "interleaved", "a point and a comb"])
def test_the_difference_of_two_upper_bounds_is_no_lower_bound(name):
    x, y = MIXTURES[name]
    t = torch.tensor(x[:, None])
    truth = mixture_information(x, 1.0) - sum(np.mean(y == c) * mixture_information(x[y == c], 1.0) for c in (0, 1))
    naive = float(kde_bounds(t, 1.0).upper) - sum(
        float(np.mean(y == c)) * float(kde_bounds(t[torch.tensor(y == c)], 1.0).upper) for c in (0, 1)
    )
    found = kde_bounds(t, 1.0, torch.tensor(y))
    assert naive > truth + 0.02
    assert float(kde_bounds(t, 1.0, torch.tensor(y)).label_difference) == pytest.approx(naive, abs=1e-6)
    assert float(found.label_lower) <= truth <= float(found.label_upper)


@pytest.mark.parametrize("classes", [1, 3, 16, 17, 60])
@pytest.mark.parametrize("chunk", [1, 5, 32])
def test_blocks_hold_every_pair_within_reach_once(classes, chunk):
    n = 150
    y = np.sort(rng(1).integers(classes, size=n))
    place = 40 * rng(2).random(n)
    order = np.lexsort((place, y))
    y, place = y[order], place[order]
    ends = np.flatnonzero(np.diff(y, append=classes)) + 1
    seen = np.zeros((n, n), dtype=int)
    for other, i0, i1, j0, j1 in kernels._blocks(place.tolist(), ends.tolist(), chunk):
        assert (i1 - i0) * (j1 - j0) <= 8 * chunk * chunk
        assert ((y[i0:i1, None] != y[j0:j1]) == bool(other)).all()
        seen[i0:i1, j0:j1] += 1
    near = np.abs(place[:, None] - place) <= kernels.REACH
    pairs = np.triu(np.ones((n, n), dtype=bool))
    assert (seen[pairs & near] == 1).all()
    assert seen.max() == 1
    if classes == 1 and chunk == 5:
        assert seen.sum() < 0.6 * pairs.sum()  # what is out of reach is left out


def test_memory_does_not_grow_with_the_square_of_n():
    n = 12_000
    t = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    kde_bounds(t[:1000], 1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kde_bounds(t, 1.0, torch.arange(n) % 2)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # KiB; a matrix of N^2 float32 is 560 000


def test_nothing_outside_is_touched_and_no_setting_matters():
    t = torch.tensor(LAYERS["saturated tanh"], dtype=torch.float32, requires_grad=True)
    copy, state = t.detach().clone(), torch.get_rng_state()
    found = kde_bounds(t, torch.tensor(1e-3, dtype=torch.float64, requires_grad=True))
    assert torch.equal(t.detach(), copy)
    assert torch.equal(torch.get_rng_state(), state)
    assert not found.upper.requires_grad
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert values(kde_bounds(t, 1e-3)) == values(found)
    finally:
        torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("units", "size", "s2"), [(48, 1e3, 1e-4), (64, 1e3, 1e-8), (300, 200.0, 1e-5), (2, 1e6, 1e-8)]
)
def test_clusters_whose_products_have_no_digits_left(units, size, s2, seed):
    """Two repeated codes give ln 2, even where |x|^2 exceeds the resolution 10^6 to 10^20 times.

    Each label has few points, so that with 2 units the blocks are used too.
    """
    t = size * torch.rand(2, units, generator=torch.Generator().manual_seed(seed))[torch.arange(400) % 2]
    bounds = kde_bounds(t, s2, torch.arange(400) // 4 % 20)
    assert float(bounds.upper) == pytest.approx(math.log(2), abs=1e-9)
    assert float(bounds.lower) == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize("points", [100, 300, 1000])
@pytest.mark.parametrize("size", [1e3, 1e6, 1e9, 1e36])
def test_a_constant_layer_holds_nothing_however_large(points, size):
    t = (size * torch.linspace(0.7, 1.3, 128)).expand(points, -1)
    assert float(kde_bounds(t, 1e-8 if size < 1e30 else 1.0).upper) == 0.0


@pytest.mark.parametrize("units", [64, 128, 384, 2048])
@pytest.mark.parametrize("size", [0.3, 1.0, 1.912, 4.0])
def test_rounding_of_equal_coordinates_that_adds_up(units, size):
    side = torch.where(torch.arange(200) % 2 == 0, 1.0, -1.0)[:, None] * size / math.sqrt(units)
    t = side.expand(-1, units).contiguous()
    upper, lower = entropy_bounds(t.double().numpy(), 0.25)
    bounds = kde_bounds(t, 0.25)
    assert float(bounds.upper) == pytest.approx(upper, abs=1e-5)
    assert float(bounds.lower) == pytest.approx(lower, abs=1e-5)


@pytest.mark.parametrize(
    ("t", "s2", "labels", "says"),
    [
        (torch.zeros(5), 1.0, None, r"shape \(5,\); expected \(N, D\) or \(R, N, D\)"),
        (torch.zeros(1, 1, 5, 2), 1.0, None, r"shape \(1, 1, 5, 2\)"),
        (torch.zeros(0, 2), 1.0, None, r"shape \(0, 2\)"),
        (torch.zeros(5, 0), 1.0, None, r"shape \(5, 0\)"),
        (torch.zeros(5, 2, dtype=torch.int64), 1.0, None, "int64; expected a tensor of floating-point"),
        (torch.zeros(5, 2, dtype=torch.complex64), 1.0, None, "complex64; expected"),
        ([[1.0]], 1.0, None, "a list; expected"),
        (torch.tensor([[1.0, math.nan]]), 1.0, None, "1 of the 2 values are NaN or infinite"),
        (torch.tensor([[math.inf, -math.inf]]), 1.0, None, "2 of the 2 values are NaN or infinite"),
        (torch.full((2, 2), 1e200, dtype=torch.float64), 1.0, None, "expected at most 1e100"),
        (torch.tensor([[0.0], [1e90]], dtype=torch.float64), 1e-3, None, r"sqrt\(noise_variance\) span"),
        (torch.zeros(5, 2), 0.0, None, "noise_variance=0.0; expected a finite number above 0"),
        (torch.zeros(5, 2), -1.0, None, "noise_variance=-1.0"),
        (torch.zeros(5, 2), math.nan, None, "noise_variance=nan"),
        (torch.zeros(5, 2), math.inf, None, "noise_variance=inf"),
        (torch.zeros(2, 5, 2), torch.ones(3), None, r"or one per replica \(2\)"),
        (torch.zeros(2, 5, 2), torch.tensor([1.0, 0.0]), None, r"or one per replica \(2\)"),
        (torch.zeros(5, 2), 1.0, torch.zeros(4, dtype=torch.int64), r"shape \(4,\); expected \(5,\)"),
        (torch.zeros(5, 2), 1.0, torch.zeros(5), "float32; expected a tensor of integers"),
        (torch.zeros(5, 2), 1.0, torch.zeros(5, dtype=torch.int64, device="meta"), "on meta; expected cpu"),
    ],
)
def test_bad_input_is_named(t, s2, labels, says):
    with pytest.raises(InfoplaneError, match=f"kde_bounds: .*{says}"):
        kde_bounds(t, s2, labels)


def test_bad_chunk_is_named():
    with pytest.raises(InfoplaneError, match="chunk=0; expected a number of rows"):
        kde_bounds(torch.zeros(5, 2), 1.0, chunk=0)


# --- the estimator


def reading(t: torch.Tensor, clean: torch.Tensor | None = None) -> Reading:
    return Reading("0", t, clean)


def test_estimator_gives_two_brackets_a_replica():
    t = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(300) % 3
    estimator = KDE(noise_variance=0.1)
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.deferred) == ("kde", False)
    found = estimator.measure(reading(t), y)
    bounds = kde_bounds(t, 0.1, y)
    assert len(found) == 2
    for r, rows in enumerate(found):
        assert [(e.quantity, e.side, e.standing) for e in rows] == [
            ("I(X;T)", "upper", "upper"),
            ("I(X;T)", "lower", "lower"),
            ("I(T;Y)", "upper", "upper"),
            ("I(T;Y)", "lower", "lower"),
        ]
        of = bounds.upper, bounds.lower, bounds.label_upper, bounds.label_lower
        assert [e.value for e in rows] == [float(v[r]) for v in of]
        assert [e.ceiling for e in rows] == pytest.approx([math.log(300)] * 2 + [math.log(3)] * 2)
        for e in rows:
            assert (e.channel, e.params, e.law, e.n) == ("noise 0.1", "noise_variance=0.1", "these N points", 300)
            assert e.path == ""
    assert [len(rows) for rows in estimator.measure(reading(t), None)] == [2, 2]


def test_downstream_of_noise_nothing_is_called_a_bound_of_the_noisy_layer():
    clean = torch.randn(1, 200, 2, generator=torch.Generator().manual_seed(0))
    codes = clean + torch.randn(1, 200, 2, generator=torch.Generator().manual_seed(1))
    y = torch.arange(200) % 2
    rows = KDE(noise_variance=0.1).measure(reading(codes, clean), y)[0]
    mean_path, noisy = kde_bounds(clean[0], 0.1), kde_bounds(codes[0], 0.1, y)
    assert [e.value for e in rows[:2]] == [float(mean_path.upper), float(mean_path.lower)]
    assert [(e.standing, e.side) for e in rows[:2]] == [("upper", "upper"), ("lower", "lower")]
    assert all((e.path, e.channel) == ("noise-off", "noise 0.1") for e in rows[:2])
    assert all("noise-off" in e.warnings for e in rows[:2])
    assert [e.value for e in rows[2:]] == [float(noisy.label_upper), float(noisy.label_lower)]
    assert [(e.standing, e.side) for e in rows[2:]] == [("estimate", "upper"), ("estimate", "lower")]
    assert all((e.path, e.channel, e.params) == ("sampled", "noise 0.1", "noise_variance=0.1") for e in rows[2:])
    assert all("sampled-codes" in e.warnings and "noise-off" not in e.warnings for e in rows[2:])
    assert len(KDE().measure(reading(codes, clean), None)[0]) == 2


def test_the_published_plane_stands_beside_the_brackets_under_its_own_name():
    t = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
    y = torch.arange(300) % 3
    estimator, plain = parse_estimator("kde:noise_variance=0.1,published=true"), KDE(noise_variance=0.1)
    bounds = kde_bounds(t, 0.1, y)
    for r, (rows, without) in enumerate(
        zip(estimator.measure(reading(t), y), plain.measure(reading(t), y), strict=True)
    ):
        assert [e for e in rows if e.estimator == "kde"] == without
        of_input, of_label = (e for e in rows if e.estimator == "kde-upper")
        assert (of_input.quantity, of_input.value, of_input.standing) == ("I(X;T)", float(bounds.upper[r]), "upper")
        assert (of_label.quantity, of_label.standing) == ("I(T;Y)", "estimate")
        assert of_input.side == of_label.side == ""
        assert of_label.value == float(bounds.label_difference[r])
        assert "not-a-bound" in of_label.warnings
        assert "not-a-bound" not in of_input.warnings
    assert [e.estimator for e in estimator.measure(reading(t), None)[0]] == ["kde", "kde", "kde-upper"]
    # above noise: I(X;T) on the mean path, I(T;Y) on noisy draws
    rows = estimator.measure(reading(t, t + 1.0), y)[0]
    of_input, of_label = (e for e in rows if e.estimator == "kde-upper")
    assert (of_input.channel, of_input.path) == ("noise 0.1", "noise-off")
    assert (of_label.channel, of_label.path) == ("noise 0.1", "sampled")
    assert "sampled-codes" in of_label.warnings


def test_noise_scaled_with_the_layer():
    t = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0])[:, None, None]
    estimator = KDE(noise_variance=0.01, scale="layer")
    rows = estimator.measure(reading(t + 8.0), None)
    for r in range(2):
        square = (t[r] - t[r].mean(0)).square().mean()
        assert rows[r][0].value == pytest.approx(float(kde_bounds(t[r], 0.01 * float(square)).upper), abs=1e-5)
    assert rows[0][0].channel == "noise 0.01 x mean square of the layer"
    assert rows[0][0].params == "noise_variance=0.01,scale=layer"
    smaller = estimator.measure(reading(t * 1e-9), None)
    assert smaller[0][0].value == pytest.approx(rows[0][0].value, abs=1e-5)
    assert [e.value for e in estimator.measure(reading(torch.ones(1, 9, 2)), None)[0]] == [0.0, 0.0]


def test_warnings():
    generator = torch.Generator().manual_seed(0)
    dense, wide = torch.rand(1, 500, 1, generator=generator), torch.randn(1, 100, 300, generator=generator)
    assert KDE(0.1).measure(reading(dense), None)[0][0].warnings == ()
    # every point is far from the others
    lattice = torch.arange(60.0).view(1, 60, 1)
    assert KDE(1e-3).measure(reading(lattice), None)[0][0].warnings == ("self-weight", "at-ceiling")
    # the kernel covers neighbours in the lower bound only
    assert KDE(0.05).measure(reading(lattice), None)[0][0].warnings == ("self-weight",)
    assert "at-ceiling" in KDE(0.1).measure(reading(wide), torch.arange(100) % 2)[0][3].warnings


def test_options_are_checked():
    for variance in (0.0, -1.0, math.nan, math.inf, "0.1", True):
        with pytest.raises(InfoplaneError, match=r"KDE: noise_variance=.*; expected a finite number above 0"):
            KDE(variance)
    with pytest.raises(InfoplaneError, match=r"Unknown scale of the noise 'layers'\. Did you mean 'layer'"):
        KDE(scale="layers")
    with pytest.raises(InfoplaneError, match="KDE, layer '0': labels have shape"):
        KDE().measure(reading(torch.zeros(1, 4, 2)), torch.zeros(3, dtype=torch.int64))


def test_command_line_names():
    assert parse_estimator("kde") == KDE()
    assert parse_estimator("kde:noise_variance=0.1") == KDE(noise_variance=0.1)
    assert parse_estimator("kde: noise_variance=1e-2 ,scale=layer") == KDE(0.01, "layer")
    assert ESTIMATORS["kde"] is KDE
    for text, says in {
        "kbe": "Unknown estimator 'kbe'. Did you mean 'kde'",
        "kde:noise_varience=1": "Unknown option of kde 'noise_varience'. Did you mean 'noise_variance'",
        "kde:noise_variance=much": "noise_variance='much'; expected a number",
        "kde:noise_variance": "has no value; expected noise_variance=VALUE",
        "kde:noise_variance=1,noise_variance=2": "noise_variance is given twice",
        "kde:noise_variance=0": "expected a finite number above 0",
    }.items():
        with pytest.raises(InfoplaneError, match=says):
            parse_estimator(text)
