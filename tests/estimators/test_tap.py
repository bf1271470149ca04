"""Echo taps: rate-distortion in closed form, bounds, certificates and an unchanged trunk."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import infoplane as ip
from infoplane.errors import InfoplaneError
from infoplane.estimators import ESTIMATORS, parse_estimator
from infoplane.estimators import tap as module
from infoplane.estimators.protocol import Estimator, Reading
from infoplane.estimators.tap import Tap, TapFit, fit_taps
from infoplane.records import KEY, Estimate
from infoplane.streams import Streams
from infoplane.warning_codes import WARNINGS
from tests.drawn import normal_32

LOG2 = math.log(2)
QUICK = {"steps": 300, "batch": 128}


def classes(n: int, seed: int = 1) -> Tensor:
    """Two classes of n / 2 points, in random order."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)) % 2


def rate(fit: TapFit) -> float:
    assert fit.rate is not None
    return fit.rate.rate


def warned(estimates: list[Estimate]) -> set[str]:
    return {code for e in estimates for code in e.warnings}


# --- mathematics


@pytest.fixture(scope="module")
def gaussian() -> dict[float, list[TapFit]]:
    """Fits of two replicas of three correlated Gaussian units, by beta, with a linear decoder."""
    mix = normal_32(2, 3, 3, seed=8) + 2 * torch.eye(3)
    t = normal_32(2, 1024, 3, seed=7) @ mix + 5.0
    betas = (0.2, 0.4, 1.0, 30.0)
    fits = fit_taps(t, objective="reconstruction", betas=betas, hidden=0, steps=500)
    assert [(f.replica, f.beta) for f in fits] == [(r, b) for r in range(2) for b in betas]
    return {b: [f for f in fits if f.beta == b] for b in betas}


@pytest.mark.parametrize("beta", [0.2, 0.4, 1.0])
def test_a_linear_gaussian_tap_is_reverse_water_filling(gaussian, beta):
    """With theta = beta / 2 below the variances of 1, R = 3/2 log 1 / theta and D = 3 theta."""
    theta = beta / 2
    for fit in gaussian[beta]:
        assert rate(fit) == pytest.approx(1.5 * math.log(1 / theta), abs=0.06)
        # the sum is stationary at the optimum, so it is known much better than its parts
        objective = 3 * theta + beta * 1.5 * math.log(1 / theta)
        assert fit.distortion + beta * rate(fit) == pytest.approx(
            objective, abs=5 * fit.distortion_stderr + 0.02 * beta
        )
        assert fit.settled
        assert fit.rate.standing == "exact"


def test_more_rate_is_less_distortion_on_the_curve_of_the_law(gaussian):
    """D = 3 exp(-2 R / 3) for a linear decoder: no point lies below, and none far above."""
    for fit in [f for beta in (0.2, 0.4, 1.0) for f in gaussian[beta]]:
        assert fit.distortion == pytest.approx(3 * math.exp(-2 * rate(fit) / 3), abs=5 * fit.distortion_stderr + 0.01)
    for r in range(2):
        column = [gaussian[beta][r] for beta in (0.2, 0.4, 1.0, 30.0)]
        assert all(rate(a) > rate(b) for a, b in itertools.pairwise(column))
        assert all(a.distortion < b.distortion for a, b in itertools.pairwise(column))


def test_a_beta_above_what_the_code_is_worth_collapses_it(gaussian):
    for fit in gaussian[30.0]:
        assert "collapsed" in fit.rate.warnings
        assert rate(fit) == pytest.approx(-3 * math.log(0.98), abs=0.06)
    assert all("collapsed" not in f.rate.warnings for beta in (0.2, 0.4, 1.0) for f in gaussian[beta])


