"""Quantised networks: finitely many codes, a straight-through gradient, and exact counts."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import infoplane as ip
from infoplane.channels.models import measuring
from infoplane.cli import main
from infoplane.errors import InfoplaneError
from infoplane.nn.activations import ACTIVATIONS
from infoplane.nn.networks import CNN, MLP, initialise
from infoplane.nn.quantise import Quantise
from infoplane.runs.evaluation import evaluate
from infoplane.runs.settings import Settings
from infoplane.runs.training import Training, recorder_of, train
from infoplane.streams import Streams

BOUNDED = ("tanh", "softsign", "hardtanh")


def after(settings: Settings, epochs: int) -> Training:
    training = Training.start(settings, torch.device("cpu"))
    for _ in range(epochs):
        training.run_epoch()
    return training


def ranged(low: float, high: float, bits: int = 8, activation: str = "linear") -> Quantise:
    """Make a layer in training mode, so that the first batch sets its range."""
    quantise = Quantise(bits, activation)
    quantise(torch.tensor([[low], [high]]))
    return quantise.eval()


def entropies(training: Training) -> list[list[float]]:
    """Count H(T) of every layer and replica over all inputs, from the different rows."""
    names = training.model.layer_names
    with measuring(training.model), ip.Trace(training.model, names) as trace:
        training.model(training.task.x)
        codes = trace.take()
    found = []
    for name in names:
        counts = [np.unique(t.numpy(), axis=0, return_counts=True)[1] for t in codes[name]]
        found.append([-float((c / c.sum() * np.log(c / c.sum())).sum()) for c in counts])
    return found


# -- the grid


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_there_are_at_most_two_to_the_bits_different_numbers_a_replica(activation, bits, seeded):
    t = ACTIVATIONS[activation].function(3.0 * torch.randn(2, 9001, 7, generator=seeded(1)) + 0.1)
    quantise = Quantise(bits, activation, replicas=2)
    for training in (True, False):
        out = quantise.train(training)(t)
        for r in range(2):
            levels = out[r].unique()
            assert len(levels) <= 2**bits
            assert len(levels) == 2**bits or bits > 3  # if there are few levels, all are seen
            low, high = quantise.low[r], quantise.high[r]
            assert low <= levels[0]
            assert levels[-1] <= high
            step = float(high - low) / (2**bits - 1)
            assert (out[r] - t[r]).abs().max() <= step / 2 + 2**-22 * float(high - low)
    assert torch.equal(quantise(out), out)  # a level is its own code
    assert (quantise.high[0] == quantise.high[1]) == (activation in BOUNDED)


def test_codes_are_those_of_their_formula(seeded):
    """Codes agree with double precision, away from the ties."""
    t = 3.0 * torch.randn(4000, 5, generator=seeded(2))
    out = ranged(-2.5, 4.0, bits=5)(t)
    x = (t.double().numpy().clip(-2.5, 4.0) + 2.5) / 6.5 * 31
    clear = np.abs(x % 1 - 0.5) > 1e-3
    np.testing.assert_allclose(out.numpy()[clear], (np.round(x) / 31 * 6.5 - 2.5)[clear], atol=1e-6)
    assert clear.mean() > 0.99


@pytest.mark.parametrize("activation", BOUNDED)
def test_the_grid_of_a_bounded_activation_stands_still(activation, seeded):
    quantise = Quantise(2, activation)
    quantise(0.1 * torch.randn(50, 3, generator=seeded(3)))
    assert (quantise.low.item(), quantise.high.item()) == (-1.0, 1.0)
    levels = quantise(torch.linspace(-1.0, 1.0, 99).unsqueeze(1)).unique()
    torch.testing.assert_close(levels, torch.tensor([-1.0, -1 / 3, 1 / 3, 1.0]))
    assert levels[0] == -1.0
    assert levels[-1] <= 1.0


def test_zero_stays_zero_behind_a_relu(seeded):
    t = torch.randn(500, 6, generator=seeded(3)).relu() + torch.tensor([0.0, 0, 0, 0, 2, 3])
    t[:, 0] = 0.0
    quantise = Quantise(3, "relu")
    quantise(t + 1.0)  # a batch without a 0
    assert quantise.low.item() == 0.0
    out = quantise.eval()(t)
    assert (out[t == 0.0] == 0.0).all()
    assert (out >= 0.0).all()
    dead = Quantise(3, "relu")
    assert (dead(torch.zeros(9, 4)) == 0.0).all()
    assert (dead.eval()(t) == 0.0).all()


def test_a_constant_layer_has_one_level_and_what_is_not_finite_stays_so():
    quantise = ranged(1.5, 1.5)
    assert quantise(torch.tensor([[1.5], [0.0], [7.0]])).flatten().tolist() == [1.5] * 3
    assert ranged(0.0, 1.0)(torch.tensor([[math.nan], [0.0]])).isnan().flatten().tolist() == [True, False]
    assert ranged(0.0, math.nan)(torch.tensor([[0.5]])).isnan().all()
    assert ranged(0.0, math.inf)(torch.tensor([[0.5]])).isnan().all()
    tiny = 340 * 2.0**-149  # the step of 5.4 smallest denormals is rounded to 5
    assert len(ranged(0.0, tiny, bits=6)(torch.linspace(0, tiny, 400).unsqueeze(1)).unique()) <= 64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_numbers_keep_their_type(dtype, seeded):
    t = torch.randn(3000, 4, generator=seeded(4)).to(dtype)
    out = Quantise(8)(t)
    assert out.dtype == dtype
    assert 100 < len(out.unique()) <= 256


# -- the range


def test_the_range_is_the_running_mean_of_those_of_batches(seeded):
    """The ends are exponential means of the extremes per replica (Jacob et al. 2018)."""
    quantise = Quantise(8, replicas=2)
    batches = [torch.randn(2, 30, 4, generator=seeded(k)) * (1 + k) for k in range(6)]
    low = high = np.zeros(2)
    for k, batch in enumerate(batches):
        quantise(batch)
        least, greatest = (f(batch.double().numpy(), axis=(1, 2)) for f in (np.min, np.max))
        low = least if k == 0 else 0.99 * low + 0.01 * least
        high = greatest if k == 0 else 0.99 * high + 0.01 * greatest
        np.testing.assert_allclose(quantise.low.numpy(), low, rtol=1e-6)
        np.testing.assert_allclose(quantise.high.numpy(), high, rtol=1e-6)


def test_a_code_does_not_depend_on_its_neighbours_and_measuring_moves_no_range(seeded):
    x = torch.randn(400, 6, generator=seeded(5))
    net = MLP(6, [5, 4], 3, "relu", replicas=2, bits=6)
    initialise(net, "balanced", [0, 1])
    net(x[:200])
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with measuring(net):
        net(100.0 * x)
        whole = net(x)
        parts = torch.cat([net(part) for part in x.split(50)], 1)
    # a matrix product may round a row otherwise among fewer rows, which can move a code by one step
    steps = (net.output.quantise.high - net.output.quantise.low) / 63
    assert ((whole - parts).abs().amax((1, 2)) <= 1.01 * steps).all()
    assert (whole == parts).double().mean() > 0.999
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    net(x[200:])
    assert not torch.equal(before["hidden1.quantise.high"], net.hidden1.quantise.high)


def test_without_a_range_there_are_no_codes():
    net = MLP(6, [5], 3, "relu", bits=6)
    initialise(net, "balanced", [0])
    with pytest.raises(InfoplaneError, match=r"no range yet.*model.train\(\)"):
        net.eval()(torch.ones(4, 6))
    Quantise(4, "tanh").eval()(torch.zeros(3, 2))  # whose range is known


def test_what_makes_no_sense_is_refused():
    for bits in (1, 17, -3, 2.5):
        with pytest.raises(InfoplaneError, match="expected 2 to 16"):
            Quantise(bits)
        with pytest.raises(InfoplaneError, match="expected 2 to 16"):
            MLP(6, [5], 3, bits=bits)
        with pytest.raises(InfoplaneError, match="bits"):
            Training.start(Settings(bits=bits), torch.device("cpu"))
    with pytest.raises(InfoplaneError, match="Did you mean 'relu'"):
        Quantise(4, "rleu")
    with pytest.raises(InfoplaneError, match=r"got \(3, 4\); expected \(2, \.\.\.\)"):
        Quantise(4, replicas=2)(torch.zeros(3, 4))


# -- the gradient


@pytest.mark.parametrize(
    ("activation", "low", "high"), [("linear", -1.3, 2.1), ("tanh", -1.0, 1.0), ("relu", 0.0, 2.1)]
)
def test_the_gradient_is_the_slope_of_the_staircase(activation, low, high, seeded):
    """Over whole steps the mean slope of the staircase is 1 inside the range and 0 outside."""
    quantise = ranged(low, high, bits=4, activation=activation)
    step = (high - low) / 15
    t = (torch.rand(500, 3, generator=seeded(6)) * 2 - 1) * 4
    t = t[((t - low).abs() > 2 * step).all(1) & ((t - high).abs() > 2 * step).all(1)].requires_grad_()
    slope = (quantise(t.detach() + step) - quantise(t.detach() - step)) / (2 * step)
    weight = torch.randn(t.shape, generator=seeded(7))
    (quantise(t) * weight).sum().backward()
    torch.testing.assert_close(t.grad, slope * weight, rtol=1e-4, atol=1e-4)
    inside = (t > low) & (t < high)
    assert 0.1 < inside.double().mean() < 0.9
    assert torch.equal(t.grad, torch.where(inside, weight, 0.0))


def test_the_gradient_of_a_network_is_that_at_its_codes(seeded):
    """Tanh nets follow the chain rule with quantised activations and unquantised tanh'."""
    net = MLP(5, [4], 2, "tanh", bits=3)
    initialise(net, "glorot", [0])
    x, weight = torch.randn(40, 5, generator=seeded(8)), torch.randn(40, 2, generator=seeded(9))
    net(0.5 * x)
    net.eval()
    (net(x) * weight).sum().backward()
    with torch.no_grad():
        a = torch.tanh(net.hidden1.linear(x))
        code = net.hidden1(x)
        logits = torch.nn.functional.linear(code, net.output.weight[0], net.output.bias[0])
        inside = (logits >= net.output.quantise.low) & (logits <= net.output.quantise.high)
        assert 0.2 < inside.double().mean() < 0.98
        g = weight * inside
        torch.testing.assert_close(net.output.weight.grad[0], g.T @ code)
        h = (g @ net.output.weight[0]) * (1 - a * a)
        torch.testing.assert_close(net.hidden1.linear.weight.grad[0], h.T @ x)


