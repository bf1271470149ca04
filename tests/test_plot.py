import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb

from infoplane.plot import in_unit, plane, rates, save
from infoplane.plot.style import (
    STANDINGS,
    epoch_colors,
    epoch_norm,
    epoch_ticks,
    estimator_colors,
    layer_colors,
    layer_markers,
)
from infoplane.records import COLUMNS, UNITS, WARNINGS, InfoplaneError

ROOT = Path(__file__).parents[1]
BIT = math.log(2)
N = 4096
H_Y = 0.999157 * BIT
EPOCHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 400)
HIDDEN = ("hidden1", "hidden2", "hidden3", "hidden4", "hidden5", "output")
MARKS = ("_exact", "_upper-x only", "_lower-x only", "_upper-y only", "_lower-y only")
ECHO = ("hidden2.echo", "hidden4.echo")


def make(epochs=EPOCHS, replicas=3, runs=("tanh",), layers=HIDDEN, seed=0):
    """Rows as the Recorder makes them: KDE brackets, binned values and two Echo layers; the course is that of tanh."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in runs:
        for replica in range(replicas):
            wobble = rng.normal(0, 0.15, 2)
            for epoch in epochs:
                t = math.log1p(epoch) / math.log(401)
                place = dict(run=run, epoch=epoch, step=13 * epoch, replica=replica, probe="all", n=N)
                place |= dict(law="these N points", stderr_nats=math.nan, error_nats=0.0)
                for depth, layer in enumerate(layers):
                    x = math.log(N) * (1 - 0.14 * depth + 0.4 * t * (1 - t) - 0.05 * depth * t) + depth * wobble[0] / 3
                    x = min(x, math.log(N) - 0.01)
                    y = H_Y * min(0.99, 0.25 + 0.7 * t + 0.4 / (1 + depth))
                    rows += both(place, layer, x, y, depth, epoch)
                rows += echo(
                    place, 5.2 - 2.2 * t + wobble[0], 3.1 - 1.4 * t + wobble[1] / 2, H_Y * 0.95 * t**0.7, epoch
                )
    return pd.DataFrame(rows)[list(COLUMNS)]


def both(place, layer, x, y, depth, epoch):
    """KDE and binning rows of one layer; a noisy one (beyond an Echo layer) has estimates of I(T;Y) and no bracket."""
    kde = place | dict(layer=layer, estimator="kde", channel="noise 0.001", params="noise_variance=0.001")
    warned = "self-weight" if x > 0.8 * math.log(N) else ""
    half = 0.3 * (1 - x / math.log(N))
    noisy = depth > 2
    rows = [
        kde | dict(quantity="I(X;T)", value_nats=v, standing=s, ceiling_nats=math.log(N), warnings=warned)
        for s, v in (("upper", x + half), ("lower", x - half))
    ]
    for side, v in (("upper", min(H_Y, y + 0.1)), ("lower", y - 0.1)):
        params = f"noise_variance=0.001,bound={side}" if noisy else kde["params"]
        standing = "estimate" if noisy else side
        end = dict(quantity="I(T;Y)", value_nats=v, standing=standing, params=params, ceiling_nats=H_Y, warnings=warned)
        rows.append(kde | end)
    binned = place | dict(
        layer=layer, estimator="binning", channel="bins of 0.07", params="width=0.07", standing="estimate"
    )
    warned = "mostly-unique;sparse-cells" if depth < 2 else "sparse-cells" if epoch < 5 else ""
    for quantity, value, ceiling in (("I(X;T)", x * 0.99, math.log(N)), ("I(T;Y)", y, H_Y)):
        rows.append(binned | dict(quantity=quantity, value_nats=value, ceiling_nats=ceiling, warnings=warned))
    return rows


def echo(place, first, second, label, epoch):
    exact = epoch >= 10
    row = place | dict(channel="echo", estimator="echo", params="r=0.9155", error_nats=1e-3)
    of_x = row | dict(quantity="I(Z;X)", ceiling_nats=math.log(N))
    rows = [
        of_x
        | dict(
            layer=ECHO[0],
            value_nats=first,
            standing="exact" if exact else "upper",
            warnings="" if exact else "resolution",
        ),
        row
        | dict(
            layer=ECHO[1], quantity="I(Z2;Z1)", value_nats=second, standing="exact", ceiling_nats=math.nan, warnings=""
        ),
        of_x | dict(layer=ECHO[1], value_nats=min(first, second), standing="upper", warnings="chain"),
    ]
    for layer in ECHO:
        of_y = row | dict(layer=layer, quantity="I(Z;Y)", params="", ceiling_nats=H_Y, warnings="")
        rows.append(of_y | dict(estimator="decoder", value_nats=label, standing="lower"))
        rows.append(of_y | dict(value_nats=min(H_Y, second), standing="upper"))
    return rows


@pytest.fixture
def frame():
    return make()


@pytest.fixture(autouse=True)
def _no_figure_is_left():
    matplotlib.use("Agg")
    assert not plt.get_fignums()
    yield
    plt.close("all")


def panel(fig, title):
    (ax,) = (ax for ax in fig.axes if ax.get_title().startswith(title))
    return ax


def scattered(ax):
    """{(layer, hollow): offsets} of the markers."""
    found = {}
    for collection in ax.collections:
        if isinstance(collection, PathCollection) and collection.get_label() not in MARKS:
            layer, _, warned = collection.get_label().removeprefix("_").partition(" ")
            hollow = len(collection.get_facecolors()) == 0
            assert hollow == bool(warned)
            found[layer, hollow] = np.asarray(collection.get_offsets())
    return found


def mean_bits(frame, **where):
    rows = frame[np.logical_and.reduce([frame[name] == value for name, value in where.items()])]
    return rows.groupby("epoch")["value_nats"].mean().to_numpy() / BIT


# the plane


def test_the_points_are_the_means_over_replicas_in_bits(frame):
    fig = plane(frame)
    assert [ax.get_title() for ax in fig.axes] == ["kde, noise 0.001", "binning, bins of 0.07", "echo", ""]
    found = scattered(panel(fig, "binning"))
    for layer in HIDDEN:
        own = frame[(frame.estimator == "binning") & (frame.layer == layer)]
        x, y = (mean_bits(own, quantity=quantity) for quantity in ("I(X;T)", "I(T;Y)"))
        parts = [found[layer, hollow] for hollow in (True, False) if (layer, hollow) in found]
        points = np.concatenate(parts)
        np.testing.assert_allclose(points[np.argsort(points[:, 1])], np.c_[x, y][np.argsort(y)], rtol=1e-12)
    assert {layer for layer, _ in found} == set(HIDDEN)


def test_a_bracket_is_drawn_at_the_end_asked_for(frame):
    own = frame[(frame.estimator == "kde") & (frame.layer == "hidden5")]
    sides = {}
    for side in ("upper", "lower"):
        x = mean_bits(own, quantity="I(X;T)", standing=side)
        y = mean_bits(own[own.params.str.endswith(f"bound={side}")], quantity="I(T;Y)")
        sides[side] = np.c_[x, y]
    sides["mid"] = (sides["upper"] + sides["lower"]) / 2
    for bound, expected in sides.items():
        ax = plane(frame, estimator="kde", bound=bound).axes[0]
        np.testing.assert_allclose(scattered(ax)["hidden5", False], expected, rtol=1e-12)
    bars = {c.get_label(): np.array(c.get_segments()) for c in ax.collections if c.get_label().startswith("_bars")}
    last = -1  # the last layer of the last epoch
    deepest = frame[(frame.estimator == "kde") & (frame.layer == "output") & (frame.epoch == 400)]
    for axis, quantity in (("x", "I(X;T)"), ("y", "I(T;Y)")):
        values = deepest[deepest.quantity == quantity].groupby(["standing", "params"]).value_nats.mean() / BIT
        along = bars[f"_bars {axis}"][last][:, "xy".index(axis)]
        np.testing.assert_allclose(sorted(along), sorted(values), rtol=1e-12)


def test_many_epochs_have_bars_at_the_ticks_only(frame):
    def drawn(epochs):
        ax = plane(frame, estimator="kde", epochs=epochs).axes[0]
        return [len(c.get_segments()) for c in ax.collections if c.get_label() == "_bars x"]

    assert drawn(EPOCHS[:8]) == [8 * len(HIDDEN)]
    assert drawn(EPOCHS) == [5 * len(HIDDEN)]  # 0, 1, 10, 100, 400


def test_hollow_means_warned(frame):
    found = scattered(panel(plane(frame, estimator="binning"), "binning"))
    assert len(found["hidden1", True]) == len(EPOCHS)
    assert ("hidden1", False) not in found
    assert len(found["hidden4", True]) == 3  # epochs 0, 1, 2
    assert len(found["hidden4", False]) == len(EPOCHS) - 3
    # one end of a bracket is enough
    end = (frame.layer == "hidden5") & (frame.quantity == "I(X;T)") & (frame.standing == "upper") & (frame.epoch == 400)
    frame.loc[end, "warnings"] = "at-ceiling"
    assert len(scattered(plane(frame, estimator="kde").axes[0])["hidden5", True]) == 1
    # one replica is enough
    one = (frame.replica == 1) & (frame.layer == "hidden4") & (frame.epoch == 400) & (frame.quantity == "I(T;Y)")
    frame.loc[one & (frame.estimator == "binning"), "warnings"] = next(iter(WARNINGS))
    assert len(scattered(panel(plane(frame, estimator="binning"), "binning"))["hidden4", True]) == 4


def test_the_colour_is_the_epoch(frame):
    fig = plane(frame)
    cmap, norm = epoch_colors(), epoch_norm(EPOCHS)
    for collection in panel(fig, "kde").collections:
        if collection.get_label() == "_hidden5":
            np.testing.assert_allclose(collection.get_facecolors(), cmap(norm(EPOCHS)))
    bar = fig.axes[-1]
    assert bar.get_ylabel() == "epoch"
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "1", "10", "100", "400"]


def test_a_line_joins_the_layers_of_an_epoch(frame):
    ax = panel(plane(frame, estimator="binning"), "binning")
    found = scattered(ax)
    lines = [line for line in ax.lines if len(line.get_xdata()) == len(HIDDEN)]
    assert len(lines) == len(EPOCHS)
    cmap, norm = epoch_colors(), epoch_norm(EPOCHS)
    for epoch, line in zip(EPOCHS, lines, strict=True):
        assert tuple(line.get_color()) == tuple(cmap(norm(epoch)))
        for layer, point in zip(HIDDEN, line.get_xydata(), strict=True):
            assert any((point == own).all() for (name, _), offsets in found.items() if name == layer for own in offsets)


def test_each_replica_is_a_faint_line(frame):
    def paths(frame):
        ax = panel(plane(frame, estimator="binning"), "binning")
        return [c.get_segments() for c in ax.collections if c.get_label() == "_replicas"]

    (found,) = paths(frame)
    assert len(found) == 3 * len(HIDDEN)
    one = frame[(frame.estimator == "binning") & (frame.layer == "hidden1") & (frame.replica == 0)]
    expected = [one[one.quantity == q].value_nats.to_numpy() / BIT for q in ("I(X;T)", "I(T;Y)")]
    np.testing.assert_allclose(found[0], np.c_[tuple(expected)], rtol=1e-12)
    assert paths(frame[frame.replica == 0]) == []


@pytest.mark.parametrize("unit", ["bits", "nats"])
def test_the_ceilings_are_dashed(frame, unit):
    fig = plane(frame, unit=unit)
    ax = panel(fig, "kde")
    dashed = [line for line in ax.lines if line.is_dashed()]
    (across,), (up,) = ([line for line in dashed if len(set(get(line))) == 1] for get in (ydata, xdata))
    assert ydata(across)[0] == pytest.approx(H_Y / UNITS[unit])
    assert xdata(up)[0] == pytest.approx(math.log(N) / UNITS[unit])
    texts = [text.get_text() for text in ax.texts]
    assert (
        texts
        == {
            "bits": [r"$\ln N$ = 12 bits", "$H(Y)$ = 0.999 bits"],
            "nats": [r"$\ln N$ = 8.32 nats", "$H(Y)$ = 0.693 nats"],
        }[unit]
    )
    assert ax.get_xlabel() == f"$I(X;T)$ [{unit}]"
    assert ax.get_ylabel() == f"$I(T;Y)$ [{unit}]"
    frame["ceiling_nats"] = math.nan
    assert not [line for line in panel(plane(frame, estimator="kde"), "kde").lines if line.is_dashed()]
    frame["ceiling_nats"] = 5.0
    assert panel(plane(frame, estimator="kde"), "kde").texts[0].get_text() == r"$\mathrm{ceiling}$ = 7.21 bits"


def xdata(line):
    return list(line.get_xdata())


def ydata(line):
    return list(line.get_ydata())


def test_the_panels_share_their_limits(frame):
    axes = plane(frame).axes[:-1]
    for a, b in pairwise(axes):
        assert a.get_xlim() == b.get_xlim()
        assert a.get_ylim() == b.get_ylim()
    for ax in axes:
        for offsets in scattered(ax).values():
            assert (offsets >= (ax.get_xlim()[0], ax.get_ylim()[0])).all()
            assert (offsets <= (ax.get_xlim()[1], ax.get_ylim()[1])).all()
        for collection in ax.collections:
            if isinstance(collection, LineCollection):
                assert all(segment[:, 1].min() >= ax.get_ylim()[0] for segment in collection.get_segments())


def test_the_echo_panel_puts_the_decoders_bound_below_its_own(frame):
    ax = panel(plane(frame, estimator="echo"), "echo")
    assert ax.get_xlabel() == "$I(Z;X)$ [bits]"
    assert ax.get_ylabel() == "$I(Z;Y)$ [bits]"
    found = scattered(ax)
    assert set(found) == {(ECHO[0], True), (ECHO[0], False), (ECHO[1], True)}  # the second is a chain
    own = frame[frame.layer == ECHO[1]]
    x = mean_bits(own, quantity="I(Z;X)")
    y = (mean_bits(own, estimator="decoder") + mean_bits(own, quantity="I(Z;Y)", standing="upper")) / 2
    np.testing.assert_allclose(found[ECHO[1], True], np.c_[x, y], rtol=1e-12)


def test_a_replica_that_diverged_is_left_out_of_the_mean(frame):
    lost = (frame.replica == 2) & (frame.epoch == 400)
    without = plane(frame[~lost], estimator="binning")
    frame.loc[lost, "value_nats"] = math.nan
    frame.loc[lost, "warnings"] = "non-finite"
    found = scattered(plane(frame, estimator="binning").axes[0])
    np.testing.assert_allclose(found["output", True][-1], scattered(without.axes[0])["output", False][-1], rtol=1e-12)


def test_an_end_that_one_replica_lacks_is_not_the_end_of_the_mean(frame):
    one = frame[(frame.estimator == "kde") & (frame.replica == 1) & (frame.standing == "lower")]
    ax = plane(frame.drop(one.index), estimator="kde", epochs=[400]).axes[0]
    assert [len(c.get_segments()) for c in ax.collections if c.get_label() == "_bars x"] == [0]


def test_layers_and_epochs_can_be_chosen(frame):
    ax = plane(frame, estimator="binning", layers=["hidden2", "output"], epochs=[0, 400]).axes[0]
    found = scattered(ax)
    assert {layer for layer, _ in found} == {"hidden2", "output"}
    assert sum(map(len, found.values())) == 4
    markers = layer_markers(dict.fromkeys(frame.layer))
    legend = ax.figure.legends[0]
    by_name = dict(zip((t.get_text() for t in legend.get_texts()), legend.legend_handles, strict=True))
    assert by_name["output"].get_marker() == markers["output"] != by_name["hidden2"].get_marker()


def test_a_row_of_panels_for_each_run():
    fig = plane(make(runs=("tanh", "relu"), replicas=1, epochs=(0, 10)))
    titles = [ax.get_title() for ax in fig.axes[:-1]]
    assert titles[0] == "kde, noise 0.001\ntanh"
    assert titles[-1] == "echo\nrelu"
    assert len(titles) == 6


def test_one_axes_takes_one_panel(frame):
    fig, (left, right) = plt.subplots(1, 2)
    assert plane(frame, ax=left, estimator="kde") is left
    assert plt.get_fignums() == [fig.number]
    assert len(fig.axes) == 3  # and a colour bar
    assert left.get_legend() is not None
    with pytest.raises(InfoplaneError, match=r"There are 3 panels to draw and one Axes: choose estimator= \(kde, binn"):
        plane(frame, ax=right)
    with pytest.raises(InfoplaneError, match=r"There are 2 panels .* choose one run \(a, b\)"):
        plane(make(runs=("a", "b"), epochs=(0, 1)), ax=right, estimator="kde")


def test_one_epoch_and_one_replica_and_no_echo():
    frame = make(epochs=(7,), replicas=1)
    fig = plane(frame[frame.estimator == "binning"])
    assert sum(map(len, scattered(fig.axes[0]).values())) == len(HIDDEN)
    assert [label.get_text() for label in fig.axes[-1].get_yticklabels()] == ["7"]
    assert len(rates(frame).axes) == 3


def test_several_settings_of_an_estimator_have_panels_of_their_own(frame):
    wide = frame[frame.estimator == "kde"].assign(
        params=lambda f: f.params.str.replace("0.001", "0.1"), channel="noise 0.1"
    )
    fig = plane(pd.concat([frame, wide]))
    titles = [ax.get_title() for ax in fig.axes[:-1]]
    assert titles == ["kde, noise_variance=0.001", "binning, bins of 0.07", "echo", "kde, noise_variance=0.1"]
    assert [tuple(ax.get_subplotspec().rowspan) for ax in fig.axes[:-1]] == [(0,), (0,), (0,), (1,)]
    assert [bool(ax.get_xlabel()) for ax in fig.axes[:-1]] == [False, True, True, True]
    assert [ax.xaxis.get_tick_params()["labelbottom"] for ax in fig.axes[:-1]] == [False, True, True, True]


# information against epoch


def test_rates_has_a_panel_for_each_way_of_measuring(frame):
    fig = rates(frame)
    titles = ["echo", "kde, noise 0.001", "binning, bins of 0.07"]
    assert [ax.get_title() for ax in fig.axes] == titles
    assert [ax.get_ylabel() for ax in fig.axes] == ["rate [bits]", "$I(X;T)$ [bits]", ""]
    for ax in fig.axes:
        assert ax.get_xlabel() == "epoch"
        assert ax.get_xlim()[0] < 0
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "10", "100", "400"]
        assert ax.get_ylim() == fig.axes[0].get_ylim()
        (ceiling,) = [line for line in ax.lines if line.is_dashed() and len(set(ydata(line))) == 1]
        assert ydata(ceiling)[0] == pytest.approx(12)
        assert [(text.get_text(), text.get_position()[0]) for text in ax.texts] == [(r"$\ln N$", 1.01)]


def test_rates_begins_at_zero_or_at_what_is_less(frame):
    assert rates(frame, layers=["hidden2"]).axes[0].get_ylim()[0] == 0
    frame.loc[(frame.estimator == "binning") & (frame.layer == "output"), "value_nats"] -= 5
    for ax in rates(frame).axes:
        assert ax.get_ylim()[0] < -5


def markers_of(ax, color, marker):
    return {
        line.get_label(): line
        for line in ax.lines
        if line.get_marker() == marker and to_rgb(line.get_color()) == pytest.approx(color)
    }


def test_exact_with_a_warning_is_half_filled_and_no_bound(frame):
    last = (frame["layer"] == ECHO[0]) & (frame["quantity"] == "I(Z;X)") & (frame["epoch"] == 400)
    fig = rates(frame.assign(warnings=frame["warnings"].mask(last, "collapsed")))
    circles = [line for line in panel(fig, "echo").lines if line.get_marker() == "o"]
    found = {(line.get_label(), line.get_fillstyle()): line for line in circles}
    assert xdata(found["_exact", "bottom"]) == [400]
    assert xdata(found["_exact", "full"])[-1] == 200
    labels = [text.get_text() for text in fig.legends[0].get_texts()]
    assert "exact, warned" in labels
    assert "exact, warned" not in [text.get_text() for text in rates(frame).legends[0].get_texts()]


def test_exact_is_filled_and_solid_and_a_bound_is_hollow_and_dashed(frame):
    ax = rates(frame).axes[0]
    color = layer_colors(dict.fromkeys(frame.layer))[ECHO[0]]
    found = markers_of(ax, color, "o")
    assert {kind: line.get_fillstyle() for kind, line in found.items()} == {"_upper": "none", "_exact": "full"}
    assert xdata(found["_upper"]) == [0, 1, 2, 5]
    assert xdata(found["_exact"]) == [10, 20, 50, 100, 200, 400]
    expected = mean_bits(frame[frame.layer == ECHO[0]], quantity="I(Z;X)")
    np.testing.assert_allclose(ydata(found["_upper"]) + ydata(found["_exact"]), expected, rtol=1e-12)
    lines = [line for line in ax.lines if line.get_linestyle() != "None" and to_rgb(line.get_color()) == color]
    stretches = {tuple(xdata(line)): line.is_dashed() for line in lines}
    assert stretches == {(0, 1, 2, 5, 10): True, (10, 20, 50, 100, 200, 400): False}


def test_exact_is_what_every_replica_is(frame):
    one = (frame.layer == ECHO[0]) & (frame.quantity == "I(Z;X)") & (frame.epoch == 400) & (frame.replica == 0)
    frame.loc[one, ["standing", "warnings"]] = ["upper", "near-ceiling"]
    ax = rates(frame).axes[0]
    color = layer_colors(dict.fromkeys(frame.layer))[ECHO[0]]
    assert xdata(markers_of(ax, color, "o")["_upper"]) == [0, 1, 2, 5, 400]
    lines = [line for line in ax.lines if line.get_linestyle() != "None" and to_rgb(line.get_color()) == color]
    assert {tuple(xdata(line)): line.is_dashed() for line in lines}[200, 400]


def test_quantities_of_one_echo_layer_have_markers_of_their_own(frame):
    color = layer_colors(dict.fromkeys(frame.layer))[ECHO[1]]
    ax = rates(frame).axes[0]
    (chain,) = markers_of(ax, color, "o").values()
    (neighbour,) = markers_of(ax, color, "s").values()
    assert chain.get_fillstyle() == "none"
    assert neighbour.get_fillstyle() == "full"
    own = frame[frame.layer == ECHO[1]]
    np.testing.assert_allclose(ydata(neighbour), mean_bits(own, quantity="I(Z2;Z1)"), rtol=1e-12)
    names = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert [*HIDDEN, *ECHO] == names[: len(HIDDEN) + len(ECHO)]
    assert {"$I(Z;X)$", "$I(Z_{2};Z_{1})$", "exact", "upper bound"} < set(names)
    assert {"kde: lower to upper bound", "kde: single replicas"} < set(names)
    assert any(name.endswith("s.d. over 3 replicas") for name in names)


def test_the_legend_says_how_many_replicas_each_run_has(frame):
    fewer = frame[frame.replica < 2].assign(run="fewer")
    alone = frame[frame.replica < 1].assign(run="alone")
    for runs, said in (([frame, fewer], "2 to 3"), ([frame, alone], "1 to 3"), ([fewer], "2")):
        names = [text.get_text() for text in rates(pd.concat(runs)).legends[0].get_texts()]
        assert any(name.endswith(f"s.d. over {said} replicas") for name in names)
        names = [text.get_text() for text in plane(pd.concat(runs)).legends[0].get_texts()]
        assert f"single replicas ({said})" in names
    assert not any("replicas" in text.get_text() for text in rates(alone).legends[0].get_texts())


def edges(band):
    """(epoch, low, high) of a fill_between."""
    points = pd.DataFrame(band.get_paths()[0].vertices, columns=["x", "y"]).groupby("x").y
    return points.min(), points.max()


def test_bands(frame):
    fig = rates(frame)
    kde, binning = fig.axes[1:]
    own = frame[(frame.layer == "hidden4") & (frame.quantity == "I(X;T)")]
    fill = [c for c in kde.collections if not isinstance(c, LineCollection)][HIDDEN.index("hidden4")]
    for edge, side in zip(edges(fill), ("lower", "upper"), strict=True):
        np.testing.assert_allclose(edge, mean_bits(own, estimator="kde", standing=side), rtol=1e-12)
    by_epoch = own[own.estimator == "binning"].groupby("epoch").value_nats
    low, high = edges(binning.collections[HIDDEN.index("hidden4")])
    np.testing.assert_allclose(high - low, 2 * by_epoch.std().to_numpy() / BIT, rtol=1e-9)
    np.testing.assert_allclose((high + low) / 2, by_epoch.mean().to_numpy() / BIT, rtol=1e-12)
    faint = [c for c in kde.collections if c.get_label() == "_replicas"]
    assert [len(c.get_segments()) for c in faint] == [3] * len(HIDDEN)
    assert not [c for c in binning.collections if c.get_label() == "_replicas"]


def test_a_layer_has_one_colour_in_every_panel(frame):
    colors = layer_colors(dict.fromkeys(frame.layer))
    kde, binning = rates(frame).axes[1:]
    solid = [[line for line in ax.lines if line.get_linestyle() == "-"] for ax in (kde, binning)]
    for layer, *lines in zip(HIDDEN, *solid, strict=True):
        assert {to_rgb(line.get_color()) for line in lines} == {colors[layer]}
    alone = rates(frame, layers=["output"]).axes[0]
    assert to_rgb(alone.lines[0].get_color()) == colors["output"]


def test_rates_of_one_panel_and_several_runs():
    frame = make(runs=("tanh", "relu"), epochs=(1, 3, 9), replicas=1)
    fig = rates(frame[frame.estimator == "binning"])
    assert [ax.get_title().partition("\n")[2] for ax in fig.axes] == ["tanh", "relu"]
    assert fig.axes[0].get_xlim()[0] > 0  # no epoch 0: an ordinary logarithm
    assert [ax.get_xlabel() for ax in fig.axes] == ["epoch", "epoch"]  # side by side, on one scale
    assert [ax.get_ylabel() for ax in fig.axes] == ["$I(X;T)$ [bits]", ""]
    assert fig.axes[0].get_ylim() == fig.axes[1].get_ylim()
    assert [label.get_text() for label in fig.axes[1].get_xticklabels()] == ["1", "9"]


def test_one_panel_of_many_runs_fills_rows_of_three():
    frame = make(runs=tuple("abcde"), epochs=(0, 10), replicas=1)
    axes = plane(frame, estimator="kde").axes[:-1]
    places = [(ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in axes]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert [ax.get_title()[-1] for ax in axes] == list("abcde")
    assert [bool(ax.get_xlabel()) for ax in axes] == [False, False, True, True, True]
    four = plane(frame[frame.run != "e"], estimator="kde").axes[:-1]
    assert [(s.rowspan.start, s.colspan.start) for s in (ax.get_subplotspec() for ax in four)] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip


# what cannot be drawn


@pytest.mark.parametrize("plot", [plane, rates])
def test_what_the_frame_does_not_hold(frame, plot):
    cases = [
        (frame[:0], {}, r"The frame holds no measurements; there is nothing to draw"),
        (
            frame.drop(columns=["law", "layer"]),
            {},
            r"The frame lacks the columns layer, law: expected a frame of measurem",
        ),
        (frame, {"layers": ["hiden1"]}, r"Unknown layer 'hiden1'. Did you mean 'hidden1'"),
        (frame, {"unit": "bit"}, r"Unknown unit 'bit'. Did you mean 'bits'\? Known: bits, nats"),
        (frame, {"epochs": [0, 3]}, r"Unknown epoch '3'.* Known: 0, 1, 2, 5, 10"),
        (
            pd.concat([frame, frame.assign(probe="test")]),
            {},
            r"The frame holds the probes all, test, which are not to be averaged\. Choose one, e\.g\. frame\[frame",
        ),
        (
            pd.concat([frame, frame[frame.estimator == "binning"].assign(channel="noise-off")], ignore_index=True),
            {},
            r"holds 2 values of I\(X;T\) of layer 'hidden1' at epoch 0, replica 0, which differ in channel\. Keep one",
        ),
        (
            pd.concat([frame, frame[frame.standing == "exact"].assign(standing="upper")], ignore_index=True),
            {},
            r"holds 2 values of I\(Z2;Z1\) .* which differ in standing\. Keep one",
        ),
    ]
    for bad, options, message in cases:
        with pytest.raises(InfoplaneError, match=message):
            plot(bad, **options)
    assert not plt.get_fignums()


def test_what_the_plane_alone_refuses(frame):
    with pytest.raises(
        InfoplaneError, match=r"Unknown estimator 'kdee'. Did you mean 'kde'\? Known: kde, binning, echo"
    ):
        plane(frame, estimator="kdee")
    with pytest.raises(InfoplaneError, match=r"Unknown quantity 'I\(T;Z\)'. Did you mean"):
        plane(frame, y="I(T;Z)")
    with pytest.raises(InfoplaneError, match=r"Unknown bound 'low'. Did you mean 'lower'\? Known: mid, lower, upper"):
        plane(frame, bound="low")
    with pytest.raises(InfoplaneError, match=r"No estimator has both I\(X;T\) and I\(Z;Y\) of one layer"):
        plane(frame[frame.quantity != "I(Z;X)"], y="I(Z;Y)")
    with pytest.raises(InfoplaneError, match=r"holds neither rates of Echo layers nor I\(X;T\)"):
        rates(frame[frame.quantity == "I(T;Y)"])


# style


def test_in_unit(frame):
    bits = in_unit(frame, "bits")
    np.testing.assert_allclose(bits["value"] * BIT, frame["value_nats"], rtol=1e-15)
    assert {"value", "stderr", "error", "ceiling"} < set(bits.columns)
    assert "value_nats" in frame.columns
    assert "value_nats" not in bits.columns


def test_colours_and_markers():
    colors = layer_colors(["a", "b", "b.echo", "c"])
    assert colors["a"] == layer_colors(["a"])["a"]
    assert colors["b.echo"] == tuple(0.62 * c for c in colors["b"])
    assert len(set(layer_colors([f"l{i}" for i in range(30)]).values())) == 30
    assert len(set(layer_markers(map(str, range(14))).values())) == 14
    assert estimator_colors(["kde"])["kde"] == estimator_colors(["binning", "kde"])["kde"]
    assert len(set(estimator_colors(["kde", "binning", "echo", "mine"]).values())) == 4
    assert list(STANDINGS) == ["exact", "upper", "lower", "estimate"]
    assert len(set(map(str, STANDINGS.values()))) == 4


def test_epoch_ticks():
    assert epoch_ticks([0, 400]) == [0, 1, 10, 100, 400]
    assert epoch_ticks([1, 120]) == [1, 10, 100]
    assert epoch_ticks([0]) == [0]
    assert epoch_ticks([30, 40]) == [40]
    assert epoch_ticks([22, 100]) == [22, 100]
    assert epoch_norm([0, 100])(0) == 0
    assert epoch_norm([1, 100])(10) == pytest.approx(0.5)


def test_drawing_leaves_the_users_settings_alone(frame):
    before = dict(matplotlib.rcParams)
    plane(frame, estimator="kde")
    rates(frame)
    assert dict(matplotlib.rcParams) == before


def test_importing_the_plots_loads_no_torch_and_picks_no_backend():
    code = (
        "import sys, matplotlib, infoplane.plot;"
        "print('torch' in sys.modules, matplotlib.rcParams._get_backend_or_none())"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    out = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert out.split() == ["False", "None"]


# files

DRAW = """
import sys
import pandas as pd
from infoplane import plot
frame = pd.read_pickle(sys.argv[1])
for name, draw, kinds in (("plane", plot.plane, ("png", "pdf", "svg")), ("rates", plot.rates, ("svg",))):
    figure = draw(frame)
    for kind in kinds:
        plot.save(figure, f"{sys.argv[2]}-{name}.{kind}")
