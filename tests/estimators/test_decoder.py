"""The decoder's bound on I(T;Y) against quadrature, counting and its own inequality."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infoplane.errors import InfoplaneError
from infoplane.estimators import decoder
from infoplane.estimators.decoder import Decoder, DecoderInformation, decoder_information
from infoplane.estimators.protocol import Estimator, Noise, Reading


def mixture(*shape: int, distance: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two Gaussian classes that differ in the first unit."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, shape[:-1], generator=generator)
    t = torch.randn(shape, generator=generator)
    t[..., 0] += distance * (2 * y - 1)
    return t, y


def mixture_information(distance: float) -> float:
    grid = np.linspace(-16, 16, 200001)
    one, other = (np.exp(-((grid - m) ** 2) / 2) / np.sqrt(2 * np.pi) for m in (distance, -distance))
    density = np.maximum((one + other) / 2, 1e-300)
    return float(-np.trapezoid(density * np.log(density), grid) - 0.5 * math.log(2 * math.pi * math.e))


def assert_not_above(found: DecoderInformation, truth: float) -> None:
    assert bool((found.value <= truth + 4 * found.stderr + 1e-9).all()), (found.value, found.stderr, truth)


@pytest.mark.parametrize("hidden", [0, 32])
@pytest.mark.parametrize(("d", "distance"), [(1, 1.0), (10, 1.0), (4, 2.0)])
def test_two_gaussian_classes(d, distance, hidden):
    truth = mixture_information(distance)
    found = decoder_information(*mixture(4096, d, distance=distance), hidden=hidden)
    assert_not_above(found, truth)
    assert float(found.value) > 0.9 * truth - 2 * float(found.stderr)
    assert bool(found.settled)
    assert (found.value.dtype, found.value.shape, found.n) == (torch.float64, (), 1536)


def test_many_seeds_stay_below_and_the_error_is_theirs():
    truth = mixture_information(1.0)
    found = decoder_information(*mixture(24, 512, 2, distance=1.0), steps=100)
    assert_not_above(found, truth)
    assert float(found.value.mean()) <= truth + 4 * float(found.value.std()) / math.sqrt(24)
    assert 0.7 < float(found.value.std() / found.stderr.mean()) < 1.5


def test_a_hidden_layer_finds_what_no_line_does():
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(2048, 2, generator=generator)
    y = (t[:, 0] * t[:, 1] > 0).long()
    assert float(decoder_information(t, y, hidden=0).value) == pytest.approx(0.0, abs=0.02)
    assert float(decoder_information(t, y).value) > 0.5


def test_labels_independent_of_the_codes():
    t, y = mixture(8, 1024, 5, distance=0.0)
    found = decoder_information(t, y, steps=100)
    assert_not_above(found, 0.0)
    assert bool((found.value > -0.1).all())
    assert abs(float(found.value.mean())) < 0.02


def test_one_class_and_constant_codes():
    t, y = mixture(64, 3, distance=1.0)
    for population in (False, True):
        found = decoder_information(t, torch.full((64,), 7), steps=10, population=population)
        assert (float(found.value), float(found.stderr), float(found.label_entropy)) == (0.0, 0.0, 0.0)
        for seed in range(4):  # q is of y alone, and H(Y) that of the very labels it is scored on
            found = decoder_information(torch.full((64, 2), 3.5), y, steps=30, seed=seed, population=population)
            assert -0.2 < float(found.value) <= 1e-9
    padded = torch.cat([t, torch.full((64, 1), 1e6)], 1)
    assert float(decoder_information(padded, y, steps=100).value) == pytest.approx(
        float(decoder_information(t, y, steps=100).value), abs=0.15
    )


def test_a_class_that_the_training_half_lacks_is_finite():
    t, y = mixture(100, 2, distance=1.0)
    y[17] = 2  # wherever it falls
    for seed in range(4):
        found = decoder_information(t, y, steps=30, seed=seed)
        assert bool(found.value.isfinite())
    assert bool(decoder_information(t, 1000 * y, steps=30).value.isfinite())


# the population itself


def test_a_population_whose_information_is_counted():
    """Four codes with a few points each, whose counted I(T;Y) the best decoder reaches."""
    generator = torch.Generator().manual_seed(0)
    cell = torch.randint(4, (400,), generator=generator)
    t = torch.stack([(cell % 2).float(), (cell // 2).float()], 1)
    y = (torch.rand(400, generator=generator) < torch.tensor([0.1, 0.5, 0.9, 0.3])[cell]).long()
    joint = torch.zeros(4, 2, dtype=torch.float64)
    joint.index_put_((cell, y), torch.tensor(1 / 400, dtype=torch.float64), accumulate=True)
    product = joint.sum(1, keepdim=True) * joint.sum(0)
    truth = float((joint * (joint / product).log()).sum())
    found = decoder_information(t, y, population=True)
    assert 0.97 * truth < float(found.value) <= truth + 1e-9
    assert float(found.stderr) == 0.0
    assert float(found.fitted) == float(found.value)
    p = joint.sum(0)
    assert float(found.label_entropy) == pytest.approx(float(-(p * p.log()).sum()))
    assert found.n == 400


def test_what_a_decoder_learns_by_heart_counts_for_the_points_and_not_for_the_population():
    t, y = mixture(48, 20, distance=0.0)
    whole = decoder_information(t, y, population=True, steps=300)
    assert 0.6 < float(whole.value) <= float(whole.label_entropy)  # every point has a code of its own
    assert_not_above(decoder_information(t, y, steps=300), 0.0)


def noisy(k: int, n: int, distance: float, seed: int) -> tuple[Tensor, Tensor]:
    """(k, n, 1) draws of n inputs at -distance and distance, and their classes."""
    x = torch.arange(n) % 2
    z = torch.randn(k, n, 1, generator=torch.Generator().manual_seed(seed))
    return z + distance * (2.0 * x - 1).view(1, n, 1), x


def test_fresh_draws_of_a_noisy_population():
    truth = mixture_information(1.0)
    values = []
    for seed in range(16):
        draws, y = noisy(8, 256, 1.0, seed)
        found = decoder_information(draws[0], y, population=True, draws=draws, steps=60)
        assert_not_above(found, truth)
        values.append(found)
    spread = torch.stack([f.value for f in values])
    assert float(spread.mean()) > 0.9 * truth
    assert 0.6 < float(spread.std()) / float(torch.stack([f.stderr for f in values]).mean()) < 1.5
    assert values[0].n == 4 * 256
    assert float(values[0].label_entropy) == pytest.approx(math.log(2))


def test_draws_that_were_trained_on_are_not_those_evaluated():
    """With 20 units of noise and 32 inputs, memorising some draws does not help on the others."""
    y = torch.arange(32) % 2
    draws = torch.randn(8, 32, 20, generator=torch.Generator().manual_seed(0))
    found = decoder_information(draws[0], y, population=True, draws=draws, steps=300)
    assert float(found.fitted) > 0.3
    assert float(found.value) <= 4 * float(found.stderr)


# form


def test_seeds_repeat_and_replicas_are_as_alone():
    t, y = mixture(3, 128, 2, distance=1.0)
    t[1] = 1000 * t[1] + 5
    state = torch.get_rng_state()
    for population in (False, True):
        together = decoder_information(t, y, steps=40, seed=3, population=population)
        again = decoder_information(t, y, steps=40, seed=[3, 4, 5], population=population)
        for r in range(3):
            alone = decoder_information(t[r], y[r], steps=40, seed=3 + r, population=population)
            for name in ("value", "stderr", "label_entropy", "fitted", "improved"):
                assert torch.equal(getattr(together, name), getattr(again, name))
                assert float(getattr(together, name)[r]) == pytest.approx(float(getattr(alone, name)), abs=1e-3)
    assert torch.equal(torch.get_rng_state(), state)
    assert float(decoder_information(t[0], y[0], steps=40, seed=8).value) != float(together.value[0])


def test_rows_by_chunks_are_those_of_the_whole(monkeypatch):
    t, y = mixture(200, 2, distance=1.0)
    expected = decoder_information(t, y, steps=20)
    monkeypatch.setattr(decoder, "CHUNK", 7)
    assert float(decoder_information(t, y, steps=20).value) == pytest.approx(float(expected.value), abs=1e-5)


@pytest.mark.parametrize(
    ("t", "y", "options", "says"),
    [
        (torch.zeros(31, 2), torch.zeros(31).long(), {}, "31 points; expected at least 32"),
        (torch.zeros(40, 2), torch.zeros(41).long(), {}, r"labels have shape \(41,\)"),
        (torch.zeros(40, 2), torch.zeros(40), {}, "expected a tensor of integers"),
        (torch.full((40, 2), math.inf), torch.zeros(40).long(), {}, "80 of the 80 values"),
        (
            torch.zeros(40, 2),
            torch.zeros(40).long(),
            {"hidden": -1},
            "hidden=-1; expected a whole number of at least 0",
        ),
        (torch.zeros(40, 2), torch.zeros(40).long(), {"steps": 0}, "steps=0; expected a whole number of at least 1"),
        (torch.zeros(40, 2), torch.zeros(40).long(), {"seed": [1, 2]}, "2 seeds; expected one number"),
        (torch.zeros(40, 2), torch.zeros(40).long(), {"draws": torch.zeros(4, 40, 2)}, "population=False; expected"),
        (
            torch.zeros(40, 2),
            torch.zeros(40).long(),
            {"draws": torch.zeros(3, 40, 2), "population": True},
            r"draws have shape \(3, 40, 2\); expected \(k, 40, 2\), k at least 4",
        ),
    ],
)
def test_bad_input_is_named(t, y, options, says):
    with pytest.raises(InfoplaneError, match=f"decoder_information: .*{says}"):
        decoder_information(t, y, **options)


# --- the estimator


def test_an_estimator_of_a_sample():
    t, y = mixture(2, 400, 2, distance=1.0)
    estimator = Decoder(hidden=8, steps=50)
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.deferred) == ("decoder", False)
    reading = Reading("hidden1", t, seeds=(4, 9))
    rows = estimator.measure(reading, y)
    assert [len(r) for r in rows] == [1, 1]
    for (e,) in rows:
        assert (e.quantity, e.standing, e.channel, e.law) == ("I(T;Y)", "lower", "layer as it is", "population")
        assert (e.params, e.n) == ("hidden=8,steps=50", 400)
        assert e.ceiling == pytest.approx(math.log(2), abs=0.02)
        assert 0 < e.value < e.ceiling
        assert e.stderr > 0
    alone = estimator.measure(Reading("hidden1", t[1:], seeds=(9,)), y[1:])[0][0]
    assert alone.value == pytest.approx(rows[1][0].value, abs=1e-3)
    assert estimator.measure(reading, y)[0][0].value == rows[0][0].value
    assert estimator.measure(reading, None) == [[], []]


def test_an_estimator_of_a_population():
    t, y = mixture(1, 200, 2, distance=1.0)
    e = Decoder(steps=50).measure(Reading("1", t, population=True), y)[0][0]
    assert (e.law, e.stderr, e.channel, e.standing) == ("these N points", 0.0, "layer as it is", "lower")
    # 20 points are enough, because nothing is held out
    assert math.isfinite(Decoder(steps=5).measure(Reading("1", t[:, :20], population=True), y[:, :20])[0][0].value)
    with pytest.raises(InfoplaneError, match="Decoder, layer '1': 20 points; expected at least 32"):
        Decoder().measure(Reading("1", t[:, :20]), y[:, :20])


def test_noisy_codes_of_a_population_are_drawn_afresh():
    y = torch.arange(64) % 2
    codes = torch.randn(1, 64, 20, generator=torch.Generator().manual_seed(0))
    asked = []

    def draw(k: int) -> Tensor:
        asked.append(k)
        return torch.randn(k, 1, 64, 20, generator=torch.Generator().manual_seed(1))

    noise = Noise("echo", torch.zeros_like(codes))
    reading = Reading("1", codes, torch.zeros_like(codes), draw=draw, noise=noise, population=True)
    e = Decoder(steps=200).measure(reading, y)[0][0]
    assert asked == [8]
    assert (e.channel, e.path, e.law, e.standing) == ("echo", "replicates", "these N points", "lower")
    assert e.stderr > 0
    assert e.value <= 4 * e.stderr
    # without draws, points are held out, and points of a population are not independent draws
    e = Decoder(steps=20).measure(Reading("1", codes, torch.zeros_like(codes), population=True), y)[0][0]
    assert (e.law, e.channel, e.path, e.standing) == ("population", "layer as it is", "sampled", "estimate")
    e = Decoder(steps=20).measure(Reading("1", codes, torch.zeros_like(codes)), y)[0][0]
    assert (e.law, e.channel, e.standing) == ("population", "layer as it is", "lower")


def test_warnings():
    t, y = mixture(1, 512, 2, distance=3.0)
    assert Decoder(steps=10).measure(Reading("1", t), y)[0][0].warnings == ("untrained",)
    assert Decoder(steps=300).measure(Reading("1", t), y)[0][0].warnings == ()


def test_options_are_checked():
    for options, says in (({"hidden": 1.5}, "hidden=1.5"), ({"steps": True}, "steps=True"), ({"hidden": -1}, "-1")):
        with pytest.raises(InfoplaneError, match=f"Decoder: .*{says}"):
            Decoder(**options)


@pytest.mark.parametrize(("n", "share"), [(1000, 0.003), (256, 0.01)])
def test_rare_exceptions_that_the_held_out_points_do_not_show(n, share):
    """A sign gives the labels, with rare exceptions, of which often none is held out."""
    g = torch.Generator().manual_seed(1)
    signs = 2 * torch.randint(0, 2, (30, n, 1), generator=g) - 1.0
    y = ((signs[..., 0] > 0) ^ (torch.rand(30, n, generator=g) < share)).long()
    t = signs + 0.05 * torch.randn(30, n, 1, generator=g)
    truth = math.log(2) + share * math.log(share) + (1 - share) * math.log1p(-share)
    found = decoder_information(t, y, seed=list(range(30)), steps=200)
    assert bool((found.value <= truth + 4 * found.stderr + 1e-3).all())
    assert float(found.value.mean()) > 0.9 * truth
