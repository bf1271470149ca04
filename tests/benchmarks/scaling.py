"""Time against points, units, replicas and layers, with the exponents: python tests/benchmarks/scaling.py [FOLDER]

Writes scaling.png and scaling.csv to FOLDER (default: figures). One thread; minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import infoplane as ip
from infoplane.plot.style import estimator_colors
from infoplane.runs.training import Training

#: no more is measured on an axis once a call has taken so long, seconds
LONG = 8.0


def points(n: int, d: int) -> torch.Tensor:
    return torch.tanh(torch.randn(n, d, generator=torch.Generator().manual_seed(n + d)))


def labels(n: int) -> torch.Tensor:
    return torch.arange(n) % 10


ESTIMATORS: dict[str, Callable[[torch.Tensor], object]] = {
    "binning": lambda t: ip.estimators.binned_entropy(t, width=0.07, labels=labels(len(t))),
    "kde": lambda t: ip.estimators.kde_bounds(t, 0.1 * t.shape[1], labels(len(t))),
    "mixture": lambda t: ip.estimators.mixture_information(t, std=torch.full_like(t, 0.3), draws=2),
    "ksg": lambda t: ip.estimators.ksg_information(t, t + 0.3 * torch.randn(t.shape)),
    "renyi": lambda t: ip.estimators.renyi_information(t, labels(len(t)), alpha=2.0, permutations=2),
}


def seconds(run: Callable[[], object]) -> float:
    run()
    taken = []
    while len(taken) < 3 and sum(taken) < LONG:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def epoch(replicas: int, depth: int) -> float:
    settings = ip.Settings.of(preset="saxe", replicas=replicas, widths=(8,) * depth)
    return seconds(Training.start(settings, torch.device("cpu")).run_epoch)


def snapshot(replicas: int, depth: int) -> float:
    x, y = ip.data.icosahedron()
    model = ip.MLP(12, (8,) * depth, 2, "tanh", replicas)
    ip.nn.initialise(model, "saxe", range(replicas))
    recorder = ip.Recorder(model, (x, y), estimators=["binning"])
    return seconds(lambda: recorder.snapshot(0))


def measure() -> pd.DataFrame:
    rows = []
    axes = {
        "points N (D = 10)": [(n, 10) for n in (1000, 2000, 4000, 8000, 16000, 32000, 60000)],
        "units D (N = 4096)": [(4096, d) for d in (1, 4, 16, 64, 256, 1024)],
    }
    for at, (axis, sizes) in enumerate(axes.items()):
        for name, run in ESTIMATORS.items():
            for n, d in sizes:
                t = points(n, d)
                taken = seconds(lambda t=t, run=run: run(t))
                rows.append({"axis": axis, "what": name, "size": (n, d)[at], "seconds": taken})
                if taken > LONG / 4:
                    break
    for axis, sizes in {"replicas R": (1, 2, 5, 10, 20, 50, 100, 200), "hidden layers": (1, 2, 4, 8, 16)}.items():
        for size in sizes:
            r, depth = (size, 5) if axis.startswith("replicas") else (5, size)
            rows.append({"axis": axis, "what": "an epoch of training", "size": size, "seconds": epoch(r, depth)})
            rows.append({"axis": axis, "what": "a snapshot, binning", "size": size, "seconds": snapshot(r, depth)})
    table = pd.DataFrame(rows)
    table["exponent"] = np.nan
    for _, own in table.groupby(["axis", "what"]):
        last = own.tail(3)  # where the sizes are largest
        slope = np.polyfit(np.log(last["size"]), np.log(last["seconds"]), 1)[0]
        table.loc[own.index, "exponent"] = round(slope, 2)
    return table


@plt.rc_context(ip.plot.LOOK)
def draw(table: pd.DataFrame) -> plt.Figure:
    figure, panels = plt.subplots(2, 2, figsize=(7, 5.4), layout="constrained")
    colors = estimator_colors(ESTIMATORS) | {"an epoch of training": "0.2", "a snapshot, binning": "tab:orange"}
    for ax, (axis, rows) in zip(panels.flat, table.groupby("axis", sort=False), strict=True):
        for what, own in rows.groupby("what", sort=False):
            label = f"{what}: {own['exponent'].iloc[0]:.2f}"
            ax.loglog(own["size"], own["seconds"], marker="o", markersize=3, color=colors[what], label=label)
        ax.set(xlabel=axis, ylabel="time [s]")
        ax.set_ylim(top=5 * ax.get_ylim()[1])  # room for the legend
        ax.legend(title="exponent, last three sizes", title_fontsize=7, loc="upper left")
    return figure


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    table = measure()
    table.to_csv(folder / "scaling.csv", index=False, float_format="%.4g")
    figure = draw(table)
    ip.plot.save(figure, folder / "scaling.png")
    plt.close(figure)
    print(table.groupby(["axis", "what"], sort=False)[["seconds", "exponent"]].last().to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "figures"))
