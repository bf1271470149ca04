"""Deep linear networks generalise without compression, and forget the label if trained too long.

Claim: where the information is known exactly, it does not fall. A linear student 100-100-1 learns
from a linear teacher with noise. What its hidden layer knows about the input rises as it learns,
whether it generalises or overfits, and with full batches as well as with stochastic gradient
descent. What it knows about the label falls as it overfits. If most inputs are irrelevant, the
information about those is compressed, while the layer as a whole gains information.

Expected: I(X;T) rises throughout, both with the full batch and with batches of 5. With batches of 5
and few points, the generalisation error falls and rises again, and I(T;Y) rises and falls. With 30
relevant and 70 irrelevant inputs, I(X_irrelevant;T) rises and falls, and I(X;T) does not.

Inputs are N(0, 1/100) and the signal has 5 times the variance of the noise, as in Saxe et al. The
initial weights have a standard deviation of 0.01. All information is exact
(`infoplane.theory.linear`), for T = W x + N(0, s2 I); the noise s2 is not part of the network. The
noise of Saxe et al. is 1, of which weights of this size leave 0.06 nats. The figure uses 0.01, and
the table has both. An epoch is one step with the full batch, and 20 steps of a fifth of the size
with batches of 5.

What came out (means of 10 seeds; figures/saxe_linear.csv): I(X;T) never falls, in any of the four
runs, with either noise. With 100 points, both ways of training overfit in the end, the full batch
no less than batches of 5 that train for as long. The generalisation error falls from 1.25 to 0.59
(at epoch 75, and 18) and rises to 4.3 and 3.6, and I(T;Y) falls from 0.34 nats to 0.10 and 0.12.
That full batches generalise is true of the first hundred epochs only. With 70 irrelevant inputs and
100 points, I(X_irrelevant;T) rises from 0.34 nats to 0.51, falls to 0.48, and rises again to 0.75
as the network overfits. With 300 points, which are enough to generalise (error 0.29, of which the
noise of the label is 0.2), it rises to 0.41, falls to 0.37 and stays there. That fall is real
(0.036 nats, 95 % interval 0.024 to 0.048) but small compared with what the layer gains (1.19 nats).
"""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import infoplane as ip
from infoplane.data.student_teacher import student_teacher
from infoplane.theory import linear

SOURCE = "Saxe et al., On the information bottleneck theory of deep learning (ICLR 2018), figures 3, 4 and 6"
TIME = "90 seconds"

INPUTS, HIDDEN = 100, 100
INITIAL_STD = 0.01
NOISE_VARIANCES, SHOWN = (0.01, 1.0), 0.01
SEEDS = 10
#: irrelevant inputs, training points, rows per step, step size, epochs
RUNS = {
    "full batch": (0, 100, 100, 0.5, 4000),
    "batches of 5": (0, 100, 5, 0.1, 1000),
    "70 irrelevant inputs": (70, 100, 100, 0.5, 4000),
    "70 irrelevant, 300 points": (70, 300, 300, 0.5, 4000),
}
QUICK_SEEDS, QUICK_EPOCHS = 2, 60

X_T, T_Y = "I(X;T)", "I(T;Y)"
RELEVANT, IRRELEVANT, ERROR, TRAINING = "I(X_relevant;T)", "I(X_irrelevant;T)", "generalisation error", "training error"
COLORS = {X_T: "black", RELEVANT: "tab:blue", IRRELEVANT: "tab:orange", T_Y: "tab:green"}
COLORS |= {ERROR: "tab:red", TRAINING: "tab:gray"}


def snapshots(epochs: int) -> set[int]:
    """Return about eight epochs per factor of ten, and the first and the last one."""
    return {0, epochs} | {round(10 ** (k / 8)) for k in range(int(8 * math.log10(epochs)) + 1)}


def learn(irrelevant: int, points: int, batch: int, lr: float, epochs: int, seed: int) -> list[dict[str, object]]:
    """Train one student, and return its exact information at each snapshot."""
    data = student_teacher(INPUTS, seed=seed, irrelevant=irrelevant)
    x, y, law = data.x[:points], data.y[:points], data.law
    assert law is not None  # the law of a linear teacher is known
    generator = torch.Generator().manual_seed(seed)
    first = INITIAL_STD * torch.randn(HIDDEN, INPUTS, generator=generator)
    second = INITIAL_STD * torch.randn(1, HIDDEN, generator=generator)
    rows: list[dict[str, object]] = []
    at = snapshots(epochs)
    for epoch in range(epochs + 1):
        if epoch in at:
            held = measure(first, second, law, irrelevant) | {(TRAINING, ""): error(first, second, x, y)}
            rows += [{"epoch": epoch, "quantity": q, "channel": c, "value_nats": v} for (q, c), v in held.items()]
        for some in torch.randperm(points, generator=generator).split(batch):
            hidden = x[some] @ first.T
            off = 2.0 / len(some) * (hidden @ second.T - y[some])  # the derivative of the mean squared error
            down = second.T @ (off.T @ x[some])
            second, first = second - lr * off.T @ hidden, first - lr * down
    return rows


