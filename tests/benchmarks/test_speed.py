"""How fast, beside a plain computation from the published formula, in one run. Not part of the ordinary tests:

    python -m pytest tests/benchmarks -q

takes some minutes and prints a table; run it on a machine that does nothing else.
"""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from torch import nn
from torch.nn.functional import cross_entropy

import infoplane as ip
from infoplane.channels.models import rate
from infoplane.runs.training import Training
from infoplane.threads import torch_threads

WIDTHS = (10, 7, 5, 4, 3, 2)
X, Y = ip.data.icosahedron()


def spread():
    generator = torch.Generator().manual_seed(0)
    return [torch.tanh(torch.randn(4096, w, generator=generator)) for w in WIDTHS]


@pytest.fixture(scope="module")
def trained():
    """The layers of a tanh network after 1000 epochs, as Saxe et al. train it."""
    with torch_threads(1):
        settings = ip.Settings.of(preset="saxe", epochs=1000, replicas=1)
        training = Training.start(settings, torch.device("cpu"))
        for _ in range(1000):
            training.run_epoch()
        h, layers = X, []
        with torch.no_grad():
            for layer in training.model.children():
                h = layer(h)
                layers.append(h)
    return layers


# -- KDE


def kde_by_definition(t, s2, y):
    """Kolchinsky & Tracey, equations 10 and 13, with scipy in float64."""
    d = cdist(t.double().numpy(), t.double().numpy(), "sqeuclidean")
    found = []
    for scale in (2 * s2, 8 * s2):
        total = logsumexp(-d / scale, axis=1)
        found.append(math.log(len(t)) - total.mean())
        for c in np.unique(y):
            logsumexp(-d[y == c][:, y == c] / scale, axis=1).mean()
    return found


def kde_plainly(t, s2, y):
    """The same with torch: products in float32, one exponential, two squarings, sums of classes as products."""
    x = (t - t.mean(0)) / (2 * math.sqrt(s2))
    half, onehot = -0.5 * x.square().sum(1), torch.nn.functional.one_hot(y).float()
    wide, narrow = torch.zeros(len(t), 2), torch.zeros(len(t), 2)
    for i in range(0, len(t), 256):
        e = torch.addmm(half[i:], x[i : i + 256], x[i:].T).add_(half[i : i + 256, None]).clamp_(-21.0, 0.0).exp_()
        for sums in (wide, narrow):
            sums[i : i + 256] += e @ onehot[i:]
            sums[i + 256 :] += e[:, 256:].T @ onehot[i : i + 256]
            e = e.square_().square_()
    total = wide.sum(1), narrow.sum(1)
    return [(len(t) / s).log().mean() for s in total]


def kde_of_six(layers):
    return [ip.estimators.kde_bounds(t, 1e-3, Y) for t in layers]


def test_KDE_of_six_spread_layers(side_by_side):
    layers = spread()
    side_by_side(
        lambda: kde_of_six(layers),
        lambda: [kde_plainly(t, 1e-3, Y) for t in layers],
        "<= 60 ms on two threads",
        lambda a, _: a <= 0.060,
    )


def test_KDE_of_six_trained_tanh_layers(side_by_side, trained):
    side_by_side(
        lambda: kde_of_six(trained),
        lambda: [kde_plainly(t, 1e-3, Y) for t in trained],
        "<= 25 ms on two threads",
        lambda a, _: a <= 0.025,
    )


def test_KDE_of_six_layers_against_cdist_and_logsumexp(side_by_side, trained):
    y = Y.numpy()
    side_by_side(
        lambda: kde_of_six(trained),
        lambda: [kde_by_definition(t, 1e-3, y) for t in trained],
        ">= 30 x",
        lambda a, b: b >= 30 * a,
        rounds=1,
    )


def test_KDE_10000_x_1024_against_its_product(side_by_side):
    generator = torch.Generator().manual_seed(0)
    t, y = torch.rand(10_000, 1024, generator=generator), torch.randint(10, (10_000,), generator=generator)
    out = torch.empty(5000, 10_000)
    side_by_side(
        lambda: ip.estimators.kde_bounds(t, 10.0, y),
        lambda: torch.mm(t[:5000], t.T, out=out),  # half of all pairs
        ">= .75 of the time is the product",
        lambda a, b: b >= 0.75 * a,
        rounds=3,
    )


