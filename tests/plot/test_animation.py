"""Films: one dot per replica at its numbers, axes that stay, and the same files each time."""

import base64
import io
import json
import re
import time
from itertools import pairwise

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from infoplane.errors import InfoplaneError
from infoplane.plot import animate, dots, film
from infoplane.plot.style import layer_colors
from tests.plot.test_plot import BIT, EPOCHS, make

LAYERS = ["hidden1", "hidden3", "output"]


@pytest.fixture(autouse=True)
def _no_figure_is_left():
    matplotlib.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def frame():
    return make(replicas=5)


def values(frame, layer, epoch, quantity, estimator="binning"):
    own = frame[(frame.layer == layer) & (frame.epoch == epoch) & (frame.estimator == estimator)]
    return own[own.quantity == quantity].groupby("replica")["value_nats"].mean() / BIT


def drawn(ax):
    return {c.get_label(): c for c in ax.collections if c.get_label().startswith("_")}


def test_every_replica_is_a_dot_at_its_two_numbers(frame):
    made = film(frame, estimator="binning", layers=LAYERS)
    (ax,) = made.figure.axes
    limits = ax.get_xlim(), ax.get_ylim()
    colors = layer_colors(dict.fromkeys(frame["layer"]))
    for epoch in EPOCHS:
        made.at(epoch)
        for layer in LAYERS:
            own = drawn(ax)[f"_{layer}"]
            expected = [values(frame, layer, epoch, q) for q in ("I(X;T)", "I(T;Y)")]
            np.testing.assert_allclose(own.get_offsets(), np.stack(expected, 1), rtol=1e-12)
            assert {to_rgb(c) for c in own.get_edgecolors()} == {colors[layer]}
            rows = frame[(frame.layer == layer) & (frame.epoch == epoch) & (frame.estimator == "binning")]
            warned = rows.groupby("replica")["warnings"].agg(lambda w: w.ne("").any())
            assert (own.get_facecolors()[:, 3] == 0).tolist() == warned.tolist()
        assert ax.get_title(loc="left").endswith(f"\nepoch {epoch}")
        assert (ax.get_xlim(), ax.get_ylim()) == limits
    every = frame[(frame.estimator == "binning") & frame.layer.isin(LAYERS)]
    x = every[every.quantity == "I(X;T)"]["value_nats"] / BIT
    assert limits[0][0] <= x.min() < x.max() <= limits[0][1]
    assert "bins" in ax.get_title(loc="left")
    texts = [t.get_text() for t in ax.texts]
    assert any("H(Y)" in t for t in texts)
    assert any(r"\ln N" in t for t in texts)


def test_a_bracket_is_a_dot_at_the_end_that_was_asked_for(frame):
    rows = frame[(frame.estimator == "kde") & (frame.layer == "hidden1") & (frame.quantity == "I(X;T)")]
    for side in ("lower", "upper"):
        made = film(frame, estimator="kde", layers=["hidden1"], side=side).at(10)
        own = rows[(rows.epoch == 10) & (rows.side == side)].set_index("replica")["value_nats"]
        np.testing.assert_allclose(drawn(made.axes[0])["_hidden1"].get_offsets()[:, 0], own / BIT, rtol=1e-12)


def test_runs_of_other_epochs_stay_where_they_were_last():
    both = pd.concat([make(runs=("a",), epochs=(0, 2, 8)), make(runs=("b",), epochs=(1, 4))], ignore_index=True)
    made = film(both, estimator="binning")
    assert made.epochs == (0, 1, 2, 4, 8)
    left, right = made.at(0).axes
    assert drawn(left)["_output"].get_offsets().shape == (3, 2)
    assert drawn(right)["_output"].get_offsets().shape == (0, 2)
    made.at(4)
    assert left.get_title(loc="left").endswith("epoch 2")
    assert right.get_title(loc="left").endswith("epoch 4")


def test_of_many_epochs_some_are_shown_the_ends_always(frame):
    assert film(frame, estimator="binning").epochs == EPOCHS
    few = film(frame, estimator="binning", pictures=4).epochs
    assert len(few) == 4
    assert (few[0], few[-1]) == (EPOCHS[0], EPOCHS[-1])


