"""Several runs on common axes: losses, gaps, certificates, and the command that draws them."""

import math
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from click.testing import CliRunner
from matplotlib.colors import to_rgb

from infoplane.analysis import correlations, gap_table, rank_correlation
from infoplane.cli import main
from infoplane.errors import InfoplaneError
from infoplane.plot import (
    PLOTS,
    Plot,
    beside,
    between,
    calibration,
    calibration_errors,
    certificate,
    epochs_range,
    gap,
    gradients,
    loss,
    plane,
    rates,
    run_names,
    sweeps,
    taps,
)
from infoplane.plot.certificate import VERDICTS
from infoplane.plot.style import name_colors, path_colors
from infoplane.records import TABLES
from infoplane.runs.directory import RunDir
from tests.plot.test_plot import arrows, make, scattered, words

ROOT = Path(__file__).parents[2]
BIT = math.log(2)
EPOCHS = (0, 1, 10, 100)
ECHO = ("hidden2.echo", "hidden4.echo")


def make_metrics(epochs=EPOCHS, replicas=5, runs=("tanh",), paths=("noisy", "noise-off"), seed=1, error=True):
    rng = np.random.default_rng(seed)
    place = [
        dict(run=run, epoch=e, step=13 * e, replica=r, split=split, path=path)
        for run in runs
        for e in epochs
        for path in paths
        for split in ("train", "test")
        for r in range(replicas)
    ]
    frame = pd.DataFrame(place)
    frame["loss"] = 0.7 / (1 + np.log1p(frame["epoch"])) + rng.uniform(0, 0.05, len(frame))
    frame["error"] = frame["loss"] / 2 if error else math.nan
    frame["accuracy"] = 1 - frame["error"]
    return frame.assign(rate_nats=math.nan)


def make_certificates(epochs=EPOCHS, replicas=5, run="tanh", layers=ECHO):
    """Return margins that fall below their limit at epoch 10, or at 100 in the last replica."""
    rows = []
    for epoch in epochs:
        for at, layer in enumerate(layers):
            for replica in range(replicas):
                good = epoch >= (100 if replica == replicas - 1 else 10)
                row = dict(run=run, epoch=epoch, step=epoch, replica=replica, probe="all", layer=layer)
                row |= dict(rate_nats=5.0, value_nats=3.0, standing="exact" if good else "upper")
                row |= dict(margin=0.4 + 0.01 * replica if good else 1.5 + replica, margin_ok=good)
                row |= dict(seen_nats=2.97 if good else math.nan, resolution_ok=True)
                row |= dict(smallest_eigenvalue=1e-2 * (1 + replica), aligned=0.1 if good else math.nan)
                row |= dict(independent_ok=True, tail_nats=1e-6, tail_ok=True, references=4096, references_ok=True)
                row |= dict(bank_shift=1e-7 if at == 0 else 0.3, bank_ok=True, repeat=math.nan if at else 0.0)
                rows.append(row | dict(deterministic_ok=True, law="probe", law_ok=True))
    return pd.DataFrame(rows)


