"""A recorder writes the right numbers into the right rows, and changes nothing."""

from __future__ import annotations

import copy
import math
import warnings

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import infoplane as ip
from infoplane.data.icosahedron import icosahedron
from infoplane.errors import InfoplaneError
from infoplane.records import COLUMNS, KEY, TABLES, Estimate, Schema
from infoplane.runs.settings import Settings
from infoplane.runs.training import Training


def step(model, optimizer, x, y, beta=0.03):
    loss = nn.functional.cross_entropy(model(x), y) + beta * ip.rate(model)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.fixture(scope="module")
def trained():
    """Train a ReLU network of two replicas with two Echo layers a little, and record a snapshot."""
    settings = Settings(activation="relu", echo_at=(2, 4), echo_on="after", replicas=2, epochs=40, lr=2e-2)
    training = Training.start(settings, torch.device("cpu"))
    while training.epoch < 40:
        training.run_epoch()
    recorder = ip.Recorder(training.model, training.task.part("all"), seed=settings.seeds)
    recorder.snapshot(40, training.step)
    return training, recorder


def test_recording_changes_nothing(handwritten, bits):
    """Weights, buffers, flags, random states and the last rate stay the same to the last bit."""
    x, y = bits
    model = ip.insert_echo(handwritten, after=["act", "middle"], example=x[:2])
    model.encoder.eval()
    results = []
    for record in (False, True):
        twin = copy.deepcopy(model)
        optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
        loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
        recorder = ip.Recorder(twin, loader if record else (x, y), references=500)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for epoch in range(5):
                step(twin, optimizer, x, y)
                if record:
                    before = ip.rate(twin)
                    recorder.snapshot(epoch)
                    assert ip.rate(twin) is not before or before.grad_fn is not None
                    assert torch.equal(ip.rate(twin), before)
            tail = torch.rand(3)
        flags = [m.training for m in twin.modules()]
        results.append((twin.state_dict(), tail, flags))
        assert not any(m.watch or m.bank for m in twin.modules() if isinstance(m, ip.Echo))
    (plain, tail, flags), (recorded, tail_too, flags_too) = results
    assert all(torch.equal(plain[k], recorded[k]) for k in plain)
    assert torch.equal(tail, tail_too)
    assert flags == flags_too


def test_the_frame_has_the_columns_and_its_key_is_unique(trained):
    _, recorder = trained
    frame = recorder.frame()
    assert tuple(frame.columns) == COLUMNS
    assert not frame.duplicated(list(KEY)).any()
    assert set(frame["standing"]) <= {"exact", "upper", "lower", "estimate"}
    assert not frame["value_nats"].isna().any()


def test_below_the_first_noise_a_layer_is_its_codes_and_above_it_is_marked(trained):
    _, recorder = trained
    frame = recorder.frame()
    info = frame[(frame["quantity"] == "I(X;T)")]
    noisy = info["path"] == "noise-off"
    below = info["layer"].isin(["hidden1", "hidden2"])
    assert (noisy != below).all()
    assert info[noisy]["warnings"].str.contains("noise-off").all()
    label = frame[frame["quantity"] == "I(T;Y)"]
    assert (label["warnings"].str.contains("sampled-codes") == ~label["layer"].isin(["hidden1", "hidden2"])).all()


def test_the_exact_rate_is_the_mean_of_minus_log_s_of_the_probe(trained):
    training, recorder = trained
    x, _ = icosahedron()
    frame = recorder.frame()
    with torch.no_grad():
        f = training.model.hidden1(x.expand(2, 4096, 12))
        f = torch.relu(training.model.hidden2.linear(f))
        log_s, _ = training.model.hidden2.echo.scales(f)
    certificates = recorder.frame("certificates").set_index(["layer", "replica"])
    for r in range(2):
        row = frame[(frame["layer"] == "hidden2.echo") & (frame["quantity"] == "I(Z;X)") & (frame["replica"] == r)]
        void = [int(k) for k in certificates.loc[("hidden2.echo", r), "void"].split()]
        kept = [k for k in range(7) if k not in void]
        rate = -log_s[r].double()[:, kept].sum(-1).mean()
        bound = min(float(rate), math.log(4096))
        assert float(row["value_nats"].iloc[0]) == pytest.approx(bound, abs=1e-6)
        assert row["ceiling_nats"].iloc[0] == pytest.approx(math.log(4096))


