"""Counted information against counts of bytes in Python, closed forms and invariances."""

from __future__ import annotations

import decimal
import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch

from infoplane.errors import InfoplaneError
from infoplane.estimators import counting, kde_bounds
from infoplane.estimators.counting import CountedInformation, Counting, counted_information
from infoplane.estimators.protocol import Estimator, Reading
from infoplane.records import POINTS


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def exact_entropy(symbols) -> Fraction:
    """H in nats from integers alone, to 25 digits."""
    counts = Counter(symbols)
    n = sum(counts.values())
    with decimal.localcontext(prec=30):
        total = sum(c * (decimal.Decimal(n) / c).ln() for c in counts.values()) / n
    return Fraction(total)


def reference(t: np.ndarray, y: np.ndarray) -> list[float]:
    rows = [(row + 0.0).tobytes() for row in t]
    pairs = list(zip(rows, y.tolist(), strict=True))
    h, h_y, h_pair = exact_entropy(rows), exact_entropy(y.tolist()), exact_entropy(pairs)
    return [float(h), float(h + h_y - h_pair), float(h_y), len(set(rows)), max(len(np.unique(u)) for u in t.T)]


def values(found: CountedInformation) -> list[float]:
    fields = [found.information, found.label_information, found.label_entropy, found.distinct, found.levels]
    return [float(v) for v in fields if v is not None]


def quantise(t: np.ndarray, bits: int) -> np.ndarray:
    """Round t to 2^bits levels over the range of all values, in its own type."""
    low, step = t.min(), (t.max() - t.min()) / (2**bits - 1)
    return (np.rint((t - low) / step) * step + low).astype(t.dtype)


LAYERS = {
    "2 bits": quantise(rng().standard_normal((700, 3)), 2),
    "8 bits, one unit": quantise(rng().standard_normal((500, 1)), 8),
    "8 bits, low rank": quantise(np.tanh(rng().standard_normal((900, 1)) @ rng(1).standard_normal((1, 50))), 8),
    "corners of a cube": np.sign(rng().standard_normal((800, 8))),
    "saturated tanh": np.tanh(20 * rng(1).standard_normal((600, 10)) * (rng(2).random((600, 1)) > 0.5)),
    "ReLU": np.maximum(rng().standard_normal((400, 12)), 0) * (rng(1).random((400, 1)) > 0.5),
    "normal": rng().standard_normal((300, 4)),
    "constant": np.full((60, 3), 7.5),
    "a constant unit": np.column_stack([np.ones(200), quantise(rng().standard_normal(200), 3)]),
    "wide": np.repeat(quantise(rng(3).standard_normal((40, 300)), 4), 5, axis=0),
    "one point": np.array([[1.0, 2.0]]),
    "denormal": rng().integers(0, 3, (200, 2)) * 1e-45,
    "huge": rng().integers(0, 3, (200, 2)) * 1e38,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", LAYERS)
def test_agrees_with_counting_bytes(layer, dtype):
    t = LAYERS[layer].astype(dtype)
    for classes in (1, 2, 10):
        y = rng(4).integers(classes, size=len(t))
        found = counted_information(torch.tensor(t), torch.tensor(y))
        assert values(found) == pytest.approx(reference(t, y), abs=counting._ERROR)
        assert found.n == len(t)
    assert counted_information(torch.tensor(t)).label_information is None
    assert found.information.dtype == torch.float64
    assert found.information.shape == ()


def test_rounding_stays_within_the_stated_error():
    generator = rng(9)
    t = quantise(generator.standard_normal((50_000, 2)), 5)
    y = generator.integers(10, size=len(t))
    found = counted_information(torch.tensor(t), torch.tensor(y))
    for value, expected in zip(values(found), reference(t, y), strict=True):
        assert abs(value - expected) < counting._ERROR


def test_closed_forms():
    cube = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 12)
    index = torch.arange(4096)
    whole = counted_information(cube, index % 2)
    assert values(whole) == pytest.approx([12 * math.log(2), math.log(2), math.log(2), 4096, 2])
    # the number of units that are on is binomial
    p = np.array([math.comb(12, k) for k in range(13)]) / 4096
    number_on = counted_information(cube.sum(1, keepdim=True), (cube.sum(1) > 0).long())
    above = p[7:].sum()
    label_entropy = -above * math.log(above) - (1 - above) * math.log(1 - above)
    expected = [-(p * np.log(p)).sum(), label_entropy, label_entropy, 13, 13]
    assert values(number_on) == pytest.approx(expected, abs=1e-12)
    # parity: any 11 units have no information about it, and all 12 have all of it
    parity = (cube.prod(1) > 0).long()
    assert float(counted_information(cube[:, 1:], parity).label_information) == pytest.approx(0, abs=1e-12)
    assert float(counted_information(cube, parity).label_information) == pytest.approx(math.log(2), abs=1e-12)
    same = counted_information(torch.zeros(50, 3), torch.arange(50) % 2)
    assert values(same) == [0.0, 0.0, pytest.approx(math.log(2)), 1, 1]


