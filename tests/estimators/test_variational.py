"""InfoNCE, NWJ and SMILE against closed forms, and the proof that the first two are bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from infoplane.errors import InfoplaneError
from infoplane.estimators import variational
from infoplane.estimators.noise import pair
from infoplane.estimators.protocol import Estimator, Noise, Reading
from infoplane.estimators.variational import NWJ, SMILE, InfoNCE, VariationalBound, infonce, nwj, smile

KINDS = [infonce, nwj, smile]
BOUNDS = [infonce, nwj]
CLASSES = [InfoNCE, NWJ, SMILE]
FIELDS = ("value", "stderr", "fitted", "improved")


def gaussian(*shape: int, rho: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    u, z = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    return u, rho * u + math.sqrt(1 - rho**2) * z


def gaussian_information(d: int, rho: float) -> float:
    return -0.5 * d * math.log(1 - rho**2)


def assert_not_above(found: VariationalBound, truth: float | Tensor) -> None:
    assert bool((found.value <= truth + 4 * found.stderr + 1e-9).all()), (found.value, found.stderr, truth)


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize(("d", "rho"), [(1, 0.9), (5, 0.85), (10, 0.5)])
def test_gaussian_pairs(of, d, rho):
    truth = gaussian_information(d, rho)
    assert truth < math.log(256) - 1.5
    found = of(*gaussian(4096, d, rho=rho, seed=d), steps=200, seed=1)
    assert_not_above(found, truth)
    assert float(found.value) > 0.8 * truth
    assert 0.003 < float(found.stderr) < 0.06
    assert (found.value.dtype, found.value.shape, found.n) == (torch.float64, (), 1536)


@pytest.mark.parametrize("of", KINDS)
def test_independent_pairs_hold_nothing(of):
    for d, e in ((1, 1), (6, 3)):
        u, _ = gaussian(3, 512, d, rho=0.0, seed=1)
        found = of(u, gaussian(3, 512, e, rho=0.0, seed=2)[0], steps=60)
        assert_not_above(found, 0.0)
        assert bool((found.value > -0.1).all())
        assert abs(float(found.value.mean())) < 0.03


@pytest.mark.parametrize("of", BOUNDS)
def test_no_value_exceeds_the_log_of_what_it_is_taken_over(of):
    u, _ = gaussian(512, 3, rho=0.0)
    found = of(u, u, batch=64, steps=150)
    assert found.log_k == pytest.approx(math.log(64 if of is infonce else 192))
    assert 0.5 * found.log_k < float(found.value) <= found.log_k
    assert float(found.fitted) <= math.log(64 if of is infonce else 256)


def test_a_deterministic_relation_of_few_points():
    """The information of N points is at most ln N, and fewer points cannot show more."""
    x = torch.arange(64.0).view(64, 1)
    for of in BOUNDS:
        assert float(of(x, 3 * x - 1, steps=100).value) <= math.log(24)


# the bounds hold for any critic; here it is the best possible one


class LogDensity:
    """The critic ln p(v|u) + c of v = u + N(0, s2 I), in place of a trained one."""

    def __init__(self, s2: float, constant: float = 0.0) -> None:
        self.s2, self.constant = s2, constant

    def __call__(self, theta: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.constant - torch.cdist(u, v).square() / (2 * self.s2)


def mixture_information(x: Tensor, s2: float, draws: int, generator: torch.Generator) -> float:
    """I(X;V) of V = x_X + N(0, s2 I), X uniform over the rows, by Monte Carlo."""
    log_density = LogDensity(s2)
    v = x + math.sqrt(s2) * torch.randn(draws, *x.shape, generator=generator, dtype=x.dtype)
    scores = log_density(x, x.expand(draws, *x.shape), v)
    return float((scores.diagonal(dim1=1, dim2=2) - scores.logsumexp(1)).mean()) + math.log(len(x))


@pytest.mark.parametrize("s2", [1e-6, 0.003, 0.1])
def test_bounds_for_the_points_themselves_with_batches_without_replacement(s2, seeded):
    """The mean over parts of 16 and 24 of 32 points must not exceed the information of the 32."""
    generator, trials = seeded(0), 2000
    x = torch.linspace(0, 1, 32, dtype=torch.float64).view(32, 1)
    truth = mixture_information(x, s2, 2000, generator)
    rows = torch.stack([torch.randperm(32, generator=generator) for _ in range(trials)])
    u = x[rows]
    v = u + math.sqrt(s2) * torch.randn(u.shape, generator=generator, dtype=u.dtype)
    log_density = LogDensity(s2)
    nce, _ = variational._over_batches(log_density, u[:, :0], u, v, 16)
    assert float(nce.mean()) <= truth + 4 * float(nce.std()) / math.sqrt(trials)
    # with all points it is their information, whatever the order
    whole, _ = variational._over_batches(log_density, u[:, :0], u, v, 32)
    assert float(whole.mean()) == pytest.approx(truth, abs=4 * float(whole.std()) / math.sqrt(trials) + 0.01)
    # NWJ with f = ln p(v|u) / p(v) of the 24, about the best; and with a constant that favours the
    # diagonal
    for constant in (0.0, 2.0, 6.0):
        value, _ = variational._over_products(
            variational._NWJ, LogDensity(s2, constant), u[:, :0], u[:, :24], v[:, :24]
        )
        assert float(value.mean()) <= truth + 4 * float(value.std()) / math.sqrt(trials)
        # without the pairs (i, i) it is not a bound where the noise is small
        scores = LogDensity(s2, constant)(u[:, :0], u[:, :24], v[:, :24])
        off = 1 + scores.diagonal(dim1=1, dim2=2).mean(1) - variational._off_diagonal_mean(scores.exp())
        if s2 == 1e-6 and constant == 6.0:
            assert float(off.mean()) > truth + 2


def test_the_errors_are_those_of_many_test_parts(seeded):
    """The spread over 500 draws of the pairs, with a fixed critic, is the mean reported error.

    The critic favours large u, so that the effect of a point as a partner of others matters as much
    as its own term.
    """
    generator = seeded(3)
    u = torch.randn(500, 192, 2, generator=generator, dtype=torch.float64)
    v = u + 0.5 * torch.randn(u.shape, generator=generator, dtype=u.dtype)

    def critic(theta: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return LogDensity(1.0, 1.5)(theta, u, v) + u[..., :1]

    values = {
        "infonce": variational._over_batches(critic, u[:, :0], u, v, 48),
        "nwj": variational._over_products(variational._NWJ, critic, u[:, :0], u, v),
        "smile": variational._over_products(variational._smile(5.0), critic, u[:, :0], u, v),
    }
    for name, (value, stderr) in values.items():
        assert float(stderr.mean()) == pytest.approx(float(value.std()), rel=0.1), name


def test_scores_by_chunks_are_those_of_the_whole(monkeypatch):
    u, v = (t.double() for t in gaussian(2, 50, 3, rho=0.7))
    scores = LogDensity(1.0)(u[:, :0], u, v)
    expected = 1 + scores.diagonal(dim1=1, dim2=2).mean(1) - scores.exp().mean((1, 2))
    monkeypatch.setattr(variational, "CHUNK", 7)
    value, _ = variational._over_products(variational._NWJ, LogDensity(1.0), u[:, :0], u, v)
    torch.testing.assert_close(value, expected)


def test_smile_clips_exponents_and_mine_does_not():
    u, v = (t.double() for t in gaussian(1, 40, 2, rho=0.9))
    scores = 3 * LogDensity(0.1)(u[:, :0], u, v) + 8.0

    def critic(theta: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return scores.clone()

    def value(tau: float) -> float:
        return float(variational._over_products(variational._smile(tau), critic, u[:, :0], u, v)[0])

    joint = scores.diagonal(dim1=1, dim2=2).mean()
    for tau in (0.5, 5.0):
        clipped = scores.exp().clamp(math.exp(-tau), math.exp(tau)).mean()
        assert value(tau) == pytest.approx(float(joint - clipped.log()))
    assert value(math.inf) == pytest.approx(float(joint - scores.exp().mean().log()))
    assert value(5.0) > value(math.inf) + 0.5
    assert value(math.inf) <= math.log(40)


# held out


@pytest.mark.parametrize("of", BOUNDS)
def test_a_critic_that_learnt_its_pairs_by_heart_shows_nothing_elsewhere(of, monkeypatch):
    u, v = gaussian(256, 10, rho=0.0)
    honest = variational.split

    def to_its_own_taste(*args: object) -> variational.Parts:
        parts = honest(*args)
        return parts._replace(check=parts.train)

    monkeypatch.setattr(variational, "split", to_its_own_taste)
    found = of(u, v, batch=64, steps=150)
    assert float(found.fitted) > 0.5
    assert float(found.value) < -0.1
    monkeypatch.undo()
    found = of(u, v, batch=64, steps=150)
    assert float(found.value) == pytest.approx(0.0, abs=0.05)


def test_the_test_part_has_no_share_in_the_critic():
    """With other test pairs the critic is the same, and so is the value on the training half."""
    u, v = gaussian(256, 2, rho=0.8)
    rows = variational.split("infonce", variational.Streams(variational.seeds_of("infonce", 5, 1)), 256, 256).test[0]
    changed = v.clone()
    changed[rows] = torch.randn(len(rows), 2, generator=torch.Generator().manual_seed(9))
    one, other = infonce(u, v, steps=60, seed=5), infonce(u, changed, steps=60, seed=5)
    assert torch.equal(one.fitted, other.fitted)
    assert float(one.value) > 0.3
    assert float(other.value) < 0.0


@pytest.mark.parametrize("n", [32, 33, 100, 1000, 4096, 5000])
@pytest.mark.parametrize("batch", [2, 64, 256])
def test_parts_are_whole_batches_and_share_no_point(n, batch):
    parts = variational.split("here", variational.Streams([1, 2]), n, batch)
    for r in range(2):
        assert torch.cat([p[r] for p in parts]).sort().values.equal(torch.arange(n))
    train, check, test = (p.shape[1] for p in parts)
    assert test % min(batch, test) == 0
    assert check % min(batch, check) == 0
    assert min(train, n // 2) == n // 2
    assert test > 0.5 * 3 * n / 8
    assert check <= 4 * batch


@pytest.mark.parametrize("of", KINDS)
def test_seeds_repeat_and_replicas_are_as_alone(of):
    u, v = gaussian(3, 128, 2, rho=0.8)
    v[1] = v[1] * 1000 + 5
    state = torch.get_rng_state()
    together = of(u, v, steps=40, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    again = of(u, v, steps=40, seed=[3, 4, 5])
    assert together.value.shape == (3,)
    for r in range(3):
        alone = of(u[r], v[r], steps=40, seed=3 + r)
        for name in FIELDS:
            assert torch.equal(getattr(together, name), getattr(again, name))
            assert float(getattr(together, name)[r]) == pytest.approx(float(getattr(alone, name)), abs=1e-3)
    assert float(of(u[0], v[0], steps=40, seed=4).value) != float(together.value[0])


def test_scale_offset_and_constant_units_do_not_matter():
    u, v = gaussian(512, 2, rho=0.9)
    expected = infonce(u, v, steps=60)
    moved = infonce(1e-3 * u + 1000, 50 * v - 3, steps=60)
    assert float(moved.value) == pytest.approx(float(expected.value), abs=0.05)
    padded = infonce(torch.cat([u, torch.full((512, 2), 7.0)], 1), v.double(), steps=60)
    assert padded.value > 0.7 * expected.value
    constant = torch.full((64, 3), 7.5)
    for of in KINDS:
        for a, b in ((constant, v[:64]), (u[:64], constant), (constant, constant)):
            found = of(a, b, steps=20)
            assert_not_above(found, 0.0)
            assert float(found.value) == pytest.approx(0.0, abs=0.1)
    assert float(infonce(constant, v[:64], steps=20).value) == pytest.approx(0.0, abs=1e-6)


def test_a_unit_that_wakes_up_in_the_test_part_stays_finite():
    u, v = gaussian(64, 2, rho=0.9)
    rows = variational.split("x", variational.Streams(variational.seeds_of("infonce", 0, 1)), 64, 256).test[0]
    dead = torch.zeros(64, 1, dtype=torch.float64)
    dead[rows[0]] = 1e60
    for of in KINDS:
        assert bool(of(torch.cat([u, dead], 1), v, steps=20).value.isfinite())


def test_few_steps_have_not_settled():
    u, v = gaussian(512, 2, rho=0.95)
    assert not bool(infonce(u, v, steps=20).settled)
    assert bool(infonce(u, v, steps=200).settled)


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize(
    ("u", "v", "options", "says"),
    [
        (torch.zeros(31, 2), torch.zeros(31, 2), {}, "31 points; expected at least 32"),
        (
            torch.zeros(40, 2),
            torch.zeros(41, 2),
            {},
            r"u has shape \(40, 2\) and v \(41, 2\).*the same number of points",
        ),
        (torch.zeros(1, 40, 2), torch.zeros(40, 2), {}, "expected the same number of points in both"),
        (torch.zeros(40), torch.zeros(40), {}, r"shape \(40,\); expected"),
        (torch.zeros(40, 2), torch.full((40, 2), math.nan), {}, "80 of the 80 values are NaN"),
        (torch.zeros(40, 2), torch.zeros(40, 2), {"batch": 1}, "batch=1; expected a whole number of at least 2"),
        (torch.zeros(40, 2), torch.zeros(40, 2), {"steps": 0}, "steps=0; expected a whole number of at least 1"),
        (
            torch.zeros(40, 2),
            torch.zeros(40, 2),
            {"seed": [1, 2]},
            "2 seeds; expected one number, or one per replica",
        ),
    ],
)
def test_bad_input_is_named(of, u, v, options, says):
    with pytest.raises(InfoplaneError, match=f"{of.__name__}(, [uv])?: .*{says}"):
        of(u, v, **options)


def test_bad_tau_is_named():
    for tau in (0.0, -1.0, math.nan, "5", True):
        with pytest.raises(InfoplaneError, match=r"smile: tau=.*; expected a number above 0, or inf"):
            smile(*gaussian(40, 2, rho=0.5), tau=tau)


# --- the estimators

FAST = {"steps": 30, "batch": 32}


def layer(n: int = 128, d: int = 2, replicas: int = 1) -> Tensor:
    return torch.randn(replicas, n, d, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", CLASSES)
def test_an_estimator_sends_the_layer_through_noise(make):
    reading = Reading("hidden1", layer(replicas=2), seeds=(4, 9))
    estimator = make(noise_variance=0.1, **FAST)
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.deferred) == (make.__name__.lower(), False)
    rows = estimator.measure(reading, torch.zeros(128, dtype=torch.int64))
    p = pair("", reading, 0.1)
    of = {"infonce": infonce, "nwj": nwj, "smile": smile}[estimator.name]
    assert [len(r) for r in rows] == [1, 1]
    for r, (e,) in enumerate(rows):
        assert (e.quantity, e.channel, e.n, e.law) == ("I(X;T)", "noise 0.1", 128, "population")
        assert e.standing == ("estimate" if make is SMILE else "lower")
        assert e.params == "noise_variance=0.1,batch=32,steps=30,points=4096" + (",tau=5" if make is SMILE else "")
        assert math.isnan(e.ceiling)
        assert e.stderr > 0
        assert 0.2 < e.value < 3
        alone = estimator.measure(Reading("hidden1", layer(replicas=2)[[r]], seeds=((4, 9)[r],)), None)[0][0]
        assert e.value == pytest.approx(alone.value, abs=1e-3)
    assert estimator.measure(reading, None)[0][0].value == rows[0][0].value
    assert of(p.sent[0], p.received[0], **FAST).value.isfinite()


def test_a_noisy_layer_is_measured_through_its_own_channel():
    sent, received = gaussian(1, 1024, 2, rho=0.9)
    noise = Noise("echo", sent, quantity="I(Z;X)")
    for population, resend, law in (
        (False, None, "population"),
        (True, None, "these N points"),
        (True, lambda k: sent.expand(k, *sent.shape), "population"),
    ):
        reading = Reading("1", received, sent, noise=replace(noise, resend=resend), population=population)
        e = InfoNCE(steps=100).measure(reading, None)[0][0]
        assert (e.quantity, e.channel, e.law, e.standing) == ("I(Z;X)", "echo", law, "lower")
        assert 0.5 < e.value < gaussian_information(2, 0.9) + 4 * e.stderr


def test_downstream_of_noise_the_mean_path_is_measured():
    clean, codes = layer(), layer() + 1
    e = InfoNCE(**FAST).measure(Reading("1", codes, clean), None)[0][0]
    assert (e.channel, e.path, e.warnings[0]) == ("noise 0.001", "noise-off", "noise-off")
    assert e.value == InfoNCE(**FAST).measure(Reading("1", clean), None)[0][0].value


def test_some_of_the_points():
    reading = Reading("1", layer(400))
    some = InfoNCE(points=64, **FAST).measure(reading, None)[0][0]
    assert some.n == 64
    assert some.params.endswith("points=64")
    assert InfoNCE(points=400, **FAST).measure(reading, None)[0][0].n == 400
    assert InfoNCE(scale="layer", **FAST).measure(reading, None)[0][0].channel.endswith("mean square of the layer")
    assert InfoNCE(scale="layer").params == "noise_variance=0.001,scale=layer,batch=256,steps=500,points=4096"


def test_warnings():
    def codes(make: type, reading: Reading, **options: float) -> tuple[str, ...]:
        return make(**{"batch": 64, "steps": 250, **options}).measure(reading, None)[0][0].warnings

    reading = Reading("1", layer(1024, 3))
    assert codes(InfoNCE, reading, noise_variance=0.5) == ()
    assert codes(NWJ, reading, noise_variance=0.5) == ()
    assert codes(SMILE, reading, noise_variance=0.5) == ("not-a-bound",)
    assert "at-log-k" in codes(InfoNCE, reading, noise_variance=1e-4)
    wide = Reading("1", layer(1024, 10))
    assert "heavy-tail" in codes(NWJ, wide, noise_variance=0.3)
    assert "heavy-tail" in codes(SMILE, wide, noise_variance=0.3)
    assert "untrained" in codes(InfoNCE, reading, noise_variance=0.1, steps=10)
    assert "at-log-k" not in codes(SMILE, reading, noise_variance=1e-4)


def test_a_dead_layer_holds_nothing():
    e = InfoNCE(**FAST).measure(Reading("1", torch.ones(1, 64, 3)), None)[0][0]
    assert e.value == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(InfoplaneError, match="NWJ, layer '1': 20 points; expected at least 32"):
        NWJ().measure(Reading("1", torch.ones(1, 20, 3)), None)


@pytest.mark.parametrize("make", CLASSES)
def test_options_are_checked(make):
    name = make.__name__
    for options, says in (
        ({"noise_variance": 0.0}, "noise_variance=0.0; expected a finite number above 0"),
        ({"batch": 1}, "batch=1; expected a whole number of at least 2"),
        ({"batch": 64.0}, "batch=64.0"),
        ({"steps": 0}, "steps=0; expected a whole number of at least 1"),
        ({"points": 31}, "points=31; expected a whole number of at least 32"),
    ):
        with pytest.raises(InfoplaneError, match=f"{name}: {says}"):
            make(**options)
    with pytest.raises(InfoplaneError, match="Unknown scale of the noise 'layers'"):
        make(scale="layers")
    if make is SMILE:
        assert SMILE(tau=math.inf).params.endswith("tau=inf")
        with pytest.raises(InfoplaneError, match="SMILE: tau=0; expected a number above 0, or inf"):
            SMILE(tau=0)


# --- many seeds


@pytest.mark.slow
@pytest.mark.parametrize("of", BOUNDS)
@pytest.mark.parametrize(
    ("n", "d", "rho"), [(1024, 1, 0.0), (1024, 1, 0.9), (1024, 1, 0.99), (1024, 3, 0.3), (1024, 10, 0.7), (128, 2, 0.8)]
)
def test_bounds_hold_over_many_seeds(of, n, d, rho):
    truth = gaussian_information(d, rho)
    found = of(*gaussian(32, n, d, rho=rho), steps=250)
    assert_not_above(found, truth)
    assert float(found.value.mean()) <= truth + 4 * float(found.value.std()) / math.sqrt(32)
