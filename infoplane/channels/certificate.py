"""Is the rate of an Echo layer its information? The conditions, each with its value, for one layer and one replica.

I(Z;X) <= R always, with equality where e has a density of finite entropy. N inputs can be counted, so I <= ln N, every
subset of coordinates has a ceiling of its own, and near a ceiling, or where codes repeat, R is reached only in ever
finer digits of z. A rate is called exact where all conditions below hold, at 1/1000 of the range of z; what fails
turns it into a bound or an estimate, with the reason.

What is looked for cannot be everything. Under a non-diagonal S any subspace may have a ceiling, so there a rate is
never called exact. Under a diagonal S a linear combination of coordinates is an Echo channel where their scales are
equal: those of two and (up to eight coordinates) of three are searched for few values whatever the scales, and those
of any number where the scales are alike. Where these are too many to search, or the coordinates more than 64, a rate
is not called exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..records import LIMITS, Standing, format_warnings
from . import ceilings
from .bank import Bank

__all__ = ["CELLS", "Certificate", "Evidence", "certify"]

#: Cells a coordinate over the range of z: the resolution at which codes are counted and the rate must be seen.
CELLS = 1000
#: What may be missing of the rate at that resolution, beside the share in LIMITS, for the sampling of 2^15 draws.
_UNSEEN_NATS, _DRAWS = 0.01, 2**15
#: As near as float32 can tell that a coordinate is constant.
_VOID = 2.5e-7
_COLLAPSED = 0.02
#: The mean of I(Z_2;Z_1) - R where the noise of layer 2 is made of finitely many codes is about .7 nats / references a
#: coordinate (Gaussian codes, 128 to 4096 of them); its scatter is larger, and part of the standard error.
_REFERENCE_BIAS = 1.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one replica of an Echo layer showed while its weights were frozen.

    f, log_s, z: (N, K) of the probe; z in the type in which it is handed on. bank: the reference codes; replica: which
    slice of it belongs here.
    first: no noise below, so f is a function of x. repeat: max |f - f'| over inputs that were passed again, in units of
    each coordinate's standard deviation (first layers only, else None). same_law: the bank was filled from the probe.
    diagonal: S is.
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
    aligned: what `ceilings.few_valued` found.
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
            "independent_ok": not bad & {"dependent", "few-valued", "mixed", "wide"},
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
    if len(kept) > ceilings.WIDE:
        warnings.append("wide")

    # the margin to every ceiling, and the rigorous bound sum_i min(R_i, H(codes_i)) and H(all codes)
    span = seen.z.double()[:, kept]
    low, width = span.amin(0), (span.amax(0) - span.amin(0)).clamp(min=1e-300)
    margin, exhaustive = ceilings.margin(((f[:, kept] - low) * (CELLS / width)).floor(), rate_of, seen.diagonal)
    if not (margin <= ceilings.MARGIN and exhaustive):
        margin_full, exhaustive_full = ceilings.margin(f[:, kept], rate_of, seen.diagonal)
        held = margin_full <= ceilings.MARGIN and exhaustive_full
        warnings.append("resolution" if held else "near-ceiling" if exhaustive_full else "unchecked-subsets")
    value, code_entropy = rate, math.nan
    repeat = math.nan if seen.repeat is None else seen.repeat
    if (
        seen.first and not repeat > LIMITS["repeat"]
    ):  # codes that change from pass to pass have no ceiling that one pass shows
        code_entropy = ceilings.joint_entropy(torch.cat([f[:, kept], s[:, kept]], -1))
        value = min(rate, code_entropy)
        if seen.diagonal:
            entropies = [ceilings.joint_entropy(torch.stack([f[:, k], s[:, k]], -1)) for k in kept]
            value = min(value, math.fsum(min(r, h) for r, h in zip(rate_of, entropies, strict=True)))
        if value < rate:
            warnings = [w for w in warnings if w not in ("near-ceiling", "resolution")] + ["above-ceiling"]
    digits = torch.finfo(seen.z.dtype).eps * span.abs().amax(0)
    if "resolution" not in warnings and bool((digits > width / CELLS).any()):
        warnings.append("resolution")

    covariance = seen.bank.covariance[seen.replica][kept][:, kept]
    scale = f[:, kept].square().mean(0).clamp(min=1e-300).sqrt()
    smallest = float(torch.linalg.eigvalsh(covariance / scale / scale.unsqueeze(-1))[0]) if kept else math.inf
    if smallest < LIMITS["smallest_eigenvalue"]:
        warnings.append("dependent")

    tail = float(seen.bank.tail[seen.replica])
    references = seen.bank.size
    error, stderr = tail, 0.0
    if tail > LIMITS["tail_nats"]:
        warnings.append("tail")
    if not seen.first:
        error += _REFERENCE_BIAS * len(kept) / references
        stderr = float(rates[:, kept].sum(-1).std()) / math.sqrt(n) + _bank_noise(f[:, kept], s[:, kept], references)
        if references < LIMITS["references"]:
            warnings.append("few-reference")
    shift = _shift(f, s, seen.bank, seen.replica, same=seen.first)
    if seen.same_law and shift > (LIMITS["bank_shift"] if seen.first else LIMITS["bank_shift_above"]):
        warnings.append("stale-bank")
    if repeat > LIMITS["repeat"]:
        warnings.append("batch-dependent")
    if not seen.same_law:
        warnings.append("other-law")
    if float(rates.sum(-1).mean()) < seen.floor + _COLLAPSED * f.shape[1] and seen.floor > 0.0:
        warnings.append("collapsed")

    # what costs most is asked only of a rate that would otherwise be exact
    seen_nats, aligned = math.nan, math.nan
    if kept and not set(warnings) - {"void", "collapsed"}:
        aligned = ceilings.few_valued(f[:, kept], rates[:, kept])
        if aligned > LIMITS["aligned"]:
            warnings.append("few-valued")
        else:
            crowded, everything = ceilings.crowded_flats((f[:, kept] - low) * (CELLS / width), rates[:, kept])
            aligned = max(aligned, crowded)
            if crowded > LIMITS["aligned"]:
                warnings.append("few-valued")
            elif not everything:
                warnings.append("unchecked-subsets")
        in_cells = _seen_in_cells(seen.bank, seen.replica, s, kept)
        noise = (s[:, kept].T @ s[:, kept] / n) * covariance
        seen_nats = math.fsum(min(i, r) for i, r in zip(in_cells, rate_of, strict=True))
        seen_nats -= _lost_jointly(covariance, noise, width / CELLS)
        error += max(rate - seen_nats, 0.0)
        if seen_nats < LIMITS["seen"] * rate - _UNSEEN_NATS:
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
