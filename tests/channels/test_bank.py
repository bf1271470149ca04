"""Banks of reference codes: the law of the noise drawn from them, and how they are filled."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from infoplane.channels.bank import _TAIL, Bank
from infoplane.channels.echo import apply_scale, compose_scale, stationary_moments
from infoplane.channels.insertion import insert_echo
from infoplane.channels.models import echo_layers, measuring
from infoplane.channels.stack import fill_banks
from infoplane.errors import InfoplaneError
from infoplane.streams import Streams
from tests.drawn import generator, normal

DOUBLE = torch.float64


def codes(kind: str, n: int = 40, width: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw codes with a mean, (1, n, K), and scales that depend on them."""
    f = normal(1, n, width, seed=seed) + 0.5
    if kind == "relu":
        f = f.relu()
    s = 0.9 * torch.sigmoid(f - 0.5 * f.roll(1, -1))
    if kind == "constant":
        return f, torch.full_like(f, 0.7)
    if kind == "rotation":
        return f, compose_scale(s.log(), torch.linalg.qr(normal(width, width, seed=9))[0])
    if kind == "full":
        sides = torch.linalg.qr(normal(2, 1, n, width, width, seed=10))[0]
        return f, compose_scale(s.log(), sides[0], sides[1])
    return f, s


KINDS = ["diagonal", "relu", "constant", "rotation", "full"]


@pytest.mark.parametrize("kind", KINDS)
def test_noise_and_codes_have_the_moments_of_the_bank(kind: str) -> None:
    f, s = codes(kind)
    bank = Bank(f, s)
    mean, second = stationary_moments(f, s)
    torch.testing.assert_close((bank.mean, bank.covariance), (mean, second - mean.unsqueeze(-1) * mean.unsqueeze(-2)))
    n = 40_000
    e = bank.noise(n, Streams([1]))[0]
    pick = torch.randint(bank.size, (n,), generator=generator(2))
    z = f[0, pick] + apply_scale(s[0, pick], e)
    for sample in (e, z):
        centred = sample - mean[0]
        products = torch.einsum("ni,nj->nij", centred, centred)
        assert (centred.mean(0).abs() <= 5 * centred.std(0) / math.sqrt(n)).all()
        assert ((products.mean(0) - bank.covariance[0]).abs() <= 5 * products.std(0) / math.sqrt(n)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_noise_have_one_law(kind: str) -> None:
    f, s = codes(kind)
    bank = Bank(f, s)
    streams, n = Streams([3]), 20_000
    e, other = bank.noise(n, streams)[0], bank.noise(n, streams)[0]
    pick = torch.randint(bank.size, (n,), generator=generator(4))
    z = f[0, pick] + apply_scale(s[0, pick], other)
    directions = torch.cat([torch.eye(3, dtype=DOUBLE), normal(3, 3, seed=5)], 1)
    smallest = min(
        stats.ks_2samp(a.numpy(), b.numpy()).pvalue for a, b in zip((z @ directions).T, (e @ directions).T, strict=True)
    )
    assert 6 * smallest > 1e-3


def test_noise_of_coin_flips_is_uniform_and_has_a_density_at_any_scale() -> None:
    x = torch.tensor([[[-1.0], [1.0]]], dtype=DOUBLE)
    e = Bank(x, torch.full_like(x, 0.5)).noise(20_000, Streams([0]))[0, :, 0]
    assert stats.kstest(e.numpy(), stats.uniform(-2, 4).cdf).pvalue > 1e-4
    # s = 1/3 gives a Cantor set: without the innermost Gaussian there would be only 2^M values
    e = Bank(x, torch.full_like(x, 1 / 3)).noise(20_000, Streams([0]))[0, :, 0]
    assert len(e.unique()) == 20_000
    assert bool((e.abs() > 0.5 - 1e-3).all())
    assert bool((e.abs() < 1.5 + 1e-3).all())


def test_noise_follows_the_law_of_the_grid() -> None:
    """Iterate the distribution function, P(e <= t) = mean of P(e <= (t - f) / s) over the bank."""
    f, s = codes("diagonal", width=1)
    a, b = f[0, :, 0].numpy(), s[0, :, 0].numpy()
    t = np.linspace(-12, 20, 4001)
    cdf = np.clip((t + 12) / 32, 0, 1)
    for _ in range(120):
        cdf = np.mean([np.interp((t - x) / y, t, cdf) for x, y in zip(a, b, strict=True)], 0)
    e = Bank(f, s).noise(20_000, Streams([7]))[0, :, 0]
    assert stats.kstest(e.numpy(), lambda v: np.interp(v, t, cdf)).pvalue > 1e-4


def test_rows_and_calls_and_replicas_are_independent() -> None:
    f, s = codes("diagonal")
    bank = Bank(f.expand(2, -1, -1), s.expand(2, -1, -1))
    streams = Streams([1, 2])
    first, second = bank.noise(10_000, streams), bank.noise(10_000, streams)
    assert not torch.equal(first, second)
    limit = 5 / math.sqrt(10_000)

    def correlation(a: Tensor, b: Tensor) -> float:
        return abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1]))

    for k in range(3):
        assert correlation(first[0, :, k], second[0, :, k]) < limit  # calls
        assert correlation(first[0, :, k], first[1, :, k]) < limit  # replicas
        assert correlation(first[0, 1:, k], first[0, :-1, k]) < limit  # rows


