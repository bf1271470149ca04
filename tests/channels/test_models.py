"""Models of other libraries, compiled, distributed and in half precision; and inexact rates."""

from __future__ import annotations

import copy
import math
from collections import namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, dropout, interpolate
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

import infoplane as ip
from infoplane.channels.layer import Echo
from infoplane.channels.models import echo_layers, measuring, modules
from infoplane.errors import InfoplaneError
from infoplane.streams import Streams
from tests.drawn import generator, normal_32

# a rate far below ln N, so that only the case at hand can fail
QUIET = {"echoes": 16, "bias": 2.0, "max_scale": 0.97}


def built(make: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(m, kind)) for m in model.modules() for kind in kinds)


def verdicts(model: nn.Module, x: Tensor, **options: Any) -> Any:
    """Return the rows of a snapshot and its certificates, as frames."""
    recorder = ip.Recorder(model, x, estimators=[], **options)
    recorder.snapshot(0)
    return recorder.frame(), recorder.frame("certificates")


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Return the gradients of a step with the rate in the loss, from one seed, on a copy."""
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        (cross_entropy(model(x), y) + 0.1 * ip.rate(model)).backward()
    return [p.grad.clone() for p in model.parameters()]


X, Y = normal_32(300, 12, seed=0), torch.arange(300) % 4
IMAGES, CLASSES = normal_32(40, 3, 32, 32, seed=1), torch.arange(40) % 4


def small() -> nn.Module:
    return built(lambda: nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 4)))


# -- torchvision's ResNet


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return built(lambda: resnet18(num_classes=4)).eval()


def test_a_resnet_keeps_its_keys_its_weights_and_its_outputs(resnet: nn.Module) -> None:
    model = ip.insert_echo(resnet, ["avgpool"], IMAGES[:2], **QUIET)
    state = resnet.state_dict()
    added = set(model.state_dict()) - set(state)
    assert set(state) <= set(model.state_dict())
    assert all(key.startswith("avgpool.echo.") for key in added)
    assert all(torch.equal(model.state_dict()[key], t) for key, t in state.items())  # weights loaded before
    other = ip.insert_echo(built(lambda: resnet18(num_classes=4), 1), ["avgpool"], IMAGES[:2], **QUIET)
    missing, unexpected = other.load_state_dict(state, strict=False)  # and after
    assert (set(missing), unexpected) == (added, [])
    with torch.no_grad():
        expected = resnet(IMAGES)
        for noisy in (model, other):
            with measuring(noisy, "off"):
                assert torch.equal(noisy(IMAGES), expected)


def test_a_resnet_is_measured_and_its_frozen_layers_stay_frozen(resnet: nn.Module) -> None:
    model = ip.insert_echo(resnet, ["avgpool"], IMAGES[:2], **QUIET).train()
    for block in (model.bn1, model.layer1):
        block.eval()
    flags, state, before = [m.training for m in model.modules()], copy.deepcopy(model.state_dict()), hooks(model)
    layers = ["layer1.0", "layer2", "layer4.1.bn2", "avgpool", "avgpool.echo"]
    recorder = ip.Recorder(model, (IMAGES, CLASSES), layers, ["binning:width=0.5"], batch_size=16, references=40)
    recorder.snapshot(0)
    assert set(recorder.frame()["layer"]) == set(layers)
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(state[key], t) for key, t in model.state_dict().items())
    assert hooks(model) == before
    (certificate,) = recorder.frame("certificates").to_dict("records")
    assert certificate["deterministic_ok"]
    assert certificate["standing"] == "upper"
    assert "wide" in str(certificate["warnings"]).split(";")  # 512 coordinates


def test_batches_are_no_larger_than_asked_and_change_no_number(resnet: nn.Module) -> None:
    model = ip.insert_echo(resnet, ["avgpool"], IMAGES[:2], **QUIET)
    sizes: list[int] = []
    handle = model.conv1.register_forward_hook(lambda _m, _i, out: sizes.append(len(out)))
    options: dict[str, Any] = {"layers": ["layer4", "avgpool"], "estimators": [ip.estimators.KDE(noise_variance=0.1)]}
    rows = [
        ip.Recorder(model, (IMAGES, CLASSES), references=40, batch_size=size, **options).snapshot(0)["measurements"]
        for size in (None, 7)
        if sizes.clear() is None
    ]
    handle.remove()
    assert max(sizes) == 7
    for whole, parts in zip(*rows, strict=True):
        if whole["quantity"] != "I(Z;Y)":  # that number has other noise
            assert whole["value_nats"] == pytest.approx(parts["value_nats"], rel=1e-3, abs=1e-3)


class Pictures(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return IMAGES[i], int(CLASSES[i])


def test_a_probe_of_images_may_be_a_dataset_or_the_very_loader_that_trains() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.Flatten(), nn.LazyLinear(4))
    model(IMAGES[:1])
    own = generator(4)
    loader = DataLoader(Pictures(), batch_size=16, shuffle=True, generator=own)
    before, state = own.get_state(), torch.random.get_rng_state()
    recorders = [ip.Recorder(model, probe, ["1"], ["binning:width=0.5"]) for probe in (Pictures(), loader)]
    one, other = ([row["value_nats"] for row in r.snapshot(0)["measurements"]] for r in recorders)
    assert one == pytest.approx(other)
    assert torch.equal(own.get_state(), before)
    assert torch.equal(torch.random.get_rng_state(), state)


# -- feature maps


@pytest.mark.parametrize(
    ("layer", "shape", "options", "pool", "features"),
    [
        (nn.Conv2d(3, 16, 1), (3, 9, 9), {}, (2, 2), 64),
        (nn.Conv2d(3, 8, 1), (3, 9, 9), {}, (2, 2), 32),  # (2, 4) is larger, but has other proportions
        (nn.Conv2d(3, 4, 1), (3, 5, 10), {}, (2, 5), 40),
        (nn.Conv2d(3, 1, 1), (3, 1, 100), {}, (1, 64), 64),
        (nn.Conv2d(3, 100, 1), (3, 9, 9), {}, (1, 1), 100),
        (nn.Conv2d(3, 4, 1), (3, 4, 4), {}, None, 64),
        (nn.Conv2d(3, 512, 1), (3, 1, 1), {}, None, 512),
        (nn.Conv2d(3, 4, 1), (3, 5, 5), {"pool": None}, None, 100),
        (nn.Conv2d(3, 4, 1), (3, 5, 5), {"pool": (1, 2)}, (1, 2), 8),
        (nn.Conv1d(3, 8, 1), (3, 30), {}, (8,), 64),
        (nn.Linear(30, 30), (3, 30), {}, None, 90),  # (B, L, d): no map
        (nn.Linear(30, 30), (3, 30), {"pool": (5,)}, (5,), 15),
    ],
)
def test_maps_are_pooled_to_a_code_that_can_be_certified(
    layer: nn.Module, shape: tuple[int, ...], options: dict[str, Any], pool: tuple[int, ...] | None, features: int
) -> None:
    x = normal_32(20, *shape, seed=2)
    model = ip.insert_echo(nn.Sequential(layer), ["0"], x[:2], **QUIET | options)
    echo = model[0].echo
    assert (echo.pool, echo.features) == (pool, features)
    assert model(x).shape == layer(x).shape
    assert ip.rate(model).item() == pytest.approx(
        -features * math.log(0.97 * torch.sigmoid(torch.tensor(2.0))), rel=1e-5
    )


def test_the_channel_acts_on_the_means_of_areas_and_is_spread_over_them() -> None:
    x = normal_32(30, 3, 7, 10, seed=3)
    model = ip.insert_echo(nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(inplace=True)), ["0"], x[:2], **QUIET)
    echo = model[0].echo
    expected = adaptive_avg_pool2d(model[0]._conv_forward(x, model[0].weight, model[0].bias), (3, 4))
    assert echo.pool == (3, 4)
    ip.fill_banks(model, x, references=30)
    torch.testing.assert_close(echo.bank.f[0].sort(0)[0], expected.flatten(1).sort(0)[0])
    echo.watch = []
    with ip.Trace(model, ["0", "0.echo", "1"]) as trace, torch.no_grad():
        model.eval()(x)
        read = trace.take()
    (passed,) = echo.watch
    torch.testing.assert_close(passed.f[0], expected.flatten(1))
    assert torch.equal(read["0"], passed.f[0])
    assert torch.equal(read["0.echo"], passed.z[0])
    assert not torch.equal(read["0"], read["0.echo"])
    spread = interpolate(passed.z[0].unflatten(1, (5, 3, 4)), size=(7, 10))
    assert torch.equal(read["1"], spread.relu().flatten(1))


def test_the_certificate_of_a_pooled_map_is_of_its_code() -> None:
    x = normal_32(2000, 1, 6, 6, seed=4)
    net = built(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 4)))
    frame, certificates = verdicts(ip.insert_echo(net, ["0"], x[:2], pool=(1, 1), **QUIET), x)
    assert list(frame["standing"]) == ["exact"]
    assert frame["params"][0] == "r=0.97,pool=1x1"
    assert frame["value_nats"][0] == pytest.approx(-4 * math.log(0.97 * torch.sigmoid(torch.tensor(2.0))), rel=1e-5)
    assert certificates["code_entropy_nats"][0] == pytest.approx(math.log(2000))


def test_a_replica_of_pooled_maps_computes_what_it_computes_alone() -> None:
    count = 3
    f = normal_32(count, 20, 5, 9, 9, seed=5)

    def layer(replicas: int) -> Echo:
        return Echo(20, pool=(2, 2), echoes=8, replicas=replicas)

    together, alone = layer(count), [layer(1) for _ in range(count)]
    weights = normal_32(count, 20, 20, seed=6) * 0.1
    with torch.no_grad():
        together.head.weight.copy_(weights)
        for r, one in enumerate(alone):
            one.head.weight.copy_(weights[r : r + 1])
    together.streams = Streams(range(count))
    h = f.clone().requires_grad_()
    z = together(h)
    (z.square().sum() + together.rate.sum()).backward()
    for r, one in enumerate(alone):
        one.streams = Streams([r])
        mine = f[r].clone().requires_grad_()
        out = one(mine)
        (out.square().sum() + one.rate).backward()
        assert torch.equal(out, z[r])
        assert torch.equal(one.rate, together.rate[r])
        assert torch.equal(mine.grad, h.grad[r])
        assert torch.equal(one.head.weight.grad[0], together.head.weight.grad[r])


def test_a_code_does_not_depend_on_how_its_map_lies_in_memory() -> None:
    f = 3.0 + normal_32(6, 64, 16, 16, seed=5)
    echo = Echo(64, pool=(1, 1))
    assert torch.equal(echo.code(f.to(memory_format=torch.channels_last)), echo.code(f))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: Echo(9, pool=(2, 2)), "whose product divides"),
        (lambda: Echo(8, pool=(2, 2, 2)), "one or two sizes"),
        (lambda: Echo(8, pool=(0, 2)), "one or two sizes"),
        (lambda: Echo(8, pool=(2, 2))(torch.zeros(4, 3, 5, 5)), r"expected \(B, 2, H, W\)"),
        (lambda: Echo(8, pool=(2, 2))(torch.zeros(4, 8)), r"expected \(B, 2, H, W\)"),
        (lambda: Echo(8, pool=(2,), replicas=3)(torch.zeros(4, 4, 5)), r"expected \(3, B, 4, L\)"),
        (lambda: Echo(8, pool=(2, 2), replicas=3)(torch.zeros(2, 9, 2, 5, 5)), r"expected \(3, B, 2, H, W\)"),
        (lambda: Echo(8, pool=(2, 2))(torch.zeros(4, 2, 1, 5)), "smaller than its code"),
        (
            lambda: ip.insert_echo(nn.Sequential(nn.Conv2d(3, 2, 1)), ["0"], IMAGES[:2], pool=(2,)),
            "one size for each axis",
        ),
        (lambda: ip.insert_echo(nn.Sequential(nn.Conv2d(3, 2, 1)), ["0"], IMAGES[:2], pool=(2, 33)), "none larger"),
        (
            lambda: ip.insert_echo(nn.Sequential(nn.Conv2d(3, 2, 1)), ["0"], IMAGES[:2], pool="aut"),
            "Did you mean 'auto'",
        ),
    ],
)
def test_bad_pools_are_refused(action: Callable[[], object], message: str) -> None:
    with pytest.raises(InfoplaneError, match=message):
        action()


# -- tuples, mappings, transformers

Pair = namedtuple("Pair", ["words", "code", "rest"])
SHAPES: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda h: ("words", h, 2 * h),
    "list": lambda h: [h, 2 * h],
    "namedtuple": lambda h: Pair("words", h, 2 * h),
    "dict": lambda h: {"words": 1, "code": h, "rest": 2 * h},
}


class Giving(nn.Module):
    """A layer that returns a container; `bypass` hands on the second tensor, which Echo ignores."""

    def __init__(self, kind: str, bypass: bool = False) -> None:
        super().__init__()
        self.kind, self.bypass = kind, bypass
        self.layer = Container(kind)
        self.top = nn.Linear(4, 4)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        tensors = [t for t in (out.values() if isinstance(out, dict) else out) if isinstance(t, Tensor)]
        return self.head(self.top(tensors[self.bypass] + (tensors[0] if self.bypass else 0.0)))


class Container(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.linear = kind, nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Any:
        return SHAPES[self.kind](self.linear(x))


@pytest.mark.parametrize("kind", SHAPES)
def test_the_first_tensor_of_a_container_is_the_code(kind: str) -> None:
    net = built(lambda: Giving(kind))
    model = ip.insert_echo(net, ["layer"], X[:2], **QUIET)
    clean, out = net.layer(X), model.layer(X)
    assert type(out) is type(clean)
    first, second = (1, 2) if "words" in str(clean) else (0, 1)
    parts, wholes = ([*c.values()] if isinstance(c, dict) else [*c] for c in (out, clean))
    assert not torch.equal(parts[first], wholes[first])
    assert torch.equal(parts[second], wholes[second])
    frame, _ = verdicts(model, X)
    assert list(frame["standing"]) == ["exact"]


def test_what_passes_by_in_a_tuple_lets_no_bound_through() -> None:
    """The tensor beside the code knows all of x, so the lower layer's R bounds nothing above it."""
    for bypass in (False, True):
        model = ip.insert_echo(built(lambda b=bypass: Giving("tuple", b)), ["layer", "top"], X[:2], **QUIET)
        with torch.no_grad():
            model.top.echo.head.bias.fill_(-2.0)  # the upper layer has a larger rate
        frame, _ = verdicts(model, (X, Y))
        upper = frame[frame["layer"] == "top.echo"].set_index("quantity")["value_nats"]
        lower = frame[(frame["layer"] == "layer.echo") & (frame["quantity"] == "I(Z;X)")]["value_nats"].iloc[0]
        assert ("I(Z2;F2)" in upper.index, "I(Z2;Z1)" in upper.index) == (bypass, not bypass)
        assert (upper["I(Z;X)"] > 2 * lower) == bypass
        decoded = frame[(frame["layer"] == "layer.echo") & (frame["quantity"] == "I(Z;Y)")]
        assert len(decoded) == (0 if bypass else 2)


