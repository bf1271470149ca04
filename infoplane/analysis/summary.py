"""What a run came to, as a table for people and as an object for programs."""

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
    """The last epoch of a run: one row a layer, quantity and estimator, over replicas; losses, accuracies and gaps.

    A bracket is one row with `lower` and `upper`. value, lower, upper: means over replicas; spread: their standard
    deviation. standing: how many replicas have each. impossible: how many of all `measured` numbers of the run have
    each of the warnings that say so (`consistency`). All in `unit`; losses too, but of a regression. performance is
    empty where nothing was trained.
    """
    scale = UNITS[choose(unit, UNITS, "unit")]
    last = measurements[measurements["epoch"] == measurements["epoch"].max()]
    # a layer's rows together, what Echo noise knows of it first
    place = {layer: i for i, layer in enumerate(last["layer"].unique())}
    last = last.assign(place=last["layer"].map(place), late=~last["channel"].eq("echo")).sort_values(
        ["place", "late"], kind="stable"
    )
    rows = []
    keys = ["layer", "quantity", "estimator", "path", "channel", "params", "baseline"]
    last = last.assign(baseline=last["side"].eq("null"), side=last["side"].where(last["side"].ne(""), last["standing"]))
    for key, group in last.groupby(keys, sort=False):
        row: dict[str, Any] = dict(zip(keys, key, strict=True))
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
        rows.append(row)
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


def _performance(metrics: pd.DataFrame, scale: float) -> list[dict[str, Any]]:
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
    """The summary as text: every number with its standing, law, channel, unit and warnings."""
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
        text += f"; mean ± standard deviation over {replicas} replicas; a number after a word: in how many of them"
    text += "\nlaw: of these very points, unless it says population; what a warning means: infoplane warnings CODE"
    if result["impossible"]:
        found = ", ".join(f"{code} {n}" for code, n in result["impossible"].items())
        text += f"\nof all {result['measured']} numbers of the run, those that cannot be what they say: {found}"
    performance = _performance_table(result["performance"], unit)
    return f"{text}\n\n{performance}" if performance else text


def _performance_table(rows: list[dict[str, Any]], unit: str) -> str:
    """Accuracies and losses; a regression has no accuracy, and its loss is not in nats. "" where there are none."""
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
    """The channel of a number in words, with the codes that were sent through it where they are not plain ones."""
    words = ["permuted"] * baseline + [path] * (path in ("noise-off", "replicates")) + [channel]
    return ", ".join(words)


def _value(row: dict[str, Any]) -> str:
    if "lower" in row:
        return f"{_pm(row['lower'], row['lower_spread'])} to {_pm(row['upper'], row['upper_spread'])}"
    return _pm(row["value"], row["spread"])


def _pm(value: float, spread: float) -> str:
    return f"{value:z.3f}" if math.isnan(spread) else f"{value:z.3f} ± {spread:z.3f}"


def _counted(counts: dict[str, int], replicas: int) -> str:
    """ "exact", or "exact 4, upper 1" where replicas differ."""
    if all(n >= replicas for n in counts.values()):
        return ", ".join(counts)
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def columns(heads: list[str], body: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]
    lines = [heads, ["-" * w for w in widths], *body]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