def test_two_separate_classes_are_read_at_the_entropy_of_the_labels():
    """If T = +-1 and its sign is the label, R = log 2 and the cross-entropy is 0 for any beta < 1.

    The optimum is s = 1/2. A code with two values has a ceiling of log 2, so the rate is never
    called exact.
    """
    y = classes(512)
    t = (2.0 * y - 1).unsqueeze(1)
    loud, *middle, quiet = fit_taps(t, y, betas=(0.002, 0.1, 0.5, 5.0), steps=800)
    for fit in middle:
        assert rate(fit) == pytest.approx(LOG2, abs=0.1)
        assert fit.cross_entropy < 0.03
        assert fit.rate.standing == "upper"
    assert rate(loud) > LOG2 + 0.05
    assert loud.rate.value == pytest.approx(LOG2, abs=1e-9)
    assert "above-ceiling" in loud.rate.warnings
    assert "above-ceiling" not in quiet.rate.warnings
    assert quiet.cross_entropy == pytest.approx(LOG2, abs=0.05)


def test_the_label_bounds_hold_the_truth_between_them():
    """If a binary symmetric channel takes Y to T = +-1, no tap finds more than I(T;Y)."""
    n = 1000
    bit = classes(n)
    y = torch.where(torch.arange(n) < 100, 1 - bit, bit)
    joint = torch.tensor([[(bit[y == a] == b).sum() for b in (0, 1)] for a in (0, 1)]).double() / n
    independent = joint.sum(0) * joint.sum(1, keepdim=True)
    truth = float((joint * (joint / independent).log()).sum())
    assert truth == pytest.approx(0.368, abs=0.01)
    reading = Reading("hidden", (2.0 * bit - 1).view(1, n, 1))
    (rows,) = Tap(betas=(0.02, 0.1), **QUICK).measure(reading, y)
    bounds = [e for e in rows if e.quantity == "I(Z;Y)"]
    assert [e.standing for e in bounds] == ["lower", "upper"] * 2
    for lower, upper in zip(bounds[::2], bounds[1::2], strict=True):
        assert truth - 0.1 < lower.value < truth + 4 * lower.stderr
        assert lower.value < upper.value <= upper.ceiling
        assert 0 < lower.stderr < 0.02


def test_labels_that_have_nothing_to_do_with_the_layer_are_worth_no_rate():
    y = classes(1024, seed=3)
    (fit,) = fit_taps(normal_32(1024, 2), y, betas=(0.3,), **QUICK)
    assert rate(fit) < 0.2
    assert fit.cross_entropy > LOG2 - 0.05


def test_the_cross_entropy_rises_and_the_rate_falls_with_beta():
    t = normal_32(1024, 4)
    fits = fit_taps(t, (t[:, 0] > 0).long(), betas=(0.01, 0.1, 0.4), hidden=4, **QUICK)
    assert all(rate(a) > rate(b) + 0.3 for a, b in itertools.pairwise(fits))
    assert all(a.cross_entropy < b.cross_entropy for a, b in itertools.pairwise(fits))


def test_the_standard_error_is_that_of_fresh_draws(monkeypatch):
    """The same trained branch measured with other noise."""
    fits, measure = [], module._measure

    def often(*args):
        *first, _, trend = args
        for k in range(100):
            fits.extend(measure(*first, Streams([k]), trend)[0])
        return measure(*args)

    monkeypatch.setattr(module, "_measure", often)
    monkeypatch.setattr(module, "certify", lambda _: None)
    y = classes(128)
    fit_taps(normal_32(128, 2) + y.unsqueeze(1), y, betas=(0.1,), steps=40, batch=64)
    found = torch.tensor([f.cross_entropy for f in fits]).std()
    # the second part is a fall from H(Y) - CE to -ln 4096 that 4096 draws may not show
    unseen = [1.5 * (LOG2 - f.cross_entropy + math.log(4096)) / 4096 for f in fits]
    stderr = torch.tensor([math.sqrt(f.cross_entropy_stderr**2 - u**2) for f, u in zip(fits, unseen, strict=True)])
    assert float(found / stderr.mean()) == pytest.approx(1.0, abs=4 * 0.07)  # 1 / sqrt(2 x 100)


