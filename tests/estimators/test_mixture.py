"""Mixture Monte Carlo against direct sums, quadrature, closed forms and symmetries."""

from __future__ import annotations

import math
import resource

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor

from infoplane.errors import InfoplaneError
from infoplane.estimators import kde_bounds, mixture
from infoplane.estimators.mixture import Mixture, MixtureInformation, mixture_information
from infoplane.estimators.protocol import Estimator, Noise, Reading
from infoplane.records import POINTS, POPULATION, Estimate
from tests.drawn import generator, normal

# --- the same numbers, computed directly


def log_densities(z: np.ndarray, f: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Compute ln p(z_i | j) of the noisy units, (N, N); -inf where a unit without noise differs."""
    out = np.zeros((len(z), len(f)))
    for j in range(len(f)):
        noisy = std[j] > 0
        out[:, j] = (-0.5 * ((z - f[j])[:, noisy] / std[j, noisy]) ** 2 - np.log(std[j, noisy])).sum(1)
    silent = (std[:, None] == 0) | (std[None] == 0)
    apart = silent & ((std[:, None] != std[None]) | (f[:, None] != f[None]))
    return np.where(apart.any(2), -np.inf, out)


def divergences(f: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(N, N): KL(p(z|i) || p(z|j))."""
    a, b = std[:, None], std[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        of_unit = np.log(b / a) + (a**2 + (f[:, None] - f[None]) ** 2) / (2 * b**2) - 0.5
    of_unit = np.where((a == 0) & (b == 0), np.where(f[:, None] == f[None], 0, np.inf), of_unit)
    return np.where((a == 0) != (b == 0), np.inf, of_unit).sum(2)


def the_long_way(f: Tensor, std: Tensor, y: np.ndarray, draws: int, seed: int) -> dict[str, float]:
    f_, s_ = f.double().numpy(), std.double().expand_as(f).numpy()
    f_ = f_ - f_.mean(0) * (s_ > 0).all(0)
    g = generator(seed)
    same = y[:, None] == y[None]
    info, label = [], []
    for _ in range(draws):
        xi = torch.randn(f.shape, generator=g, dtype=torch.float64).numpy()
        log_p = log_densities(f_ + s_ * xi, f_, s_)
        total = logsumexp(log_p, axis=1) - np.log(len(f))
        info.append(log_p.diagonal() - total)
        label.append(logsumexp(np.where(same, log_p, -np.inf), axis=1) - np.log(same.sum(1)) - total)
    weights = np.exp(-divergences(f_, s_))
    p = np.bincount(y) / len(y)
    return {
        "information": float(np.mean(info)),
        "label_information": float(np.mean(label)),
        "label_entropy": float(-(p[p > 0] * np.log(p[p > 0])).sum()),
        "thin": float((weights.sum(1) < 5).mean()),
        "label_thin": float(((weights * same).sum(1) < 5).mean()),
        "stderr": float(np.mean(info, axis=0).std(ddof=1) / len(f) ** 0.5),
        "label_stderr": float(np.mean(label, axis=0).std(ddof=1) / len(f) ** 0.5),
    }


def dropped(n: int, d: int) -> tuple[Tensor, Tensor]:
    """A ReLU layer and the std of multiplicative noise, where units at 0 pass unchanged."""
    f = (normal(n, d, seed=3) + 0.5).clamp_min(0).mul(2).round().div(2)
    return f, 0.4 * f


POSITIVE = torch.rand(200, 4, generator=generator(7), dtype=torch.float64) + 0.2
CHANNELS: dict[str, tuple[Tensor, Tensor]] = {
    "normal": (normal(300, 3), torch.tensor(0.5)),
    "little noise": (normal(300, 3), torch.tensor(0.03)),
    "much noise": (normal(300, 3), torch.tensor(20.0)),
    "one unit": (normal(300, 1), torch.tensor(0.2)),
    "wide": (normal(120, 300), torch.tensor(4.0)),
    "very wide": (normal(40, 3000), torch.tensor(30.0)),
    "float32": (normal(300, 3, dtype=torch.float32), torch.tensor(0.5)),
    "offset": (normal(300, 3) + 1000, torch.tensor(0.1)),
    "saturated": (torch.tanh(20 * normal(300, 4)), torch.tensor(0.03)),
    "a constant unit": (normal(300, 3) * torch.tensor([1.0, 0.0, 1.0]) + 7, torch.tensor(0.5)),
    "a noise for each unit": (normal(300, 3), torch.tensor([0.1, 1.0, 5.0])),
    "a noise for each point": (normal(200, 4), torch.rand(200, 1, generator=generator(1)) + 0.1),
    "a noise for each value": (normal(200, 4), POSITIVE),
    "the same at an offset": (normal(200, 4) + 1000, POSITIVE),
    "wide, a noise for each value": (normal(60, 300), 3 + torch.rand(60, 300, generator=generator(2))),
    "dropout": dropped(300, 2),
    "dropout, few alike": dropped(300, 6),
    "dropout of a positive layer": (POSITIVE, 0.3 * POSITIVE),
    "a unit without noise": (torch.cat([normal(200, 2), torch.arange(200.0).remainder(5)[:, None]], 1), None),
    "no noise at all": (torch.arange(200.0).remainder(7)[:, None].expand(200, 2), torch.zeros(200, 2)),
    "far below the values": (
        torch.arange(200).remainder(50).mul(1e5)[:, None].double() + 1e-2 * normal(200, 1),
        torch.tensor(0.02),
    ),
    "far below some values": (
        torch.arange(200).remainder(50).mul(1e3)[:, None].double() + 1e-4 * normal(200, 2),
        1e-4 * (1 + torch.rand(200, 2, generator=generator(4))),
    ),
}
CHANNELS["a unit without noise"] = (CHANNELS["a unit without noise"][0], torch.tensor([0.5, 0.2, 0.0]))


@pytest.mark.parametrize("chunk", [None, 17])
@pytest.mark.parametrize("channel", CHANNELS)
def test_agrees_with_plain_sums_over_the_same_draws(channel, chunk):
    f, std = CHANNELS[channel]
    y = torch.randint(3, (len(f),), generator=generator(9))
    found = mixture_information(f, std=std, labels=y, draws=2, seed=[5], chunk=chunk)
    for name, value in the_long_way(f, std, y.numpy(), 2, 5).items():
        if "stderr" not in name or (found.thin <= 0.5 and (name == "stderr" or found.label_thin <= 0.5)):
            assert float(getattr(found, name)) == pytest.approx(value, abs=1e-5), name
    assert found.information.dtype == torch.float64
    assert found.information.shape == ()
    assert (found.n, found.population) == (len(f), False)


def test_noise_below_what_float64_holds_of_the_sum():
    # 1e17 + 1 is 1e17: only points that are sent twice may coincide
    f = torch.tensor([1e17, 1e17, -1e17, 0.0], dtype=torch.float64)[:, None]
    for std in (torch.ones(4, 1), torch.tensor([1.0, 1.0, 2.0, 3.0])[:, None]):
        found = mixture_information(f, std=std, population=True)
        assert float(found.information) == pytest.approx(1.5 * math.log(2), abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 5, 32, 400])
def test_blocks_hold_every_pair_within_reach_once(chunk):
    n = 150
    place = np.sort(40 * np.random.default_rng(0).random(n))
    low, high = (place + np.random.default_rng(1).standard_normal(n) + shift for shift in (-4, 4))
    seen = np.zeros((n, n), dtype=int)
    for i0, i1, j0, j1 in mixture._blocks(place.tolist(), low.tolist(), high.tolist(), chunk):
        assert (i1 - i0) * (j1 - j0) <= 8 * chunk * chunk
        seen[i0:i1, j0:j1] += 1
    assert (seen[(low[:, None] <= place) & (place <= high[:, None])] == 1).all()
    assert seen.max() == 1
    if chunk == 5:
        assert seen.mean() < 0.5  # what is out of reach is left out


# --- truths


def hermite(of, nodes: int = 200) -> float:
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    return float(w @ of(x) / w.sum())


def binary(distance: float) -> float:
    """I of one bit, sent as 0 or `distance` through noise of std 1."""
    return math.log(2) - hermite(lambda xi: np.logaddexp(0, -(distance**2) / 2 - distance * xi))


def neuron(f, s: float) -> float:
    """I(X;T) of T = f(X) + s Z, X and Z standard normal."""
    x = np.linspace(-9, 9, 6001)
    w = np.exp(-(x**2) / 2)
    w /= w.sum()
    t = np.linspace(f(x).min() - 9 * s, f(x).max() + 9 * s, 1201)
    p = np.exp(-(((t[:, None] - f(x)) / s) ** 2) / 2) @ w / (s * math.sqrt(2 * math.pi))
    return float(-np.trapezoid(p * np.log(np.maximum(p, 1e-300)), t)) - 0.5 * math.log(2 * math.pi * math.e * s**2)


NEURONS = {
    "linear": (lambda x: x, 1.2471, 2.3076),
    "tanh": (lambda x: np.tanh(2 * x), 0.8859, 1.5913),
    "relu": (lambda x: np.maximum(x, 0), 0.6524, 1.3067),
}


def turned(f, n: int, d: int, seed: int) -> Tensor:
    x = normal(n, d, seed=seed).numpy()
    return torch.tensor(f(x)) @ torch.linalg.qr(normal(d, d, seed=seed + 1))[0]


@pytest.mark.parametrize("s", [0.3, 0.1])
@pytest.mark.parametrize("name", NEURONS)
def test_a_turned_product_of_neurons(name, s):
    f, *known = NEURONS[name]
    truth = neuron(f, s)
    assert truth == pytest.approx(known[s == 0.1], abs=6e-5)
    for d, n in ((1, 3000), (2, 3000)):
        found = mixture_information(turned(f, n, d, 11), s**2)
        assert abs(float(found.information) - d * truth) < 4 * float(found.stderr) + (0.005 if d == 1 else 0.05)


def test_five_units_are_thin_and_ten_are_empty():
    f = NEURONS["tanh"][0]
    five = mixture_information(turned(f, 4000, 5, 0), 0.09, draws=2)
    assert float(five.information) == pytest.approx(4.43, abs=4 * float(five.stderr))
    assert 0.01 < float(five.thin) < 0.5
    ten = mixture_information(turned(f, 4000, 10, 0), 0.09, draws=2)
    assert float(ten.information) == pytest.approx(7.75, abs=0.05)  # the truth is 8.859, and ln N 8.294
    assert float(ten.thin) > 0.99
    assert bool(ten.stderr.isnan())
    assert bool(ten.interval.isnan())


@pytest.mark.parametrize("distance", [0.5, 2.0, 6.0])
def test_a_bit(distance):
    n = 1000
    bit = torch.arange(n) % 2
    sent = bit[:, None] * distance + 1e-9 * normal(n, 1)
    found = mixture_information(sent.double(), 1.0, bit, population=True, draws=4)
    assert abs(float(found.information) - binary(distance)) < 4 * float(found.stderr)
    assert abs(float(found.label_information) - binary(distance)) < 4 * float(found.label_stderr)
    two = mixture_information(torch.tensor([[0.0], [distance]]), 1.0, population=True, draws=500)
    assert abs(float(two.information) - binary(distance)) < 4 * float(two.stderr)


@pytest.mark.parametrize("s", [0.1, 0.5])
def test_twelve_bits(s):
    bits = torch.tensor([[float(k >> b & 1) for b in range(12)] for k in range(4096)])
    found = mixture_information(bits, s**2, bits[:, 3].long(), population=True, draws=2)
    rare = 2e-5  # a flip at s = 0.1 takes more draws than these to be seen
    assert abs(float(found.information) - 12 * binary(1 / s)) < 4 * float(found.stderr) + rare
    assert abs(float(found.label_information) - binary(1 / s)) < 4 * float(found.label_stderr) + rare
    assert found.thin is None
    assert found.label_thin is None
    assert math.isfinite(found.stderr)


def test_closed_forms():
    y = torch.arange(50) % 2
    same = mixture_information(torch.full((50, 3), 7.5), 1e-3, y)
    assert float(same.information) == pytest.approx(0, abs=1e-6)
    assert float(same.label_information) == pytest.approx(0, abs=1e-6)
    assert float(same.thin) == 0
    far = mixture_information(torch.arange(30.0)[:, None] * 1e3, 1.0, torch.arange(30) % 3, population=True)
    assert float(far.information) == pytest.approx(math.log(30), abs=1e-12)
    assert float(far.label_information) == pytest.approx(math.log(3), abs=1e-12)
    assert float(far.stderr) == 0.0
    single = mixture_information(torch.ones(1, 2), 1.0, torch.zeros(1, dtype=torch.int64), population=True)
    assert [float(single.information), float(single.stderr)] == [0.0, 0.0]
    assert math.isnan(mixture_information(torch.ones(1, 2), 1.0).stderr)
    one_class = mixture_information(normal(60, 2), 0.1, torch.zeros(60, dtype=torch.int64))
    assert float(one_class.label_information) == float(one_class.label_entropy) == 0.0
    # with one class per point, I(T;Y) is I(X;T)
    own = mixture_information(normal(60, 2), 0.1, torch.arange(60), population=True)
    assert float(own.label_information) == pytest.approx(float(own.information), abs=1e-12)
    assert float(own.label_stderr) == pytest.approx(float(own.stderr), abs=1e-12)


def test_units_that_pass_as_they_are():
    # -0.0 and 0.0 are one value; one of three points is told from the rest
    f = torch.tensor([[0.0], [-0.0], [1.0]])
    found = mixture_information(f, std=0.5 * f.abs(), population=True)
    assert float(found.information) == pytest.approx(math.log(3) - 2 / 3 * math.log(2), abs=1e-12)
    # and the rest from each other by the unit that is noisy
    f = torch.tensor([[0.0, 1.0], [0.0, 3.0], [1.0, 1.0]])
    std = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.3, 1.0]])
    many = 300, 1  # of each: no news of which point is which
    found = mixture_information(f.repeat(many), std=std.repeat(many), population=True)
    truth = math.log(3) - 2 / 3 * math.log(2) + 2 / 3 * binary(2.0)
    assert abs(float(found.information) - truth) < 4 * float(found.stderr)


