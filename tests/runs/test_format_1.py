"""Runs that an earlier version wrote (format 1) are read, plotted and measured, and not resumed.

The two folders in fixtures/format_1 were written by the last version of that format. They hold a
ReLU network with an Echo layer, two replicas and the baselines of matrix Renyi information, and a
tanh network with a tap.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import infoplane as ip
from infoplane.cli import main
from infoplane.errors import InfoplaneError
from infoplane.records import TABLES

FOLDER = Path(__file__).parents[1] / "fixtures" / "format_1"


@pytest.fixture(params=["relu", "tap"])
def old(request, tmp_path) -> Path:
    return Path(shutil.copytree(FOLDER / request.param, tmp_path / request.param))


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["relu", "tap"])
def test_every_row_is_there_with_the_value_that_was_written(name):
    run = ip.RunDir.open(FOLDER / name)
    assert run.format == 1
    for table, schema in TABLES.items():
        frame = run.read(table)
        assert list(frame.columns) == list(schema.columns)
        path = run.path / f"{table}.csv"
        written = rows_of(path) if path.exists() else []
        assert len(frame) == len(written)
        for column in [c for c in schema.columns if written and c in written[0] and schema.columns[c] is float]:
            values = [float(row[column] or "nan") for row in written]
            assert frame[column].tolist() == pytest.approx(values, rel=0, abs=0, nan_ok=True)


def test_side_and_path_are_taken_out_of_the_strings_that_held_them():
    frame = ip.RunDir.open(FOLDER / "relu").read("measurements")
    written = rows_of(FOLDER / "relu" / "measurements.csv")
    prefixed = [row["channel"].startswith("noise-off, ") for row in written]
    assert frame["path"].eq("noise-off").tolist() == prefixed
    assert any(prefixed)
    assert not frame["channel"].str.contains("noise-off|permuted").any()
    assert not frame["params"].str.contains("bound=").any()
    assert frame["side"].eq("null").tolist() == [row["channel"].startswith("permuted, ") for row in written]
    replicated = ["replicates=2" in row["params"] and row["channel"].startswith("echo, ") for row in written]
    assert frame["path"].eq("replicates").tolist() == replicated
    assert any(replicated)
    kde = frame[frame["estimator"] == "kde"]
    assert set(kde["side"]) == {"upper", "lower"}
    assert set(kde.loc[kde["standing"] == "estimate", "path"]) == {"sampled"}
    assert not frame.duplicated(list(TABLES["measurements"].key)).any()


def test_it_is_plotted(old):
    for name in ("plane", "loss", "taps" if old.name == "tap" else "certificate"):
        result = CliRunner().invoke(main, ["plot", name, str(old)])
        assert result.exit_code == 0, result.output
        assert (old / "figures" / f"{name}.png").stat().st_size > 1000


def test_it_is_measured(old, tmp_path):
    made = ip.runs.measure_run(old, tmp_path / "measured", estimators=["kde", "binning"], progress=False)
    again = made.read("measurements")
    before = ip.RunDir.open(old).read("measurements")
    key = ["epoch", "replica", "layer", "quantity", "path", "channel", "estimator", "params", "side"]
    both = before.merge(again, on=key, suffixes=("", "_again"))
    both = both[both["estimator"].isin(["kde", "binning"])]
    assert len(both) >= 10
    # products in float32 are rounded differently on another processor
    assert both["value_nats"].tolist() == pytest.approx(both["value_nats_again"].tolist(), rel=1e-5, abs=1e-5)
    assert made.format == 2


def test_resuming_it_is_refused_and_says_what_to_do(old):
    (old / "done").unlink()
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    result = CliRunner().invoke(main, ["train", "--resume", str(old)])
    assert result.exit_code == 2
    assert "earlier version of infoplane (format 1" in " ".join(result.output.split())
    assert "train it again into another folder" in " ".join(result.output.split())
    with pytest.raises(InfoplaneError, match="earlier version"):
        ip.train(ip.Settings(), old, resume=True, progress=False)
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before


def test_a_sweep_over_it_is_refused_with_the_same_message(old):
    """This holds although the settings are the same under other names."""
    settings = ip.Settings.fromdict(json.loads((old / "config.json").read_text())["settings"])
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    for processes in (1, 2):
        with pytest.raises(InfoplaneError, match="was written by an earlier version of infoplane"):
            ip.train_all({old.name: settings}, old.parent, processes=processes, progress=False)
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before


def test_its_settings_have_the_names_of_today():
    said = json.loads((FOLDER / "relu" / "config.json").read_text())["settings"]
    settings = ip.Settings.fromdict(said)
    assert (settings.noise, settings.max_scale, settings.conv_channels) == ("echo", said["bound"], ())