def make_gradients(epochs=EPOCHS, replicas=3, run="tanh", layers=("hidden1", "output")):
    """Return gradients with deviations of 0.01 and weights of 2.

    The means are 0.1 x 2^replica at epoch 0 and fall tenfold at each later epoch.
    """
    rows = [
        dict(run=run, epoch=epoch, step=epoch, replica=replica, layer=layer, batches=13, mean_norm=mean)
        | dict(std_norm=0.01, weight_norm=2.0, snr=mean / 0.01)
        for at, epoch in enumerate(epochs)
        for layer in layers
        for replica in range(replicas)
        for mean in [0.1 * 2**replica / 10**at]
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def measurements():
    frames = [make(epochs=EPOCHS, replicas=5, runs=(run,), seed=seed) for seed, run in enumerate(("tanh", "relu"))]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def metrics():
    return make_metrics(runs=("tanh", "relu"))


@pytest.fixture(autouse=True)
def _no_figure_is_left():
    matplotlib.use("Agg")
    yield
    plt.close("all")


# loss


def test_loss_draws_means_and_deviations_of_each_path_and_split(metrics):
    fig = loss(metrics)
    assert [ax.get_title() for ax in fig.axes] == ["tanh", "tanh", "relu", "relu"]
    assert [ax.get_ylabel() for ax in fig.axes] == ["loss [bits]", "error"] * 2
    colors = path_colors(metrics["path"])
    assert colors["noisy"] != colors["noise-off"] == path_colors(["noise-off"])["noise-off"]
    for ax, (run, name, unit) in zip(
        fig.axes, [(r, *n) for r in ("tanh", "relu") for n in (("loss", BIT), ("error", 1))], strict=True
    ):
        assert ax.get_ylim()[0] == 0
        assert ax.get_xlim() == fig.axes[0].get_xlim()
        assert ax.get_xscale() == "symlog"
        lines, bands = ({x.get_label(): x for x in some} for some in (ax.lines, ax.collections))
        for path in ("noisy", "noise-off"):
            for split in ("train", "test"):
                own = metrics[(metrics.run == run) & (metrics.path == path) & (metrics.split == split)]
                by = own.groupby("epoch")[name]
                line = lines[f"_{path} {split}"]
                np.testing.assert_allclose(line.get_ydata(), by.mean() / unit, rtol=1e-12)
                assert list(line.get_xdata()) == list(EPOCHS)
                assert line.is_dashed() == (split == "test")
                assert to_rgb(line.get_color()) == colors[path]
                points = pd.DataFrame(bands[f"_{path} {split}"].get_paths()[0].vertices).groupby(0)[1]
                np.testing.assert_allclose(points.max() - points.min(), 2 * by.std() / unit, rtol=1e-9)


def test_losses_share_axes_over_runs(metrics):
    metrics = metrics.assign(loss=metrics["loss"].where(metrics["run"] == "tanh", 3 * metrics["loss"]))
    axes = loss(metrics).axes
    assert axes[0].get_ylim() == axes[2].get_ylim() != axes[1].get_ylim()


def test_without_an_error_there_is_the_loss_alone(metrics):
    assert [ax.get_ylabel() for ax in loss(make_metrics(error=False), unit="nats").axes] == ["loss [nats]"]
    mixed = pd.concat([metrics[metrics.run == "tanh"], make_metrics(runs=("regression",), error=False)])
    assert [ax.get_title() for ax in loss(mixed).axes] == ["tanh", "tanh", "regression"]


def test_one_epoch_is_a_marker_filled_for_training(metrics):
    fig = loss(metrics[metrics["epoch"] == 10])
    lines = {line.get_label(): (line.get_marker(), line.get_fillstyle()) for line in fig.axes[0].lines}
    assert lines["_noisy train"] == ("o", "full")
    assert lines["_noisy test"] == ("o", "none")
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    handles = dict(zip(names, fig.legends[0].legend_handles, strict=True))
    assert [handles[split].get_fillstyle() for split in ("train", "test")] == ["full", "none"]


# gap


def test_the_gap_is_test_minus_train_of_one_path_at_the_last_epoch(measurements, metrics):
    table = gap_table(measurements, metrics, unit="nats")
    assert set(table["quantity"]) == {"I(Z;X)"}
    assert set(table["epoch"]) == {100}
    assert set(table["path"]) == {"noisy"}
    assert len(table) == 2 * 2 * 5
    for _, row in table.iterrows():
        own = metrics[(metrics.run == row.run) & (metrics.replica == row.replica) & (metrics.epoch == 100)]
        by = own[own.path == "noisy"].set_index("split")
        assert row.gap_loss == pytest.approx(by.loss["test"] - by.loss["train"], rel=1e-12)
        assert row.gap_error == pytest.approx(by.error["test"] - by.error["train"], rel=1e-12)
        (number,) = measurements.loc[
            (measurements.run == row.run) & (measurements.replica == row.replica) & (measurements.epoch == 100)
            & (measurements.layer == row.layer) & (measurements.quantity == "I(Z;X)"), "value_nats",
        ]  # fmt: skip
        assert row.value == pytest.approx(number, rel=1e-12)
    assert set(table.groupby("layer")["standing"].unique().map(tuple).items()) == {
        (ECHO[0], ("exact",)),
        (ECHO[1], ("upper",)),
    }
    bits = gap_table(measurements, metrics)
    np.testing.assert_allclose(bits[["value", "gap_loss"]] * BIT, table[["value", "gap_loss"]], rtol=1e-12)
    np.testing.assert_array_equal(bits["gap_error"], table["gap_error"])


def test_what_the_gap_is_of_can_be_chosen(measurements, metrics):
    table = gap_table(
        measurements, metrics, estimator="kde", layers=["output"], epoch=10, path="noise-off", unit="nats"
    )
    assert set(
        table[["quantity", "layer", "place", "epoch", "path", "standing"]].itertuples(index=False, name=None)
    ) == {("I(X;T)", "output", "output", 10, "noise-off", "bracket")}
    assert (table["upper"] > table["lower"]).all()
    np.testing.assert_allclose(table["value"], (table["upper"] + table["lower"]) / 2)
    no_echo = measurements[~measurements["estimator"].isin(["echo", "decoder"])]
    plain = gap_table(no_echo, make_metrics(runs=("tanh", "relu"), paths=("plain",)))
    assert set(plain["panel"]) == {"kde"}
    assert set(plain["path"]) == {"plain"}


def test_echo_layers_of_several_runs_meet_at_their_place(measurements, metrics):
    before = measurements.assign(
        layer=measurements["layer"].where(measurements["run"] == "tanh", "x." + measurements.layer)
    )
    table = gap_table(before, metrics)
    assert dict(table.groupby("place")["layer"].unique().map(set)) == {
        "Z1": {ECHO[0], f"x.{ECHO[0]}"},
        "Z2": {ECHO[1], f"x.{ECHO[1]}"},
    }
    titles = [ax.get_title(loc="left").splitlines()[0] for ax in gap(before, metrics).axes]
    assert titles == [f"Z{k + 1}: {e}, x.{e}" for k, e in enumerate(ECHO) for _ in range(2)]
    assert set(correlations(table)["n"]) == {10, 5}
    # in each place the runs keep their order, whichever have layers of one name
    again = [pd.concat([f, f[f["run"] == "tanh"].assign(run="again")]) for f in (before, metrics)]
    found = gap_table(*again)
    for place in ("Z1", "Z2"):
        assert list(dict.fromkeys(found.loc[found["place"] == place, "run"])) == ["tanh", "relu", "again"]
    second = gap_table(before, metrics, layers=[ECHO[1], f"x.{ECHO[1]}"])  # still the second one
    assert set(second["place"]) == {"Z2"}


def test_correlations_are_spearmans_within_runs_and_over_all(measurements, metrics):
    table = gap_table(measurements, metrics)
    found = correlations(table).set_index(["place", "gap", "run"])
    assert len(found) == 2 * 2 * 3
    for (place, name, run), row in found.iterrows():
        own = table[(table.place == place) & ((table.run == run) | (run == ""))]
        assert row.rho == pytest.approx(scipy.stats.spearmanr(own["value"], own[name]).statistic, abs=1e-12)
        assert (row.n, row.of) == (len(own), len(own))
    three = correlations(table[table["replica"] < 3])
    assert list(three["run"].unique()) == [""]  # fewer than 4 replicas have none of their own
    assert set(three["n"]) == {6}
    dead = table.assign(gap_loss=table["gap_loss"].where(table["replica"] > 0))
    one = correlations(dead[dead["run"] == "tanh"]).set_index(["place", "gap"]).loc[("Z1", "gap_loss")]
    assert (one["n"], one["of"], one["run"]) == (4, 5, "")


def test_rank_correlation_against_scipy_with_ties():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 40):
        x, y = rng.integers(0, 6, n), rng.normal(size=n)
        x[0] = 7
        found = rank_correlation(x, y)
        assert found.rho == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
        assert found.n == n
    x, y = rng.normal(size=(2, 12))
    found = rank_correlation([*x, math.nan, 1.0], [*y, 1.0, math.inf])
    assert found == rank_correlation(x, y)


