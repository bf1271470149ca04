"""Matrix-based Rényi information against closed forms, NumPy, symmetries and its permuted null."""

from __future__ import annotations

import itertools
import math
import resource

import numpy as np
import pytest
import torch

from infoplane.errors import InfoplaneError
from infoplane.estimators.protocol import Estimator, Noise, Reading
from infoplane.estimators.renyi import Renyi, RenyiInformation, renyi_information
from infoplane.records import POINTS
from tests.drawn import normal

ALPHAS = [0.5, 1.0, 1.01, 2.0, 3.0]


def entropy(p: np.ndarray, alpha: float) -> float:
    """Compute Rényi's entropy of a law, or of eigenvalues, as in a textbook."""
    p = p[p > 1e-15]
    return float(-(p * np.log(p)).sum() if alpha == 1 else np.log((p**alpha).sum()) / (1 - alpha))


def kernel(x: np.ndarray, sigma: float | None = None) -> np.ndarray:
    """Compute exp(-d^2 / 2 sigma^2) pair by pair, with sigma the root mean square of d."""
    d = np.sqrt(((x[:, None] - x) ** 2).sum(2))
    return np.exp(-(d**2) / (2 * (sigma or np.sqrt((d**2).mean())) ** 2))


def matrix_entropy(k: np.ndarray, alpha: float) -> float:
    return entropy(np.linalg.eigh(k / np.trace(k))[0].clip(0), alpha)


def numbers(found: RenyiInformation) -> list[float]:
    return [float(v) for v in (found.information, found.entropy_x, found.entropy_y, found.joint_entropy)]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_eigenvalues_from_numpy(alpha, offset, dtype):
    x = normal(60, 3, dtype=dtype) + offset
    y = (normal(60, 2, seed=1, dtype=dtype) + x[:, :2]) * 7 - offset
    a, b = (kernel(v.double().numpy()) for v in (x, y))
    each = [matrix_entropy(k, alpha) for k in (a, b, a * b)]
    found = renyi_information(x, y, alpha=alpha, permutations=0)
    assert numbers(found) == pytest.approx([each[0] + each[1] - each[2], *each], abs=1e-6)
    assert found.null_mean is None
    assert found.information.dtype == torch.float64

    labels = (y[:, 0] > y[:, 0].mean()).long() * 5 + (x[:, 0] > x[:, 0].mean()).long()
    b = (labels[:, None] == labels).numpy().astype(float)
    each = [matrix_entropy(k, alpha) for k in (a, b, a * b)]
    found = renyi_information(x, labels, alpha=alpha, permutations=0)
    assert numbers(found) == pytest.approx([each[0] + each[1] - each[2], *each], abs=1e-6)
    assert found.width_y is None


