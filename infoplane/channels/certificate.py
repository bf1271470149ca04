"""Is the rate of an Echo layer its information? The conditions, each with its value, for one layer and one replica.

I(Z;X) <= R always, with equality where e has a density of finite entropy. N inputs can be counted, so I <= ln N, every
subset of coordinates has a ceiling of its own, and near a ceiling equality holds only in ever finer digits of z. A
rate is called exact where all conditions below hold; what fails turns it into a bound or an estimate, with the reason.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..records import Standing, format_warnings
from .bank import Bank

__all__ = ["CELLS", "MARGIN", "Certificate", "Evidence", "certify"]

#: A rate is exact while R_A <= MARGIN * H(codes_A) for every subset A of coordinates (good to 1 % at a thousand cells).
MARGIN = 0.6
#: Cells a coordinate over the range of z in which the codes are counted, coarse to fine.
CELLS = (1_000, 10_000, 100_000)
_MOST_SUBSETS = 12
_VOID = 1e-5
_DEPENDENT = 1e-6
_TAIL = 1e-3
_REFERENCES = 4096
_SHIFT = 5.0
_SAME = 1e-4
_COLLAPSED = 0.02
#: I(Z_2;Z_1) falls short by about 4 nats / references a coordinate where the noise of layer 2 is made of finitely many
#: codes (.330, .343, .353, .3556 for .3567 with 128, 256, 1024 and 4096 of them).
_REFERENCE_BIAS = 4.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one replica of an Echo layer showed while its weights were frozen.

    f, log_s, z: (N, K) of the probe. bank: the reference codes; replica: which slice of it belongs here.
    first: no Echo layer below, so f is a function of x. repeat: max |f - f'| over inputs that were passed twice, in
    units of the RMS of f (first layers only, else None). same_law: the bank was filled from the probe. diagonal: S is.
    """

    f: Tensor
    log_s: Tensor
    z: Tensor
    bank: Bank
    replica: int
    first: bool
    repeat: float | None
    same_law: bool
    diagonal: bool
    floor: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """The verdict on one layer, and the values it rests on. Rates and entropies in nats; coordinates count from 0.

    rate: -E log |det S| over all coordinates. value: what is to be reported; standing: as what.
    error: bound on the systematic error. ceiling: ln N for a first layer, NaN above (Z_{k-1} is continuous).
    margin: the largest R_A / H(f_A) over subsets A. cells: the coarsest resolution at which the margin holds (0: none).
    """

    rate: float
    value: float
    standing: Standing
    stderr: float
    error: float
    ceiling: float
    n: int
    margin: float
    cells: int
    exhaustive: bool
    code_entropy: float
    smallest_eigenvalue: float
    void: tuple[int, ...]
    mean_s: float
    mean_s2: float
    tail: float
    references: int
    shift: float
    repeat: float
    same_law: bool
    floor: float
    warnings: tuple[str, ...]

    def row(self) -> dict[str, object]:
        """Its columns in certificates.csv: each value and, beside those that are judged, the verdict."""
        bad = set(self.warnings)
        return {
            "rate_nats": self.rate,
            "value_nats": self.value,
            "standing": self.standing,
            "stderr_nats": self.stderr,
            "error_nats": self.error,
            "n": self.n,
            "ceiling_nats": self.ceiling,
            "code_entropy_nats": self.code_entropy,
            "margin": self.margin,
            "margin_ok": not bad & {"above-ceiling", "near-ceiling", "resolution", "unchecked-subsets"},
            "resolution_cells": self.cells,
            "resolution_ok": self.cells > 0,
            "smallest_eigenvalue": self.smallest_eigenvalue,
            "independent_ok": "dependent" not in bad,
            "void": " ".join(map(str, self.void)),
            "mean_s": self.mean_s,
            "mean_s2": self.mean_s2,
            "tail_nats": self.tail,
            "tail_ok": "tail" not in bad,
            "references": self.references,
            "references_ok": "few-reference" not in bad,
            "bank_shift": self.shift,
            "bank_ok": "stale-bank" not in bad,
            "repeat": self.repeat,
            "deterministic_ok": "batch-dependent" not in bad,
            "law": "probe" if self.same_law else "other",
            "law_ok": self.same_law,
            "floor_nats": self.floor,
            "collapsed": "collapsed" in bad,
            "warnings": format_warnings(self.warnings),
        }