"""


def test_the_same_figure_gives_the_same_bytes(tmp_path, monkeypatch):
    make(epochs=(0, 1, 10), replicas=2, layers=HIDDEN[:3]).to_pickle(tmp_path / "frame.pkl")
    arguments = [str(tmp_path / "frame.pkl"), str(tmp_path / "first")]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, "-W", "error", "-c", DRAW, *arguments], check=True, env=environment)
    time.sleep(1.1)  # a date in a file counts seconds
    monkeypatch.setattr(sys, "argv", ["", arguments[0], str(tmp_path / "second")])
    exec(DRAW, {})
    files = sorted(tmp_path.glob("first-*"))
    assert len(files) == 4
    for file in files:
        assert file.read_bytes() == file.with_name(file.name.replace("first", "second")).read_bytes(), file.name
    # fonts are embedded as TrueType, which publishers ask for
    assert b"/Type3" not in (tmp_path / "first-plane.pdf").read_bytes()


def test_files_that_cannot_be_written(frame, tmp_path):
    fig = plt.figure()
    assert save(fig, tmp_path / "a.PNG") == tmp_path / "a.PNG"
    with pytest.raises(InfoplaneError, match=r"Unknown figure format 'jpg'.* Known: png, pdf, svg"):
        save(fig, tmp_path / "a.jpg")
    with pytest.raises(InfoplaneError, match=r"Cannot write .*absent/a\.png: No such file or directory"):
        save(fig, tmp_path / "absent" / "a.png")
