"""The commands, their settings, errors, help and completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from infoplane.cli import main
from infoplane.data import DATASETS
from infoplane.errors import InfoplaneError
from infoplane.estimators import ESTIMATORS
from infoplane.nn.activations import ACTIVATIONS
from infoplane.plot import PLOTS
from infoplane.runs.directory import RunDir
from infoplane.runs.settings import FIELDS, GROUPS, PRESETS, Settings
from infoplane.runs.settings_file import read_settings
from infoplane.runs.study import studies
from infoplane.warning_codes import WARNINGS

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
        (["train", "--batch-size", "-1"], "'full' or a whole number"),
        (["train", "--batch-size", "32", "--echo-layers", "1"], "at least 65"),
        (["train", "--echo-layers", "9"], "0 to 5"),
        (["train", "--echo-layers", "1", "--echo-at", "2"], "how many, or where"),
        (["train", "--echo-at", "7"], "from 1 to 5"),
        (["train", "--estimators", "kd"], "Did you mean 'kde'"),
        (["train", "--estimators", "kde:noise=3"], "noise"),
        (["train", "--snapshots", "sometimes"], "log:COUNT"),
        (["train", "--device", "cuda:77"], "is not available"),
        (["train", "--unit", "bit"], "Did you mean 'bits'"),
        (["train", "--resume", "nowhere"], "does not exist"),
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


# -- settings in a file


def settings_of(monkeypatch, *arguments: str) -> tuple[Settings, dict[str, object]]:
    """The settings and options that `infoplane train` starts a run with, without the run."""
    begun = []

    def train(settings, out, **options):
        begun.append((settings, options))
        raise InfoplaneError("begun")

    monkeypatch.setattr("infoplane.runs.training.train", train)
    result = run("train", *arguments)
    assert "begun" in result.stderr, result.output
    return begun[0]


def test_settings_come_from_a_file_and_options_beside_it_win(tmp_path, monkeypatch):
    file = tmp_path / "some.yaml"
    file.write_text(
        "lr: 4e-4\nbatch-size: full\nwidths: 4,3\ntap_betas: [1e-1, '2']\nepochs: 1e2\nordered: yes\n"
        "estimators: [kde, 'binning:bins=30']\nsnapshots: [0, 10]\nsubset: 1_000\nactivation: relu\n"
    )
    settings, _ = settings_of(monkeypatch, "--config", str(file), "--activation", "elu", "--no-ordered")
    assert settings == Settings(
        lr=4e-4, batch_size=0, widths=(4, 3), tap_betas=(0.1, 2.0), epochs=100, ordered=False, subset=1000,
        estimators=("kde", "binning:bins=30"), snapshots="0,10", activation="elu",
    )  # fmt: skip


def test_a_file_may_start_from_a_preset_and_say_how_many_layers(tmp_path, monkeypatch):
    file = tmp_path / "some.json"
    file.write_text(json.dumps({"preset": "saxe", "echo_layers": 2, "replicas": 3}))
    settings, _ = settings_of(monkeypatch, "--config", str(file))
    assert settings == Settings.of(preset="saxe", echo_layers=2, replicas=3)
    assert settings_of(monkeypatch, "--config", str(file), "--echo-at", "5")[0].echo_at == (5,)


def test_a_runs_own_config_can_be_given_back(trained, tmp_path, monkeypatch):
    out, _ = trained
    config = json.loads((out / "config.json").read_text())
    settings, options = settings_of(monkeypatch, "--config", str(out / "config.json"))
    assert settings == Settings.fromdict(config["settings"])
    assert options["threads"] == config["threads"] == 1
    assert options["device"] == "auto"
    other = settings_of(monkeypatch, "--config", str(out / "config.json"), "--echo-layers", "1", "--threads", "2")
    assert other[0].echo_at == (4,)
    assert other[1]["threads"] == 2
    former = {"channel": "gaussian", "channels": [], "bound": 0.5, "echo_at": [1]}
    (tmp_path / "old.json").write_text(json.dumps({"settings": former, "keep_weights": True, "device": "cuda"}))
    settings, options = settings_of(monkeypatch, "--config", str(tmp_path / "old.json"))
    assert (settings.noise, settings.max_scale) == ("gaussian", 0.5)
    assert options["keep_weights"] is True
    assert options["device"] == "auto"


@pytest.mark.parametrize("given", [{}, {"preset": "tishby"}, {"dataset": "student-teacher"}, {"dataset": "mnist"}])
def test_the_settings_that_are_printed_can_be_read_back(given, tmp_path):
    result = run("settings", *[word for name, value in given.items() for word in (f"--{name}", value)])
    (tmp_path / "all.yaml").write_text(result.stdout)
    read = read_settings(tmp_path / "all.yaml")
    assert Settings.of(**read.settings) == Settings.of(**given)
    assert len(read.settings) == len(Settings().asdict())


BAD_FILES = {
    "epoch: 3": "Did you mean 'epochs'",
    "channel: gaussian": "it is now called 'noise'",
    "seed: x": "seed is 'x'; expected a whole number",
    "lr: -1": "a number above 0",
    "activation: rleu": "Did you mean 'relu'",
    "max_scale: {}": "max-scale is {}; expected a number between 0 and 1",
    "bits: true": "bits is True; expected 2 to 16",
    "batch-size: 4\nbatch_size: 5": "'batch_size' occurs twice",
    "lr: 4\nlr: 5": "'lr' occurs twice",
    "settings: {lr: 1}\nthread: 2": "Did you mean 'threads'",
    "settings: {lr: 1}\nthreads: x": "threads is 'x'",
    "settings: 3": "expected values by name",
    "settings: {noise: echo, channel: echo}": "both 'noise' and 'channel'",
    "- lr": "expected settings by name",
    "1: 2": "expected settings by name",
    "lr: [": "Cannot read the settings",
    "a: " + "[" * 5000: "Cannot read the settings",
    "lr: !!python/object:os.system {}": "Cannot read the settings",
    "estimators: kd": "Did you mean 'kde'",
    "\x00": "Cannot read the settings",
}


@pytest.mark.parametrize("text", BAD_FILES, ids=lambda text: text[:30])
def test_a_file_of_settings_that_is_none_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(text)
    result = run("train", "--config", "bad.yaml")
    assert result.exit_code == 2, result.output
    assert BAD_FILES[text] in result.stderr
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_are_not_there_or_stand_beside_other_starts_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.json").write_text("{}")
    (tmp_path / "latin.yaml").write_bytes(b"dataset: \xff")
    (tmp_path / "bad.json").write_text("lr: 1")
    (tmp_path / "twice.json").write_text('{"lr": 1, "lr": 2}')
    for arguments, message in (
        (["--config", "none.yaml"], "No such file"),
        (["--config", "."], "Is a directory"),
        (["--config", "latin.yaml"], "Cannot read the settings in latin.yaml"),
        (["--config", "twice.json"], "'lr' occurs twice"),
        (["--config", "bad.json"], "Cannot read the settings in bad.json"),
        (["--config", "good.json", "--preset", "saxe"], "a line 'preset: NAME'"),
        (["--config", "good.json", "--resume", "good.json"], "keeps its own settings"),
    ):
        result = run("train", *arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr


# -- help and completion


def test_help_has_groups_choices_and_defaults():
    text = run("train", "--help").output
    for heading in (*GROUPS, "Run", "Output"):
        assert f"\n{heading}:\n" in text
    words = " ".join(text.split())
    assert f"[{'|'.join(ACTIVATIONS)}]" in words
    assert f"[{'|'.join(PRESETS)}]" in words
    assert "Weight of the rate in the loss, in nats per nat. [default: what suits the data set]" in words
    assert "Standard deviation of the noise (--noise gaussian). [default: 0.1]" in words
    options = {name for param in main.commands["train"].params for name in param.opts}
    assert {field.option for field in FIELDS.values()} <= options
    shown = run("plot", "--help").output
    assert all(f"\n  {name} " in shown for name in PLOTS)


def every_option():
    for name, command in main.commands.items():
        for param in command.params:
            if isinstance(param, click.Option) and not param.is_eager:
                yield pytest.param(param, id=f"{name} {param.opts[0]}")


@pytest.mark.parametrize("option", list(every_option()))
def test_every_option_has_help_and_says_its_default(option):
    assert option.help
    without = option.is_flag and not option.secondary_opts
    own = option.name in ("config", "resume", "weights", "data_root", "dataset")
    assert without or own or "[default: " in option.help


def completed(words: str, incomplete: str) -> list[str]:
    shell = ShellComplete(main, {}, "infoplane", "_INFOPLANE_COMPLETE")
    return [item.value for item in shell.get_completions(words.split(), incomplete)]


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        ("", "tra", ["train"]),
        ("train --activation", "", list(ACTIVATIONS)),
        ("train --activation", "so", ["softsign", "softplus"]),
        ("train --dataset", "", list(DATASETS)),
        ("train --preset", "saxe-", ["saxe-mnist"]),
        ("train --noise", "", ["echo", "gaussian", "dropout"]),
        ("train --snapshots", "s", ["saxe"]),
        ("train --estimators", "", list(ESTIMATORS)),
        ("train --estimators", "kde bin", ["kde binning"]),
        ("train --unit", "", ["bits", "nats"]),
        ("train --activation rleu --model", "c", ["cnn"]),
        ("compare-estimators --unit", "b", ["bits"]),
        ("measure --probe", "t", ["train", "test"]),
        ("plot", "pl", ["plane"]),
        ("plot", "", list(PLOTS)),
        ("warnings", "sel", ["self-weight"]),
        ("warnings void", "", list(WARNINGS)),
        ("study", "", list(studies())),
        ("settings --preset", "t", ["tishby"]),
    ],
)
def test_a_shell_completes_the_words_of_the_registries(words, incomplete, found):
    assert completed(words, incomplete) == found


@pytest.mark.parametrize("words", ["plot plane", "train --resume", "measure", "compare-estimators"])
def test_a_shell_completes_runs(words, trained, tmp_path, monkeypatch):
    out, _ = trained
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "one").symlink_to(out)
    (tmp_path / "runs" / "none").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completed(words, "") == completed(words, "ru") == completed(words, "runs/o") == ["runs/one"]
    assert completed(words, "nowhere") == ["nowhere"]


def test_help_is_quick_and_the_package_loads_nothing_heavy():
    """--help takes under half a second, and the import loads no torch, pandas or matplotlib.

    The time is that of the processor, which does not depend on other work on the machine.
    """
    times = []
    for _ in range(3):
        start = os.times()
        subprocess.run([sys.executable, "-m", "infoplane.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
        end = os.times()
        times.append(end.children_user + end.children_system - start.children_user - start.children_system)
    assert 0 < min(times) < 0.5
    heavy = "('torch', 'pandas', 'matplotlib', 'yaml')"
    code = f"import infoplane, infoplane.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