def test_symmetries():
    f, y = normal(400, 3), torch.randint(4, (400,), generator=generator(2))
    found, again = (mixture_information(f, 0.1, y, draws=20, population=p) for p in (False, True))
    within = 4 * math.sqrt(2)
    order = torch.randperm(400, generator=generator(3))
    rotation = torch.linalg.qr(normal(3, 3, seed=4))[0]
    for other in (
        mixture_information(f[order], 0.1, y[order], draws=20, seed=1),
        mixture_information(f @ rotation + 1000, 0.1, y, draws=20, seed=2),
        mixture_information(10 * f, 10.0, 7 - 5 * y, draws=20, seed=3),
    ):
        assert abs(float(other.information - found.information)) < within * float(again.stderr)
        assert abs(float(other.label_information - found.label_information)) < within * float(again.label_stderr)
        assert float(other.thin) == pytest.approx(float(found.thin), abs=1e-12)
        assert float(other.label_thin) == pytest.approx(float(found.label_thin), abs=1e-12)
    moved = mixture_information(f + 1000, 0.1, y, draws=20)
    assert float(moved.information) == pytest.approx(float(found.information), abs=1e-6)


@pytest.mark.parametrize("s2", [1e-3, 0.1, 3.0])
@pytest.mark.parametrize("d", [1, 4, 40])
def test_lies_in_the_bracket_of_kde(d, s2):
    f, y = normal(500, d), torch.arange(500) % 3
    found, bounds = mixture_information(f, s2, y, population=True, draws=4), kde_bounds(f, s2, y)
    slack = 4 * float(found.stderr) + 1e-6
    assert float(bounds.lower) - slack <= float(found.information) <= float(bounds.upper) + slack
    slack = 4 * float(found.label_stderr) + 1e-6
    assert float(bounds.label_lower) - slack <= float(found.label_information) <= float(bounds.label_upper) + slack
    assert float(found.information) <= math.log(500) + 1e-12
    assert float(found.label_information) <= float(found.label_entropy) + 1e-12


