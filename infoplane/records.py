"""What a number is: its value, standing, law, channel, ceiling and warnings.

Everything infoplane measures leaves it as a `Measurement`. Nothing here imports the rest of the package.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from .errors import InfoplaneError, choose
from .warning_codes import WARNINGS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "KEY",
    "OF_LABEL",
    "PATHS",
    "POINTS",
    "POPULATION",
    "SIDES",
    "TABLES",
    "UNITS",
    "Estimate",
    "Measurement",
    "Path",
    "Schema",
    "Side",
    "Standing",
    "format_warnings",
    "frame_of",
]

Standing = Literal["exact", "upper", "lower", "estimate"]
STANDINGS: tuple[str, ...] = get_args(Standing)

#: Which end of a bracket a number is; "null" is the baseline from permuted points; "" is a number by itself.
Side = Literal["", "upper", "lower", "null"]
SIDES: tuple[str, ...] = get_args(Side)

#: Which codes were measured where noise lies at or below the layer: the mean path with the noise switched off, one
#: noisy draw per point, or several noisy replicates of every input. "" where the codes are a function of the input, or
#: where a noisy layer's own channel is measured.
Path = Literal["", "noise-off", "sampled", "replicates"]
PATHS: tuple[str, ...] = get_args(Path)

POINTS = "these N points"
POPULATION = "population"

#: The quantities that are information about the label.
OF_LABEL = ("I(T;Y)", "I(Z;Y)")

#: nats in one of each unit: divide a value in nats by it.
UNITS = {"bits": math.log(2.0), "nats": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One number as an estimator gives it, before it is known where and when it was taken. All values in nats."""

    quantity: str
    value: float
    standing: Standing
    channel: str
    estimator: str
    params: str = ""
    side: Side = ""
    path: Path = ""
    n: int = 0
    law: str = POINTS
    stderr: float = math.nan
    #: what is known of the systematic error (truncation, finite reference): |value - truth| <= error + k stderr
    error: float = math.nan
    #: what the quantity cannot exceed under its law
    ceiling: float = math.nan
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choose(self.standing, STANDINGS, "standing")
        choose(self.side, SIDES, "side of a bracket")
        choose(self.path, PATHS, "path")
        for code in self.warnings:
            choose(code, WARNINGS, "warning code")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Estimate):
    """An `Estimate` with the place where it was taken: one row of the table of measurements."""

    run: str
    epoch: int
    step: int
    replica: int
    probe: str
    layer: str

    def row(self) -> dict[str, object]:
        """Give the row of the table: units in the column names, warnings joined by ';'."""
        row = {_COLUMN_OF.get(f.name, f.name): getattr(self, f.name) for f in dataclasses.fields(self)}
        row["warnings"] = format_warnings(self.warnings)
        return {c: row[c] for c in COLUMNS}


def format_warnings(codes: Iterable[str]) -> str:
    return ";".join(codes)


_COLUMN_OF = {"value": "value_nats", "stderr": "stderr_nats", "error": "error_nats", "ceiling": "ceiling_nats"}