def certify(seen: Evidence) -> Certificate:
    """Judge one replica of one Echo layer (the conditions of the class docstrings and of `WARNINGS`)."""
    f, n = seen.f.double(), seen.f.shape[0]
    rates = -seen.log_s.double()
    s = (-rates).exp()
    per_row = rates.sum(-1)
    warnings: list[str] = []

    void = _void(f, s) if seen.diagonal else []
    kept = [k for k in range(f.shape[1]) if k not in void]
    if void:
        warnings.append("void")
    rate_of = rates.mean(0)[kept].tolist()
    rate = math.fsum(rate_of)

    # the margin: at full precision, and at each resolution
    cells, margin, exhaustive = 0, 0.0, True
    span = seen.z.double()[:, kept]
    low, width = span.amin(0), (span.amax(0) - span.amin(0)).clamp(min=1e-300)
    for count in (*CELLS, 0):
        codes = f[:, kept] if count == 0 else ((f[:, kept] - low) * (count / width)).floor()
        margin, exhaustive = _margin(codes, rate_of, seen.diagonal)
        if margin <= MARGIN and exhaustive:
            cells = count
            break
    if not cells:
        held = margin <= MARGIN and exhaustive  # at full precision, that is: the last round
        warnings.append("resolution" if held else "near-ceiling" if exhaustive else "unchecked-subsets")

    # the rigorous bound: sum_i min(R_i, H(codes_i)), and the entropy of the whole codes
    value, code_entropy = rate, math.nan
    if seen.first:
        codes = torch.cat([f[:, kept], s[:, kept]], -1)
        code_entropy = _joint_entropy(codes)
        if seen.diagonal:
            entropies = [_joint_entropy(torch.stack([f[:, k], s[:, k]], -1)) for k in kept]
            value = min(rate, code_entropy, math.fsum(min(r, h) for r, h in zip(rate_of, entropies, strict=True)))
        else:
            value = min(rate, code_entropy)
        if value < rate:
            warnings = [w for w in warnings if w != "near-ceiling"] + ["above-ceiling"]

    covariance = seen.bank.covariance[seen.replica][kept][:, kept]
    scale = f[:, kept].square().mean(0).clamp(min=1e-300).sqrt()
    eigenvalues = torch.linalg.eigvalsh(covariance / scale / scale.unsqueeze(-1)) if kept else torch.ones(1)
    smallest = float(eigenvalues[0])
    if smallest < _DEPENDENT:
        warnings.append("dependent")

    tail = float(seen.bank.tail[seen.replica])
    references = seen.bank.size
    error = tail + (0.0 if seen.first else _REFERENCE_BIAS * len(kept) / references)
    if tail > _TAIL:
        warnings.append("tail")
    if not seen.first and references < _REFERENCES:
        warnings.append("few-reference")
    shift = _shift(f, s, seen.bank, seen.replica)
    if seen.same_law and shift > _SHIFT:
        warnings.append("stale-bank")
    repeat = math.nan if seen.repeat is None else seen.repeat
    if repeat > _SAME:
        warnings.append("batch-dependent")
    if not seen.same_law:
        warnings.append("other-law")
    if seen.diagonal and rate + math.fsum(rates.mean(0)[void].tolist()) < seen.floor + _COLLAPSED * f.shape[1]:
        warnings.append("collapsed")

    standing: Standing = "exact"
    if set(warnings) - {"void", "collapsed"}:
        standing = "upper"
    if {"tail", "stale-bank", "other-law"} & set(warnings):
        standing = "estimate"
    return Certificate(
        rate=float(per_row.mean()),
        value=value,
        standing=standing,
        stderr=0.0 if seen.first else float(rates[:, kept].sum(-1).std()) / math.sqrt(n),
        error=error,
        ceiling=math.log(n) if seen.first else math.nan,
        n=n,
        margin=margin,
        cells=cells,
        exhaustive=exhaustive,
        code_entropy=code_entropy,
        smallest_eigenvalue=smallest,
        void=tuple(void),
        mean_s=float(s.mean()),
        mean_s2=float(s.square().mean()),
        tail=tail,
        references=references,
        shift=shift,
        repeat=repeat,
        same_law=seen.same_law,
        floor=seen.floor,
        warnings=tuple(warnings),
    )


def _void(f: Tensor, s: Tensor) -> list[int]:
    """Coordinates with f_i = v (1 - s_i) for some v: there z_i = v for every x. (v is then the stationary mean.)"""
    v = f.mean(0) / (1.0 - s.mean(0))
    off = (f - v * (1.0 - s)).abs().amax(0)
    return torch.nonzero(off <= _VOID * f.square().mean(0).sqrt()).flatten().tolist()


