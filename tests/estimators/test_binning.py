"""Binned entropies against NumPy's counts, closed forms, invariances and published bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infoplane.errors import InfoplaneError
from infoplane.estimators import ESTIMATORS, BinnedEntropy, Binning, binned_entropy, cells, parse_estimator
from infoplane.estimators.binning import CORRECTED
from infoplane.estimators.protocol import Estimator, Reading


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def entropy_of_rows(rows: np.ndarray) -> tuple[float, int]:
    _, counts = np.unique(rows, axis=0, return_counts=True)
    p = counts / len(rows)
    return float(-np.sum(p * np.log(p))), len(counts)


def edges_to_bins(t: np.ndarray, inner: np.ndarray) -> np.ndarray:
    return np.searchsorted(inner, t, side="right")


def digitised(t: np.ndarray, width=None, bins=None, range="layer") -> np.ndarray:
    """Bins by searching edges, in float64."""
    t = t.astype(np.float64)
    if width is not None:
        return np.floor(t / width)
    if range == "unit":
        return np.stack([digitised(u, bins=bins) for u in t.T], axis=1)
    if range == "quantile":
        unique = np.unique(t)
        ranks = np.searchsorted(unique, t)
        inner = np.quantile(np.arange(len(unique)), np.linspace(0, 1, bins + 1))[1:-1]
        return np.searchsorted(np.round(inner, 9), ranks, side="right")
    low, high = (t.min(), t.max()) if range == "layer" else range
    return edges_to_bins(t, np.linspace(low, high, bins + 1)[1:-1])


def reference(t: np.ndarray, y: np.ndarray | None, **rule) -> list[float]:
    rows = digitised(t, **rule)
    entropy, occupied = entropy_of_rows(rows)
    if y is None:
        return [entropy, occupied]
    label_entropy, _ = entropy_of_rows(y[:, None])
    joint, _ = entropy_of_rows(np.column_stack([rows, y]))
    return [entropy, occupied, entropy + label_entropy - joint, label_entropy]


def values(found: BinnedEntropy) -> list[float]:
    fields = [found.entropy, found.occupied, found.label_information, found.label_entropy]
    return [float(v) for v in fields if v is not None]


LAYERS = {
    "normal": rng().standard_normal((500, 3)),
    "one unit": rng().standard_normal((300, 1)),
    "wide": np.tanh(0.1 * rng().standard_normal((200, 2)) @ rng(1).standard_normal((2, 40))).round(1),
    "saturated tanh": np.tanh(20 * rng(1).standard_normal((600, 10)) * (rng(2).random((600, 1)) > 0.1)),
    "offset 10": 10 + rng().standard_normal((400, 2)),
    "offset 1000": 1000 + rng().standard_normal((400, 2)),
    "ReLU": np.maximum(rng().standard_normal((400, 12)), 0) * (rng(1).random((400, 1)) > 0.5),
}
RULES = {
    "width": {"width": 0.07},
    "wide bins": {"width": 0.5},
    "layer": {"bins": 30},
    "unit": {"bins": 7, "range": "unit"},
    "quantile": {"bins": 30, "range": "quantile"},
    "fixed": {"bins": 29, "range": (-1.0, 1.0)},
    "one bin": {"bins": 1},
}


@pytest.mark.parametrize("classes", [None, 2, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layer", LAYERS)
def test_agrees_with_counting_rows(layer, rule, dtype, classes):
    t = torch.tensor(LAYERS[layer], dtype=dtype)
    y = None if classes is None else rng(3).integers(classes, size=len(t))
    found = binned_entropy(t, **RULES[rule], labels=None if y is None else torch.tensor(y))
    assert values(found) == pytest.approx(reference(t.numpy(), y, **RULES[rule]), abs=1e-9)
    assert found.entropy.dtype == torch.float64
    assert found.entropy.shape == ()


@pytest.mark.parametrize("rule", RULES)
def test_replicas_are_measured_one_by_one(rule):
    t = (
        torch.randn(3, 200, 4, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 0.1, 20.0])[:, None, None]
    )
    y = torch.randint(3, (3, 200), generator=torch.Generator().manual_seed(1))
    together = binned_entropy(t, **RULES[rule], labels=y)
    assert together.entropy.shape == (3,)
    for r in range(3):
        alone = binned_entropy(t[r], **RULES[rule], labels=y[r])
        for name in ("entropy", "label_information", "label_entropy", "occupied", "clipped", "outlier_ratio"):
            if getattr(alone, name) is not None:
                assert float(getattr(together, name)[r]) == pytest.approx(float(getattr(alone, name)), abs=1e-12)
    shared = binned_entropy(t, **RULES[rule], labels=y[0])
    assert float(shared.label_information[0]) == float(together.label_information[0])


def test_a_range_may_differ_between_replicas_and_units():
    t = torch.rand(2, 300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = torch.tensor([0.0, 0.5]), torch.tensor([1.0, 2.0])
    found = binned_entropy(t, bins=5, range=(low, high))
    for r in range(2):
        expected = binned_entropy(t[r], bins=5, range=(float(low[r]), float(high[r])))
        assert float(found.entropy[r]) == float(expected.entropy)
    by_unit = binned_entropy(t, bins=5, range=(t.amin(1), t.amax(1)))
    assert by_unit.entropy.tolist() == binned_entropy(t, bins=5, range="unit").entropy.tolist()
    by_layer = binned_entropy(t, bins=5, range=(t.amin((1, 2)), t.amax((1, 2))))
    assert by_layer.entropy.tolist() == binned_entropy(t, bins=5).entropy.tolist()


def test_closed_forms():
    y = torch.tensor([4, -2])
    assert values(binned_entropy(torch.tensor([[0.0], [9.0]]), width=1.0, labels=y)) == [
        pytest.approx(v) for v in (math.log(2), 2, math.log(2), math.log(2))
    ]
    same = binned_entropy(torch.full((50, 3), 7.5), width=1.0, labels=torch.arange(50) % 2)
    assert values(same) == [0.0, 1.0, pytest.approx(0.0, abs=1e-12), pytest.approx(math.log(2))]
    # a lattice of 8 x 8 points, with 2 x 2 of them per cell
    lattice = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    quarter = (lattice[:, 0] >= 4).long()
    found = binned_entropy(lattice, width=2.0, labels=quarter)
    assert values(found) == pytest.approx([math.log(16), 16, math.log(2), math.log(2)])
    for bins in (1, 2, 4, 8):
        assert float(binned_entropy(lattice, bins=bins, range=(0.0, 8.0)).entropy) == pytest.approx(2 * math.log(bins))
    # XOR: each unit alone has no information, and the cell has all of it
    xor = (lattice[:, 0] >= 4) ^ (lattice[:, 1] >= 4)
    assert float(binned_entropy(lattice, bins=2, labels=xor.long()).label_information) == pytest.approx(math.log(2))
    one = binned_entropy(lattice[:, :1], bins=2, labels=xor.long())
    assert float(one.label_information) == pytest.approx(0.0, abs=1e-12)


def test_a_range_of_no_length_is_one_cell():
    t = torch.tensor([[1.0, 5.0], [1.0, 7.0], [1.0, 9.0]])
    assert float(binned_entropy(t[:, :1], bins=30).occupied) == 1
    assert float(binned_entropy(t[:, :1], bins=30, range="quantile").occupied) == 1
    assert float(binned_entropy(t, bins=30, range="unit").occupied) == 3
    assert float(binned_entropy(t, bins=30, range=(7.0, 7.0)).occupied) == 1


def test_the_top_edge_is_in_the_top_bin_and_nothing_wraps_around():
    edges = torch.linspace(-1, 1, 9)[:, None]
    found = binned_entropy(edges, bins=8, range=(-1.0, 1.0))
    assert float(found.occupied) == 8
    assert float(found.clipped) == 0
    pair = binned_entropy(torch.tensor([[0.95], [1.0]]), bins=10, range=(-1.0, 1.0))
    assert float(pair.occupied) == 1
    # np.digitize(h, np.linspace(-1, 1, 30)) - 1 puts values below -1 into bin -1, the last one
    outside = binned_entropy(torch.tensor([[-5.0], [-0.99], [0.99], [3.0]]), bins=29, range=(-1.0, 1.0))
    assert float(outside.occupied) == 2
    assert float(outside.clipped) == 0.5
    assert float(binned_entropy(torch.tensor([[-5.0], [3.0]]), bins=29, range=(-1.0, 1.0)).occupied) == 2


def test_minus_zero_is_zero():
    t = torch.tensor([[0.0], [-0.0], [0.01]])
    for rule in ({"width": 0.07}, {"bins": 2}, {"bins": 2, "range": "quantile"}, {"width": 1e-30}):
        same = binned_entropy(t[:2], **rule)
        assert float(same.occupied) == 1
        # and 0.01 has a cell of its own unless the bins are wider
        assert float(binned_entropy(t, **rule).occupied) == (1 if rule == {"width": 0.07} else 2)


def test_invariant_under_bijections_of_the_cells_and_order_of_the_points():
    cells = rng().integers(0, 6, size=(400, 5))
    y = torch.tensor(rng(1).integers(3, size=400))
    expected = pytest.approx(values(binned_entropy(torch.tensor(cells + 0.5), width=1.0, labels=y)), abs=1e-12)
    table = np.stack([rng(u).permutation(6) for u in range(5)])
    moved = table[np.arange(5), cells][:, [3, 1, 4, 0, 2]] * 10 - 200.0
    order = torch.tensor(rng(2).permutation(400))
    assert values(binned_entropy(torch.tensor(moved + 0.5), width=1.0, labels=y)) == expected
    assert values(binned_entropy(torch.tensor(cells + 0.5)[order], width=1.0, labels=y[order])) == expected
    assert values(binned_entropy(torch.tensor(cells + 0.5), width=1.0, labels=7 - 3 * y)) == expected


def test_labels_may_be_any_integers():
    t = torch.arange(6.0)[:, None]
    for y in ([0, 0, 0, 1, 1, 1], [-(2**63)] * 3 + [2**63 - 1] * 3, [10**15] * 3 + [0] * 3):
        found = binned_entropy(t, width=3.0, labels=torch.tensor(y))
        assert values(found)[2:] == pytest.approx([math.log(2)] * 2)
    found = binned_entropy(t, width=3.0, labels=torch.tensor([0, 0, 0, 255, 255, 255], dtype=torch.uint8))
    assert values(found)[2:] == pytest.approx([math.log(2)] * 2)


def test_equal_count_bins():
    # 300 distinct values, 10 per bin, whatever their spacing
    t = torch.tensor(np.exp(5 * rng().standard_normal((300, 1))))
    found = binned_entropy(t, bins=30, range="quantile")
    assert values(found) == [pytest.approx(math.log(30)), 30]
    # ties count once: 0 holds nine tenths of the points and moves no edge
    with_ties = torch.cat([torch.zeros(2700, 1, dtype=torch.float64), t])
    p = np.array([0.9 + 10 / 3000] + [10 / 3000] * 29)
    assert float(binned_entropy(with_ties, bins=30, range="quantile").entropy) == pytest.approx(
        -np.sum(p * np.log(p)), abs=5e-3
    )


def test_hashed_and_packed_rows_give_the_same(monkeypatch):
    t, y = torch.tensor(LAYERS["saturated tanh"]), torch.tensor(rng(3).integers(10, size=600))
    packed = values(binned_entropy(t, width=0.07, labels=y))
    monkeypatch.setattr(cells.math, "log2", lambda x: 1e9)
    asked = []
    coefficients = cells.odd_coefficients
    monkeypatch.setattr(cells, "odd_coefficients", lambda *a: asked.append(a[2]) or coefficients(*a))
    assert values(binned_entropy(t, width=0.07, labels=y)) == pytest.approx(packed, abs=1e-12)
    assert asked == [0]


def test_a_collision_of_hashes_is_seen(monkeypatch):
    t = torch.tensor(LAYERS["ReLU"])
    expected = values(binned_entropy(t, width=0.07))
    asked = []
    coefficients = cells.odd_coefficients

    def colliding(forms: int, units: int, seed: int) -> torch.Tensor:
        asked.append(seed)
        found = coefficients(forms, units, seed)
        if seed < 2:
            found[0] = 1  # the sum of the bins, the same for many rows
        return found

    monkeypatch.setattr(cells, "odd_coefficients", colliding)
    assert values(binned_entropy(t, width=0.07)) == pytest.approx(expected, abs=1e-12)
    assert asked == [0, 1, 2]


def test_coefficients_are_fixed_and_odd():
    found = cells.odd_coefficients(2, 1000, 0)
    assert torch.equal(found, cells.odd_coefficients(2, 1000, 0))
    assert not torch.equal(found, cells.odd_coefficients(2, 1000, 1))
    assert bool((found & 1).all())
    assert len(set(found.flatten().tolist())) == 2000


def test_bins_finer_than_the_values():
    t = torch.cat([torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 1e12] * 2)
    found = binned_entropy(t.double(), width=1e-9, labels=torch.arange(100) // 50)
    assert values(found) == pytest.approx([math.log(50), 50, 0.0, math.log(2)], abs=1e-12)
    powers = (2.0 ** torch.arange(1000, dtype=torch.float64)[:, None].clamp(max=300)).repeat(1, 2)
    assert float(binned_entropy(powers, width=1e-3).occupied) == 301
    with pytest.raises(InfoplaneError, match=r"values / width=1e-300 overflows; expected a larger width"):
        binned_entropy(t, width=1e-300)


def test_pieces_do_not_matter_and_bound_the_memory(monkeypatch):
    t = torch.randn(2, 300, 4, generator=torch.Generator().manual_seed(0))
    expected = [binned_entropy(t, **rule).entropy.tolist() for rule in RULES.values()]
    monkeypatch.setattr(cells, "PIECE", 64)
    sizes = []
    grid = cells.Rule.grid

    def watched(self, points):
        found = grid(self, points)
        return found._replace(bins=lambda v: sizes.append(v.numel()) or found.bins(v))

    monkeypatch.setattr(cells.Rule, "grid", watched)
    assert [binned_entropy(t, **rule).entropy.tolist() for rule in RULES.values()] == expected
    assert max(sizes) == 64


def test_nothing_outside_is_touched():
    for dtype in (torch.float32, torch.float64):
        t = torch.tensor(LAYERS["ReLU"], dtype=dtype, requires_grad=True)
        copy, state = t.detach().clone(), torch.get_rng_state()
        for rule in RULES.values():
            assert not binned_entropy(t, **rule).entropy.requires_grad
        assert torch.equal(t.detach(), copy)
        assert torch.equal(torch.get_rng_state(), state)
    half = torch.tensor([[0.5], [0.25], [0.25]], dtype=torch.bfloat16)
    for rule in ({"width": 0.1}, {"bins": 3}, {"bins": 3, "range": "quantile"}):
        assert float(binned_entropy(half, **rule).occupied) == 2


def test_outliers_and_the_range_of_the_layer():
    """An outlier among ReLU values below 4.2 spoils the range of the layer, not of the unit."""
    t = np.maximum(rng().standard_normal((4096, 10)), 0).clip(max=4.2)
    entropies = []
    for outlier in (0.0, 30.0, 100.0):
        t[0, 0] = outlier
        found = binned_entropy(torch.tensor(t), bins=30)
        entropies.append(float(found.entropy))
        assert (float(found.outlier_ratio) > 3) == (outlier > 0)
        unit = binned_entropy(torch.tensor(t), bins=30, range="unit")
        assert float(unit.entropy) > 8
        assert float(unit.outlier_ratio) < 3
    assert entropies[0] > 8
    assert entropies[2] < 0.5 < entropies[1] < entropies[0] - 2
    assert float(binned_entropy(torch.ones(5000, 1), bins=3).outlier_ratio) == 0
    assert float(binned_entropy(torch.eye(5000)[:, :1], bins=3).outlier_ratio) == math.inf
    assert binned_entropy(torch.tensor(t), width=0.1).outlier_ratio is None


@pytest.mark.parametrize(
    ("t", "options", "says"),
    [
        (torch.zeros(5), {}, r"shape \(5,\); expected \(N, D\) or \(R, N, D\)"),
        (torch.zeros(1, 1, 5, 2), {}, r"shape \(1, 1, 5, 2\)"),
        (torch.zeros(0, 2), {}, r"shape \(0, 2\)"),
        (torch.zeros(5, 0), {}, r"shape \(5, 0\)"),
        (torch.zeros(5, 2, dtype=torch.int32), {}, "int32; expected a tensor of floating-point"),
        (torch.zeros(5, 2, dtype=torch.complex64), {}, "complex64; expected"),
        (np.zeros((5, 2)), {}, "a ndarray; expected"),
        (torch.tensor([[1.0, math.nan]]), {}, "1 of the 2 values are NaN or infinite"),
        (torch.tensor([[math.inf, 1.0]]), {}, "1 of the 2 values are NaN or infinite"),
        (torch.tensor([[1e200, 1.0]], dtype=torch.float64), {}, r"the values reach 1e\+200; expected at most 1e100"),
        (
            torch.zeros(5, 2),
            {"labels": torch.zeros(4, dtype=torch.int64)},
            r"labels have shape \(4,\); expected \(5,\)",
        ),
        (torch.zeros(2, 5, 2), {"labels": torch.zeros(3, 5, dtype=torch.int64)}, r"expected \(5,\) or \(2, 5\)"),
        (torch.zeros(5, 2), {"labels": torch.zeros(5)}, "float32; expected a tensor of integers"),
        (torch.zeros(5, 2), {"labels": torch.zeros(5, dtype=torch.bool)}, "bool; expected a tensor of integers"),
        (torch.zeros(5, 2), {"labels": [0] * 5}, "labels are a list; expected"),
        (torch.zeros(5, 2), {"labels": torch.zeros(5, dtype=torch.int64, device="meta")}, "on meta; expected cpu"),
        (torch.zeros(5, 2), {"width": 0.0}, "width=0.0; expected a finite number above 0"),
        (torch.zeros(5, 2), {"width": -1}, "width=-1; expected a finite number above 0"),
        (torch.zeros(5, 2), {"width": math.nan}, "width=nan; expected"),
        (torch.zeros(5, 2), {"width": math.inf}, "width=inf; expected"),
        (torch.zeros(5, 2), {"width": 1.0, "bins": 3}, "width=1.0 and bins=3; expected one of the two"),
        (torch.zeros(5, 2), {"width": None}, "width=None and bins=None; expected one of the two"),
        (torch.zeros(5, 2), {"width": 1.0, "range": "unit"}, "a range needs bins=NUMBER"),
        (torch.zeros(5, 2), {"bins": 0}, "bins=0; expected an integer of at least 1"),
        (torch.zeros(5, 2), {"bins": 2.5}, "bins=2.5; expected an integer"),
        (torch.zeros(5, 2), {"bins": True}, "bins=True; expected an integer"),
        (torch.zeros(5, 2), {"bins": 3, "range": "run"}, r"expected the range of the run as \(low, high\)"),
        (
            torch.zeros(5, 2),
            {"bins": 3, "range": (1.0, 0.0)},
            r"range=\(1.0, 0.0\); expected finite numbers with low <= high",
        ),
        (torch.zeros(5, 2), {"bins": 3, "range": (0.0, math.inf)}, "expected finite numbers with low <= high"),
        (torch.zeros(5, 2), {"bins": 3, "range": (0.0,)}, r"range=\(0.0,\); expected one of layer"),
        (
            torch.zeros(5, 2),
            {"bins": 3, "range": (torch.zeros(3), torch.ones(3))},
            r"shape \(3,\); expected \(\), \(1,\)",
        ),
    ],
)
def test_bad_input_is_named(t, options, says):
    if "bins" not in options and "width" not in options:
        options = {"width": 1.0, **options}
    with pytest.raises(InfoplaneError, match=f"binned_entropy: .*{says}"):
        binned_entropy(t, **options)


def test_an_unknown_range_gets_the_nearest():
    with pytest.raises(InfoplaneError, match=r"Unknown range of bins 'layers'\. Did you mean 'layer'\?"):
        binned_entropy(torch.zeros(5, 2), bins=3, range="layers")


# --- the estimator

LABELS = torch.arange(300) % 3


def layer(r: int = 2, n: int = 300, d: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(r, n, d, generator=torch.Generator().manual_seed(seed))


def test_estimator_gives_two_numbers_a_replica():
    t = layer()
    estimator = Binning()
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.deferred, estimator.width) == ("binning", False, 0.07)
    found = estimator.measure(Reading("0", t), LABELS)
    expected = binned_entropy(t, width=0.07, labels=LABELS)
    for r, rows in enumerate(found):
        assert [e.quantity for e in rows] == ["I(X;T)", "I(T;Y)"]
        assert [e.value for e in rows] == [float(expected.entropy[r]), float(expected.label_information[r])]
        assert [e.ceiling for e in rows] == pytest.approx([math.log(300), math.log(3)])
        for e in rows:
            assert (e.standing, e.law, e.estimator, e.n) == ("estimate", "these N points", "binning", 300)
            assert (e.channel, e.params) == ("bins of 0.07", "width=0.07")
    assert [len(rows) for rows in estimator.measure(Reading("0", t), None)] == [1, 1]


def test_channels_and_parameters_are_in_words():
    cases = {
        Binning(width=0.5): ("bins of 0.5", "width=0.5"),
        Binning(width=0.0625): ("bins of 0.0625", "width=0.0625"),
        Binning(bins=30): ("30 bins over the layer", "bins=30,range=layer"),
        Binning(bins=30, range="unit", replicates=8): ("30 bins over each unit", "bins=30,range=unit,replicates=8"),
        Binning(bins=30, range="run"): ("30 bins over the run", "bins=30,range=run"),
        Binning(bins=30, range=(-1.0, 1.0)): ("30 bins over [-1, 1]", "bins=30,range=-1..1"),
        Binning(bins=30, range="quantile"): ("30 equal-count bins", "bins=30,range=quantile"),
    }
    for estimator, (channel, params) in cases.items():
        assert (estimator.channel, estimator.params) == (channel, params)
        assert parse_estimator(f"binning:{params}") == estimator
        assert estimator.deferred == (estimator.range == "run")


def test_bins_over_the_run():
    t = layer()
    estimator = Binning(bins=30, range="run")
    with pytest.raises(InfoplaneError, match=r"Binning, layer '0': range='run' needs the limits of the whole run"):
        estimator.measure(Reading("0", t), None)
    limits = 2 * t.amin(1), 3 * t.amax(1)
    rows = estimator.measure(Reading("0", t, limits=limits), None)
    expected = binned_entropy(t, bins=30, range=(limits[0].amin(1), limits[1].amax(1)))
    assert [r[0].value for r in rows] == expected.entropy.tolist()
    assert "moving-range" not in rows[0][0].warnings
    assert "clipped" not in rows[0][0].warnings


def noisy_reading(clean: torch.Tensor, scale: float) -> Reading:
    """Noise that adds -scale, 0 or scale to each value, so that the truth can be counted."""
    generator = torch.Generator().manual_seed(5)

    def draw(k: int) -> torch.Tensor:
        return clean + scale * torch.randint(-1, 2, (k, *clean.shape), generator=generator)

    return Reading("echo", draw(1)[0], clean, draw)


def test_downstream_of_noise_the_entropy_of_noisy_cells_is_never_the_information():
    clean = layer()
    reading = noisy_reading(clean, 1.0)
    noisy = binned_entropy(reading.codes, width=0.07, labels=LABELS)
    for estimator, path, code in (
        (Binning(), "noise-off", "noise-off"),
        (Binning(width=0.07, replicates=4), "replicates", "replicate-bias"),
    ):
        for r, (of_input, of_label) in enumerate(estimator.measure(reading, LABELS)):
            assert (of_input.channel, of_input.path, of_input.warnings[-1]) == ("bins of 0.07", path, code)
            assert of_input.value != pytest.approx(float(noisy.entropy[r]), abs=1e-3)
            assert of_label.value == float(noisy.label_information[r])
            assert (of_label.channel, of_label.path) == ("bins of 0.07", "sampled")
            assert of_label.warnings[-1] == "sampled-codes"
            assert code not in of_label.warnings
    rows = Binning().measure(reading, None)
    assert [e[0].value for e in rows] == binned_entropy(clean, width=0.07).entropy.tolist()
    assert [len(row) for row in rows] == [1, 1]


def test_information_from_replicates():
    clean = layer(n=200)
    # the same count in NumPy, on the same draws
    k = 6
    found = Binning(bins=9, range="unit", replicates=k).measure(noisy_reading(clean, 0.7), None)
    reading = noisy_reading(clean, 0.7)
    draws = reading.draw(k).numpy()
    for r in range(2):
        pooled = digitised(draws[:, r].reshape(-1, 2), bins=9, range="unit")
        given = [entropy_of_rows(pooled.reshape(k, 200, 2)[:, i])[0] for i in range(200)]
        assert found[r][0].value == pytest.approx(entropy_of_rows(pooled)[0] - np.mean(given), abs=1e-9)
        assert found[r][0].n == 200
        assert found[r][0].ceiling == pytest.approx(math.log(200))
    # no noise: the plug-in entropy itself
    still = Binning(width=0.3, replicates=3).measure(noisy_reading(clean, 0.0), None)
    assert [e[0].value for e in still] == pytest.approx(binned_entropy(clean, width=0.3).entropy.tolist())
    # only noise, which takes three values: I = 0, and the bias is the bias of 40 draws
    nothing = Binning(width=0.5, replicates=40).measure(noisy_reading(torch.zeros(1, 200, 1), 1.0), None)
    assert 0 < nothing[0][0].value < 2 * (3 - 1) / (2 * 40)
    with pytest.raises(InfoplaneError, match="replicates=3, but the reading cannot draw any"):
        Binning(replicates=3).measure(Reading("0", clean, clean), None)
    # where no noise lies below, no draws are needed
    assert Binning(width=0.3, replicates=3).measure(Reading("0", clean), None)[0][0].channel == "bins of 0.3"


def test_warnings():
    def raised(t: torch.Tensor, **options) -> set[str]:
        return set(Binning(**options).measure(Reading("0", t), None)[0][0].warnings)

    t = layer(1, 4000, 1)
    outlier = t.clone()
    outlier[0, 0, 0] = 1000.0
    assert raised(t, width=0.5) == set()
    assert raised(layer(1, 300, 8), width=0.1) == {"mostly-unique", "sparse-cells"}
    assert raised(layer(1, 300, 1), width=0.02) == {"sparse-cells"}
    assert raised(t, bins=30) == raised(t, bins=30, range="unit") == {"moving-range"}
    assert raised(t, bins=30, range="quantile") == raised(outlier, bins=30, range="quantile") == {"moving-range"}
    assert raised(outlier, bins=30) == {"moving-range", "outlier-range"}
    assert raised(outlier, width=0.5) == set()
    assert raised(t, bins=30, range=(-1.0, 1.0)) == {"clipped"}
    assert raised(t, bins=30, range=(-9.0, 9.0)) == set()


def test_options_are_checked():
    for options, says in (
        ({"width": 0.07, "bins": 3}, r"Binning: width=0\.07 and bins=3; expected one of the two"),
        ({"width": -1.0}, r"Binning: width=-1\.0; expected a finite number above 0"),
        ({"bins": 0}, "Binning: bins=0; expected an integer of at least 1"),
        ({"range": "unit"}, "a range needs bins=NUMBER"),
        ({"bins": 3, "range": "runs"}, "Did you mean 'run'"),
        ({"replicates": 1}, "Binning: replicates=1; expected 0, or an integer of at least 2"),
        ({"replicates": -2}, "replicates=-2"),
        ({"replicates": 2.0}, r"replicates=2\.0"),
    ):
        with pytest.raises(InfoplaneError, match=says):
            Binning(**options)
    with pytest.raises(InfoplaneError, match="Binning, layer 'deep': labels have shape"):
        Binning().measure(Reading("deep", layer()), torch.zeros(3, dtype=torch.int64))


def test_command_line_names():
    assert parse_estimator("binning") == Binning()
    assert parse_estimator("binning:width=0.5") == Binning(width=0.5)
    assert parse_estimator("binning:bins=30,range=run") == Binning(bins=30, range="run")
    assert parse_estimator("binning:bins=30,range=-1..1") == Binning(bins=30, range=(-1.0, 1.0))
    assert parse_estimator("binning:width=1,replicates=8") == Binning(width=1.0, replicates=8)
    assert all(make().name == name for name, make in ESTIMATORS.items())
    for text, says in {
        "bining": "Unknown estimator 'bining'.*Did you mean 'binning'.*Known: kde, binning",
        "binning:bin=3": "Unknown option of binning 'bin'.*Did you mean 'bins'",
        "binning:bins=3.5": r"bins='3\.5'; expected a whole number",
        "binning:bins=3,range=a..b": r"range='a\.\.b'; expected layer, unit, quantile, run or LOW\.\.HIGH",
        "binning:bins=3,range=unt": "Did you mean 'unit'",
        "binning:bins=3,range=1..-1": "low <= high",
        "binning:width=.1,bins=3": "expected one of the two",
    }.items():
        with pytest.raises(InfoplaneError, match=says):
            parse_estimator(text)


# corrections


def sampled(n, seed, symbols=64):
    """n draws of 64 equally likely cells of width 1; the labels are the halves of the range."""
    k = torch.randint(symbols, (n, 1), generator=torch.Generator().manual_seed(seed))
    return k + 0.5, (k[:, 0] >= symbols // 2).long()


@pytest.mark.parametrize("correction", CORRECTED[1:])
def test_a_correction_takes_the_bias_away(correction):
    """64 equally likely cells, 100 points: the plug-in is 0.3 nats low."""
    off = {}
    for method in ("plug-in", correction):
        found = [
            binned_entropy(t, width=1.0, labels=y, correction=method)
            for t, y in (sampled(100, seed) for seed in range(40))
        ]
        entropies = np.array([float(f.entropy) for f in found])
        off[method] = entropies.mean() - math.log(64)
        error = entropies.std() / math.sqrt(len(found))
        assert all(float(f.label_information) == pytest.approx(float(f.label_entropy), abs=0.4) for f in found)
    assert off["plug-in"] < -0.25
    assert abs(off[correction]) < 0.1 + 4 * error


def test_a_corrected_number_is_of_the_population():
    t, y = sampled(100, 0)
    plain, corrected = (
        Binning(width=1.0, correction=method).measure(Reading("T", t.unsqueeze(0)), y)[0]
        for method in ("plug-in", "miller-madow")
    )
    assert {e.law for e in plain} == {"these N points"}
    assert {e.law for e in corrected} == {"population"}
    assert corrected[0].params == "width=1,correction=miller-madow"
    occupied = len(t.unique())
    assert corrected[0].value - plain[0].value == pytest.approx((occupied - 1) / 200)
    assert "few-counts" in corrected[0].warnings
    assert "few-counts" not in plain[0].warnings
    many = Binning(width=1.0, correction="miller-madow").measure(Reading("T", sampled(1000, 0)[0].unsqueeze(0)), None)
    assert "few-counts" not in many[0][0].warnings


def test_a_population_is_not_corrected():
    t, _ = sampled(100, 0)
    reading = Reading("T", t.unsqueeze(0), population=True)
    with pytest.raises(InfoplaneError, match="the probe is the whole population"):
        Binning(width=1.0, correction="chao-shen").measure(reading, None)
    with pytest.raises(InfoplaneError, match="Did you mean 'chao-shen'"):
        Binning(correction="chao-chen")
    with pytest.raises(InfoplaneError, match="replicates"):
        Binning(correction="chao-shen", replicates=4)