def test_few_points_are_not_read_above_what_more_noise_shows(monkeypatch):
    """The cross-entropy of branches of 8 points, with rare errors, against 2^14 draws."""
    finer, measure = [], module._measure

    def twice(*args):
        *first, streams, trend = args
        with monkeypatch.context() as patch:
            patch.setattr(module, "_ALL_DRAWS", 2**14)
            finer.extend(measure(*first, Streams(range(100, 100 + len(streams))), trend))
        return measure(*args)

    monkeypatch.setattr(module, "_measure", twice)
    monkeypatch.setattr(module, "certify", lambda _: None)
    fits = fit_taps(normal_32(20, 8, 2), torch.arange(8) % 2, betas=(0.03,), steps=150)
    for fit, (fine,) in zip(fits, finer, strict=True):
        least = fine.cross_entropy - 4 * fine.cross_entropy_stderr
        assert fit.cross_entropy + 4 * fit.cross_entropy_stderr > least
        assert fit.cross_entropy_stderr < 0.06


# --- certificates


@pytest.mark.parametrize(("n", "width", "values"), [(1001, 5, 5), (1001, 10, 3), (4099, 33, 5)])
def test_equal_rows_stay_equal_so_that_codes_are_counted_right(n, width, values):
    """Products of matrices can give equal rows values that differ in the last digit."""
    which = torch.arange(n) % values
    (fit,) = fit_taps(normal_32(values, width, seed=1)[which], classes(n), betas=(0.1,), units=1, hidden=0, steps=20)
    p = torch.bincount(which).double() / n
    assert fit.rate.code_entropy == pytest.approx(float(-(p * p.log()).sum()), abs=1e-9)


def test_few_points_bound_the_rate():
    for n in (2, 3, 8):
        t = normal_32(n, 2)
        (fit,) = fit_taps(t, objective="reconstruction", betas=(0.001,), steps=200)
        assert rate(fit) > math.log(n)
        assert fit.rate.value <= math.log(n) + 1e-9
        assert fit.rate.standing == "upper"
        ((row,),) = Tap("reconstruction", (0.001,), steps=200).measure(Reading("few", t.unsqueeze(0)), None)
        assert row.standing == "upper"
        assert set(row.warnings) >= {"tap", "above-ceiling"}


def test_a_constant_layer_holds_nothing_and_that_is_exact():
    y = classes(200)
    rounding = 7.3 + 3e-7 * normal_32(1, 200, 3)
    for t in (torch.full((1, 200, 3), 7.3), torch.zeros(1, 200, 3), rounding):
        (rows,) = Tap(betas=(0.1,), **QUICK).measure(Reading("dead", t), y)
        information, lower, upper = rows
        assert (information.value, information.standing) == (0.0, "exact")
        assert information.error + information.stderr < 1e-5
        assert "void" in information.warnings
        assert -0.01 < lower.value <= 1e-6
        assert upper.value == information.error


def test_constant_and_dependent_units_are_no_directions():
    t = normal_32(300, 2)
    small = 1e-4 * normal_32(300, 1, seed=6)
    wide = torch.cat([t, torch.full((300, 1), 3.0), t.sum(1, keepdim=True), small], 1)
    (fit,) = fit_taps(wide, objective="reconstruction", betas=(0.5,), steps=20)
    assert fit.directions == fit.units == 2
    assert "dependent" not in fit.rate.warnings
    wider = fit_taps(normal_32(300, 9), classes(300), betas=(0.5,), steps=20)[0]
    assert (wider.directions, wider.units) == (9, 3)
    wider = fit_taps(normal_32(300, 9), objective="reconstruction", betas=(0.5,), units=2, steps=20)[0]
    assert (wider.directions, wider.units) == (2, 2)


def test_scale_and_offset_of_a_layer_do_not_matter():
    t = normal_32(600, 2)
    one, other = (
        fit_taps(x, objective="reconstruction", betas=(0.3,), steps=30)[0]
        for x in (t.double(), 100.0 * t.double() - 3e4)
    )
    assert rate(one) == pytest.approx(rate(other), abs=1e-3)
    assert one.distortion == pytest.approx(other.distortion, abs=1e-3)


