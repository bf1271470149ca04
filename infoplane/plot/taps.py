"""The rates of Echo taps: the smallest rate at each cross-entropy or distortion."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..analysis.points import layers_of
from ..errors import InfoplaneError, choose
from ..records import UNITS
from .labels import replica_counts, replica_note
from .layout import flow, label_once
from .legend import Legend
from .style import LOOK, epoch_bar, epoch_colors, epoch_norm, marks

__all__ = ["taps"]


def taps(table: pd.DataFrame, *, unit: str = "bits", layers: Iterable[str] | None = None) -> Figure:
    """Draw the rate I(Z;X) of the taps of each layer against what they lose.

    A tap loses cross-entropy of the label, or squared error of the whitened layer. There is one
    line per epoch through all betas, with means over replicas, and each run has panels of its own.
    A mark is filled if the rate is exact in every replica. Otherwise the rate is an upper bound,
    and the mark is pale with an arrow. The rate is that of the code of the tap and not of the
    layer.

    Args:
        table: The rates of the taps, as in taps.csv.
        unit: "bits" or "nats".
        layers: The names of the layers to draw; all by default.

    Returns:
        The figure.

    Raises:
        InfoplaneError: If the table does not hold what was asked for.

    Example:
        >>> import pandas as pd
        >>> import infoplane as ip
        >>> table = pd.DataFrame(
        ...     {"run": "run", "epoch": 100, "replica": 0, "layer": "hidden1", "objective": "label",
        ...      "beta": [0.03, 0.3], "value_nats": [2.0, 0.9], "standing": "exact",
        ...      "cross_entropy_nats": [0.1, 0.4], "distortion": float("nan")}
        ... )
        >>> figure = ip.plot.taps(table, unit="nats")
        >>> figure.axes[0].get_xlabel()
        'rate $I(Z;X)$ of the tap [nats]'
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    if table.empty:
        raise InfoplaneError("The run has no Echo taps; train with --echo-mode tap to have some.")
    shown = layers_of(table) if layers is None else [choose(layer, layers_of(table), "layer") for layer in layers]
    objectives = list(dict.fromkeys(table["objective"]))
    runs = list(dict.fromkeys(table["run"]))
    panels = [(run, objective, layer) for run in runs for objective in objectives for layer in shown]
    epochs = sorted(table["epoch"].unique())
    norm, colors = epoch_norm(epochs), epoch_colors()
    counts = replica_counts(own for _, own in table.groupby("run"))
    means = _means(table, size)
    legend = Legend().standings((standing, False) for standing in means["standing"])
    with matplotlib.rc_context(LOOK):
        fig, drawn = flow(len(panels), 2.0, 3, legend, sharex=len(objectives) == 1)
        for (run, objective, layer), ax in zip(panels, drawn, strict=True):
            of_label = objective == "label"
            here = means[(means["run"] == run) & (means["objective"] == objective) & (means["layer"] == layer)]
            for epoch, own in here.groupby("epoch"):
                color = colors(norm(epoch))
                ax.plot(own["rate"], own["lost"], color=color, linewidth=0.9)
                along = {"x": own["standing"]}
                marks(ax, own["rate"], own["lost"], color, own["standing"], False, along=along, label=str(epoch))
            title = [run] * (len(runs) > 1) + [layer] + [objective] * (len(objectives) > 1)
            title.append(replica_note(table[table["run"] == run], counts))
            ax.set_title(", ".join(word for word in title if word), loc="left")
            ax.set_xlabel(f"rate $I(Z;X)$ of the tap [{unit}]")
            ax.set_ylabel(f"cross-entropy [{unit}]" if of_label else "squared error of the layer")
            ax.set_ylim(0, 1.08 * here["lost"].max())
            ax.set_xlim(left=0)
        label_once(drawn)
        epoch_bar(fig, drawn, epochs, apart=2.5, shrink=0.8, aspect=30)
    return fig


def _means(table: pd.DataFrame, size: float) -> pd.DataFrame:
    """Return the means over replicas of rate and loss; a mean is exact if every replica is."""
    lost = np.where(table["objective"] == "label", table["cross_entropy_nats"] / size, table["distortion"])
    known = table.assign(lost=lost, rate=table["value_nats"] / size, exact=table["standing"] == "exact")
    by = known.groupby(["run", "objective", "layer", "epoch", "beta"], sort=False)
    means = by.agg(rate=("rate", "mean"), lost=("lost", "mean"), exact=("exact", "all")).reset_index()
    return means.assign(standing=np.where(means["exact"], "exact", "upper")).sort_values("beta", kind="stable")