def test_two_batches_may_go_forward_before_one_goes_backward(seeded):
    t = torch.randn(2, 30, 4, generator=seeded(10), requires_grad=True)
    quantise = Quantise(4)
    (quantise(t[0]).sum() + quantise(t[1]).sum()).backward()
    assert (t.grad == 1.0).double().mean() > 0.9


# -- networks


def test_a_network_of_no_bits_is_what_it_was():
    for net in (MLP(6, [5, 4], 2), CNN((1, 8, 8), [3], [4], 2)):
        assert not [name for name, _ in net.named_modules() if "quantise" in name]
    assert list(MLP(6, [5], 2).state_dict()) == [
        *("hidden1.linear.weight", "hidden1.linear.bias"),
        *("output.weight", "output.bias"),
    ]
    plain, coarse = MLP(6, [5, 4], 2), MLP(6, [5, 4], 2, bits=8)
    initialise(plain, "glorot", [3])
    initialise(coarse, "glorot", [3])
    assert coarse.layer_names == plain.layer_names
    assert all(torch.equal(coarse.state_dict()[name], value) for name, value in plain.state_dict().items())
    new = set(coarse.state_dict()) - set(plain.state_dict())
    assert new == {f"{name}.quantise.{end}" for name in coarse.layer_names for end in ("low", "high")}


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "tanh", "bits": 8},
        {"activation": "relu", "bits": 4, "echo_at": (2,), "batch_size": 0},
        {"activation": "elu", "bits": 6, "echo_at": (3,), "echo_on": "before", "ordered": True},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_a_quantised_replica_is_the_network_of_its_seed_to_the_last_bit(options):
    settings = {"beta": 0.05, "epochs": 10, "warmup": 0.1} | options
    for epochs in (0, 2):
        many = after(Settings(replicas=3, seed=4, **settings), epochs)
        for r in (0, 2):
            alone = after(Settings(replicas=1, seed=4 + r, **settings), epochs)
            for name, value in alone.model.state_dict().items():
                other = many.model.state_dict()[name]
                assert torch.equal(value, other[r : r + 1] if value.dim() else other), name
            torch.testing.assert_close(alone.rates[0], many.rates[r], rtol=0, atol=0, equal_nan=True)
            with measuring(many.model, "off"), measuring(alone.model, "off"):
                assert torch.equal(many.model(many.task.x)[r], alone.model(many.task.x))


