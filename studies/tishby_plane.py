"""Fifty tanh networks fit first and compress later, and their layers stay together on the way.

Claim: in the plane of binned I(X;T) and I(T;Y), the layers of fifty networks that differ in their
initial weights start scattered and gain information about the label together (by epoch 400). Then,
with I(T;Y) held, they lose information about the input (by epoch 9000). The numbers are from 30
bins between -1 and 1: they show how the points of a layer cluster, and what the network would hold
if each activation were read to that resolution.

Expected: the mean I(T;Y) of every layer rises up to epoch 400 and does not fall after it. The mean
I(X;T) of the upper layers falls from its peak. The dots of a layer are closer together at 400 than
at initialisation.

The networks are 12-10-7-5-4-3-2 with the initial weights of the published code, Adam 4e-4 and
batches of 512. They train on the first 80 % of the points in counting order, and are measured on
all 4096. Only hidden layers are drawn: the published output is a softmax inside the bins, while
ours are logits, most of which lie outside.

What came out (50 networks; figures/tishby_plane_means.csv): as they found, in these bins. I(T;Y) of
all layers rises (hidden5: 0.10 bits at initialisation, 0.84 at epoch 400, 0.97 at 9000), and none
loses more than 0.001 bits of it again. I(X;T) of hidden5 rises from 6.2 to 7.5 bits at epoch 40 and
falls by 4.8 bits [4.4, 5.2] to 2.7, and that of hidden4 falls by 1.1 [0.6, 1.6]; the lower layers
stay near 12 bits. The dots of hidden4 and hidden5 are closer together at 400 than at initialisation
(standard deviations of I(T;Y) of 0.04 instead of 0.14 and 0.06). In I(X;T), those of hidden4 are
wider apart again at 9000.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

import infoplane as ip

SOURCE = "Shwartz-Ziv & Tishby, Opening the black box of deep neural networks via information (2017), figures 2 and 3"
TIME = "12 minutes"

NETWORKS, EPOCHS, SHOWN = 50, 9000, (0, 400, 9000)
SNAPSHOTS = "1,2,3,5,8,12,18,27,40,60,80,110,150,200,250,300,350,400,450,500,600,700,800,900,1000,1200,1400,1700,2000,"
SNAPSHOTS += "2500,3000,3500,4000,4500,5000,5500,6000,6500,7000,7500,8000,8500"

QUICK_NETWORKS, QUICK_EPOCHS, QUICK_SHOWN = 4, 20, (0, 10, 20)
QUICK_SNAPSHOTS = "1,3,10"

HIDDEN = [f"hidden{k}" for k in range(1, 6)]
QUANTITIES = ("I(X;T)", "I(T;Y)")


def train(networks: int, processes: int | None, **training: Any) -> pd.DataFrame:
    """Train all networks, and return their measurements as one run.

    Two halves side by side are faster than all networks in one process.
    """
    half = networks // 2
    sweep = ip.train_all(
        {
            "first": ip.Settings.of(preset="tishby", replicas=half, seed=0, **training),
            "second": ip.Settings.of(preset="tishby", replicas=networks - half, seed=half, **training),
        },
        processes=processes,
    )
    frame = sweep.measurements[sweep.measurements["layer"].isin(HIDDEN)]
    return frame.assign(replica=frame["replica"] + half * (frame["run"] == "second"), run="tanh")


def dots(frame: pd.DataFrame, shown: tuple[int, ...]) -> pd.DataFrame:
    """Return one row per dot of the figure, in bits."""
    own = ip.analysis.in_unit(frame[frame["epoch"].isin(shown)], "bits")
    return own.pivot(index=["epoch", "layer", "replica"], columns="quantity", values="value").reset_index()


def check(frame: pd.DataFrame, shown: tuple[int, ...]) -> None:
    table = dots(frame, shown)
    spread = table.groupby(["layer", "epoch"])[[*QUANTITIES]].agg(["mean", "std"])
    print("Bits at the epochs shown: means and standard deviations over networks")
    print(spread.round(3).to_string())
    for quantity in QUANTITIES:
        falls = ip.analysis.fall_from_peak(
            ip.analysis.in_unit(frame, "bits").rename(columns={"value": "value_nats"}), quantity
        )
        print(f"Fall of {quantity} from its peak to the end, bits, with 95 % intervals")
        print(falls[["layer", "start", "peak_epoch", "peak", "end", "fall", "low", "high"]].round(3).to_string())


def main(out: Path, quick: bool) -> None:
    networks, epochs, shown = (
        (QUICK_NETWORKS, QUICK_EPOCHS, QUICK_SHOWN) if quick else (NETWORKS, EPOCHS, SHOWN)
    )  # fmt: skip
    frame = train(networks, 1 if quick else None, epochs=epochs, snapshots=QUICK_SNAPSHOTS if quick else SNAPSHOTS)
    dots(frame, shown).to_csv(out / "tishby_plane.csv", index=False, float_format="%.6g")
    ip.analysis.mean_over_replicas(frame).to_csv(out / "tishby_plane_means.csv", index=False, float_format="%.6g")
    figure = ip.plot.dots(frame, epochs=shown)
    for suffix in ("png", "pdf"):
        ip.plot.save(figure, out / f"tishby_plane.{suffix}")
    plt.close(figure)
    for suffix in ("gif", "html"):
        ip.plot.animate(frame, out / f"tishby_plane.{suffix}")
    check(frame, shown)
