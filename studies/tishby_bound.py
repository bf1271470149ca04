"""No layer lies above the information bottleneck curve, and trained layers end at its flat part.

Claim: after training, the layers of a network lie on, or near, the information bottleneck curve of
the task: each knows as much about the label as anything can that knows so little about the input.

Expected: for the stochastic rule p(y|x) = sigmoid(gamma (f(x) - theta)) of the 12-bit task, the
curve bends. Layers approach it in training, and upper layers end nearer to it than lower ones. For
hard labels, the curve is the straight line I(T;Y) = min(I(X;T), H(Y)), and there is nothing to
approach: whatever keeps the label lies on its flat part.

T is a layer read in 30 bins between -1 and 1. It is a function of the input, so I(X;T) is the
entropy of its cells, and I(T;Y) is exact with the p(y|x) of the rule. Both are about the same law
as the curve, and a point above it would be an error. (With labels drawn at random instead, points
would lie above it.) The curve comes from annealed Blahut-Arimoto iterations. Its gap to a proven
bound is in the table.

What came out (6 networks; figures/tishby_bound.csv): no point lies above the curve, whose gap to a
proven bound is 4e-6 bits or less. In training, all layers rise towards it: hidden3, hidden4 and
hidden5 start 0.18, 0.69 and 0.89 bits below it and end 0.007, 0.017 and 0.028 below, so the lower
layers end nearer to it, and not the upper ones. But they arrive at its flat part, with bits of the
input to spare: 2.02 bits of the input are enough for all that can be known about the label, and the
layers hold 11.6, 9.6 and 4.5 bits of it. Only hidden5 moves towards the bend.
"""

import math
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import infoplane as ip

SOURCE = "Shwartz-Ziv & Tishby, Opening the black box of deep neural networks via information (2017), figure 6"
TIME = "3 minutes"

NETWORKS, EPOCHS, SNAPSHOTS = 6, 4000, "0,10,30,100,200,400,800,1500,2500,4000"
QUICK_NETWORKS, QUICK_EPOCHS, QUICK_SNAPSHOTS = 2, 20, "0,20"
BITS = math.log(2)


def train(networks: int, epochs: int, snapshots: str) -> pd.DataFrame:
    """Return both numbers of each hidden layer, network and snapshot, in bits."""
    settings = ip.Settings.of(
        preset="tishby", dataset="icosahedron-stochastic", ordered=False, replicas=networks, epochs=epochs,
        snapshots=snapshots,
    )  # fmt: skip
    x, _ = ip.data.icosahedron()
    law = ip.data.icosahedron_law().numpy()
    model = ip.MLP(12, settings.widths, 2, settings.activation, networks)
    hidden = [f"hidden{k + 1}" for k in range(len(settings.widths))]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = ip.train(settings, Path(folder) / "run", keep_weights=True)
        for epoch in map(int, snapshots.split(",")):
            model.load_state_dict(run.load_checkpoint(f"epoch-{epoch}")["model"])
            with torch.no_grad(), ip.Trace(model, hidden) as trace:
                model(x)
                codes = trace.take()
            for layer, t in codes.items():
                i_x, i_y = ip.theory.partition_information(
                    ip.estimators.cell_numbers(t, bins=30, range=(-1.0, 1.0)), law
                )
                rows += [
                    {"epoch": epoch, "layer": layer, "replica": r, "I(X;T)": a / BITS, "I(T;Y)": b / BITS}
                    for r, (a, b) in enumerate(zip(i_x, i_y, strict=True))
                ]
    return pd.DataFrame(rows)


def curve() -> ip.theory.InformationCurve:
    law = ip.data.icosahedron_law().numpy()
    return ip.theory.information_curve(np.stack([1 - law, law], 1) / len(law))


