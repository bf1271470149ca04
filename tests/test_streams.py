"""Seeds are made of words, and a replica draws what it draws alone."""

from __future__ import annotations

import doctest

import torch

from infoplane import streams
from infoplane.streams import Streams, derive


def test_streams_draw_for_a_replica_what_it_draws_alone():
    many = Streams([derive("x", s) for s in range(3)])
    normal, orders = many.normal(5, 2), many.permutations(9)
    for r in range(3):
        alone = Streams([derive("x", r)])
        assert torch.equal(alone.normal(5, 2)[0], normal[r])
        assert torch.equal(alone.permutations(9)[0], orders[r])
    assert len({tuple(o.tolist()) for o in orders}) == 3


def test_seeds_are_the_same_for_ever():
    """A run that is repeated, or resumed, draws what it drew: a seed must not change with the version."""
    assert derive("weights", 0, "hidden1") == 4813220508953749068
    seeds = {derive("epoch", s, e) for s in range(30) for e in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_examples_of_the_docstrings_run():
    found = doctest.testmod(streams)
    assert found.failed == 0
    assert found.attempted >= 2