def test_convolutional_replicas_are_the_networks_of_their_seeds(seeded):
    x = torch.randn(9, 2, 11, 8, generator=seeded(11))
    many = CNN((2, 11, 8), [3, 4], [5], 3, "relu", replicas=3, bits=5)
    initialise(many, "glorot", [5, 6, 7])
    out = many(x)
    out.square().sum().backward()
    for r, seed in enumerate([5, 6, 7]):
        one = CNN((2, 11, 8), [3, 4], [5], 3, "relu", bits=5)
        initialise(one, "glorot", [seed])
        alone = one(x)
        assert torch.equal(alone, out[r])
        assert torch.equal(one.conv2.quantise.high[0], many.conv2.quantise.high[r])
        alone.square().sum().backward()
        for p, q in zip(one.parameters(), many.parameters(), strict=True):
            assert torch.equal(p.grad[0], q.grad[r])
    with measuring(many), ip.Trace(many, many.layer_names) as trace:
        many(x)
        assert all(len(t[r].unique()) <= 32 for t in trace.take().values() for r in range(3))


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_from_the_first_epoch_on_all_codes_have_the_bits_and_observing_changes_nothing(activation):
    training = Training.start(Settings(activation=activation, bits=4, replicas=2), torch.device("cpu"))
    names = training.model.layer_names
    for epoch in (0, 1):
        before = {name: t.clone() for name, t in training.model.state_dict().items()}
        recorder = recorder_of(training)
        assert recorder.snapshot(epoch)["measurements"]
        evaluate(training.model, training.task, Streams([0, 1]))
        with measuring(training.model), ip.Trace(training.model, names) as trace:
            training.model(training.task.x)
            codes = trace.take()
        assert {name: max(len(t.unique()) for t in codes[name]) <= 16 for name in names} == dict.fromkeys(names, True)
        assert max(len(t.unique()) for t in codes["hidden1"]) > 10
        assert all(torch.equal(before[name], t) for name, t in training.model.state_dict().items())
        training.run_epoch()