def encoder(batch_first: bool = True) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=batch_first)
    return built(lambda: nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


class Reader(nn.Module):
    """A classifier of sequences, (B, L, 8). If turned, its encoder has the places first."""

    def __init__(self, turned: bool = False) -> None:
        super().__init__()
        self.turned = turned
        self.encoder = encoder(batch_first=not turned)
        self.pool = nn.Identity()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(x.transpose(0, 1)).transpose(0, 1) if self.turned else self.encoder(x)
        return self.head(self.pool(h.mean(1)))


SEQUENCES = normal_32(60, 5, 8, seed=7)


def test_taps_and_echo_layers_act_inside_a_fused_transformer() -> None:
    net = built(Reader).eval()
    inside = ["encoder.layers.0.self_attn", "encoder.layers.0.linear1", "encoder.layers.1.norm2"]
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad(), ip.Trace(net, inside) as trace:
        assert not torch.backends.mha.get_fastpath_enabled()
        net(SEQUENCES)
        read = trace.take()
    assert torch.backends.mha.get_fastpath_enabled()
    assert [tuple(t.shape) for t in read.values()] == [(60, 40), (60, 80), (60, 40)]
    model = ip.insert_echo(
        net, ["encoder.layers.0.self_attn", "encoder.layers.0.linear1", "pool"], SEQUENCES[:2], **QUIET
    )
    assert [echo.features for echo in echo_layers(model).values()] == [40, 80, 8]
    assert isinstance(model.encoder.layers[0].self_attn(*[SEQUENCES] * 3), tuple)
    _, certificates = verdicts(model, SEQUENCES, references=60)
    assert list(certificates["warnings"].str.contains("wide")) == [False, True, False]
    assert certificates["deterministic_ok"].all()
    with torch.no_grad():
        ip.fill_banks(model, SEQUENCES)
        assert not torch.equal(model(SEQUENCES), model(SEQUENCES))  # the noise is on in prediction too
    raised = RuntimeError("on the way")
    with pytest.raises(RuntimeError), measuring(net):
        raise raised
    assert torch.backends.mha.get_fastpath_enabled()


def test_rows_that_are_places_of_a_sequence_are_refused() -> None:
    turned = built(lambda: Reader(turned=True)).eval()
    for x in (SEQUENCES[:2], SEQUENCES[:5]):  # also with as many places as inputs
        with pytest.raises(InfoplaneError, match=r"gave \(5, .*expected one row per input.*batch_first=True"):
            ip.insert_echo(turned, ["encoder.layers.0.linear1"], x)
    ip.insert_echo(turned, ["pool"], SEQUENCES[:5])
    ip.insert_echo(nn.Sequential(turned), ["0"], SEQUENCES[:5])  # (B, 4): its inside does not matter
    for alone in (encoder(batch_first=False), nn.LSTM(8, 4)):
        model = nn.Sequential(alone)
        with pytest.raises(InfoplaneError, match="batch_first=True"):
            ip.insert_echo(model, ["0"], SEQUENCES[:4])
    ip.insert_echo(nn.Sequential(nn.LSTM(8, 4, batch_first=True)), ["0"], SEQUENCES[:4])
    with pytest.raises(InfoplaneError, match=r"gave 5 rows for 60 inputs.*reduce="):
        ip.Recorder(turned, SEQUENCES, ["encoder"]).snapshot(0)
    ip.Recorder(turned, SEQUENCES, ["encoder"], reduce=lambda t: t.transpose(0, 1).flatten(1)).snapshot(0)


# -- compiled, half precision, distributed


#: At a graph break the compiler reads .grad of a tensor that is not a leaf, and its own filter for
#: that warning is overruled by "error".
COMPILING = "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"


@pytest.fixture
def compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.filterwarnings(COMPILING)
@pytest.mark.usefixtures("compiler")
def test_a_model_that_was_compiled_first() -> None:
    net = small()
    compiled = torch.compile(net, backend="eager")
    compiled(X)
    with ip.Trace(compiled, ["0"]) as trace:
        compiled(X)
        assert torch.equal(trace.take()["0"], net[0](X))
    model = ip.insert_echo(compiled, ["0"], X[:2], **QUIET)
    assert list(echo_layers(model)) == ["0.echo"]
    again = torch.compile(model, backend="eager")
    compiled(X)  # its compiled code would fit the model with Echo but for the hook
    again(X)
    assert torch.equal(ip.rate(again), model[0].echo.rate)
    assert ip.Recorder(again, X, estimators=[]).snapshot(0)["measurements"][0]["layer"] == "0.echo"
    assert torch.equal(compiled(X), net(X))
    with pytest.raises(InfoplaneError, match="insert first, then compile"):
        ip.insert_echo(compiled, ["0"], X[:2], inplace=True)
    net.compile(backend="eager")
    with pytest.raises(InfoplaneError, match="insert first, then compile"):
        ip.insert_echo(net, ["0"], X[:2], inplace=True)
    net(X)
    with ip.Trace(net, ["0"]) as trace:
        net(X)
        assert trace.take()["0"].shape == (300, 6)


@pytest.mark.filterwarnings(COMPILING)
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_trains_as_it_does_uncompiled(backend: str) -> None:
    model = ip.insert_echo(small(), ["0", "1"], X[:2], **QUIET)
    with torch.no_grad():
        model[0].echo.head.weight.copy_(normal_32(1, 6, 6, seed=8))
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend=backend)
    for _ in range(2):
        expected, found = gradients(model, X, Y), gradients(compiled, X, Y)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
        assert torch.equal(ip.rate(model), ip.rate(compiled))
    assert list(ip.rate(compiled, per_layer=True)) == ["0.echo", "1.echo"]
    recorder = ip.Recorder(compiled, (X, Y), estimators=["binning:width=0.5"])
    assert recorder.layers == ["0", "0.echo", "1", "1.echo", "2"]
    recorder.snapshot(0)
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, X, Y), gradients(compiled, X, Y), strict=True))


