"""The information bottleneck curve against closed forms, its own bounds, and exhaustive search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import rel_entr

import infoplane as ip
from infoplane.errors import InfoplaneError
from infoplane.theory.bottleneck import binary_symmetric_curve, information_curve, partition_information

LN2 = math.log(2)


def random_joint(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(math.prod(shape), 0.5)).reshape(shape)


def information(joint: np.ndarray) -> float:
    product = joint.sum(0) * joint.sum(1, keepdims=True)
    return float(rel_entr(joint, product).sum())


@pytest.mark.parametrize("flip", [0.01, 0.1, 0.3])
def test_a_binary_symmetric_channel_is_mrs_gerbers(flip):
    curve = information_curve([[(1 - flip) / 2, flip / 2], [flip / 2, (1 - flip) / 2]])
    truth = binary_symmetric_curve(flip, curve.input_information)
    np.testing.assert_allclose(curve.label_information, truth, atol=1e-9, rtol=0)
    rate = np.linspace(0, LN2, 101)
    truth = binary_symmetric_curve(flip, rate)
    assert (curve.reached(rate) <= truth + 1e-9).all()
    assert (truth <= curve.bound(rate) + 1e-9).all()
    assert (curve.bound(rate) - curve.reached(rate)).max() < 5e-3
    assert len(np.unique(truth.round(6))) == 101


def test_mrs_gerbers_curve_is_that_of_binary_t():
    """For T = X flipped with probability e, both numbers are computed by hand."""
    for e in (0.0, 0.05, 0.2, 0.4, 0.5):
        t_given_x = np.array([[1 - e, e], [e, 1 - e]])
        y_given_x = np.array([[0.9, 0.1], [0.1, 0.9]])
        of_t = t_given_x.T / 2 @ y_given_x
        assert float(binary_symmetric_curve(0.1, information(t_given_x / 2))) == pytest.approx(
            information(of_t), abs=1e-12
        )


@pytest.mark.parametrize("p_y", [(0.5, 0.5), (0.2, 0.3, 0.5)])
def test_hard_labels_have_a_straight_line(p_y):
    joint = np.repeat(np.diag(p_y), 3, axis=0) / 3
    curve = information_curve(joint)
    h = -sum(p * math.log(p) for p in p_y)
    assert curve.input_information[0] == pytest.approx(h, abs=1e-12)
    rate = np.linspace(0, 2, 41)
    np.testing.assert_allclose(curve.reached(rate), np.minimum(rate, h), atol=1e-6)
    if len(p_y) == 2:
        np.testing.assert_allclose(curve.bound(rate), np.minimum(rate, h), atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 2), (6, 3)])
def test_ends_slope_and_concavity(shape):
    joint = random_joint(shape)
    curve = information_curve(joint, np.geomspace(1, 300, 400))
    x, y, beta = curve.input_information, curve.label_information, curve.beta
    assert (x[-1], y[-1], beta[0], beta[-1]) == (0, 0, math.inf, 0)
    p_x = joint.sum(1)
    assert x[0] == pytest.approx(float(-(p_x * np.log(p_x)).sum()), abs=1e-12)
    assert y[0] == pytest.approx(information(joint), abs=1e-12)
    assert (np.diff(x) < 1e-9).all()
    # The slope of a chord lies between the slopes at its ends, up to 2 gaps over its length.
    apart = -np.diff(x[1:-1]) > 1e-4
    chord = (np.diff(y[1:-1]) / np.where(apart, np.diff(x[1:-1]), 1))[apart]
    assert apart.sum() > 100
    assert (chord > 1 / beta[1:-2][apart] - 2e-3).all()
    assert (chord < 1 / beta[2:-1][apart] + 2e-3).all()


def test_equal_rows_are_one_symbol_and_labels_that_never_occur_are_none():
    joint = random_joint((5, 2), 1)
    split = np.concatenate([joint * 0.3, joint * 0.7])
    split = np.insert(split, 1, 0.0, axis=1)
    split = np.insert(split, 4, 0.0, axis=0)
    betas = [1.5, 4.0, 40.0]
    one, other = information_curve(joint, betas), information_curve(split, betas)
    for name in ("input_information", "label_information", "gap"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_no_random_or_deterministic_t_is_above_the_bound_and_the_points_are_reached(seed):
    joint = random_joint((6, 2), seed)
    curve = information_curve(joint)
    assert np.nanmax(curve.gap) < 1e-5
    p_x, of_x = joint.sum(1), joint / joint.sum(1, keepdims=True)
    random = np.random.default_rng(seed)
    encoders = [random.dirichlet(np.full(k, a), 6) for k in (2, 3, 6) for a in (0.05, 0.3, 1) for _ in range(100)]
    encoders += [np.eye(3)[list(t)] for t in itertools.product(range(3), repeat=6)]
    x = np.array([information(p_x[:, None] * e) for e in encoders])
    y = np.array([information(e.T * p_x @ of_x) for e in encoders])
    assert (y <= curve.bound(x) + 1e-9).all()
    assert (curve.bound(x) - y).min() < 0.02  # and the bound is near some of them
    rate = np.linspace(0, curve.input_information[0], 300)
    room = curve.bound(rate) - curve.reached(rate)
    assert room.min() > -1e-9
    assert room.max() < 2e-3


def test_a_gap_that_cooling_leaves_is_seen_and_closed(monkeypatch):
    """From a single symbol, the iteration stays at (0, 0) until a trial finds a better one."""
    from infoplane.theory import bottleneck

    joint = random_joint((6, 2), 2)
    p_x, of_x = joint.sum(1), joint / joint.sum(1, keepdims=True)
    alone = np.ones(1), (p_x @ of_x)[None]
    monkeypatch.setattr(bottleneck, "TRIALS", 0)
    *_, (_, rate, _, gap) = bottleneck._settle(p_x, of_x, *alone, 20.0)
    assert rate == pytest.approx(0, abs=1e-12)
    truth = information_curve(joint, [20.0])
    better = truth.label_information[1] - truth.input_information[1] / 20
    assert gap >= better > 0.05
    monkeypatch.setattr(bottleneck, "TRIALS", 30)
    *_, (_, rate, label, gap) = bottleneck._settle(p_x, of_x, *alone, 20.0)
    assert label - rate / 20 == pytest.approx(better, abs=1e-5)
    assert gap < 1e-5


def test_bad_laws_and_betas_are_refused():
    for bad in (np.ones((2, 2)), [[0.5, 0.6], [0.2, -0.3]], [0.5, 0.5], [[math.nan, 1.0]], np.zeros((0, 2))):
        with pytest.raises(InfoplaneError, match="information_curve: got a joint law of shape"):
            information_curve(bad)
    for betas in ([0.5], [], [math.inf], [[2.0]]):
        with pytest.raises(InfoplaneError, match="expected \\(B,\\) finite numbers of at least 1"):
            information_curve(np.eye(2) / 2, betas)
    with pytest.raises(InfoplaneError, match="no bound is known for more than two labels"):
        information_curve(random_joint((4, 3)), [2.0]).bound(0.1)


# partitions


def test_a_partition_has_the_information_of_its_joint_table():
    random = np.random.default_rng(0)
    cells, p = random.integers(-3, 4, (2, 50)), random.random(50)
    x, y = partition_information(cells, p)
    for r in range(2):
        table = np.array([[((1 - p) * (cells[r] == c)).sum(), (p * (cells[r] == c)).sum()] for c in range(-3, 4)]) / 50
        q = table.sum(1)
        assert x[r] == pytest.approx(float(-(q * np.log(np.where(q > 0, q, 1))).sum()), abs=1e-12)
        assert y[r] == pytest.approx(information(table[q > 0]), abs=1e-12)
        alone = partition_information(cells[r], np.stack([1 - p, p], 1))
        assert (float(alone[0]), float(alone[1])) == (x[r], y[r])
    assert float(partition_information(np.zeros(50, int), p)[1]) == pytest.approx(0, abs=1e-12)


def test_with_hard_labels_a_partition_agrees_with_counting(seeded):
    import torch

    t = torch.randn(3, 200, 2, generator=seeded(0))
    labels = torch.randint(0, 2, (200,), generator=seeded(1))
    cells = ip.estimators.cell_numbers(t, bins=5, range=(-2.0, 2.0))
    counted = ip.estimators.binned_entropy(t, bins=5, range=(-2.0, 2.0), labels=labels)
    x, y = partition_information(cells, labels.double().numpy())
    np.testing.assert_allclose(x, counted.entropy.numpy(), atol=1e-12)
    np.testing.assert_allclose(y, counted.label_information.numpy(), atol=1e-12)
    pairs = set(
        zip(ip.estimators.cell_numbers(t[0], width=0.5), ip.estimators.cell_numbers(t, width=0.5)[0], strict=True)
    )
    assert len(pairs) == int(ip.estimators.binned_entropy(t[0], width=0.5).occupied) > 20
    with pytest.raises(InfoplaneError, match="cell_numbers: range='run' is known to a Recorder only"):
        ip.estimators.cell_numbers(t, bins=5, range="run")


def test_bad_partitions_are_refused():
    for cells, law in (([0.5, 1.0], [0.1, 0.2]), ([0, 1, 1], [0.1, 0.2]), (3, [0.1]), ([], [])):
        with pytest.raises(InfoplaneError, match="expected whole numbers"):
            partition_information(np.array(cells), law)
    for law in ([1.2, 0.0], [[0.5, 0.6], [0.5, 0.5]]):
        with pytest.raises(InfoplaneError, match="expected p"):
            partition_information([0, 1], law)