def test_widths():
    x, y = normal(50, 3), normal(50, 1, seed=1)
    d = torch.cdist(x, x).square().mean().sqrt()
    found = renyi_information(x, y, width=0.3, width_y=2.5, permutations=0)
    assert float(found.width_x) == pytest.approx(0.3 * float(d))
    assert float(found.width_y) == 2.5
    by_hand = renyi_information(x, y, width_x=float(found.width_x), width_y=2.5, permutations=0)
    assert numbers(by_hand) == pytest.approx(numbers(found), abs=1e-12)
    a, b = kernel(x.numpy(), 0.3 * float(d)), kernel(y.numpy(), 2.5)
    assert float(found.joint_entropy) == pytest.approx(matrix_entropy(a * b, 1.01), abs=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_clusters_far_apart_are_a_discrete_law(alpha):
    """The kernels are then those of the labels, and S is Rényi's entropy of the frequencies."""
    a = torch.tensor([0] * 5 + [1] * 20 + [2] * 15)
    b = torch.tensor([0, 1, 2, 3] * 10)
    x, y = a[:, None] * 1e3, torch.eye(4)[b] * 1e3
    joint = np.unique(torch.stack([a, b]).numpy(), axis=1, return_counts=True)[1] / 40
    expected = [entropy(np.bincount(a) / 40, alpha), math.log(4), entropy(joint, alpha)]
    for other in (y, b, 7 - 3 * b):
        found = renyi_information(x, other, alpha=alpha, width_x=1.0, permutations=0, **_unit_width(other))
        assert numbers(found)[1:] == pytest.approx(expected, abs=1e-9)
        assert numbers(found)[0] == pytest.approx(expected[0] + expected[1] - expected[2], abs=1e-9)


def _unit_width(y: torch.Tensor) -> dict[str, float]:
    return {"width_y": 1.0} if y.is_floating_point() else {}


@pytest.mark.parametrize("alpha", ALPHAS)
def test_known_eigenvalues(alpha):
    # corners of a simplex: 1 + (n - 1) k once, 1 - k the other times
    n, sigma = 12, 0.7
    k = math.exp(-1 / (2 * sigma**2))
    eigenvalues = np.array([1 + (n - 1) * k] + [1 - k] * (n - 1)) / n
    simplex = torch.eye(n, dtype=torch.float64) / math.sqrt(2)
    found = renyi_information(simplex, simplex, alpha=alpha, width_x=sigma, width_y=sigma, permutations=0)
    assert float(found.entropy_x) == pytest.approx(entropy(eigenvalues, alpha), abs=1e-9)
    # a pair
    found = renyi_information(torch.tensor([[0.0], [3.0]]), torch.tensor([0, 1]), alpha=alpha, width_x=2.0)
    k = math.exp(-9 / 8)
    assert float(found.entropy_x) == pytest.approx(entropy(np.array([1 + k, 1 - k]) / 2, alpha), abs=1e-9)
    # a ring of equal steps: a circulant matrix
    turns = 2 * math.pi * torch.arange(16, dtype=torch.float64) / 16
    ring = torch.stack([turns.cos(), turns.sin()], 1)
    found = renyi_information(ring, ring, alpha=alpha, width_x=0.8, permutations=0)
    row = np.exp(-((ring - ring[0]).square().sum(1).numpy()) / (2 * 0.8**2))
    assert float(found.entropy_x) == pytest.approx(entropy(np.fft.fft(row).real.clip(0) / 16, alpha), abs=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_all_apart_and_all_together(alpha):
    n = 40
    apart = normal(n, 3) * 1e4
    found = renyi_information(apart, apart, alpha=alpha, width_x=1.0, width_y=1.0)
    assert numbers(found) == pytest.approx([math.log(n)] * 4, abs=1e-6)  # rounding of 1e4 widths
    assert float(found.null_mean) == pytest.approx(math.log(n), abs=1e-6)  # which says nothing of the variables
    assert float(found.null_std) == pytest.approx(0.0, abs=1e-6)
    # constant: S = 0 and no information, whatever the other variable; 0.1 has no exact mean in
    # binary
    constant = torch.full((n, 2), 0.1, dtype=torch.float64)
    assert float((constant - constant.mean(0)).abs().amax()) > 0
    for other in (apart, constant, torch.arange(n) % 3, torch.zeros(n, dtype=torch.int64)):
        found = renyi_information(constant, other, alpha=alpha)
        assert float(found.entropy_x) == pytest.approx(0.0, abs=1e-9)
        assert float(found.information) == pytest.approx(0.0, abs=1e-9)
        assert float(found.width_x) == 0.0
    assert numbers(renyi_information(torch.ones(1, 2), torch.ones(1, 5), alpha=alpha)) == [0.0] * 4
    assert numbers(renyi_information(torch.ones(1, 2), torch.tensor([3]), alpha=alpha)) == [0.0] * 4


def test_a_constant_column_adds_nothing_and_duplicates_are_right():
    x, y = normal(50, 2), torch.arange(50) % 3
    expected = pytest.approx(numbers(renyi_information(x, y)), abs=1e-9)
    assert numbers(renyi_information(torch.cat([x, torch.full((50, 1), 0.1)], 1), y)) == expected
    twice = renyi_information(x.repeat(2, 1), y.repeat(2))  # eigenvalues of k (x) ones / 2: the same, and zeros
    assert numbers(twice) == expected
    tiny = renyi_information(x * 1e-200, y)  # squares underflow
    assert numbers(tiny) == expected
    assert numbers(renyi_information(x * 1e90, y)) == expected


@pytest.mark.parametrize("alpha", [1.01, 2.0])
def test_symmetries(alpha):
    x, y, labels = normal(80, 4), normal(80, 2, seed=1), torch.arange(80) % 3
    y = y + x[:, :2]
    pair = renyi_information(x, y, alpha=alpha, permutations=0)
    of_labels = numbers(renyi_information(x, labels, alpha=alpha, permutations=0))
    swapped = renyi_information(y, x, alpha=alpha, permutations=0)
    assert float(swapped.information) == pytest.approx(float(pair.information), abs=1e-9)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(2))
    rotation = torch.linalg.qr(normal(4, 4, seed=3))[0]
    for moved in (x[order], (x @ rotation + 3.0)[order], (-5.0 * x)[order]):
        again = renyi_information(moved, y[order], alpha=alpha, permutations=0)
        assert numbers(again) == pytest.approx(numbers(pair), abs=1e-9)
        again = renyi_information(moved, labels[order], alpha=alpha, permutations=0)
        assert numbers(again) == pytest.approx(of_labels, abs=1e-9)
    renamed = renyi_information(x, 7 - 5 * labels, alpha=alpha, permutations=0)
    assert numbers(renamed) == pytest.approx(of_labels, abs=1e-9)


def test_labels_are_points_far_apart():
    x, labels = normal(90, 3), torch.tensor([0, 2, 2, 5, 5, 5] * 15)
    far = torch.nn.functional.one_hot(labels).double() * 100
    for alpha in (1.01, 2.0):
        a = renyi_information(x, labels, alpha=alpha, permutations=5)
        b = renyi_information(x, far, alpha=alpha, width_y=1.0, permutations=5)
        assert numbers(a) == pytest.approx(numbers(b), abs=1e-9)
        assert float(a.null_mean) == pytest.approx(float(b.null_mean), abs=1e-9)
        assert float(a.null_std) == pytest.approx(float(b.null_std), abs=1e-9)


def test_continuous_in_alpha():
    """Near 1 it is von Neumann's entropy, and at 2 the way without eigenvalues is the limit."""
    x, y = normal(60, 2), normal(60, 2, seed=1)
    for at in (1.0, 2.0):
        expected = numbers(renyi_information(x, y, alpha=at, permutations=3))
        for near in (at - 1e-6, at + 1e-6, at + 1e-12):
            assert numbers(renyi_information(x, y, alpha=near, permutations=3)) == pytest.approx(expected, abs=1e-5)
    null = [float(renyi_information(x, y, alpha=a, permutations=3).null_mean) for a in (2.0, 2.0 + 1e-9)]
    assert null[0] == pytest.approx(null[1], abs=1e-6)


def test_order_in_alpha_and_what_the_joint_lies_between():
    x, y = normal(60, 2), torch.arange(60) % 4
    falling = [renyi_information(x, y, alpha=a, permutations=0) for a in ALPHAS]
    for larger, smaller in itertools.pairwise(falling):
        assert float(larger.entropy_x) >= float(smaller.entropy_x)
    for found in falling:
        _, s_x, s_y, joint = numbers(found)
        assert max(s_x, s_y) - 1e-9 <= joint <= math.log(60)  # so I <= min(S(A), S(B)), the ceiling of I(T;Y)


def test_it_can_be_negative_and_stays_so():
    """On a star, (0, j) and (j, 0), collision entropies are not subadditive; Shannon gives ln 2."""
    m = 16
    a, b = torch.tensor([0] * m + list(range(1, m + 1))), torch.tensor([*range(1, m + 1)] + [0] * m)
    found = renyi_information(a[:, None] * 1e3, b, alpha=2.0, width_x=1.0, permutations=0)
    single = -math.log(1 / 4 + m / (2 * m) ** 2)
    assert float(found.information) == pytest.approx(2 * single - math.log(2 * m), abs=1e-9)
    assert float(found.information) < -0.4
    shannon = renyi_information(a[:, None] * 1e3, b, alpha=1.0, width_x=1.0, permutations=0)
    assert float(shannon.information) == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize("alpha", [1.01, 2.0])
def test_independent_variables_read_what_their_null_reads(alpha):
    nulls = []
    for labelled in (False, True):
        scores = []
        for seed in range(12):
            x, y = normal(100, 3, seed=seed), normal(100, 2, seed=100 + seed)
            found = renyi_information(x, (y[:, 0] > 0).long() if labelled else y, alpha=alpha, permutations=20)
            scores.append((found.information - found.null_mean) / found.null_std)
            nulls.append(float(found.null_mean))
        z = torch.stack(scores)
        # t of 19 degrees of freedom times sqrt(1 + 1/20): a standard deviation of 1.08
        assert abs(float(z.mean())) < 4 * 1.08 / math.sqrt(12)
        assert 0.5 < float(z.std()) < 2.0
        related = renyi_information(x, (x[:, 0] > 0).long() if labelled else x[:, :2] + 0.1 * y, alpha=alpha)
        assert float(related.information) > float(related.null_mean + 5 * related.null_std)
    if alpha == 1.01:
        assert min(nulls) > 0.02  # nothing, and yet not 0


def test_the_null_of_independent_variables_is_set_by_the_width():
    x, y = normal(200, 5), normal(200, 5, seed=1)
    null = [float(renyi_information(x, y, width=w, permutations=2).null_mean) for w in (0.02, 0.3, 1.0, 20.0)]
    assert null[0] == pytest.approx(math.log(200), rel=0.01)
    assert null[0] > null[1] > null[2] > null[3]
    assert null[3] < 0.01


def test_replicas_are_measured_one_by_one():
    x, y, labels = (
        normal(3, 70, 2),
        normal(3, 70, 4, seed=1),
        torch.arange(210).view(3, 70) % torch.tensor([[2], [3], [4]]),
    )
    for alpha in (1.01, 2.0):
        for other in (y, labels):
            together = renyi_information(x, other, alpha=alpha, points=50)
            assert together.information.shape == (3,)
            assert together.n == 50
            for r in range(3):
                alone = renyi_information(x[r], other[r], alpha=alpha, points=50)
                assert alone.information.shape == ()
                for name in ("information", "joint_entropy", "width_x", "null_mean", "null_std"):
                    assert float(getattr(together, name)[r]) == pytest.approx(float(getattr(alone, name)), rel=1e-12)


def test_subset_and_permutations_come_from_the_seed():
    x, y = normal(200, 2), normal(200, 2, seed=1)
    state = torch.get_rng_state()
    a, b, c = (renyi_information(x, y, points=60, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert (numbers(a), float(a.null_mean)) == (numbers(b), float(b.null_mean))
    assert numbers(a) != numbers(c)
    assert a.n == 60
    assert float(a.entropy_x) < math.log(60)
    assert renyi_information(x, y, points=500, permutations=0).n == 200


def test_order_two_in_chunks_and_in_little_memory():
    x, y = normal(150, 3), normal(150, 2, seed=1)
    expected = numbers(renyi_information(x, y, alpha=2.0, permutations=0))
    for chunk in (1, 7, 64, 1000):
        found = renyi_information(x, y, alpha=2.0, permutations=0, chunk=chunk)
        assert numbers(found) == pytest.approx(expected, abs=1e-12)
    n = 6000
    x = normal(n, 2)
    renyi_information(x[:500], torch.arange(500) % 2, alpha=2.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    renyi_information(x, x, alpha=2.0, permutations=0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; N^2 float64 is 281 000


def test_nothing_outside_is_touched():
    x = normal(40, 3, dtype=torch.float32).requires_grad_()
    copy = x.detach().clone()
    found = renyi_information(x, torch.arange(40) % 2)
    assert torch.equal(x.detach(), copy)
    assert not found.information.requires_grad


@pytest.mark.parametrize(
    ("x", "y", "options", "says"),
    [
        (torch.zeros(5), torch.zeros(5, 2), {}, r"shape \(5,\); expected \(N, D\)"),
        (torch.zeros(5, 2), torch.zeros(5), {}, r"shape \(5,\); expected \(N, D\)"),
        (torch.zeros(5, 2), torch.zeros(4, 2), {}, r"x has shape \(1, 5, 2\) and y \(1, 4, 2\); expected the same"),
        (torch.zeros(2, 5, 2), torch.zeros(5, 2), {}, "expected the same numbers of replicas and points"),
        (torch.zeros(5, 2), torch.zeros(4, dtype=torch.int64), {}, r"labels have shape \(4,\); expected \(5,\)"),
        (torch.zeros(5, 2), [0] * 5, {}, "a list; expected a tensor"),
        (torch.tensor([[math.nan]]), torch.zeros(1, 1), {}, "1 of the 1 values are NaN"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"alpha": 0.4}, "alpha=0.4; expected a finite number of at least 0.5"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"alpha": math.inf}, "alpha=inf"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"width": 0.0}, "width=0.0; expected a finite number above 0"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"width_x": -1.0}, "width_x=-1.0; expected a finite number above 0"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"width_y": math.nan}, "width_y=nan"),
        (torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64), {"width_y": 1.0}, "y are labels, whose kernel has no"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"points": -1}, "points=-1; expected 0, or an integer of at least 1"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"points": 5.0}, "points=5.0"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"permutations": 1}, "permutations=1; expected 0, or .* at least 2"),
        (torch.zeros(5, 2), torch.zeros(5, 2), {"chunk": 0}, "chunk=0; expected a number of rows"),
        (torch.eye(5), torch.zeros(5, 2), {"width_x": 1e-6}, "the width 1e-06 of the kernel of x is .* larger width"),
        (torch.eye(5), torch.zeros(5, 2), {"width": 1e-9}, "of the kernel of x is .* expected a larger width"),
    ],
)
def test_bad_input_is_named(x, y, options, says):
    with pytest.raises(InfoplaneError, match=f"renyi_information: .*{says}"):
        renyi_information(x, y, **options)