def test_a_replica_draws_what_it_draws_alone() -> None:
    f, s = (torch.cat([a, b]) for a, b in zip(codes("diagonal", seed=0), codes("constant", seed=1), strict=True))
    s[1] = 0.3  # so that the replicas take different numbers of terms
    both = Bank(f, s)
    assert both.echoes[0] != both.echoes[1]
    noise = both.noise(100, Streams([5, 6]))
    for r, seed in enumerate([5, 6]):
        alone = Bank(f[r : r + 1], s[r : r + 1])
        assert alone.echoes == [both.echoes[r]]
        assert torch.equal(alone.noise(100, Streams([seed]))[0], noise[r])


@pytest.mark.parametrize("s", [0.15, 0.5, 0.9, 0.98])
def test_terms_are_drawn_until_the_tail_is_negligible(s: float) -> None:
    f = normal(1, 50, 2, seed=0)
    bank = Bank(f, torch.full_like(f, s))
    terms = bank.echoes[0]
    assert (s * s) ** terms <= _TAIL < (s * s) ** (terms - 1)
    assert float(bank.tail[0]) == pytest.approx(2 * 0.5 * (s * s) ** terms)


def test_the_tail_of_matrices_is_bounded_by_their_norms() -> None:
    f, s = codes("full")
    bank = Bank(f, s)
    squared = float(torch.linalg.matrix_norm(s[0], 2).square().mean())
    assert float(bank.tail[0]) == pytest.approx(3 * 0.5 * squared ** bank.echoes[0])
    assert squared ** bank.echoes[0] <= _TAIL


def test_the_tail_is_far_below_what_is_reported() -> None:
    assert _TAIL <= 1e-5


def test_a_scale_too_near_one_leaves_a_tail_that_is_said() -> None:
    f = normal(1, 50, 1, seed=0)
    bank = Bank(f, torch.full_like(f, 0.99999))
    assert bank.echoes == [4096]
    assert float(bank.tail[0]) == pytest.approx(0.5 * 0.99999**8192)


def test_the_innermost_bracket_has_the_moments_of_the_bank() -> None:
    """With scales near 1 the innermost bracket dominates, and few terms give the right moments."""
    f = normal(1, 50, 2, seed=0) + torch.tensor([1.0, -2.0])
    bank = Bank(f, torch.full_like(f, 0.99999))
    bank.echoes = [3]
    e, n = bank.noise(20_000, Streams([0]))[0], 20_000
    deviation = bank.covariance[0].diagonal().sqrt()
    assert ((e.mean(0) - bank.mean[0]).abs() <= 5 * deviation / math.sqrt(n)).all()
    assert ((e.std(0) / deviation - 1).abs() <= 5 / math.sqrt(2 * n)).all()
    off = float(bank.covariance[0, 0, 1] / deviation.prod())
    assert float(torch.corrcoef(e.T)[0, 1]) == pytest.approx(off, abs=5 * (1 - off * off) / math.sqrt(n) + 1e-3)


