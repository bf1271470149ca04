"""Settings that are trained side by side give the same numbers as each of them alone."""

import json
import subprocess
import sys
import time

import pandas as pd
import pytest

import infoplane as ip
from infoplane.errors import InfoplaneError

SMALL = {"epochs": 3, "replicas": 2, "snapshots": "0,1,3", "widths": (4,), "estimators": ("binning",)}


def of(activation, **more):
    return ip.Settings.of(activation=activation, **SMALL | more)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    settings = {"tanh": of("tanh"), "relu": of("relu", echo_at=(1,))}
    return folder, settings, ip.train_all(settings, folder, processes=2, progress=False)


def test_the_tables_are_those_of_each_run_alone(swept, tmp_path):
    _, settings, sweep = swept
    assert list(sweep) == ["tanh", "relu"]
    for name, chosen in settings.items():
        alone = ip.train(chosen, tmp_path / name, progress=False)
        for table in ("measurements", "metrics"):
            got = getattr(sweep, table)
            got = got[got["run"] == name].reset_index(drop=True)
            pd.testing.assert_frame_equal(got, alone.read(table).assign(run=name), check_dtype=False)
    assert set(sweep.certificates["run"]) == {"relu"}
    assert sweep.taps.empty


def test_one_process_is_this_one(swept, tmp_path, monkeypatch):
    _, settings, sweep = swept
    monkeypatch.setattr(subprocess, "Popen", None)
    alone = ip.train_all(settings, tmp_path, processes=1, progress=False)
    pd.testing.assert_frame_equal(alone.measurements, sweep.measurements)


def test_a_complete_run_is_not_trained_again_and_a_killed_one_goes_on(swept):
    folder, settings, sweep = swept
    before = (folder / "relu" / "measurements.csv").read_bytes()
    stamp = (folder / "tanh" / "measurements.csv").stat().st_mtime_ns
    (folder / "relu" / "done").unlink()
    again = ip.train_all(settings, folder, processes=2, progress=False)
    assert (folder / "relu" / "measurements.csv").read_bytes() == before
    assert again["relu"].done
    assert (folder / "tanh" / "measurements.csv").stat().st_mtime_ns == stamp
    pd.testing.assert_frame_equal(again.measurements, sweep.measurements)


def test_other_settings_names_and_nothing_are_refused(swept):
    folder, settings, _ = swept
    with pytest.raises(InfoplaneError, match="other settings"):
        ip.train_all({"tanh": of("tanh", lr=1.0)}, folder, progress=False)
    with pytest.raises(InfoplaneError, match="plain folder name"):
        ip.train_all({"a/b": settings["tanh"]}, folder)
    with pytest.raises(InfoplaneError, match="no settings"):
        ip.train_all({}, folder)


def test_the_message_of_a_run_that_fails_is_passed_on(tmp_path):
    settings = {"fine": of("tanh"), "mad": of("relu", lr=1e30, optimizer="sgd")}
    with pytest.raises(InfoplaneError, match="The run mad stopped: Every replica holds NaN"):
        ip.train_all(settings, tmp_path, processes=2, progress=False)
    assert not ip.RunDir.open(tmp_path / "mad").read("metrics").empty


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """The run that it leaves can be resumed."""
    settings = of("tanh", epochs=100_000, snapshots="0")
    job = {"settings": settings.asdict(), "out": str(tmp_path / "run"), "resume": False}
    process = subprocess.Popen([sys.executable, "-m", "infoplane.runs.sweep"], stdin=subprocess.PIPE)
    process.stdin.write(json.dumps(job | {"options": {}}).encode() + b"\n")
    process.stdin.flush()
    while not (tmp_path / "run" / "metrics.csv").exists():
        time.sleep(0.05)
        assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=30) == 1
    assert not ip.RunDir.open(tmp_path / "run").done