# --- the estimator


def reading(t: torch.Tensor, x: torch.Tensor | None, **more: object) -> Reading:
    return Reading("0", t, inputs=x, **more)


def test_estimator_gives_each_value_and_its_null():
    x, y = normal(2, 120, 4), torch.arange(120) % 3
    t = torch.tanh(x[..., :2] * 3)
    estimator = Renyi(points=80, permutations=4)
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.deferred) == ("renyi", False)
    found = estimator.measure(reading(t, x, seeds=(5, 6)), y)
    assert len(found) == 2
    kernel = "kernel of width 1 x RMS distance"
    for r, rows in enumerate(found):
        pair = renyi_information(x[r], t[r], points=80, permutations=4, seed=5 + r)
        labelled = renyi_information(t[r], y, points=80, permutations=4, seed=5 + r)
        assert [(e.quantity, e.side, e.channel) for e in rows] == [
            ("I(X;T)", "", kernel),
            ("I(X;T)", "null", kernel),
            ("I(T;Y)", "", kernel),
            ("I(T;Y)", "null", kernel),
        ]
        values = [of for result in (pair, labelled) for of in (result.information, result.null_mean)]
        assert [e.value for e in rows] == [float(v) for v in values]
        errors = [float(result.null_std) / 2 for result in (pair, labelled)]
        assert [e.stderr for e in rows[1::2]] == pytest.approx(errors)
        assert all(math.isnan(e.stderr) for e in rows[::2])
        assert [e.ceiling for e in rows] == pytest.approx([math.log(80)] * 2 + [float(labelled.entropy_y)] * 2)
        for e in rows:
            assert (e.standing, e.law, e.n) == ("estimate", POINTS, 80)
            assert e.params == "alpha=1.01,width=1,points=80,permutations=4"
            assert "kernel-width" in e.warnings
            assert "sampled-codes" not in e.warnings
        assert max(e.value for e in rows[2:]) <= rows[2].ceiling
    assert [len(rows) for rows in estimator.measure(reading(t, x), None)] == [2, 2]
    alone = Renyi(points=80, permutations=0).measure(reading(t, x), y)[0]
    assert [e.channel for e in alone] == [kernel, kernel]


