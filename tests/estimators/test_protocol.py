"""The shared parts of estimators: protocol defaults, the walk over codes, the replica axis."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields

import pytest
import torch

from infoplane import estimators
from infoplane.errors import InfoplaneError
from infoplane.estimators import ESTIMATORS, Estimator, LinearGaussian, Reading, Tap, per_replica
from infoplane.estimators.inputs import is_count, over_replicas
from infoplane.estimators.tap import Tap as TapOfModule
from infoplane.estimators.views import View, estimates, views
from infoplane.records import Estimate
from infoplane.theory.linear import LinearTask

ONE = Estimate(quantity="I(X;T)", value=math.nan, standing="estimate", channel="any", estimator="one")


@dataclass(frozen=True)
class One(Estimator):
    """An estimator as a user writes it."""

    size: float = 1.0

    name = "one"

    def measure(self, reading, labels):
        return per_replica(ONE, len(reading.codes), value=[self.size] * len(reading.codes))


def layer(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_users_estimator_says_its_name_and_how_it_measures():
    one = One(2.0)
    assert isinstance(one, Estimator)
    assert not one.deferred
    assert one.bind(None) is one
    rows, tables = one.measure_with_tables(Reading("0", layer(2, 5, 1)), None)
    assert [row[0].value for row in rows] == [2.0, 2.0]
    assert tables == {}


def test_an_estimator_that_does_not_measure_cannot_be_made():
    class Silent(Estimator):
        name = "silent"

    with pytest.raises(TypeError, match="measure"):
        Silent()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_of_the_registry_fulfils_the_protocol(name):
    made = ESTIMATORS[name]()
    assert isinstance(made, Estimator)
    assert made.name == name
    assert made.about.source
    assert "name" not in {f.name for f in fields(made)}


def test_a_law_is_bound_where_it_is_needed():
    law = LinearTask(torch.eye(2), torch.ones(1, 2), 1.0)
    assert LinearGaussian().bind(law).law is law
    assert LinearGaussian(law=law).bind(None).law is law
    with pytest.raises(InfoplaneError, match="expected the data set student-teacher"):
        LinearGaussian().bind(None)
    with pytest.raises(InfoplaneError, match="expected the data set student-teacher"):
        LinearGaussian().measure(Reading("0", layer(1, 9, 2)), None)


def test_taps_are_fitted_once_for_numbers_and_table(monkeypatch):
    fits = []
    fit = TapOfModule.fit
    monkeypatch.setattr(TapOfModule, "fit", lambda *arguments: fits.append(1) or fit(*arguments))
    rows, tables = Tap(betas=(0.1, 0.3), steps=20).measure_with_tables(
        Reading("0", layer(2, 40, 2)), torch.arange(40) % 2
    )
    assert fits == [1]
    assert [len(row) for row in rows] == [6, 6]
    assert [[line["beta"] for line in lines] for lines in tables["taps"]] == [[0.1, 0.3]] * 2


# --- the walk over codes


def test_views_of_a_layer_without_noise():
    codes = layer(2, 6, 3)
    (view,) = views("here", Reading("0", codes), torch.arange(6) % 2)
    assert (view.path, view.quantities, view.n, view.log_n) == ("", ("I(X;T)", "I(T;Y)"), 6, math.log(6))
    assert torch.equal(view.points, codes)
    (view,) = views("here", Reading("0", codes), None)
    assert view.quantities == ("I(X;T)",)


def test_views_of_a_noisy_layer():
    codes, clean, y = layer(1, 6, 3), layer(1, 6, 3, seed=1), torch.arange(6) % 2
    drawn = layer(4, 1, 6, 3, seed=2)
    reading = Reading("0", codes, clean, lambda k: drawn[:k])
    of_input, of_label = views("here", reading, y)
    assert (of_input.path, of_input.quantities, of_input.classes) == ("noise-off", ("I(X;T)",), None)
    assert (of_label.path, of_label.quantities) == ("sampled", ("I(T;Y)",))
    assert torch.equal(of_input.points, clean)
    assert torch.equal(of_label.points, codes)
    of_input, _ = views("here", reading, y, replicates=4)
    assert (of_input.path, of_input.n) == ("replicates", 6)
    assert torch.equal(of_input.points[0], drawn.flatten(0, 2))
    with pytest.raises(InfoplaneError, match="here: replicates=4, but the reading cannot draw any"):
        list(views("here", Reading("0", codes, clean), y, replicates=4))


def test_what_a_number_is_told_of_its_view():
    codes, clean, y = layer(2, 6, 3), layer(2, 6, 3, seed=1), torch.arange(6) % 2

    def fill(common: Estimate, view: View, found: float, r: int) -> list[Estimate]:
        return per_replica(common, 1, value=[found + r])[0]

    rows = estimates(ONE, views("here", Reading("0", codes, clean), y), lambda view: float(view.points.sum()), fill)
    for r, row in enumerate(rows):
        assert [(e.quantity, e.path, e.warnings, e.n) for e in row] == [
            ("I(X;T)", "noise-off", ("noise-off",), 6),
            ("I(T;Y)", "sampled", ("sampled-codes",), 6),
        ]
        assert [e.value for e in row] == [float(clean.sum()) + r, float(codes.sum()) + r]


# --- points with and without the replica axis


@dataclass
class Sizes:
    total: torch.Tensor
    n: int


@over_replicas("x", "y")
def sizes(x: torch.Tensor, y: torch.Tensor, *, by: float = 1.0) -> Sizes:
    """The sums of both."""
    return Sizes(by * (x.sum((1, 2)) + y.sum((1, 2))), x.shape[1])


def test_the_replica_axis_is_put_on_and_taken_off():
    x, y = layer(3, 7, 2), layer(3, 7, 4, seed=1)
    together = sizes(x, y, by=2.0)
    assert together.total.shape == (3,)
    for r in range(3):
        alone = sizes(x[r], y=y[r], by=2.0)
        assert alone.total.shape == ()
        assert (float(alone.total), alone.n) == (float(together.total[r]), 7)
    assert sizes(x[:1], y[:1]).total.shape == (1,)


def test_a_decorated_function_keeps_its_name_signature_and_docstring():
    assert sizes.__doc__ == "The sums of both."
    assert list(inspect.signature(sizes).parameters) == ["x", "y", "by"]
    assert list(inspect.signature(estimators.kde_bounds).parameters) == ["t", "noise_variance", "labels", "chunk"]
    assert "Kolchinsky" in estimators.kde_bounds.__doc__


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (layer(7, 2), layer(6, 2), r"sizes: x has shape \(7, 2\) and y \(6, 2\); expected the same number"),
        (layer(1, 7, 2), layer(7, 2), r"x has shape \(1, 7, 2\) and y \(7, 2\)"),
        (layer(7, 2), layer(7, 2).to("meta"), "x is on cpu and y on meta"),
        (layer(7, 2), [0.0], "sizes, y: the layer is a list"),
        (layer(7, 2) / 0, layer(7, 2), "sizes, x: 14 of the 14 values are NaN or infinite"),
    ],
)
def test_points_that_do_not_belong_together_are_refused(x, y, says):
    with pytest.raises(InfoplaneError, match=says):
        sizes(x, y)


def test_whole_numbers():
    assert is_count(1)
    assert is_count(0, 0)
    assert not any(is_count(x) for x in (0, -1, True, 1.0, "1", None))
    assert not is_count(1, 2)
