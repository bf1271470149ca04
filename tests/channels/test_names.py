"""The names of noisy layers are those that their models have, and are read without torch."""

import doctest
import subprocess
import sys

import pytest
import torch
from torch import nn

import infoplane as ip
from infoplane.channels import names
from infoplane.channels.channel import Channel
from infoplane.channels.insertion import CHANNELS
from infoplane.channels.models import noisy_layers, sent_to
from infoplane.channels.names import CHILDREN, NoisyName, noisy_name


@pytest.mark.parametrize("kind", CHANNELS)
def test_the_name_of_an_inserted_layer_says_what_the_model_says(kind: str) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2))
    model = ip.channels.insert_channel(model, ["0.1", "1"], torch.zeros(2, 3), kind)
    assert list(noisy_layers(model)) == [f"0.1.{CHILDREN[kind]}", f"1.{CHILDREN[kind]}"]
    for name, layer in noisy_layers(model).items():
        read = noisy_name(name)
        assert read is not None
        assert (read.sent, read.output) == (sent_to(name), name)
        assert layer.kind in read.kinds


@pytest.mark.parametrize("name", ["hidden2", "echo2", "hidden2.echo.head", "my.noises", ""])
def test_other_layers_are_not_noisy(name: str) -> None:
    assert noisy_name(name) is None


def test_an_echo_is_told_from_other_noise() -> None:
    assert noisy_name("a.b.echo") == NoisyName("a.b", "a.b.echo", ("echo",))
    assert noisy_name("a.noise") == NoisyName("a", "a.noise", ("gaussian", "dropout"))
    assert noisy_name("echo") == NoisyName("", "echo", ("echo",))


def test_names_are_read_without_torch() -> None:
    code = "import sys, infoplane.channels.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_examples_of_the_docstrings_run() -> None:
    found = doctest.testmod(names)
    assert found.failed == 0
    assert found.attempted >= 2


def test_a_channel_defines_its_scale_its_noise_and_its_rate():
    class Half(Channel):
        kind = "gaussian"

        def scales(self, f):
            return f, f

    with pytest.raises(TypeError, match=r"abstract methods? '?rate_of'?, '?transmit'?"):
        Half(3)


def test_a_new_channel_is_a_class_and_two_lines_of_registries(monkeypatch, bits):
    """It is inserted, named, recorded and measured without any other change."""

    class Uniform(Channel):
        kind = "uniform"
        rated = False

        def scales(self, f):
            s = torch.full_like(f, 0.3)
            return s.log(), s

        def transmit(self, f, s):
            return f if self.phase == "mean" else f + s * torch.erf(self.streams_of(f).normal(*f.shape[1:]))

        def rate_of(self, f, log_s):
            return torch.full((self.replicas,), float("nan"))

    monkeypatch.setitem(CHANNELS, "uniform", Uniform)
    monkeypatch.setitem(names.CHILDREN, "uniform", "noise")
    x, y = bits
    net = nn.Sequential(nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, 2))
    model = ip.channels.insert_channel(net, ["1"], x[:2], "uniform")
    recorder = ip.Recorder(model, (x, y), estimators=["ksg:points=200"])
    recorder.snapshot(0)
    frame = recorder.frame().set_index(["layer", "quantity", "estimator"])
    assert frame.loc[("1.noise", "I(Z;X)", "ksg"), "channel"] == "uniform"
    assert frame.loc[("1.noise", "I(Z;Y)", "decoder"), "standing"] == "lower"
    assert "exact" not in set(frame["standing"])
