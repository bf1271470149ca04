"""The figure of gradients: geometric means over replicas, relative to the weights, and ratios."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from infoplane.errors import InfoplaneError
from infoplane.plot import gradients
from infoplane.plot.style import layer_colors
from tests.plot.test_runs import EPOCHS, make_gradients


@pytest.fixture(autouse=True)
def _no_figure_is_left():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def test_lines_are_geometric_means_over_the_norm_of_the_weights():
    left, right = gradients(make_gradients()).axes
    lines = {line.get_label(): line for ax in (left, right) for line in ax.lines}
    for layer, color in layer_colors(["hidden1", "output"]).items():
        mean, std, snr = (lines[f"_{layer} {name}"] for name in ("mean", "std", "snr"))
        assert list(mean.get_xdata()) == list(EPOCHS)
        # replicas have 0.1, 0.2 and 0.4: their geometric mean is 0.2
        np.testing.assert_allclose(mean.get_ydata(), [0.2 / 2 / 10**k for k in range(4)], rtol=1e-12)
        np.testing.assert_allclose(std.get_ydata(), 0.01 / 2, rtol=1e-12)
        np.testing.assert_allclose(snr.get_ydata(), [0.2 / 0.01 / 10**k for k in range(4)], rtol=1e-12)
        assert {to_rgb(line.get_color()) for line in (mean, std, snr)} == {color}
        assert std.is_dashed()
        assert not mean.is_dashed()
    points = pd.DataFrame(right.collections[0].get_paths()[0].vertices).groupby(0)[1]
    np.testing.assert_allclose(points.max() / points.min(), 2.0**2, rtol=1e-9)  # a factor 2 to either side
    assert left.get_yscale() == right.get_yscale() == "log"
    assert left.get_xscale() == "symlog"


def test_a_gradient_of_0_has_no_place_and_takes_none():
    frame = make_gradients()
    frame.loc[(frame["layer"] == "output") & (frame["epoch"] == 1), ["mean_norm", "snr"]] = 0.0
    left, _ = gradients(frame).axes
    (line,) = (line for line in left.lines if line.get_label() == "_output mean")
    assert np.isnan(line.get_ydata()).tolist() == [False, True, False, False]


def test_what_is_refused():
    with pytest.raises(InfoplaneError, match="holds no gradients"):
        gradients(pd.DataFrame())
    with pytest.raises(InfoplaneError, match="lacks the columns std_norm"):
        gradients(make_gradients().drop(columns="std_norm"))
    with pytest.raises(InfoplaneError, match="Did you mean 'hidden1'"):
        gradients(make_gradients(), layers=["hiden1"])
