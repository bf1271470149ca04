"""Gradients over minibatches follow closed forms, and recording them changes nothing."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import infoplane as ip
from infoplane.errors import InfoplaneError
from infoplane.runs.settings import Settings
from infoplane.runs.training import Training, train


def norm(t):
    return float(t.double().square().sum().sqrt())


def test_a_linear_model_with_squared_error_has_the_gradient_of_its_normal_equations(seeded):
    """The gradient of the mean of |W x - y|^2 over a batch is G_b = 2/B (W X' - Y') X."""
    x, y = torch.randn(60, 5, generator=seeded(1)), torch.randn(60, 3, generator=seeded(2))
    model = nn.Linear(5, 3, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 5, generator=seeded(3)))
    batches = list(zip(x.split(20), y.split(20), strict=True))
    (gradient,) = ip.recording.gradient_statistics(
        model, lambda a, b: (model(a) - b).square().sum(1).mean(), batches
    ).values()

    w = model.weight.detach().double()
    each = torch.stack([2 / 20 * (w @ a.double().T - b.double().T) @ a.double() for a, b in batches])
    assert gradient.batches == 3
    assert float(gradient.mean_norm) == pytest.approx(norm(each.mean(0)), rel=1e-6)
    assert float(gradient.std_norm) == pytest.approx(norm(each.std(0, correction=0)), rel=1e-6)
    assert float(gradient.weight_norm) == pytest.approx(norm(w), rel=1e-6)
    assert float(gradient.snr) == pytest.approx(norm(each.mean(0)) / norm(each.std(0, correction=0)), rel=1e-6)
    whole = 2 / 60 * (w @ x.double().T - y.double().T) @ x.double()
    assert float(gradient.mean_norm) == pytest.approx(norm(whole), rel=1e-6)  # of equal batches: of all points


def test_where_the_labels_are_noise_the_mean_is_what_few_batches_leave_of_it(seeded):
    """The ratio E |M|^2 : E |S|^2 is 1 : (b - 1) for b independent gradients of mean 0."""
    model = nn.Linear(40, 40, bias=False)
    nn.init.zeros_(model.weight)
    x, y = torch.randn(8000, 40, generator=seeded(1)), torch.randn(8000, 40, generator=seeded(2))
    batches = list(zip(x.split(1000), y.split(1000), strict=True))
    (gradient,) = ip.recording.gradient_statistics(
        model, lambda a, b: (model(a) - b).square().sum(1).mean(), batches
    ).values()
    assert float(gradient.snr) == pytest.approx(1 / math.sqrt(7), rel=5 * math.sqrt(2 / 1600 * (1 / 4 + 1 / 28)))


@pytest.mark.parametrize("options", [{}, {"echo_at": (2,), "beta": 0.1, "warmup": 0.0}], ids=["plain", "echo"])
def test_a_replica_has_the_gradients_of_its_seed_alone(options):
    def rows(replicas, seed):
        settings = Settings(widths=(6, 4), replicas=replicas, seed=seed, **options)
        training = Training.start(settings, torch.device("cpu"))
        training.run_epoch()
        recorder = ip.Recorder(training.model, training.task.part("all"), estimators=[], seed=settings.seeds)
        streams = ip.streams.Streams(settings.seeds)
        recorder.gradients(1, training.loss, training.batches(streams))
        return recorder.frame("gradients")

    many = rows(3, 4)
    assert list(dict.fromkeys(many["layer"])) == ["hidden1", "hidden2", "output"]
    for r in (0, 2):
        own = many[many["replica"] == r].drop(columns="replica").reset_index(drop=True)
        alone = rows(1, 4 + r).drop(columns="replica")
        assert own.equals(alone)


def test_the_gradients_are_those_that_training_takes():
    """Without noise, one step along the mean gradient of two batches is the mean of two steps."""
    settings = Settings(widths=(6, 4), replicas=2, batch_size=1639, optimizer="sgd", lr=1e-3)
    training = Training.start(settings, torch.device("cpu"))
    streams = ip.streams.Streams(settings.seeds)
    halves = list(training.batches(streams))
    assert [b.shape[1] for b in halves] == [1639, 1638]
    gradients = ip.recording.gradient_statistics(training.model, training.loss, halves)
    before = training.model.output.weight.detach().clone()
    moved = []
    for rows in halves:
        training.optimizer.zero_grad()
        training.loss(rows).sum().backward()
        moved.append(training.model.output.weight.grad.clone())
    assert torch.equal(before, training.model.output.weight)
    mean = torch.stack(moved).double().mean(0)
    for r in range(2):
        assert float(gradients["output"].mean_norm[r]) == pytest.approx(norm(mean[r]), rel=1e-6)


class Everything(nn.Module):
    """A model with moving buffers, dropout, a frozen layer, a tied weight and an unused one."""

    def __init__(self, seed=0):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(12, 12), nn.BatchNorm1d(12), nn.Dropout(0.3)
        self.conv = nn.Conv1d(1, 2, 3, padding=1)
        self.tied, self.unused, self.frozen = self.first, nn.Linear(3, 3), nn.Linear(24, 24)
        self.frozen.requires_grad_(False)
        self.frozen.eval()
        self.head = nn.Linear(24, 2)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.5)

    def forward(self, x):
        h = self.norm(self.tied(self.first(x)))
        h = self.conv(self.drop(torch.tanh(h)).unsqueeze(1)).flatten(1)
        return self.head(self.frozen(h))


def test_any_model_is_recorded_and_nothing_is_changed(bits):
    """That includes a graph still to be run backward, and the order of the training loader."""
    x, y = bits
    model = ip.insert_echo(Everything(), after=["norm"], example=x[:2])
    model.frozen.eval()
    nn.init.uniform_(model.norm.echo.head.weight, -0.3, 0.3, generator=torch.Generator().manual_seed(1))
    results = []
    for record in (False, True):
        twin = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(3)
        loader = DataLoader(TensorDataset(x, y), batch_size=100, shuffle=True, generator=generator)
        recorder = ip.Recorder(twin, (x, y), layers=["norm"], estimators=[], references=300)

        def loss(a, b, twin=twin):
            return cross_entropy(twin(a), b) + 0.1 * ip.rate(twin)

        with torch.random.fork_rng():
            torch.manual_seed(0)
            pending = loss(x, y)
            (pending + 0.0).backward(retain_graph=True)
            rated = ip.rate(twin)
            if record:
                rows = recorder.gradients(5, loss, loader, step=50)
                again = recorder.gradients(5, loss, loader, step=50)
                assert str(rows) == str(again)  # the same random numbers
                assert torch.equal(twin.norm.echo.rate, rated)
            pending.backward()
            tail = torch.rand(3)
        order = torch.cat([b for b, _ in loader])
        grads = {n: p.grad for n, p in twin.named_parameters()}
        flags = [m.training for m in twin.modules()]
        results.append((twin.state_dict(), grads, tail, order, flags))
    rows = rows["gradients"]
    assert [row["layer"] for row in rows] == ["first", "conv", "unused", "head"]
    assert {(row["epoch"], row["step"], row["replica"], row["batches"]) for row in rows} == {(5, 50, 0, 3)}
    unused = rows[2]
    assert (unused["mean_norm"], unused["std_norm"]) == (0.0, 0.0)
    assert math.isnan(unused["snr"])
    (plain, grads, *rest), (recorded, grads_too, *rest_too) = results
    assert all(torch.equal(plain[k], recorded[k]) for k in plain)
    assert all(g is grads_too[n] is None or torch.equal(g, grads_too[n]) for n, g in grads.items())
    for a, b in zip(rest, rest_too, strict=True):
        assert a == b if isinstance(a, list) else torch.equal(a, b)


def test_what_cannot_be_done_is_said(bits):
    x, y = bits
    model = nn.Sequential(nn.Linear(12, 2))
    loss = lambda a, b: cross_entropy(model(a), b)  # noqa: E731
    with pytest.raises(InfoplaneError, match=r"got 1 batch; expected at least two"):
        ip.recording.gradient_statistics(model, loss, [(x, y)])
    with pytest.raises(InfoplaneError, match=r"got 0 batches"):
        ip.recording.gradient_statistics(model, loss, [])
    with pytest.raises(InfoplaneError, match="no weight matrix"):
        ip.recording.gradient_statistics(nn.BatchNorm1d(12), loss, [(x, y)] * 2)
    with pytest.raises(InfoplaneError, match="batch-size is full"):
        Settings(gradients=True, batch_size=0)


def test_a_run_records_them_without_a_trace_and_resumes_bit_equal(tmp_path):
    common = {"epochs": 6, "replicas": 2, "snapshots": "every:2", "echo_at": (2,), "widths": (6, 4, 3)}
    common |= {"estimators": ("binning",)}
    with_them, without = Settings(**common, gradients=True), Settings(**common)
    recorded = train(with_them, str(tmp_path / "a" / "run"), progress=False)
    bare = train(without, str(tmp_path / "b" / "run"), progress=False)
    assert bare.read("gradients").empty
    for table in ("measurements", "metrics", "certificates"):
        assert (recorded.path / f"{table}.csv").read_bytes() == (bare.path / f"{table}.csv").read_bytes()
    states = [run.load_checkpoint()["model"] for run in (recorded, bare)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])

    frame = recorded.read("gradients")
    assert len(frame) == 4 * 2 * 4  # snapshots, replicas, weight matrices
    assert set(frame["batches"]) == {13}
    assert (frame["snr"] == frame["mean_norm"] / frame["std_norm"]).all()

    whole = (recorded.path / "gradients.csv").read_bytes()
    cut = train(with_them, str(tmp_path / "c" / "run"), progress=False, keep_weights=True)
    (cut.path / "done").unlink()
    training = Training.start(with_them, torch.device("cpu"))
    for _ in range(4):
        training.run_epoch()
    cut.save_checkpoint(training.state())  # as if killed after the rows of epoch 6 and before their checkpoint
    cut.close()
    train(with_them, str(tmp_path / "c" / "run"), resume=True, progress=False)
    assert (cut.path / "gradients.csv").read_bytes() == whole