@pytest.mark.filterwarnings(COMPILING)
@pytest.mark.usefixtures("compiler")
def test_the_channel_is_never_the_compilers() -> None:
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph.code)
        return graph.forward

    model = ip.insert_echo(small(), ["0"], X[:2], **QUIET)
    torch.compile(model, backend=backend)(X)
    assert any("linear" in code for code in graphs)
    assert not any("sigmoid" in code or "randperm" in code for code in graphs)


@pytest.mark.filterwarnings(COMPILING)
@pytest.mark.usefixtures("compiler")
def test_parts_that_are_compiled_have_stable_names() -> None:
    net = nn.Sequential(torch.compile(small(), backend="eager"), nn.DataParallel(nn.Linear(4, 4)), nn.Linear(4, 4))
    net(X)
    assert [n for n in modules(net) if n] == ["0", "0.0", "0.1", "0.2", "1", "2"]
    with ip.Trace(net, ["0", "0.1", "1"]) as trace:
        net(X)
        assert trace.take()["0.1"].shape == (300, 6)
    model = ip.insert_echo(net, ["0.1", "1"], X[:2], **QUIET)
    model(X)
    assert list(ip.rate(model, per_layer=True)) == ["0.1.echo", "1.echo"]
    assert ip.Recorder(model, X, estimators=[]).layers == ["0.1", "0.1.echo", "0", "1", "1.echo", "2"]
    assert torch.compile(model, backend="eager")(X).shape == (300, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_around_and_autocast(dtype: torch.dtype) -> None:
    net = small()
    model = ip.insert_echo(net, ["0"], X[:2], **QUIET)
    with torch.autocast("cpu", dtype):
        loss = cross_entropy(model(X), Y) + ip.rate(model)
        with ip.Trace(model, ["0", "0.echo", "2"]) as trace:
            model(X)
            read = trace.take()
        recorder = ip.Recorder(model, X)
        recorder.snapshot(0)
    loss.backward()
    assert ip.rate(model).dtype == torch.float32
    assert {t.dtype for t in read.values()} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in model.parameters())
    before = ip.insert_echo(net.to(dtype), ["0"], X[:2].to(dtype), **QUIET)
    after = model.to(dtype)
    for half in (before, after):
        assert {t.dtype for t in half[0].echo.state_dict().values()} == {torch.float32}
        assert half[0].weight.dtype == dtype
        assert half(X.to(dtype)).dtype == dtype
        assert ip.rate(half).dtype == torch.float32
    # z is handed on in half precision, with fewer digits than the rate counts
    _, certificates = verdicts(before, X.to(dtype))
    assert certificates["resolution_ok"][0] == (dtype == torch.float16)
    assert certificates["standing"][0] == "upper" or dtype == torch.float16


