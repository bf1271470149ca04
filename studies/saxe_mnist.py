"""On MNIST too, estimators see tanh layers lose information on the input and ReLU layers gain it.

Claim: the activation decides on compression, for images and wider networks as for the 12-bit task.
The narrow upper layers of a tanh network 784-1024-20-20-20-10 compress as it trains, and those of a
ReLU network do not.

Expected: this is about I(X;T) on the 10 000 test images, from kernel densities with noise of
variance 0.1. The last hidden tanh layer loses a bit or more from its peak, and no hidden ReLU layer
loses 0.5 bits.

The networks, initial weights, batches of 128 and noise are those of Saxe et al., but the length is
not. They train for 10 000 epochs of SGD with steps of 0.001, which would take hours per network.
Here there are 30 epochs with steps of 0.02, which goes as far as 600 of theirs where the gradient
changes little from step to step, and is noisier. 10 000 inputs hold 13.3 bits, and none of the
numbers exceeds that. The planes are drawn with `kde-upper`, as in `saxe_tanh_relu`.

What came out (5 networks each; figures/saxe_mnist_falls.csv): as expected for the published number,
the upper bound, but it cannot bear that much. In tanh networks the upper bound falls in hidden2 to
hidden4 by 1.3 [0.5, 2.0], 2.2 [1.6, 2.8] and 1.9 bits [1.4, 2.4], and the binned value falls by
0.8, 1.2 and 2.1. No ReLU layer falls; all read ln N from the first epoch on. But all of the fall
happens before the first epoch is over, without a snapshot in between, so it is hardly a phase of
its own: from there on, the bounds of these layers rise by 0.1 to 0.3 bits. And the lower bound of
the last hidden layer, 5.9 bits at first and 6.7 at the end, does not fall (0.1 [-0.1, 0.3]):
between the two bounds, either is possible. The test accuracy is 0.964 (tanh) and 0.978 (ReLU).
"""

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

import infoplane as ip
from infoplane.data import Place, load_points

SOURCE = "Saxe et al., On the information bottleneck theory of deep learning (ICLR 2018), figure 1, C and D"
TIME = "15 minutes; needs MNIST"

ACTIVATIONS = ("tanh", "relu")
ESTIMATORS = ("kde:noise_variance=0.1,published=true", "binning:width=0.5")
FULL: dict[str, Any] = {"replicas": 5, "lr": 0.02, "epochs": 30, "snapshots": "log:12"}
QUICK: dict[str, Any] = {"replicas": 2, "lr": 0.02, "epochs": 1, "snapshots": "0,1", "subset": 500, "probe": "train"}
QUICK |= {"widths": (64, 20, 20, 20)}
HIDDEN = [f"hidden{k}" for k in range(1, 5)]


def check(falls: pd.DataFrame, metrics: pd.DataFrame) -> None:
    """Print the falls of I(X;T) in bits, with 95 % intervals, and whether they are as expected."""
    upper = falls[(falls["estimator"] != "kde-upper") & (falls["standing"] != "lower")]
    in_bits = upper.assign(
        **{name: upper[name] / math.log(2.0) for name in ("start", "peak", "end", "fall", "low", "high")}
    )
    print("I(X;T), bits, and its fall from the peak to the end with 95 % interval; kde: the upper bound")
    shown = ["estimator", "run", "layer", "start", "peak", "peak_epoch", "end", "fall", "low", "high"]
    print(in_bits[shown].round(2).to_string(index=False))
    for estimator, own in in_bits.groupby("estimator"):
        fall = own.set_index(["run", "layer"])["fall"]
        print(f"{estimator}: the last hidden tanh layer falls by a bit or more: {fall['tanh', HIDDEN[-1]] >= 1}")
        print(f"{estimator}: no hidden ReLU layer by 0.5 bits: {fall['relu'][HIDDEN].max() < 0.5}")
    last = metrics[metrics["epoch"] == metrics["epoch"].max()].groupby(["run", "split"], sort=False)
    print(last["accuracy"].agg(["mean", "std"]).round(3).to_string())


def main(out: Path, quick: bool, download: bool = False) -> None:
    load_points("mnist", Place(download=download))  # fails before any training, and says where the data should be
    chosen = {"preset": "saxe-mnist", "estimators": ESTIMATORS, **(QUICK if quick else FULL)}
    sweep = ip.train_all(
        {name: ip.Settings.of(activation=name, **chosen) for name in ACTIVATIONS}, processes=1 if quick else None
    )
    measurements = sweep.measurements
    falls = ip.analysis.fall_from_peak(measurements)
    ip.analysis.mean_over_replicas(measurements).to_csv(out / "saxe_mnist.csv", index=False, float_format="%.6g")
    falls.to_csv(out / "saxe_mnist_falls.csv", index=False, float_format="%.6g")
    figures = {
        "saxe_mnist": ip.plot.plane(measurements[measurements["estimator"] != "kde"]),
        "saxe_mnist_epochs": ip.plot.rates(measurements[measurements["estimator"] != "kde-upper"]),
    }
    for name, figure in figures.items():
        for suffix in ("png", "pdf"):
            ip.plot.save(figure, out / f"{name}.{suffix}")
        plt.close(figure)
    check(falls, sweep.metrics)