def test_a_constant_or_doubled_coordinate_does_no_harm() -> None:
    f = normal(1, 50, 1, seed=0).repeat(1, 1, 3)
    f[..., 2] = 0.0
    noise = Bank(f, torch.full_like(f, 0.6)).noise(1_000, Streams([0]))[0]
    torch.testing.assert_close(noise[:, 0], noise[:, 1], rtol=1e-5, atol=1e-5)
    assert float(noise[:, 2].abs().max()) < 1e-5


def test_a_replica_that_has_diverged_leaves_the_others_alone() -> None:
    f, s = (t.repeat(2, 1, 1) for t in codes("diagonal"))
    whole = Bank(f[1:], s[1:]).noise(50, Streams([8]))
    f[0, 3] = math.nan
    s[0, 5] = math.inf
    noise = Bank(f, s).noise(50, Streams([7, 8]))
    assert torch.equal(noise[1:], whole)
    assert bool(noise.isfinite().all())


# -- filling


def line(*scales: float, width: int = 1) -> nn.Module:
    """Make identity layers with an Echo layer of constant scale behind each."""
    net = nn.Sequential(*[nn.Linear(width, width, bias=False, dtype=DOUBLE) for _ in scales])
    for layer in net:
        nn.init.eye_(layer.weight)
    model = insert_echo(
        net, [str(k) for k in range(len(scales))], torch.zeros(2, width, dtype=DOUBLE), scale="constant", max_scale=0.95
    )
    for layer, s in zip(echo_layers(model).values(), scales, strict=True):
        ratio = s / 0.95
        nn.init.constant_(layer.log_odds, math.log(ratio / (1 - ratio)))
    return model


def test_a_large_probe_is_its_own_law_and_not_in_step() -> None:
    x = normal(5_000, 1, seed=0)
    (bank,) = fill_banks(line(0.6), x, references=4096, streams=Streams([0])).values()
    assert bank.size == 5_000
    assert torch.equal(bank.f[0].sort(0).values, x.sort(0).values)
    assert float((bank.f[0] == x).double().mean()) < 0.01


@pytest.mark.parametrize("n", [2, 64, 1000, 4095])
def test_a_small_probe_is_its_own_law_too(n: int) -> None:
    """A first layer's echoes follow the law of the probe: each x equally often, even if few."""
    x = torch.arange(n, dtype=DOUBLE).unsqueeze(1)
    (bank,) = fill_banks(line(0.6), x, references=4096, streams=Streams([0])).values()
    counts = bank.f[0, :, 0].long().bincount(minlength=n)
    assert int(counts.min()) == int(counts.max())


def test_reference_codes_above_the_first_layer_are_noisy_and_as_many_as_asked() -> None:
    x = normal(300, 1, seed=0)
    model = line(0.6, 0.7)
    first, second = fill_banks(model, x, references=1024, streams=Streams([0])).values()
    assert second.size >= 1024
    assert len(second.f.unique()) == second.size  # noise makes all codes differ, though inputs repeat
    assert float(second.f.var()) == pytest.approx(float(first.covariance), rel=0.2)
    assert {name: layer.bank is not None for name, layer in echo_layers(model).items()} == {
        "0.echo": True,
        "1.echo": True,
    }


def test_references_in_batches_are_the_same_inputs() -> None:
    x = normal(100, 1, seed=0)
    whole, parts = (
        fill_banks(line(0.6), x, references=64, streams=Streams([0]), batch_size=size)["0.echo"] for size in (None, 7)
    )
    assert torch.equal(whole.f, parts.f)


def test_one_input_is_no_law() -> None:
    with pytest.raises(InfoplaneError, match="fill_banks: 1 inputs; expected at least 2"):
        fill_banks(line(0.6), normal(1, 1, seed=0))


def test_filling_changes_nothing_else() -> None:
    model = line(0.6, 0.7).train()
    model[1].eval()
    flags = [m.training for m in model.modules()]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    fill_banks(model, normal(100, 1, seed=0), references=64, streams=Streams([0]))
    assert torch.equal(state, torch.random.get_rng_state())
    assert flags == [m.training for m in model.modules()]
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    for layer in echo_layers(model).values():
        assert layer.phase == "auto"
        assert layer.watch is None
        assert layer.replay is None
        assert layer.streams is None


