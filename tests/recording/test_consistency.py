"""Numbers that contradict each other, or their own quantity, are marked, and no others."""

import math

import pytest
import torch
from torch import nn

import infoplane as ip
from infoplane.recording.consistency import impossible, mark
from infoplane.records import Estimate, Measurement

PLACE = {"run": "r", "epoch": 0, "step": 0, "replica": 0, "probe": "all"}


def row(layer, value, standing="estimate", **more):
    given = {"quantity": "I(X;T)", "channel": "bins of .1", "estimator": "binning", "ceiling": 5.0} | more
    return Measurement(layer=layer, value=value, standing=standing, **PLACE | given)


def codes(rows, chain=("a", "b", "c")):
    return [m.warnings for m in mark(rows, chain)]


def test_more_than_the_layer_below_is_marked():
    assert codes([row("a", 2.0), row("b", 1.9), row("c", 2.1)]) == [(), (), ("data-processing",)]
    assert codes([row("a", 2.0), row("c", 2.1)]) == [(), ("data-processing",)]  # the next one that there is
    assert codes([row("c", 2.1), row("a", 2.0)]) == [("data-processing",), ()]  # in whatever order they stand


@pytest.mark.parametrize(
    "other",
    [
        {"channel": "bins of .2"},
        {"estimator": "kde"},
        {"params": "width=.2"},
        {"quantity": "I(T;Y)"},
        {"stderr": 0.1},
        {"error": 0.3},
    ],
)
def test_only_what_is_comparable_is_compared(other):
    assert codes([row("a", 2.0), row("b", 2.2, **other)]) == [(), ()]


def test_layers_that_are_no_chain_are_not_compared():
    assert codes([row("a", 2.0), row("b", 2.2)], chain=()) == [(), ()]
    assert codes([row("a", 2.0), row("b", math.nan), row("c", 1.0)]) == [(), (), ()]


def test_a_bracket_must_lie_wholly_above():
    def bracket(layer, low, high, **more):
        return [row(layer, high, "upper", **more), row(layer, low, "lower", **more)]

    assert codes([*bracket("a", 1, 2), *bracket("b", 1.5, 2.5)]) == [(), (), (), ()]
    assert codes([*bracket("a", 1, 2), *bracket("b", 2.1, 2.5)]) == [(), (), (), ("data-processing",)]
    sampled = [
        Measurement(**{f: getattr(m, f) for f in Measurement.__dataclass_fields__} | {
            "standing": "estimate", "side": m.standing})
        for m in [*bracket("a", 1, 2), *bracket("b", 2.1, 2.5)]
    ]  # fmt: skip
    assert codes(sampled) == [(), (), (), ("data-processing",)]


NOISY = {"quantity": "I(Z;X)", "channel": "gaussian", "estimator": "mixture", "params": "draws=10"}
AGAIN = NOISY | {"params": "draws=10,replicates=8"}


def test_noisy_layers_of_a_chain_are_compared():
    assert codes([row("a", 2.0, **NOISY), row("b", 2.1, **AGAIN)]) == [(), ("data-processing",)]
    assert codes([row("a", 2.0, **NOISY), row("b", 2.1, stderr=0.05, **AGAIN)]) == [(), ()]
    # I(Z2;Z1) may be larger than I(Z1;X)
    assert codes([row("a", 2.0, **NOISY), row("b", 2.1, **NOISY | {"quantity": "I(Z2;Z1)"})]) == [(), ()]
    # the mean-field bound of a Gaussian channel may lie below the exact rate of an Echo layer, and
    # above that of another one
    echo = {"quantity": "I(Z;X)", "channel": "echo", "estimator": "echo"}
    mean_field = echo | {"channel": "gaussian noise of the std of the echo", "estimator": "mean-field"}
    rows = [row("a", 2.0, "exact", **echo), row("a", 1.0, "upper", **mean_field), row("b", 1.9, "upper", **mean_field)]
    assert codes([*rows, row("b", 1.5, "exact", **echo)]) == [()] * 4
    assert codes([*rows, row("b", 2.5, "exact", **echo)]) == [(), (), (), ("data-processing",)]
    tap = {"quantity": "I(Z;X)", "channel": "echo tap", "estimator": "tap", "params": "beta=.1"}
    assert codes([row("a", 2.0, "exact", **tap), row("b", 2.1, "exact", **tap)]) == [(), ()]