def test_a_row_is_what_its_bits_are():
    one, next_up = torch.ones(1, 3), torch.ones(1, 3)
    next_up[0, 2] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    assert float(counted_information(torch.cat([one, next_up, one])).distinct) == 2
    assert float(counted_information(torch.cat([one, next_up]).double()).distinct) == 2
    zeros = counted_information(torch.tensor([[0.0, -0.0], [-0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    assert values(zeros)[1:] == [2, 2]


def test_half_precision_is_counted_as_it_is():
    t = torch.tensor(LAYERS["normal"])
    for dtype in (torch.float16, torch.bfloat16):
        coarse = t.to(dtype)
        assert values(counted_information(coarse)) == values(counted_information(coarse.double()))


def test_replicas_are_measured_one_by_one():
    generator = torch.Generator().manual_seed(0)
    t = torch.randint(0, 3, (3, 200, 4), generator=generator).float() * torch.tensor([1.0, 0.1, 0.0])[:, None, None]
    y = torch.randint(3, (3, 200), generator=generator)
    together = counted_information(t, y)
    assert together.information.shape == (3,)
    for r in range(3):
        alone = counted_information(t[r], y[r])
        for name in ("information", "label_information", "label_entropy", "distinct", "levels", "quantised"):
            assert float(getattr(together, name)[r]) == float(getattr(alone, name))
    shared = counted_information(t, y[0])
    assert float(shared.label_information[1]) == float(counted_information(t[1], y[0]).label_information)


def test_symmetries():
    t, y = torch.tensor(LAYERS["2 bits"]), torch.tensor(rng(3).integers(4, size=700))
    expected = pytest.approx(values(counted_information(t, y)), abs=1e-12)
    order = torch.tensor(rng(4).permutation(700))
    for same, label in [
        (t[order], y[order]),
        (t[:, [2, 0, 1]], y),
        (-t, y),
        (t.tanh(), y),
        (torch.cat([t, torch.full((700, 1), 3.0)], 1), y),
        (torch.cat([t, t], 1), y),
        (t.repeat(3, 1), y.repeat(3)),  # every input three times: the same law
        (t, 10**12 * (7 - y)),
    ]:
        assert values(counted_information(same, label)) == expected


def test_a_function_of_a_layer_holds_no_more():
    t, y = torch.tensor(LAYERS["2 bits"]), torch.tensor(rng(3).integers(4, size=700))
    layers = [t, t.relu(), t.relu()[:, :2], t.relu()[:, :2].sum(1, keepdim=True), 0 * t]
    found = [counted_information(layer, y) for layer in layers]
    for name in ("information", "label_information"):
        numbers = [float(getattr(f, name)) for f in found]
        assert all(a >= b - 1e-12 for a, b in itertools.pairwise(numbers))
    for f in found:
        assert float(f.label_information) <= min(float(f.information), float(f.label_entropy)) + 1e-12


def test_the_kernel_bounds_agree_in_no_noise():
    t, y = torch.tensor(LAYERS["8 bits, low rank"]), torch.tensor(rng(3).integers(4, size=900))
    found, bounds = counted_information(t, y), kde_bounds(t, 1e-9, y)
    for bound in (bounds.upper, bounds.lower):
        assert float(found.information) == pytest.approx(float(bound), abs=1e-6)
    assert float(found.label_information) == pytest.approx(float(bounds.label_upper), abs=1e-6)


# the partition is that of the rows, whatever the hash does


def test_collisions_are_seen_and_resolved(monkeypatch):
    t = LAYERS["2 bits"]
    y = rng(3).integers(4, size=len(t))
    taken = []

    def colliding(forms, units, seed):
        taken.append(seed)
        weights = real(forms, units, seed)
        if seed == 0:  # all rows have one hash
            weights.zero_()
        elif seed == 1:  # rows that agree but for the last unit
            weights[:, -1] = 0
        return weights

    real = counting.odd_coefficients
    monkeypatch.setattr(counting, "odd_coefficients", colliding)
    assert values(counted_information(torch.tensor(t), torch.tensor(y))) == pytest.approx(reference(t, y), abs=1e-12)
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("step", [1.0, 2.0**20, 2.0**-20, 0.1])
def test_short_numbers_do_not_collide(dtype, step, monkeypatch):
    # all corners of {0, 1, 2, 3}^7: numbers that end in 20 to 50 zeros, which a linear hash is weak
    # against
    grid = step * torch.cartesian_prod(*[torch.arange(4, dtype=dtype)] * 7)
    seeds = []
    real = counting.odd_coefficients
    monkeypatch.setattr(counting, "odd_coefficients", lambda *a: seeds.append(a[2]) or real(*a))
    assert float(counted_information(grid).distinct) == 4**7
    assert seeds == [0]
    patterns = counting._patterns(step * torch.arange(4, dtype=dtype)).tolist()
    differences = [abs(a - b) for a, b in itertools.combinations(patterns, 2)]
    assert max((d & -d).bit_length() - 1 for d in differences) < 16  # trailing zeros


# is it quantised?


@pytest.mark.parametrize("n", [20, 300, 3000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_grids_are_quantised(bits, dtype, n):
    normal = rng(bits).standard_normal((n, 6)).astype(dtype)
    uneven = normal * np.array([1, 3, 0.1, 7, 1, 0]).astype(dtype)
    for t in (normal, np.maximum(normal, 0), np.tanh(5 * normal), 1 + normal):
        assert bool(counted_information(torch.tensor(quantise(t, bits))).quantised)
    by_unit = np.stack([quantise(u, bits) if np.ptp(u) > 0 else u for u in uneven.T], 1)
    assert bool(counted_information(torch.tensor(by_unit)).quantised)


def test_levels_that_repeat_are_quantised_evenly_spaced_or_not():
    t = quantise(rng().standard_normal((2000, 3)), 6)
    for same in (np.tanh(t), np.exp(t), t.astype(np.float16).astype(np.float32)):
        assert bool(counted_information(torch.tensor(same)).quantised)


@pytest.mark.parametrize("n", [20, 300, 3000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_values_are_not_quantised(dtype, n):
    normal = rng(1).standard_normal((n, 6)).astype(dtype)
    mixed = quantise(normal, 4)
    mixed[:, 3] = normal[:, 3]
    for t in (
        normal,
        np.maximum(normal, 0),
        np.tanh(5 * normal),
        normal[:, :1],
        1 / (1 + np.exp(-normal)),
        np.column_stack([normal, np.zeros(n, dtype)]),
        1000 + normal,
        mixed,
    ):
        assert not bool(counted_information(torch.tensor(t)).quantised)


def test_more_than_16_bits_are_not_quantised():
    t = rng().permutation(2**16 + 10)[:, None].astype(np.float64)
    assert not bool(counted_information(torch.tensor(t)).quantised)
    assert not bool(counted_information(torch.tensor(np.repeat(t, 2, 0))).quantised)
    assert bool(counted_information(torch.tensor(t[t[:, 0] < 2**16])).quantised)


# for the Recorder


def reading(t: np.ndarray | torch.Tensor, **more) -> Reading:
    return Reading(layer="fc1", codes=torch.as_tensor(t), **more)


def test_a_quantised_layer_is_exact():
    t = LAYERS["8 bits, low rank"]
    y = rng(3).integers(4, size=len(t))
    ((of_input, of_label),) = Counting().measure(reading(t), torch.tensor(y))
    expected = reference(t, y)
    for estimate, quantity, value, ceiling in [
        (of_input, "I(X;T)", expected[0], math.log(len(t))),
        (of_label, "I(T;Y)", expected[1], expected[2]),
    ]:
        assert estimate.quantity == quantity
        assert estimate.value == pytest.approx(value, abs=estimate.error)
        assert estimate.standing == "exact"
        assert estimate.channel == "counted"
        assert estimate.estimator == "counting"
        assert estimate.params == ""
        assert estimate.n == len(t)
        assert estimate.law == POINTS
        assert estimate.stderr == 0.0
        assert estimate.error == counting._ERROR
        assert estimate.ceiling == pytest.approx(ceiling)
        assert estimate.warnings == ()
    ((alone,),) = Counting().measure(reading(t), None)
    assert alone.value == of_input.value


def test_a_layer_that_is_not_quantised_says_so():
    normal = LAYERS["normal"]
    y = torch.tensor(rng(3).integers(4, size=len(normal)))
    ((of_input, of_label),) = Counting().measure(reading(normal), y)
    assert of_input.warnings == of_label.warnings == ("not-quantised",)
    assert of_input.standing == "exact"
    assert of_input.value == pytest.approx(math.log(len(normal)))
    assert of_label.value == pytest.approx(of_label.ceiling)
    # every point has its own row, but on a grid; and real values, but few rows
    silent = normal * (rng(1).random((300, 1)) > 0.6)
    for t in (quantise(normal, 8), np.repeat(normal, 2, axis=0), silent):
        ((found, _),) = Counting().measure(reading(t), torch.zeros(len(t), dtype=torch.int64))
        assert found.warnings == ()


def test_the_warning_is_of_each_replica():
    normal = rng().standard_normal((100, 3))
    both = Counting().measure(reading(np.stack([normal, quantise(normal, 4)])), None)
    assert [row[0].warnings for row in both] == [("not-quantised",), ()]


def test_above_noise_nothing_is_exact_but_the_mean_path():
    clean = LAYERS["2 bits"]
    noisy = clean + 0.1 * rng(1).standard_normal(clean.shape)
    y = rng(3).integers(4, size=len(clean))
    ((of_input, of_label),) = Counting().measure(reading(noisy, clean=torch.tensor(clean)[None]), torch.tensor(y))
    assert (of_input.channel, of_input.path) == ("counted", "noise-off")
    assert of_input.warnings == ("noise-off",)
    assert of_input.standing == "exact"
    assert of_input.value == pytest.approx(reference(clean, y)[0])
    assert (of_label.channel, of_label.path) == ("counted", "sampled")
    assert of_label.standing == "estimate"
    assert of_label.warnings == ("not-quantised", "sampled-codes")
    assert math.isnan(of_label.stderr)
    assert math.isnan(of_label.error)
    assert of_label.value == pytest.approx(reference(noisy, y)[1])
    ((alone,),) = Counting().measure(reading(noisy, clean=torch.tensor(clean)[None]), None)
    assert alone == of_input
    # dropout leaves a quantised layer on its grid
    dropped = clean * (rng(2).random(clean.shape) < 0.5)
    ((_, of_label),) = Counting().measure(reading(dropped, clean=torch.tensor(clean)[None]), torch.tensor(y))
    assert of_label.warnings == ("sampled-codes",)


def test_the_protocol():
    assert isinstance(Counting(), Estimator)
    assert Counting() == Counting()
    assert Counting.name == "counting"
    assert not Counting().deferred
    assert "Lorenzen" in Counting.about.source


@pytest.mark.parametrize(
    ("t", "y", "words"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), None, "expected a tensor of floating-point numbers"),
        (torch.zeros(3), None, r"shape \(3,\); expected \(N, D\) or \(R, N, D\)"),
        (torch.zeros(0, 2), None, "each at least 1"),
        (torch.tensor([[0.0], [math.nan]]), None, "1 of the 2 values are NaN"),
        (torch.zeros(3, 2), torch.zeros(3), "expected a tensor of integers"),
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64), r"labels have shape \(4,\)"),
    ],
)
def test_what_cannot_be_counted_says_so(t, y, words):
    with pytest.raises(InfoplaneError, match=words):
        counted_information(t, y)
    if t.ndim == 2:
        with pytest.raises(InfoplaneError, match="Counting, layer 'fc1'"):
            Counting().measure(reading(t), y)


def test_equal_inputs_that_gave_different_rows_are_no_exact_count():
    """If the last digits of a layer depend on the place in the batch, the count exceeds H(X)."""
    x = torch.arange(64.0).repeat(2).view(1, 128, 1)
    t = torch.sin(x)
    fine = Counting().measure(Reading("T", t, inputs=x), torch.arange(128) % 2)[0]
    assert {e.standing for e in fine} == {"exact"}
    assert fine[0].value == pytest.approx(math.log(64))
    t[0, 100] = torch.nextafter(t[0, 100], torch.tensor(2.0))
    for e in Counting().measure(Reading("T", t, inputs=x), torch.arange(128) % 2)[0]:
        assert e.standing == "estimate"
        assert "batch-dependent" in e.warnings
        assert math.isnan(e.error)
    several = Counting().measure(Reading("T", torch.cat([t, torch.sin(x)]), inputs=x.expand(2, -1, -1)), None)
    assert [row[0].standing for row in several] == ["estimate", "exact"]
    # two layers of different values, and an input of whole numbers
    assert Counting().measure(Reading("T", t, inputs=x.long()), None)[0][0].standing == "estimate"