def test_a_chain_bounds_the_input_by_the_least_rate_and_names_its_neighbours(trained):
    _, recorder = trained
    frame = recorder.frame()
    for r in range(2):
        mine = frame[frame["replica"] == r].set_index(["layer", "quantity", "estimator"])["value_nats"]
        first = mine["hidden2.echo", "I(Z;X)", "echo"]
        between = mine["hidden4.echo", "I(Z2;Z1)", "echo"]
        assert mine["hidden4.echo", "I(Z;X)", "echo"] == pytest.approx(min(first, between, math.log(4096)))
    above = frame[(frame["layer"] == "hidden4.echo") & (frame["quantity"] == "I(Z;X)")]
    assert (above["standing"] == "upper").all()
    assert above["warnings"].str.contains("chain").all()


def test_the_label_bounds_are_the_cross_entropy_of_single_noisy_draws(trained):
    training, recorder = trained
    frame = recorder.frame()
    rows = frame[(frame["quantity"] == "I(Z;Y)") & (frame["layer"] == "hidden4.echo")]
    lower, upper = (rows[rows["standing"] == side]["value_nats"].to_numpy() for side in ("lower", "upper"))
    assert (lower < upper).all()
    assert upper == pytest.approx(0.999157 * math.log(2), abs=1e-5)
    # an independent draw: the two differ only by their standard errors
    x, y = icosahedron()
    ip.fill_banks(training.model, x)
    training.model.eval()
    with torch.no_grad():
        loss = -torch.log_softmax(training.model(x), -1)[:, torch.arange(4096), y].double()
    spread = rows[rows["standing"] == "lower"]["stderr_nats"].to_numpy()
    for layer in (training.model.hidden2.echo, training.model.hidden4.echo):
        layer.bank = None
    assert (abs(lower - (upper - loss.mean(-1).numpy())) < 5 * spread * math.sqrt(2)).all()


def test_a_connection_around_an_echo_layer_takes_its_claims_away(bits):
    """If x reaches layer 2 around Z1, R1 bounds nothing there and Z1 has no bound on the label."""

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.lower, self.around, self.upper = nn.Linear(12, 4), nn.Linear(12, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.upper(self.lower(x) + self.around(x))

    x, y = bits
    model = ip.insert_echo(Around(), after=["lower", "upper"], example=x[:2])
    with torch.no_grad():  # the lower layer lets little through, the upper one much
        model.lower.echo.head.bias.fill_(2.0)
    recorder = ip.Recorder(model, (x, y), estimators=[], references=300)
    frame = recorder.snapshot(0) and recorder.frame()
    mine = frame.set_index(["layer", "quantity", "estimator"])["value_nats"]
    assert mine["upper.echo", "I(Z;X)", "echo"] > 2 * mine["lower.echo", "I(Z;X)", "echo"]
    assert ("upper.echo", "I(Z2;F2)", "echo") in mine.index
    assert ("lower.echo", "I(Z;Y)", "decoder") not in mine.index
    assert ("upper.echo", "I(Z;Y)", "decoder") in mine.index


def test_a_hand_written_module_without_echo_is_measured_as_it_is(handwritten, bits):
    x, y = bits
    recorder = ip.Recorder(handwritten, (x, y), ["act", "middle"], [ip.estimators.Binning(width=0.5)])
    recorder.snapshot(0)
    frame = recorder.frame()
    codes = torch.floor(handwritten.encoder(x).relu() / 0.5)
    counts = torch.unique(codes, dim=0, return_counts=True)[1].double() / 300
    entropy = float(-(counts * counts.log()).sum())
    row = frame[(frame["layer"] == "act") & (frame["quantity"] == "I(X;T)")]
    assert float(row["value_nats"].iloc[0]) == pytest.approx(entropy, abs=1e-6)
    assert set(frame["layer"]) == {"act", "middle"}
    assert not frame["warnings"].str.contains("noise-off").any()


def test_estimators_may_be_named_as_on_the_command_line(handwritten, bits):
    recorder = ip.Recorder(handwritten, bits, ["act"], ["binning:width=0.5", ip.estimators.KDE(noise_variance=0.1)])
    assert recorder.estimators == [ip.estimators.Binning(width=0.5), ip.estimators.KDE(noise_variance=0.1)]
    with pytest.raises(InfoplaneError, match="Did you mean 'kde'"):
        ip.Recorder(handwritten, bits, ["act"], ["kd"])


def test_by_default_an_echo_layer_is_read_on_both_sides_wherever_it_is(bits):
    x, y = bits
    inner = nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 4))
    model = ip.insert_echo(nn.Sequential(inner, nn.Linear(4, 2)), after=["0.1"], example=x[:2])
    assert ip.Recorder(model, (x, y), estimators=[]).layers == ["0.1", "0.1.echo", "0", "1"]


