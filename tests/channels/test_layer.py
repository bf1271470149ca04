"""The Echo layer: its parts, its behaviour in training and afterwards, and what it learns."""

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, mse_loss

import infoplane.channels.layer as layer_module
from infoplane.channels.bank import Bank
from infoplane.channels.echo import apply_scale, echo_noise, moment_step, stationary_moments
from infoplane.channels.insertion import insert_echo
from infoplane.channels.layer import MIXINGS, SCALES, Echo
from infoplane.channels.models import echo_layers, measuring, rate, trying
from infoplane.channels.stack import fill_banks
from infoplane.errors import InfoplaneError
from infoplane.streams import Streams
from tests.drawn import generator, normal, normal_32


def randomised(layer: Echo, seed: int = 0, size: float = 0.5) -> Echo:
    """Give the layer random weights, because heads start at zero, where much would go unseen."""
    g = generator(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(size * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return layer


def seeded(layer: Echo, *seeds: int) -> Echo:
    layer.streams = Streams(seeds or (0,))
    return layer


def perceptron(replicas: int = 1, **options: Any) -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
    g = generator(1)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    model = insert_echo(net, ["1", "3"], torch.zeros(2, 4), echoes=16, bias=-1.0, **options)
    for k, layer in enumerate(echo_layers(model).values()):
        seeded(randomised(layer, seed=k), k)
    return model


# -- the scale


@pytest.mark.parametrize("bound", [0.5, 0.9155, 0.99])
def test_the_bound_multiplies(bound: float) -> None:
    """s = r sigmoid(a) does not clamp at r, so the gradient is alive for large a."""
    layer = randomised(Echo(3, max_scale=bound), size=2.0)
    f = normal_32(1, 50, 3, seed=1)
    log_s, s = layer.scales(f)
    a = layer.head(f)
    torch.testing.assert_close(s, bound * torch.sigmoid(a))
    torch.testing.assert_close(log_s, math.log(bound) + logsigmoid(a))
    assert float(s.detach().max()) < bound
    with torch.no_grad():
        layer.head.weight.zero_()
        layer.head.bias.fill_(8.0)
    gradient = torch.autograd.grad(layer.scales(f)[0].sum(), layer.head.bias)[0]
    torch.testing.assert_close(gradient, torch.full_like(gradient, 50 * float(torch.sigmoid(torch.tensor(-8.0)))))


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0])
@pytest.mark.parametrize("scale", SCALES)
def test_a_layer_starts_with_one_scale_for_all(scale: str, bias: float) -> None:
    layer = Echo(3, max_scale=0.8, bias=bias, scale=scale)
    log_s, s = layer.scales(normal_32(1, 20, 3, seed=0))
    torch.testing.assert_close(s, torch.full_like(s, 0.8 / (1 + math.exp(-bias))))
    torch.testing.assert_close(log_s, s.log())


