"""Whether a number is what it says, given the truth of its own law."""

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

#: What a number can turn out to be, the best first.
VERDICTS = {
    "right": "exact, and within its error; or a bound on the right side of the truth",
    "near": "an estimate within 10 % of the truth, or 4 standard errors, or 0.02 nats",
    "warned": "an estimate further off, with a warning that says so",
    "refused": "no number, with the reason",
    "UNWARNED": "an estimate further off, without a warning",
    "WRONG": "called exact and off by more than its error, or a bound on the wrong side",
}

#: Warnings that say what a number is of, and not that it may be off.
_OF_WHAT = frozenset({"noise-off", "sampled-codes", "chain", "moving-range", "tap"})

#: What any verdict allows, nats and standard errors; and an estimate, as a share of the truth and in nats.
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
    """A word of VERDICTS. All numbers in nats; error: what the number says of its systematic error.

    truth: of the law that the number is of; NaN where none is known, and then there is no verdict ("").
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
    """One row an estimator, quantity and standing: how many numbers had each verdict, the largest errors of those not
    warned of, and time and memory at the most."""
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
    """The calibration as text: a line a channel and number, means over seeds; then the verdicts by estimator."""
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
            f"means over {seeds} draws of each channel; of these points or of their population, as each number says",
            columns(heads, body),
            meanings,
        ]
    )


def _number(value: float, form: str = ".3f") -> str:
    return "" if math.isnan(value) else f"{value:{form}}"