def test_replicates_that_a_thread_draws_are_of_the_same_precision() -> None:
    recorder = ip.Recorder(ip.insert_echo(small(), ["0"], X[:2], **QUIET), X, estimators=[])
    with torch.autocast("cpu", torch.bfloat16), recorder.passes.observe(Streams([0])) as seen:
        drawn = ThreadPoolExecutor(1).submit(seen.draw, "2", 1).result()
    for codes in (seen.codes["2"], drawn):
        assert torch.equal(codes, codes.bfloat16().float())


@pytest.fixture
def process_group(tmp_path: Any) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_distributed_model() -> None:
    model = ip.insert_echo(small(), ["0", "1"], X[:2], **QUIET)
    twin = copy.deepcopy(model)
    wrapped = nn.parallel.DistributedDataParallel(twin)
    expected, found = gradients(model, X, Y), gradients(wrapped, X, Y)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert all(g.abs().sum() > 0 for g in found)
    assert list(echo_layers(wrapped)) == ["0.echo", "1.echo"]
    with ip.Trace(wrapped, ["1.echo"]) as trace:
        wrapped(X)
        assert trace.take()["1.echo"].shape == (300, 6)
    recorder = ip.Recorder(wrapped, X)
    recorder.snapshot(0)
    assert recorder.layers == ["0", "0.echo", "1", "1.echo", "2"]
    assert list(echo_layers(ip.insert_echo(wrapped, ["2"], X[:2]))) == ["0.echo", "1.echo", "2.echo"]