def test_blocks_of_units_add_up_and_noise_loses():
    a, b = normal(16, 2, seed=1), normal(20, 2, seed=2)
    both = torch.cat([a.repeat_interleave(20, 0), b.repeat(16, 1)], 1)
    of = [mixture_information(x, 0.3, population=True, draws=20 if len(x) > 50 else 400) for x in (a, b, both)]
    spread = math.sqrt(sum(float(m.stderr) ** 2 for m in of))
    assert abs(float(of[2].information - of[0].information - of[1].information)) < 4 * spread
    noisier = mixture_information(both, 0.6, population=True, draws=20)
    assert float(noisier.information) < float(of[2].information)


# --- errors and laws


def coverage(law_of, truth: float, population: bool) -> float:
    hits = 0
    for seed in range(200):
        found = mixture_information(law_of(seed), 1.0, population=population, seed=seed)
        hits += abs(float(found.information) - truth) <= float(found.interval)
    return hits / 200


@pytest.mark.slow
def test_intervals_cover_the_truth_of_their_law():
    s = 0.5
    points = normal(400, 2) / s
    truth = float(mixture_information(points, 1.0, population=True, draws=3000, seed=999).information)
    assert 0.9 <= coverage(lambda seed: points, truth, True) <= 0.99
    truth = neuron(lambda x: x / s, 1.0)
    assert 0.9 <= coverage(lambda seed: normal(800, 1, seed=seed) / s, truth, False) <= 0.99
    # for these points alone, the interval describes only the draws
    assert coverage(lambda seed: normal(800, 1, seed=seed) / s, truth, True) < 0.9


