"""The commands, as a person meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from infoplane.cli import main
from infoplane.rundir import RunDir

FAST = ["--epochs", "2", "--replicas", "2", "--snapshots", "0", "--estimators", "binning"]


def run(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    short = ["--epochs", "3", "--replicas", "2", "--out", str(out)]
    result = run("train", "--activation", "relu", "--echo-layers", "2", *short)
    assert result.exit_code == 0, result.output
    return out, result.output


def test_the_table_says_of_every_number_what_it_is(trained):
    _, text = trained
    for word in ("bits", "standing", "law", "channel", "warnings", "4096 points", "I(Z;X)", "I(Z2;Z1)", "I(T;Y)"):
        assert word in text
    for word in ("noisy", "noise-off", "train accuracy", "test accuracy", "gap in loss (bits)", "gap in error"):
        assert word in text


def test_the_run_directory_explains_itself(trained):
    out, _ = trained
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["activation"] == "relu"
    assert settings["echo_at"] == [2, 4]
    assert RunDir.open(out).done
    for table in ("measurements", "certificates", "metrics"):
        assert len(RunDir.open(out).read(table)) > 0


def test_json_is_one_object_on_standard_output(tmp_path):
    result = run("train", "--echo-at", "3", *FAST, "--out", str(tmp_path / "run"), "--json", "--unit", "nats")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["unit"] == "nats"
    assert {row["layer"] for row in answer["numbers"]} >= {"hidden1", "hidden3", "hidden3.echo", "output"}
    exact = [row for row in answer["numbers"] if row["quantity"] == "I(Z;X)"]
    assert [row["layer"] for row in exact] == ["hidden3.echo"]
    assert {row["path"] for row in answer["performance"]} == {"noisy", "noise-off"}


@pytest.mark.parametrize("kind", ["plane", "rates"])
def test_figures_are_drawn_from_a_run(trained, kind):
    out, _ = trained
    result = run("plot", kind, str(out), "--format", "png", "--format", "pdf", "--format", "svg", "--unit", "nats")
    assert result.exit_code == 0, result.output
    for suffix in ("png", "pdf", "svg"):
        assert (out / "figures" / f"{kind}.{suffix}").stat().st_size > 1000


def test_lists(trained):
    assert "kde" in run("estimators").output
    assert "meaning" not in run("warnings", "void").output
    assert "constant" in run("warnings", "void").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "--activation", "rleu"], "Did you mean 'relu'"),
        (["train", "--preset", "sax"], "Did you mean 'saxe'"),
        (["train", "--widths", "10,0"], "at least 1"),
        (["train", "--widths", "10,x"], "whole numbers"),
        (["train", "--batch-size", "0"], "'full' or a whole number"),
        (["train", "--batch-size", "32", "--echo-layers", "1"], "at least 65"),
        (["train", "--echo-layers", "9"], "0 to 5"),
        (["train", "--echo-layers", "1", "--echo-at", "2"], "how many, or where"),
        (["train", "--echo-at", "7"], "from 1 to 5"),
        (["train", "--estimators", "kd"], "Did you mean 'kde'"),
        (["train", "--estimators", "kde:noise=3"], "noise"),
        (["train", "--snapshots", "sometimes"], "log:COUNT"),
        (["train", "--device", "cuda:77"], "is not there"),
        (["train", "--unit", "bit"], "Did you mean 'bits'"),
        (["train", "--resume", "nowhere"], "not there"),
        (["train", "--resume", "nowhere", "--lr", "1"], "keeps its own settings"),
        (["train", "--out", "/proc/none/run", "--epochs", "1"], "Cannot write"),
        (["plot", "plain", "RUN"], "Did you mean 'plane'"),
        (["plot", "plane", "RUN", "--format", "pgn"], "Did you mean 'png'"),
        (["plot", "plane", "RUN", "--layers", "hiden1"], "Did you mean 'hidden1'"),
        (["plot", "plane", "nowhere"], "no run directory"),
        (["warnings", "viod"], "Did you mean 'void'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_explained_with_status_2(trained, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*[str(trained[0]) if a == "RUN" else a for a in arguments])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())  # nothing was begun


@pytest.mark.filterwarnings("default")
def test_a_run_that_diverges_names_where_and_keeps_its_rows(tmp_path):
    out = tmp_path / "run"
    wild = ["--lr", "1e30", "--optimizer", "sgd", "--activation", "relu", "--epochs", "30", "--replicas", "2"]
    result = run("train", *wild, "--estimators", "binning", "--out", str(out))
    assert result.exit_code == 2, result.output
    assert "Warning: Layer 'hidden" in result.stderr
    assert "replica 0" in result.stderr
    assert "Try a smaller --lr" in result.stderr
    assert ".py" not in result.stderr
    assert len(RunDir.open(out).read("measurements")) > 0


def test_an_occupied_place_is_refused_and_left_alone(trained):
    out, _ = trained
    before = (out / "measurements.csv").read_bytes()
    result = run("train", *FAST, "--out", str(out))
    assert result.exit_code == 2
    assert "--resume" in result.stderr
    assert "--force" in result.stderr
    assert (out / "measurements.csv").read_bytes() == before


def test_help_is_quick_and_the_package_loads_nothing_heavy():
    """Under half a second for --help, of the processor's time, which other work on the machine leaves as it is; the
    import loads none of torch, pandas and matplotlib."""
    times = []
    for _ in range(3):
        start = os.times()
        subprocess.run([sys.executable, "-m", "infoplane.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
        end = os.times()
        times.append(end.children_user + end.children_system - start.children_user - start.children_system)
    assert 0 < min(times) < 0.5
    heavy = "('torch', 'pandas', 'matplotlib')"
    code = f"import infoplane, infoplane.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