def test_batches_of_the_probe_do_not_matter(handwritten, bits):
    x, y = bits
    whole = ip.Recorder(handwritten, (x, y), ["act"]).snapshot(0)["measurements"]
    parts = ip.Recorder(handwritten, (x, y), ["act"], batch_size=77).snapshot(0)["measurements"]
    for a, b in zip(whole, parts, strict=True):
        assert a["value_nats"] == pytest.approx(b["value_nats"], abs=1e-5)


def test_bins_over_the_whole_run_come_in_a_second_pass(handwritten, bits):
    x, y = bits
    recorder = ip.Recorder(handwritten, (x, y), ["act"], [ip.estimators.Binning(bins=30, range="run")])
    seen = []
    for epoch in range(3):
        seen.append(handwritten.encoder(x).relu().detach())
        assert recorder.snapshot(epoch) == {"measurements": []}
        with torch.no_grad():
            handwritten.encoder.weight *= 1.5
    before = copy.deepcopy(handwritten.state_dict())
    rows = [row for row in recorder.finish()["measurements"] if row["quantity"] == "I(X;T)"]
    assert all(torch.equal(v, before[k]) for k, v in handwritten.state_dict().items())
    top = torch.stack(seen).amax()
    for m, codes in zip(rows, seen, strict=True):
        cells = (codes / top * 30).floor().clamp(max=29)
        p = torch.unique(cells, dim=0, return_counts=True)[1].double() / 300
        # a value on an edge may fall on either side of it
        assert m["value_nats"] == pytest.approx(float(-(p * p.log()).sum()), abs=0.02)


def test_a_replica_that_has_diverged_is_named_and_the_others_go_on():
    training = Training.start(Settings(echo_at=(2,), replicas=3, epochs=2), torch.device("cpu"))
    with torch.no_grad():
        training.model.hidden1.linear.weight[1, 0, 0] = math.nan
    recorder = ip.Recorder(training.model, training.task.part("all"))
    with pytest.warns(ip.recording.NonFiniteWarning, match="'hidden1' holds NaN.* epoch 7 in replica 1"):
        recorder.snapshot(7)
    frame = recorder.frame()
    assert frame[frame["replica"] == 1]["value_nats"].isna().all()
    assert (frame[frame["replica"] == 1]["warnings"] == "non-finite").all()
    assert not frame[frame["replica"] != 1]["value_nats"].isna().any()
    with warnings.catch_warnings():  # said once, not at every snapshot
        warnings.simplefilter("error")
        recorder.snapshot(8)
    # the other replicas have the same numbers as without it
    healthy = Training.start(Settings(echo_at=(2,), replicas=3, epochs=2), torch.device("cpu"))
    other = ip.Recorder(healthy.model, healthy.task.part("all"))
    other.snapshot(7)
    a, b = (f[(f["replica"] == 2) & (f["epoch"] == 7)]["value_nats"].to_numpy() for f in (frame, other.frame()))
    assert a == pytest.approx(b, abs=1e-9)


