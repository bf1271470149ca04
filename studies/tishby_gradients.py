"""Gradients exceed their spread over minibatches at first and not later, in any network.

Claim: the norm of the mean gradient of each layer starts above the norm of its standard deviation
over minibatches (drift) and falls below it near epoch 350 (diffusion), where compression of the
input begins. Against this, a published attempt did not find that crossing, and Saxe et al. also
find a step in the ratio in ReLU and linear networks, which do not compress.

Expected: if the claim holds, SNR = |mean| / |standard deviation| is above 1 in the first epochs,
and below 1 for good from a few hundred epochs on, in every layer of tanh networks. If Saxe et al.
are right, the same is true of ReLU networks and of a linear student of a linear teacher. The norms
are of each weight matrix, with the weights held fixed, over the training batches of an epoch (Adam
4e-4 and 7 batches of 512 on the 12-bit task; SGD 0.1 and 20 batches of 5 for the student). The mean
over batches is the gradient of all training points, so it has no noise of its own. 7 independent
gradients with mean 0 would have an SNR of 0.41, and 20 would have 0.23.

What came out (6 networks each; figures/tishby_gradients_crossings.csv): there is a crossing, in
ReLU networks as in tanh ones. The SNR is 2 to 5 in the first epochs, rises to 20 in the upper tanh
layers near epoch 40, and falls below 1 between epochs 20 (first layer) and 700 (output) in the
median; in ReLU networks it does so between 12 and 320. It ends at 0.3, near the value of 7
independent gradients. In tanh networks it returns to 0.8 at the last snapshot, where the loss is
nearly 0. In the linear student with batches of 5, it is below 1 from the first epoch on (0.3, then
0.12). So the step is there without compression (ReLU), and the layer that crosses last, the output,
is not the one that compresses most.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import infoplane as ip

SOURCE = "Shwartz-Ziv & Tishby (2017), figure 4; Saxe et al. (ICLR 2018), figures 9, 10, 20 and 21"
TIME = "2 minutes"

NETWORKS = 6
TASK: dict[str, Any] = {"preset": "tishby", "ordered": False, "epochs": 2000}
KINDS: dict[str, dict[str, Any]] = {
    "tanh": {**TASK, "activation": "tanh"},
    "ReLU": {**TASK, "activation": "relu", "init": "he"},
    "linear student": {"dataset": "student-teacher", "batch_size": 5, "epochs": 1000, "estimators": ()},
}
QUICK_NETWORKS, QUICK_EPOCHS = 2, 10
EARLY = 10


def train(networks: int, epochs: int | None, processes: int | None) -> ip.Sweep:
    more = {} if epochs is None else {"epochs": epochs}
    common: dict[str, Any] = {"gradients": True, "replicas": networks, "snapshots": "log:30"}
    return ip.train_all(
        {kind: ip.Settings.of(**{**common, **given, **more}) for kind, given in KINDS.items()}, processes=processes
    )


def crossings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run, layer and network, with its SNR and its crossing.

    The row has the largest SNR in the first epochs, the SNR at the end, and the first epoch from
    which on it stays below 1. This epoch is NaN if the SNR is not below 1 at the end, and the first
    epoch if it never was at least 1.
    """
    rows = []
    for (run, layer, replica), own in frame.groupby(["run", "layer", "replica"], sort=False):
        snr = own.set_index("epoch")["snr"].sort_index()
        above = snr.index[snr >= 1]
        after = snr.index[snr.index > above.max()] if len(above) else snr.index
        rows.append(
            {"run": run, "layer": layer, "replica": replica, "early": snr[snr.index <= EARLY].max()}
            | {"end": snr.iloc[-1], "crossing": after.min() if len(after) else np.nan}
        )
    return pd.DataFrame(rows)


def check(table: pd.DataFrame) -> None:
    by = table.groupby(["run", "layer"], sort=False)
    said = by[["early", "end"]].median().join(by["crossing"].describe()[["count", "25%", "50%", "75%"]])
    print(f"SNR: the largest up to epoch {EARLY} and the last, medians over networks")
    print("count: of the networks whose SNR ends below 1; quartiles: of the first epoch from which on it is")
    print(said.round(2).to_string())


def main(out: Path, quick: bool) -> None:
    sweep = train(QUICK_NETWORKS, QUICK_EPOCHS, 1) if quick else train(NETWORKS, None, None)
    frame, table = sweep.gradients, crossings(sweep.gradients)
    frame.to_csv(out / "tishby_gradients.csv", index=False, float_format="%.6g")
    table.to_csv(out / "tishby_gradients_crossings.csv", index=False, float_format="%.6g")
    figure = ip.plot.gradients(frame)
    for suffix in ("png", "pdf"):
        ip.plot.save(figure, out / f"tishby_gradients.{suffix}")
    plt.close(figure)
    check(table)
