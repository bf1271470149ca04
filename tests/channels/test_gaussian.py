"""Gaussian and dropout layers: their noise, their bound, and networks that hold them."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import nn

import infoplane as ip
from infoplane.channels.gaussian import mean_field_bound
from infoplane.runs.build import build
from infoplane.runs.settings import Settings
from infoplane.runs.training import Training as Run
from infoplane.runs.training import recorder_of
from infoplane.streams import Streams

X, Y = ip.data.icosahedron()


def gaussian_codes(n, k, seed=0):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_bound_is_the_information_of_gaussian_codes():
    """Gaussian units of variance v in noise of variance s2 have 1/2 ln(1 + v / s2) each."""
    f = gaussian_codes(200_000, 2) * torch.tensor([1.0, 0.5])
    exact = 0.5 * math.log1p(1.0 / 0.09) + 0.5 * math.log1p(0.25 / 0.09)
    # the relative error of the variance of N draws is sqrt(2 / N)
    assert float(mean_field_bound(f, torch.log(torch.tensor(0.3)))) == pytest.approx(exact, abs=4 * math.sqrt(2 / 2e5))


def two_points(std):
    """Compute I(X; X + std Z) for X = +-1 by quadrature."""

    def h(z):
        p = 0.5 * sum(np.exp(-((z - m) ** 2) / (2 * std**2)) / math.sqrt(2 * math.pi) / std for m in (-1, 1))
        return -p * np.log(p) if p > 0 else 0.0

    return integrate.quad(h, -1 - 9 * std, 1 + 9 * std, limit=400)[0] - 0.5 * math.log(2 * math.pi * math.e * std**2)


@pytest.mark.parametrize("std", [0.2, 0.5, 1.0, 3.0])
def test_it_is_an_upper_bound_and_tight_where_the_noise_is_large(std):
    f = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    bound, truth = float(mean_field_bound(f, torch.full_like(f, math.log(std)))), two_points(std)
    assert bound > truth
    assert bound == pytest.approx(0.5 * math.log1p(1 / std**2))
    if std == 3.0:
        assert bound - truth < 1e-4


def test_a_product_cannot_see_that_units_are_copies():
    f = gaussian_codes(1000, 1).expand(-1, 2)
    one, two = (mean_field_bound(f[:, :k], torch.tensor(-1.0)) for k in (1, 2))
    assert float(two) == pytest.approx(2 * float(one))


def test_units_without_noise():
    f = torch.tensor([[0.0, 1.0, 5.0], [0.0, 2.0, 5.0]])
    log_std = torch.tensor([-math.inf, 0.0, -math.inf]).expand(2, 3)
    assert float(mean_field_bound(f, log_std)) == pytest.approx(0.5 * math.log1p(0.25))  # constants add nothing
    assert float(mean_field_bound(torch.tensor([[0.0], [1.0]]), torch.tensor([[-math.inf], [0.0]]))) == math.inf


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: ip.channels.Gaussian(3, std=0.0), "std=0.0; expected a positive"),
        (lambda: ip.channels.Gaussian(3, scale="inptu"), "'input'"),
        (lambda: ip.channels.Dropout(3, p=1.0), "p=1.0; expected"),
        (lambda: ip.channels.Gaussian(0), "features=0"),
        (lambda: Settings(noise="gausian"), "Did you mean 'gaussian'"),
        (lambda: Settings(noise="dropout", echo_at=(1,)), "no rate; expected --beta 0"),
        (lambda: Settings(noise_std=-1.0), "noise-std is -1.0"),
        (lambda: Settings(dropout=0.0), "dropout is 0.0"),
    ],
)
def test_what_makes_no_sense_is_refused(layer, message):
    with pytest.raises(ip.InfoplaneError, match=message):
        layer()


@pytest.mark.parametrize("layer", [ip.channels.Gaussian(2, std=0.3), ip.channels.Dropout(2, p=0.2)])
def test_the_noise_has_the_moments_it_should(layer):
    f = torch.tensor([[1.0, -2.0]]).expand(100_000, 2)
    layer.streams = Streams([3])
    std = torch.tensor([0.3, 0.3]) if isinstance(layer, ip.channels.Gaussian) else 0.5 * torch.tensor([1.0, 2.0])
    for mode in (True, False):
        off = layer.train(mode)(f) - f
        assert torch.allclose(off.mean(0), torch.zeros(2), atol=4 * float(std.max()) / math.sqrt(1e5))
        assert torch.allclose(off.std(0), std, rtol=4 / math.sqrt(2e5))
        assert abs(float((off[:, 0] * off[:, 1]).mean() / std.prod())) < 4 / math.sqrt(1e5)
    layer.phase = "mean"
    assert torch.equal(layer(f), f)


def test_a_learned_scale_starts_where_it_is_told_and_learns():
    layer = ip.channels.Gaussian(2, std=0.4, scale="input")
    f = gaussian_codes(500, 2).float()
    layer.train()(f)
    assert float(layer.rate.detach()) == pytest.approx(float(mean_field_bound(f, torch.tensor(math.log(0.4)))))
    layer.rate.backward()
    assert float(layer.head.bias.grad.abs().min()) > 0


def test_any_model_takes_them_and_its_keys_stay():
    model = nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
    noisy = ip.channels.insert_channel(model, ["1"], X[:2], "dropout", p=0.3)
    assert set(model.state_dict()) == set(noisy.state_dict())
    noisy(X[:10])
    with pytest.raises(ip.InfoplaneError, match="no Echo layer"):
        ip.rate(noisy)
    with pytest.raises(ip.InfoplaneError, match="already has a child named 'noise'"):
        ip.channels.insert_channel(noisy, ["1"], X[:2], "gaussian")
    with pytest.raises(ip.InfoplaneError, match="Did you mean 'gaussian'"):
        ip.channels.insert_channel(model, ["1"], X[:2], "gausian")


def network(*estimators, **given):
    settings = Settings.of(widths=(5, 4), replicas=2, seed=3, epochs=1, **given)
    run = Run.start(settings, torch.device("cpu"))
    return run, recorder_of(run, estimators=["mean-field", *estimators])


def test_the_recorder_names_the_channel_of_each_layer():
    run, recorder = network("kde:noise_variance=0.01", noise="gaussian", noise_std=0.2)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    recorder.snapshot(0)
    assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items())
    frame = recorder.frame()
    mean_field = frame[(frame["estimator"] == "mean-field") & (frame["replica"] == 0)].set_index(["layer", "quantity"])
    assert mean_field.loc[("hidden1.noise", "I(Z;X)"), "channel"] == "gaussian"
    above = mean_field.loc[("hidden2.noise", "I(Z2;Z1)")]
    assert above["channel"] == "gaussian"
    assert above["value_nats"] == mean_field.loc[("hidden2.noise", "I(Z;X)"), "value_nats"]
    assert above["error_nats"] == 4 / 4096
    assert list(mean_field.loc[("hidden2", "I(X;T)"), ["channel", "path"]]) == ["noise 0.001", "noise-off"]
    assert set(mean_field["standing"]) == {"upper"}
    # the first layer's bound by hand: its values, and noise of .2
    w, b = run.model.hidden1.linear.weight[0], run.model.hidden1.linear.bias[0]
    by_hand = mean_field_bound(torch.tanh(X @ w.T + b).detach().double(), torch.tensor(math.log(0.2)))
    assert mean_field.loc[("hidden1.noise", "I(Z;X)"), "value_nats"] == pytest.approx(float(by_hand), rel=1e-5)
    decoder = frame[frame["estimator"] == "decoder"]
    assert set(decoder["standing"]) == {"lower"}
    assert set(decoder["channel"]) == {"gaussian"}
    assert recorder.frame("certificates").empty


def test_the_bound_of_a_layer_above_noise_scatters_as_it_says():
    _, recorder = network(noise="gaussian", noise_std=0.5)
    rows = []
    for step in range(12):
        now = recorder.snapshot(step)["measurements"]
        rows += [row for row in now if row["quantity"] == "I(Z2;Z1)" and row["replica"] == 0]
    values = np.array([row["value_nats"] for row in rows])
    assert 0 < values.std() < rows[0]["stderr_nats"]
    assert len(values) == 12


def test_an_echo_layer_above_a_gaussian_one():
    """The layer's input is noisy: its rate is I(Z2;Z1), and only an upper bound on I(Z2;X)."""
    model = nn.Sequential(nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for p in model.parameters():
            nn.init.normal_(p)
    model = ip.insert_echo(ip.channels.insert_channel(model, ["1"], X[:2], "gaussian", std=0.3), ["3"], X[:2], bias=1.0)
    recorder = ip.Recorder(model, (X, Y), estimators=["mean-field"])
    recorder.snapshot(0)
    frame = recorder.frame()
    echo = frame[(frame["layer"] == "3.echo") & (frame["estimator"] == "echo")].set_index("quantity")
    assert set(echo.index) == {"I(Z2;Z1)", "I(Z;X)", "I(Z;Y)"}
    assert echo.loc["I(Z2;Z1)", "standing"] == "exact"
    assert echo.loc["I(Z;X)", "standing"] == "upper"
    assert "chain" in echo.loc["I(Z;X)", "warnings"]
    same = frame[(frame["layer"] == "3.echo") & (frame["estimator"] == "mean-field")].iloc[0]
    assert same["channel"] == "gaussian noise of the std of the echo"
    assert same["value_nats"] == pytest.approx(echo.loc["I(Z2;Z1)", "value_nats"], rel=0.05)


@pytest.mark.parametrize("channel", ["gaussian", "dropout"])
def test_a_replica_is_what_it_is_alone(channel):
    def trained(seed, replicas):
        settings = Settings.of(noise=channel, widths=(5, 4), replicas=replicas, seed=seed, epochs=2)
        run = Run.start(settings, torch.device("cpu"))
        run.run_epoch()
        return run.model.state_dict()

    together, alone = trained(0, 2), trained(1, 1)
    assert all(torch.equal(together[k][1], v[0]) for k, v in alone.items())


def test_the_published_noisy_networks_have_noise_everywhere_and_no_penalty():
    settings = Settings.of(noise="gaussian")
    assert settings.echo_at == (1, 2, 3, 4, 5)
    assert settings.beta == 0.0
    assert settings.noisy_layers == [f"hidden{k}" for k in range(1, 6)]
    assert Settings.of(noise="gaussian", activation="relu", echo_layers=1).noisy_layers == ["hidden4"]
    model = build(
        Settings.of(noise="dropout", widths=(4,), replicas=1, dropout=0.5),
        Run.start(settings, torch.device("cpu")).task,
    )
    assert model.hidden1.noise.p == 0.5


def test_the_rate_of_a_gaussian_layer_holds_its_information_down():
    bounds = {}
    for beta in (0.0, 0.3):
        settings = Settings.of(
            noise="gaussian", scale="input", widths=(6, 4), echo_at=(2,), replicas=2, epochs=40, beta=beta, lr=1e-2
        )
        run = Run.start(settings, torch.device("cpu"))
        for _ in range(40):
            run.run_epoch()
        bounds[beta] = run.rates
    assert bool((bounds[0.3] < 0.7 * bounds[0.0]).all())