def draw(table: pd.DataFrame, found: ip.theory.InformationCurve) -> Figure:
    figure, (plane, distance) = plt.subplots(1, 2, figsize=(7, 3.3), layout="constrained")
    rate = np.linspace(0, 12 * BITS, 400)
    plane.plot(rate / BITS, found.reached(rate) / BITS, color="black", label="IB curve of the stochastic rule")
    whole = float(found.label_information[0]) / BITS
    plane.plot(
        [0, 1, 12], [0, 1, 1], color="0.5", linestyle=(0, (3, 2)), linewidth=0.8, label="hard labels: a straight line"
    )
    epochs, colors = sorted(table["epoch"].unique()), ip.plot.layer_colors(table["layer"].unique())
    for layer, own in table.groupby("layer", sort=False):
        mean = own.groupby("epoch")[["I(X;T)", "I(T;Y)"]].mean()
        plane.plot(mean["I(X;T)"], mean["I(T;Y)"], color=colors[layer], linewidth=0.6)
        for epoch, marker in ((epochs[0], "x"), (epochs[-1], "o")):
            dots = own[own["epoch"] == epoch]
            plane.plot(dots["I(X;T)"], dots["I(T;Y)"], color=colors[layer], marker=marker, markersize=3, linestyle="")
        gap = ip.analysis.mean_over_replicas(own, by=("epoch",), value="below")
        distance.plot(
            gap["epoch"].clip(lower=1), gap["mean"], color=colors[layer], label=layer, marker="o", markersize=3
        )
        distance.fill_between(gap["epoch"].clip(lower=1), gap["low"], gap["high"], color=colors[layer], alpha=0.2, lw=0)
    plane.plot([], [], color="0.3", marker="x", linestyle="", markersize=3, label="initial weights")
    plane.plot([], [], color="0.3", marker="o", linestyle="", markersize=3, label=f"epoch {epochs[-1]}")
    plane.set(xlabel="$I(X;T)$ in 30 bins [bits]", ylabel="$I(T;Y)$ [bits]", ylim=(0, 1.05), xlim=(0, 12.2))
    distance.set_xscale("log")
    distance.set(xlabel="epoch (0 at the left end)", ylabel="below the curve [bits]", ylim=(-0.02, None))
    distance.set_title(f"I(X;Y) = {whole:.3f} bits", loc="right")
    handles = [each for ax in (plane, distance) for each in ax.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def main(out: Path, quick: bool) -> None:
    found = curve()
    chosen = (QUICK_NETWORKS, QUICK_EPOCHS, QUICK_SNAPSHOTS) if quick else (NETWORKS, EPOCHS, SNAPSHOTS)
    table = train(*chosen)
    rate = table["I(X;T)"].to_numpy() * BITS
    table["below"] = found.reached(rate) / BITS - table["I(T;Y)"]
    above = (table["I(T;Y)"] - found.bound(rate) / BITS).max()
    assert above < 1e-9, f"a layer lies {above:.3g} bits above the bound: its two numbers are not of one law"
    table.to_csv(out / "tishby_bound.csv", index=False, float_format="%.6g")
    points = {"beta": found.beta, "I(X;T)": found.input_information / BITS, "I(T;Y)": found.label_information / BITS}
    pd.DataFrame(points | {"gap": found.gap / BITS}).to_csv(
        out / "tishby_bound_curve.csv", index=False, float_format="%.6g"
    )
    with plt.rc_context(ip.plot.LOOK):
        figure = draw(table, found)
    for suffix in ("png", "pdf"):
        ip.plot.save(figure, out / f"tishby_bound.{suffix}")
    plt.close(figure)
    end = found.input_information[0] / BITS
    print(f"the curve ends at I(X;T) = {end:.3f} bits, I(X;Y) = {points['I(T;Y)'][0]:.4f} bits")
    print(f"largest gap to a proven bound {np.nanmax(found.gap) / BITS:.1e} bits; no layer above it by {above:.1e}")
    shown = [table["epoch"].min(), table["epoch"].max()]
    means = table[table["epoch"].isin(shown)].groupby(["layer", "epoch"])[["I(X;T)", "I(T;Y)", "below"]]
    print(means.agg(["mean", "std"]).round(3).to_string())
