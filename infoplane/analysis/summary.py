"""The summary of a run, as a table for people and as an object for programs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import choose
from ..records import POINTS, UNITS
from ..warning_codes import IMPOSSIBLE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["columns", "render", "summary", "through"]


def summary(measurements: pd.DataFrame, metrics: pd.DataFrame, unit: str = "bits") -> dict[str, Any]:
    """Summarise the last epoch of a run.

    Args:
        measurements: The measurements of one run, in nats.
        metrics: Its losses, accuracies and errors; an empty frame if nothing was trained.
        unit: The unit of all information and cross-entropies in the result: "bits" or "nats".

    Returns:
        A dictionary that can be written as JSON:

        - epoch, replicas, unit: The last epoch, the number of replicas, and the unit.
        - numbers: One row per layer, quantity and estimator. A bracket is one row with `lower` and
          `upper`, any other number has `value`; these are means over replicas, and their spreads
          are standard deviations. `standing` and `warnings` count the replicas that have each.
        - performance: Losses, accuracies and generalisation gaps per path through the network. The
          loss of a regression is not in `unit`. Empty if nothing was trained.
        - measured: The number of measurements over the whole run.
        - impossible: How many of them have each of the warnings for numbers that cannot be right
          (`recording.consistency`).

    Raises:
        InfoplaneError: If the unit is not known.

    Example:
        >>> import pandas as pd
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> model = torch.nn.Sequential(torch.nn.Identity())
        >>> recorder = ip.Recorder(model, x, estimators=["counting"])
        >>> tables = recorder.snapshot(epoch=3)
        >>> found = ip.analysis.summary(recorder.frame(), pd.DataFrame(), unit="bits")
        >>> found["epoch"], found["measured"]
        (3, 1)
        >>> [(row["layer"], row["quantity"], float(row["value"])) for row in found["numbers"]]
        [('0', 'I(X;T)', 1.0)]
    """
    scale = UNITS[choose(unit, UNITS, "unit")]
    last = measurements[measurements["epoch"] == measurements["epoch"].max()]
    # keep the rows of a layer together, with the numbers of its own Echo noise first
    place = {layer: i for i, layer in enumerate(last["layer"].unique())}
    last = last.assign(place=last["layer"].map(place), late=~last["channel"].eq("echo")).sort_values(
        ["place", "late"], kind="stable"
    )
    rows = []
    keys = ["layer", "quantity", "estimator", "path", "channel", "params", "baseline"]
    last = last.assign(baseline=last["side"].eq("null"), side=last["side"].where(last["side"].ne(""), last["standing"]))
    for key, group in last.groupby(keys, sort=False):
        rows.append(dict(zip(keys, key, strict=True)) | _number(group, scale))
    codes = measurements["warnings"].str.split(";").explode()
    return {
        "impossible": {code: int((codes == code).sum()) for code in IMPOSSIBLE if (codes == code).any()},
        "measured": len(measurements),
        "epoch": int(last["epoch"].max()),
        "replicas": int(last["replica"].nunique()),
        "unit": unit,
        "numbers": rows,
        "performance": _performance(metrics, scale),
    }


def _number(group: pd.DataFrame, scale: float) -> dict[str, Any]:
    """Summarise one number over replicas; scale: nats per unit."""
    row: dict[str, Any] = {}
    sides = {side: part["value_nats"] / scale for side, part in group.groupby("side", sort=False)}
    if {"lower", "upper"} <= set(sides):
        row |= {"lower": sides["lower"].mean(), "lower_spread": sides["lower"].std()}
        row |= {"upper": sides["upper"].mean(), "upper_spread": sides["upper"].std()}
    else:
        row |= {"value": (group["value_nats"] / scale).mean(), "spread": (group["value_nats"] / scale).std()}
    row["standing"] = group["standing"].value_counts(sort=False).sort_index().to_dict()
    row["law"] = " or ".join(sorted(group["law"].unique()))
    row["n"] = int(group["n"].max())
    row["ceiling"] = group["ceiling_nats"].mean() / scale
    codes = group.loc[group["warnings"] != "", ["replica", "warnings"]]
    pairs = codes["warnings"].str.split(";").explode().to_frame().join(codes["replica"])
    row["warnings"] = {c: int(p["replica"].nunique()) for c, p in pairs.groupby("warnings", sort=False)}
    return row


def _performance(metrics: pd.DataFrame, scale: float) -> list[dict[str, Any]]:
    """Return losses, accuracies and gaps at the last epoch, one row per path."""
    if metrics.empty:
        return []
    last = metrics[metrics["epoch"] == metrics["epoch"].max()]
    out = []
    for path, group in last.groupby("path", sort=False):
        by = {split: part.set_index("replica") for split, part in group.groupby("split")}
        row: dict[str, Any] = {"path": path, "objective": group["objective"].iloc[0]}
        for name in ("accuracy", "loss", "error"):
            size = scale if name == "loss" and row["objective"] == "cross-entropy" else 1.0
            for split in ("train", "test"):
                values = by[split][name] / size
                row |= {f"{split}_{name}": values.mean(), f"{split}_{name}_spread": values.std()}
            gap = (by["test"][name] - by["train"][name]) / size
            row |= {f"gap_{name}": gap.mean(), f"gap_{name}_spread": gap.std()}
        out.append(row)
    return out


def render(result: dict[str, Any]) -> str:
    """Render a summary as text: every number with its standing, law, channel and warnings.

    Args:
        result: The dictionary that `summary` returned.

    Returns:
        A table of the numbers, and one of losses and accuracies if something was trained.
    """
    unit, replicas = result["unit"], result["replicas"]
    heads = ["layer", "quantity", unit, "standing", "estimator", "channel", "law", "warnings"]
    body = [
        [
            row["layer"],
            row["quantity"],
            _value(row),
            _counted(row["standing"], replicas),
            row["estimator"] + "".join(f", {word}" for word in row["params"].split(",") if word.startswith("beta=")),
            through(row["path"], row["channel"], row["baseline"]),
            row["law"].replace(POINTS, f"{row['n']} points"),
            _counted(row["warnings"], replicas),
        ]
        for row in result["numbers"]
    ]
    text = columns(heads, body)
    text += f"\n\n{unit}"
    if replicas > 1:
        text += (
            f"; mean ± standard deviation over {replicas} replicas; a number after a word counts the replicas with it"
        )
    text += "\nlaw: numbers are about these very points unless it says population"
    text += "; `infoplane warnings CODE` explains a warning"
    if result["impossible"]:
        found = ", ".join(f"{code} {n}" for code, n in result["impossible"].items())
        text += f"\nof all {result['measured']} numbers of the run, these cannot be right: {found}"
    performance = _performance_table(result["performance"], unit)
    return f"{text}\n\n{performance}" if performance else text


def _performance_table(rows: list[dict[str, Any]], unit: str) -> str:
    """Render accuracies and losses; "" if there are none.

    A regression has no accuracy, and its loss is not in nats.
    """
    if not rows:
        return ""
    regression = rows[0]["objective"] != "cross-entropy"
    unit = rows[0]["objective"] if regression else unit
    shown = {} if regression else {"train_accuracy": "train accuracy", "test_accuracy": "test accuracy"}
    shown |= {"train_loss": f"train loss ({unit})", "test_loss": f"test loss ({unit})"}
    shown |= {"gap_loss": f"gap in loss ({unit})"} | ({} if regression else {"gap_error": "gap in error"})
    body = [[row["path"]] + [_pm(row[name], row[f"{name}_spread"]) for name in shown] for row in rows]
    return columns(["path", *shown.values()], body)


def through(path: str, channel: str, baseline: bool = False) -> str:
    """Describe the channel of a number, and which codes were sent through it.

    Args:
        path: The path of the number ("" | noise-off | sampled | replicates).
        channel: The name of the channel.
        baseline: Whether the number is a baseline from permuted points.

    Returns:
        The words for a table; the path is left out if it is the usual one.
    """
    words = ["permuted"] * baseline + [path] * (path in ("noise-off", "replicates")) + [channel]
    return ", ".join(words)


def _value(row: dict[str, Any]) -> str:
    if "lower" in row:
        return f"{_pm(row['lower'], row['lower_spread'])} to {_pm(row['upper'], row['upper_spread'])}"
    return _pm(row["value"], row["spread"])


def _pm(value: float, spread: float) -> str:
    return f"{value:z.3f}" if math.isnan(spread) else f"{value:z.3f} ± {spread:z.3f}"


def _counted(counts: dict[str, int], replicas: int) -> str:
    """Return "exact", or "exact 4, upper 1" if replicas differ."""
    if all(n >= replicas for n in counts.values()):
        return ", ".join(counts)
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def columns(heads: list[str], body: list[list[str]]) -> str:
    """Lay out rows of text in aligned columns, with a rule below the heads."""
    widths = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]
    lines = [heads, ["-" * w for w in widths], *body]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