def test_the_interval_of_rho_in_closed_form():
    x, y = [1, 2, 3, 4, 5], [1, 2, 3, 5, 4]  # rho = 1 - 6 * 2 / (5 * 24) = 0.9
    found = rank_correlation(x, y)
    assert found.rho == pytest.approx(0.9, abs=1e-12)
    # atanh(.9) = ln(19) / 2, half-width 1.959964 sqrt((1 + .405) / 2)
    for end, sign in ((found.low, -1), (found.high, 1)):
        assert math.atanh(end) == pytest.approx(math.log(19) / 2 + sign * 1.959963985 * math.sqrt(1.405 / 2), rel=1e-8)
    half = rank_correlation(x, y, level=0.5)
    assert found.low < half.low < 0.9 < half.high < found.high


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Normal pairs with correlation r have Spearman's rho = 6/pi asin(r / 2)."""
    rng, draws = np.random.default_rng(3), 4000
    for r in (0.0, 0.6):
        truth = 6 / math.pi * math.asin(r / 2)
        pairs = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], size=(draws, 30))
        found = [rank_correlation(p[:, 0], p[:, 1]) for p in pairs]
        covered = np.mean([f.low <= truth <= f.high for f in found])
        assert covered == pytest.approx(0.95, abs=0.01 + 4 * math.sqrt(0.95 * 0.05 / draws))  # good to 1 % at n = 30


@pytest.mark.parametrize(
    ("x", "y", "n", "note"),
    [
        ([], [], 0, "undefined: fewer than 2 points"),
        ([1, math.nan], [1, 2], 1, "undefined: fewer than 2 points"),
        ([1, 1, 1, 1], [1, 2, 3, 4], 4, "undefined: x is constant"),
        (
            [1, 2, 3, 4, 5],
            [8.3177661, 8.3177661, 8.3177661 + 1e-12, 8.3177661, 8.3177661],
            5,
            "undefined: y is constant",
        ),
        ([0, 0, 0, 0], [1, 2, 3, 4], 4, "undefined: x is constant"),
        ([1, 2, 3], [1, 3, 2], 3, "no interval: fewer than 4 points"),
        ([1, 2, 3, 4], [4, 3, 2, 1], 4, "no interval: ranks in one order"),
    ],
)
def test_what_has_no_correlation_or_no_interval_says_so(x, y, n, note):
    found = rank_correlation(x, y)
    assert (found.n, found.note) == (n, note)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(found.rho) == note.startswith("undefined")


def test_gap_draws_a_point_a_replica(measurements, metrics):
    one = (measurements.layer == ECHO[0]) & (measurements.quantity == "I(Z;X)") & (measurements.replica == 0)
    measurements = measurements.assign(
        warnings=measurements["warnings"].mask(one & (measurements.run == "relu"), "void")
    )
    fig = gap(measurements, metrics)
    table, colors = gap_table(measurements, metrics), name_colors(("tanh", "relu"))
    assert [ax.get_title(loc="left").splitlines()[0] for ax in fig.axes] == [
        f"Z{k}: {ECHO[k - 1]}" for k in (1, 1, 2, 2)
    ]
    for ax, (place, name) in zip(
        fig.axes, [(p, n) for p in ("Z1", "Z2") for n in ("gap_loss", "gap_error")], strict=True
    ):
        drawn = scattered(ax)
        points = np.concatenate(list(drawn.values()))
        own = table[table["place"] == place]
        np.testing.assert_allclose(sorted(map(tuple, points)), sorted(own[["value", name]].itertuples(index=False)))
        expected = {"full", "dotted"} if place == "Z1" else {"hollow"}  # of the second layer, only bounds are known
        assert {kind for _, kind in drawn} == expected
        for collection in ax.collections:
            run = collection.get_label().removeprefix("_").partition(" ")[0]
            if run in colors and hasattr(collection, "get_offsets"):
                assert {to_rgb(color) for color in collection.get_edgecolors()} == {colors[run]}
        bounds = own[own["standing"] == "upper"].groupby("run").size().to_dict()
        assert {
            run: len(xy) for (run, axis, kind), xy in arrows(ax).items() if (axis, kind) == ("x", "upper")
        } == bounds
    assert len(scattered(fig.axes[0])["relu", "dotted"]) == 1
    named = {"filled: exact", "hollow: warned", "hollow with a dot: exact, warned", "arrow: upper bound"}
    assert named < set(words(fig))
    assert fig.axes[2].get_xlabel() == "$I(Z;X)$ at epoch 100 [bits]"
    assert [ax.get_ylabel() for ax in fig.axes[:2]] == ["gap in loss, noisy [bits]", "gap in error, noisy"]
    lines = fig.axes[0].get_title(loc="left").splitlines()
    first = correlations(table).iloc[0]
    assert lines[1] == f"all: ρ = {first.rho:.2f} [{first.low:.2f}, {first.high:.2f}], n = 10"
    assert [line.partition(":")[0] for line in lines[2:]] == ["tanh", "relu"]


