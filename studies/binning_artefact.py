"""In a tanh network, the place of values among the bins compresses, not what they could tell.

Claim: the binned information of a deterministic layer is a property of the bins. An invertible map,
which loses nothing, changes it at will. Bins that are even in the net input, instead of in the
output, take away most of the compression of a trained tanh network. The compression also comes and
goes with the width of the bins, or with the noise of a kernel density.

Expected: (a) Behind an invertible sigmoid, the same values read anything from 12 bits to 1. (b)
With 30 bins between -1 and 1, the last hidden layer falls from its peak by several bits. With bins
between the values of tanh(linspace(-50, 50, n)), this fall nearly vanishes (published: 5.59 bits
become 0.32). (c) The fall is large for wide bins and much noise, and 0 for narrow bins and little
noise, where all layers read 12 bits throughout. (d) At the precision of the machine, all layers
hold 12 bits as long as tanh has not rounded to 1. In float32 it does so from a net input of 9.01
on, and in float64 from 19 on. Only that is a loss that no reader of the values could undo.

The networks, the task and the training are those of `saxe_tanh_relu`, with tanh.

What came out: mostly as expected. (a) The initial net inputs hold 12 bits throughout (in float64,
until the gain is above 100), and they read 2.5 to 10.0 bits behind sigmoids. (b) With 30 bins that
are even in the output, the fall is 5.5 bits (s.d. 1.2 over five networks). With 30 or 300 bins that
are even in the net input it is 0.00, because their entropy rises in training, and with 3000 such
bins it is 0.15. (c) The fall is largest, 6.0 bits, in bins of 0.01 (and for noise of that standard
deviation). It is 1.6 in bins of 0.5 and 0.5 in bins of 1e-6. For narrow bins it shrinks, but not to
0: the units saturate until values lie closer together than the bins, and in float32 some values
coincide. (d) With the net input of the trained layer as it is, float32 leaves 11.9 of the 12 bits
and float64 leaves all of them. With three times the net input, they leave 7.0 and 11.4.
"""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

import infoplane as ip

SOURCE = (
    "Saxe et al. (ICLR 2018), figures 13 to 15; Ver Steeg, Exact information bottlenecks for arbitrary distributions "
    "with Echo noise (talk, 2019)"
)
TIME = "5 minutes"

NETWORKS, EPOCHS, SNAPSHOTS = 5, 4000, "0,30,100,200,300,500,700,1000,1500,2000,2500,3000,3500,4000"
QUICK_NETWORKS, QUICK_EPOCHS, QUICK_SNAPSHOTS = 2, 30, "0,10,30"