def test_dropout_below_an_echo_layer_makes_its_rate_a_bound(bits):
    """Z also depends on the mask: the rate is I(Z;F) with the input F, and only bounds I(Z;X)."""

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(12, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.two(self.one(nn.functional.dropout(x, 0.5, training=True)))

    x, y = bits
    model = ip.insert_echo(Noisy(), after=["one"], example=x[:2])
    with torch.no_grad():
        model.one.echo.head.bias.fill_(3.0)
    recorder = ip.Recorder(model, (x, y), estimators=[])
    frame = recorder.snapshot(0) and recorder.frame()
    assert list(frame["quantity"])[:2] == ["I(Z1;F1)", "I(Z;X)"]
    assert frame["standing"].iloc[1] == "upper"


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("x", "str; expected"),
        ((torch.zeros(4, 12), torch.zeros(4)), "expected whole numbers"),
        ((torch.zeros(4, 12), torch.zeros(3, dtype=torch.int64)), r"\(4,\)"),
        ((torch.zeros(4, 12), torch.full((4,), -1)), "classes counted from 0"),
        ((torch.zeros(1, 12),), "at least 2"),
    ],
)
def test_probes_that_are_none_are_refused(handwritten, probe, message):
    with pytest.raises(InfoplaneError, match=message):
        ip.Recorder(handwritten, probe, ["act"])


def test_a_layer_that_is_not_there_is_refused_at_once(handwritten, bits):
    with pytest.raises(InfoplaneError, match="Did you mean 'encoder'"):
        ip.Recorder(handwritten, bits, ["encodr"])
    recorder = ip.Recorder(handwritten, bits, ["unused"])
    with pytest.raises(ip.recording.TraceError, match="did not run"):
        recorder.snapshot(0)
    assert not handwritten.unused._forward_hooks


def test_a_snapshot_estimates_on_one_thread_a_task_and_gives_the_threads_back(bits):
    seen = []

    class Counting(ip.estimators.Binning):
        def measure(self, reading, labels):
            seen.append(torch.get_num_threads())
            return super().measure(reading, labels)

    x, y = bits
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ip.Recorder(torch.nn.Sequential(torch.nn.Linear(12, 3)), (x, y), estimators=[Counting()]).snapshot(0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


class Extremes(ip.estimators.Estimator):
    """An estimator that adds a table: the largest value of a layer, beside a number."""

    name = "extremes"

    def measure(self, reading, labels):
        return self.measure_with_tables(reading, labels)[0]

    def measure_with_tables(self, reading, labels):
        tops = [float(codes.max()) for codes in reading.codes]
        number = dict(quantity="I(X;T)", standing="estimate", channel="none", estimator=self.name)
        rows = [[{"largest": top, "positive": top > 0}] for top in tops]
        return [[Estimate(value=top, **number)] for top in tops], {"extremes": rows}


def test_a_new_table_needs_a_schema_and_what_gives_its_rows(monkeypatch, tmp_path, handwritten, bits):
    """It is then recorded, written, read, cut, joined in a sweep, and kept by a resumed run."""
    place = {name: kind for name, kind in TABLES["certificates"].columns.items() if name in TABLES["certificates"].key}
    schema = Schema(
        rows="one row per layer, replica and snapshot",
        columns=place | {"largest": float, "positive": bool, "remark": str},
        key=TABLES["certificates"].key,
        absent="the estimator extremes was not asked for",
    )
    monkeypatch.setitem(TABLES, "extremes", schema)
    recorder = ip.Recorder(handwritten, bits, ["act", "middle"], [Extremes(), "binning"])
    with ip.RunDir.create(tmp_path / "run", {}) as run:
        for epoch in (0, 1):
            tables = recorder.snapshot(epoch)
            run.append(tables)
        assert [row["layer"] for row in tables["extremes"]] == ["act", "middle"]
        frame = run.read("extremes")
        pd.testing.assert_frame_equal(frame, recorder.frame("extremes"))
        assert list(frame.columns) == list(schema.columns)
        assert frame["largest"].iloc[0] == handwritten.encoder(bits[0]).relu().max().item()
        run.cut(0)
        assert run.read("extremes")["epoch"].tolist() == [0, 0]
    assert ip.Sweep({"a": run, "b": run}).extremes["run"].tolist() == ["a", "a", "b", "b"]
    with ip.RunDir.create(tmp_path / "run", {}, force=True) as again:
        assert again.read("extremes").empty