def test_a_gap_of_few_or_constant_points_is_drawn_and_says_so(measurements, metrics):
    few = [f[(f.run == "tanh") & (f.replica < 3)] for f in (measurements, metrics)]
    assert "(no interval: fewer than 4 points), n = 3" in gap(*few).axes[0].get_title(loc="left")
    constant = measurements.assign(value_nats=8.0)
    assert "all: ρ undefined: x is constant, n = 10" in gap(constant, metrics).axes[0].get_title(loc="left")
    assert len(gap(measurements, make_metrics(runs=("tanh", "relu"), error=False)).axes) == 2  # the loss alone


# certificates


def test_certificate_draws_each_value_with_its_limit_and_verdict():
    frame = make_certificates()
    fig = certificate(frame, unit="nats")
    rows = [ax.get_ylabel().replace("\n", " ") for ax in fig.axes[::2]]
    assert rows == [
        "margin", "share seen", "few-valued", "smallest eigenvalue", "tail [nats]", "reference codes",
        "bank shift [s.d. or s.e.]", "",
    ]  # fmt: skip
    assert [ax.get_title() for ax in fig.axes[:2]] == [f"Z{k}: {layer}" for k, layer in enumerate(ECHO, start=1)]
    margin = {line.get_label(): line for line in fig.axes[0].lines}
    own = frame[frame.layer == ECHO[0]].groupby("epoch").margin
    np.testing.assert_allclose(margin["_tanh"].get_ydata(), own.median())
    held = scattered(fig.axes[0])
    assert held["tanh", "full"][:, 0].tolist() == [100]  # at 10 one of five fails
    assert held["tanh", "hollow"][:, 0].tolist() == [0, 1, 10]
    band = pd.DataFrame(fig.axes[0].collections[0].get_paths()[0].vertices).groupby(0)[1]
    np.testing.assert_allclose(band.max(), own.max())
    np.testing.assert_allclose(band.min(), own.min())
    seen = {line.get_label(): line for line in fig.axes[2].lines}
    assert list(seen["_tanh"].get_xdata()) == [10, 100]  # before, nobody asked
    np.testing.assert_allclose(seen["_tanh"].get_ydata(), 2.97 / 3.0)
    assert [text.get_text() for ax in fig.axes[10:12] for text in ax.texts] == ["not asked"]
    limits = [[line.get_ydata()[0] for line in ax.lines if line.get_label() == "_limit"] for ax in fig.axes[:14]]
    assert limits == [
        [0.6], [0.6], [0.98], [0.98], [1], [1], [1e-6], [1e-6], [1e-3], [1e-3], [], [4096], [1e-4], [5],
    ]  # fmt: skip


def test_the_strip_says_in_how_many_replicas_a_condition_holds():
    fig = certificate(make_certificates())
    strip = fig.axes[-2]
    names = [label.get_text() for label in strip.get_yticklabels()]
    assert names == list(VERDICTS.values())
    held = {}
    for patch in strip.patches:
        if patch.get_label() == "_holds":
            row, epoch = int(patch.get_y() + patch.get_height() / 2), patch.get_x()
            held.setdefault(names[row], []).append(round(patch.get_height() * 5))
            assert patch.get_y() + patch.get_height() == pytest.approx(row + 1)
            assert epoch <= 100
    for name in ("exact", "margin", "resolution", "independent"):
        assert held[name] == [4, 5], name  # of epochs 10 and 100
    assert held["tail"] == held["law"] == [5] * 4
    assert "references" not in held  # not asked of a first layer
    hatched = [patch for patch in strip.patches if patch.get_hatch()]
    assert len(hatched) == 4 + 2 * 2  # references at all epochs; what was not asked at 0 and 1
    above = [patch.get_height() for patch in fig.axes[-1].patches if patch.get_label() == "_holds"]
    assert len(above) == 4 * 2 + 4 * 4  # there references are asked, and nothing is repeated


def test_a_failed_condition_is_empty_and_not_hatched():
    frame = make_certificates().assign(resolution_ok=False, standing="upper", seen_nats=math.nan)
    strip = certificate(frame, layers=[ECHO[0]]).axes[-1]
    rows = {int(p.get_y() + p.get_height() / 2) for p in strip.patches if p.get_label() == "_holds"}
    row = list(VERDICTS).index("resolution_ok")
    assert not rows & {row, 0}
    assert not [p for p in strip.patches if p.get_hatch() and int(p.get_y()) == row]


def test_a_strip_for_each_run_and_a_colour_for_each():
    frame = pd.concat([make_certificates(), make_certificates(run="relu", layers=("hidden2.linear.echo",))])
    fig = certificate(frame)
    assert fig.axes[0].get_title() == "Z1: hidden2.echo, hidden2.linear.echo"
    assert [fig.axes[at].get_title(loc="left") for at in (-4, -2)] == [
        f"{r}: conditions that hold" for r in ("tanh", "relu")
    ]
    lines = {line.get_label(): to_rgb(line.get_color()) for line in fig.axes[0].lines}
    assert {run: lines[f"_{run}"] for run in ("tanh", "relu")} == name_colors(("tanh", "relu"))
    assert [text.get_text() for text in fig.axes[-1].texts] == ["no such layer"]


