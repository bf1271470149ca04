"""All estimators on the layers of a run, compared with the exact rates."""

import json
import math

import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib import pyplot as plt

from infoplane import plot
from infoplane.cli import main
from infoplane.errors import InfoplaneError
from infoplane.runs.comparison import compare_run, compared, render, sweep
from infoplane.runs.directory import RunDir
from infoplane.runs.measure import measure_run
from infoplane.runs.settings import Settings
from infoplane.runs.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two replicas of a small tanh network with one Echo layer, trained for a while."""
    out = tmp_path_factory.mktemp("compare") / "run"
    settings = Settings.of(
        widths=(5, 3),
        replicas=2,
        epochs=60,
        echo_at=(2,),
        snapshots="0,20,60",
        estimators=("binning",),
        lr=1e-2,
        beta=0.1,
    )
    return train(settings, str(out), progress=False, keep_weights=True)


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "made"
    estimators = ["ksg", "mean-field", "counting", "mixture"]
    return compare_run(
        run.path, out, estimators=estimators, widths=(0.1, 1.0), noise_variances=(1e-3, 1e-1), progress=False
    )


def test_the_exact_rate_is_the_truth_of_the_layer(made):
    frame = made.read("measurements")
    rows = compared(frame)
    echo = frame[(frame["estimator"] == "echo") & (frame["quantity"] == "I(Z;X)")]
    assert set(echo["standing"]) == {"exact"}
    ksg = rows[(rows["layer"] == "hidden2.echo") & (rows["estimator"] == "ksg")].iloc[0]
    assert ksg["quantity"] == "I(Z;X)"
    assert ksg["truth_nats"] == echo["value_nats"].iloc[0]
    assert ksg["off_nats"] == pytest.approx(ksg["value_nats"] - ksg["truth_nats"])
    others = rows[rows["layer"] != "hidden2.echo"]
    assert others["truth_nats"].isna().all()
    # numbers of another channel, or of the mean path, are compared with nothing
    own = rows[rows["layer"] == "hidden2.echo"]
    assert own.loc[own["path"].eq("noise-off"), "truth_nats"].isna().all()
    assert own.loc[own["channel"].str.startswith("gaussian noise of"), "truth_nats"].isna().all()


ROW = {
    "run": "r", "probe": "all", "epoch": 0, "step": 0, "replica": 0, "layer": "a.echo", "quantity": "I(Z;X)",
    "standing": "estimate", "side": "", "path": "", "channel": "echo", "estimator": "ksg", "params": "", "law": "",
    "n": 9, "value_nats": 2.0, "stderr_nats": 0.0, "ceiling_nats": 3.0, "warnings": "",
}  # fmt: skip
RATE = ROW | {"standing": "exact", "estimator": "echo"}


def test_a_rate_that_is_a_bound_is_no_truth():
    frame = pd.DataFrame(
        [
            RATE,
            RATE | {"replica": 1, "standing": "upper", "warnings": "wide"},
            ROW | {"warnings": "ties"},
            ROW | {"replica": 1, "warnings": "ties;saturated"},
        ]
    )
    assert compared(frame)["truth_nats"].isna().all()
    ksg = compared(frame).query("estimator == 'ksg'").iloc[0]
    assert ksg["warnings"] == "ties;saturated"
    assert ksg["replicas"] == 2
    assert "no truth is known; the rate is an upper bound" in render(compared(frame))


def test_a_rate_is_the_truth_of_its_own_snapshot_alone():
    """Of four snapshots that share an epoch, snapshot k has the rate k, and ksg gives k + 0.5."""
    places = [{}, {"run": "s"}, {"probe": "test"}, {"step": 7}]
    frame = pd.DataFrame(
        [of | place | {"value_nats": k + add} for k, place in enumerate(places) for of, add in ((RATE, 0), (ROW, 0.5))]
    )
    rows = compared(frame)
    assert len(rows) == len(frame)
    ksg = rows[rows["estimator"] == "ksg"]
    assert list(ksg["truth_nats"]) == [0, 1, 2, 3]
    assert set(ksg["off_nats"]) == {0.5}
    # a snapshot that has no rate, or only a bound, does not take the rate of another
    frame.loc[frame["estimator"].eq("echo") & frame["probe"].eq("test"), "standing"] = "upper"
    some = compared(frame[~((frame["estimator"] == "echo") & (frame["run"] == "s"))])
    assert list(some.loc[some["estimator"] == "ksg", "truth_nats"].isna()) == [False, True, True, False]
    text = render(compared(frame), "nats")
    assert [line for line in text.splitlines() if "epoch 0" in line] == [
        "s, all: epoch 0, nats",
        "r, test: epoch 0, nats",
        "r, all: epoch 0, nats",
    ]
    assert "the exact rate is the truth, 3.000" in text  # of step 7, the last one
    assert "exact rate is the truth, 0.000" not in text


def test_information_that_is_not_shannons_is_held_against_no_rate():
    frame = pd.DataFrame([RATE, ROW, ROW | {"estimator": "renyi", "channel": "kernel of width 1"}])
    rows = compared(frame).set_index("estimator")
    assert rows.loc["ksg", "truth_nats"] == 2.0
    assert math.isnan(rows.loc["renyi", "truth_nats"])


def test_layers_without_a_truth_show_how_the_value_moves(made):
    rows = compared(made.read("measurements"))
    swept = sweep(rows)
    assert set(swept["setting"]) == {0.1, 1.0, 1e-3}
    first = swept[(swept["layer"] == "hidden1") & (swept["estimator"] == "binning")].set_index("setting")["value_nats"]
    assert first[0.1] > first[1.0]
    text = render(rows, "nats")
    head = next(line for line in text.splitlines() if line.startswith("hidden1:"))
    assert "there is no truth" in head
    assert f"{first[0.1]:.2f} at bins of 0.1, {first[1.0]:.2f} at 1" in head
    assert "the exact rate is the truth" in next(line for line in text.splitlines() if line.startswith("hidden2.echo:"))


def test_the_first_replicas_and_some_snapshots_are_those_of_the_run(run, tmp_path):
    """Measured alone, replica 0 has the same numbers as in the run, to the last bit."""
    made = measure_run(run.path, tmp_path / "one", replicas=1, snapshots=2, progress=False)
    frame, whole = made.read("measurements"), run.read("measurements")
    assert set(frame["epoch"]) == {0, 60}
    assert set(frame["replica"]) == {0}
    keys = ["epoch", "layer", "quantity", "estimator", "params", "standing"]
    both = frame.merge(whole[whole["replica"] == 0], on=keys, suffixes=("", "_run"))
    assert len(both) == len(frame)
    assert (both["value_nats"] == both["value_nats_run"]).all()
    assert set(made.read("metrics")["replica"]) == {0}
    for wrong in ({"replicas": 3}, {"replicas": 0}, {"snapshots": 0}):
        with pytest.raises(InfoplaneError, match="expected"):
            measure_run(run.path, tmp_path / "two", progress=False, **wrong)


def test_figures(made):
    rows = compared(made.read("measurements"))
    beside = plot.beside(rows, unit="bits")
    (ax,) = [ax for ax in beside.axes if ax.get_title(loc="left") == "hidden2.echo"]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert "ksg  $I(Z;X)$" in names
    assert "mean-field  $I(Z;X)$\ngaussian noise of the std of the echo" in names
    rate = made.read("measurements").query("estimator == 'echo' and quantity == 'I(Z;X)'")["value_nats"].iloc[0]
    assert any(
        line.get_xdata()[0] == pytest.approx(rate / math.log(2)) for line in ax.lines if len(line.get_xdata()) == 2
    )
    sweeps = plot.sweeps(sweep(rows))
    assert len(sweeps.axes) == 2
    for figure in (beside, sweeps):
        plt.close(figure)
    with pytest.raises(InfoplaneError, match="no noisy layer"):
        plot.beside(rows[~rows["layer"].str.endswith(".echo")])
    with pytest.raises(InfoplaneError, match="Nothing was swept"):
        plot.sweeps(sweep(rows).iloc[:0])


def test_the_command(run, tmp_path):
    out = tmp_path / "out"
    words = ["compare-estimators", str(run.path), "--estimators", "ksg counting", "--layers", "hidden1,hidden2.echo"]
    result = CliRunner().invoke(main, [*words, "--out", str(out), "--unit", "bits", "--quiet", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert {row["layer"] for row in told["numbers"]} == {"hidden1", "hidden2.echo"}
    assert {p.name for p in RunDir.open(out).figures.iterdir()} == {"beside.png", "sweeps.png"}
    assert (out / "compared.csv").exists()
    result = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "text")])
    assert result.exit_code == 0
    assert "hidden2.echo: the exact rate is the truth" in result.stdout
