"""Information against epoch: exact rates of Echo layers next to the numbers of estimators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ..analysis.points import LABEL, chosen, curves, layers_of, points
from ..errors import InfoplaneError
from .labels import name_of_ceiling, replica_counts, replica_note, symbol, title_of
from .layout import grid, label_once
from .legend import Legend
from .style import DASHED, LOOK, Color, Colors, band, ceiling_line, epoch_axis, layer_colors, line_of, marks

__all__ = ["rates"]

_ECHO = "echo"
_MARKERS = ("o", "s", "D", "v", "P", "X")
#: the marks are smaller if there are more epochs than this
_MANY = 20


def rates(
    frame: pd.DataFrame,
    *,
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    epochs: Iterable[int] | None = None,
) -> Figure:
    """Draw information against epoch, on a logarithmic axis with a place for epoch 0.

    One panel shows the rates of the Echo layers, I(Z;X), I(Z2;Z1) and so on, and each estimator has
    a panel for I(X;T). Each run has a row of panels; if each run has only one panel, the runs stand
    side by side. Lines are means over replicas. A layer has the same colour in every panel, and an
    Echo layer has a darker shade of the colour of its layer.

    Marks are filled if the number is exact in every replica, pale if it is a bound or an estimate,
    and hollow if it has a warning. The line of a bound without a partner is dashed, and its marks
    have an arrow. A bracket is a band from the lower to the upper bound, with a thin line per
    replica. Any other band is one standard deviation over replicas to either side. The dashed grey
    line is the ceiling, ln N.

    Args:
        frame: Measurements (`records.COLUMNS`, in nats).
        unit: "bits" or "nats".
        layers: The names of the layers to draw; all by default.
        epochs: The epochs to draw; all by default.

    Returns:
        The figure.

    Raises:
        InfoplaneError: If the frame does not hold what was asked for.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
        >>> recorder = ip.Recorder(model, (x, (x[:, 0] > 0).long()), estimators=["binning"])
        >>> tables = [recorder.snapshot(epoch) for epoch in (0, 1)]
        >>> figure = ip.plot.rates(recorder.frame())
        >>> figure.axes[0].get_ylabel()
        '$I(X;T)$ [bits]'
    """
    colors = layer_colors(layers_of(frame)) if "layer" in frame else {}
    rows = chosen(frame, unit=unit, layers=layers, epochs=epochs)
    table = points(rows)
    own_rate = (table["panel"] == _ECHO) & ~table["quantity"].isin(LABEL)
    table = table[own_rate | (table["quantity"] == "I(X;T)")]
    if table.empty:
        raise InfoplaneError(
            "The frame holds neither rates of Echo layers nor I(X;T) by an estimator; nothing to draw."
        )
    runs = list(dict.fromkeys(table["run"]))
    names = sorted(dict.fromkeys(table["panel"]), key=lambda name: name != _ECHO)
    panels = dict(list(table.groupby(["run", "panel"], sort=False)))
    counts = replica_counts(panels.values())
    mean = curves(table)
    mean["spread"] = mean["spread"].fillna(0.0)
    quantities = list(dict.fromkeys(mean.loc[mean["panel"] == _ECHO, "quantity"]))
    markers = dict(zip(quantities, _MARKERS * len(quantities), strict=False))
    estimators = dict(zip(rows["panel"], rows["estimator"], strict=True)) | {_ECHO: _ECHO}
    legend = _legend(mean.assign(estimator=mean["panel"].map(estimators)), colors, markers, counts)

    with matplotlib.rc_context(LOOK):
        fig, cells = grid(runs, names, legend, {(r, name) for r in runs for name in names} - set(panels))
        for (run, name), ax in cells.items():
            here = panels[run, name]
            own = mean[(mean["run"] == run) & (mean["panel"] == name)]
            for (layer, quantity), line in own.groupby(["layer", "quantity"], sort=False):
                line = line.dropna(subset="value").sort_values("epoch")
                marker = markers[quantity] if name == _ECHO else _MARKERS[0]
                _draw(ax, line, here[here["layer"] == layer], colors[layer], marker, f"{layer} {quantity}")
            ax.autoscale_view()
            ax.set_title(title_of(rows, name, run if len(runs) > 1 else "", replica_note(here, counts)))
            ax.set_ylabel(f"{'rate' if name == _ECHO else symbol('I(X;T)')} [{unit}]")
        for (run, name), ax in cells.items():  # last, because it fixes the limits that the panels share
            own = mean[(mean["run"] == run) & (mean["panel"] == name)]
            ceiling_line(ax, "y", *name_of_ceiling("I(X;T)", own, unit), crossed=True)
            epoch_axis(ax, table["epoch"].tolist())
            ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        label_once(cells.values())
        return fig


def _draw(ax: Axes, line: pd.DataFrame, replicas: pd.DataFrame, color: Color, marker: str, label: str) -> None:
    """Draw the means of one number: band, line and marks, and the replicas of a bracket."""
    epoch, value, spread, standing = (line[c].to_numpy() for c in ("epoch", "value", "spread", "standing"))
    low, high = line["lower"].to_numpy(), line["upper"].to_numpy()
    bracket = bool((high > low).any())
    ends = (low, high) if bracket else (value - spread, value + spread)
    band(ax, epoch, ends[0], ends[1], color, label=f"_{label} band")
    between = [b if a == "exact" else a for a, b in pairwise(standing)]  # solid between two exact values
    start = 0
    # in stretches of one style, because the dashes would begin anew at each point
    for style, segments in groupby(map(line_of, between)):
        end = start + len(list(segments))
        ax.plot(epoch[start : end + 1], value[start : end + 1], color=color, linestyle=style, label=f"_{label}")
        start = end
    size = 3.0 if len(line) <= _MANY else 2.2
    marks(ax, epoch, value, color, standing, line["warned"], marker=marker, size=size, label=label)
    if bracket and replicas["replica"].nunique() > 1:
        paths = [path[["epoch", "value"]].to_numpy() for _, path in replicas.sort_values("epoch").groupby("replica")]
        ax.add_collection(LineCollection(paths, colors=[color], linewidths=0.4, alpha=0.5, label="_replicas"))


def _legend(mean: pd.DataFrame, colors: Colors, markers: dict[str, str], counts: Sequence[int]) -> Legend:
    legend = Legend().names(colors, set(mean["layer"]))
    if len(markers) > 1 or (mean["panel"] != _ECHO).any():
        for quantity, marker in markers.items():
            legend.mark(symbol(quantity), marker=marker)
    legend.standings(zip(mean["standing"], mean["warned"], strict=True), arrows="y")
    if mean["standing"].isin(["upper", "lower"]).any():
        legend.line("dashed: a bound", linestyle=DASHED)
    bracket = mean["upper"] > mean["lower"]
    if bracket.any():
        some = ", ".join(dict.fromkeys(mean.loc[bracket, "estimator"]))
        legend.patch(f"{some}: lower to upper bound").replicas(counts, f"{some}: single replicas")
    if not bracket.all():
        some = ", ".join(dict.fromkeys(mean.loc[~bracket, "estimator"]))
        legend.replicas(counts, f"{some}: s.d. over replicas", band=True)
    return legend
