"""The verdicts on estimators: nothing exact is wrong, and no bound is on the wrong side."""

import json
import math

import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib import pyplot as plt

from infoplane import plot
from infoplane.calibration import VERDICTS, calibrate, render, standard_estimators, summarise, verdict
from infoplane.calibration.cases import POINTS, POPULATION, cases
from infoplane.cli import main
from infoplane.errors import InfoplaneError


@pytest.mark.parametrize(
    ("value", "standing", "more", "expected"),
    [
        (1.0005, "exact", {}, "right"),
        (1.002, "exact", {}, "WRONG"),
        (0.998, "exact", {}, "WRONG"),
        (1.002, "exact", {"error": 0.002}, "right"),
        (1.03, "exact", {"stderr": 0.01}, "right"),
        (1.05, "exact", {"stderr": 0.01}, "WRONG"),
        (1.05, "exact", {"truth_stderr": 0.02}, "right"),
        (7.0, "upper", {}, "right"),
        (0.99, "upper", {}, "WRONG"),
        (0.99, "upper", {"stderr": 0.003}, "right"),
        (-7.0, "lower", {}, "right"),
        (1.01, "lower", {}, "WRONG"),
        (1.01, "lower", {"warnings": ("at-log-k",)}, "WRONG"),
        (1.09, "estimate", {}, "near"),
        (0.88, "estimate", {}, "UNWARNED"),
        (0.88, "estimate", {"stderr": 0.04}, "near"),
        (0.88, "estimate", {"warnings": ("high-dimension",)}, "warned"),
        (0.88, "estimate", {"warnings": ("sampled-codes",)}, "UNWARNED"),  # this says what the number is about
        (math.nan, "estimate", {"warnings": ("no-density",)}, "refused"),
    ],
)
def test_a_verdict(value, standing, more, expected):
    assert verdict(value, standing, 1.0, **more) == expected
    assert expected in VERDICTS


def test_small_truths_are_judged_in_nats_and_unknown_ones_not_at_all():
    assert verdict(0.019, "estimate", 0.0) == "near"
    assert verdict(0.021, "estimate", 0.0) == "UNWARNED"
    assert verdict(5.0, "exact", math.nan) == ""


def test_every_channel_tells_its_truth_for_the_law_that_is_measured():
    for case in cases(standard_estimators, thorough=True):
        assert case.estimators
    for case in cases(standard_estimators, thorough=False):
        if case.n > 2000 and case.family not in ("quantised", "echo, two points"):
            continue
        shown = case.show(1)
        assert {law for _, law in shown.truths} <= {POINTS, POPULATION}
        for (_, law), truth in shown.truths.items():
            assert truth.value >= -4 * truth.stderr
            if law == POINTS:  # N points hold at most ln N
                assert truth.value <= math.log(case.n) + 4 * truth.stderr
        again = case.show(1)
        assert shown.truths == again.truths
        assert bool((shown.reading.codes == again.reading.codes).all())


@pytest.fixture(scope="module")
def small():
    return calibrate(only=["binary", "quantised", "echo, two points"], seeds=1, processes=1, progress=False)


def test_nothing_is_wrong(small):
    assert len(small) > 40
    assert not small["verdict"].eq("WRONG").any(), small[small["verdict"].eq("WRONG")].to_string()
    echo = small[(small["family"] == "echo, two points") & (small["estimator"] == "echo")].set_index("channel_name")
    below, above = echo.loc["echo: X = -1 or 1, s = 0.33"], echo.loc["echo: X = -1 or 1, s = 0.8"]
    assert below["standing"] == "upper"
    assert below["value_nats"] == pytest.approx(math.log(2), abs=1e-3)  # the ceiling, and not ln 3
    assert above["standing"] == "exact"
    assert above["value_nats"] == pytest.approx(-math.log(0.8), abs=1e-6)
    null = small[small["side"] == "null"]
    assert set(null["estimator"]) == {"renyi"}
    assert set(null["verdict"]) == {""}  # it measures nothing
    counted = small[small["estimator"] == "counting"]
    assert set(counted["verdict"]) == {"right"}
    assert set(counted["quantity"]) == {"I(X;T)", "I(T;Y)"}


def test_the_table_has_every_column_and_verdict(small):
    text = render(small)
    for word in ("truth (nats)", "stderr", "standing", "off by", "seconds", "MB", "warnings", *VERDICTS):
        assert word in text
    table = summarise(small)
    assert table["numbers"].sum() == len(small)
    assert (table[list(VERDICTS)].sum(axis=1) <= table["numbers"]).all()


@pytest.mark.slow
def test_the_same_numbers_on_one_process_and_on_two(small):
    again = calibrate(only=["binary"], seeds=1, processes=2, progress=False)
    own = small[small["family"] == "binary"].reset_index(drop=True)
    same = [c for c in own.columns if c not in ("seconds", "megabytes")]
    pd.testing.assert_frame_equal(own[same], again[same])


def test_unknown_families_are_refused():
    with pytest.raises(InfoplaneError, match="known families are: neurons, linear net, binary"):
        calibrate(only=["nuerons"])


def test_figures_are_drawn(small):
    figure = plot.calibration(small, unit="bits")
    assert any("truth [bits]" in ax.get_xlabel() for ax in figure.axes)
    plt.close(figure)
    with pytest.raises(InfoplaneError, match="does not hold 'tanh neurons"):
        plot.calibration_errors(small)
    with pytest.raises(InfoplaneError, match="no number"):
        plot.calibration(small[small["verdict"] == ""])


def test_the_command_leaves_table_figure_and_json(tmp_path):
    out = tmp_path / "cal"
    words = ["compare-estimators", "--only", "12 bits", "--seeds", "1", "--out", str(out), "--json", "--quiet"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert {row["family"] for row in told["numbers"]} == {"12 bits"}
    assert {p.name for p in out.iterdir()} == {"calibration.csv", "calibration.json", "calibration.png"}
    assert json.loads((out / "calibration.json").read_text()) == told
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 2
    assert "--force" in again.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "hidden1"], "without a RUN"),
        (["somewhere", "--thorough"], "takes no RUN"),
        (["--only", "nothing"], "known families are: neurons"),
        (["--unit", "bit"], "Did you mean 'bits'"),
        (["nowhere"], "nowhere"),
    ],
)
def test_bad_words_are_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["compare-estimators", *words])
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_in_the_whole_calibration_nothing_is_wrong_and_errors_are_warned_of():
    """Only bins wider than the steps of a quantised layer are off without a warning."""
    frame = calibrate(seeds=3, progress=False)
    assert not frame["verdict"].eq("WRONG").any(), frame[frame["verdict"].eq("WRONG")].to_string()
    off = frame[frame["verdict"] == "UNWARNED"]
    assert set(zip(off["family"], off["estimator"], strict=True)) <= {("quantised", "binning")}, off.to_string()
