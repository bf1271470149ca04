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
from PIL import Image

from infoplane.analysis import in_unit
from infoplane.analysis.points import base_layers, chosen, curves, noisy_layers, points
from infoplane.errors import InfoplaneError
from infoplane.plot import files, plane, rates, save
from infoplane.plot.legend import Legend
from infoplane.plot.style import (
    epoch_colors,
    epoch_norm,
    epoch_ticks,
    estimator_colors,
    fill_of,
    layer_colors,
    layer_markers,
    marks,
    pale,
)
from infoplane.records import COLUMNS, UNITS
from infoplane.warning_codes import WARNINGS

ROOT = Path(__file__).parents[2]
BIT = math.log(2)
N = 4096
H_Y = 0.999157 * BIT
EPOCHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 400)
HIDDEN = ("hidden1", "hidden2", "hidden3", "hidden4", "hidden5", "output")
ECHO = ("hidden2.echo", "hidden4.echo")


def make(epochs=EPOCHS, replicas=3, runs=("tanh",), layers=HIDDEN, seed=0):
    """Return rows as a Recorder makes them: KDE brackets, binned values and two Echo layers.

    They follow the course of a tanh network.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for run in runs:
        for replica in range(replicas):
            wobble = rng.normal(0, 0.15, 2)
            for epoch in epochs:
                t = math.log1p(epoch) / math.log(401)
                place = dict(run=run, epoch=epoch, step=13 * epoch, replica=replica, probe="all", n=N)
                place |= dict(law="these N points", stderr_nats=math.nan, error_nats=0.0, side="", path="")
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
    """Return the KDE and binning rows of one layer.

    A layer after an Echo layer is noisy: it has estimates of I(T;Y) and no bracket.
    """
    kde = place | dict(layer=layer, estimator="kde", channel="noise 0.001", params="noise_variance=0.001")
    noisy = depth > 2
    kde["path"] = "noise-off" if noisy else ""
    warned = "self-weight" if x > 0.8 * math.log(N) else ""
    half = 0.3 * (1 - x / math.log(N))
    rows = [
        kde | dict(quantity="I(X;T)", value_nats=v, standing=s, side=s, ceiling_nats=math.log(N), warnings=warned)
        for s, v in (("upper", x + half), ("lower", x - half))
    ]
    for side, v in (("upper", min(H_Y, y + 0.1)), ("lower", y - 0.1)):
        standing = "estimate" if noisy else side
        end = dict(quantity="I(T;Y)", value_nats=v, standing=standing, side=side, ceiling_nats=H_Y, warnings=warned)
        end["path"] = "sampled" if noisy else ""
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


def fill(collection):
    """Return the filling of marks, judged by their colours."""
    faces, edges = collection.get_facecolors(), collection.get_edgecolors()
    if not len(faces) or (faces[0] == 1).all():
        return "hollow"
    faces = np.broadcast_to(faces, edges.shape)
    return "full" if np.allclose(faces, edges) else "pale" if np.allclose(faces, pale(edges)) else "?"


def scattered(ax):
    """Return {(name, filling): offsets} of the marks; a hollow mark with a dot is "dotted"."""
    found = {}
    for collection in ax.collections:
        name, _, kind = collection.get_label().removeprefix("_").rpartition(" ")
        if isinstance(collection, PathCollection) and kind in ("full", "pale", "hollow", "dotted"):
            assert fill(collection) == ("hollow" if kind == "dotted" else kind)
            found[name, kind] = np.asarray(collection.get_offsets())
    return found


def arrows(ax):
    """Return {(name, axis, standing): offsets} of the arrows at bounds."""
    names = [(c.get_label().removeprefix("_").split(" "), c) for c in ax.collections if isinstance(c, PathCollection)]
    return {tuple(words): np.asarray(c.get_offsets()) for words, c in names if words[-1] in ("upper", "lower")}


def words(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


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
        parts = [found[layer, kind] for kind in ("hollow", "pale") if (layer, kind) in found]
        points = np.concatenate(parts)
        np.testing.assert_allclose(points[np.argsort(points[:, 1])], np.c_[x, y][np.argsort(y)], rtol=1e-12)
    assert {layer for layer, _ in found} == set(HIDDEN)


def test_a_bracket_is_drawn_at_the_end_asked_for(frame):
    own = frame[(frame.estimator == "kde") & (frame.layer == "hidden5")]
    sides = {}
    for side in ("upper", "lower"):
        x = mean_bits(own, quantity="I(X;T)", standing=side)
        y = mean_bits(own[own.side == side], quantity="I(T;Y)")
        sides[side] = np.c_[x, y]
    sides["mid"] = (sides["upper"] + sides["lower"]) / 2
    for side, expected in sides.items():
        ax = plane(frame, estimator="kde", side=side).axes[0]
        np.testing.assert_allclose(scattered(ax)["hidden5", "pale"], expected, rtol=1e-12)
    bars = {c.get_label(): np.array(c.get_segments()) for c in ax.collections if c.get_label().startswith("_bars")}
    last = -1  # the last layer of the last epoch
    deepest = frame[(frame.estimator == "kde") & (frame.layer == "output") & (frame.epoch == 400)]
    for axis, quantity in (("x", "I(X;T)"), ("y", "I(T;Y)")):
        values = deepest[deepest.quantity == quantity].groupby("side").value_nats.mean() / BIT
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
    assert len(found["hidden1", "hollow"]) == len(EPOCHS)
    assert ("hidden1", "pale") not in found
    assert len(found["hidden4", "hollow"]) == 3  # epochs 0, 1, 2
    assert len(found["hidden4", "pale"]) == len(EPOCHS) - 3
    # one end of a bracket is enough
    end = (frame.layer == "hidden5") & (frame.quantity == "I(X;T)") & (frame.standing == "upper") & (frame.epoch == 400)
    frame.loc[end, "warnings"] = "at-ceiling"
    assert len(scattered(plane(frame, estimator="kde").axes[0])["hidden5", "hollow"]) == 1
    # one replica is enough
    one = (frame.replica == 1) & (frame.layer == "hidden4") & (frame.epoch == 400) & (frame.quantity == "I(T;Y)")
    frame.loc[one & (frame.estimator == "binning"), "warnings"] = next(iter(WARNINGS))
    assert len(scattered(panel(plane(frame, estimator="binning"), "binning"))["hidden4", "hollow"]) == 4


def test_the_colour_is_the_epoch(frame):
    fig = plane(frame)
    cmap, norm = epoch_colors(), epoch_norm(EPOCHS)
    (own,) = [c for c in panel(fig, "kde").collections if c.get_label() == "_hidden5 pale"]
    np.testing.assert_allclose(own.get_edgecolors(), cmap(norm(EPOCHS)))
    np.testing.assert_allclose(own.get_facecolors(), pale(cmap(norm(EPOCHS))))
    assert len(np.unique(own.get_edgecolors(), axis=0)) == len(EPOCHS)
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
    assert set(found) == {(ECHO[0], "hollow"), (ECHO[0], "full"), (ECHO[1], "hollow")}  # the second is a chain
    own = frame[frame.layer == ECHO[1]]
    x = mean_bits(own, quantity="I(Z;X)")
    y = (mean_bits(own, estimator="decoder") + mean_bits(own, quantity="I(Z;Y)", standing="upper")) / 2
    np.testing.assert_allclose(found[ECHO[1], "hollow"], np.c_[x, y], rtol=1e-12)


def test_a_replica_that_diverged_is_left_out_of_the_mean(frame):
    lost = (frame.replica == 2) & (frame.epoch == 400)
    without = plane(frame[~lost], estimator="binning")
    frame.loc[lost, "value_nats"] = math.nan
    frame.loc[lost, "warnings"] = "non-finite"
    found = scattered(plane(frame, estimator="binning").axes[0])
    np.testing.assert_allclose(
        found["output", "hollow"][-1], scattered(without.axes[0])["output", "pale"][-1], rtol=1e-12
    )


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
    with pytest.raises(InfoplaneError, match=r"There are 3 panels to draw, but only one Axes: choose estimator= \(kde"):
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
    wide = frame[frame.estimator == "kde"].assign(params="noise_variance=0.1", channel="noise 0.1")
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


def rate_marks(ax, layer, quantity):
    """Return {filling: offsets} of the marks of one number."""
    return {kind: xy for (name, kind), xy in scattered(ax).items() if name == f"{layer} {quantity}"}


def stretches(ax, layer, quantity):
    """Return {epochs: dashed} of the line of one number."""
    lines = [line for line in ax.lines if line.get_label() == f"_{layer} {quantity}"]
    return {tuple(xdata(line)): line.is_dashed() for line in lines}


def test_exact_with_a_warning_is_hollow_with_a_dot_and_no_bound(frame):
    last = (frame["layer"] == ECHO[0]) & (frame["quantity"] == "I(Z;X)") & (frame["epoch"] == 400)
    fig = rates(frame.assign(warnings=frame["warnings"].mask(last, "collapsed")))
    found = rate_marks(panel(fig, "echo"), ECHO[0], "I(Z;X)")
    assert found["dotted"][:, 0].tolist() == [400]
    assert found["full"][-1, 0] == 200
    assert "hollow with a dot: exact, warned" in words(fig)
    assert "hollow with a dot: exact, warned" not in words(rates(frame))


def test_exact_is_filled_and_solid_and_a_bound_has_an_arrow_and_is_dashed(frame):
    ax = rates(frame).axes[0]
    found = rate_marks(ax, ECHO[0], "I(Z;X)")
    assert found["hollow"][:, 0].tolist() == [0, 1, 2, 5]
    assert found["full"][:, 0].tolist() == [10, 20, 50, 100, 200, 400]
    expected = mean_bits(frame[frame.layer == ECHO[0]], quantity="I(Z;X)")
    np.testing.assert_allclose([*found["hollow"][:, 1], *found["full"][:, 1]], expected, rtol=1e-12)
    assert stretches(ax, ECHO[0], "I(Z;X)") == {(0, 1, 2, 5, 10): True, (10, 20, 50, 100, 200, 400): False}
    np.testing.assert_allclose(arrows(ax)[ECHO[0], "I(Z;X)", "y", "upper"], found["hollow"])
    assert (ECHO[1], "I(Z2;Z1)", "y", "upper") not in arrows(ax)


def test_exact_is_what_every_replica_is(frame):
    one = (frame.layer == ECHO[0]) & (frame.quantity == "I(Z;X)") & (frame.epoch == 400) & (frame.replica == 0)
    frame.loc[one, ["standing", "warnings"]] = ["upper", "near-ceiling"]
    ax = rates(frame).axes[0]
    assert rate_marks(ax, ECHO[0], "I(Z;X)")["hollow"][:, 0].tolist() == [0, 1, 2, 5, 400]
    assert stretches(ax, ECHO[0], "I(Z;X)")[200, 400]


def test_quantities_of_one_echo_layer_have_markers_of_their_own(frame):
    fig = rates(frame)
    ax = fig.axes[0]
    assert list(rate_marks(ax, ECHO[1], "I(Z;X)")) == ["hollow"]
    neighbour = rate_marks(ax, ECHO[1], "I(Z2;Z1)")
    own = frame[frame.layer == ECHO[1]]
    np.testing.assert_allclose(neighbour["full"][:, 1], mean_bits(own, quantity="I(Z2;Z1)"), rtol=1e-12)
    of = {c.get_label(): len(c.get_paths()[0].vertices) for c in ax.collections if isinstance(c, PathCollection)}
    assert of[f"_{ECHO[1]} I(Z;X) hollow"] != of[f"_{ECHO[1]} I(Z2;Z1) full"]
    names = words(fig)
    assert [*HIDDEN, *ECHO] == names[: len(HIDDEN) + len(ECHO)]
    assert {"$I(Z;X)$", "$I(Z_{2};Z_{1})$", "filled: exact", "hollow: warned", "arrow: upper bound"} < set(names)
    assert {"kde: lower to upper bound", "kde: single replicas (3)", "dashed: a bound"} < set(names)
    assert any(name.endswith("s.d. over replicas (3)") for name in names)


def test_how_many_replicas_is_said_where_it_is_true(frame):
    """It stands in the legend if all panels agree, and otherwise in the title of each panel."""
    fewer = frame[frame.replica < 2].assign(run="fewer")
    alone = frame[frame.replica < 1].assign(run="alone")
    for draw, said in ((rates, "kde: single replicas"), (plane, "single replicas")):
        assert f"{said} (2)" in words(draw(fewer))
        assert not any("replicas" in ax.get_title() for ax in draw(fewer).axes)
        for few, note in ((fewer, "fewer, 2 replicas"), (alone, "alone, 1 replica")):
            fig = draw(pd.concat([frame, few]))
            assert said in words(fig)
            titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
            assert [t for t in titles if "tanh" in t] == [t for t in titles if t.endswith("\ntanh, 3 replicas")]
            assert len([t for t in titles if t.endswith(f"\n{note}")]) == 3
        assert not any("replicas" in name for name in words(draw(alone)))
    one_panel = frame[(frame.estimator != "binning") | (frame.replica == 0)]
    titles = [ax.get_title() for ax in plane(one_panel).axes[:-1]]
    assert titles == ["kde, noise 0.001\n3 replicas", "binning, bins of 0.07\n1 replica", "echo\n3 replicas"]


def edges(band):
    """Return (epoch, low, high) of a fill_between."""
    points = pd.DataFrame(band.get_paths()[0].vertices, columns=["x", "y"]).groupby("x").y
    return points.min(), points.max()


def test_bands(frame):
    fig = rates(frame)
    kde, binning = fig.axes[1:]
    own = frame[(frame.layer == "hidden4") & (frame.quantity == "I(X;T)")]
    band = {c.get_label(): c for ax in (kde, binning) for c in ax.collections if c.get_label().endswith("band")}
    (own_band,) = [c for c in kde.collections if c.get_label() == "_hidden4 I(X;T) band"]
    for edge, side in zip(edges(own_band), ("lower", "upper"), strict=True):
        np.testing.assert_allclose(edge, mean_bits(own, estimator="kde", standing=side), rtol=1e-12)
    by_epoch = own[own.estimator == "binning"].groupby("epoch").value_nats
    low, high = edges(band["_hidden4 I(X;T) band"])
    np.testing.assert_allclose(high - low, 2 * by_epoch.std().to_numpy() / BIT, rtol=1e-9)
    np.testing.assert_allclose((high + low) / 2, by_epoch.mean().to_numpy() / BIT, rtol=1e-12)
    faint = [c for c in kde.collections if c.get_label() == "_replicas"]
    assert [len(c.get_segments()) for c in faint] == [3] * len(HIDDEN)
    assert not [c for c in binning.collections if c.get_label() == "_replicas"]


def test_a_layer_has_one_colour_in_every_panel(frame):
    colors = layer_colors(dict.fromkeys(frame.layer))
    kde, binning = rates(frame).axes[1:]
    for layer in HIDDEN:
        lines = [line for ax in (kde, binning) for line in ax.lines if line.get_label() == f"_{layer} I(X;T)"]
        assert len(lines) == 2
        assert {to_rgb(line.get_color()) for line in lines} == {colors[layer]}
    assert len({colors[layer] for layer in HIDDEN}) == len(HIDDEN)
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
        (frame[:0], {}, r"The frame holds no measurements, so there is nothing to draw"),
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
            r"The frame holds the probes all, test, which must not be averaged\. Choose one of them, e\.g\. frame",
        ),
        (
            pd.concat([frame, frame[frame.estimator == "binning"].assign(path="noise-off")], ignore_index=True),
            {},
            r"holds 2 values of I\(X;T\) of layer 'hidden1' at epoch 0, replica 0, which differ in path\. Keep one",
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
    with pytest.raises(InfoplaneError, match=r"Unknown side 'low'. Did you mean 'lower'\? Known: mid, lower, upper"):
        plane(frame, side="low")
    with pytest.raises(InfoplaneError, match=r"No estimator has both I\(X;T\) and I\(Z;Y\) of the same layer"):
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
    kinds = {(s, w): fill_of(s, w) for s in ("exact", "upper", "lower", "bracket", "estimate") for w in (False, True)}
    assert {kind for (s, w), kind in kinds.items() if s != "exact" and not w} == {"pale"}
    assert {kind for (s, w), kind in kinds.items() if s != "exact" and w} == {"hollow"}
    assert (kinds["exact", False], kinds["exact", True]) == ("full", "dotted")


def test_marks_of_every_standing():
    _, ax = plt.subplots()
    standings = ["exact", "exact", "upper", "lower", "estimate", "bracket"]
    warned = [False, True, False, True, False, False]
    marks(ax, range(6), [0] * 6, "tab:blue", standings, warned, along={"x": standings}, label="m")
    at = {kind: sorted(xy[:, 0]) for (_, kind), xy in scattered(ax).items()}
    assert at == {"full": [0], "dotted": [1], "pale": [2, 4, 5], "hollow": [3]}
    assert {words: sorted(xy[:, 0]) for words, xy in arrows(ax).items()} == {
        ("m", "x", "upper"): [2],
        ("m", "x", "lower"): [3],
    }
    way = {c.get_label(): c.get_paths()[0].vertices[:, 0].mean() for c in ax.collections if " x " in c.get_label()}
    assert way["_m x upper"] < 0 < way["_m x lower"]
    legend = Legend().standings(zip(standings, warned, strict=True))
    assert legend.labels == [
        "filled: exact", "pale: bound or estimate", "hollow: warned", "hollow with a dot: exact, warned",
        "arrow: upper bound", "arrow: lower bound",
    ]  # fmt: skip


# points


def test_a_noisy_layer_belongs_to_the_layer_it_is_behind():
    names = ["hidden1", "hidden2.linear.echo", "hidden2", "block", "block.1.noise", "block.1", "0.echo", "echo"]
    assert base_layers(names) == {
        "hidden1": "hidden1", "hidden2.linear.echo": "hidden2", "hidden2": "hidden2", "block": "block",
        "block.1.noise": "block.1", "block.1": "block.1", "0.echo": "0", "echo": "echo",
    }  # fmt: skip
    colors = layer_colors(["a", "a.echo", "a.b.echo"])
    assert len(set(colors.values())) == 3


def test_noisy_layers_are_those_with_numbers_of_their_own_channel(frame):
    assert noisy_layers(frame) == list(ECHO)
    assert noisy_layers(frame[frame.channel != "echo"]) == []


def test_the_baseline_from_permuted_points_is_no_point(frame):
    null = frame[frame.estimator == "binning"].assign(side="null", value_nats=99.0)
    both = pd.concat([frame, null], ignore_index=True)
    pd.testing.assert_frame_equal(points(chosen(both, unit="bits")), points(chosen(frame, unit="bits")))
    assert "binning" in {ax.get_title().split(",")[0] for ax in plane(both).axes}


def test_the_side_puts_a_bracket_together_whatever_its_standing(frame):
    table = points(chosen(frame, unit="nats"))
    own = table[(table.panel == "kde") & (table.layer == "hidden5") & (table.quantity == "I(T;Y)")]
    assert set(own["standing"]) == {"estimate"}
    assert (own["upper"] > own["lower"]).all()
    np.testing.assert_allclose(own["value"], (own["upper"] + own["lower"]) / 2)
    sound = table[(table.panel == "kde") & (table.layer == "hidden1") & (table.quantity == "I(T;Y)")]
    assert set(sound["standing"]) == {"bracket"}
    lone = table[(table.layer == ECHO[1]) & (table.quantity == "I(Z;X)")]
    assert set(lone["standing"]) == {"upper"}
    assert lone["lower"].isna().all()
    assert set(curves(table).standing) == {"exact", "upper", "bracket", "estimate"}


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


def crowd():
    """Return a figure with 60 000 points, whose words must stay words."""
    fig, ax = plt.subplots()
    rng = np.random.default_rng(0)
    ax.scatter(*rng.normal(size=(2, 20_000)), s=3, c=rng.uniform(size=20_000))
    ax.plot(rng.normal(size=40_000), linewidth=0.2)
    ax.set_title("the words")
    return fig


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_a_file_that_would_be_large_is_made_smaller(kind, tmp_path, monkeypatch):
    fig = crowd()
    monkeypatch.setattr(files, "LARGEST", math.inf)
    large = save(fig, tmp_path / f"large.{kind}").stat().st_size
    monkeypatch.undo()
    monkeypatch.setattr(files, "LARGEST", limit := min(large - 1, 400_000))
    small = save(fig, tmp_path / f"small.{kind}")
    assert small.stat().st_size <= limit < large
    assert save(crowd(), tmp_path / f"again.{kind}").read_bytes() == small.read_bytes()
    assert not any(artist.get_rasterized() for artist in fig.axes[0].get_children())
    if kind == "svg":
        text = small.read_text()
        assert "<!-- the words -->" in text  # as glyphs, and not in the picture
        assert "<image" in text
    if kind == "png":
        with Image.open(small) as picture:
            assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_loses_colours_before_it_loses_dots(tmp_path, monkeypatch):
    fig = crowd()
    large = save(fig, tmp_path / "large.png")
    monkeypatch.setattr(files, "LARGEST", large.stat().st_size - 1)
    with Image.open(large) as before, Image.open(save(fig, tmp_path / "small.png")) as after:
        assert (before.mode, after.mode) == ("RGBA", "P")
        assert before.size == after.size
        assert before.info["dpi"] == after.info["dpi"]


def test_a_file_that_is_small_enough_is_left_alone(frame, tmp_path):
    assert "<image" not in save(rates(frame), tmp_path / "a.svg").read_text()