def test_a_constant_scale_does_not_follow_the_input() -> None:
    layer = randomised(Echo(3, scale="constant"))
    log_s = layer.scales(normal_32(1, 20, 3, seed=0))[0]
    assert torch.equal(log_s, log_s[:, :1].expand_as(log_s))
    assert len(log_s[0, 0].unique()) == 3
    follows = randomised(Echo(3)).scales(normal_32(1, 20, 3, seed=0))[0]
    assert len(follows[0, :, 0].unique()) == 20


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mixing", MIXINGS)
def test_mixing_has_the_norm_and_the_determinant_that_are_claimed(mixing: str, scale: str) -> None:
    layer = randomised(Echo(4, max_scale=0.9, bias=1.0, mixing=mixing, scale=scale).double(), size=1.0)
    f = normal(1, 30, 4, seed=2, dtype=torch.float64)
    log_s, s = (t.detach() for t in layer.scales(f))
    full = torch.diag_embed(s) if mixing == "diagonal" else s
    assert full.shape == (1, 30, 4, 4)
    assert float(torch.linalg.matrix_norm(full, 2).max()) < 0.9
    torch.testing.assert_close(torch.linalg.slogdet(full).logabsdet, log_s.sum(-1))
    torch.testing.assert_close(torch.linalg.svdvals(full), log_s.exp().sort(-1, descending=True).values)
    if mixing != "diagonal":  # it mixes: S is not diagonal
        assert float((full - torch.diag_embed(full.diagonal(dim1=-2, dim2=-1))).abs().max()) > 0.1
    if mixing == "rotation":
        q = layer.rotation
        torch.testing.assert_close(q @ q.T, torch.eye(4, dtype=torch.float64), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(full, q @ torch.diag_embed(log_s.exp()))
    if mixing == "full":  # the rotations depend on the input
        assert float((full[:, 0] / log_s.exp().prod() - full[:, 1]).abs().max()) > 0.1


def test_rotations_are_repeatable_and_differ_by_seed() -> None:
    one, again, other = (Echo(3, mixing="rotation", rotation_seed=k).rotation for k in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


# -- the rate


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("training", [True, False])
def test_rate_and_codes_are_of_one_tensor(mixing: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The S that makes the code, caught where it is applied, has the determinant of the rate."""
    used: list[Tensor] = []

    def spy(s: Tensor, v: Tensor) -> Tensor:
        used.append(s)
        return apply_scale(s, v)

    layer = seeded(randomised(Echo(3, echoes=16, mixing=mixing), size=1.0))
    f = normal_32(40, 3, seed=3)
    layer.watch = []
    monkeypatch.setattr(layer_module, "apply_scale", spy)
    if not training:
        layer.bank = Bank(f.unsqueeze(0), layer.scales(f.unsqueeze(0))[1].detach())
    layer.train(training)(f)
    (passed,) = layer.watch
    full = torch.diag_embed(used[-1]) if used[-1].dim() == 3 else used[-1]
    logdet = torch.linalg.slogdet(full.detach()).logabsdet
    torch.testing.assert_close(logdet, passed.log_s.sum(-1), rtol=1e-5, atol=1e-5)
    if training:
        torch.testing.assert_close(layer.rate.detach(), -logdet.mean(), rtol=1e-5, atol=1e-5)


def test_sampler_and_code_share_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[dict[str, Any]] = []

    def spy(f: Tensor, s: Tensor, **options: Any) -> Tensor:
        caught.append({"f": f, "s": s, **options})
        return echo_noise(f, s, **options)

    monkeypatch.setattr(layer_module, "echo_noise", spy)
    layer = seeded(randomised(Echo(3, echoes=16)))
    f = normal_32(40, 3, seed=3)
    z = layer(f)
    (call,) = caught
    assert torch.equal(call["f"][0], f)
    assert call["echoes"] == 16
    assert sorted(call["order"][0].tolist()) == list(range(40))
    assert call["order"][0].tolist() != list(range(40))
    assert torch.equal(z, f + (call["s"] * echo_noise(**call))[0])
    torch.testing.assert_close(layer.rate, -call["s"].log().sum(-1).mean())


def test_the_rate_of_a_model_is_the_sum_and_has_a_gradient() -> None:
    model = perceptron()
    with pytest.raises(InfoplaneError, match="no rate yet; call the model in training mode first"):
        rate(model)
    model(normal_32(64, 4, seed=0))
    each = rate(model, per_layer=True)
    assert list(each) == ["1.echo", "3.echo"]
    total = rate(model)
    assert total.dim() == 0
    torch.testing.assert_close(total, each["1.echo"] + each["3.echo"])
    total.backward()
    for name, layer in echo_layers(model).items():
        assert float(layer.head.bias.grad.abs().min()) > 0, name
    assert float(model[0].weight.grad.abs().max()) > 0
    with pytest.raises(InfoplaneError, match=r"no Echo layer.*; insert one with infoplane\.insert_echo"):
        rate(nn.Linear(2, 2))


def test_the_rate_is_not_of_a_measurement() -> None:
    model = perceptron()
    x = normal_32(64, 4, seed=0)
    model(x)
    before = rate(model)
    fill_banks(model, x, references=64)
    model.eval()(2 * x)
    assert torch.equal(rate(model), before)


def test_gradients_flow_through_the_echoes() -> None:
    """The code of a row depends on the other rows; without this gradient |f| would run away."""
    layer = seeded(randomised(Echo(2, echoes=16, bias=0.0)))  # loud enough to hear the last echo
    f = normal_32(20, 2, seed=0).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(f)[0].sum(), f)
    heard = gradient.abs().sum(-1) > 0
    assert int(heard.sum()) == 17
    assert bool(heard[0])


# -- precision and shapes


def test_log_s_is_of_full_precision_under_autocast() -> None:
    """bfloat16 rounds .999 to 1, and the rate to 0."""
    model = nn.Sequential(nn.Linear(3, 3), seeded(Echo(3, echoes=16, max_scale=0.999, bias=8.0)), nn.Linear(3, 2))
    model[1].watch = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(normal_32(32, 3, seed=0))
    (passed,) = model[1].watch
    assert passed.f.dtype == passed.log_s.dtype == passed.z.dtype == torch.float32
    expected = math.log(0.999) + float(logsigmoid(torch.tensor(8.0)))
    torch.testing.assert_close(passed.log_s, torch.full_like(passed.log_s, expected), rtol=1e-3, atol=0)
    assert model[1].rate.dtype == torch.float32
    assert float(model[1].rate.detach()) == pytest.approx(-3 * expected, rel=1e-3)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_layer_gives_what_it_got(dtype: torch.dtype) -> None:
    layer = seeded(Echo(3, echoes=4)).to(torch.float64 if dtype == torch.float64 else torch.float32)
    layer.watch = []
    z = layer(normal_32(8, 3, seed=0).to(dtype))
    assert z.dtype == dtype
    assert z.shape == (8, 3)
    assert layer.watch[0].log_s.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_a_feature_map_hears_one_image_in_all_its_numbers() -> None:
    """K = 2 * 3 * 3, and an echo is made of whole images."""
    layer = seeded(Echo(18, echoes=4, scale="constant", bias=0.0))
    f = normal_32(6, 2, 3, 3, seed=0).requires_grad_()
    z = layer(f)
    assert z.shape == f.shape
    for place in ((0, 0, 0), (1, 2, 1)):
        (gradient,) = torch.autograd.grad(z[(0, *place)], f, retain_graph=True)
        heard = {i for i in range(6) if float(gradient[i].abs().max()) > 0}
        assert all(int((gradient[i] != 0).sum()) == 1 for i in heard)
        if place == (0, 0, 0):
            expected = heard
        assert heard == expected
        assert len(heard) == 5


@pytest.mark.parametrize("kind", ["auto", "draw"])
def test_a_replica_computes_what_it_computes_alone(kind: str) -> None:
    """They agree bit for bit, in training and afterwards, with running moments and rates."""
    count, f = 3, normal_32(3, 40, 4, seed=9)
    together = Echo(4, echoes=16, replicas=count)
    together.streams = Streams(range(count))
    alone = [seeded(randomised(Echo(4, echoes=16), seed=r), r) for r in range(count)]
    with torch.no_grad():
        for name, p in together.named_parameters():
            p.copy_(torch.cat([dict(layer.named_parameters())[name] for layer in alone]))
    for _ in range(3):
        z = together(f)
        for r, layer in enumerate(alone):
            assert torch.equal(layer(f[r]), z[r])
            assert torch.equal(layer.rate, together.rate[r])
            assert torch.equal(layer.end_second[0], together.end_second[r])
    if kind == "draw":
        together.bank = Bank(f, together.scales(f)[1].detach())
        z = together.eval()(f)
        for r, layer in enumerate(alone):
            layer.bank = Bank(f[r : r + 1], layer.scales(f[r : r + 1])[1].detach())
            assert torch.equal(layer.eval()(f[r]), z[r])


def test_the_global_stream_repeats_a_layer_as_it_does_dropout() -> None:
    layer, f = Echo(2, echoes=8), normal_32(20, 2, seed=0)
    with torch.random.fork_rng():
        results = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            results.append(layer(f))
    assert torch.allclose(results[0], results[1], atol=1e-3)
    assert not torch.allclose(results[0], results[2], atol=1e-3)


# -- running moments and the end


@pytest.mark.parametrize("mixing", MIXINGS)
def test_running_moments_become_the_stationary_ones(mixing: str) -> None:
    layer = seeded(randomised(Echo(3, echoes=16, bias=-0.5, mixing=mixing).double()))
    f = normal(1, 200, 3, seed=1, dtype=torch.float64) + 1
    for _ in range(300):
        layer(f)
    mean, second = stationary_moments(f, layer.scales(f)[1].detach())
    torch.testing.assert_close(layer.end_mean, mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(layer.end_second, second, rtol=1e-6, atol=1e-6)


def test_running_moments_follow_batches_and_stand_still_in_eval() -> None:
    layer = seeded(randomised(Echo(3, echoes=16, bias=-0.5)))
    g = generator(2)
    x = torch.randn(1000, 3, generator=g) + 1
    for _ in range(300):
        layer(x[torch.randint(1000, (250,), generator=g)])
    mean, second = stationary_moments(x.unsqueeze(0), layer.scales(x.unsqueeze(0))[1].detach())
    # an average over about 20 batches of 250 rows: k standard errors, times 1 / (1 - E s)
    spread = (second.diagonal(dim1=-2, dim2=-1) - mean**2).sqrt()
    assert bool(((layer.end_mean - mean).abs() < 5 * spread / math.sqrt(4750) * 2).all())
    assert bool(((layer.end_second - second).abs().amax((-2, -1)) < 0.1 * second.abs().amax((-2, -1))).all())
    before = layer.end_second.clone()
    layer.eval()(x[:100])
    assert torch.equal(layer.end_second, before)
    assert float(layer.end_count) == 300


def test_each_batch_has_its_share_in_the_running_moments() -> None:
    """The first ten batches have equal weights, and later ones a weight of a tenth each."""
    layer = seeded(randomised(Echo(3, echoes=16, bias=-0.5).double()))
    for count in range(15):
        f = normal(1, 40, 3, seed=count, dtype=torch.float64)
        mean, second = moment_step(f, layer.scales(f)[1].detach(), layer.end_mean, layer.end_second)
        weight = max(1 / (1 + count), 0.1)
        expected = torch.lerp(layer.end_mean, mean, weight), torch.lerp(layer.end_second, second, weight)
        layer(f)
        torch.testing.assert_close((layer.end_mean, layer.end_second), expected)


def wide() -> Echo:
    return seeded(randomised(Echo(65, echoes=16, bias=-0.5), size=0.1))


def test_a_wide_layer_follows_its_moments_at_the_first_batches_and_then_one_in_eight() -> None:
    layer, moved = wide(), []
    for count in range(100):
        before = layer.end_second.clone()
        layer(normal_32(1, 40, 65, seed=count))
        moved.append(not torch.equal(layer.end_second, before))
    assert [k for k, yes in enumerate(moved) if yes] == [*range(80), 80, 88, 96]


def test_which_batch_it_is_is_part_of_the_state_and_no_trial_changes_it() -> None:
    layer, resumed, tried = wide(), wide(), wide()
    for each in (layer, resumed, tried):
        each.end_count.fill_(90.0)
    for count in range(20):
        f = normal_32(1, 40, 65, seed=count)
        if count == 6:
            resumed.load_state_dict(layer.state_dict())
            resumed.end_mean += 0.0  # another version of the same numbers
        with trying(tried, Streams((1,))):
            tried(f)
        z = [seeded(each, count)(f) for each in (layer, tried, resumed)]
        assert torch.equal(z[0], z[1])
        if count >= 6:
            assert torch.equal(z[0], z[2])
    for name, value in layer.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
        assert torch.equal(value, tried.state_dict()[name])


def test_a_layer_made_in_inference_mode_works_in_it_and_outside() -> None:
    with torch.inference_mode():
        layer = seeded(Echo(65, echoes=16))
        inside = layer.eval()(normal_32(40, 65, seed=0))
    assert inside.isfinite().all()
    assert seeded(layer)(normal_32(40, 65, seed=0)).isfinite().all()


def test_moments_that_others_write_are_seen() -> None:
    layer, other = wide(), wide()
    x = [normal_32(1, 40, 65, seed=count) for count in range(3)]
    for each in x:
        layer(each), other(each)
    for name in ("end_mean", "end_second", "end_count"):
        held = getattr(other, name)
        held.copy_(0.5 * held)
        setattr(layer, name, held.clone())
    layer.eval(), other.eval()
    assert torch.equal(seeded(layer, 1)(x[0]), seeded(other, 1)(x[0]))


def test_what_follows_may_work_in_place_on_the_input() -> None:
    layer, results = Echo(3, echoes=8, scale="constant"), []
    for touched in (False, True):
        h = normal_32(20, 3, seed=0).requires_grad_()
        trunk = h * 1.0
        z = seeded(layer)(trunk)
        after = trunk.relu_() if touched else trunk.relu()
        results.append(torch.autograd.grad(z.square().sum() + after.sum(), h)[0])
    assert torch.equal(*results)


def test_a_training_echo_ends_with_the_running_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The innermost bracket is Gaussian with the stationary moments, one draw per row."""
    ends: list[Tensor] = []

    def spy(f: Tensor, s: Tensor, *, end: Tensor, **options: Any) -> Tensor:
        ends.append(end)
        return echo_noise(f, s, end=end, **options)

    layer = seeded(randomised(Echo(2, echoes=16, bias=0.0).double()))
    u = normal(20_000, 2, seed=1, dtype=torch.float64) + 2
    f = torch.stack([u[:, 0], u[:, 0] + 0.5 * u[:, 1]], 1)
    for _ in range(200):
        layer(f)
    monkeypatch.setattr(layer_module, "echo_noise", spy)
    layer(f)
    mean, second = stationary_moments(f.unsqueeze(0), layer.scales(f.unsqueeze(0))[1].detach())
    covariance = second[0] - torch.outer(mean[0], mean[0])
    end = ends[0][0]
    n = len(end)
    deviation = covariance.diagonal().sqrt()
    assert ((end.mean(0) - mean[0]).abs() <= 5 * deviation / math.sqrt(n)).all()
    products = torch.einsum("ni,nj->nij", end - mean[0], end - mean[0])
    assert ((products.mean(0) - covariance).abs() <= 5 * products.std(0) / math.sqrt(n)).all()
    assert not ends[0].requires_grad


def test_a_constant_unit_does_no_harm() -> None:
    layer = seeded(randomised(Echo(3, echoes=16)))
    f = normal_32(40, 3, seed=0) * torch.tensor([1.0, 0.0, 1.0]) + torch.tensor([0.0, 2.0, 0.0])
    f[:, 2] = f[:, 0]
    for _ in range(5):
        z = layer(f)
        assert bool(z.isfinite().all())
    z.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())


# -- after training


def test_a_batch_that_is_too_small_is_said() -> None:
    layer = Echo(2, echoes=16)
    for mode in (True, False):
        with pytest.raises(InfoplaneError, match=r"batch of 16 rows; 16 echoes .*at least 17.*fill_banks"):
            layer.train(mode)(normal_32(16, 2, seed=0))
    layer(normal_32(17, 2, seed=0))


def test_eval_without_a_bank_hears_the_batch_and_with_one_it_does_not() -> None:
    model, x = perceptron().eval(), normal_32(40, 4, seed=0)
    inputs = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs)[0].sum(), inputs)
    assert int((gradient.abs().sum(-1) > 0).sum()) > 17
    fill_banks(model, x, references=64, streams=Streams([3]))
    (gradient,) = torch.autograd.grad(model(inputs)[0].sum(), inputs)
    assert (gradient.abs().sum(-1) > 0).nonzero().flatten().tolist() == [0]