def _margin(codes: Tensor, rates: list[float], diagonal: bool) -> tuple[float, bool]:
    """The largest R_A / H(codes_A) over subsets A of coordinates, and whether all that matter were looked at.

    codes: (N, K), counted by value. H(codes_A) is at least the largest entropy of a coordinate in A, so only
    coordinates with R / H above the margin can be part of a subset that fails, and sorted by entropy they are
    settled by cumulative sums, or one subset at a time.
    """
    if not rates:
        return 0.0, True
    entropies = _entropies(codes)
    total = math.fsum(rates)
    if not diagonal:  # the rate of a coordinate is not defined: hold the whole against the poorest one
        return _ratio(total, min(entropies)), True
    whole = _ratio(total, _joint_entropy(codes)) if total > 0 else 0.0
    order = sorted(range(len(rates)), key=lambda k: entropies[k])
    simple = max(_ratio(math.fsum(rates[k] for k in order[: j + 1]), entropies[i]) for j, i in enumerate(order))
    if simple <= MARGIN:  # an upper bound of every subset's ratio
        return max(whole, *(_ratio(rates[k], entropies[k]) for k in order)), True
    poor = [k for k in order if entropies[k] < total / MARGIN]
    largest = max(whole, *(_ratio(rates[k], entropies[k]) for k in order))
    if largest > MARGIN:
        return largest, True
    if len(poor) > _MOST_SUBSETS:
        return simple, False
    for size in range(2, len(poor) + 1):
        for subset in itertools.combinations(range(len(poor)), size):
            part = math.fsum(rates[poor[k]] for k in subset)
            if part <= MARGIN * max(entropies[poor[k]] for k in subset):
                continue
            largest = max(largest, _ratio(part, _joint_entropy(codes[:, [poor[k] for k in subset]])))
    return largest, True


def _ratio(rate: float, entropy: float) -> float:
    return rate / entropy if entropy > 0.0 else math.inf if rate > 0.0 else 0.0


def _entropies(codes: Tensor) -> list[float]:
    """The entropy of the distinct values of each column of (N, K), each row weighing 1/N; K numbers in nats."""
    # NumPy sorts several times as fast as torch does on a CPU, and these are few numbers
    return [_entropy_of_sorted(np.sort(column)) for column in _columns(codes)]


def _entropy_of_sorted(values: npt.NDArray[Any]) -> float:
    new = np.flatnonzero(values[1:] != values[:-1]) + 1
    if len(new) == len(values) - 1:
        return math.log(len(values))
    counts = np.diff(new, prepend=0, append=len(values))
    p = counts / len(values)
    return float(-(p * np.log(p)).sum())


def _joint_entropy(codes: Tensor) -> float:
    """The entropy of the distinct rows of (N, K), nats."""
    columns = _columns(codes)
    if not len(columns):
        return 0.0
    # Rows are told apart by a random linear form, modulo 2^64, of their bit patterns (whose last bits are mostly zeros:
    # hence the exclusive or). That two rows share a key is as likely as N^2 / 2^64, and makes the entropy smaller: the
    # safe side.
    patterns = columns.view(np.uint64)
    patterns = patterns ^ (patterns >> np.uint64(32))
    coefficients = np.random.default_rng(0).integers(2**63, size=(len(columns), 1), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    return _entropy_of_sorted(np.sort((patterns * coefficients).sum(0, dtype=np.uint64)))


def _columns(codes: Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray((codes.double() + 0.0).T.cpu().numpy())  # + 0.0 makes one zero of the two


def _shift(f: Tensor, s: Tensor, bank: Bank, replica: int) -> float:
    """The largest distance between the bank's and the probe's means of f, f^2 and s, in standard errors."""
    there_s = bank.s[replica].double()
    if there_s.dim() == f.dim():
        here, there = torch.cat([f, s], 1), torch.cat([bank.f[replica].double(), there_s], 1)
    else:
        here, there = f, bank.f[replica].double()
    here, there = torch.cat([here, f.square()], 1), torch.cat([there, there[:, : f.shape[1]].square()], 1)
    spread = (here.var(0) / here.shape[0] + there.var(0) / there.shape[0]).sqrt()
    distance = (here.mean(0) - there.mean(0)).abs()
    # two passes round differently: a constant that differs in its last digits is not stale
    rounding = 1e-6 * here.square().mean(0).sqrt() + 1e-300
    return float((distance / torch.maximum(spread, rounding)).max())
