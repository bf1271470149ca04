"""Traps for a wrong "exact": layers that hold less than their rate, each with a sound twin."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infoplane.channels.evidence import CELLS
from tests.channels.certified import DOUBLE, LOG2, evidence, judge, seen_at, signs, tells_apart, uniform, with_bank
from tests.drawn import generator, normal


@pytest.mark.parametrize("rate", [1.0, 2.0, 2.6])
def test_half_of_a_relu_is_zero(rate: float) -> None:
    """Zeros repeat in several terms running: of R = 2, 1e3 cells show 1.80 nats and 1e4 1.87."""
    whole = normal(4096, seed=0)
    f = whole.relu()
    quantiles = f[f > 0].sort().values[:: int((f > 0).sum()) // 100]
    q = np.append(
        float((f == 0).double().mean()), np.full(len(quantiles), float((f > 0).double().mean()) / len(quantiles))
    )
    truth = seen_at(CELLS, np.append(0.0, quantiles), math.exp(-rate), q)
    tells_apart(evidence(f, math.exp(-rate)), truth, evidence(whole, math.exp(-rate)))


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_most_codes_take_two_values(share: float) -> None:
    rest, n = normal(64, seed=1).numpy(), 4096
    many = normal(n, seed=3)
    f = torch.where(uniform(n, seed=0) < share, signs(n, seed=2), many)
    two = float((f.abs() == 1).double().mean())
    q = np.append([two / 2, two / 2], np.full(64, (1 - two) / 64))
    rate = 0.58 * (-two * math.log(two / 2) - (1 - two) * math.log(1 / n))
    truth = seen_at(CELLS, np.append([-1.0, 1.0], rest), math.exp(-rate), q)
    tells_apart(evidence(f, math.exp(-rate)), truth, evidence(many, math.exp(-rate)))


@pytest.mark.parametrize("zeros", [0.9, 0.99])
def test_sparse_coordinates_seen_from_another_origin(zeros: float) -> None:
    """z -> z + v turns f into f + v (1 - s), the same channel, which must get the same verdict."""
    s = uniform(256, seed=0, low=0.05, high=0.6)
    dense = normal(256, seed=2)
    f = torch.where(uniform(256, seed=1) < zeros, 0.0, dense)
    truth = seen_at(1000, f, s)
    c = tells_apart(evidence(f, s), truth, evidence(dense, s))
    moved = tells_apart(evidence(f + (1 - s), s), truth, evidence(dense + (1 - s), s))
    assert moved.standing == c.standing


@pytest.mark.parametrize(("tiny", "share"), [(1e-4, 0.1), (1e-6, 0.05)])
def test_a_few_inputs_with_a_tiny_scale(tiny: float, share: float) -> None:
    """Tiny scales bring most of the rate, in digits finer than the cells that count codes."""
    f, s = normal(128, seed=0), torch.where(uniform(128, seed=1) < share, tiny, 0.9)
    truth = seen_at(CELLS, f, s, points=4 * CELLS)
    tells_apart(evidence(f, s), truth, evidence(f, 0.9))


@pytest.mark.parametrize("step", [0.5, 0.01])
def test_a_combination_of_coordinates_with_two_values(step: float) -> None:
    """With equal constant scales this combination is an Echo channel that holds at most log 2."""
    u, s = normal(4096, seed=0), 0.2
    f = torch.stack([u, step * signs(4096) - u], 1)
    twin = torch.stack([u, normal(4096, seed=1) - u], 1)  # a combination that takes a value per input
    tells_apart(evidence(f, s), LOG2 - math.log(s), evidence(twin, s))


def test_two_coordinates_that_differ_for_few_inputs_only() -> None:
    u, s, few = normal(4096, seed=0), 0.2, 4
    f = torch.stack([u, u], 1)
    f[:few, 1] = normal(few, seed=1)
    twin = torch.stack([u, normal(4096, seed=1)], 1)
    seldom = few / 4096
    bound = -(1 - seldom) * math.log(1 - seldom) + seldom * math.log(4096) - math.log(s)
    tells_apart(evidence(f, s), bound, evidence(twin, s))


def test_an_axis_that_a_rotation_leaves_alone() -> None:
    """With S = Q s the code takes two values along the axis of Q, though no coordinate shows it."""
    generic = torch.linalg.qr(normal(3, 3, seed=3))[0]
    angle = 2.0
    turn = torch.tensor(
        [[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]], dtype=DOUBLE
    )
    f = torch.cat([signs(4096).unsqueeze(1), normal(4096, 2, seed=0)], 1) @ generic.T
    trap = evidence(f, 0.3, sides=generic @ turn @ generic.T)
    twin = normal(4096, 3, seed=0) @ generic.T  # no axis has few values, and the scales do not mix
    tells_apart(trap, LOG2 - 2 * math.log(0.3), evidence(twin, 0.3))


def gaussian_in_cells(f: Tensor, s: Tensor) -> float:
    """Compute I(Z;X) for Gaussian codes and constant scales; cells add the variance d^2 / 12."""
    covariance = torch.cov(f.T) / (1 - torch.outer(s, s))
    cell = torch.diag((8 * covariance.diagonal().sqrt() / CELLS).square() / 12)
    return float(torch.logdet(covariance + cell) - torch.logdet(s.diag() @ covariance @ s.diag() + cell)) / 2


@pytest.mark.parametrize("step", [0.002, 0.01, 0.02, 0.05, 0.1])
def test_nearly_equal_scales_of_equal_coordinates(step: float) -> None:
    """z1 - z2 is smaller than a cell: of R = 1.83 at s = .4 and .402, 1e3 cells show 1.09."""
    f, s = normal(4096, 1, seed=0).expand(4096, 2), torch.tensor([0.4, 0.4 + step], dtype=DOUBLE)
    truth = gaussian_in_cells(f, s)
    assert step > 0.002 or truth == pytest.approx(1.09, abs=0.01)
    tells_apart(evidence(f, s), truth, evidence(normal(4096, 2, seed=0), s))


@pytest.mark.parametrize(
    ("spread", "s"),
    [
        (0.003, 0.2),
        (0.01, 0.2),
        (0.015, 0.2),
        (0.02, 0.2),
        (0.03, 0.2),
        (0.05, 0.2),
        (0.1, 0.2),
        (0.3, 0.2),
        (0.015, 0.4),
        (0.02, 0.4),
        (0.03, 0.4),
    ],
)
def test_nearly_equal_coordinates(spread: float, s: float) -> None:
    """With f2 = f1 + .02 u the difference spans about ten cells, which hide some of its rate."""
    u = normal(4096, 2, seed=0)
    f = torch.stack([u[:, 0], u[:, 0] + spread * u[:, 1]], 1)
    apart = torch.stack([u[:, 0], u[:, 0] + u[:, 1]], 1)
    c = tells_apart(evidence(f, s), gaussian_in_cells(f, torch.full((2,), s, dtype=DOUBLE)), evidence(apart, s))
    if spread > 0.1:
        assert c.standing == "exact"


@pytest.mark.parametrize(
    ("spread", "s"),
    [
        (0.003, 0.1),
        (0.01, 0.1),
        (0.1, 0.1),
        (0.003, 0.2),
        (0.01, 0.2),
        (0.03, 0.2),
        (0.1, 0.2),
        (0.3, 0.2),
    ],
)
def test_a_combination_with_two_clusters(spread: float, s: float) -> None:
    u, pair = normal(4096, seed=0), signs(4096) + spread * uniform(4096, seed=9, low=-1)
    truth = seen_at(CELLS, pair[:128], s, points=4 * CELLS) - math.log(s)
    twin = torch.stack([u, normal(4096, seed=9) - u], 1)  # one cluster, as wide as the distance of the two
    tells_apart(evidence(torch.stack([u, pair - u], 1), s), truth, evidence(twin, s))


@pytest.mark.parametrize(
    ("width", "count", "s"),
    [
        (2, 3, 0.15),
        (2, 5, 0.15),
        (2, 6, 0.15),
        (2, 8, 0.15),
        (2, 8, 0.1),
        (2, 14, 0.1),
        (2, 30, 0.1),
        (2, 60, 0.1),
        (3, 3, 0.22),
        (3, 4, 0.22),
        (3, 10, 0.22),
    ],
)
def test_a_combination_with_a_few_values(width: int, count: int, s: float) -> None:
    """The sum of two or three coordinates takes few values, and passes at most their log."""
    values, others = normal(count, seed=2), normal(4096, width - 1, seed=0)
    pick = torch.randint(count, (4096,), generator=generator(1))

    def layer(total: Tensor) -> Tensor:
        return torch.cat([others, (total - others.sum(1)).unsqueeze(1)], 1)

    truth = seen_at(CELLS, values, s, points=3 * CELLS) - (width - 1) * math.log(s)
    tells_apart(evidence(layer(values[pick]), s), truth, evidence(layer(normal(4096, seed=2)), s))


@pytest.mark.parametrize("s", [0.3, 0.45])
@pytest.mark.parametrize("kind", ["two values", "seldom other than 0"])
def test_a_combination_of_four_coordinates(kind: str, s: float) -> None:
    """At s = .3 there are too many flats to search, so no four coordinates are exact."""
    u = normal(4096, 3, seed=0)
    if kind == "two values":
        last, most = signs(4096), LOG2
    else:
        seldom = torch.arange(4096) < 80
        last, share = torch.where(seldom, normal(4096, seed=1), 0.0), 80 / 4096
        most = -(1 - share) * math.log(1 - share) + share * math.log(4096)

    def layer(total: Tensor) -> Tensor:
        return torch.cat([u, total.unsqueeze(1) - u.sum(1, keepdim=True)], 1)

    tells_apart(evidence(layer(last), s), most - 3 * math.log(s), evidence(layer(normal(4096, seed=1)), 0.45))


def test_a_small_signal_on_a_large_mean_is_not_void() -> None:
    """f = 100 + .0005 u has 130 values even in float32, and log 1/s of information about u."""
    signal = torch.stack([uniform(4096, seed=0, low=-5e-4, high=5e-4), normal(4096, seed=1)], 1)
    f = (signal + torch.tensor([100.0, 0.0])).float()
    assert len(f[:, 0].unique()) > 100
    tells_apart(evidence(f, 0.3), -2 * math.log(0.3), evidence(signal.float(), 0.3))


@pytest.mark.parametrize("grown", [1.02, 1.05])
def test_a_bank_that_is_slightly_stale(grown: float) -> None:
    """The shift is under 5 standard errors, but ten thousand times the claimed error."""
    f, s = normal(4096, seed=0), 0.5
    bank = with_bank(f.unsqueeze(1), s)
    variance = float(f.var(correction=0))
    noise = s * s * float(bank.covariance)
    truth = 0.5 * math.log((grown**2 * variance + noise) / noise)
    tells_apart(evidence(grown * f, s, bank=bank), truth, evidence(f, s, bank=bank))


def test_codes_of_one_pass_are_no_ceiling_where_they_change_from_pass_to_pass() -> None:
    """Codes change from pass to pass: log 2 bounds what one pass shows, but not I(Z;X)."""
    f, s = signs(4096), 0.1
    assert judge(f, s).value == pytest.approx(LOG2)
    moving = judge(f, s, repeat=0.5)
    assert moving.value == pytest.approx(-math.log(s))
    assert moving.standing == "upper"
    assert "batch-dependent" in moving.warnings
    still = judge(normal(4096, seed=0), s, repeat=0.0)
    assert (still.standing, still.value) == ("exact", pytest.approx(-math.log(s)))