@pytest.mark.parametrize(("echo_on", "name"), [("after", "hidden2.echo"), ("before", "hidden2.linear.echo")])
def test_echo_layers_sit_behind_the_codes_or_before_the_activation(echo_on, name):
    training = after(Settings(bits=3, echo_at=(2,), echo_on=echo_on, replicas=2, estimators=("binning",)), 2)
    recorder = recorder_of(training)
    rows = recorder.snapshot(2)["measurements"]
    rates = [row for row in rows if row["layer"] == name and row["quantity"] == "I(Z;X)"]
    assert len(rates) == 2
    assert all(math.isfinite(row["value_nats"]) for row in rates)
    if echo_on == "after":  # few codes have little entropy, so the rate may be above it
        assert all(row["standing"] == "upper" for row in rates)
    with ip.Trace(training.model, ["hidden2", "hidden3", name]) as trace:
        training.model(training.task.x)
        read = trace.take()
    for r in range(2):
        assert len(read["hidden2"][r].unique()) <= 8  # the input of an Echo layer behind it, or its own output
        assert len(read["hidden3"][r].unique()) <= 8
        assert len(read[name][r].unique()) > 1000


def test_what_a_layer_knows_of_the_input_only_falls():
    """H(T) = I(X;T) is at most the bits of the codes and, in a chain, H of the layer below."""
    training = after(Settings(bits=2, replicas=3), 3)
    found = entropies(training)
    for width, of_layer in zip((10, 7, 5, 4, 3, 2), found, strict=True):
        assert all(0.0 <= h <= min(width * 2 * math.log(2), math.log(4096)) for h in of_layer)
    for below, above in pairwise(found):
        # at a tie, rounding may split equal codes in two, which adds a few thousandths of a nat
        assert all(low <= high + 1e-2 for high, low in zip(below, above, strict=True))
    assert all(h < 7.0 for h in found[1])