@pytest.mark.parametrize(
    ("of_label", "of_input", "found"),
    [
        # a lower bound above an upper bound, whatever the estimators
        ({"standing": "lower"}, {"standing": "upper"}, True),
        ({"standing": "lower", "estimator": "decoder"}, {"standing": "exact", "estimator": "echo"}, True),
        ({"standing": "exact"}, {"standing": "upper"}, True),
        ({"standing": "exact"}, {"standing": "exact"}, True),
        # numbers that may be true
        ({"standing": "upper"}, {"standing": "exact"}, False),
        ({"standing": "lower"}, {"standing": "lower"}, False),
        ({"standing": "lower", "channel": "noise 1"}, {"standing": "upper"}, False),
        ({"standing": "lower", "layer": "b"}, {"standing": "upper"}, False),
        ({"standing": "lower", "replica": 1}, {"standing": "upper"}, False),
        ({"standing": "lower", "estimator": "decoder", "law": "population"}, {"standing": "exact"}, False),
        ({"standing": "lower", "estimator": "decoder"}, {"standing": "estimate"}, False),
        ({"standing": "lower", "stderr": 0.06}, {"standing": "upper"}, False),
        ({"standing": "lower"}, {"standing": "exact", "error": 0.3}, False),
        ({"standing": "lower"}, {"standing": "exact", "law": "these N points, at 1/1000 of the range"}, True),
        # estimates are compared if they share the estimator and its options
        ({}, {}, True),
        ({"stderr": 0.05}, {"stderr": 0.02}, True),
        ({"stderr": 0.05}, {"stderr": 0.05}, False),
        ({"estimator": "ross"}, {"estimator": "ksg"}, True),
        ({"estimator": "ross", "params": "k=3"}, {"estimator": "ksg", "params": "k=4"}, False),
        ({"estimator": "smile"}, {"estimator": "ksg"}, False),
        ({"estimator": "renyi"}, {"estimator": "renyi"}, False),
        ({"side": "lower"}, {"side": "upper"}, True),
        ({"side": "upper"}, {"side": "upper"}, False),
        # each tap has its own code
        ({"standing": "lower", "estimator": "tap", "params": "beta=.1"},
         {"standing": "upper", "estimator": "tap", "params": "beta=.1"}, True),
        ({"standing": "lower", "estimator": "tap", "params": "beta=.1"},
         {"standing": "upper", "estimator": "tap", "params": "beta=.3"}, False),
    ],
)  # fmt: skip
def test_no_layer_holds_more_of_the_label_than_of_the_input(of_label, of_input, found):
    marks = [("data-processing",), ()] if found else [(), ()]
    for quantities in (("I(T;Y)", "I(X;T)"), ("I(Z;Y)", "I(Z;X)"), ("I(T;Y)", "I(Z2;Z1)")):
        y, x = (
            row(**{"layer": "a", "value": v, "quantity": q} | of)
            for v, q, of in zip((0.7, 0.5), quantities, (of_label, of_input), strict=True)
        )
        assert codes([y, x]) == marks
        assert codes([y, x], chain=()) == marks
        assert codes([x, y]) == marks[::-1]


def test_exact_numbers_differ_by_no_more_than_rounding():
    """Two exact numbers may differ only by their own errors, and by a share of 1e-9."""
    for size in (1e-3, 1.0, 1e4):
        for off, found in ((5e-10, ()), (5e-9, ("data-processing",))):
            a, b = (row(layer, v, "exact", ceiling=2e4) for layer, v in (("a", size), ("b", size * (1 + off))))
            assert codes([a, b]) == [(), found]
    assert codes([row("a", 1.0, "exact", error=1e-6), row("b", 1.0 + 1e-6, "exact")]) == [(), ()]


@pytest.mark.parametrize(
    ("value", "standing", "found"),
    [
        (5.1, "estimate", ("over-ceiling",)),
        (5.1, "exact", ("over-ceiling",)),
        (5.1, "upper", ()),
        (5.0005, "estimate", ()),
        (-0.1, "estimate", ("negative",)),
        (-0.1, "upper", ("negative",)),
        (-0.1, "lower", ()),
        (math.nan, "estimate", ()),
    ],
)
def test_what_a_quantity_cannot_be(value, standing, found):
    assert impossible(row("a", value, standing)).warnings == found


def test_an_error_bar_makes_room():
    e = Estimate(quantity="I(X;T)", value=5.2, standing="estimate", channel="", estimator="x", ceiling=5.0)
    assert impossible(e).warnings == ("over-ceiling",)
    for more in ({"stderr": 0.1}, {"error": 0.2}):
        assert impossible(Estimate(**{f: getattr(e, f) for f in Estimate.__dataclass_fields__} | more)).warnings == ()


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Linear(12, 1), nn.Linear(12, 4)

    def forward(self, x):
        return self.narrow(x) + self.wide(x).sum(1, keepdim=True)


def test_a_recorder_compares_what_is_a_chain():
    """A layer that magnifies shows more cells than the one below, which cannot be true."""
    x, _ = ip.data.icosahedron()
    model = nn.Sequential(nn.Linear(12, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(0.01 * torch.arange(24.0).view(2, 12) / 24)
        model[1].weight.copy_(100 * torch.eye(2))
    for module, marked in ((model, True), (Skipping(), False)):
        recorder = ip.Recorder(module, x, estimators=["binning"])
        recorder.snapshot(0)
        found = recorder.frame().set_index("layer")["warnings"].str.contains("data-processing")
        assert bool(found.any()) == marked
    names = ["narrow", "wide"]
    recorder = ip.Recorder(Skipping(), x, names, estimators=["binning:width=0.001"], chain=True)
    recorder.snapshot(0)
    assert "data-processing" in recorder.frame()["warnings"].iloc[1]  # told that it is one