def error(first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> float:
    return float((y - x @ first.T @ second.T).square().mean())


def measure(
    first: torch.Tensor, second: torch.Tensor, law: linear.LinearTask, irrelevant: int
) -> dict[tuple[str, str], float]:
    held = {(ERROR, ""): linear.generalisation_error(second @ first, law)}
    for s2 in NOISE_VARIANCES:
        channel = f"noise of variance {s2:g}"
        held[X_T, channel] = linear.input_information(first, law.covariance, s2)
        held[T_Y, channel] = linear.label_information(first, law, s2)
        if irrelevant:
            parts = torch.arange(INPUTS).split([INPUTS - irrelevant, irrelevant])
            for name, part in zip((RELEVANT, IRRELEVANT), parts, strict=True):
                held[name, channel] = linear.subset_information(first, law.covariance, s2, part)
    return {key: float(value) for key, value in held.items()}


def draw(means: pd.DataFrame) -> Figure:
    means = means[means["channel"].isin(["", f"noise of variance {SHOWN:g}"])]
    runs = list(dict.fromkeys(means["run"]))
    figure, axes = plt.subplots(3, len(runs), figsize=(7, 6.2), layout="constrained", sharey="row", squeeze=False)
    for run, (top, middle, bottom) in zip(runs, axes.T, strict=True):
        curves = {q: own.sort_values("epoch") for q, own in means[means["run"] == run].groupby("quantity")}
        for ax, names in ((top, (X_T, RELEVANT, IRRELEVANT, T_Y)), (middle, (ERROR, TRAINING))):
            for name in names:
                if name in curves:
                    own = curves[name]
                    ax.plot(own["epoch"], own["mean"], color=COLORS[name], label=name)
                    ax.fill_between(own["epoch"], own["low"], own["high"], color=COLORS[name], alpha=0.2, linewidth=0)
            ax.set_xscale("symlog", linthresh=1, linscale=0.4)
            ax.set_xlim(0, own["epoch"].max())
            ax.set_xlabel("epoch")
        middle.set_yscale("log")
        x, y = curves[X_T], curves[T_Y]
        bottom.plot(x["mean"], y["mean"], color="0.5", linewidth=0.7, zorder=1)
        bottom.scatter(x["mean"], y["mean"], c=x["epoch"].clip(lower=0.5), norm="log", cmap="viridis", s=10, zorder=2)
        bottom.set_xlabel("$I(X;T)$ [nats]")
        top.set_title(run)
    reach = 1.05 * means.loc[means["quantity"] == X_T, "mean"].max()
    for ax in axes[2]:
        ax.set_xlim(0, reach)
    figure.legend(
        handles=[
            *(Line2D([], [], color=color, label=name) for name, color in COLORS.items()),
            Line2D([], [], color="0.5", marker="o", markersize=3, linewidth=0.7, label="epochs, from dark to light"),
            Patch(color="0.3", alpha=0.2, linewidth=0, label="95 % interval of the mean"),
        ],
        loc="outside lower center",
        ncols=4,
        title=f"hidden layer, exact, through noise of variance {SHOWN:g}; mean over {means['replicas'].max()} seeds",
        title_fontsize="small",
    )
    axes[0, 0].set_ylabel("information [nats]")
    axes[1, 0].set_ylabel("squared error")
    axes[2, 0].set_ylabel("$I(T;Y)$ [nats]")
    return figure


def check(frame: pd.DataFrame, means: pd.DataFrame) -> None:
    """Print the start, peak, end and fall of each number, in nats, with 95 % intervals."""
    shown = ["run", "channel", "start", "peak", "peak_epoch", "end", "fall", "low", "high"]
    for name in (X_T, T_Y, RELEVANT, IRRELEVANT):
        print(f"{name}, nats\n{ip.analysis.fall_from_peak(frame, name)[shown].round(3).to_string(index=False)}")
    errors = means[means["quantity"] == ERROR].set_index("epoch").groupby("run", sort=False)["mean"]
    table = errors.agg(["first", "min", "idxmin", "last"]).round(3)
    print(f"{ERROR} (the noise of the label is 0.2)\n{table.to_string()}")


def main(out: Path, quick: bool) -> None:
    torch.set_num_threads(1)
    rows = []
    for run, (irrelevant, points, batch, lr, epochs) in RUNS.items():
        for seed in range(QUICK_SEEDS if quick else SEEDS):
            epochs = min(epochs, QUICK_EPOCHS) if quick else epochs
            learned = learn(irrelevant, points, batch, lr, epochs, seed)
            rows += [{"run": run, "replica": seed} | row for row in learned]
    frame = pd.DataFrame(rows)
    means = ip.analysis.mean_over_replicas(frame)
    means.to_csv(out / "saxe_linear.csv", index=False, float_format="%.6g")
    with plt.rc_context(ip.plot.LOOK):
        figure = draw(means)
    for suffix in ("png", "pdf"):
        ip.plot.save(figure, out / f"saxe_linear.{suffix}")
    plt.close(figure)
    check(frame, means)
