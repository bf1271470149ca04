"""The generalisation gap of each replica next to its information, and their rank correlation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm, rankdata

from ..errors import InfoplaneError, choose
from .points import chosen, echo_places, layers_of, loss_unit, needs, points

__all__ = ["GAPS", "RankCorrelation", "correlations", "gap_table", "rank_correlation"]

#: the gaps: a column of `gap_table`, and the column of metrics.csv that it is the difference of
GAPS = {"gap_loss": "loss", "gap_error": "error"}
#: the fewest replicas of a run for which a correlation within the run is given
_FEWEST = 4
#: values that differ by less than this relative amount count as equal, because the order of their
#: last digits is rounding
_ALIKE = 1e-9
_METRICS = ("run", "epoch", "replica", "split", "path", *GAPS.values())


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation with its interval, as `rank_correlation` returns it.

    Args:
        rho: The correlation, from -1 to 1; NaN if it is not defined.
        low: The lower end of the interval; NaN if there is no interval.
        high: The upper end.
        n: The number of pairs without NaN.
        note: The reason why rho or its interval is missing; "" if neither is.

    Example:
        >>> import infoplane as ip
        >>> found = ip.analysis.rank_correlation([1, 2, 3], [1, 3, 2])
        >>> isinstance(found, ip.analysis.RankCorrelation)
        True
        >>> found.n, found.note
        (3, 'no interval: fewer than 4 points')
    """

    rho: float
    low: float
    high: float
    n: int
    note: str


def rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike, level: float = 0.95) -> RankCorrelation:
    """Compute Spearman's rank correlation with an interval.

    The interval is tanh(atanh(rho) ± z sqrt((1 + rho^2 / 2) / (n - 3))). It needs at least 4 pairs
    and |rho| < 1. The correlation itself needs values of x and of y that vary.

    Args:
        x: Values, (n,).
        y: Values, (n,). Pairs with NaN are left out, and tied values share their mean rank.
        level: The coverage of the interval, between 0 and 1.

    Returns:
        The correlation, its interval, the number of pairs, and a note on what is missing.

    Example:
        >>> import infoplane as ip
        >>> round(ip.analysis.rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]).rho, 3)
        0.9

    References:
        Bonett & Wright, Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations, Psychometrika 65, 2000.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    n = len(a)
    if n < 2:
        return RankCorrelation(math.nan, math.nan, math.nan, n, "undefined: fewer than 2 points")
    for values, name in ((a, "x"), (b, "y")):
        if np.ptp(values) <= _ALIKE * np.abs(values).max():
            return RankCorrelation(math.nan, math.nan, math.nan, n, f"undefined: {name} is constant")
    rho = float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
    if n < 4:
        return RankCorrelation(rho, math.nan, math.nan, n, "no interval: fewer than 4 points")
    if 1.0 - abs(rho) < 1e-12:
        return RankCorrelation(round(rho), math.nan, math.nan, n, "no interval: ranks in one order")
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return RankCorrelation(rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), n, "")


def gap_table(
    measurements: pd.DataFrame,
    metrics: pd.DataFrame,
    *,
    unit: str = "bits",
    layers: Iterable[str] | None = None,
    estimator: str | None = None,
    epoch: int | None = None,
    path: str | None = None,
    side: str = "mid",
) -> pd.DataFrame:
    """List the information of each layer next to the generalisation gap of its replica.

    The gap is the value on test points minus the value on training points.

    Args:
        measurements: A frame of measurements (`records.COLUMNS`, in nats).
        metrics: The losses and errors of the same runs, as in metrics.csv.
        unit: The unit of the information and of a cross-entropy: "bits" or "nats".
        layers: The names of the layers to keep; all by default.
        estimator: The estimator to take. By default it is "echo", with I(Z;X), if there are Echo
            layers, and otherwise the first estimator, with I(X;T).
        epoch: The epoch; by default the last one that a run has in both frames.
        path: The path of both losses through the network. By default it is "noisy", or "plain" if
            there are no Echo layers.
        side: The value that stands for a bracket: "mid", "lower" or "upper".

    Returns:
        One row per run, layer and replica, with the columns run; panel (the estimator, with its
        parameters if it was run with several); quantity; layer; place (the layer, or for an Echo
        layer its place in its run: Z1, Z2, ...); epoch; replica; value, lower and upper (in
        `unit`); standing (exact | upper | lower | bracket | estimate); warned; path (of the
        losses); gap_loss (in `unit`) and gap_error.

    Raises:
        InfoplaneError: If the frames do not hold what was asked for.

    Example:
        >>> import pandas as pd
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> recorder = ip.Recorder(torch.nn.Sequential(torch.nn.Linear(3, 2)), x)
        >>> tables = recorder.snapshot(epoch=5)
        >>> place = {"run": "run", "epoch": 5, "replica": 0, "path": "plain"}
        >>> metrics = pd.DataFrame(
        ...     [place | {"split": "train", "loss": 0.25, "error": 0.0},
        ...      place | {"split": "test", "loss": 0.75, "error": 0.125}]
        ... )
        >>> table = ip.analysis.gap_table(recorder.frame(), metrics, unit="nats")
        >>> table[["layer", "gap_loss", "gap_error"]].to_dict("records")
        [{'layer': '0', 'gap_loss': 0.5, 'gap_error': 0.125}]
    """
    needs(metrics, _METRICS, "metrics")
    if estimator is None and "estimator" in measurements and "quantity" in measurements:
        echo = (measurements["estimator"] == "echo") & (measurements["quantity"] == "I(Z;X)")
        estimator = "echo" if echo.any() else next(iter(measurements["estimator"]), None)
    every = _at(measurements, metrics, epoch)
    rows = chosen(every, unit=unit, estimator=estimator, layers=layers)
    quantity = "I(Z;X)" if estimator == "echo" else "I(X;T)"
    rows = rows[rows["quantity"] == quantity]
    if missing := [run for run in dict.fromkeys(measurements["run"]) if run not in set(rows["run"])]:
        own = measurements[(measurements["run"] == missing[0]) & (measurements["quantity"] == "I(X;T)")]
        raise InfoplaneError(
            f"{missing[0]} has no {quantity} of these layers by the estimator {estimator!r}, so its gap cannot be "
            f"compared with it. It has I(X;T) by {', '.join(dict.fromkeys(own['estimator'])) or 'no estimator'}."
        )
    table = points(rows, side)
    names = ["run", "panel", "quantity", "layer", "epoch", "replica", "value", "lower", "upper", "standing", "warned"]
    table = table[names].merge(
        _gaps(metrics, path, loss_unit(metrics, unit)[0]), on=["run", "epoch", "replica"], how="left"
    )
    table["place"] = table["layer"]
    if estimator == "echo":
        own = every[(every["estimator"] == "echo") & (every["quantity"] == quantity)]
        numbers = dict(zip(zip(own["run"], own["layer"], strict=True), echo_places(own), strict=True))
        table["place"] = [numbers[key] for key in zip(table["run"], table["layer"], strict=True)]
    # sort by place, and keep the order of the runs in the frame within each place
    order = (
        sorted(numbers.values(), key=lambda place: int(place[1:])) if estimator == "echo" else layers_of(measurements)
    )
    rank = {place: at for at, place in enumerate(dict.fromkeys(order))}
    return table.sort_values("place", key=lambda place: place.map(rank), kind="stable").reset_index(drop=True)


def _at(measurements: pd.DataFrame, metrics: pd.DataFrame, epoch: int | None) -> pd.DataFrame:
    """Return the measurements of one epoch per run: `epoch`, or the last one with metrics."""
    if "run" not in measurements or "epoch" not in measurements:
        return measurements  # `chosen` reports the missing columns
    parts = []
    for run, rows in measurements.groupby("run", sort=False):
        both = sorted(set(rows["epoch"]) & set(metrics.loc[metrics["run"] == run, "epoch"]))
        if not both:
            raise InfoplaneError(f"{run} has no epoch with both measurements and metrics, so there is no gap to draw.")
        at = both[-1] if epoch is None else int(choose(str(epoch), map(str, both), f"epoch of {run}"))
        parts.append(rows[rows["epoch"] == at])
    return pd.concat(parts) if parts else measurements


def _gaps(metrics: pd.DataFrame, path: str | None, scale: float) -> pd.DataFrame:
    """Return test minus train per run: run, epoch, replica, path, gap_loss, gap_error."""
    parts = []
    for run, rows in metrics.groupby("run", sort=False):
        known = list(dict.fromkeys(rows["path"]))
        default = next((name for name in ("noisy", "plain") if name in known), known[0])
        own = rows[rows["path"] == (default if path is None else choose(path, known, f"path of {run}"))]
        wide = own.pivot(index=["run", "epoch", "replica", "path"], columns="split", values=[*GAPS.values()])
        for split in ("train", "test"):
            choose(split, dict.fromkeys(own["split"]), f"split of {run}")
        gaps = {name: wide[metric, "test"] - wide[metric, "train"] for name, metric in GAPS.items()}
        parts.append(pd.DataFrame(gaps).reset_index())
    out = pd.concat(parts, ignore_index=True)
    out["gap_loss"] /= scale
    return out


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Correlate information with the generalisation gap, over all runs and within each run.

    The interval over all runs assumes independent points. Replicas with the same seed in several
    runs share their split, so they are not independent.

    Args:
        table: A table that `gap_table` returned.

    Returns:
        One row per panel, place, gap and run with at least 4 replicas, and one row over the points
        of all runs (run ""). The columns are panel, place, gap, run, rho, low, high, n (the points
        with both numbers), of (all points) and note (see `rank_correlation`). A gap that no point
        has is left out.

    Example:
        >>> import pandas as pd
        >>> import infoplane as ip
        >>> table = pd.DataFrame(
        ...     {"panel": "kde", "place": "hidden1", "run": "a", "value": [1.0, 2.0, 3.0, 4.0, 5.0],
        ...      "gap_loss": [0.1, 0.2, 0.3, 0.5, 0.4], "gap_error": float("nan")}
        ... )
        >>> ip.analysis.correlations(table)[["gap", "rho", "n"]].round(2).to_dict("records")
        [{'gap': 'gap_loss', 'rho': 0.9, 'n': 5}]
    """
    out = []
    for (panel, where), rows in table.groupby(["panel", "place"], sort=False):
        for gap in GAPS:
            if table[gap].isna().all():
                continue
            groups = [("", rows)] + [(str(run), own) for run, own in rows.groupby("run", sort=False)]
            if len(groups) == 2:
                groups = groups[:1]  # with one run, both groups would be the same
            for run, own in groups:
                if run == "" or len(own) >= _FEWEST:
                    found = rank_correlation(own["value"], own[gap])
                    key = {"panel": panel, "place": where, "gap": gap, "run": run, "of": len(own)}
                    out.append(key | found._asdict())
    columns = ["panel", "place", "gap", "run", "rho", "low", "high", "n", "of", "note"]
    return pd.DataFrame(out, columns=columns)
