"""Where rates are exact, tanh, ReLU and linear layers lose what the objective makes them lose.

Claim: networks fit first and compress later, tanh networks more than others. Estimates of
deterministic layers cannot tell, because they follow their bins. Echo layers have a rate that is
known exactly.

Expected: if compression belongs to learning, the exact rate of the Echo layers rises and falls
again, also without a price on it (beta = 0), and more so in tanh networks than in linear ones. If
the price causes it, then with beta = 0.03 the rate falls from its ceiling in all networks alike,
once beta has set in (after 40 of 400 epochs; "later": after 120), and with beta = 0 it does not.

Chains: these are classifiers of the 12-bit task with two Echo layers, as `infoplane train` makes
them. I(Z;X) of the first and I(Z2;Z1) of the second are shown next to KDE and bins of the same
layers on the path without noise. A rate that is not exact is an upper bound, at or above 0.6 of ln
N; there it cannot be said to rise or fall. Taps: these are plain tanh and ReLU networks, trained
without noise. For each layer, before and after training, a code Z is found that has the smallest
rate from which the label can be told or the layer can be rebuilt. The rate of a tap is that of its
code and not of the layer.

What came out (5 networks each; figures/exact_plane_phases.csv and _taps.csv): the price causes it.
With beta = 0.03, the rates leave their ceiling once beta has set in, and they are exact in every
network from epoch 81 or 121 on. From there they fall in the first Echo layer by 1.2 bits [0.6, 1.7]
(tanh), 0.8 [0.1, 1.6] (ReLU) and 1.5 [0.9, 2.0] (linear), to 4.3, 4.9 and 3.7 bits at the end:
linear networks compress as much. Where beta sets in later, the fall is later too. These rates are
still at the ceiling when the others are exact; they are exact from epoch 268 on and end at 4.5
(tanh) and 5.1 bits (ReLU). With beta = 0, no rate is ever exact. I(Z;X) stays at its ceiling of 12
bits, and the bound of I(Z2;Z1) grows to 37 and 52 bits, because the networks turn their noise off.
So nothing compresses by itself, as far as this study can see, which is not beyond 0.6 of ln N.

Taps: the code that tells the label needs more bits the longer the network has trained, and it loses
less (tanh hidden5 at 0.03: 0.6 bits and a cross-entropy of 0.97 before training, 2.1 and 0.06 after
it). The same holds in ReLU networks. To rebuild the layer takes 4 bits at beta 0.3 in all layers
before training, and 3.1 in tanh hidden5 after it (ReLU: 3.3 before and after). At 0.03 those rates
are bounds and say nothing.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

import infoplane as ip

SOURCE = (
    "Brekelmans, Moyer, Galstyan, Ver Steeg, Exact rate-distortion in autoencoders via Echo noise (2019); this package"
)
TIME = "5 minutes"

CHAINS: dict[str, dict[str, Any]] = {
    "tanh": {"activation": "tanh"},
    "ReLU": {"activation": "relu"},
    "linear": {"activation": "linear"},
    "tanh, beta later": {"activation": "tanh", "warmup": 0.3},
    "ReLU, beta later": {"activation": "relu", "warmup": 0.3},
    "tanh, beta = 0": {"activation": "tanh", "beta": 0.0},
    "ReLU, beta = 0": {"activation": "relu", "beta": 0.0},
}
TAPS: dict[str, dict[str, Any]] = {
    f"{name}, {objective}": {"activation": name, "tap_objective": objective}
    for objective in ("label", "reconstruction")
    for name in ("tanh", "relu")
}
REPLICAS, EPOCHS, SNAPSHOTS = 5, 400, "log:16"
TAP_REPLICAS, TAPPED, TAP_BETAS = 5, (1, 3, 5), (0.03, 0.3)
QUICK: dict[str, Any] = {"replicas": 1, "epochs": 2, "snapshots": "0,2"}
QUICK_TAP = "tap:objective=label,betas=0.3,layers=hidden5,steps=40,echoes=16,batch=64"
BITS = math.log(2)


def train(quick: bool) -> tuple[ip.Sweep, ip.Sweep]:
    common: dict[str, Any] = QUICK if quick else {"replicas": REPLICAS, "epochs": EPOCHS, "snapshots": SNAPSHOTS}
    chains = {name: ip.Settings.of(echo_layers=2, **{**common, **given}) for name, given in CHAINS.items()}
    if quick:
        chains = {"tanh": chains["tanh"]}
    common = {"epochs": EPOCHS, "snapshots": f"0,{EPOCHS}", "replicas": TAP_REPLICAS, "echo_at": TAPPED}
    common |= {"tap_betas": TAP_BETAS, "echo_mode": "tap", "estimators": ()}
    taps = {name: ip.Settings.of(**{**common, **given}) for name, given in TAPS.items()}
    if quick:
        taps = {"tanh, label": ip.Settings.of(activation="tanh", estimators=(QUICK_TAP,), **QUICK)}
    processes = 1 if quick else None
    return ip.train_all(chains, processes=processes), ip.train_all(taps, processes=processes)


def phases(measurements: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run and Echo layer: its last rate and its fall, in bits.

    The fall is from the largest value among the epochs at which the rate is exact, without a
    warning, in every replica. It has a 95 % interval.
    """
    echo = measurements[(measurements["estimator"] == "echo") & (measurements["standing"] != "lower")]
    first = echo.groupby("run")["layer"].transform("first")
    own = echo[(echo["quantity"] == "I(Z2;Z1)") | ((echo["quantity"] == "I(Z;X)") & (echo["layer"] == first))]
    rows = []
    for (run, layer, quantity), each in own.groupby(["run", "layer", "quantity"], sort=False):
        table = each.pivot(index="replica", columns="epoch", values="value_nats") / BITS
        sure = ((each["standing"] == "exact") & (each["warnings"] == "")).groupby(each["epoch"]).all()
        epochs = list(sure.index[sure])
        last = table.columns.max()
        row = {"run": run, "layer": layer, "quantity": quantity, "ceiling": each["ceiling_nats"].max() / BITS}
        row |= {"end": table[last].mean(), "sd": table[last].std()}
        row["exact at the end"] = (each[each["epoch"] == last]["standing"] == "exact").sum()
        row["exact in all from"] = min(epochs) if epochs else math.nan
        if epochs and last in epochs:
            peak = table[epochs].mean().idxmax()
            fall = ip.analysis.mean_over_replicas(
                (table[peak] - table[last]).rename("fall").reset_index().assign(run=run), ("run",), "fall"
            )
            row |= {"peak at": peak, "peak": table[peak].mean()}
            row |= {"fall": fall["mean"].item(), "low": fall["low"].item(), "high": fall["high"].item()}
        rows.append(row)
    return pd.DataFrame(rows)