def test_a_gif_has_a_picture_an_epoch_in_the_colours_of_the_layers(frame, tmp_path):
    animate(frame, tmp_path / "plane.gif", estimator="binning", layers=LAYERS)
    with Image.open(tmp_path / "plane.gif") as gif:
        assert gif.n_frames == len(EPOCHS)
        pictures = []
        for at in range(gif.n_frames):
            gif.seek(at)
            pictures.append(np.asarray(gif.convert("RGB")).astype(int))
    assert not plt.get_fignums()
    colors = layer_colors(dict.fromkeys(frame["layer"]))
    for picture in (pictures[0], pictures[-1]):
        assert (picture[0, 0] == 255).all()  # paper is white
        for layer in LAYERS:
            near = np.abs(picture - 255 * np.array(colors[layer])).max(-1) < 3
            assert near.sum() > 5, layer
    assert all((a != b).any() for a, b in pairwise(pictures))


def test_a_page_holds_its_pictures_and_asks_for_nothing_else(frame, tmp_path):
    page = animate(frame, tmp_path / "plane.html", estimator="binning").read_text()
    assert not re.search(r"https?:|<link|src=\"[^d]", page)
    assert 'type="range"' in page
    assert json.loads(re.search(r"epochs = (\[.*?\]);", page)[1]) == list(EPOCHS)
    pictures = json.loads(re.search(r"pictures = (\[.*?\]);", page, re.DOTALL)[1])
    assert len(pictures) == len(EPOCHS)
    sizes = set()
    for text in pictures:
        with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
            sizes.add(picture.size)
    assert len(sizes) == 1
    assert len(page) < 1_000_000


@pytest.mark.parametrize("ending", ["gif", "html"])
def test_the_same_film_gives_the_same_bytes(frame, tmp_path, ending):
    options = {"estimator": "binning", "pictures": 3}
    first = animate(frame, tmp_path / f"a.{ending}", **options).read_bytes()
    time.sleep(1.1)  # a date in a file counts seconds
    made = film(frame, **options)
    made.at(0)
    assert made.save(tmp_path / f"b.{ending}").read_bytes() == first
    assert made.save(tmp_path / f"c.{ending}").read_bytes() == first  # writing leaves the figure as it was


def test_planes_side_by_side_have_a_panel_an_epoch_and_a_row_a_run(frame):
    both = pd.concat([frame, make(runs=("relu",), seed=3)], ignore_index=True)
    fig = dots(both, epochs=[0, 10, 400], estimator="binning")
    assert len(fig.axes) == 6
    for ax, (run, epoch) in zip(fig.axes, [(r, e) for r in ("tanh", "relu") for e in (0, 10, 400)], strict=True):
        own = both[both.run == run]
        expected = [values(own, "hidden3", epoch, q) for q in ("I(X;T)", "I(T;Y)")]
        np.testing.assert_allclose(drawn(ax)["_hidden3"].get_offsets(), np.stack(expected, 1), rtol=1e-12)
        assert ax.get_xlim() == fig.axes[0].get_xlim()
    assert len(dots(frame, estimator="binning").axes) == 3


def test_what_is_refused(frame, tmp_path):
    with pytest.raises(InfoplaneError, match=r"Unknown format of an animation 'png'.*gif, html"):
        animate(frame, tmp_path / "plane.png")
    with pytest.raises(InfoplaneError, match="Did you mean 'binning'"):
        animate(frame, tmp_path / "plane.gif", estimator="bining")
    with pytest.raises(InfoplaneError, match="expected at least 2"):
        film(frame, pictures=1)
    with pytest.raises(InfoplaneError, match=r"choose one with estimator= \(kde, binning"):
        dots(frame)
    with pytest.raises(InfoplaneError, match="Cannot write"):
        animate(frame, tmp_path / "no" / "plane.gif", estimator="binning", pictures=2)
    assert not plt.get_fignums()