def test_standard_errors_are_those_of_repeats():
    points, y = normal(200, 2), torch.arange(200) % 2
    repeats = [mixture_information(points, 0.25, y, population=True, draws=2, seed=s) for s in range(150)]
    for value, stderr in (("information", "stderr"), ("label_information", "label_stderr")):
        spread = torch.stack([getattr(m, value) for m in repeats]).std()
        said = torch.stack([getattr(m, stderr) for m in repeats]).square().mean().sqrt()
        assert float(spread / said) == pytest.approx(1, abs=4 / math.sqrt(300))
    samples = [
        mixture_information(normal(400, 1, seed=s), 1.0, (normal(400, 1, seed=s)[:, 0] > 0).long(), seed=s)
        for s in range(150)
    ]
    for value, stderr in (("information", "stderr"), ("label_information", "label_stderr")):
        spread = torch.stack([getattr(m, value) for m in samples]).std()
        said = torch.stack([getattr(m, stderr) for m in samples]).square().mean().sqrt()
        assert float(spread / said) == pytest.approx(1, abs=4 / math.sqrt(300))
    first = repeats[0]  # 200 degrees of freedom
    assert float(first.interval / first.stderr) == pytest.approx(1.97190, abs=1e-5)
    assert float(first.label_interval / first.label_stderr) == pytest.approx(1.97190, abs=1e-5)


