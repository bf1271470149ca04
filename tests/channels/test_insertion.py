"""Insertion of Echo layers into any model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import infoplane as ip
from infoplane.channels.models import echo_layers, measuring
from infoplane.channels.stack import execution_order, separating
from infoplane.errors import InfoplaneError
from infoplane.streams import Streams


def test_a_copy_gets_the_layers_and_its_old_keys_stay(handwritten, bits):
    x, _ = bits
    before = handwritten.state_dict()
    model = ip.insert_echo(handwritten, after=["act", "middle"], example=x[:2])
    assert not echo_layers(handwritten)
    assert list(echo_layers(model)) == ["act.echo", "middle.echo"]
    assert set(before) <= set(model.state_dict())
    assert all(".echo." in key for key in set(model.state_dict()) - set(before))
    model.load_state_dict(before, strict=False)
    assert [echo.features for echo in echo_layers(model).values()] == [8, 6]


def test_the_rate_is_the_mean_of_minus_log_det_and_reaches_the_weights(handwritten, bits):
    x, y = bits
    model = ip.insert_echo(handwritten, after=["act", "middle"], example=x[:2])
    logits = model(x)
    layers = ip.rate(model, per_layer=True)
    assert torch.equal(ip.rate(model), layers["act.echo"] + layers["middle.echo"])
    # it starts quiet and the same everywhere: s = max_scale * sigmoid(-3)
    s = 0.9155 * torch.sigmoid(torch.tensor(-3.0))
    torch.testing.assert_close(ip.rate(model), -14 * s.log())
    (nn.functional.cross_entropy(logits, y) + ip.rate(model)).backward()
    assert model.act.echo.head.weight.grad.abs().sum() > 0
    # at first the head ignores f, so the rate has no gradient below; one step later it has
    with torch.no_grad():
        model.middle.echo.head.weight -= model.middle.echo.head.weight.grad
    model.zero_grad()
    model(x)
    ip.rate(model).backward()
    assert model.encoder.weight.grad.abs().sum() > 0


def test_the_rest_of_a_tuple_passes_by(handwritten, bits):
    x, _ = bits
    model = ip.insert_echo(handwritten, after=["middle"], example=x[:2])
    h, words = model.middle(torch.zeros(100, 8))
    assert h.shape == (100, 6)
    assert words == "and something else"


def test_a_sequential_hands_its_layer_to_its_last_child(bits):
    x, _ = bits
    model = nn.Sequential(nn.Sequential(nn.Linear(12, 4), nn.Tanh()), nn.Linear(4, 2))
    noisy = ip.insert_echo(model, after=["0"], example=x[:2])
    assert list(echo_layers(noisy)) == ["0.1.echo"]
    noisy(x)
    assert noisy[0][1].echo.end_count == 1.0  # once, not twice


def test_a_copy_after_training_works_and_forgets_the_graph(handwritten, bits):
    x, _ = bits
    model = ip.insert_echo(handwritten, after=["act"], example=x[:2])
    model(x)
    twin = copy.deepcopy(model)
    twin(x)
    assert twin.act.echo is not model.act.echo
    assert twin.act.echo.end_count == 2.0
    with pytest.raises(InfoplaneError, match="training mode first"):
        _ = copy.deepcopy(model).act.echo.rate


def test_insertion_leaves_no_hook_and_no_flag_behind(handwritten, bits):
    x, _ = bits
    handwritten.encoder.eval()
    model = ip.insert_echo(handwritten, after=["act"], example=x[:2])
    assert not model.encoder.training
    assert model.act.training
    hooks = [h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    assert len(hooks) == 1  # the hook that runs the Echo layer


def test_a_bank_makes_a_single_prediction_possible_and_independent_of_its_batch(handwritten, bits):
    x, _ = bits
    model = ip.insert_echo(handwritten, after=["act"], example=x[:2]).eval()
    with pytest.raises(InfoplaneError, match="fill_banks"):
        model(x[:1])
    ip.fill_banks(model, x)
    echo = model.act.echo
    for rows in (x[:1], x[:1].expand(7, 12), x[:200]):
        echo.streams = Streams([4])
        out = model(rows)
        assert out.shape == (len(rows), 2)
    # the noise is fresh at every call and follows the bank: the mean over draws is the mean path
    echo.streams = Streams([5])
    many = model.act(x[:1].expand(20_000, 12) @ model.encoder.weight.T + model.encoder.bias)
    with measuring(model, "mean"):
        mean = model.act(x[:1] @ model.encoder.weight.T + model.encoder.bias)
    assert ((many.mean(0) - mean[0]).abs() < 5 * many.std(0) / 20_000**0.5 + 1e-6).all()


def test_measuring_puts_everything_back(handwritten, bits):
    x, _ = bits
    model = ip.insert_echo(handwritten, after=["act"], example=x[:2])
    model.encoder.eval()
    state = torch.random.get_rng_state()

    def interrupted():
        with measuring(model, "off") as layers:
            layers["act.echo"].watch = []
            torch.rand(5)
            model(x)
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        interrupted()
    echo = model.act.echo
    assert (echo.phase, echo.watch, echo.bank, echo.streams) == ("auto", None, None, None)
    assert (model.encoder.training, model.act.training) == (False, True)
    assert torch.equal(state, torch.random.get_rng_state())
    with measuring(model):
        assert not torch.is_grad_enabled()


class Skip(nn.Module):
    """A connection reaches the second Echo layer around the first; they run in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.upper = nn.Linear(4, 4)
        self.lower = nn.Linear(12, 4)
        self.around = nn.Linear(12, 4)
        self.skip = 1.0

    def forward(self, x):
        return self.upper(self.lower(x) + self.skip * self.around(x))


def test_order_and_separation_are_those_of_the_forward_pass(bits):
    x, _ = bits
    model = ip.insert_echo(Skip(), after=["upper", "lower"], example=x[:2])
    order = execution_order(model, x[:64])
    assert order == ["lower.echo", "upper.echo"]
    held = {name: torch.zeros(1, 300, 4) for name in order}
    assert separating(model, x, x.roll(1, 0), held) == {"lower.echo": [], "upper.echo": [], "": ["upper.echo"]}
    model.skip = 0.0
    assert separating(model, x, x.roll(1, 0), held)["upper.echo"] == ["lower.echo"]


def test_bad_places_are_refused(handwritten, bits):
    x, _ = bits
    with pytest.raises(InfoplaneError, match="Did you mean 'encoder'"):
        ip.insert_echo(handwritten, after=["encodr"], example=x[:2])
    with pytest.raises(InfoplaneError, match="ran 0 times"):
        ip.insert_echo(handwritten, after=["unused"], example=x[:2])
    with pytest.raises(InfoplaneError, match="a list of names"):
        ip.insert_echo(handwritten, after="act", example=x[:2])
    shared = nn.Sequential(nn.Linear(12, 12), nn.Tanh())
    shared.append(shared[1])
    with pytest.raises(InfoplaneError, match="ran 2 times"):
        ip.insert_echo(shared, after=["1"], example=x[:2])
    model = ip.insert_echo(handwritten, after=["act"], example=x[:2])
    with pytest.raises(InfoplaneError, match="already"):
        ip.insert_echo(model, after=["act"], example=x[:2])
    with pytest.raises(InfoplaneError, match="no Echo layer"):
        ip.rate(handwritten)
    with pytest.raises(InfoplaneError, match="at least 65"):
        model(x[:64])
