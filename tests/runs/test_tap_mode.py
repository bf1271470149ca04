"""Echo taps do not affect the training of the network, and their numbers are recorded."""

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from matplotlib import pyplot as plt

from infoplane import plot
from infoplane.cli import main
from infoplane.errors import InfoplaneError
from infoplane.estimators import Tap
from infoplane.runs.settings import Settings
from infoplane.runs.training import train

SMALL = {"widths": (4, 3), "replicas": 2, "epochs": 4, "snapshots": "0,4", "estimators": (), "seed": 7}


@pytest.fixture(scope="module")
def tapped(tmp_path_factory):
    settings = Settings.of(echo_mode="tap", tap_betas=(0.1, 0.5), echo_at=(2,), **SMALL)
    return train(settings, str(tmp_path_factory.mktemp("tap") / "tapped"), progress=False)


def test_the_trunk_is_the_same_with_and_without_taps(tapped, tmp_path):
    plain = train(Settings.of(**SMALL), str(tmp_path / "plain"), progress=False)
    with_taps, without = (run.load_checkpoint()["model"] for run in (tapped, plain))
    assert with_taps.keys() == without.keys()
    assert all(torch.equal(with_taps[name], without[name]) for name in without)


def test_only_the_chosen_layer_is_tapped_and_its_table_is_whole(tapped):
    frame, table = tapped.read("measurements"), tapped.read("taps")
    assert set(frame["layer"]) == {"hidden2"}
    assert set(frame["estimator"]) == {"tap"}
    assert len(table) == 2 * 2 * 2  # snapshots, replicas, betas
    assert not table.duplicated(["epoch", "replica", "layer", "beta"]).any()
    rates = frame[frame["quantity"] == "I(Z;X)"]
    assert set(rates["channel"]) == {"echo tap"}
    assert rates["warnings"].str.contains("tap").all()
    both = rates.merge(table, on=["epoch", "replica", "layer", "params"], suffixes=("", "_table"))
    assert len(both) == len(rates)
    assert (both["value_nats"] == both["value_nats_table"]).all()
    assert (both["standing"] == both["standing_table"]).all()
    for _, own in table.groupby(["epoch", "replica"]):
        by_beta = own.set_index("beta")
        assert by_beta.loc[0.1, "cross_entropy_nats"] <= by_beta.loc[0.5, "cross_entropy_nats"] + 0.02


def test_the_curve_is_drawn(tapped):
    table = tapped.read("taps")
    figure = plot.taps(table)
    assert "cross-entropy [bits]" in {ax.get_ylabel() for ax in figure.axes}
    plt.close(figure)
    with pytest.raises(InfoplaneError, match="--echo-mode tap"):
        plot.taps(pd.DataFrame())


def test_a_run_without_taps_has_none_to_plot(tmp_path):
    out = tmp_path / "run"
    words = ["train", "--widths", "3", "--epochs", "1", "--replicas", "1", "--out", str(out), "--quiet"]
    assert CliRunner().invoke(main, words).exit_code == 0
    result = CliRunner().invoke(main, ["plot", "taps", str(out)])
    assert result.exit_code == 2
    assert "no Echo taps" in result.output


def test_the_settings_of_taps():
    settings = Settings.of(echo_mode="tap", activation="relu")
    assert settings.noisy_layers == [f"hidden{k}" for k in range(1, 6)]
    assert settings.snapshots == "log:6"
    for given, message in [
        ({"echo_mode": "taps"}, "Did you mean 'tap'"),
        ({"echo_mode": "tap", "noise": "gaussian"}, "expected echo"),
        ({"tap_objective": "labels"}, "Did you mean 'label'"),
        ({"tap_betas": (0.1, -1.0)}, "positive numbers"),
    ]:
        with pytest.raises(InfoplaneError, match=message):
            Settings.of(**given)
    result = CliRunner().invoke(main, ["train", "--echo-mode", "tap", "--tap-betas", "0.1;1"])
    assert result.exit_code == 2
    assert "numbers with commas" in result.output


def test_a_tap_keeps_to_its_layers():
    from infoplane.estimators import parse_estimator

    assert parse_estimator("tap:layers=hidden1/hidden3,betas=0.1/1") == Tap(
        betas=(0.1, 1.0), layers=("hidden1", "hidden3")
    )