# -- observing changes nothing


class Counting(nn.Module):
    """A module that draws numbers and counts its passes, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 4)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return dropout(self.linear(x), 0.1, training=True)


WATCHED: dict[str, Callable[[], tuple[nn.Module, Tensor, list[str]]]] = {
    "small": lambda: (small(), X, ["0", "1"]),
    "tuple": lambda: (Giving("dict"), X, ["layer", "top"]),
    "counting": lambda: (nn.Sequential(Counting(), nn.Linear(4, 4)), X, ["1"]),
    "resnet": lambda: (resnet18(num_classes=4), IMAGES, ["avgpool"]),
    "transformer": lambda: (Reader(), SEQUENCES, ["encoder.layers.0.linear1", "pool"]),
}


@pytest.mark.filterwarnings(COMPILING)
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", WATCHED)
def test_training_is_the_same_to_the_last_bit_with_a_recorder_and_without(name: str, compiled: bool) -> None:
    if compiled and name in ("resnet", "transformer"):
        pytest.skip("compiling these takes half a minute; what differs from the small ones is theirs alone")
    net, x, after = built(WATCHED[name])
    model = ip.insert_echo(net, after, x[:2], **QUIET).train()
    y = torch.arange(len(x)) % 4
    ends = []
    for record in (False, True):
        twin = copy.deepcopy(model)
        trained = torch.compile(twin, backend="eager") if compiled else twin
        optimizer = torch.optim.SGD(twin.parameters(), lr=1e-2, momentum=0.9)
        recorder = ip.Recorder(trained, (x, y), after, ["binning:width=0.5"], references=60, batch_size=40)
        before = hooks(twin)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for step in range(2):
                optimizer.zero_grad()
                loss = cross_entropy(trained(x), y) + 0.1 * ip.rate(trained)
                if record:  # before the graph is used, so nothing that it holds may change
                    recorder.snapshot(step)
                loss.backward()
                optimizer.step()
            tail = torch.rand(3)
        assert hooks(twin) == before
        ends.append((twin.state_dict(), tail, [m.training for m in twin.modules()]))
    (state, tail, flags), (state_too, tail_too, flags_too) = ends
    assert all(torch.equal(t, state_too[key]) for key, t in state.items())
    assert torch.equal(tail, tail_too)
    assert flags == flags_too


def test_a_model_that_raises_is_left_as_it_was() -> None:
    model = ip.insert_echo(small(), ["0"], X[:2], **QUIET)
    model[1].register_forward_hook(lambda _m, _i, _o: 1 / 0 if armed else None)
    armed = False
    recorder = ip.Recorder(model, X)
    before, state, fused = hooks(model), torch.random.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    armed = True
    with pytest.raises(ZeroDivisionError):
        recorder.snapshot(0)
    with pytest.raises(ZeroDivisionError):
        ip.insert_echo(model, ["1"], X[:2], inplace=True)
    assert hooks(model) == before
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled() == fused
    echo = model[0].echo
    assert (echo.phase, echo.watch, echo.bank, echo.streams) == ("auto", None, None, None)


def test_what_works_in_place_does_not_reach_what_was_seen() -> None:
    """A residual sum and a ReLU, both in place, behind an Echo layer, as in a ResNet."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.same, self.act = nn.Linear(12, 12), nn.Identity(), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            h = self.linear(x)
            out = self.same(h)
            out += x
            out = self.act(out)
            h += 1.0
            return out

    model = ip.insert_echo(built(Block), ["same"], X[:2], **QUIET)
    recorder = ip.Recorder(model, X, estimators=[])
    with recorder.passes.observe(Streams([0])) as seen:
        passed = seen.crossings["same.echo"]
        assert torch.equal(passed.f[0], model.linear(X))
        assert (passed.z < 0).any()
        assert seen.first == {"same.echo"}


