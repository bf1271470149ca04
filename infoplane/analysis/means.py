"""Means over replicas with intervals, and the fall of a number from its peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InfoplaneError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fall_from_peak", "mean_over_replicas"]

_LEVEL = 0.95
#: the columns that identify a number within a snapshot, apart from the replica
_NUMBER = ("run", "layer", "estimator", "path", "channel", "params", "quantity", "side", "standing")


def mean_over_replicas(
    frame: pd.DataFrame, by: Sequence[str] = (*_NUMBER, "epoch"), value: str = "value_nats"
) -> pd.DataFrame:
    """Take the mean of a column over replicas, with its 95 % interval, Student's t.

    Args:
        frame: One row per replica in each group; by default measurements.
        by: The columns that define a group; columns that the frame lacks are ignored.
        value: The column to average. NaN values are left out.

    Returns:
        One row per group, with the columns of `by`, then mean, low and high (the interval; NaN for
        a single replica), sd (the standard deviation) and replicas (their number). Mean, interval
        and sd are in the unit of the column.

    Raises:
        InfoplaneError: If a replica has several rows in one group.

    Example:
        >>> import pandas as pd
        >>> import infoplane as ip
        >>> frame = pd.DataFrame({"run": "r", "replica": [0, 1, 2], "value_nats": [1.0, 2.0, 3.0]})
        >>> ip.analysis.mean_over_replicas(frame).round(2).to_dict("records")
        [{'run': 'r', 'mean': 2.0, 'low': -0.48, 'high': 4.48, 'sd': 1.0, 'replicas': 3}]
    """
    by = [column for column in by if column in frame]
    if (twice := frame.duplicated([*by, "replica"])).any():
        first = frame.loc[twice, [*by, "replica"]].iloc[0].to_dict()
        raise InfoplaneError(f"mean_over_replicas: a replica has several rows in one group, {first}; expected one row.")
    groups = frame.groupby(by, sort=False, dropna=False)[value]
    out = groups.agg(mean="mean", sd="std", replicas="count").reset_index()
    half = _half_width(out["sd"].to_numpy(), out["replicas"].to_numpy())
    return out.assign(low=out["mean"] - half, high=out["mean"] + half)[[*by, "mean", "low", "high", "sd", "replicas"]]


def fall_from_peak(frame: pd.DataFrame, quantity: str = "I(X;T)") -> pd.DataFrame:
    """Measure how much each number falls from its peak to the last epoch.

    The peak is the epoch with the largest mean over replicas. The fall is the value at that epoch
    minus the value at the last epoch, averaged over replicas. Replicas that peak at different
    epochs therefore cannot add up to a fall that their mean does not have. The largest of several
    noisy means is a little too high, and the interval does not account for that.

    Args:
        frame: Measurements, with values in nats.
        quantity: The quantity to follow.

    Returns:
        One row per number (run, layer, estimator, channel, side and so on). The columns start,
        peak and end are means in nats; peak_epoch is the epoch of the peak; fall, low and high are
        the mean fall and its 95 % interval (NaN for a single replica), in nats; replicas is the
        number of replicas.

    Raises:
        InfoplaneError: If the frame does not hold the quantity.

    Example:
        >>> import pandas as pd
        >>> import infoplane as ip
        >>> frame = pd.DataFrame(
        ...     {"layer": "hidden1", "quantity": "I(X;T)", "replica": 0, "epoch": [0, 10, 20],
        ...      "value_nats": [1.0, 3.0, 2.5]}
        ... )
        >>> ip.analysis.fall_from_peak(frame)[["layer", "peak_epoch", "fall"]].to_dict("records")
        [{'layer': 'hidden1', 'peak_epoch': 10, 'fall': 0.5}]
    """
    import pandas as pd

    frame = frame[frame["quantity"] == quantity]
    if frame.empty:
        raise InfoplaneError(f"fall_from_peak: the frame holds no {quantity}.")
    rows = []
    by = [column for column in _NUMBER if column in frame]
    for key, own in frame.groupby(by, sort=False, dropna=False):
        table = own.pivot(index="replica", columns="epoch", values="value_nats").dropna()
        if table.empty:
            continue
        mean = table.mean()
        peak: Any = mean.idxmax()
        last = mean.index.max()
        fall = table[peak] - table[last]
        n = len(fall)
        half = float(_half_width(np.array([fall.std()]), np.array([n]))[0])
        rows.append(
            dict(zip(by, key, strict=True))
            | {"start": mean.iloc[0], "peak": mean[peak], "end": mean[last], "peak_epoch": int(peak)}
            | {"fall": fall.mean(), "low": fall.mean() - half, "high": fall.mean() + half, "replicas": n}
        )
    return pd.DataFrame(rows)


def _half_width(sd: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return half the width of the interval of a mean of n values; NaN for a single value."""
    from scipy.stats import t

    n = n.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        width: np.ndarray = t.ppf(0.5 + _LEVEL / 2, n - 1) * sd / np.sqrt(n)
    return np.where(n > 1, width, np.nan)