def test_layers_of_a_reading_share_points_and_permutations():
    x = normal(1, 100, 3)
    rows = [Renyi(points=50).measure(Reading(name, x, inputs=x, seeds=(3,)), None)[0] for name in ("1", "2")]
    assert [e.value for e in rows[0]] == [e.value for e in rows[1]]


def test_downstream_of_noise():
    x, y = normal(1, 60, 3), torch.arange(60) % 2
    sent = torch.tanh(x)
    codes = sent + 0.1 * normal(1, 60, 3, seed=1)
    rows = Renyi(permutations=2).measure(reading(codes, x, clean=sent), y)[0]
    expected = renyi_information(x, codes, permutations=0).information
    assert rows[0].value == pytest.approx(float(expected), abs=1e-12)
    assert all(e.path == "sampled" and "sampled-codes" in e.warnings for e in rows)
    # at the channel itself, its own input and output are compared, under its own name
    noise = Noise("echo", sent, quantity="I(Z2;Z1)")
    for inputs in (x, None):
        rows = Renyi(permutations=2).measure(reading(codes, inputs, clean=sent, noise=noise), y)[0]
        assert [e.quantity for e in rows] == ["I(Z2;Z1)"] * 2 + ["I(T;Y)"] * 2
        assert rows[0].value == pytest.approx(float(renyi_information(sent, codes, permutations=0).information[0]))
        assert {e.channel for e in rows} == {"kernel of width 1 x RMS distance"}
        assert [(e.side, e.path) for e in rows] == [("", ""), ("null", ""), ("", "sampled"), ("null", "sampled")]
        assert ["sampled-codes" in e.warnings for e in rows] == [False, False, True, True]


