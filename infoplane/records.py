"""The records of numbers, and the schemas of the tables that hold them.

An estimator returns each number as an `Estimate`; a `Measurement` adds where it was taken. This
module imports nothing else of the package but the errors and the registry of warnings.
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

#: Which end of a bracket a number is. "null" is the baseline from permuted points, and "" a number
#: by itself.
Side = Literal["", "upper", "lower", "null"]
SIDES: tuple[str, ...] = get_args(Side)

#: Which codes were measured where noise lies at or below the layer: the mean path with the noise
#: switched off, one noisy draw per point, or several noisy replicates of every input. "" where the
#: codes are a function of the input, or where a noisy layer's own channel is measured.
Path = Literal["", "noise-off", "sampled", "replicates"]
PATHS: tuple[str, ...] = get_args(Path)

#: The two laws of x that a number can be about: uniform on the measured points, or the law that
#: they are a sample of.
POINTS = "these N points"
POPULATION = "population"

#: The quantities that are information about the label.
OF_LABEL = ("I(T;Y)", "I(Z;Y)")

#: The number of nats in one of each unit. Divide a value in nats by it.
UNITS = {"bits": math.log(2.0), "nats": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One number as an estimator returns it, before it is known where and when it was taken.

    Args:
        quantity: What was measured, such as "I(X;T)", "I(T;Y)" or "I(Z;X)".
        value: The number, in nats; NaN if it could not be measured.
        standing: "exact" (up to `error`), an "upper" or "lower" bound, or an "estimate".
        channel: The noise or the cells that make the quantity finite, such as "echo" or
            "noise of variance 0.1".
        estimator: The name of the estimator.
        params: The estimator's parameters, as text.
        side: Which end of a bracket the number is; "null" for the permuted baseline.
        path: Which codes were measured, where noise lies at or below the layer.
        n: The number of points.
        law: The law of x that the number is about.
        stderr: The standard error, in nats.
        error: A bound on the known systematic error (truncation, finite reference), in nats:
            |value - truth| <= error + k stderr.
        ceiling: What the quantity cannot exceed under its law, in nats.
        warnings: Codes of `WARNINGS`.

    Raises:
        InfoplaneError: The standing, the side, the path or a warning is not a known one.

    Example:
        >>> Estimate(
        ...     quantity="I(X;T)", value=1.5, standing="lower", channel="echo", estimator="mine"
        ... ).law
        'these N points'
    """

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
    error: float = math.nan
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
    """An `Estimate` with the place where it was taken: one row of the table of measurements.

    Args:
        run: The name of the run.
        epoch: The epoch of the snapshot.
        step: The number of optimisation steps before it.
        replica: The index of the replica.
        probe: The name of the probe.
        layer: The dotted name of the layer.

    Example:
        >>> import infoplane as ip
        >>> row = ip.Measurement(
        ...     quantity="I(Z;X)", value=2.5, standing="exact", channel="echo", estimator="echo",
        ...     run="run", epoch=3, step=120, replica=0, probe="probe", layer="hidden1.echo",
        ... ).row()
        >>> row["layer"], row["quantity"], row["value_nats"]
        ('hidden1.echo', 'I(Z;X)', 2.5)
    """

    run: str
    epoch: int
    step: int
    replica: int
    probe: str
    layer: str

    def row(self) -> dict[str, object]:
        """Return the table row: units in the column names, warnings joined by semicolons."""
        row = {_COLUMN_OF.get(f.name, f.name): getattr(self, f.name) for f in dataclasses.fields(self)}
        row["warnings"] = format_warnings(self.warnings)
        return {c: row[c] for c in COLUMNS}


def format_warnings(codes: Iterable[str]) -> str:
    """Join warning codes as a table holds them.

    Example:
        >>> format_warnings(["void", "tail"])
        'void;tail'
    """
    return ";".join(codes)


_COLUMN_OF = {"value": "value_nats", "stderr": "stderr_nats", "error": "error_nats", "ceiling": "ceiling_nats"}


# the tables


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of one table of a run.

    Args:
        rows: What one row stands for: "one row per ...".
        columns: The type of each column, in order: str, int, float or bool. An empty field of a
            float or bool column means "not known"; text is never unknown, only empty.
        key: The columns that tell one row from another, and so are never unknown.
        absent: Why a run may have no such table.

    Example:
        >>> TABLES["metrics"].rows
        'one row per epoch, replica, split and path through the network'
    """

    rows: str
    columns: dict[str, type]
    key: tuple[str, ...]
    absent: str = ""

    def row(self, values: Mapping[str, object]) -> dict[str, object]:
        """Complete a row.

        Args:
            values: The known values, by column.

        Returns:
            One value per column, in order. A column that `values` lacks is None, or empty text.

        Raises:
            InfoplaneError: The table does not have one of the columns, or a column of the key or
                of whole numbers is missing.
        """
        for name in values:
            choose(name, self.columns, "column")
        if missing := [c for c, kind in self.columns.items() if c not in values and (c in self.key or kind is int)]:
            raise InfoplaneError(f"A row lacks {', '.join(missing)}; expected a value for each.")
        return {c: values.get(c, "" if kind is str else None) for c, kind in self.columns.items()}


_PLACE: dict[str, type] = {"run": str, "epoch": int, "step": int, "replica": int}
_LAYER = _PLACE | {"probe": str, "layer": str}

#: The conditions of the certificate of an exact rate, in the order in which they are read.
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

#: Every table of a run, by name; NAME.csv in its folder. What a snapshot measures, and what a run
#: writes, reads and cuts, follows from this registry.
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
        absent="the network has no Echo layers (see `infoplane train --echo-layers`)",
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
        absent="the run was measured and not trained here (see `infoplane measure`)",
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
        | {name: float if kind is int else kind for name, kind in _CERTIFICATE.items()},  # a tap may lack a rate
        key=("run", "probe", "epoch", "step", "replica", "layer", "params"),
        absent="the run has no Echo taps (see `infoplane train --echo-mode`)",
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
        absent="gradients were not recorded (see `infoplane train --gradients`)",
    ),
}

#: The columns of the table of measurements, and the ones that tell one row from another.
COLUMNS = tuple(TABLES["measurements"].columns)
KEY = TABLES["measurements"].key


def frame_of(table: str, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Make a frame from rows of a table.

    Args:
        table: A name in `TABLES`.
        rows: Rows with every column of its schema.

    Returns:
        The columns of the schema in order. A number that is not known is NaN.

    Example:
        >>> list(frame_of("gradients", []))[:4]
        ['run', 'epoch', 'step', 'replica']
    """
    import pandas as pd

    schema = TABLES[table]
    columns: dict[str, Any] = {}
    for name, kind in schema.columns.items():
        values = [row[name] for row in rows]
        dtype = {float: "float64", int: "int64", str: "str", bool: "boolean" if None in values else "bool"}[kind]
        columns[name] = pd.array(values, dtype=dtype) if dtype == "boolean" else pd.Series(values, dtype=dtype)
    return pd.DataFrame(columns, columns=list(schema.columns))