# standing, in plane and rates


def test_an_exact_point_is_filled_and_a_bound_alone_has_an_arrow(measurements):
    frame = measurements[measurements["run"] == "tanh"]
    fig = plane(frame)
    ax = next(ax for ax in fig.axes if ax.get_title() == "echo")
    exact = frame[(frame.standing == "exact") & (frame.quantity == "I(Z;X)")].groupby("epoch").value_nats.mean() / BIT
    np.testing.assert_allclose(sorted(scattered(ax)[ECHO[0], "full"][:, 0]), sorted(exact))
    upper = frame[(frame.standing == "upper") & (frame.quantity == "I(Z;X)")]
    for layer in ECHO:
        own = upper[upper.layer == layer].groupby("epoch").value_nats.mean() / BIT
        np.testing.assert_allclose(sorted(arrows(ax)[layer, "x", "upper"][:, 0]), sorted(own))
    assert {"filled: $I(Z;X)$ exact", "arrow: upper bound", "pale: bound or estimate"} < set(words(fig))
    kde = next(ax for ax in plane(frame).axes if ax.get_title().startswith("kde"))
    (bars,) = [c for c in kde.collections if c.get_label() == "_bars y"]
    dotted = [dashes is not None for _, dashes in bars.get_linestyles()]
    assert dotted == [depth > 2 for _ in EPOCHS for depth in range(6)]


def test_warned_numbers_have_hollow_markers_in_rates(measurements):
    frame = measurements[(measurements["run"] == "tanh") & (measurements["estimator"] == "binning")]
    ax = rates(frame, layers=["hidden5"]).axes[0]
    found = scattered(ax)
    assert found["hidden5 I(X;T)", "hollow"][:, 0].tolist() == [0, 1]
    assert found["hidden5 I(X;T)", "pale"][:, 0].tolist() == [10, 100]
    assert {"pale: bound or estimate", "hollow: warned"} < set(words(ax.figure))


def test_a_run_without_echo_layers_has_no_empty_panel(measurements):
    lacks = measurements[(measurements["run"] == "tanh") | ~measurements["estimator"].isin(["echo", "decoder"])]
    for draw in (plane, rates):
        titles = [ax.get_title() for ax in draw(lacks).axes if ax.get_title()]
        assert len(titles) == 5
        assert "echo\nrelu" not in titles
    labelled = [ax for ax in rates(lacks).axes if ax.get_title() == "kde, noise 0.001\nrelu"]
    assert labelled[0].yaxis.get_tick_params()["labelleft"]


# several runs


def test_runs_are_called_by_what_tells_them_apart(tmp_path, monkeypatch):
    assert run_names([tmp_path / "a" / "tanh", tmp_path / "b" / "relu"]) == ["tanh", "relu"]
    assert run_names([tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]) == ["a/run", "b/run", "c"]
    assert run_names(["/run", "/x/run"]) == ["/run", "x/run"]
    monkeypatch.chdir(tmp_path)
    assert run_names(["."]) == [tmp_path.name]
    with pytest.raises(InfoplaneError, match=r"The run \./a was given twice; expected each run once"):
        run_names(["a", "./a"])


def test_ranges_of_epochs(metrics):
    assert epochs_range("3..40") == (3, 40)
    assert epochs_range("3..") == (3, None)
    assert epochs_range("..40") == (None, 40)
    for text in ("", "..", "3", "3-40", "-3..4", "a..b", "3...4"):
        with pytest.raises(InfoplaneError, match=r"cannot be read; expected A\.\.B, A\.\. or \.\.B"):
            epochs_range(text)
    with pytest.raises(InfoplaneError, match=r"'40..3' ends before it begins; did you mean 3\.\.40"):
        epochs_range("40..3")
    assert set(between(metrics, 1, 10)["epoch"]) == {1, 10}
    assert set(between(metrics, 10, None)["epoch"]) == {10, 100}
    assert set(between(metrics, None, 1)["epoch"]) == {0, 1}
    assert between(metrics, None, None).equals(metrics)
    late = pd.concat([metrics, make_metrics(runs=("late",), epochs=(500,))], ignore_index=True)
    with pytest.raises(InfoplaneError, match=r"No recorded epoch of late lies in \.\.100; it has 500"):
        between(late, None, 100)


