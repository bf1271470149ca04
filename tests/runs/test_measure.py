"""Measuring a run again, saved activations and any model, and the messages for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import infoplane as ip
from infoplane.cli import main
from infoplane.runs.directory import RunDir
from infoplane.runs.settings import Settings


def cli(*arguments: str):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    settings = Settings(
        widths=(6, 4), echo_at=(2,), epochs=3, replicas=2, snapshots="every:1",
        estimators=("kde", "binning:bins=20,range=run"),
    )  # fmt: skip
    out = tmp_path_factory.mktemp("runs") / "run"
    return ip.train(settings, str(out), progress=False)


def rows(run: RunDir, table: str) -> list[dict]:
    frame = run.read(table)
    return frame.drop(columns="run").fillna(-1.0).to_dict("records")


def test_a_run_measured_again_as_it_was_gives_the_same_rows(trained, tmp_path):
    result = cli("measure", trained.path, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    again = RunDir.open(tmp_path / "again")
    for table in ("measurements", "certificates", "metrics"):
        assert rows(again, table) == rows(trained, table)
    assert set(again.read("measurements")["run"]) == {"again"}
    assert cli("plot", "plane", tmp_path / "again").exit_code == 0
    twice = cli("measure", tmp_path / "again", "--out", tmp_path / "twice")
    assert twice.exit_code == 2
    assert "it was measured itself" in twice.stderr
    assert cli("plot", "gap", trained.path, tmp_path / "again", "--out", tmp_path / "gap.png").exit_code == 0


def test_a_run_measured_with_other_estimators_on_another_probe(trained, tmp_path):
    result = cli(
        "measure", trained.path, "--out", tmp_path / "other", "--estimators", "binning:width=0.5", "--probe", "test",
        "--layers", "hidden1", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    frame = RunDir.open(tmp_path / "other").read("measurements")
    assert set(frame["probe"]) == {"test"}
    assert set(frame.loc[frame["estimator"] == "binning", "layer"]) == {"hidden1"}
    assert set(frame["n"]) == {819}
    assert set(frame["epoch"]) == {0, 1, 2, 3}
    assert json.loads(result.stdout)["numbers"]


def test_saved_activations_are_measured_as_their_tensors_are(tmp_path, seeded):
    t = torch.randn(3, 200, 2, generator=seeded(0))
    y = torch.arange(200) % 3
    np.savez(tmp_path / "acts.npz", **{"layer1": t.numpy(), "layer1.0.conv": t[..., None].tanh().numpy()}, labels=y)
    result = cli("measure", tmp_path / "acts.npz", "--out", tmp_path / "run", "--estimators", "kde:noise_variance=0.5")
    assert result.exit_code == 0, result.output
    frame = RunDir.open(tmp_path / "run").read("measurements")
    assert set(frame["epoch"]) == {0, 1, 2}
    for at in range(3):
        for layer, values in (("layer1", t[at]), ("layer1.0.conv", t[at].tanh())):
            expected = ip.estimators.kde_bounds(values, 0.5, y)
            own = frame[(frame["epoch"] == at) & (frame["layer"] == layer)].set_index(["quantity", "standing"])
            assert own.loc[("I(X;T)", "upper"), "value_nats"] == pytest.approx(float(expected.upper))
            assert own.loc[("I(T;Y)", "lower"), "value_nats"] == pytest.approx(float(expected.label_lower))
    assert cli("plot", "plane", tmp_path / "run").exit_code == 0


def test_activations_without_labels_have_rates_and_no_plane(tmp_path, monkeypatch, seeded):
    monkeypatch.chdir(tmp_path)
    np.savez("acts.1.npz", h=torch.randn(2, 50, 2, generator=seeded(0)).numpy())
    result = cli("measure", "acts.1.npz", "--estimators", "kde:noise_variance=0.5")
    assert result.exit_code == 0, result.output
    assert "infoplane plot rates runs/acts.1-measured" in result.output
    assert "replicas" not in result.output
    assert cli("plot", "rates", "runs/acts.1-measured").exit_code == 0
    for kind, why in (("plane", "without labels"), ("gap", "measured and not trained")):
        refused = cli("plot", kind, "runs/acts.1-measured")
        assert refused.exit_code == 2
        assert why in refused.stderr


def test_the_range_of_the_whole_run_is_found_in_saved_activations(tmp_path):
    t = np.stack([np.linspace(0, scale, 64)[:, None] for scale in (1.0, 4.0)])
    np.savez(tmp_path / "acts.npz", h=t, epochs=np.array([5, 9]))
    assert cli("measure", tmp_path / "acts.npz", "--out", tmp_path / "run", "--estimators",
               "binning:bins=8,range=run").exit_code == 0  # fmt: skip
    values = RunDir.open(tmp_path / "run").read("measurements").set_index("epoch")["value_nats"]
    assert values[9] == pytest.approx(np.log(8))
    p = np.array([32, 31, 1]) / 64  # a quarter of the range: two of the eight bins, and the edge of the third
    assert values[5] == pytest.approx(-(p * np.log(p)).sum())


NET = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(12, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))

def text():
    return "no model"
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("nets_of_mine.py").write_text(NET)
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(12, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    torch.save({"model": {f"module.{k}": v for k, v in net.state_dict().items()}}, "weights-7.pt")
    torch.save(net.state_dict(), "weights-20.pt")
    return net


def test_a_model_with_weights_is_measured_epoch_by_epoch(model):
    result = cli(
        "measure", "nets_of_mine:net", "--weights", "weights-7.pt", "--weights", "weights-20.pt", "--dataset",
        "icosahedron", "--estimators", "binning", "--layers", "1", "--out", "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    frame = RunDir.open("run").read("measurements")
    assert set(frame["epoch"]) == {7, 20}
    x, y = ip.data.icosahedron()
    expected = ip.estimators.binned_entropy(model[1](model[0](x)).detach(), width=0.07, labels=y)
    for _, own in frame.groupby("epoch"):
        values = own.set_index("quantity")["value_nats"]
        assert values["I(X;T)"] == pytest.approx(float(expected.entropy))
        assert values["I(T;Y)"] == pytest.approx(float(expected.label_information))


def test_what_cannot_be_measured_is_explained(model, trained, tmp_path):
    torch.save(torch.nn.Linear(3, 3).state_dict(), "other.pt")
    torch.save(model, "pickled.pt")
    Path("cut.pt").write_bytes(Path("weights-7.pt").read_bytes()[:500])
    np.savez("objects.npz", h=np.array([object()], dtype=object))
    np.savez("noisy.npz", **{"hidden1.echo": np.zeros((2, 5, 3))})
    np.savez("uneven.npz", a=np.zeros((2, 5, 3)), b=np.zeros((2, 6, 3)))
    np.savez("words.npz", a=np.array([["a"]]))
    np.savez("only.npz", labels=np.arange(4) % 2)
    np.savez("twelve.npz", x=np.random.default_rng(0).normal(size=(30, 5)), y=np.arange(30) % 2)
    (tmp_path / "folder").mkdir()
    on = ["--dataset", "icosahedron"]
    bad = {
        ("nowhere",): "no run directory, no .npz file and no module:function",
        ("folder",): "holds no run",
        ("absent.npz",): "no file",
        ("objects.npz",): "Python objects",
        ("noisy.npz",): "noisy codes",
        ("uneven.npz",): "different (epochs, N)",
        ("words.npz",): "real numbers",
        ("only.npz",): "no layer",
        ("nets_of_mine:net",): "--dataset",
        ("nets_of_mine:nett", *on): "Cannot import",
        ("no_such_module:net", *on): "Cannot import",
        ("nets_of_mine:text", *on): "returned a str",
        ("nets_of_mine:net", "--weights", "other.pt", *on): "do not fit the architecture of",
        ("nets_of_mine:net", "--weights", "pickled.pt", *on): "holds more than tensors",
        ("nets_of_mine:net", "--weights", "cut.pt", *on): "damaged",
        ("nets_of_mine:net", "--weights", "absent.pt", *on): "no file",
        ("nets_of_mine:net", "--dataset", "twelve.npz"): "cannot take inputs of shape (5,)",
        ("nets_of_mine:net", "--probe", "test", *on): "not divided",
        ("nets_of_mine:net", "--layers", "3", *on): "Unknown layer",
        (str(trained.path), "--weights", "other.pt"): "for a model",
        (str(trained.path), "--probe", "tset"): "Did you mean 'test'",
        (str(trained.path), "--estimators", "kd"): "Did you mean 'kde'",
    }
    for arguments, message in bad.items():
        result = cli("measure", *arguments, "--out", "out")
        assert result.exit_code == 2, (arguments, result.output, result.exception)
        assert message in result.stderr, (arguments, result.stderr)
        assert "Traceback" not in result.stderr
        assert not Path("out").exists(), arguments


def test_an_empty_run_and_a_half_written_row(trained, tmp_path):
    RunDir.create(tmp_path / "empty", {"settings": Settings().asdict(), "keep_weights": False, "threads": 1}).close()
    for command in (["measure"], ["plot", "plane"]):
        result = cli(*command, tmp_path / "empty", "--out", tmp_path / "out.png")
        assert result.exit_code == 2
        assert "Traceback" not in result.stderr
    table = Path(trained.path) / "measurements.csv"
    whole = table.read_bytes()
    try:
        table.write_bytes(whole[:-20])
        with pytest.warns(UserWarning, match="half-written"):
            assert len(trained.read("measurements")) == whole.count(b"\n") - 2
    finally:
        table.write_bytes(whole)
