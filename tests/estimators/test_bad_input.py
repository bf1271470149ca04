"""Odd input to every estimator: a number, a reason, or an error that says what to do."""

import math

import pytest
import torch

from infoplane.errors import InfoplaneError
from infoplane.estimators import ESTIMATORS, Estimator, Reading
from infoplane.warning_codes import WARNINGS

#: the quickest form of each
OPTIONS = {
    "infonce": {"steps": 20, "batch": 16},
    "nwj": {"steps": 20, "batch": 16},
    "smile": {"steps": 20, "batch": 16},
    "decoder": {"steps": 20},
    "tap": {"steps": 20, "betas": (0.1,)},
    "renyi": {"points": 50, "permutations": 2},
}
NAMES = [name for name in ESTIMATORS if name != "linear"]  # which reads no codes


def made(name: str) -> Estimator:
    return ESTIMATORS[name](**OPTIONS.get(name, {}))


def codes(n: int = 200, d: int = 3) -> torch.Tensor:
    return torch.randn(1, n, d, generator=torch.Generator().manual_seed(0))


def reading(t: torch.Tensor) -> Reading:
    return Reading("layer", t, inputs=torch.randn(1, t.shape[1], 4, generator=torch.Generator().manual_seed(1)))


Y = torch.arange(200) % 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (codes().to(torch.complex64), "complex64"),
        (codes().long(), "int64"),
        (codes()[..., :0], "each at least 1"),
        (codes()[:, :0], "each at least 1"),
        (torch.full((1, 200, 3), math.nan), "NaN"),
    ],
    ids=["complex", "integer", "no units", "no points", "NaN"],
)
def test_what_is_no_layer_is_refused(name, bad, expected):
    with pytest.raises(InfoplaneError, match=expected):
        made(name).measure(reading(bad), Y[: bad.shape[1]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("labels", "expected"),
    [(Y.to("meta"), "meta"), (Y.float(), "integers"), (Y[:100], r"\(100,\)")],
    ids=["device", "type", "length"],
)
def test_labels_that_do_not_fit_are_refused(name, labels, expected):
    quantities = {e.quantity for e in made(name).measure(reading(codes()), Y)[0]}
    if not any("Y" in q for q in quantities):
        pytest.skip(f"{name} does not look at labels")
    with pytest.raises(InfoplaneError, match=expected):
        made(name).measure(reading(codes()), labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("t", "y"),
    [
        (codes(), torch.zeros(200, dtype=torch.int64)),
        (torch.cat([codes(), torch.ones(1, 200, 2)], 2), Y),
        (torch.ones(1, 200, 3), Y),
        (codes(4).repeat(1, 50, 1), Y),
        (codes(d=1), Y),
        (codes(2), Y[:2]),
        (codes().half(), Y),
        (1e6 + codes(), Y),
    ],
    ids=["one class", "constant units", "constant", "duplicates", "one unit", "two points", "half", "offset"],
)
def test_odd_layers_give_a_number_or_a_reason(name, t, y):
    rows, refusal = [], None
    try:
        rows = made(name).measure(reading(t), y)[0]
    except InfoplaneError as error:
        refusal = str(error)
    assert rows or "expected" in (refusal or "")
    for e in rows:
        assert set(e.warnings) <= set(WARNINGS)
        assert e.warnings or not math.isnan(e.value)
        if e.quantity == "I(T;Y)" and len(y.unique()) == 1:
            assert abs(e.value) < 1e-6 + 4 * (0.0 if math.isnan(e.stderr) else e.stderr)


#: Layers whose I(X;T) and I(T;Y) are known: these points, through any noise that tells four codes
#: apart.
KNOWN = {
    "constant": (torch.ones(1, 200, 3), Y, (0.0, 0.0)),
    "duplicates": (codes(4).repeat(1, 50, 1), Y, (math.log(4), math.log(2))),
    "two points": (codes(2), Y[:2], (math.log(2), math.log(2))),
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "renyi"])  # which is not Shannon's
@pytest.mark.parametrize("layer", KNOWN)
def test_odd_layers_give_the_right_number(name, layer):
    t, y, (of_input, of_label) = KNOWN[layer]
    try:
        rows = made(name).measure(reading(t), y)[0]
    except InfoplaneError:
        assert layer == "two points"  # too few to learn from
        return
    for e in rows:
        truth = of_label if "Y" in e.quantity else of_input
        room = 1e-6 + (0.0 if math.isnan(e.stderr) else 4 * e.stderr) + (0.0 if math.isnan(e.error) else e.error)
        if e.standing == "upper":
            assert e.value >= truth - room
            assert e.value <= e.ceiling + 1e-6 or name == "mean-field"  # whose bound is as loose as the code is odd
        elif e.standing == "lower":
            assert truth / 2 - room <= e.value <= truth + room
        else:
            assert e.value == pytest.approx(truth, abs=room if e.standing == "exact" else room + 0.02)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_layer_holds_is_what_is_answered(name):
    """An answer that is constant, or constant for every layer with information, is noticed."""
    layers = (torch.ones(1, 200, 3), codes(4).repeat(1, 50, 1), codes())
    nothing, four, many = (
        [e for e in made(name).measure(reading(t), Y)[0] if e.side != "null" and e.quantity != "I(Z;Y)"] for t in layers
    )
    assert many[0].value != four[0].value
    for of_nothing, of_four, of_many in zip(nothing, four, many, strict=True):
        assert of_four.value > of_nothing.value + 0.1
        if "Y" not in of_four.quantity and name != "mean-field":
            assert of_many.value <= math.log(200) + 1e-6
            assert of_four.value <= math.log(4) + 0.02


@pytest.mark.parametrize("name", NAMES)
def test_measuring_changes_nothing(name):
    t = codes()
    before, state = t.clone(), torch.random.get_rng_state()
    one = made(name).measure(reading(t), Y)
    assert torch.equal(t, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert str(one) == str(made(name).measure(reading(t), Y))