# the tables


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of one table of a run.

    Args:
        rows: Where one row stands for what: "one row per ...".
        columns: The type of each column, in order: str, int, float or bool. An empty field of a
            float or bool column means "not known"; text is never unknown, only empty.
        key: The columns that tell one row from another, and so are never unknown.
        absent: Why a run may have no such table.
    """

    rows: str
    columns: dict[str, type]
    key: tuple[str, ...]
    absent: str = ""

    def row(self, values: Mapping[str, object]) -> dict[str, object]:
        """Complete a row: what `values` does not say is not known (None), or empty text.

        Raises:
            InfoplaneError: For a column that the table does not have, and for a column of the
                key, or of whole numbers, that is missing.
        """
        for name in values:
            choose(name, self.columns, "column")
        if missing := [c for c, kind in self.columns.items() if c not in values and (c in self.key or kind is int)]:
            raise InfoplaneError(f"A row lacks {', '.join(missing)}; expected a value for each.")
        return {c: values.get(c, "" if kind is str else None) for c, kind in self.columns.items()}


_PLACE: dict[str, type] = {"run": str, "epoch": int, "step": int, "replica": int}
_LAYER = _PLACE | {"probe": str, "layer": str}

#: Every condition of the certificate of an exact rate, in the order in which it is read.
_CERTIFICATE: dict[str, type] = {
    "rate_nats": float,
    "value_nats": float,
    "standing": str,
    "stderr_nats": float,
    "error_nats": float,
    "n": int,
    "ceiling_nats": float,
    "code_entropy_nats": float,
    "margin": float,
    "margin_ok": bool,
    "seen_nats": float,
    "resolution_ok": bool,
    "smallest_eigenvalue": float,
    "aligned": float,
    "independent_ok": bool,
    "void": str,
    "mean_s": float,
    "mean_s2": float,
    "tail_nats": float,
    "tail_ok": bool,
    "references": int,
    "references_ok": bool,
    "bank_shift": float,
    "bank_ok": bool,
    "repeat": float,
    "deterministic_ok": bool,
    "law": str,
    "law_ok": bool,
    "floor_nats": float,
    "collapsed": bool,
    "warnings": str,
}

#: Every table of a run, by name; NAME.csv in its folder. What a snapshot measures, and what a run writes, reads and
#: cuts, follows from this registry.
TABLES: dict[str, Schema] = {
    "measurements": Schema(
        rows="one row per number",
        columns=_LAYER
        | {
            "quantity": str,
            "value_nats": float,
            "standing": str,
            "side": str,
            "law": str,
            "path": str,
            "channel": str,
            "estimator": str,
            "params": str,
            "n": int,
            "stderr_nats": float,
            "error_nats": float,
            "ceiling_nats": float,
            "warnings": str,
        },
        key=(
            *("run", "probe", "epoch", "step", "replica", "layer", "quantity", "path", "channel", "estimator"),
            *("params", "side", "standing"),
        ),
    ),
    "certificates": Schema(
        rows="one row per Echo layer, replica and snapshot",
        columns=_LAYER | _CERTIFICATE,
        key=("run", "probe", "epoch", "step", "replica", "layer"),
        absent="the network has no Echo layer",
    ),
    "metrics": Schema(
        rows="one row per epoch, replica, split and path through the network",
        columns=_PLACE
        | {
            "split": str,
            "path": str,
            "objective": str,
            "loss": float,
            "error": float,
            "accuracy": float,
            "rate_nats": float,
        },
        key=("run", "epoch", "step", "replica", "split", "path"),
        absent="nothing was trained",
    ),
    "taps": Schema(
        rows="one row per Echo tap (layer and beta), replica and snapshot",
        columns=_LAYER
        | {
            "estimator": str,
            "params": str,
            "objective": str,
            "beta": float,
            "directions": int,
            "units": int,
            "cross_entropy_nats": float,
            "cross_entropy_stderr_nats": float,
            "distortion": float,
            "distortion_stderr": float,
            "improved_nats": float,
            "moved_nats": float,
            "settled": bool,
        }
        | {name: float if kind is int else kind for name, kind in _CERTIFICATE.items()},  # without a rate: unknown
        key=("run", "probe", "epoch", "step", "replica", "layer", "params"),
        absent="the run has no Echo taps (--echo-mode tap)",
    ),
    "gradients": Schema(
        rows="one row per weight matrix, replica and snapshot",
        columns=_PLACE
        | {
            "layer": str,
            "batches": int,
            "mean_norm": float,
            "std_norm": float,
            "weight_norm": float,
            "snr": float,
        },
        key=("run", "epoch", "step", "replica", "layer"),
        absent="gradients were not recorded (--gradients)",
    ),
}

#: The columns of the table of measurements, and those that tell one row from another.
COLUMNS = tuple(TABLES["measurements"].columns)
KEY = TABLES["measurements"].key


def frame_of(table: str, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Make a frame of rows of a table: the columns of its schema, NaN where a number is not known."""
    import pandas as pd

    schema = TABLES[table]
    columns: dict[str, Any] = {}
    for name, kind in schema.columns.items():
        values = [row[name] for row in rows]
        dtype = {float: "float64", int: "int64", str: "str", bool: "boolean" if None in values else "bool"}[kind]
        columns[name] = pd.array(values, dtype=dtype) if dtype == "boolean" else pd.Series(values, dtype=dtype)
    return pd.DataFrame(columns, columns=list(schema.columns))