def test_one_row_at_a_time_with_a_bank() -> None:
    model, x = perceptron().eval(), normal_32(40, 4, seed=0)
    fill_banks(model, x, references=64, streams=Streams([3]))
    for size in (1, 2, 40):
        for layer in echo_layers(model).values():
            seeded(layer, 5)
        outputs = model(x[:size])
        for layer in echo_layers(model).values():
            seeded(layer, 5)
        mates = torch.cat([x[:1], 100 + normal_32(size - 1, 4, seed=6)])
        # the noise of a row is drawn for its place, whatever the other rows are
        assert torch.equal(model(mates)[0], outputs[0])


def test_training_with_a_bank_still_hears_the_batch() -> None:
    """A detached bank would let |f| run away."""
    layer = seeded(randomised(Echo(2, echoes=16, bias=0.0)))
    f = normal_32(20, 2, seed=0)
    layer.bank = Bank(f.unsqueeze(0), layer.scales(f.unsqueeze(0))[1].detach())
    inputs = f.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer.train()(inputs)[0].sum(), inputs)
    assert int((gradient.abs().sum(-1) > 0).sum()) == 17


def test_the_phases() -> None:
    model, x = perceptron(), normal_32(64, 4, seed=0)
    clean = nn.Sequential(*[m for m in copy.deepcopy(model)])
    for m in clean.modules():
        m._forward_hooks.clear()
    with measuring(model, "off"):
        torch.testing.assert_close(model(x), clean(x))
    with (
        measuring(model, "mean"),
        pytest.raises(InfoplaneError, match=r"no bank of reference codes; call infoplane\.fill_banks"),
    ):
        model(x)
    fill_banks(model, x, references=1024, streams=Streams([0]))
    layer = echo_layers(model)["1.echo"]
    with measuring(model, "mean"):
        layer.watch = []
        model(x)
        model(x)
        first, again = layer.watch
    assert torch.equal(first.z, again.z)
    s = first.log_s.exp()
    torch.testing.assert_close(first.z, first.f + s * layer.bank.mean.float().unsqueeze(1))
    # the noisy codes have this mean
    with measuring(model, "draw", Streams([1])):
        layer.watch = []
        model(x[:1].expand(20_000, 4))
        noisy = layer.watch[0].z[0]
    assert ((noisy.mean(0) - first.z[0, 0]).abs() <= 5 * noisy.std(0) / math.sqrt(20_000)).all()