def test_replicas_of_unequal_rank_are_each_measured_right():
    t = normal_32(2, 400, 2)
    t[1, :, 1] = t[1, :, 0]
    both = fit_taps(t, objective="reconstruction", betas=(0.2,), seeds=(3, 4), steps=30)
    assert [(f.replica, f.directions) for f in both] == [(0, 2), (1, 1)]
    alone = fit_taps(t[1], objective="reconstruction", betas=(0.2,), seeds=(4,), steps=30)[0]
    assert rate(both[1]) == pytest.approx(rate(alone), abs=1e-5)


# --- repeatability


def test_a_fit_depends_on_its_codes_and_seed_alone():
    t = normal_32(2, 300, 2)
    t[0] *= 1 + t[0, :, :1] ** 2  # gradients of another size beside it
    y = classes(300)
    before = torch.get_rng_state()
    both = fit_taps(t, y, betas=(0.05, 0.5), seeds=(3, 4), steps=30)
    assert both == fit_taps(t, y, betas=(0.05, 0.5), seeds=(3, 4), steps=30)
    alone = fit_taps(t[1], y, betas=(0.5,), seeds=(4,), steps=30)[0]
    other = fit_taps(t[1], y, betas=(0.5,), seeds=(5,), steps=30)[0]
    # other sizes of a batched product round differently, and no more
    assert rate(both[3]) == pytest.approx(rate(alone), abs=1e-5)
    assert both[3].cross_entropy == pytest.approx(alone.cross_entropy, abs=1e-5)
    assert rate(other) != pytest.approx(rate(alone), abs=1e-4)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_caller_may_have_switched_gradients_off_or_cast():
    t, y = normal_32(200, 2, 2).transpose(0, 1), classes(200)
    t = t.contiguous().requires_grad_()
    kept = t.detach().clone()
    expected = fit_taps(t, y, betas=(0.1,), steps=20)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert fit_taps(t, y, betas=(0.1,), steps=20) == expected
    with torch.inference_mode():
        assert fit_taps(t.clone(), y.clone(), betas=(0.1,), steps=20) == expected
    assert t.grad is None
    assert torch.equal(t, kept)