# -- what must not be called exact


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Shifted(nn.Module):
    """A large constant with a small part that depends on the batch, beside a larger coordinate."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([1e3 * x[:, :1], 20.0 + x[:, 1:2] - 0.05 * x[:, 1:2].mean(0)], 1)


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.abs().amax(0)


class Placed(nn.Module):
    """Noise that is the same in every pass at every place."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.randint(1, 3, x.shape, generator=generator(0))


BATCHY: dict[str, Callable[[], nn.Module]] = {
    "batch mean": Centred,
    "a small part of it": Shifted,
    "batch maximum": Scaled,
    "batch norm of the batch": lambda: nn.BatchNorm1d(12, track_running_stats=False),
    "noise by place": Placed,
}


@pytest.mark.parametrize("n", [300, 40])  # over the whole probe, a batch statistic is a constant
@pytest.mark.parametrize("name", BATCHY)
def test_codes_that_depend_on_batch_mates_are_bounds(name: str, n: int) -> None:
    model = ip.insert_echo(nn.Sequential(BATCHY[name](), nn.Identity()), ["1"], X[:2], **QUIET)
    x = X[:n] if name != "batch maximum" else torch.cat([X[:1] + 100.0, X[1:n]])  # in one half
    _, certificates = verdicts(model, x)
    assert not certificates["deterministic_ok"][0]
    assert certificates["standing"][0] in ("upper", "estimate")