def test_a_quantised_network_learns_what_a_plain_one_does():
    """With 8 bits the test error is the plain one, within 5 standard errors over replicas."""
    accuracies = {}
    for bits in (0, 8):
        training = after(Settings(bits=bits, replicas=3, lr=1e-2, epochs=12), 12)
        rows = evaluate(training.model, training.task, Streams(range(3)))
        accuracies[bits] = np.array([row["accuracy"] for row in rows if row["split"] == "test"])
    difference = accuracies[8] - accuracies[0]
    assert accuracies[8].mean() > 0.85
    assert abs(difference.mean()) < 5 * difference.std(ddof=1) / math.sqrt(3) + 0.005


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_twelve_bit_task_is_learned_at_eight_bits(activation):
    """Run the defaults of `infoplane train` with 10 seeds."""
    found = {}
    for bits in (0, 8):
        training = after(Settings(activation=activation, bits=bits, replicas=10), 400)
        rows = evaluate(training.model, training.task, Streams(range(10)))
        found[bits] = np.array([row["accuracy"] for row in rows if row["split"] == "test"])
    print(activation, {bits: (a.mean(), a.std(ddof=1)) for bits, a in found.items()})
    assert found[8].mean() > found[0].mean() - 0.03
    assert found[8].mean() > 0.9


# -- runs


def test_a_run_that_is_stopped_and_resumed_ends_bit_equal(tmp_path, monkeypatch):
    settings = Settings(
        activation="relu", bits=5, epochs=5, replicas=2, snapshots="0,2", estimators=("binning:bins=30,range=run",)
    )
    whole = train(settings, str(tmp_path / "whole"), progress=False)
    stopped, run_epoch = tmp_path / "stopped", Training.run_epoch

    def until_the_fourth(training: Training) -> None:
        if training.epoch == 3:
            raise KeyboardInterrupt
        run_epoch(training)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", until_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            train(settings, str(stopped), progress=False)
    resumed = train(settings, str(stopped), resume=True, progress=False)
    for table in ("measurements", "metrics"):
        text = (resumed.path / f"{table}.csv").read_text().replace("stopped", "whole")
        assert text == (whole.path / f"{table}.csv").read_text()
    states = [run.load_checkpoint()["model"] for run in (whole, resumed)]
    assert "hidden1.quantise.high" in states[0]
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


def test_the_command_line_knows_bits(tmp_path):
    arguments = [
        "--epochs",
        "1",
        "--replicas",
        "1",
        "--estimators",
        "binning",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(main, ["train", "--bits", "8", *arguments])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["bits"] == 8
    result = CliRunner().invoke(main, ["train", "--bits", "1", *arguments])
    assert result.exit_code != 0
    assert "bits is '1'; expected 2 to 16" in result.output


@pytest.mark.parametrize("bits", [1, 17, -2])
def test_settings_refuse_bits_that_are_none(bits):
    with pytest.raises(InfoplaneError, match=f"bits is {bits}; expected 2 to 16, or 0"):
        Settings(bits=bits)
