"""What cannot be true of layers that are functions of one another is found, and nothing else is."""

import math

import pytest
import torch
from torch import nn

import infoplane as ip
from infoplane.consistency import impossible, mark
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
            "standing": "estimate", "params": f"s2=1,bound={m.standing}"})
        for m in [*bracket("a", 1, 2), *bracket("b", 2.1, 2.5)]
    ]  # fmt: skip
    assert codes(sampled) == [(), (), (), ("data-processing",)]


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
    """A layer that magnifies shows more cells than the one below: of a Sequential that is known to be impossible."""
    x, _ = ip.icosahedron()
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
