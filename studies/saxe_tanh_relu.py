"""Tanh networks compress and ReLU networks do not, in the numbers of kernel densities and of bins.

Claim: on the 12-bit task, the upper layers of tanh networks first gain information about their
input and then lose bits of it, while those of ReLU networks keep what they gain. The activation
decides this, not the fact that the network learns: softsign, which saturates slowly, compresses
less than tanh, and softplus and linear layers do not compress. All of this is about the published
estimators: upper bounds through noise of variance 1e-3 that the network does not have, and bins of
0.07.

Expected: I(X;T) of the last hidden layer of tanh networks falls by 3 bits or more from its peak,
and I(X;T) of no hidden ReLU layer falls by 0.5 bits; tanh > softsign > ReLU = softplus = 0. The
networks are 12-10-7-5-4-3-2 with Saxe et al.'s initial weights, trained with Adam 4e-4 on batches
of 256 for 10 000 epochs and measured on all 4096 inputs at their 211 snapshots. There are 50
networks of tanh and of ReLU, as in their study, and 10 of each other kind.

The planes are drawn as in their study: the upper bound against a difference of upper bounds
(`kde-upper`), which is not a bound on I(T;Y) and carries that warning. The bracket that is a bound
reaches from 0 to H(Y) in the upper layers, and would put them all at the same height. Against the
epoch, both bounds are drawn.

What came out (figures/saxe_tanh_relu_falls.csv): as they found. In the mean over 50 seeds, the last
hidden layer of tanh networks falls by 5.7 bits (95 % interval 5.3 to 6.0) in the KDE's upper bound
and by 5.9 [5.6, 6.3] in bins, and the layer before it falls by 1.2 and 1.0. No hidden ReLU layer
falls by more than 0.05. Softsign (10 seeds) falls by 1.6 [0.7, 2.4], and softplus by 0.0. Not as
they found: the last hidden layer of linear networks falls by 0.9 bits [0.5, 1.3] (binning 0.7). The
test accuracies are 0.968 (tanh), 0.919 (ReLU: some of the 50 networks never learn, and the worst
has 0.507), 0.950, 0.975 and 0.864.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import infoplane as ip

SOURCE = "Saxe et al., On the information bottleneck theory of deep learning (ICLR 2018), figures 1, 8 and 12"
TIME = "20 minutes, with numba"

REPLICAS = {"tanh": 50, "relu": 50, "softsign": 10, "softplus": 10, "linear": 10}
TRAINING: dict[str, Any] = {"epochs": 10_000, "snapshots": "saxe"}
SHOWN = 50  # snapshots that are drawn; all of them are searched for a peak
ESTIMATORS = ("kde:noise_variance=0.001,published=true", "binning:width=0.07")

QUICK_REPLICAS = {"tanh": 2, "relu": 2}
QUICK_TRAINING: dict[str, Any] = {"epochs": 20, "snapshots": "0,20"}

HIDDEN = [f"hidden{k}" for k in range(1, 6)]


def train(replicas: dict[str, int], processes: int | None, **training: Any) -> ip.Sweep:
    common: dict[str, Any] = {"preset": "saxe", "estimators": ESTIMATORS, **training}
    return ip.train_all(
        {name: ip.Settings.of(activation=name, replicas=r, **common) for name, r in replicas.items()},
        processes=processes,
    )


def shown(measurements: pd.DataFrame) -> pd.DataFrame:
    """Select the measurements at about SHOWN log-spaced epochs, for the figures and their means."""
    epochs = np.unique(measurements["epoch"])
    wanted = np.geomspace(1, epochs[-1] + 1, SHOWN) - 1
    nearest = np.abs(np.log1p(epochs)[:, None] - np.log1p(wanted)).argmin(0)
    return measurements[measurements["epoch"].isin(epochs[nearest])]


def draw(measurements: pd.DataFrame) -> dict[str, Figure]:
    published = measurements["estimator"] == "kde-upper"
    return {
        "saxe_tanh_relu": ip.plot.plane(measurements, estimator="kde-upper"),
        "saxe_tanh_relu_binning": ip.plot.plane(measurements, estimator="binning"),
        "saxe_tanh_relu_epochs": ip.plot.rates(measurements[~published]),
    }


def check(falls: pd.DataFrame, metrics: pd.DataFrame) -> None:
    """Print the falls of I(X;T) in bits, with 95 % intervals, and whether they are as expected."""
    upper = falls[(falls["estimator"] != "kde-upper") & (falls["standing"] != "lower")]
    in_bits = upper[["fall", "low", "high"]] / math.log(2.0)
    said = [f"{row.fall:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in in_bits.itertuples()]
    table = upper.assign(said=said).pivot(index=["estimator", "layer"], columns="run", values="said")
    print("Fall of I(X;T) from its peak to the end, bits [95 % interval]; kde: of the upper bound")
    print(table[list(dict.fromkeys(upper["run"]))].to_string())
    for estimator in ("kde", "binning"):
        fall = upper[upper["estimator"] == estimator].set_index(["run", "layer"])["fall"] / math.log(2.0)
        last, relu = fall.xs(HIDDEN[-1], level="layer"), fall["relu"][HIDDEN]
        print(f"{estimator}: last hidden tanh layer falls by 3 bits or more: {last['tanh'] >= 3}")
        print(f"{estimator}: no hidden ReLU layer by 0.5 bits: {relu.max() < 0.5}")
        if "softsign" in last:
            ordered = last["tanh"] > last["softsign"] > 0.5 > max(last["relu"], last["softplus"])
            print(f"{estimator}: tanh > softsign > ReLU = softplus = 0, within 0.5 bits: {ordered}")
    last = metrics[(metrics["epoch"] == metrics["epoch"].max()) & (metrics["split"] == "test")]
    print("Test accuracy at the end")
    print(last.groupby("run", sort=False)["accuracy"].agg(["mean", "std", "min"]).round(3).to_string())


def main(out: Path, quick: bool) -> None:
    sweep = train(QUICK_REPLICAS, 1, **QUICK_TRAINING) if quick else train(REPLICAS, None, **TRAINING)
    falls = ip.analysis.fall_from_peak(sweep.measurements)
    some = shown(sweep.measurements)
    means = ip.analysis.mean_over_replicas(some).drop(columns="channel")  # the parameters say it too
    means.to_csv(out / "saxe_tanh_relu.csv", index=False, float_format="%.4g")
    falls.to_csv(out / "saxe_tanh_relu_falls.csv", index=False, float_format="%.6g")
    for name, figure in draw(some).items():
        for suffix in ("png", "pdf"):
            ip.plot.save(figure, out / f"{name}.{suffix}")
        plt.close(figure)
    check(falls, sweep.metrics)