def test_KDE_memory_at_60000_x_20():
    """Growth of the peak of a process of its own."""
    code = (
        "import torch, resource, infoplane as ip\n"
        "torch.set_num_threads(2); t = torch.randn(60000, 20); y = torch.randint(10, (60000,))\n"
        "ip.estimators.kde_bounds(t[:500], 1.0, y[:500])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "ip.estimators.kde_bounds(t, 1.0, y)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    print(f"\nKDE, N = 60000, D = 20: the peak grows by {grown / 1024:.0f} MB (bar: 500)")
    assert grown < 500 * 1024


# -- binning


def binning_by_definition(t, width, y):
    """H(Tq) and I(T;Y) with np.digitize and np.unique."""
    edges = np.arange(np.floor(t.min() / width), np.ceil(t.max() / width) + 1) * width

    def entropy(rows):
        p = np.unique(rows, axis=0, return_counts=True)[1] / len(rows)
        return -(p * np.log(p)).sum()

    cells = np.digitize(t, edges)
    return entropy(cells), entropy(cells) - sum((y == c).mean() * entropy(cells[y == c]) for c in np.unique(y))


def test_binning_of_six_layers(side_by_side, trained):
    arrays, y = [t.numpy() for t in trained], Y.numpy()
    side_by_side(
        lambda: [ip.estimators.binned_entropy(t, width=0.07, labels=Y) for t in trained],
        lambda: [binning_by_definition(t, 0.07, y) for t in arrays],
        "<= 3 ms",
        lambda a, _: a <= 3e-3,
        inner=5,
    )


def test_binning_10000_x_1024(side_by_side):
    generator = torch.Generator().manual_seed(0)
    t, y = torch.rand(10_000, 1024, generator=generator), torch.randint(10, (10_000,), generator=generator)
    array, labels = t.numpy(), y.numpy()
    side_by_side(
        lambda: ip.estimators.binned_entropy(t, width=0.5, labels=y),
        lambda: binning_by_definition(array, 0.5, labels),
        ">= 5 x",
        lambda a, b: b >= 5 * a,
        rounds=3,
    )


# -- training


def test_fifty_networks_at_once_against_one(side_by_side):
    """An epoch of fifty replicas against fifty epochs of one; each with its own seed, order and optimiser state."""
    fifty, one = (Training.start(ip.Settings.of(preset="saxe", replicas=r), torch.device("cpu")) for r in (50, 1))
    side_by_side(
        fifty.run_epoch,
        lambda: [one.run_epoch() for _ in range(50)],
        ">= 8 x",
        lambda a, b: b >= 8 * a,
        rounds=3,
    )


class AdditiveGaussian(nn.Module):
    """z = f + s(f) e with s an affine function of f, as the Echo layer has it, and independent noise."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Linear(width, width)

    def forward(self, f):
        s = 0.9 * torch.sigmoid(self.scale(f))
        self.rate = -s.log().sum(-1).mean()
        return f + s * torch.randn_like(f)


def test_echo_layer_against_additive_Gaussian(side_by_side):
    """Forward, backward and step of 784-1024-256-10 with a noisy layer behind the 256; batch 256, 64 echoes; after the
    first hundred, when a layer so wide follows its moments at one batch in eight."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10))
    noisy = nn.Sequential(*copy.deepcopy(plain)[:4], AdditiveGaussian(256), copy.deepcopy(plain)[4])
    x, y = torch.rand(256, 784), torch.randint(10, (256,))
    with_echo = ip.insert_echo(plain, after=["3"], example=x[:2])

    def step(model, of):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

        def run():
            loss = cross_entropy(model(x), y) + 0.01 * of(model)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return run

    ours = step(with_echo, rate)
    for _ in range(100):
        ours()
    side_by_side(
        ours,
        step(noisy, lambda model: model[4].rate),
        "<= 1.3 x the time",
        lambda a, b: a <= 1.3 * b,
        inner=8,
    )


def echoes_gathered(f, s, echoes):
    """e_i = f_j1 + s_j1 (f_j2 + s_j2 (...)), (j1, j2, ...) other rows in an order of their own: (B, M, K) gathered."""
    n = len(f)
    others = torch.stack([torch.randperm(n - 1)[:echoes] for _ in range(n)])
    others += others >= torch.arange(n)[:, None]
    return (f[others] * s[others].cumprod(1).roll(1, 1).index_fill(1, torch.tensor([0]), 1.0)).sum(1)


def test_echoes_of_256_x_32_x_128_against_the_gather(side_by_side):
    """32 coordinates, 128 echoes."""
    generator = torch.Generator().manual_seed(0)
    f, s = torch.randn(256, 32, generator=generator), 0.9 * torch.rand(256, 32, generator=generator)
    side_by_side(
        lambda: ip.channels.echo_noise(f, s, echoes=128),
        lambda: echoes_gathered(f, s, 128),
        ">= 20 x",
        lambda a, b: b >= 20 * a,
        inner=5,
    )


def test_recording_against_training(side_by_side):
    """As many inputs and layers as of Saxe et al.'s MNIST network: an epoch of 60000, and five snapshots of 10000, of
    the hundred that are to go with twenty epochs."""
    torch.manual_seed(0)
    x, y = torch.rand(60_000, 784), torch.randint(10, (60_000,))
    widths = (784, 1024, 20, 20, 20)
    hidden = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*hidden, nn.Linear(20, 10))
    layers = ["1", "3", "5", "7", "8"]
    recorder = ip.Recorder(model, (x[:10_000], y[:10_000]), layers=layers, estimators=["binning:width=0.5"])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def train():
        for rows in torch.randperm(len(x)).split(128):
            loss = cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with torch.no_grad():
        start = time.perf_counter()
        for _ in range(5):
            model(x[:10_000])
        print(f"\nof the time of five snapshots, the five forward passes: {1e3 * (time.perf_counter() - start):.0f} ms")
    side_by_side(
        lambda: [recorder.snapshot(0) for _ in range(5)],
        train,
        "<= .25 of the time of an epoch",
        lambda a, b: a <= 0.25 * b,
        rounds=1,
    )