# -- copies, states and arguments


def test_a_copy_after_training_is_a_layer_of_its_own() -> None:
    model, x = perceptron(), normal_32(64, 4, seed=0)
    model(x)
    rate(model).backward()
    fill_banks(model, x, references=64)
    twin = copy.deepcopy(model)
    for layer in echo_layers(twin).values():
        assert layer.bank is None
        assert layer.streams is None
        assert layer.watch is None
        assert layer.phase == "auto"
        with pytest.raises(InfoplaneError, match="no rate yet"):
            layer.rate  # noqa: B018
    for a, b in zip(echo_layers(model).values(), echo_layers(twin).values(), strict=True):
        assert torch.equal(a.end_second, b.end_second)
        assert a.end_second.data_ptr() != b.end_second.data_ptr()
    twin(x)
    assert rate(twin).requires_grad
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again.state_dict()["1.echo.head.weight"], model.state_dict()["1.echo.head.weight"])


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, ["head.weight", "head.bias"]),
        ({"scale": "constant"}, ["log_odds"]),
        ({"mixing": "rotation"}, ["rotation", "head.weight", "head.bias"]),
        ({"mixing": "full"}, ["head.weight", "head.bias", "skew.weight", "skew.bias"]),
    ],
    ids=str,
)
def test_the_state_is_weights_and_running_moments(options: dict[str, Any], keys: list[str]) -> None:
    layer = seeded(randomised(Echo(3, echoes=16, **options)))
    layer(normal_32(20, 3, seed=0))
    layer.bank = Bank(torch.zeros(1, 2, 3), torch.full((1, 2, 3), 0.5))
    assert set(layer.state_dict()) == {*keys, "end_mean", "end_second", "end_count"}
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = Echo(3, echoes=16, **(options | {"rotation_seed": 5}))
    other.load_state_dict(torch.load(file, weights_only=True))
    f = normal_32(20, 3, seed=1)
    assert torch.equal(seeded(other, 7)(f), seeded(layer, 7)(f))


