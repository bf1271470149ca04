"""Judge whether a number is what it claims to be, given the truth under its own law."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..analysis.summary import columns
from ..errors import choose
from ..records import UNITS
from ..warning_codes import WARNINGS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["VERDICTS", "render", "summarise", "verdict"]

#: The verdicts on a number and their meanings, the best one first.
VERDICTS = {
    "right": "exact, and within its error; or a bound on the right side of the truth",
    "near": "an estimate within 10 %, 4 standard errors or 0.02 nats of the truth",
    "warned": "an estimate further off, with a warning that it may be",
    "refused": "no number, but a reason",
    "UNWARNED": "an estimate further off, without a warning",
    "WRONG": "called exact but off by more than its error, or a bound on the wrong side",
}

#: Warnings that say what a number is about, and not that it may be wrong.
_OF_WHAT = frozenset({"noise-off", "sampled-codes", "chain", "moving-range", "tap"})

#: The tolerances: for every verdict in nats and in standard errors, and for an estimate as a share
#: of the truth and in nats.
_SLACK, _ERRORS, _SHARE, _NATS = 1e-3, 4.0, 0.1, 0.02


def verdict(
    value: float,
    standing: str,
    truth: float,
    *,
    stderr: float = math.nan,
    error: float = math.nan,
    truth_stderr: float = 0.0,
    warnings: tuple[str, ...] = (),
) -> str:
    """Judge a number against the truth.

    Args:
        value: The number, in nats.
        standing: Its standing: exact, upper, lower or estimate.
        truth: The truth under the law of the number, in nats; NaN if it is not known.
        stderr: The standard error of the number, in nats; NaN if it has none.
        error: The bound on its systematic error that the number states, in nats.
        truth_stderr: The standard error of the truth, in nats.
        warnings: The warning codes of the number.

    Returns:
        A key of `VERDICTS`, or "" if the truth is not known.

    Example:
        >>> import infoplane as ip
        >>> ip.calibration.verdict(1.3, "upper", truth=1.0)
        'right'
        >>> ip.calibration.verdict(1.3, "exact", truth=1.0)
        'WRONG'
        >>> ip.calibration.verdict(1.3, "estimate", truth=1.0, warnings=("high-dimension",))
        'warned'
    """
    if math.isnan(value):
        return "refused"
    if math.isnan(truth):
        return ""
    spread = math.hypot(stderr if math.isfinite(stderr) else 0.0, truth_stderr)
    reach = _ERRORS * spread + _SLACK + (error if math.isfinite(error) else 0.0)
    off = value - truth
    if standing == "exact":
        return "right" if abs(off) <= reach else "WRONG"
    if standing == "upper":
        return "right" if off >= -reach else "WRONG"
    if standing == "lower":
        return "right" if off <= reach else "WRONG"
    if abs(off) <= max(_SHARE * abs(truth), _ERRORS * spread, _NATS):
        return "near"
    return "warned" if set(warnings) & set(WARNINGS) - _OF_WHAT else "UNWARNED"


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the verdicts per estimator, quantity and standing.

    Args:
        frame: A table that `calibrate` returned.

    Returns:
        One row per estimator, quantity and standing. The columns are numbers (how many there are),
        one count per verdict, largest_error_unwarned (in nats, among the numbers without a
        warning), seconds_at_most and megabytes_at_most.

    Example:
        >>> import infoplane as ip
        >>> options = {"seeds": 1, "processes": 1, "progress": False}
        >>> frame = ip.calibration.calibrate(only=["quantised"], **options)
        >>> table = ip.calibration.summarise(frame)
        >>> table.loc[table["estimator"] == "counting", ["quantity", "right"]].to_dict("records")
        [{'quantity': 'I(X;T)', 'right': 1}, {'quantity': 'I(T;Y)', 'right': 1}]
    """
    rows = []
    for (estimator, quantity, standing), own in frame.groupby(["estimator", "quantity", "standing"], sort=False):
        counts = own["verdict"].value_counts()
        silent = own[(own["warnings"] == "") & own["verdict"].ne("")]
        off = (silent["value_nats"] - silent["truth_nats"]).abs()
        rows.append(
            {"estimator": estimator, "quantity": quantity, "standing": standing, "numbers": len(own)}
            | {word: int(counts.get(word, 0)) for word in VERDICTS}
            | {
                "largest_error_unwarned": float(off.max()) if len(off) else math.nan,
                "seconds_at_most": float(own["seconds"].max()),
                "megabytes_at_most": float(own["megabytes"].max()),
            }
        )
    import pandas as pd

    return pd.DataFrame(rows)


def render(frame: pd.DataFrame, unit: str = "nats") -> str:
    """Render a calibration as text.

    Args:
        frame: A table that `calibrate` returned.
        unit: "bits" or "nats".

    Returns:
        One line per channel and number, with means over seeds, and then the verdicts per estimator.

    Raises:
        InfoplaneError: If the unit is not known.

    Example:
        >>> import infoplane as ip
        >>> options = {"seeds": 1, "processes": 1, "progress": False}
        >>> frame = ip.calibration.calibrate(only=["quantised"], **options)
        >>> ip.calibration.render(frame, unit="bits").splitlines()[0].split()[:6]
        ['channel', 'D', 'N', 'estimator', 'quantity', 'truth']
    """
    size = UNITS[choose(unit, UNITS, "unit")]
    judged = frame[frame["verdict"].ne("")]
    keys = ["channel_name", "dimension", "n", "estimator", "quantity", "standing"]
    body = []
    for key, own in judged.groupby(keys, sort=False):
        channel, dimension, n, estimator, quantity, standing = key
        codes = dict.fromkeys(code for text in own["warnings"] for code in text.split(";") if code)
        value, truth = own["value_nats"].mean() / size, own["truth_nats"].mean() / size
        body.append(
            [
                str(channel), str(dimension), str(n), str(estimator), str(quantity), f"{truth:.3f}", f"{value:z.3f}",
                _number(own["stderr_nats"].mean() / size), str(standing), _number(value - truth, "+z.3f"),
                f"{own['seconds'].mean():.3f}", _number(own["megabytes"].max(), ".0f"),
                max(own["verdict"], key=list(VERDICTS).index), ", ".join(codes),
            ]
        )  # fmt: skip
    heads = ["channel", "D", "N", "estimator", "quantity", f"truth ({unit})", "value", "stderr", "standing", "off by"]
    text = columns([*heads, "seconds", "MB", "verdict", "warnings"], body)
    table = summarise(frame)
    heads = ["estimator", "quantity", "standing", "numbers", *VERDICTS, f"most off, no warning ({unit})", "s", "MB"]
    body = [
        [row["estimator"], row["quantity"], row["standing"], str(row["numbers"]), *(str(row[w]) for w in VERDICTS),
         _number(row["largest_error_unwarned"] / size), f"{row['seconds_at_most']:.2f}",
         _number(row["megabytes_at_most"], ".0f")]
        for row in table.to_dict("records")
    ]  # fmt: skip
    meanings = "\n".join(f"{word}: {meaning}" for word, meaning in VERDICTS.items())
    seeds = frame["seed"].nunique()
    return "\n\n".join(
        [
            text,
            f"Means over {seeds} draws of each channel. Each number is judged under its own law: of the points, or of "
            "their population.",
            columns(heads, body),
            meanings,
        ]
    )


def _number(value: float, form: str = ".3f") -> str:
    return "" if math.isnan(value) else f"{value:{form}}"