@pytest.mark.parametrize("n", [2, 3, 300])
def test_codes_that_do_not_are_not_taken_to(n: int) -> None:
    model = ip.insert_echo(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 3)), ["1"], X[:2], **QUIET)
    _, certificates = verdicts(model, X[:n])
    assert certificates["deterministic_ok"][0]


def test_dropout_that_eval_does_not_stop_is_no_function_of_x() -> None:
    class Dropping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return dropout(x, 0.3, training=True)

    model = ip.insert_echo(nn.Sequential(Dropping(), nn.Linear(12, 3)), ["1"], X[:2], **QUIET)
    frame, _ = verdicts(model, X)
    assert list(frame["quantity"]) == ["I(Z1;F1)", "I(Z;X)"]
    assert frame["standing"][1] == "upper"


class Gated(nn.Module):
    """A connection around the lower Echo layer that opens in training, or for some inputs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.lower, self.upper, self.head = nn.Linear(12, 3), nn.Linear(3, 3), nn.Linear(3, 4)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        z = self.lower(x)
        around = x[:, :3]
        if self.kind == "rare":
            around = around * (x[:, :1] > self.gain)
        elif self.kind == "noisy":
            around = around * (z.abs().amax(-1, keepdim=True) > self.gain)
        else:
            around = self.gain * around
        return self.head(self.upper(z + around))


@pytest.mark.parametrize(("kind", "closed", "opened"), [("zero", 0.0, 0.5), ("rare", 9.0, 2.0), ("noisy", 99.0, 3.0)])
def test_a_connection_that_opens_after_the_recorder_was_made(kind: str, closed: float, opened: float) -> None:
    model = ip.insert_echo(built(lambda: Gated(kind)), ["lower", "upper"], X[:2], **QUIET)
    x = X[X[:, 0].argsort().roll(150)]  # the rare inputs together, in the second of four batches
    model.gain.data.fill_(closed)
    recorder = ip.Recorder(model, (x, Y), estimators=[], batch_size=90)
    recorder.snapshot(0)
    model.gain.data.fill_(opened)
    recorder.snapshot(1)
    frame = recorder.frame()
    named = [set(frame[(frame["epoch"] == e) & (frame["layer"] == "upper.echo")]["quantity"]) for e in (0, 1)]
    assert "I(Z2;Z1)" in named[0]
    assert "I(Z2;F2)" in named[1]
    assert "I(Z2;Z1)" not in named[1]
    decoded = [len(frame[(frame["epoch"] == e) & (frame["quantity"] == "I(Z;Y)")]) for e in (0, 1)]
    assert decoded == [4, 2]


class Twice(nn.Module):
    """A user's Echo layer that runs once or twice per pass, on inputs or on places of sequences."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.branch = Echo(12 if kind != "token" else 8, echoes=16)
        self.same = self.branch

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "token":
            return self.branch(x.flatten(0, 1)).view_as(x).mean(1)
        if self.kind == "large" and len(x) < 100:
            return self.branch(x)
        return self.branch(x) + self.same(2 * x)