def test_the_floor() -> None:
    assert Echo(5, max_scale=0.9).floor == pytest.approx(-5 * math.log(0.9))
    layer = Echo(5, max_scale=0.9, bias=30.0, echoes=4)
    layer(normal_32(8, 5, seed=0))
    assert float(layer.rate.detach()) == pytest.approx(layer.floor, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0}, "features=0; expected at least 1"),
        ({"max_scale": 1.0}, "max_scale=1.0; expected a number between 0 and 1"),
        ({"max_scale": 0.0}, "max_scale=0.0; expected a number between 0 and 1"),
        ({"max_scale": -0.5}, "max_scale=-0.5; expected"),
        ({"max_scale": math.nan}, "max_scale=nan; expected"),
        ({"echoes": 0}, "echoes=0; expected a power of two"),
        ({"echoes": 12}, "echoes=12; expected a power of two"),
        ({"scale": "constnat"}, "Unknown scale of an Echo layer 'constnat'. Did you mean 'constant'"),
        ({"mixing": "rotations"}, "Unknown mixing of an Echo layer 'rotations'. Did you mean 'rotation'"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InfoplaneError) as caught:
        Echo(**({"features": 2} | options))
    assert message in str(caught.value)


def test_bad_shapes() -> None:
    with pytest.raises(InfoplaneError, match=r"\(20, 4\), 4 numbers per row; expected 3"):
        Echo(3)(torch.zeros(20, 4))
    for shape in ((20, 3), (4, 20, 3)):
        with pytest.raises(InfoplaneError, match=r"expected \(2, B, 3\)"):
            Echo(3, replicas=2, echoes=4)(torch.zeros(shape))
    layer = Echo(3, replicas=2, echoes=4)
    layer.streams = Streams([0])
    with pytest.raises(InfoplaneError, match="2 replicas and 1 random streams"):
        layer(torch.zeros(2, 20, 3))


