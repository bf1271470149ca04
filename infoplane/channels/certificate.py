"""Is the rate of an Echo layer its information? The conditions, each with its value, for one layer and one replica.

I(Z;X) <= R always, with equality where e has a density of finite entropy. N inputs can be counted, so I <= ln N, every
subset of coordinates has a ceiling of its own, and near a ceiling, or where codes repeat, R is reached only in ever
finer digits of z. A rate is called exact where all conditions below hold, at 1/1000 of the range of z; what fails
turns it into a bound or an estimate, with the reason.

What is looked for cannot be everything. Under a non-diagonal S any subspace may have a ceiling, so there a rate is
never called exact. Under a diagonal S a linear combination of coordinates is an Echo channel where their scales are
equal: those of two and (up to eight coordinates) of three are searched for few values, and where more than three
scales are alike a rate is not called exact.
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
#: Cells a coordinate over the range of z: the resolution at which codes are counted and the rate must be seen.
CELLS = 1000
#: What may be missing of the rate at that resolution: this share, and this much for the sampling of 2^15 draws.
_UNSEEN_SHARE, _UNSEEN_NATS, _DRAWS = 0.02, 0.01, 2**15
_MOST_SUBSETS = 12
_PAIRS = 4096
#: As near as float32 can tell that a coordinate is constant.
_VOID = 2.5e-7
#: An eigenvalue of Cov(z) / E f_i^2 below which coordinates are taken to depend on each other.
_DEPENDENT = 1e-6
_TAIL = 1e-3
_REFERENCES = 4096
#: How far a bank's means may be from the probe's: in standard deviations where its codes must be the same, else in
#: standard errors.
_SHIFT_SAME, _SHIFT_SAMPLED = 1e-4, 5.0
_SAME = 1e-4
_COLLAPSED = 0.02
#: The share of pairs (triples) of points on parallel lines (planes) above which a combination takes few values: about
#: five values, or one that half of all points share. It is asked of coordinates whose scales differ; equal scales
#: make the
#: combination an Echo channel of its own, and the margin to its ceiling is asked for.
_ALIGNED = {2: 0.2, 3: 0.1}
_EQUAL_SCALES, _LEAST_RATE = 0.2, 0.3
#: The mean of I(Z_2;Z_1) - R where the noise of layer 2 is made of finitely many codes is about .7 nats / references a
#: coordinate (Gaussian codes, 128 to 4096 of them); its scatter is larger, and part of the standard error.
_REFERENCE_BIAS = 1.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one replica of an Echo layer showed while its weights were frozen.

    f, log_s, z: (N, K) of the probe. bank: the reference codes; replica: which slice of it belongs here.
    first: no noise below, so f is a function of x. repeat: max |f - f'| over inputs that were passed twice, in units of
    the RMS of f (first layers only, else None). same_law: the bank was filled from the probe. diagonal: S is.
    floor: the least rate the layer can have.
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
    stderr: 0 for a first layer, whose law is the probe; above, of the noisy codes and of the finite bank.
    error: bound on the systematic error: truncation, finite bank, and what of the rate is not seen in CELLS cells.
    ceiling: ln N for a first layer, NaN above (Z_{k-1} is continuous).
    margin: the largest R_A / H(f_A) over subsets A, codes counted in CELLS cells. seen: what of the rate is seen in
    CELLS cells a coordinate (`_seen_in_cells`, `_lost_jointly`), NaN where the verdict was reached without it.
    aligned: what `_few_valued` found.
    """

    rate: float
    value: float
    standing: Standing
    stderr: float
    error: float
    ceiling: float
    n: int
    margin: float
    seen: float
    code_entropy: float
    smallest_eigenvalue: float
    aligned: float
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
            "margin_ok": not bad & {"above-ceiling", "near-ceiling", "unchecked-subsets"},
            "seen_nats": self.seen,
            "resolution_ok": "resolution" not in bad,
            "smallest_eigenvalue": self.smallest_eigenvalue,
            "aligned": self.aligned,
            "independent_ok": not bad & {"dependent", "few-valued", "mixed"},
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
    warnings: list[str] = []

    void = _void(f, s) if seen.diagonal else []
    kept = [k for k in range(f.shape[1]) if k not in void]
    if void:
        warnings.append("void")
    rate_of = rates.mean(0)[kept].tolist()
    rate = math.fsum(rate_of)
    if not seen.diagonal:
        warnings.append("mixed")

    # the margin to every ceiling, and the rigorous bound sum_i min(R_i, H(codes_i)) and H(all codes)
    span = seen.z.double()[:, kept]
    low, width = span.amin(0), (span.amax(0) - span.amin(0)).clamp(min=1e-300)
    margin, exhaustive = _margin(((f[:, kept] - low) * (CELLS / width)).floor(), rate_of, seen.diagonal)
    if not (margin <= MARGIN and exhaustive):
        margin_full, exhaustive_full = _margin(f[:, kept], rate_of, seen.diagonal)
        held = margin_full <= MARGIN and exhaustive_full
        warnings.append("resolution" if held else "near-ceiling" if exhaustive_full else "unchecked-subsets")
    value, code_entropy = rate, math.nan
    if seen.first:
        code_entropy = _joint_entropy(torch.cat([f[:, kept], s[:, kept]], -1))
        value = min(rate, code_entropy)
        if seen.diagonal:
            entropies = [_joint_entropy(torch.stack([f[:, k], s[:, k]], -1)) for k in kept]
            value = min(value, math.fsum(min(r, h) for r, h in zip(rate_of, entropies, strict=True)))
        if value < rate:
            warnings = [w for w in warnings if w not in ("near-ceiling", "resolution")] + ["above-ceiling"]

    covariance = seen.bank.covariance[seen.replica][kept][:, kept]
    scale = f[:, kept].square().mean(0).clamp(min=1e-300).sqrt()
    smallest = float(torch.linalg.eigvalsh(covariance / scale / scale.unsqueeze(-1))[0]) if kept else math.inf
    if smallest < _DEPENDENT:
        warnings.append("dependent")

    tail = float(seen.bank.tail[seen.replica])
    references = seen.bank.size
    error, stderr = tail, 0.0
    if tail > _TAIL:
        warnings.append("tail")
    if not seen.first:
        error += _REFERENCE_BIAS * len(kept) / references
        stderr = float(rates[:, kept].sum(-1).std()) / math.sqrt(n) + _bank_noise(f[:, kept], s[:, kept], references)
        if references < _REFERENCES:
            warnings.append("few-reference")
    shift = _shift(f, s, seen.bank, seen.replica, same=seen.first)
    if seen.same_law and shift > (_SHIFT_SAME if seen.first else _SHIFT_SAMPLED):
        warnings.append("stale-bank")
    repeat = math.nan if seen.repeat is None else seen.repeat
    if repeat > _SAME:
        warnings.append("batch-dependent")
    if not seen.same_law:
        warnings.append("other-law")
    if float(rates.sum(-1).mean()) < seen.floor + _COLLAPSED * f.shape[1] and seen.floor > 0.0:
        warnings.append("collapsed")

    # what costs most is asked only of a rate that would otherwise be exact
    seen_nats, aligned = math.nan, math.nan
    if kept and not set(warnings) - {"void", "collapsed"}:
        aligned = _few_valued(f[:, kept], rates[:, kept])
        if aligned > 1.0:
            warnings.append("few-valued")
        elif _alike(rates[:, kept]) > 3:
            warnings.append("unchecked-subsets")
        in_cells = _seen_in_cells(seen.bank, seen.replica, s, kept)
        noise = (s[:, kept].T @ s[:, kept] / n) * covariance
        seen_nats = math.fsum(min(i, r) for i, r in zip(in_cells, rate_of, strict=True))
        seen_nats -= _lost_jointly(covariance, noise, width / CELLS)
        error += max(rate - seen_nats, 0.0)
        if seen_nats < (1.0 - _UNSEEN_SHARE) * rate - _UNSEEN_NATS:
            warnings.append("resolution")

    standing: Standing = "exact"
    if set(warnings) - {"void", "collapsed"}:
        standing = "upper"
    if {"tail", "stale-bank", "other-law"} & set(warnings):
        standing = "estimate"
    return Certificate(
        rate=float(rates.sum(-1).mean()),
        value=value,
        standing=standing,
        stderr=stderr,
        error=error,
        ceiling=math.log(n) if seen.first else math.nan,
        n=n,
        margin=margin,
        seen=seen_nats,
        code_entropy=code_entropy,
        smallest_eigenvalue=smallest,
        aligned=aligned,
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


def _seen_in_cells(bank: Bank, replica: int, s: Tensor, kept: list[int]) -> list[float]:
    """I(Z_i;X) of each coordinate as a grid of CELLS cells over the range of z_i shows it, nats.

    Every coordinate is an Echo channel of its own, and seen in cells of width d, Z_i given x is e_i seen in cells of
    width d / s_i(x): I_d = E_x [ H_d(e_i) - H_{d / s_i(x)}(e_i) ], which tends to -E log s_i where e_i has a density
    and falls short of it where that density has not yet shown. H is counted from draws of e at widths that double.
    """
    generator = torch.Generator(bank.f.device).manual_seed(0)
    e = bank.draw(replica, _DRAWS, generator).double()
    low = e.amin(0)
    cells = 2 ** math.ceil(math.log2(CELLS))
    digits = ((e - low) * (CELLS / (e.amax(0) - low).clamp(min=1e-300))).long().clamp(0, cells - 1)
    out = []
    for k in kept:
        counts = digits[:, k].bincount(minlength=cells).double()
        entropies = []
        while True:
            p = counts / counts.sum()
            # with Miller and Madow's correction for the bias of the count
            entropies.append(float(-torch.xlogy(p, p).sum()) + (int((p > 0).sum()) - 1) / (2 * len(e)))
            if len(counts) == 1:
                break
            counts = counts.view(-1, 2).sum(1)
        coarser = (-s[:, k].log2()).clamp(0.0, len(entropies) - 1.0).cpu().numpy()
        given = np.interp(coarser, np.arange(len(entropies)), entropies)
        out.append(entropies[0] - float(given.mean()))
    return out


def _lost_jointly(covariance: Tensor, noise: Tensor, cell: Tensor) -> float:
    """What cells of these widths hide of directions that are oblique to the axes, for Gaussian z with these
    covariances.

    covariance: of z, (K, K); noise: of z given x. Coordinates that are nearly equal differ by less than a cell: a
    cell acts like uniform noise, of variance width^2 / 12.
    """

    def information(blur: Tensor) -> float:
        return 0.5 * float(torch.logdet(covariance + blur) - torch.logdet(noise + blur))

    lost = information(torch.zeros_like(covariance)) - information(torch.diag(cell.square() / 12))
    return max(lost, 0.0) if math.isfinite(lost) else math.inf


def _few_valued(f: Tensor, rates: Tensor) -> float:
    """The largest share of pairs of points that lie on parallel lines, in any plane of two coordinates of f (N, K), and
    of triples of points on parallel planes, in any space of three (K <= 8); in units of the share that is too much.

    A combination of two coordinates that takes m values puts a share 1/m of all pairs on lines of one direction, and a
    share 1/m^2 of all triples on planes. Equal scales make it an Echo channel of the same rate R, which the margin
    asks to be at most MARGIN log m; with scales that differ it is none, and only very few values count. Directions
    along the axes do not count: few values of single coordinates are the ceilings' business. rates: -log s, (N, K).
    """
    points = (f / f.std(0).clamp(min=1e-300)).cpu().numpy()
    random = np.random.default_rng(0)
    first, second, third = points[random.integers(len(points), size=(3, _PAIRS))]
    largest = 0.0
    for size in (2, 3) if points.shape[1] <= 8 else (2,):
        for chosen in itertools.combinations(range(points.shape[1]), size):
            # whitened, or else all differences of a long thin cloud have one direction
            values, vectors = np.linalg.eigh(np.cov(points[:, chosen].T))
            whiten = vectors / np.sqrt(np.maximum(values, 1e-12))
            one, two = (second - first)[:, chosen] @ whiten, (third - first)[:, chosen] @ whiten
            normals = np.stack([-one[:, 1], one[:, 0]], 1) if size == 2 else np.cross(one, two)
            r = rates[:, chosen]
            much = _ALIGNED[size]
            if float((r.amax(1) - r.amin(1)).mean()) < _EQUAL_SCALES:
                much = min(much, math.exp(-(size - 1) * float(r.mean()) / MARGIN))
            for fine in (500.0, 50.0) if size == 2 else (50.0,):
                chance = 4.0 / (math.pi * fine) if size == 2 else 4.0 / (2.0 * math.pi * fine**2) + 6.0 / _PAIRS
                share = _most_common_direction(normals, whiten, fine)
                largest = max(largest, share / max(much, chance))
    return largest


def _alike(rates: Tensor) -> int:
    """The most coordinates whose scales are nearly equal to one coordinate's (itself included), where they let enough
    through to meet the ceiling of a rare combination. rates: -log s, (N, K)."""
    loud = rates[:, rates.mean(0) > _LEAST_RATE]
    distances = (loud.unsqueeze(1) - loud.unsqueeze(2)).abs().mean(0)
    return int((distances < _EQUAL_SCALES).sum(1).max()) if len(distances) else 0


def _most_common_direction(normals: npt.NDArray[np.float64], whiten: npt.NDArray[np.float64], fine: float) -> float:
    """The share of the most common direction among (P, d) whitened vectors, told apart to 1/fine.

    Those that belong to a single coordinate, or to fewer than all d of them, are left out.
    """
    units, there = _units(normals)
    coordinates, _ = _units(units @ whiten.T)
    oblique: npt.NDArray[np.bool_] = np.all(np.abs(coordinates) > 2.0 / fine, axis=1)
    units, there = units[there], oblique[there]
    units = units * np.where(units[:, -1:] < 0, -1.0, 1.0)
    cells = np.round(units[there] * fine).astype(np.int64) @ np.array([1, 100_003, 100_003**2])[: units.shape[1]]
    return 0.0 if not len(cells) else float(np.unique(cells, return_counts=True)[1].max() / len(normals))


def _units(vectors: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """(P, d) vectors at length 1, and which of them have a length."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    there = length > 1e-9
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=there), there[:, 0]


def _bank_noise(f: Tensor, s: Tensor, references: int) -> float:
    """A standard error for I(Z_k;Z_{k-1}) where the law of e is that of finitely many reference codes, nats.

    Their variance is off by a share of standard deviation sqrt((kurtosis - 1) / references), and the information by
    (1 - E s^2) / 2 of that share, added up over coordinates as if all erred together.
    """
    centred = f - f.mean(0)
    variance = centred.square().mean(0).clamp(min=1e-300)
    kurtosis = centred.pow(4).mean(0) / variance.square()
    share = ((kurtosis - 1.0).clamp(min=0.0) / references).sqrt()
    return float((0.5 * (1.0 - s.square().mean(0)) * share).sum())


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
    # hence the exclusive or). That any two of N rows share a key is as likely as N^2 / 2^64.
    patterns = columns.view(np.uint64)
    patterns = patterns ^ (patterns >> np.uint64(32))
    coefficients = np.random.default_rng(0).integers(2**63, size=(len(columns), 1), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    return _entropy_of_sorted(np.sort((patterns * coefficients).sum(0, dtype=np.uint64)))


def _columns(codes: Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray((codes.double() + 0.0).T.cpu().numpy())  # + 0.0 makes one zero of the two


def _shift(f: Tensor, s: Tensor, bank: Bank, replica: int, *, same: bool) -> float:
    """The largest distance between the bank's and the probe's means of f, f^2 and s: in standard deviations if they
    are to be the same codes, else in standard errors of two samples."""
    here, there, there_s = f, bank.f[replica].double(), bank.s[replica].double()
    here, there = torch.cat([here, here.square()], 1), torch.cat([there, there.square()], 1)
    if there_s.dim() == f.dim():
        here, there = torch.cat([here, s], 1), torch.cat([there, there_s], 1)
    one, other = (1, 1) if same else (len(here), len(there))
    spread = (here.var(0) / one + there.var(0) / other).sqrt()
    distance = (here.mean(0) - there.mean(0)).abs()
    # two passes round differently: a constant that differs in its last digits has not moved
    rounding = (1e-2 if same else 1e-6) * here.square().mean(0).sqrt() + 1e-300
    return float((distance / torch.maximum(spread, rounding)).max())