LAYER = "hidden5"
GAINS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
WIDTHS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.07, 0.2, 0.5)
VARIANCES = (1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
INPUT_BINS = (30, 300, 3000)
BITS = math.log(2)

Codes = dict[int, tuple[torch.Tensor, torch.Tensor]]
Entropy = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def train(networks: int, epochs: int, snapshots: str) -> Codes:
    """Return net inputs and values of the last hidden layer by epoch, (R, 4096, 3) each."""
    settings = ip.Settings.of(
        preset="saxe", replicas=networks, epochs=epochs, snapshots=snapshots, estimators=("binning",)
    )
    model = ip.MLP(12, settings.widths, 2, "tanh", networks)
    x, _ = ip.data.icosahedron()
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        run = ip.train(settings, Path(folder) / "run", keep_weights=True)
        for epoch in map(int, snapshots.split(",")):
            model.load_state_dict(run.load_checkpoint(f"epoch-{epoch}")["model"])
            with torch.no_grad(), ip.Trace(model, [f"{LAYER}.linear", LAYER]) as trace:
                model(x)
                codes = trace.take()
            out[epoch] = codes[f"{LAYER}.linear"], codes[LAYER]
    return out


def rows_of(panel: str, reader: str, x: float, values: torch.Tensor) -> list[dict[str, object]]:
    nats = values.tolist()
    return [{"panel": panel, "reader": reader, "x": x, "replica": r, "bits": v / BITS} for r, v in enumerate(nats)]


def falls(codes: Codes, entropy: Entropy) -> torch.Tensor:
    """Return how far the entropy of each network falls, (R,), in nats.

    The fall is from the epoch at which the mean over networks is largest.
    """
    table = torch.stack([entropy(a, t) for a, t in codes.values()])
    return table[table.mean(1).argmax()] - table[-1]


def binned(width: float) -> Entropy:
    """Return the entropy of the values in bins of this width."""
    return lambda _, t: ip.estimators.binned_entropy(t, width=width).entropy


def smoothed(variance: float) -> Entropy:
    """Return the upper bound of a kernel density with noise of this variance."""
    return lambda _, t: ip.estimators.kde_bounds(t, variance).upper


def whole(t: torch.Tensor) -> torch.Tensor:
    """Return the entropy of the values themselves, (R,), in nats.

    Two rows are the same symbol if all their numbers are equal.
    """
    counts = [torch.unique(rows, dim=0, return_counts=True)[1].double() / len(rows) for rows in t]
    return torch.stack([-(p * p.log()).sum() for p in counts])


def measure(codes: Codes) -> pd.DataFrame:
    first, last = next(iter(codes.values()))[0], list(codes.values())[-1][0]
    rows = []
    centred = first.double() - first.double().mean(1, keepdim=True)
    for gain in GAINS:  # (a): the initial net inputs of one layer behind sigmoids that lose nothing
        t = torch.sigmoid(gain * centred)
        rows += rows_of(
            "a", "30 bins between 0 and 1", gain, ip.estimators.binned_entropy(t, bins=30, range=(0.0, 1.0)).entropy
        )
        rows += rows_of("a", "the values themselves", gain, whole(t))
    for epoch, (a, t) in codes.items():
        rows += rows_of(
            "b",
            "30 bins, even in the output",
            epoch,
            ip.estimators.binned_entropy(t, bins=30, range=(-1.0, 1.0)).entropy,
        )
        for n in INPUT_BINS:
            found = ip.estimators.binned_entropy(a, bins=n, range=(-50.0, 50.0)).entropy
            rows += rows_of("b", f"{n} bins, even in the net input", epoch, found)
    for width in WIDTHS:
        rows += rows_of("c", "bins, by their width", width, falls(codes, binned(width)))
    for variance in VARIANCES:
        rows += rows_of("c", "KDE, by the standard deviation", math.sqrt(variance), falls(codes, smoothed(variance)))
    for gain in GAINS:  # (d): the scaled net inputs of the trained layer
        for dtype in (torch.float32, torch.float64):
            rows += rows_of("d", str(dtype).removeprefix("torch."), gain, whole(torch.tanh(gain * last.to(dtype))))
    return pd.DataFrame(rows)


AXES = {
    "a": ("gain of an invertible sigmoid", "entropy [bits]", "initial weights, net input of hidden5"),
    "b": ("epoch", "entropy [bits]", "training, hidden5"),
    "c": ("width of bins, or deviation of noise", "fall from the peak [bits]", "training, hidden5"),
    "d": ("factor on the net input", "entropy [bits]", "trained, tanh of hidden5's net input"),
}
COLORS = {"30 bins between 0 and 1": "tab:orange", "the values themselves": "black"}
COLORS |= {"30 bins, even in the output": "tab:orange"}
COLORS |= {f"{n} bins, even in the net input": c for n, c in zip(INPUT_BINS, ("0.65", "0.45", "0.2"), strict=True)}
COLORS |= {"bins, by their width": "tab:orange", "KDE, by the standard deviation": "tab:blue"}
COLORS |= {"float32": "tab:red", "float64": "tab:green"}


def draw(table: pd.DataFrame) -> Figure:
    figure, panels = plt.subplots(2, 2, figsize=(7, 5.2), layout="constrained")
    for ax, (panel, (x, y, title)) in zip(panels.flat, AXES.items(), strict=True):
        own = table[table["panel"] == panel]
        for reader, rows in own.groupby("reader", sort=False):
            mean = ip.analysis.mean_over_replicas(rows, by=("x",), value="bits")
            at = mean["x"].clip(lower=10) if panel == "b" else mean["x"]
            ax.plot(at, mean["mean"], color=COLORS[reader], marker="o", markersize=3, label=reader)
            ax.fill_between(at, mean["low"], mean["high"], color=COLORS[reader], alpha=0.2, linewidth=0)
        ax.set_xscale("log")
        ax.set(xlabel=x + (" (0 at the left end)" if panel == "b" else ""), ylabel=y)
        ax.set_title(f"({panel}) {title}", loc="left")
        ax.set_ylim(bottom=0 if panel != "c" else None, top=18 if panel == "b" else None)
        ax.legend(loc="best")
    return figure


def main(out: Path, quick: bool) -> None:
    chosen = (QUICK_NETWORKS, QUICK_EPOCHS, QUICK_SNAPSHOTS) if quick else (NETWORKS, EPOCHS, SNAPSHOTS)
    table = measure(train(*chosen))
    table.to_csv(out / "binning_artefact.csv", index=False, float_format="%.6g")
    with plt.rc_context(ip.plot.LOOK):
        figure = draw(table)
    for suffix in ("png", "pdf"):
        ip.plot.save(figure, out / f"binning_artefact.{suffix}")
    plt.close(figure)
    print(
        table[table["panel"] != "b"].groupby(["panel", "reader", "x"], sort=False)["bits"].mean().round(2).to_string()
    )
    over = table[table["panel"] == "b"].pivot_table(index="x", columns=["reader", "replica"], values="bits")
    for reader, own in over.T.groupby(level="reader", sort=False):
        fall = own[own.mean().idxmax()] - own.iloc[:, -1]
        print(f"(b) {reader}: falls by {fall.mean():.2f} bits from its peak (s.d. over networks {fall.std():.2f})")
