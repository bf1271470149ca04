"""Channels of known information against closed forms, other quadratures, limits and symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from infoplane.errors import InfoplaneError
from infoplane.records import UNITS
from infoplane.theory.channels import (
    cube_information,
    discrete_input_information,
    echo_chain_gaussian,
    gaussian_input_information,
    gaussian_pair_information,
    label_information_1d,
    minimal_model_entropy,
    rotated_neurons,
)

LN2 = math.log(2)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def linear(x):
    return x


def tanh2(x):
    return np.tanh(2 * x)


def relu(x):
    return np.maximum(x, 0)


def pdf(x):
    return math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def density(function, std, t, nodes=1800):
    """Return p(t) by the trapezoid rule in x."""
    x = np.linspace(-9, 9, nodes + 1)
    kernel = np.exp(-0.5 * ((t[:, None] - function(x)) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    return kernel @ (norm.pdf(x) * (x[1] - x[0]))


# Gaussian input


@pytest.mark.parametrize(
    ("function", "std", "nats"),
    [
        (linear, 0.3, 1.2471),
        (linear, 0.1, 2.3076),
        (tanh2, 0.3, 0.8859),
        (tanh2, 0.1, 1.5913),
        (relu, 0.3, 0.6524),
        (relu, 0.1, 1.3067),
    ],
)
def test_one_neuron(function, std, nats):
    assert gaussian_input_information(function, std) == pytest.approx(nats, abs=6e-5)


@pytest.mark.parametrize("std", [0.01, 0.1, 0.7, 3.0, 100.0, 1e4])
def test_a_linear_neuron_has_the_closed_form(std):
    for slope in (1.0, -0.3):
        expected = 0.5 * math.log1p((slope / std) ** 2)
        assert gaussian_input_information(lambda x, a=slope: a * x + 5, std) == pytest.approx(
            expected, rel=1e-13, abs=2e-15
        )


@pytest.mark.parametrize(
    ("function", "scalar"), [(tanh2, lambda x: math.tanh(2 * x)), (relu, lambda x: max(x, 0.0))], ids=["tanh", "relu"]
)
def test_agrees_with_adaptive_quadrature(function, scalar):
    std = 0.3

    def p(t):
        return sum(
            quad(lambda x: pdf(x) * pdf((t - scalar(x)) / std) / std, a, b, epsabs=1e-13, epsrel=1e-11)[0]
            for a, b in [(-9, -1), (-1, 0), (0, 1), (1, 9)]
        )

    t = np.arange(-3, 9 if function is relu else 3, 0.1)  # a third of std: 1e-20 by the trapezoid rule
    values = np.array([p(v) for v in t])
    entropy = -0.1 * (values * np.log(values)).sum()
    expected = entropy - 0.5 * math.log(2 * math.pi * math.e * std**2)
    assert gaussian_input_information(function, std) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("std", [0.05, 0.3, 1.0])
@pytest.mark.parametrize(
    "function",
    [tanh2, relu, lambda x: np.tanh(20 * x), lambda x: np.sin(9 * x), lambda x: relu(x - 0.3) - 2 * relu(-x - 1.1)],
    ids=["tanh", "relu", "steep", "sine", "kinks"],
)
def test_the_order_of_quadrature_does_not_matter(function, std):
    expected = gaussian_input_information(function, std, per_std=13)
    assert gaussian_input_information(function, std) == pytest.approx(expected, abs=1e-12)
    assert gaussian_input_information(function, std, per_std=4) == pytest.approx(expected, abs=1e-7)


def test_jumps_are_found():
    # sign(x - c) is a binary symbol, of probability Phi(-c)
    for c in (0.0, 0.3, -1.2345):
        p = norm.cdf(-c)
        for std in (0.1, 0.8):
            found = gaussian_input_information(lambda x, c=c: np.where(x > c, 1.0, -1.0), std)
            assert found == pytest.approx(discrete_input_information([1, -1], std, [p, 1 - p]), abs=1e-12)


def test_kinks_are_found_anywhere():
    std, c = 0.3, 0.3
    t = np.arange(-3, 9, 0.05)
    p = density(lambda x: relu(x - c), std, t, 18000)  # the kink is a node
    expected = -0.05 * (p * np.log(p)).sum() - 0.5 * math.log(2 * math.pi * math.e * std**2)
    assert gaussian_input_information(lambda x: relu(x - c), std) == pytest.approx(expected, abs=1e-7)


def test_scale_shift_and_sign_of_a_neuron_do_not_matter():
    expected = gaussian_input_information(tanh2, 0.2)
    for function, std in [
        (lambda x: -tanh2(x), 0.2),
        (lambda x: tanh2(-x), 0.2),
        (lambda x: 1000 + tanh2(x), 0.2),
        (lambda x: 1e-5 * tanh2(x), 2e-6),
        (lambda x: 1e5 * tanh2(x), 2e4),
    ]:
        assert gaussian_input_information(function, std) == pytest.approx(expected, abs=1e-11)
    assert gaussian_input_information(lambda x: 0 * x + 3, 0.1) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("function", [tanh2, relu])
def test_a_neuron_in_much_noise_has_half_its_signal_to_noise(function):
    x = np.linspace(-9, 9, 1801)
    f, w = function(x), norm.pdf(x) * (x[1] - x[0])
    variance = 0.5 - 0.5 / math.pi if function is relu else w @ f**2 - (w @ f) ** 2
    for std in (30.0, 300.0, 1000.0):
        first = 0.5 * variance / std**2
        expected = first - first**2  # of the order of first^3 is left
        assert gaussian_input_information(function, std) == pytest.approx(expected, abs=30 * first**3 + 1e-15)


def test_a_neuron_in_little_noise_has_its_differential_entropy():
    # h(f(X)) = h(X) + E ln f'(X)
    x = np.linspace(-9, 9, 1801)
    stretch = norm.pdf(x) @ np.log(1 + 0.5 * np.cos(x)) * (x[1] - x[0])
    for std in (0.1, 0.05):
        found = gaussian_input_information(lambda x: x + 0.5 * np.sin(x), std)
        assert found == pytest.approx(stretch - math.log(std), abs=2 * std**2)
    # A ReLU tells the sign of X, and half of the time it also sends a half-Gaussian of entropy
    # h(X) - ln 2. This holds except for points within the noise.
    for std in (0.1, 0.01):
        lost = LN2 + 0.5 * (-math.log(std) - LN2) - gaussian_input_information(relu, std)
        assert 0 < lost < 1.2 * std * math.log(1 / std)


@pytest.mark.parametrize(("function", "std"), [(tanh2, 0.3), (relu, 0.1), (linear, 1.0)])
def test_a_gaussian_neuron_by_monte_carlo(function, std):
    generator = rng(3)
    x, z = generator.standard_normal((2, 2000))
    terms = norm.logpdf(z) - math.log(std) - np.log(density(function, std, function(x) + std * z))
    error = terms.std() / math.sqrt(len(terms))
    assert gaussian_input_information(function, std) == pytest.approx(terms.mean(), abs=4 * error)


# discrete input


@pytest.mark.parametrize("std", [0.2, 0.5, 1.0, 3.0])
def test_a_binary_symbol_agrees_with_adaptive_quadrature(std):
    lost = quad(lambda z: norm.pdf(z) * np.logaddexp(0, -2 * (1 + std * z) / std**2), -12, 12, epsabs=1e-13, limit=400)[
        0
    ]
    assert discrete_input_information([-1, 1], std) == pytest.approx(LN2 - lost, abs=1e-11)
    assert cube_information(1, std) == pytest.approx(LN2 - lost, abs=1e-11)


def test_the_capacity_of_binary_signalling_at_0_dB():
    assert discrete_input_information([-1, 1], 1.0) / LN2 == pytest.approx(0.4859, abs=1e-4)


SYMBOLS = {
    "binary": [-1.0, 1.0],
    "uneven": [0.0, 0.1, 1.0, 5.0],
    "plane": [[0.0, 0.0], [1.0, 0.2], [0.3, 2.0]],
    "skewed weights": [[-1.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.5, 0.5]],
}
WEIGHTS = {"skewed weights": [0.9, 0.05, 0.05 - 1e-17, 1e-17]}


@pytest.mark.parametrize("std", [0.05, 0.3, 1.0, 20.0])
@pytest.mark.parametrize("name", SYMBOLS)
def test_the_order_of_quadrature_does_not_matter_for_symbols(name, std):
    values, weights = SYMBOLS[name], WEIGHTS.get(name)
    expected = discrete_input_information(values, std, weights, per_std=17)
    assert discrete_input_information(values, std, weights) == pytest.approx(expected, abs=1e-12)
    assert discrete_input_information(values, std, weights, per_std=4) == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize("name", SYMBOLS)
def test_symbols_in_the_limits_of_the_noise(name):
    v = np.array(SYMBOLS[name])
    v = v.reshape(len(v), -1)
    w = np.array(WEIGHTS.get(name, np.full(len(v), 1 / len(v))))
    entropy = -(w * np.log(w)).sum()
    assert discrete_input_information(v, 1e-3, w) == pytest.approx(entropy, abs=1e-13)
    trace = (w @ v**2 - (w @ v) ** 2).sum()
    for std in (100.0, 1e3):
        first = 0.5 * trace / std**2
        assert discrete_input_information(v, std, w) == pytest.approx(first, rel=trace / std**2 + 1e-9, abs=1e-15)


def test_the_two_forms_of_the_integral_agree():
    # an unused second dimension sends the same symbols through the grid in the plane
    v = np.array([0.0, 0.4, 1.0, 2.5])
    w = np.array([0.1, 0.4, 0.2, 0.3])
    for std in (0.1, 0.5, 2.0):
        useless = np.stack([v, np.zeros(4)], 1)
        assert discrete_input_information(useless, std, w) == pytest.approx(
            discrete_input_information(v, std, w), abs=1e-14
        )
        # the same symbols with an independent fair bit beside each: the informations add up
        both = np.array([[a, b] for a in v for b in (-0.7, 0.7)])
        expected = discrete_input_information(v, std, w) + discrete_input_information([-0.7, 0.7], std)
        assert discrete_input_information(both, std, np.repeat(w, 2) / 2) == pytest.approx(expected, abs=1e-12)


def test_a_rotated_cube_is_its_bits():
    corners = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], dtype=float)
    rotation = np.linalg.qr(rng().standard_normal((5, 3)))[0]
    found = discrete_input_information(7 + corners @ rotation.T, 0.6, per_std=3)  # three dimensions of five
    assert found == pytest.approx(cube_information(3, 0.6), abs=2e-6)
    square = corners[corners[:, 2] > 0] @ rotation.T
    assert discrete_input_information(square, 0.6) == pytest.approx(cube_information(2, 0.6), abs=1e-12)


def test_cubes():
    assert cube_information(12, 1e-3) == pytest.approx(12 * LN2, abs=1e-12)
    assert cube_information(12, 0.5) == pytest.approx(12 * discrete_input_information([0, 2], 0.5), abs=1e-12)
    assert cube_information(12, 0.5, spacing=1.0) == pytest.approx(cube_information(12, 1.0), abs=1e-12)
    assert cube_information(12, 0.5, spacing=1.0) == pytest.approx(
        12 * discrete_input_information([0, 1], 0.5), abs=1e-12
    )


def test_equal_symbols_are_one():
    assert discrete_input_information([2.0, 2.0, 2.0], 0.1) == 0.0
    assert discrete_input_information([[1.0, 3.0]], 0.1) == 0.0
    assert discrete_input_information([0, 0, 1], 0.2) == pytest.approx(
        discrete_input_information([0, 1], 0.2, [2 / 3, 1 / 3]), abs=1e-14
    )
    assert discrete_input_information([0, 1], 0.2, [0.5 + 2e-10, 0.5 + 2e-10]) == discrete_input_information(
        [0, 1], 0.2
    )
    assert discrete_input_information([0, 5, 1], 0.2, [0.5, 0, 0.5]) == discrete_input_information([0, 1], 0.2)


@pytest.mark.parametrize(
    ("values", "std"), [(rng(1).standard_normal(6), 0.3), (rng(2).standard_normal((5, 2)), 0.8)], ids=["line", "plane"]
)
def test_symbols_by_monte_carlo(values, std):
    generator = rng(5)
    m = len(values)
    v = values.reshape(m, -1)
    w = generator.dirichlet(np.ones(m))
    i = generator.choice(m, size=40_000, p=w)
    z = generator.standard_normal((len(i), v.shape[1]))
    d = ((v[i] + std * z)[:, None] - v) / std
    terms = -logsumexp(-0.5 * (d**2).sum(2), b=w, axis=1) - 0.5 * (z**2).sum(1)
    error = terms.std() / math.sqrt(len(terms))
    assert discrete_input_information(values, std, w) == pytest.approx(terms.mean(), abs=4 * error)


def test_more_noise_and_fewer_symbols_hold_less():
    v = rng(7).standard_normal(8)
    found = [discrete_input_information(v, std) for std in np.geomspace(1e-3, 1e3, 25)]
    assert (np.diff(found) < 1e-13).all()
    # I(T;Y) of Y = g(X) is no more than I(T;X), and grows as Y is refined
    coarse, fine = np.arange(8) // 4, np.arange(8) // 2
    for std in (0.01, 0.3, 2.0):
        chain = [label_information_1d(v, y, std) for y in (0 * coarse, coarse, fine, np.arange(8))]
        assert chain == sorted(chain)
        assert chain[0] == pytest.approx(0, abs=1e-15)
        assert chain[-1] == pytest.approx(discrete_input_information(v, std), abs=1e-12)


def test_many_symbols_are_a_gaussian():
    # 4000 quantiles of N(0, 1)
    v = norm.ppf((np.arange(4000) + 0.5) / 4000)
    assert discrete_input_information(v, 0.5) == pytest.approx(0.5 * math.log1p(np.var(v) / 0.25), abs=1e-4)


# labels


def test_labels_in_the_limits_of_the_noise():
    values, labels, w = [0.0, 0.0, 1.0, 3.0], ["a", "b", "a", "b"], np.array([0.1, 0.2, 0.3, 0.4])
    # joint table of (value, label): (0, a) .1, (0, b) .2, (1, a) .3, (3, b) .4
    p_v, p_y = {0: 0.3, 1: 0.3, 3: 0.4}, {"a": 0.4, "b": 0.6}
    expected = sum(p * math.log(p / (p_v[int(v)] * p_y[y])) for v, y, p in zip(values, labels, w, strict=True))
    assert label_information_1d(values, labels, 1e-3, w) == pytest.approx(expected, abs=1e-13)
    # half the variance of E[V|Y] over std^2
    means = {"a": 0.3 / 0.4, "b": 1.2 / 0.6}
    mean = sum(p_y[y] * means[y] for y in p_y)
    between = sum(p_y[y] * (means[y] - mean) ** 2 for y in p_y)
    for std in (100.0, 1e3):
        first = 0.5 * between / std**2
        assert label_information_1d(values, labels, std, w) == pytest.approx(first, rel=1e-3, abs=1e-15)


def test_labels_obey_the_chain_rule():
    # I(T;X) = I(T;Y) + sum_y p(y) I(T;X|Y = y) for Y = g(X)
    v, w = rng(3).standard_normal(6), rng(4).dirichlet(np.ones(6))
    y = np.array([0, 0, 0, 1, 1, 2])
    for std in (0.05, 0.4, 5.0):
        within = sum(
            w[y == c].sum() * discrete_input_information(v[y == c], std, w[y == c] / w[y == c].sum()) for c in range(3)
        )
        assert label_information_1d(v, y, std, w) == pytest.approx(
            discrete_input_information(v, std, w) - within, abs=1e-12
        )
        finer = label_information_1d(v, y, std, w, per_std=16)
        assert label_information_1d(v, y, std, w) == pytest.approx(finer, abs=1e-12)


def test_independent_labels_hold_nothing():
    values, labels = [0, 0, 1, 1], [0, 1, 0, 1]
    assert label_information_1d(values, labels, 0.1) == pytest.approx(0, abs=1e-15)


def test_labels_by_monte_carlo():
    generator = rng(8)
    v, y, w = np.array([-1.0, 0.0, 0.5, 2.0]), np.array([0, 1, 0, 1]), np.array([0.2, 0.3, 0.4, 0.1])
    std = 0.5
    i = generator.choice(4, size=40_000, p=w)
    kernel = w * norm.pdf((v[i] + std * generator.standard_normal(len(i)))[:, None], v, std)
    joint = np.where(y == y[i, None], kernel, 0).sum(1)
    terms = np.log(joint / kernel.sum(1) / np.array([0.6, 0.4])[y[i]])
    error = terms.std() / math.sqrt(len(terms))
    assert label_information_1d(v, y, std, w) == pytest.approx(terms.mean(), abs=4 * error)


# closed forms


def test_gaussian_pairs():
    assert gaussian_pair_information(0.6) == pytest.approx(-0.5 * math.log(0.64))
    assert gaussian_pair_information(-0.6, 7) == pytest.approx(7 * gaussian_pair_information(0.6))
    assert gaussian_pair_information(1e-9) == pytest.approx(5e-19)
    # T = X + std Z: rho^2 = 1 / (1 + std^2)
    assert gaussian_pair_information(1 / math.sqrt(1.04)) == pytest.approx(gaussian_input_information(linear, 0.2))


def test_echo_chain():
    assert echo_chain_gaussian(0.6, 0.7) == pytest.approx(0.1976, abs=5e-5)
    for s1, s2 in [(0.6, 0.7), (0.01, 0.3), (0.99, 0.01)]:
        # Z1 = X + s1 E1 with Var E1 = 1 / (1 - s1^2)
        # Z2 = Z1 + s2 E2 with Var E2 = Var Z1 / (1 - s2^2)
        z1 = 1 + s1**2 / (1 - s1**2)
        z2 = z1 + s2**2 * z1 / (1 - s2**2)
        assert echo_chain_gaussian(s1, s2) == pytest.approx(gaussian_pair_information(math.sqrt(1 / z2)), rel=1e-11)
        assert echo_chain_gaussian(s1, s2) < min(-math.log(s1), -math.log(s2))
        assert echo_chain_gaussian(s1, s2) == echo_chain_gaussian(s2, s1)
    assert echo_chain_gaussian(1e-12, 1e-30) == pytest.approx(-math.log(1e-12))


# the minimal model


def unbounded(w: float) -> np.ndarray:
    width = 2 / 30
    k = math.ceil(10 * w / width)
    return width * np.arange(-k, k + 1)


def relu_inverse(b):
    return np.where(b > 0, b, -np.inf)


def bits(w: float, edges: np.ndarray, inverse) -> float:
    return minimal_model_entropy(w, edges, inverse) / UNITS["bits"]


def test_tanh_in_the_minimal_model_rises_and_falls():
    edges = np.linspace(-1, 1, 31)
    weights = np.arange(0.05, 3, 0.01)
    found = [bits(w, edges, np.arctanh) for w in weights]
    peak = int(np.argmax(found))
    assert found[peak] == pytest.approx(4.900, abs=5e-4)
    assert weights[peak] == pytest.approx(0.87, abs=1e-9)
    assert (np.diff(found[: peak + 1]) > 0).all()
    assert (np.diff(found[peak:]) < 0).all()
    assert bits(1e6, edges, np.arctanh) == pytest.approx(1, abs=1e-4)
    assert bits(1e-3, edges, np.arctanh) == pytest.approx(1, abs=1e-9)  # 0 is an edge: the sign is all there is


def test_linear_and_relu_in_the_minimal_model_grow():
    decades = [1.0, 10.0, 100.0, 1000.0]
    grown = np.diff([bits(w, unbounded(w), linear) for w in decades])
    assert grown == pytest.approx([3.32] * 3, abs=5e-3)
    grown = np.diff([bits(w, unbounded(w), relu_inverse) for w in decades])
    assert grown == pytest.approx([1.79, 1.68, 1.66], abs=5e-3)


def test_the_minimal_model_by_counting():
    x = rng(6).standard_normal(10**6)
    edges = np.linspace(-1, 1, 31)
    p = np.histogram(np.tanh(2 * x), edges)[0] / len(x)
    plug_in = -(p * np.log(p)).sum()
    error = math.sqrt((p * np.log(p) ** 2).sum() - plug_in**2) / math.sqrt(len(x))
    assert minimal_model_entropy(2.0, edges, np.arctanh) == pytest.approx(plug_in + 29 / 2e6, abs=4 * error)
    p = np.histogram(relu(3 * x), unbounded(3))[0] / len(x)
    p = p[p > 0]
    plug_in = -(p * np.log(p)).sum()
    error = math.sqrt((p * np.log(p) ** 2).sum() - plug_in**2) / math.sqrt(len(x))
    assert minimal_model_entropy(3.0, unbounded(3), relu_inverse) == pytest.approx(
        plug_in + len(p) / 2e6, abs=4 * error
    )


# samplers


@pytest.mark.parametrize(("function", "std"), [(tanh2, 0.3), (relu, 0.2)])
def test_rotated_neurons_know_their_information(function, std, seeded):
    dimension, n = 4, 1000
    x, f, t, truth = rotated_neurons(function, dimension, std, n, seeded(1))
    assert x.shape == f.shape == t.shape == (n, dimension)
    assert t.dtype == torch.float64
    assert truth == pytest.approx(dimension * gaussian_input_information(function, std))
    straight = torch.from_numpy(function(x.numpy()))
    q = torch.linalg.lstsq(straight, f).solution
    assert torch.allclose(q @ q.T, torch.eye(dimension, dtype=torch.float64), atol=1e-10)
    noise = ((t - f) / std).numpy()
    assert abs(noise.mean()) < 4 / math.sqrt(noise.size)
    assert abs((noise**2).mean() - 1) < 4 * math.sqrt(2 / noise.size)
    # rotated back, the units are independent channels
    back, sent = (t @ q.T).numpy(), straight.numpy()
    terms = sum(
        norm.logpdf(back[:, d], sent[:, d], std) - np.log(density(function, std, back[:, d])) for d in range(dimension)
    )
    assert truth == pytest.approx(terms.mean(), abs=4 * terms.std() / math.sqrt(n))


def test_rotations_are_uniform_and_follow_the_generator(seeded):
    again = [rotated_neurons(tanh2, 3, 0.3, 5, seeded(2)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(again[0][:3], again[1][:3], strict=True))
    rotations = []
    for seed in range(50):
        x, f, _, _ = rotated_neurons(linear, 3, 1.0, 3, seeded(seed))
        rotations.append(torch.linalg.solve(x, f).T)
    mean = torch.stack(rotations).mean(0)
    assert float(mean.abs().max()) < 4 * math.sqrt(1 / 3 / 50)


# errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gaussian_input_information(linear, 0.0), "std=0.0; expected a finite number above 0"),
        (lambda: gaussian_input_information(linear, 1.0, per_std=0), "per_std=0; expected at least 1"),
        (lambda: gaussian_input_information(lambda x: 1 / (x - x), 1.0), "expected finite numbers of the same shape"),
        (lambda: gaussian_input_information(lambda x: x[:1], 1.0), r"returned shape \(1, 16\)"),
        (lambda: gaussian_input_information(lambda x: np.exp(3 * x), 0.01), "expected a larger std"),
        (lambda: discrete_input_information([0, 1], math.nan), "std=nan"),
        (lambda: discrete_input_information([], 1.0), r"values of shape \(0,\)"),
        (lambda: discrete_input_information([0, math.inf], 1.0), "finite numbers"),
        (lambda: discrete_input_information(np.eye(6), 1.0), "span 5 dimensions; expected at most 3"),
        (lambda: discrete_input_information([0, 1], 1.0, [0.5, 0.6]), "with a sum of 1"),
        (lambda: discrete_input_information([0, 1], 1.0, [1.5, -0.5]), "none negative"),
        (lambda: discrete_input_information([0, 1], 1.0, [1.0]), r"weights of shape \(1,\); expected \(2,\)"),
        (lambda: label_information_1d([0, 1], [0], 1.0), r"labels of shape \(1,\)"),
        (lambda: label_information_1d([0, 1], [0, 1], -1.0), "std=-1.0"),
        (lambda: gaussian_pair_information(1.0), "rho=1.0; expected a number between -1 and 1"),
        (lambda: echo_chain_gaussian(0.5, 1.0), "a scale of 1.0; expected a number between 0 and 1"),
        (lambda: minimal_model_entropy(0.0, [0, 1], linear), "w=0.0"),
        (lambda: minimal_model_entropy(1.0, [1, 0], linear), "at least 2 edges in rising order"),
        (lambda: minimal_model_entropy(1.0, [-1, 1], linear), "0.317 of the law lies outside the edges"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # raised by functions that are wrong on purpose
def test_bad_arguments_are_refused_with_a_message(call, words):
    with pytest.raises(InfoplaneError, match=words):
        call()