@pytest.mark.parametrize(
    ("kind", "x", "message"),
    [
        ("twice", X, "'branch' ran 2 times.*layer of its own"),
        ("large", X, "got 600 rows for 300 inputs"),
        ("token", SEQUENCES, "got 300 rows for 60 inputs.*positions of sequences"),
    ],
)
def test_an_echo_layer_that_does_not_see_one_row_an_input_is_refused(kind: str, x: Tensor, message: str) -> None:
    model = Twice(kind)
    with pytest.raises(InfoplaneError, match=message):
        ip.Recorder(model, x, [], []).snapshot(0)
    assert hooks(model) == 0


def test_rows_that_are_places_and_as_many_as_inputs_are_not_exact() -> None:
    """(L, B, d) with L = N: attention mixes the rows that would be the inputs."""
    model = nn.Sequential(encoder(), nn.Flatten(), nn.Linear(40, 3))
    model = ip.insert_echo(model, ["2"], SEQUENCES[:3], **QUIET)
    frame, _ = verdicts(model, SEQUENCES, references=60)
    assert frame["standing"][0] == "exact"

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.head = encoder(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attend(x.unsqueeze(0)).squeeze(0))

    model = ip.insert_echo(built(Turned).eval(), ["head"], SEQUENCES[:3, 0], **QUIET)
    _, certificates = verdicts(model, SEQUENCES[:, 0], layers=["head"], references=60)
    assert "batch-dependent" in certificates["warnings"][0]
    assert certificates["standing"][0] == "upper"


def test_an_echo_layer_at_the_top_of_a_model_needs_no_layer_of_its_own_to_follow() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 4), nn.Tanh(), Echo(4), nn.Linear(4, 4))
    recorder = ip.Recorder(model, X, estimators=[])
    assert recorder.layers == ["0", "1", "2", "3"]
    (row,) = recorder.snapshot(0)["measurements"]
    assert (row["layer"], row["quantity"], row["channel"]) == ("2", "I(Z;X)", "echo")


def test_a_residual_connection_around_an_echo_layer() -> None:
    """The output Z of the channel has an exact rate; no bound is claimed for the sum with it."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.head = nn.Linear(12, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x[:, :4] + self.block(x))

    model = ip.insert_echo(built(Residual), ["block"], X[:2], **QUIET)
    frame, _ = verdicts(model, (X, Y))
    assert list(frame["quantity"]) == ["I(Z;X)"]
    assert list(frame["standing"]) == ["exact"]