def test_what_it_says_of_itself() -> None:
    assert "3, max_scale=0.9155, echoes=64, scale=input, mixing=diagonal" in repr(Echo(3))
    assert "mixing=diagonal, replicas=2" in repr(Echo(3, replicas=2))
    assert "replicas" not in Echo(3).extra_repr()


# -- what it learns


@pytest.mark.slow
def test_a_linear_autoencoder_finds_reverse_water_filling() -> None:
    """Variances 4, 1, .25, .05, loss E|x - y|^2 + 2 theta R, theta = .2: R = 2.414, D = .650."""
    variances, theta = torch.tensor([4.0, 1.0, 0.25, 0.05]), 0.2
    kept = variances.clamp(min=theta)
    expected_rate = float(0.5 * (kept / theta).log().sum())
    expected_distortion = float(variances.clamp(max=theta).sum())
    assert (expected_rate, expected_distortion) == (pytest.approx(2.414, abs=1e-3), pytest.approx(0.65))
    encoder, decoder = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    layer = seeded(Echo(4, max_scale=0.98, echoes=128, bias=-1.0, scale="constant", shuffle=False))
    g = generator(0)
    with torch.no_grad():
        for m in (encoder, decoder):
            m.weight.copy_(torch.eye(4) + 0.1 * torch.randn(4, 4, generator=g))
    model = nn.Sequential(encoder, layer, decoder)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    steps = 4000
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x = torch.randn(512, 4, generator=g) * variances.sqrt()
        loss = mse_loss(model(x), x) * 4 + 2 * theta * layer.rate
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    x = torch.randn(20_000, 4, generator=g) * variances.sqrt()
    fill_banks(model, x, streams=Streams([1]))
    with torch.no_grad(), measuring(model, "draw", Streams([2])):
        layer.watch = []
        error = (model(x) - x).square().sum(-1)
        measured = float(-layer.watch[0].log_s.sum(-1).mean())
    # the unused fourth unit cannot go below -log .98 = .020
    assert measured == pytest.approx(expected_rate + 0.02, abs=0.03)
    assert float(error.mean()) == pytest.approx(
        expected_distortion, abs=0.02 + 5 * float(error.std()) / math.sqrt(20_000)
    )
    lagrangian = float(error.mean()) + 2 * theta * measured
    assert lagrangian == pytest.approx(expected_distortion + 2 * theta * expected_rate, abs=0.02)