def main(out: Path, quick: bool) -> None:
    chains, taps = train(quick)
    found = phases(chains.measurements)
    ip.analysis.mean_over_replicas(chains.measurements).to_csv(
        out / "exact_plane.csv", index=False, float_format="%.6g"
    )
    found.to_csv(out / "exact_plane_phases.csv", index=False, float_format="%.6g")
    taps.taps.to_csv(out / "exact_plane_taps.csv", index=False, float_format="%.6g")
    priced = chains.measurements[~chains.measurements["run"].str.contains("beta")]
    shown = chains.measurements[chains.measurements["run"] != "ReLU, beta later"]  # leaves six panels
    figures = {
        "exact_plane": ip.plot.plane(shown, estimator="echo"),
        "exact_plane_epochs": ip.plot.rates(priced),
    }
    for objective, table in taps.taps.groupby("objective", sort=False):
        figures[f"exact_plane_{objective}"] = ip.plot.taps(table)
    for name, figure in figures.items():
        for suffix in ("png", "pdf"):
            ip.plot.save(figure, out / f"{name}.{suffix}")
        plt.close(figure)
    print("Rates of Echo layers, bits; fall: from the largest value that is exact in every replica")
    print(found.round(2).to_string(index=False))
    last = chains.metrics[chains.metrics["epoch"] == chains.metrics["epoch"].max()]
    print(last.groupby(["run", "split", "path"], sort=False)["accuracy"].mean().unstack().round(3).to_string())
    print("Taps: rate [bits], loss of the label [bits] or distortion, exact in so many replicas")
    table = taps.taps.assign(rate=taps.taps["value_nats"] / BITS, exact=taps.taps["standing"] == "exact")
    table["lost"] = table["distortion"].where(table["objective"] != "label", table["cross_entropy_nats"] / BITS)
    by = table.groupby(["run", "layer", "beta", "epoch"], sort=False)
    said = by.agg(rate=("rate", "mean"), sd=("rate", "std"), lost=("lost", "mean"), exact=("exact", "sum"))
    print(said.round(3).to_string())