def test_fewer_points_bias_down():
    values = []
    for n in (30, 300, 3000):
        parts = [mixture_information(normal(n, 2, seed=s), 0.02, seed=s) for s in range(3000 // n if n < 3000 else 4)]
        values.append(float(torch.stack([m.information for m in parts]).mean()))
    assert values[0] < values[1] < values[2] < math.log(1 + 1 / 0.02) + 0.03


# --- form


def numbers(found: MixtureInformation) -> list[Tensor]:
    return [v for name in MixtureInformation.__slots__ if isinstance(v := getattr(found, name), Tensor)]


def test_replicas_are_measured_one_by_one():
    f, y = normal(3, 200, 4, dtype=torch.float32), torch.randint(3, (3, 200), generator=generator(1))
    s2 = torch.tensor([0.1, 1.0, 4.0])
    together = mixture_information(f, s2, y, seed=[4, 5, 6])
    assert together.information.shape == (3,)
    for r in range(3):
        alone = mixture_information(f[r], float(s2[r].double()), y[r], seed=[4 + r])
        for a, b in zip(numbers(together), numbers(alone), strict=True):
            assert float(a[r]) == pytest.approx(float(b), abs=1e-12, nan_ok=True)
    std = s2.sqrt().view(3, 1, 1)
    for a, b in zip(numbers(together), numbers(mixture_information(f, std=std, labels=y, seed=[4, 5, 6])), strict=True):
        assert a.tolist() == pytest.approx(b.tolist(), abs=1e-6, nan_ok=True)
    repeated = mixture_information(f[:1].expand(2, 200, 4), 1.0)
    assert float(repeated.information[0]) != float(repeated.information[1])


def test_nothing_outside_is_touched_and_a_seed_is_repeated():
    f = torch.tanh(20 * normal(300, 4, dtype=torch.float32)).requires_grad_()
    std = (0.1 + f.detach().abs()).requires_grad_()
    copy, state = f.detach().clone(), torch.get_rng_state()
    found = [mixture_information(f, std=std, seed=s) for s in (0, 0, 1)]
    assert torch.equal(f.detach(), copy)
    assert torch.equal(torch.get_rng_state(), state)
    assert not found[0].information.requires_grad
    assert float(found[0].information) == float(found[1].information) != float(found[2].information)


def test_memory_does_not_grow_with_the_square_of_n():
    n = 12_000
    f, y = normal(n, 2, dtype=torch.float32), torch.arange(n) % 2
    mixture_information(f[:1000], 1.0, y[:1000])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mixture_information(f, 0.01, y, draws=2)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000  # KiB; a matrix of N^2 float32 is 560 000


@pytest.mark.parametrize(
    ("t", "options", "says"),
    [
        (torch.zeros(5), {"noise_variance": 1.0}, r"shape \(5,\); expected \(N, D\)"),
        (torch.zeros(5, 0), {"noise_variance": 1.0}, r"shape \(5, 0\)"),
        (torch.tensor([[math.nan]]), {"noise_variance": 1.0}, "1 of the 1 values are NaN"),
        (torch.zeros(5, 2), {}, "got neither of noise_variance and std"),
        (torch.zeros(5, 2), {"noise_variance": 1.0, "std": torch.ones(5, 2)}, "got both of noise_variance and std"),
        (torch.zeros(5, 2), {"noise_variance": 0.0}, "noise_variance=0.0; expected a finite number above 0"),
        (torch.zeros(5, 2), {"noise_variance": math.inf}, "noise_variance=inf"),
        (torch.zeros(2, 5, 2), {"noise_variance": torch.ones(3)}, r"or one per replica \(2\)"),
        (torch.zeros(5, 2), {"std": 1.0}, "std is a float; expected a tensor of floating-point numbers on cpu"),
        (torch.zeros(5, 2), {"std": torch.ones(2, dtype=torch.int64)}, "std is a tensor of torch.int64"),
        (torch.zeros(5, 2), {"std": torch.ones(3)}, r"std has shape \(3,\); expected .* to \(1, 5, 2\)"),
        (torch.zeros(5, 2), {"std": torch.tensor(-1.0)}, "values that are NaN, infinite or below 0"),
        (torch.zeros(5, 2), {"std": torch.tensor([1.0, math.nan])}, "values that are NaN, infinite or below 0"),
        (torch.eye(5).double() * 1e90, {"noise_variance": 1.0}, "reach .* times the least standard deviation"),
        (torch.eye(5).double() * 1e90, {"std": torch.eye(5) + 1}, "reach .* times the least standard deviation"),
        (
            torch.zeros(2, 2),
            {"std": torch.tensor([[1e-90], [1.0]], dtype=torch.float64)},
            "times the least standard dev",
        ),
        (torch.zeros(5, 2), {"noise_variance": 1.0, "draws": 1}, "draws=1; expected an integer of at least 2"),
        (torch.zeros(5, 2), {"noise_variance": 1.0, "draws": 2.5}, "draws=2.5"),
        (torch.zeros(5, 2), {"noise_variance": 1.0, "chunk": 0}, "chunk=0; expected a number of rows"),
        (
            torch.zeros(5, 2),
            {"noise_variance": 1.0, "seed": [1, 2]},
            "2 seeds for 1 replicas; expected one per replica",
        ),
        (torch.zeros(5, 2), {"noise_variance": 1.0, "labels": torch.zeros(5)}, "float32; expected a tensor of integ"),
    ],
)
def test_bad_input_is_named(t, options, says):
    with pytest.raises(InfoplaneError, match=f"mixture_information: .*{says}"):
        mixture_information(t, **options)


# --- the estimator


def only(rows: list[Estimate], quantity: str, params: str = "") -> Estimate:
    (found,) = [e for e in rows if e.quantity == quantity and params in e.params]
    return found


def test_estimator_of_a_layer_without_noise():
    f, y = normal(2, 300, 2, dtype=torch.float32), torch.arange(300) % 3
    estimator = Mixture(noise_variance=0.5)
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.deferred) == ("mixture", False)
    for population in (False, True):
        rows = estimator.measure(Reading("0", f, seeds=(5, 6), population=population), y)
        seeds = [mixture.derive("mixture", seed, "0") for seed in (5, 6)]
        found = mixture_information(f, 0.5, y, seed=seeds, population=population)
        for r, row in enumerate(rows):
            of_input, of_label = row
            assert (of_input.quantity, of_label.quantity) == ("I(X;T)", "I(T;Y)")
            assert of_input.value == pytest.approx(float(found.information[r]), abs=1e-12)
            assert of_label.value == pytest.approx(float(found.label_information[r]), abs=1e-12)
            assert of_input.stderr == pytest.approx(float(found.stderr[r]), abs=1e-12)
            assert of_label.stderr == pytest.approx(float(found.label_stderr[r]), abs=1e-12)
            assert of_input.ceiling == pytest.approx(math.log(300) if population else math.nan, nan_ok=True)
            assert of_label.ceiling == pytest.approx(math.log(3))
            for e in row:
                assert (e.standing, e.channel, e.n) == ("estimate", "noise 0.5", 300)
                assert (e.estimator, e.params) == ("mixture", "noise_variance=0.5,draws=3")
                assert e.law == (POINTS if population else POPULATION)
    assert [len(row) for row in estimator.measure(Reading("0", f), None)] == [1, 1]
    layers = [estimator.measure(Reading(name, f), None)[0][0].value for name in ("0", "1")]
    assert layers[0] != layers[1]  # draws of its own for each layer


def test_what_is_asked_of_the_law_stands_over_what_the_probe_says():
    f = normal(1, 100, 1)
    for asked, said, law, words in (
        (None, True, POINTS, ""),
        (True, False, POINTS, ",population=true"),
        (False, True, POPULATION, ",population=false"),
    ):
        row = Mixture(1.0, population=asked).measure(Reading("0", f, population=said), None)[0][0]
        assert (row.law, row.params) == (law, f"noise_variance=1,draws=3{words}")


def test_noise_scaled_with_the_layer():
    f = normal(1, 300, 2) * 50 + 8
    row = Mixture(0.1, "layer").measure(Reading("0", f), None)[0][0]
    alike = Mixture(0.1, "layer").measure(Reading("0", f / 50), None)[0][0]
    assert row.value == pytest.approx(alike.value, abs=1e-6)
    assert row.channel == "noise 0.1 x mean square of the layer"
    assert row.params == "noise_variance=0.1,scale=layer,draws=3"
    constant = Mixture(scale="layer").measure(Reading("0", torch.ones(1, 9, 2)), None)[0][0]
    assert constant.value == pytest.approx(0, abs=1e-6)


def test_above_noise_the_mean_path_and_one_draw_a_point():
    clean = normal(1, 300, 1)
    codes = (clean + 0.3 * normal(1, 300, 1, seed=1)).clamp(-2, 2)
    y = torch.arange(300) % 2
    of_input, of_label = Mixture(0.5).measure(Reading("0", codes, clean, population=True), y)[0]
    seeds = [mixture.derive("mixture", 0, "0")]
    assert of_input.value == pytest.approx(float(mixture_information(clean, 0.5, seed=seeds).information[0]), abs=1e-12)
    assert (of_input.channel, of_input.path, of_input.law) == ("noise 0.5", "noise-off", POINTS)
    assert of_input.warnings == ("noise-off",)
    found = mixture_information(codes, 0.5, y, seed=seeds)
    assert of_label.value == pytest.approx(float(found.label_information[0]), abs=1e-12)
    # one draw per point is a sample, although the inputs are the whole population
    assert (of_label.channel, of_label.path, of_label.law) == ("noise 0.5", "sampled", POPULATION)
    assert of_label.warnings == ("sampled-codes",)
    assert of_label.stderr == pytest.approx(float(found.label_stderr[0]), abs=1e-12)
    assert len(Mixture(0.5).measure(Reading("0", codes, clean), None)[0]) == 1


def test_a_layer_of_gaussian_noise_is_measured_through_its_own():
    sent, y = normal(1, 400, 2, dtype=torch.float32), torch.arange(400) % 2
    std = torch.full_like(sent, 0.5)
    noise = Noise("gaussian", sent, std)
    reading = Reading("2", sent + std * normal(1, 400, 2, seed=1).float(), sent, noise=noise, population=True)
    of_input, of_label = Mixture(draws=2, replicates=2).measure(reading, y)[0]
    seeds = [mixture.derive("mixture", 0, "2")]
    found = mixture_information(sent, 0.25, y, draws=2, seed=seeds, population=True)
    assert of_input.value == pytest.approx(float(found.information[0]), abs=1e-6)
    assert of_label.value == pytest.approx(float(found.label_information[0]), abs=1e-6)
    assert (of_input.quantity, of_label.quantity) == ("I(Z;X)", "I(T;Y)")
    for e in (of_input, of_label):
        assert (e.channel, e.path, e.params, e.law, e.warnings) == ("gaussian", "", "draws=2", POINTS, ())
    assert of_input.ceiling == pytest.approx(math.log(400))


def test_dropout_of_a_rectified_layer():
    f, std = dropped(300, 2)
    reading = Reading("2", f[None], f[None], noise=Noise("dropout", f[None], std[None]))
    (row,) = Mixture().measure(reading, None)[0]
    seeds = [mixture.derive("mixture", 0, "2")]
    assert row.value == pytest.approx(float(mixture_information(f, std=std, seed=seeds).information), abs=1e-12)
    assert row.channel == "dropout"


def two_channels(n: int, below: float, s: float, *, population: bool = True) -> tuple[Reading, Tensor]:
    """X one of n normal points, Z1 = X + noise, Z2 = Z1 + noise."""
    x = normal(1, n, 1).clamp(-2, 2)

    def resend(k: int) -> Tensor:
        return x + below * normal(k, 1, n, 1, seed=3)

    sent = x + below * normal(1, n, 1, seed=2).clamp(-1, 1)
    noise = Noise("gaussian", sent, torch.full_like(sent, s), "I(Z2;Z1)", resend)
    return Reading("2", sent + s * normal(1, n, 1, seed=4), x, noise=noise, population=population), x


def test_above_another_noise_from_replicates():
    below, s = 0.4, 0.5
    reading, x = two_channels(400, below, s)
    y = torch.arange(400) % 2
    rows = Mixture(replicates=40).measure(reading, y)[0]
    assert len(rows) == 3
    between = only(rows, "I(Z2;Z1)")
    truth = 0.5 * math.log(1 + float(reading.noise.sent.var()) / s**2)
    assert abs(between.value - truth) < 4 * between.stderr + 0.03
    # the centres are draws of the noise below, so a sample, whatever X is
    assert (between.law, between.warnings, between.params) == (POPULATION, (), "draws=3")
    of_label = only(rows, "I(T;Y)")
    assert (of_label.law, of_label.warnings) == (POPULATION, ("sampled-codes",))

    through = only(rows, "I(Z;X)")
    truth = float(mixture_information(x[0], below**2 + s**2, population=True, draws=300).information)
    assert abs(through.value - truth) < 4 * through.stderr + 0.02
    assert (through.law, through.warnings) == (POINTS, ("replicate-bias",))
    assert (between.path, of_label.path, through.path) == ("", "sampled", "replicates")
    assert (through.params, through.n) == ("draws=3,replicates=40", 400)
    assert through.ceiling == pytest.approx(math.log(400))
    # few replicates give too much, and less so as they grow, on average over 400 inputs
    values = [only(Mixture(replicates=k).measure(reading, None)[0], "I(Z;X)").value for k in (2, 5, 20)]
    assert between.value > values[0] > values[1] > values[2] > truth
    assert [e.quantity for e in Mixture().measure(reading, y)[0]] == ["I(Z2;Z1)", "I(T;Y)"]


def test_replicates_of_a_sample_and_of_noise_that_varies():
    reading, _ = two_channels(400, 0.4, 0.5, population=False)
    through = only(Mixture(replicates=10).measure(reading, None)[0], "I(Z;X)")
    assert (through.law, through.warnings) == (POPULATION, ("replicate-bias",))
    assert math.isnan(through.ceiling)
    assert math.isfinite(through.stderr)
    reading, _ = two_channels(400, 1e-4, 1e-4, population=False)
    through = only(Mixture(replicates=10).measure(reading, None)[0], "I(Z;X)")
    assert through.warnings == ("empty-mixture", "replicate-bias")
    assert math.isnan(through.stderr)
    assert reading.noise is not None
    varied = Noise("gaussian", reading.noise.sent, reading.noise.sent.abs(), "I(Z2;Z1)", reading.noise.resend)
    through = only(Mixture(replicates=10).measure(Reading("2", reading.codes, noise=varied), None)[0], "I(Z;X)")
    assert (math.isnan(through.value), through.warnings) == (True, ("no-density",))


def test_echo_noise_has_no_density():
    f = normal(2, 50, 2)
    rows = Mixture(replicates=2).measure(Reading("1", f, f, noise=Noise("echo", f)), torch.arange(50) % 2)
    for row in rows:
        (e,) = row
        assert (e.quantity, e.channel, e.warnings) == ("I(Z;X)", "echo", ("no-density",))
        assert math.isnan(e.value)


def test_warnings():
    dense, y = torch.linspace(0, 1, 500).view(1, 500, 1), torch.arange(500) % 2
    few = torch.cat([dense, torch.linspace(100, 1000, 10).view(1, 10, 1)], 1)
    apart = torch.arange(60.0).view(1, 60, 1)

    def warned(t: Tensor, labels: Tensor | None = None, **options: bool) -> list[tuple[str, ...]]:
        return [e.warnings for e in Mixture(0.01, **options).measure(Reading("0", t), labels)[0]]

    assert warned(dense, y) == [(), ()]
    assert warned(few) == [("thin-mixture",)]
    assert warned(few[:, :504]) == [()]  # under 1 %
    assert warned(apart, torch.arange(60) % 2) == [("empty-mixture",)] * 2
    assert warned(apart, torch.arange(60) % 2, population=True) == [(), ()]
    # enough neighbours, but not in its own class
    assert warned(dense, torch.arange(500) // 2 % 125) == [(), ("empty-mixture",)]
    empty = Mixture(0.01).measure(Reading("0", apart), None)[0][0]
    assert math.isnan(empty.stderr)
    assert empty.value == pytest.approx(math.log(60), abs=1e-5)
    whole = Mixture(0.01).measure(Reading("0", apart, population=True), None)[0][0]
    assert math.isfinite(whole.stderr)


def test_options_are_checked():
    for variance in (0.0, -1.0, math.nan, "0.1", True):
        with pytest.raises(InfoplaneError, match=r"Mixture: noise_variance=.*; expected a finite number above 0"):
            Mixture(variance)
    with pytest.raises(InfoplaneError, match=r"Unknown scale of the noise 'layers'\. Did you mean 'layer'"):
        Mixture(scale="layers")
    for draws in (1, 0, 2.5, True):
        with pytest.raises(InfoplaneError, match=r"Mixture: draws=.*; expected an integer of at least 2"):
            Mixture(draws=draws)
    for replicates in (1, -1, 2.5):
        with pytest.raises(InfoplaneError, match=r"Mixture: replicates=.*; expected 0, or an integer of at least 2"):
            Mixture(replicates=replicates)
    with pytest.raises(InfoplaneError, match="Mixture: population='yes'; expected True, False or None"):
        Mixture(population="yes")
    with pytest.raises(InfoplaneError, match="Mixture, layer '0': labels have shape"):
        Mixture().measure(Reading("0", torch.zeros(1, 4, 2)), torch.zeros(3, dtype=torch.int64))
    sent = torch.zeros(1, 4, 2)
    with pytest.raises(InfoplaneError, match="Mixture, layer '0': std has shape"):
        Mixture().measure(Reading("0", sent, noise=Noise("gaussian", sent, torch.ones(1, 3, 2))), None)