def test_what_the_new_plots_refuse(measurements, metrics):
    frame = make_certificates()
    cases = [
        (lambda: loss(metrics[:0]), r"The frame holds no metrics, so there is nothing to draw"),
        (lambda: loss(metrics.drop(columns=["path", "loss"])), r"lacks the columns path, loss: expected a frame of"),
        (lambda: loss(metrics, unit="bit"), r"Unknown unit 'bit'"),
        (lambda: loss(metrics, epochs=[3]), r"Unknown epoch '3'"),
        (lambda: gap(measurements, metrics[:0]), r"holds no metrics"),
        (lambda: gap(measurements[:0], metrics), r"holds no measurements"),
        (lambda: gap(measurements, metrics, path="nosy"), r"Unknown path of tanh 'nosy'. Did you mean 'noisy'"),
        (lambda: gap(measurements, metrics, epoch=50), r"Unknown epoch of tanh '50'.* Known: 0, 1, 10, 100"),
        (lambda: gap(measurements, metrics, estimator="kdee"), r"Unknown estimator 'kdee'. Did you mean 'kde'"),
        (lambda: gap(measurements, metrics, layers=["hiden1"]), r"Unknown layer 'hiden1'"),
        (lambda: gap(measurements, metrics, layers=["output"]), r"tanh has none of the layers, estimators and epochs"),
        (lambda: gap(measurements, metrics[metrics.epoch == 7]), r"holds no metrics"),
        (lambda: gap(measurements, make_metrics(epochs=(7,))), r"tanh has no epoch with both measurements and metrics"),
        (lambda: gap(measurements, metrics[metrics.split == "train"]), r"Unknown split of .* 'test'.* Known: train"),
        (lambda: certificate(frame[:0]), r"The frame holds no certificates"),
        (lambda: certificate(frame.drop(columns="layer")), r"lacks the columns layer: expected a frame of certif"),
        (lambda: certificate(frame, layers=["hidden2"]), r"Unknown Echo layer 'hidden2'. Did you mean 'hidden2.echo'"),
        (lambda: certificate(frame, epochs=[3]), r"Unknown epoch '3'"),
    ]  # fmt: skip
    for draw, message in cases:
        with pytest.raises(InfoplaneError, match=message):
            draw()
    lacks = measurements[(measurements["run"] == "tanh") | ~measurements["estimator"].isin(["echo", "decoder"])]
    with pytest.raises(InfoplaneError, match=r"relu has none of .* its estimators: kde, binning"):
        gap(lacks, metrics)
    with pytest.raises(InfoplaneError, match=r"relu has none of the layers and epochs asked for. Its layers: a.echo"):
        certificate(pd.concat([frame, make_certificates(run="relu", layers=("a.echo",))]), layers=[ECHO[0]])
    assert not plt.get_fignums()


# the command


def make_taps():
    rows = [
        {
            "run": "tanh", "epoch": epoch, "step": epoch, "replica": replica, "layer": layer, "objective": "label",
            "beta": beta, "value_nats": 0.2 / beta + 0.01 * epoch, "standing": standing,
            "cross_entropy_nats": beta, "distortion": float("nan"),
        }
        for epoch in (1, 10) for replica in (0, 1) for layer in ("hidden1", "hidden2")
        for beta, standing in ((0.1, "upper"), (0.5, "exact"))
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, measurements, metrics):
    """Write a/run and b/run with Echo layers, plain without them, and empty without rows."""
    folder = tmp_path_factory.mktemp("runs")
    tables = {
        "measurements": measurements[measurements["run"] == "tanh"],
        "metrics": metrics[metrics["run"] == "tanh"],
        "certificates": make_certificates(),
        "taps": make_taps(),
        "gradients": make_gradients(),
    }
    for name in ("a/run", "b/run", "plain", "empty"):
        with RunDir.create(folder / name, {}) as run:
            for table, frame in tables.items():
                if name == "plain" and table == "measurements":
                    frame = frame[~frame["estimator"].isin(["echo", "decoder"])]
                if name != "empty" and not (name == "plain" and table in ("certificates", "taps", "gradients")):
                    run.append({table: complete(table, frame)})
    return folder


def complete(table, frame):
    """Return the rows of a frame with all columns of their table.

    Unknown numbers are None, or 0 for whole numbers.
    """
    empty = {name: None if kind in (float, bool) else kind() for name, kind in TABLES[table].columns.items()}
    return [empty | row for row in frame.to_dict("records")]


def call(*arguments):
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