def trunk(seed: int = 0) -> nn.Module:
    model = nn.Sequential(nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            p.copy_(normal_32(*p.shape, seed=seed + k) * 0.5)
    return model


def test_the_trunk_is_the_same_to_the_last_bit_with_and_without_taps(bits):
    x, y = bits
    taps = [Tap(betas=(0.05, 0.5), steps=20, batch=64), Tap("reconstruction", (0.5,), steps=20, batch=64)]
    results = []
    for chosen in ([], taps):
        model = trunk()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        recorder = ip.Recorder(model, (x, y), layers=["1"], estimators=chosen)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for epoch in range(4):
                rows = torch.randperm(300)[:200]
                loss = nn.functional.cross_entropy(model(nn.functional.dropout(x[rows])), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                gradients = [p.grad.clone() for p in model.parameters()]
                state = torch.get_rng_state()
                recorder.snapshot(epoch)
                assert torch.equal(torch.get_rng_state(), state)
                assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
            results.append((copy.deepcopy(model.state_dict()), torch.rand(3), recorder.frame()))
    (plain, tail, _), (tapped, tail_too, frame) = results
    assert all(torch.equal(plain[k], tapped[k]) for k in plain)
    assert torch.equal(tail, tail_too)
    assert not frame.duplicated(list(KEY)).any()
    assert set(frame["estimator"]) == {"tap"}
    assert len(frame) == 4 * (2 * 3 + 1)


def test_a_snapshot_does_not_depend_on_those_before_it(bits):
    recorders = [ip.Recorder(trunk(), bits, layers=["1"], estimators=[Tap(betas=(0.1,), steps=20)]) for _ in range(2)]
    recorders[0].snapshot(0)
    recorders[0].model[0].weight.data.mul_(2.0)
    recorders[1].model[0].weight.data.mul_(2.0)
    rows = [recorder.snapshot(1)["measurements"] for recorder in recorders]
    assert rows[0] == rows[1]
    first = recorders[0].frame()[:3].to_dict("records")
    assert rows[0] != [row | {"epoch": 1, "step": 1} for row in first]


# --- records


def test_every_estimate_says_that_it_is_of_a_tap():
    reading = Reading("hidden", normal_32(1, 400, 2))
    tap = Tap("reconstruction", (0.5, 2.5), **QUICK)
    assert isinstance(tap, Estimator)
    (rows,) = tap.measure(reading, None)
    assert [e.quantity for e in rows] == ["I(Z;X)"] * 2
    assert {e.channel for e in rows} == {"echo tap"}
    assert all(e.warnings[0] == "tap" and e.n == 400 and e.ceiling == math.log(400) for e in rows)
    assert rows[0].standing == "exact"
    assert rows[0].law == "these N points, at 1/1000 of the range"
    assert rows[0].stderr == 0.0
    assert 0 <= rows[0].error < 0.05
    assert rows[0].params == (
        "objective=reconstruction,beta=0.5,units=3,hidden=16,max_scale=0.98,echoes=128,steps=300,lr=0.05,batch=128"
    )
    assert rows[0].params != rows[1].params


def test_the_table_holds_what_has_no_column():
    reading, y = Reading("hidden", normal_32(2, 200, 2)), classes(200)
    tap = Tap("reconstruction", (0.5, 2.0), steps=40, batch=64)
    fits = tap.fit(reading, y)
    assert tap.estimates(reading, y, fits) == tap.measure(reading, y)
    tables = tap.table(fits)
    assert [[row["beta"] for row in table] for table in tables] == [[0.5, 2.0]] * 2
    for r, table in enumerate(tables):
        for j, row in enumerate(table):
            assert row["distortion"] == fits[r][j].distortion
            assert row["rate_nats"] == rate(fits[r][j])
            assert math.isnan(row["cross_entropy_nats"])
            assert row["params"] == tap.params(fits[r][j].beta)


def test_layers_and_replicas_have_seeds_of_their_own():
    t, y, tap = normal_32(2, 200, 2), classes(200), Tap(betas=(0.1,), steps=20)
    t[1] = t[0]
    here = tap.measure(Reading("hidden1", t, seeds=(3, 4)), y)
    assert here == tap.measure(Reading("hidden1", t, seeds=(3, 4)), y)
    assert here != tap.measure(Reading("hidden2", t, seeds=(3, 4)), y)
    assert here[0] != here[1]


def test_where_noise_lies_below_the_tap_is_of_the_mean_path():
    clean, y = normal_32(1, 300, 2), classes(300)
    noisy = Reading("above", clean + 0.3 * normal_32(1, 300, 2, seed=5), clean=clean)
    tap = Tap(betas=(0.1,), steps=20)
    (off,), (plain,) = tap.measure(noisy, y), tap.measure(Reading("above", clean), y)
    assert [e.value for e in off] == [e.value for e in plain]
    assert {(e.channel, e.path) for e in off} == {("echo tap", "noise-off")}
    assert {(e.channel, e.path) for e in plain} == {("echo tap", "")}
    assert [e.side for e in off] == ["", "lower", "upper"]
    assert all("noise-off" in e.warnings for e in off)
    assert not any("noise-off" in e.warnings for e in plain)


def test_a_fit_that_still_moves_is_called_untrained():
    t = normal_32(1, 512, 3)
    reading, y = Reading("hidden", t), (t[0, :, 0] > 0).long()
    (short,) = Tap(betas=(0.05,), steps=50).measure(reading, y)
    assert all("untrained" in e.warnings for e in short)
    (long,) = Tap(betas=(0.2,), steps=800).measure(reading, y)
    assert "untrained" not in warned(long)
    assert "untrained" in WARNINGS


def test_a_rate_that_still_moves_is_untrained_though_the_objective_hardly_falls():
    """With beta = 1e-3, a nat of rate is a thousandth of a nat of the objective."""
    t = normal_32(1024, 3)
    (fit,) = fit_taps(t, (t[:, 0] > 0).long(), betas=(1e-3,), steps=200, lr=0.02)
    assert fit.improved < 0.02
    assert fit.moved > 0.1
    assert not fit.settled


def test_a_fit_that_diverges_is_no_number():
    reading, y = Reading("hidden", normal_32(2, 100, 2)), classes(100)
    for row in Tap(betas=(0.1,), steps=20, lr=1e38).measure(reading, y):
        information, lower, upper = row
        assert math.isnan(information.value)
        assert math.isnan(lower.value)
        assert information.standing == lower.standing == "estimate"
        assert (upper.value, upper.standing) == (pytest.approx(LOG2), "upper")
        assert warned(row) == {"tap", "untrained"}


def test_odd_layers_are_measured():
    y = classes(120)
    for t in (
        normal_32(1, 120, 1),
        normal_32(1, 120, 1).to(torch.float16),
        normal_32(1, 60, 3).repeat(1, 2, 1),
        1e30 * normal_32(1, 120, 2),
        1e-30 * normal_32(1, 120, 2),
        normal_32(1, 120, 2).double() * 1e90,
    ):
        (rows,) = Tap(betas=(0.1,), steps=20).measure(Reading("odd", t), y)
        assert all(math.isfinite(e.value) for e in rows)
    (rows,) = Tap(betas=(0.1,), steps=200).measure(Reading("odd", normal_32(1, 120, 2)), torch.zeros(120).long())
    assert rows[1].value == pytest.approx(0.0, abs=0.05)
    assert rows[1].value <= rows[2].value == 0.0
    many = torch.tensor([1000, 7, 3]).repeat(40)
    (rows,) = Tap(betas=(0.1,), steps=20).measure(Reading("odd", normal_32(1, 120, 2)), many)
    assert rows[1].ceiling == pytest.approx(math.log(3))


def test_the_command_line_names_it(monkeypatch):
    monkeypatch.setitem(ESTIMATORS, "tap", Tap)
    made = parse_estimator("tap:objective=reconstruction,betas=0.01/0.1/1,units=2,lr=0.1")
    assert made == Tap("reconstruction", (0.01, 0.1, 1.0), units=2, lr=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "labels"}, "Did you mean 'label'"),
        ({"betas": ()}, r"betas=\(\); expected finite numbers above 0"),
        ({"betas": (0.1, 0.0)}, "expected finite numbers above 0"),
        ({"betas": (0.1, 0.1)}, "expected different numbers"),
        ({"units": 0}, "units=0; expected a whole number of at least 1"),
        ({"hidden": -1}, "hidden=-1; expected a whole number of at least 0"),
        ({"max_scale": 1.0}, "max_scale=1.0; expected a number between 0 and 1"),
        ({"echoes": 100}, "echoes=100; expected a power of two"),
        ({"steps": 19}, "steps=19; expected a whole number of at least 20"),
        ({"lr": 0.0}, "lr=0.0; expected a finite number above 0"),
        ({"batch": 1}, "batch=1; expected a whole number of at least 2"),
    ],
)
def test_options_that_do_not_do_are_refused(options, message):
    with pytest.raises(InfoplaneError, match=message):
        Tap(**options)


def test_what_cannot_be_fitted_is_said():
    t, y = normal_32(50, 2), classes(50)
    with pytest.raises(InfoplaneError, match="layer 'h': there are no labels; expected labels, or objective='reconstr"):
        Tap().measure(Reading("h", t.unsqueeze(0)), None)
    with pytest.raises(InfoplaneError, match="1 point; expected at least 2"):
        fit_taps(t[:1], y[:1], betas=(0.1,))
    with pytest.raises(InfoplaneError, match="2 seeds for 1 replicas"):
        fit_taps(t, y, betas=(0.1,), seeds=(1, 2))
    with pytest.raises(InfoplaneError, match="NaN or infinite"):
        fit_taps(t / 0.0, y, betas=(0.1,))
    with pytest.raises(InfoplaneError, match=r"labels have shape \(20,\)"):
        fit_taps(t, y[:20], betas=(0.1,))
    with pytest.raises(InfoplaneError, match="Unknown objective of a tap 'rate'"):
        fit_taps(t, y, betas=(0.1,), objective="rate")
