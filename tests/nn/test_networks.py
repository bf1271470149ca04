"""Networks with a replica axis: a replica equals the network of its seed alone, to the last bit."""

from __future__ import annotations

import math

import pytest
import torch

from infoplane.errors import InfoplaneError
from infoplane.nn.activations import ACTIVATIONS
from infoplane.nn.networks import CNN, INITS, MLP, initialise
from infoplane.nn.replicas import ReplicaConv2d, ReplicaLinear


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_its_formula_and_so_is_its_gradient(name, seeded):
    reference = {
        "tanh": math.tanh,
        "relu": lambda v: max(v, 0.0),
        "linear": lambda v: v,
        "softsign": lambda v: v / (1 + abs(v)),
        "softplus": lambda v: math.log1p(math.exp(v)),
        "elu": lambda v: v if v > 0 else math.expm1(v),
        "hardtanh": lambda v: min(max(v, -1.0), 1.0),
    }[name]
    x = torch.randn(50, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    y = ACTIVATIONS[name].function(x)
    torch.testing.assert_close(y, torch.tensor([reference(v) for v in x.tolist()], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    step = 1e-6
    numeric = [(reference(v + step) - reference(v - step)) / (2 * step) for v in x.tolist()]
    torch.testing.assert_close(gradient, torch.tensor(numeric, dtype=torch.float64), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("rows", [205, 31])
def test_an_activation_rounds_a_replica_as_it_does_alone(name, rows, seeded):
    """PyTorch's own softplus, sigmoid and elu fail this: they round tensor ends differently."""
    x = torch.randn(7, rows, 7, generator=seeded(2))
    together, f = x.clone().requires_grad_(), ACTIVATIONS[name].function
    f(together).sum().backward()
    for r in range(7):
        alone = x[r : r + 1].clone().requires_grad_()
        f(alone).sum().backward()
        assert torch.equal(f(x[r : r + 1].clone()), f(x)[r : r + 1])
        assert torch.equal(alone.grad, together.grad[r : r + 1])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_replicas_are_the_networks_of_their_seeds(activation, seeded):
    x = torch.randn(33, 12, generator=seeded(3))
    many = MLP(12, [10, 7], 3, activation, replicas=4)
    initialise(many, "glorot", [5, 6, 7, 8])
    out = many(x)
    assert out.shape == (4, 33, 3)
    for r, seed in enumerate([5, 6, 7, 8]):
        one = MLP(12, [10, 7], 3, activation)
        initialise(one, "glorot", [seed])
        assert one(x).shape == (33, 3)
        assert torch.equal(one(x), out[r])
        assert torch.equal(many(x.expand(4, 33, 12))[r], out[r])


def test_a_replica_linear_is_an_affine_map(seeded):
    layer = ReplicaLinear(5, 3, 2)
    with torch.no_grad():
        layer.weight.normal_(generator=seeded(1))
        layer.bias.normal_(generator=seeded(2))
    x = torch.randn(2, 6, 5, generator=seeded(3))
    torch.testing.assert_close(layer(x), torch.einsum("roi,rni->rno", layer.weight, x) + layer.bias[:, None])


@pytest.mark.parametrize(
    ("name", "variance"),
    [("glorot", 2 / (400 + 300)), ("he", 2 / 400), ("balanced", 2 / 400), ("saxe", 1 / 300), ("tishby", None)],
)
def test_initialisations_have_their_published_variance(name, variance, seeded):
    w = INITS[name].weights(300, 400, seeded(4), 300).double()
    if name == "tishby":  # a normal that is cut at two standard deviations has .7737 of its variance
        assert w.abs().max() <= 2 / math.sqrt(400)
        variance = 0.773741 / 400
    spread = (w.square().var() / w.numel()).sqrt()
    assert abs(w.square().mean() - variance) < 5 * spread
    assert abs(w.mean()) < 5 * w.std() / math.sqrt(w.numel())


def test_balanced_units_are_alive_behind_relus(seeded):
    """Behind ReLUs a unit of negative weights is dead, which happens to one in 2^fan_in with he."""
    w = INITS["balanced"].weights(2000, 3, seeded(5), 2000)
    assert ((w > 0).sum(1) == 2).all()
    assert ((INITS["he"].weights(2000, 3, seeded(5), 2000) > 0).sum(1) == 0).double().mean() == pytest.approx(
        1 / 8, abs=0.04
    )
    assert len(torch.unique(w > 0, dim=0)) == 3  # any of the three may be the negative one


def test_a_layer_keeps_its_weights_when_another_is_added():
    small, large = MLP(12, [10, 7], 2), MLP(12, [10, 7, 5], 2)
    initialise(small, "glorot", [3])
    initialise(large, "glorot", [3])
    assert torch.equal(small.hidden2.linear.weight, large.hidden2.linear.weight)


@pytest.mark.parametrize("widths", [[10, 0], [-1], [2.5]])
def test_widths_that_are_none_are_refused(widths):
    with pytest.raises(InfoplaneError, match="whole numbers of at least 1"):
        MLP(12, widths, 2)


def test_inputs_of_the_wrong_shape_are_refused():
    with pytest.raises(InfoplaneError, match=r"got \(3, 12\)"):
        ReplicaLinear(5, 2)(torch.zeros(3, 12))
    with pytest.raises(InfoplaneError, match="Did you mean 'relu'"):
        MLP(12, [3], 2, "rleu")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_convolutional_replicas_are_the_networks_of_their_seeds(activation, seeded):
    x = torch.randn(9, 2, 11, 8, generator=seeded(6))
    many = CNN((2, 11, 8), [3, 4], [5], 3, activation, replicas=3)
    initialise(many, "glorot", [5, 6, 7])
    assert many.layer_names == ["conv1", "conv2", "hidden1", "output"]
    out = many(x)
    out.square().sum().backward()
    assert out.shape == (3, 9, 3)
    for r, seed in enumerate([5, 6, 7]):
        one = CNN((2, 11, 8), [3, 4], [5], 3, activation)
        initialise(one, "glorot", [seed])
        alone = one(x)
        assert torch.equal(alone, out[r])
        assert torch.equal(one(x[None]), out[r][None])
        alone.square().sum().backward()
        for p, q in zip(one.parameters(), many.parameters(), strict=True):
            assert torch.equal(p.grad[0], q.grad[r])


def test_a_convolution_is_that_of_torch_and_says_what_it_wants(seeded):
    conv = ReplicaConv2d(2, 3, kernel=5, stride=2, padding=2, replicas=2)
    with torch.no_grad():
        conv.weight.normal_(generator=seeded(7))
        conv.bias.normal_(generator=seeded(8))
    x = torch.randn(2, 4, 2, 9, 9, generator=seeded(9))
    plain = torch.nn.Conv2d(2, 3, 5, 2, 2)
    plain.load_state_dict({"weight": conv.weight[1].detach(), "bias": conv.bias[1].detach()})
    torch.testing.assert_close(conv(x)[1], plain(x[1]))
    with pytest.raises(InfoplaneError, match="one slice per replica"):
        conv(x[0])
    with pytest.raises(InfoplaneError, match=r"\(C, H, W\)"):
        CNN((28, 28), [3], [4], 2)


def test_a_convolution_has_the_fans_of_its_kernel(seeded):
    net = CNN((16, 8, 8), [64], [], 2)
    for init, variance in (("glorot", 2 / (25 * 80)), ("he", 2 / (25 * 16)), ("saxe", 1 / (25 * 64))):
        initialise(net, init, [0])
        assert float(net.conv1.conv.weight.detach().var()) == pytest.approx(variance, rel=0.03)