# -- the others


def test_KSG_of_10_and_10_dimensions_at_5000(side_by_side):
    from scipy.special import digamma

    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5000, 10, generator=generator)
    b = a + 0.5 * torch.randn(5000, 10, generator=generator)

    def by_definition():
        """Kraskov et al., equation 8, with all distances at once."""
        x, y = (cdist(t, t, "chebyshev") for t in (a, b))
        both = np.maximum(x, y)
        np.fill_diagonal(both, np.inf)
        radius = np.partition(both, 2, axis=1)[:, 2:3]
        nx, ny = ((d < radius).sum(1) - 1 for d in (x, y))
        return digamma(3) + digamma(5000) - (digamma(nx + 1) + digamma(ny + 1)).mean()

    side_by_side(
        lambda: ip.estimators.ksg_information(a, b), by_definition, "<= .5 s", lambda ours, _: ours <= 0.5, rounds=3
    )


@pytest.mark.parametrize(
    ("code", "bar"),
    [
        ("import infoplane", 0.3),
        ("from infoplane.cli import main; main(['--help'], standalone_mode=False)", 0.5),
    ],
)
def test_start(code, bar):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    print(f"\n{code[:40]}: {sorted(times)[2]:.2f} s (bar: {bar})")
    assert sorted(times)[2] < bar


@pytest.mark.parametrize(
    "call",
    [
        "ip.estimators.mixture_information(t, std=torch.full_like(t, 0.5), draws=2)",
        "ip.estimators.ksg_information(t, u)",
        "ip.estimators.renyi_information(t[:4000], y[:4000])",
    ],
)
def test_memory_of_the_others(call):
    code = (
        "import torch, resource, infoplane as ip\n"
        "torch.set_num_threads(2); t = torch.randn(20000, 4).double(); u = t + 0.3 * torch.randn(20000, 4)\n"
        "y = torch.randint(10, (20000,))\n"
        f"full, t, u, y = (t, u, y), t[:500], u[:500], y[:500]\n{call}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"t, u, y = full\n{call}\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(f"\n{call}: the peak grows by {int(done.stdout) / 1024:.0f} MB")
    assert int(done.stdout) < 800 * 1024