@pytest.mark.parametrize("kind", PLOTS)
def test_every_plot_of_one_run_and_of_two_of_the_same_name(kind, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(kind, runs / "a" / "run")
    assert result.exit_code == 0, result.output
    plot = PLOTS[kind]
    first, last = plot.formats[0], plot.formats[1]
    assert result.output.strip() == str(runs / "a" / "run" / "figures" / f"{kind}.{first}")
    both = [runs / "a" / "run", runs / "b" / "run"]
    drawn = []
    assert set(plot.tables) <= set(TABLES)

    def draw(*frames, **options):
        drawn.append([list(frame["run"].unique()) for frame in frames])
        return plot.draw(*frames, **options)

    class Watched(Plot):
        options = plot.options

    monkeypatch.setitem(PLOTS, kind, Watched(draw, plot.tables, plot.about, plot.save, plot.formats))
    unit = ("--unit", "nats") if "unit" in plot.options else ()
    result = call(kind, *both, "--format", last, "--format", first, "--epochs-range", "1..10", *unit)
    assert result.exit_code == 0, result.output
    assert result.output.split() == [f"{kind}.{last}", f"{kind}.{first}"]
    assert {p.name for p in tmp_path.iterdir()} == {f"{kind}.{last}", f"{kind}.{first}"}
    assert drawn == [[["a/run", "b/run"]] * len(plot.tables)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plain", "a/run"], "Did you mean 'plane'"),
        (["certificates", "a/run"], "Did you mean 'certificate'"),
        (["plane", "empty"], "empty holds no measurements: the run was stopped before its first snapshot."),
        (["loss", "a/run", "empty"], "empty holds no metrics: the run was measured and not trained here"),
        (["certificate", "plain"], "plain holds no certificates: the network has no Echo layers"),
        (["gradients", "plain"], "no gradients: gradients were not recorded (see `infoplane train --gradients`)"),
        (["animation", "a/run", "--format", "png"], "Unknown format 'png'"),
        (["certificate", "a/run", "plain"], "plain holds no certificates: the network has no Echo layers"),
        (["gap", "a/run", "plain"], "plain has none of the layers, estimators and epochs asked for."),
        (["loss", "a/run", "--epochs-range", "200.."], "No recorded epoch of run lies in 200..; it has 0, 1, 10, 100."),
        (["loss", "a/run", "--epochs-range", "2-4"], "expected A..B, A.. or ..B"),
        (["loss", "a/run", "--layers", "output"], "--layers was given, which `plot loss` does not take"),
        (["rates", "a/run", "--epoch", "10"], "does not take; expected --unit, --layers."),
        (["rates", "a/run", "--layers", "hiden1"], "Did you mean 'hidden1'"),
        (["gap", "a/run", "--path", "plain"], "Unknown path of run 'plain'"),
        (["plane", "a/run", "a/run"], "was given twice"),
        (["plane", "a/run", "nowhere"], "no run directory"),
        (["plane", "a/run", "--format", "pgn"], "Did you mean 'png'"),
        (["plane", "a/run", "--unit", "bit"], "Did you mean 'bits'"),
        (["plane"], "Missing argument 'RUN...'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_the_command_refuses(arguments, message, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"a/run", "plain", "empty", "nowhere"}
    result = call(
        arguments[0],
        *[runs / a if a in names and arguments[at] != "--path" else a for at, a in enumerate(arguments[1:])],
    )
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
    assert not plt.get_fignums()


DRAW = """
import sys
import pandas as pd
from infoplane import plot
tables = pd.read_pickle(sys.argv[1])
for name in ("loss", "gap", "certificate"):
    kind = plot.PLOTS[name]
    for ending in ("png", "pdf", "svg"):
        plot.save(kind.draw(*[tables[t] for t in kind.tables]), f"{sys.argv[2]}-{name}.{ending}")
assert "torch" not in sys.modules
"""


def test_the_same_figures_give_the_same_bytes(tmp_path, measurements, metrics):
    tables = {"measurements": measurements, "metrics": metrics, "certificates": make_certificates()}
    pd.to_pickle(tables, tmp_path / "tables.pkl")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "MPLBACKEND": "Agg"}
    drawn = []
    for name, seed in (("first", "1"), ("second", "2")):
        arguments = ["-W", "error", "-c", DRAW, str(tmp_path / "tables.pkl"), str(tmp_path / name)]
        drawn.append(subprocess.Popen([sys.executable, *arguments], env=environment | {"PYTHONHASHSEED": seed}))
        time.sleep(1.1)  # a date in a file counts seconds
    assert [process.wait() for process in drawn] == [0, 0]
    files = sorted(tmp_path.glob("first-*"))
    assert len(files) == 9
    for file in files:
        assert file.read_bytes() == file.with_name(file.name.replace("first", "second")).read_bytes(), file.name


# taps, estimators beside each other, calibration


def test_taps_draw_a_line_an_epoch_and_arrows_at_bounds():
    frame = make_taps()
    fig = taps(frame, unit="nats")
    ax = fig.axes[0]
    assert [ax.get_title(loc="left") for ax in fig.axes[:2]] == ["hidden1", "hidden2"]
    for line, epoch in zip(ax.lines, (1, 10), strict=True):
        own = frame[(frame["layer"] == "hidden1") & (frame["epoch"] == epoch) & (frame["replica"] == 0)]
        np.testing.assert_allclose(line.get_xydata(), own[["value_nats", "cross_entropy_nats"]])
    assert len({line.get_color() for line in ax.lines}) == 2
    found = scattered(ax)
    for epoch in ("1", "10"):
        assert found[epoch, "full"][:, 1].tolist() == [0.5]
        assert found[epoch, "pale"][:, 1].tolist() == [0.1]
        np.testing.assert_array_equal(arrows(ax)[epoch, "x", "upper"], found[epoch, "pale"])
    one = frame["replica"].eq(1) & frame["beta"].eq(0.5)
    frame.loc[one, "standing"] = "upper"  # exact is what every replica is
    assert ("1", "full") not in scattered(taps(frame).axes[0])


NUMBER = {
    "layer": "h.echo", "quantity": "I(Z;X)", "channel": "echo", "estimator": "ksg", "params": "", "side": "",
    "path": "", "standing": "estimate", "value_nats": 2.0, "stderr_nats": 0.5, "warnings": "",
    "truth_nats": 3.0, "n": 100,
}  # fmt: skip


def test_beside_draws_what_speaks_of_the_input_of_noisy_layers():
    rows = pd.DataFrame(
        [
            NUMBER,
            NUMBER | {"estimator": "echo", "standing": "exact", "value_nats": 3.0, "stderr_nats": math.nan},
            NUMBER | {"estimator": "mean-field", "channel": "other noise", "standing": "upper", "value_nats": 4.0},
            NUMBER | {"estimator": "infonce", "standing": "lower", "value_nats": 1.0, "warnings": "untrained"},
            NUMBER | {"estimator": "nwj", "value_nats": math.nan, "warnings": "no-density"},
            NUMBER | {"estimator": "ksg", "side": "null", "value_nats": 9.0},
            NUMBER | {"estimator": "ross", "quantity": "I(T;Y)", "value_nats": 9.0},
            NUMBER | {"estimator": "binning", "channel": "bins", "path": "noise-off", "value_nats": 9.0},
            NUMBER | {"layer": "h", "channel": "bins", "value_nats": 9.0},
        ]
    )
    fig = beside(rows, unit="nats")
    (ax,) = fig.axes
    assert ax.get_title(loc="left") == "h.echo"
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert [name.split(" ")[0] for name in names] == ["ksg", "echo", "mean-field", "infonce", "nwj"]
    assert names[2].endswith("\nother noise")
    found = {key: xy[0].tolist() for key, xy in scattered(ax).items()}
    assert found == {
        ("ksg", "pale"): [2, 0], ("echo", "full"): [3, 1],
        ("mean-field", "pale"): [4, 2], ("infonce", "hollow"): [1, 3],
    }  # fmt: skip
    assert set(arrows(ax)) == {("mean-field", "x", "upper"), ("infonce", "x", "lower")}
    assert [text.get_text() for text in ax.texts] == [" none: no-density"]
    assert [line.get_xdata()[0] for line in ax.lines if line.is_dashed()] == [3.0]
    edges = {
        c.get_label(): to_rgb(c.get_edgecolors()[0]) for c in ax.collections if c.get_label().endswith(("pale", "full"))
    }
    assert len(set(edges.values())) == 3
    with pytest.raises(InfoplaneError, match="no noisy layer"):
        beside(rows[rows["layer"] == "h"])


def test_sweeps_draw_the_upper_bound_with_a_band_down_to_the_lower():
    swept = [
        NUMBER
        | {"layer": layer, "quantity": "I(X;T)", "estimator": "kde", "standing": side, "side": side, "setting": setting}
        | {"value_nats": (3.0 if side == "upper" else 1.0) - setting, "warnings": "noise-off" if setting < 1 else "few"}
        for layer in ("h", "h.echo")
        for setting in (0.1, 1.0)
        for side in ("upper", "lower")
    ]
    fig = sweeps(pd.DataFrame(swept), unit="nats")
    (ax,) = fig.axes
    found = scattered(ax)
    assert found["h", "pale"].tolist() == [[0.1, 2.9]]
    assert found["h", "hollow"].tolist() == [[1.0, 2.0]]
    assert not [key for key in found if key[0] == "h.echo"]
    assert not arrows(ax)  # the other end is there
    points = pd.DataFrame(ax.collections[0].get_paths()[0].vertices).groupby(0)[1]
    np.testing.assert_allclose(points.max() - points.min(), 2.0)
    assert "kde: down to the lower bound" in words(fig)


def make_calibration():
    rows = [
        NUMBER
        | {"channel_name": "c", "family": family, "dimension": d, "points": n, "verdict": "right", "quantity": "I(X;T)"}
        | {"estimator": "kde", "standing": side, "side": side, "value_nats": 3.0 + (0.3 if side == "upper" else -0.6)}
        | {"error_nats": 0.3 if side == "upper" else -0.6, "seed": seed, "warnings": "few" if d == 5 else ""}
        for family in ("neurons", "binary")
        for d in (1, 5)
        for n in (100, 1000)
        for seed in (0, 1)
        for side in ("upper", "lower")
    ]
    exact = NUMBER | {"channel_name": "c", "family": "binary", "dimension": 1, "points": 100, "verdict": "right"}
    exact |= {"estimator": "counting", "standing": "exact", "value_nats": 3.0, "error_nats": 0.0, "seed": 0}
    return pd.DataFrame([*rows, exact, exact | {"quantity": "I(T;Y)", "value_nats": 0.5, "estimator": "ross"}])


def test_calibration_draws_each_number_against_its_truth():
    fig = calibration(make_calibration())
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["kde", "counting"]
    kde, counting = map(scattered, fig.axes)
    assert {tuple(xy) for key in (("neurons", "pale"), ("neurons", "hollow")) for xy in kde[key]} == {
        (3, 3.3),
        (3, 2.4),
    }
    assert list(counting) == [("binary", "full")]
    assert {key[2]: {y for _, y in xy} for key, xy in arrows(fig.axes[0]).items()} == {"upper": {3.3}, "lower": {2.4}}
    colors = {to_rgb(c.get_edgecolors()[0]) for c in fig.axes[0].collections if c.get_label().endswith("pale")}
    assert len(colors) == 2
    labels = calibration(make_calibration(), quantity="I(T;Y)")
    assert [ax.get_title(loc="left") for ax in labels.axes] == ["ross"]


def test_errors_of_the_two_ends_of_a_bracket_are_two_lines():
    fig = calibration_errors(make_calibration(), channel="c")
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["N = 100", "D = 1", "D = 5"]
    lines = [line.get_ydata() for line in fig.axes[0].lines if line.is_dashed()]
    np.testing.assert_allclose(sorted(y for line in lines for y in line), [-20, -20, 10, 10])
    assert {key[2] for key in arrows(fig.axes[0])} == {"upper", "lower"}
    assert {"kde, upper", "kde, lower", "counting"} < set(words(fig))
    found = scattered(fig.axes[0])
    assert {kind for _, kind in found} == {"pale", "hollow", "full"}


def test_the_replicas_of_runs_are_said_where_they_differ(metrics):
    fewer = metrics[(metrics["run"] == "tanh") | (metrics["replica"] < 2)]
    assert [ax.get_title() for ax in loss(fewer).axes] == ["tanh, 5 replicas"] * 2 + ["relu, 2 replicas"] * 2
    assert "s.d. over replicas" in words(loss(fewer))
    assert "s.d. over replicas (5)" in words(loss(metrics))
    frame = pd.concat([make_certificates(), make_certificates(run="relu", replicas=2)])
    fig = certificate(frame)
    assert [fig.axes[at].get_title(loc="left") for at in (-4, -2)] == [
        "tanh: conditions that hold (5 replicas)", "relu: conditions that hold (2 replicas)",
    ]  # fmt: skip
    rows = pd.concat([make_gradients(), make_gradients(run="relu", replicas=1)])
    titles = [ax.get_title(loc="left") for ax in gradients(rows).axes[::2]]
    assert titles == ["tanh, over 13 minibatches, 3 replicas", "relu, over 13 minibatches, 1 replica"]
