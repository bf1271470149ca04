"""The margin of a set of codes to every ceiling, against brute force."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infoplane.channels.ceilings import MARGIN, margin
from tests.channels.certified import LOG2, RICH, eights, entropy, judge, signs, tied
from tests.drawn import normal


def brute(codes: Tensor, rates: list[float]) -> float:
    """Find the largest R_A / H(codes_A) subset by subset, with entropies from dictionaries."""
    largest = 0.0
    rows = codes.tolist()
    for size in range(1, len(rates) + 1):
        for subset in itertools.combinations(range(len(rates)), size):
            counts: dict[tuple[float, ...], int] = {}
            for row in rows:
                key = tuple(row[k] for k in subset)
                counts[key] = counts.get(key, 0) + 1
            h = -sum(c / len(rows) * math.log(c / len(rows)) for c in counts.values())
            part = sum(rates[k] for k in subset)
            largest = max(largest, part / h if h > 1e-12 else math.inf if part > 0 else 0.0)
    return largest


def random_codes(seed: int) -> tuple[Tensor, list[float]]:
    """Draw columns of few or many values, some functions of others, with rates near the margin."""
    random = np.random.default_rng(seed)
    n, width = int(random.integers(8, 80)), int(random.integers(1, 7))
    columns: list[np.ndarray] = []
    for _ in range(width):
        kind = random.integers(4)
        if kind == 0 and columns:
            columns.append(random.permutation(n)[columns[random.integers(len(columns))].astype(int) % n])
        elif kind == 1 and len(columns) > 1:
            columns.append((columns[-1] + columns[-2]) % 5)
        else:
            columns.append(random.integers(0, random.choice([1, 2, 3, 8, 50, 1000]), n))
    rates = random.exponential(random.choice([0.05, 0.2, 0.5]), width)
    return torch.as_tensor(np.stack(columns, 1).astype(float)), rates.tolist()


@pytest.mark.parametrize("block", range(5))
def test_the_margin_is_never_found_to_hold_where_it_does_not(block: int) -> None:
    decided = {True: 0, False: 0}
    for seed in range(80 * block, 80 * (block + 1)):
        codes, rates = random_codes(seed)
        largest, exhaustive = margin(codes, rates, True)
        truth = brute(codes, rates)
        assert exhaustive
        assert (largest <= MARGIN) == (truth <= MARGIN), (seed, largest, truth)
        assert largest <= truth + 1e-9, (seed, largest, truth)
        decided[truth <= MARGIN] += 1
    assert min(decided.values()) >= 5


def test_a_margin_that_only_a_subset_of_three_breaks() -> None:
    """Three coordinates of 64 values depend on each other; a fourth one lifts the whole."""
    codes = torch.cat([tied(), RICH], 1)
    rates = [0.9, 0.9, 0.9, 0.1, 0.1]
    assert brute(codes, rates) == pytest.approx(2.7 / math.log(64))
    assert margin(codes, rates, True) == (pytest.approx(2.7 / math.log(64)), True)


def test_more_poor_coordinates_than_can_be_checked_are_said() -> None:
    codes = eights(40)
    largest, exhaustive = margin(codes, [0.1] * 40, True)
    assert not exhaustive
    assert largest > MARGIN
    assert margin(codes, [0.02] * 40, True)[1]


def test_a_mixing_layer_is_held_against_its_poorest_coordinate() -> None:
    codes = torch.stack([signs(1024), normal(1024, seed=0)], 1)
    assert margin(codes, [0.1, 0.1], False) == (pytest.approx(0.2 / LOG2), True)
    assert margin(torch.zeros(10, 1), [0.1], False) == (math.inf, True)


def test_no_coordinates_and_no_rate() -> None:
    assert margin(torch.zeros(10, 0), [], True) == (0.0, True)
    assert margin(torch.zeros(10, 2), [0.0, 0.0], True)[0] == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_entropies_are_those_of_a_dictionary(seed: int) -> None:
    codes, _ = random_codes(seed)
    codes[codes == 0] = -0.0
    codes[: len(codes) // 2] += 0.0  # zeros of both signs are one value

    def slow(rows: list[Any]) -> float:
        p = np.unique(np.array(rows) + 0.0, axis=0, return_counts=True)[1] / len(rows)
        return entropy(p)

    assert judge(codes, 0.5).code_entropy == pytest.approx(slow(codes.tolist()))
    for column in codes.unbind(1):
        h = slow(column.tolist())
        assert margin(column.unsqueeze(1), [1e-3], True)[0] == pytest.approx(1e-3 / h if h > 1e-12 else math.inf)