def test_without_inputs_there_is_nothing_to_compare_with():
    with pytest.raises(InfoplaneError, match=r"Renyi, layer '0': the reading has no inputs.*give the probe's inputs"):
        Renyi().measure(reading(normal(1, 20, 2), None), torch.arange(20) % 2)


def test_at_null():
    x = normal(1, 100, 3)
    related, independent = x[..., :2] + 0.1, normal(1, 100, 2, seed=9)
    y = (x[0, :, 0] > 0).long()

    def warned(estimator: Renyi, t: torch.Tensor, labels: torch.Tensor) -> list[bool]:
        return ["at-null" in e.warnings for e in estimator.measure(reading(t, x), labels)[0]]

    assert warned(Renyi(), related, y) == [False, False, False, False]
    assert warned(Renyi(), independent, torch.arange(100) % 2) == [True, False, True, False]
    # layers without information, and a kernel so narrow that everything gives ln N
    assert warned(Renyi(), torch.full((1, 100, 2), 0.1), y) == [True, False, True, False]
    assert warned(Renyi(), related, torch.zeros(100, dtype=torch.int64)) == [False, False, True, False]
    assert warned(Renyi(width=1e-3), related, y)[0]
    assert warned(Renyi(permutations=0), independent, y) == [False, False]


def test_options_are_checked():
    for options, says in (
        ({"alpha": 0.0}, "Renyi: alpha=0.0; expected a finite number of at least 0.5"),
        ({"alpha": True}, "Renyi: alpha=True"),
        ({"width": -1.0}, "Renyi: width=-1.0; expected a finite number above 0"),
        ({"points": -5}, "Renyi: points=-5; expected 0, or an integer of at least 1"),
        ({"permutations": 1}, "Renyi: permutations=1; expected 0, or an integer of at least 2"),
    ):
        with pytest.raises(InfoplaneError, match=says):
            Renyi(**options)
    with pytest.raises(InfoplaneError, match="Renyi, layer '0': labels have shape"):
        Renyi().measure(reading(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2)), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InfoplaneError, match=r"Renyi, layer '0', inputs: .*int64"):
        Renyi().measure(reading(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2, dtype=torch.int64)), None)
