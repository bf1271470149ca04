"""Three neurons suffice for compression: as the weight grows, tanh loses bins and ReLU gains them.

Claim: there is one Gaussian input, one weight w and one activation, whose output is read in bins.
As the weight grows, as it does in training, the binned information of tanh first rises and then
falls, because the output gathers in the outermost bins. The binned information of a linear or a
ReLU unit rises without end. Neither learning nor noise is needed: it is the geometry of the bins.

Expected: with 30 bins between -1 and 1, tanh has its peak of 4.900 bits at w = 0.87 and falls to 1
bit. With bins of the same width on an unbounded grid, a linear unit gains log2(10) = 3.32 bits per
decade of w. A ReLU gains half of that in the end (1.79, 1.68 and 1.66 over successive decades),
because half of the inputs are cut off. H(bin(f(w X))) is I(X;T) of this deterministic unit after
binning; without bins it would be infinite. The closed form is p_i = Phi(f^-1(b_{i+1}) / w) -
Phi(f^-1(b_i) / w). The simulation is the plug-in entropy of N draws, which cannot exceed log2 N.

What came out (5 seeds of 100 000 draws; figures/saxe_minimal.csv): as expected. The peak of tanh is
4.900 bits at w = 0.87, and at w = 1000 it has 1.02. The linear unit gains 3.32 bits in each decade,
and ReLU gains 1.79, 1.68 and 1.66. The simulation and the closed form agree within 0.012 bits up to
w = 10. Beyond that, the simulated linear unit falls short of the closed form (by 0.12 bits at w =
158, by 0.61 at w = 1000), as its bins become as many as the draws. That is a bias of the estimator,
and here one can see it.
"""

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import infoplane as ip
from infoplane.theory.channels import minimal_model_entropy

SOURCE = "Saxe et al., On the information bottleneck theory of deep learning (ICLR 2018), figure 2"
TIME = "30 seconds"

DRAWS, SEEDS = 100_000, 5
QUICK_DRAWS, QUICK_SEEDS = 5_000, 2
WIDTH = 2 / 30
WEIGHTS = np.round(np.geomspace(0.1, 1000, 41), 6)
SIMULATED = WEIGHTS[::4]

COLORS = {"tanh": "tab:blue", "linear": "0.3", "relu": "tab:orange"}
FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "linear": lambda v: v,
    "relu": torch.relu,
}


def exact(name: str, w: float) -> float:
    """Return the information by the closed form, in bits.

    There are 30 bins for tanh. The others have a grid that covers the law.
    """
    if name == "tanh":
        return minimal_model_entropy(w, np.linspace(-1, 1, 31), np.arctanh) / math.log(2)
    top = math.ceil(7 * w / WIDTH) + 1
    edges = WIDTH * np.arange(0 if name == "relu" else -top, top + 1)
    inverse = (lambda b: np.where(b > 0, b, -np.inf)) if name == "relu" else (lambda b: b)
    return minimal_model_entropy(w, edges, inverse) / math.log(2)


def simulated(name: str, w: float, draws: int, seed: int) -> float:
    """Return the plug-in entropy of the bins of simulated draws, in bits."""
    x = torch.randn(draws, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    t = FUNCTIONS[name](w * x)
    found = (
        ip.estimators.binned_entropy(t, bins=30, range=(-1.0, 1.0))
        if name == "tanh"
        else ip.estimators.binned_entropy(t, width=WIDTH)
    )
    return float(found.entropy) / math.log(2)


def measure(draws: int, seeds: int) -> pd.DataFrame:
    rows = [
        {"unit": name, "w": w, "kind": "closed form", "bits": exact(name, w)} for name in FUNCTIONS for w in WEIGHTS
    ]
    rows += [
        {"unit": name, "w": w, "kind": "simulated", "replica": seed, "bits": simulated(name, w, draws, seed)}
        for name in FUNCTIONS
        for w in SIMULATED
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, draws: int) -> Figure:
    figure, ax = plt.subplots(figsize=(4.2, 3.2), layout="constrained")
    for name, color in COLORS.items():
        own = table[table["unit"] == name]
        line = own[own["kind"] == "closed form"]
        ax.plot(line["w"], line["bits"], color=color, label=f"{'ReLU' if name == 'relu' else name}, closed form")
        mean = ip.analysis.mean_over_replicas(own[own["kind"] == "simulated"], by=("w",), value="bits")
        ax.errorbar(
            mean["w"], mean["mean"], mean["high"] - mean["mean"], color=color, linestyle="", marker="o", markersize=3.5,
            label=f"{'ReLU' if name == 'relu' else name}, {draws} draws",
        )  # fmt: skip
    ax.axhline(math.log2(draws), color="0.35", linestyle=(0, (4, 3)), linewidth=0.7)
    ax.text(0.1, math.log2(draws), f"$\\log_2 N$, N = {draws}", va="bottom", size="small")
    ax.set_xscale("log")
    ax.set(xlabel="weight w", ylabel="I(X;T) of the binned output [bits]", ylim=(0, math.log2(draws) + 1.2))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def check(table: pd.DataFrame) -> None:
    fine = np.round(np.arange(0.5, 1.5, 0.01), 2)
    peak = max(fine, key=lambda w: exact("tanh", w))
    print(f"tanh: {exact('tanh', peak):.3f} bits at its peak, w = {peak:.2f}; {exact('tanh', 1000.0):.2f} at w = 1000")
    for name in ("linear", "relu"):
        gains = [exact(name, 10.0 ** (k + 1)) - exact(name, 10.0**k) for k in range(3)]
        print(f"{name}: bits gained from w = 1 to 10, 100 and 1000: {', '.join(f'{g:.2f}' for g in gains)}")
    of_draws = table[table["kind"] == "simulated"].groupby(["unit", "w"])["bits"].mean()
    off = [{"unit": unit, "w": w, "simulated - exact": bits - exact(unit, w)} for (unit, w), bits in of_draws.items()]
    print("Bits that the draws read, less those of the closed form")
    print(pd.DataFrame(off).pivot(index="w", columns="unit", values="simulated - exact").round(3).to_string())


def main(out: Path, quick: bool) -> None:
    draws, seeds = (QUICK_DRAWS, QUICK_SEEDS) if quick else (DRAWS, SEEDS)
    table = measure(draws, seeds)
    table.to_csv(out / "saxe_minimal.csv", index=False, float_format="%.6g")
    with plt.rc_context(ip.plot.LOOK):
        figure = draw(table, draws)
    for suffix in ("png", "pdf"):
        ip.plot.save(figure, out / f"saxe_minimal.{suffix}")
    plt.close(figure)
    check(table)