def test_measuring_leaves_no_trace() -> None:
    model, x = line(0.6, 0.7).train(), normal(100, 1, seed=0)
    fill_banks(model, x, references=64, streams=Streams([0]))
    banks = [layer.bank for layer in echo_layers(model).values()]
    own = echo_layers(model)["0.echo"].streams = Streams([5])
    state = torch.random.get_rng_state()

    def interrupted() -> None:
        with measuring(model, "draw", Streams([1])) as layers:
            assert not model.training
            assert not torch.is_grad_enabled()
            torch.rand(3)  # as a shuffled loader would
            for layer in layers.values():
                layer.watch, layer.bank, layer.phase = [], None, "off"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(m.training for m in model.modules())
    assert torch.is_grad_enabled()
    for layer, bank, streams in zip(echo_layers(model).values(), banks, (own, None), strict=True):
        assert layer.bank is bank
        assert layer.streams is streams
        assert layer.phase == "auto"
        assert layer.watch is None


# -- two layers


def gaussian_information(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Compute -1/2 log(1 - corr^2) of two Gaussian samples, and its standard error."""
    rho = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
    return -0.5 * math.log(1 - rho * rho), rho / math.sqrt(len(a))


def drawn(model: nn.Module, x: Tensor, seed: int) -> list[Tensor]:
    """Return the codes of every Echo layer in one noisy pass, (N,) each."""
    with measuring(model, "draw", Streams([seed])) as layers:
        for layer in layers.values():
            layer.watch = []
        model(x)
        return [layer.watch[0].z[0, :, 0] for layer in layers.values()]


def test_two_gaussian_layers() -> None:
    """X -> Z1 -> Z2 with independent reference codes: both rates and the closed form of I(Z2;X)."""
    s1, s2, n = 0.6, 0.7, 40_000
    model = line(s1, s2)
    fill_banks(model, normal(n, 1, seed=0), streams=Streams([1]))
    x = normal(n, 1, seed=2)
    z1, z2 = drawn(model, x, seed=3)
    r1, r2 = -math.log(s1), -math.log(s2)
    closed = -0.5 * math.log(1 - (1 - s1 * s1) * (1 - s2 * s2))
    assert closed == pytest.approx(0.1976, abs=5e-5)
    for a, b, expected, s in ((x[:, 0], z1, r1, s1), (z1, z2, r2, s2), (x[:, 0], z2, closed, s2)):
        information, error = gaussian_information(a, b)
        # the bank is a sample: its variance is off by sqrt(2 / n), and R by (1 - s^2) / 2 of that
        assert information == pytest.approx(expected, abs=5 * (error + (1 - s * s) / 2 * math.sqrt(4 / n)))
    assert closed < min(r1, r2)


@pytest.mark.parametrize(("s1", "s2"), [(0.6, 0.836), (0.6, 0.8)])
def test_echoes_of_the_same_batch_do_not_do_for_a_second_layer(s1: float, s2: float) -> None:
    """Rows share the first layer's echoes, so I(Z2;Z1) exceeds the rate; a bank mends this."""
    n = 40_000
    model = line(s1, s2).train()
    pairs = []
    for seed in range(400):
        for layer in echo_layers(model).values():
            layer.watch, layer.streams = [], Streams([1000 + seed])
        model(normal(100, 1, seed=seed))
        pairs.append(torch.stack([layer.watch[0].z[0, :, 0] for layer in echo_layers(model).values()]))
    shared, error = gaussian_information(*torch.cat(pairs[10:], 1))
    for layer in echo_layers(model).values():
        layer.watch = layer.streams = None
    fill_banks(model, normal(n, 1, seed=0), streams=Streams([1]))
    independent, _ = gaussian_information(*drawn(model, normal(n, 1, seed=2), seed=3))
    assert independent == pytest.approx(-math.log(s2), abs=5 * (error + (1 - s2 * s2) / 2 * math.sqrt(4 / n)))
    assert shared > -math.log(s2) + 5 * error
