"""The certificate of an Echo layer: whether its rate is its information, for one replica.

I(Z;X) <= R always, with equality where e has a density of finite entropy. N inputs can be counted,
so I <= ln N, and every subset of coordinates has a ceiling of its own. Near a ceiling, or where
codes repeat, R is reached only in ever finer digits of z. A rate is called exact if all conditions
below hold, at 1/1000 of the range of z. A rate that fails any of them is reported as an upper bound
(or as an estimate, if its noise does not follow the law of the inputs), with the reason; its value
is then the tighter of the two bounds, the rate and the ceiling.

No search can cover everything. If S is not diagonal, any subspace may have a ceiling, so a rate is
then never called exact. If S is diagonal, a linear combination of coordinates with equal scales is
an Echo channel of its own. Combinations of two coordinates, and (up to eight coordinates) of three,
are searched for few values whatever the scales; combinations of any number are searched where the
scales are alike. If these are too many to search, or there are more than 64 coordinates, a rate is
not called exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..records import Standing, format_warnings
from ..warning_codes import LIMITS
from .evidence import CELLS, Evidence

__all__ = ["CONDITIONS", "SEARCHES", "Certificate", "certify"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """The verdict on one Echo layer, with the values that it rests on.

    Rates, entropies and errors are in nats. Coordinates count from 0.

    Args:
        rate: R = -E log |det S| over all coordinates.
        value: The number to report.
        standing: The standing of the value: "exact", "upper" or "estimate".
        stderr: The standard error: 0 for a first layer, whose law is the probe. For a layer above
            noise it covers the noisy codes and the finite bank.
        error: A bound on the systematic error: the tail of the echoes, the finite bank, and the
            part of the rate that is not seen in CELLS cells.
        ceiling: ln N for a first layer; NaN above noise, where the input is continuous.
        n: N, the number of inputs.
        margin: The largest R_A / H(f_A) over subsets A of coordinates, with codes counted in CELLS
            cells.
        seen: The part of the rate that is seen in CELLS cells per coordinate; NaN if the verdict
            was reached without it.
        code_entropy: The entropy of the distinct codes (f, s); NaN where it is not a ceiling.
        smallest_eigenvalue: The smallest eigenvalue of Cov(z), scaled by E f_i^2.
        aligned: The largest share of points on which a combination of coordinates takes one value,
            in units of the share that is too much; NaN if it was not searched for.
        void: The coordinates of z that are constant.
        mean_s: E s over inputs and coordinates.
        mean_s2: E s^2.
        tail: A bound on the information in the echo terms that were left out.
        references: The number of reference codes.
        shift: The largest distance between the means of the bank and of the probe; see
            `Evidence.shift`.
        repeat: The largest change of a code from pass to pass, in standard deviations; NaN if it
            is not known.
        same_law: Whether the bank was filled from the probe.
        floor: The smallest rate that the layer can have.
        warnings: The warnings, codes of `WARNINGS`.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> x = torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
        >>> model = torch.nn.Sequential(torch.nn.Identity(), ip.Echo(2, bias=0.0))
        >>> recorder = ip.Recorder(model, x, estimators=[])
        >>> row = recorder.snapshot(epoch=0)["certificates"][0]
        >>> row["standing"], row["margin_ok"], row["tail_ok"], row["warnings"]
        ('exact', True, True, '')
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
        """Return the columns of certificates.csv: every value, and the verdicts on them."""
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


# -- the conditions, one function each, which returns True if the condition fails


def _void(e: Evidence) -> bool:
    """Some coordinates of z are constant and are left out."""
    return bool(e.void)


def _mixed(e: Evidence) -> bool:
    """S is not diagonal, so any subspace may have a ceiling."""
    return not e.diagonal


def _wide(e: Evidence) -> bool:
    """There are too many coordinates to search their combinations."""
    return len(e.kept) > LIMITS["coordinates"]


def _unchecked_subsets(e: Evidence) -> bool:
    """There are too many subsets of coordinates to hold each of them against its ceiling."""
    return not _below_ceilings(e.margin) and not e.margin_of_values[1]


def _near_ceiling(e: Evidence) -> bool:
    """Some subset of coordinates has a rate near the entropy of its codes, counted by value."""
    if _below_ceilings(e.margin):
        return False
    largest, exhaustive = e.margin_of_values
    return exhaustive and not largest <= LIMITS["margin"] and not _above_ceiling(e)


def _above_ceiling(e: Evidence) -> bool:
    """The rate is more than some coordinates can hold."""
    return e.bound < e.rate


def _unresolved(e: Evidence) -> bool:
    """Only the codes counted in cells are few, or the digits of z are coarser than a cell."""
    few = not _below_ceilings(e.margin) and _below_ceilings(e.margin_of_values) and not _above_ceiling(e)
    return few or bool((e.digits > e.width / CELLS).any())


def _dependent(e: Evidence) -> bool:
    """Coordinates are linearly dependent, so the rate counts them more than once."""
    return e.smallest_eigenvalue < LIMITS["smallest_eigenvalue"]


def _tail(e: Evidence) -> bool:
    """The echoes were cut off too early."""
    return e.tail > LIMITS["tail_nats"]


def _few_reference(e: Evidence) -> bool:
    """There are too few reference codes for a layer above noise."""
    return not e.first and e.bank.size < LIMITS["references"]


def _stale_bank(e: Evidence) -> bool:
    """The reference codes were not made with the present weights."""
    return e.same_law and e.shift > LIMITS["bank_shift" if e.first else "bank_shift_above"]


def _batch_dependent(e: Evidence) -> bool:
    """The codes of an input change from pass to pass."""
    return e.repeat is not None and e.repeat > LIMITS["repeat"]


def _other_law(e: Evidence) -> bool:
    """The echoes follow another law than the inputs."""
    return not e.same_law


def _collapsed(e: Evidence) -> bool:
    """The rate sits on the floor of the layer."""
    return e.floor > 0.0 and e.whole_rate < e.floor + LIMITS["collapsed_nats"] * e.f.shape[1]


def _few_valued(e: Evidence) -> bool:
    """A linear combination of coordinates takes few values."""
    return e.few_valued > LIMITS["aligned"] or e.crowded[0] > LIMITS["aligned"]


def _unchecked_flats(e: Evidence) -> bool:
    """There are too many combinations of coordinates to search each for few values."""
    return not _few_valued(e) and not e.crowded[1]


def _unseen(e: Evidence) -> bool:
    """Part of the rate is not seen in cells."""
    return e.seen < LIMITS["seen"] * e.rate - LIMITS["unseen_nats"]


Condition = Callable[[Evidence], bool]

#: The conditions that are asked of every layer, by the warning that each raises, in order.
CONDITIONS: dict[str, Condition] = {
    "void": _void,
    "mixed": _mixed,
    "wide": _wide,
    "unchecked-subsets": _unchecked_subsets,
    "near-ceiling": _near_ceiling,
    "above-ceiling": _above_ceiling,
    "resolution": _unresolved,
    "dependent": _dependent,
    "tail": _tail,
    "few-reference": _few_reference,
    "stale-bank": _stale_bank,
    "batch-dependent": _batch_dependent,
    "other-law": _other_law,
    "collapsed": _collapsed,
}

#: The most expensive conditions, asked only of a rate that would otherwise be exact.
SEARCHES: dict[str, Condition] = {
    "few-valued": _few_valued,
    "unchecked-subsets": _unchecked_flats,
    "resolution": _unseen,
}

#: The warnings that an exact rate may carry.
_HARMLESS = {"void", "collapsed"}
#: The warnings with which R is not a bound, because I = R + h(z) - h(e) may lie on either side.
_NO_BOUND = {"tail", "stale-bank", "other-law"}


def certify(evidence: Evidence) -> Certificate:
    """Judge whether the rate of one Echo layer is its information, for one replica.

    Args:
        evidence: The codes, scales and reference codes of the layer.

    Returns:
        The verdict, with every value that it rests on.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> from infoplane.channels.evidence import Evidence
        >>> f = torch.randn(1, 4096, 2, generator=torch.Generator().manual_seed(0))
        >>> log_s = torch.full_like(f, -0.5)
        >>> bank = ip.channels.Bank(f, log_s.exp())
        >>> z = f + log_s.exp() * bank.draw(0, 4096, torch.Generator().manual_seed(1))
        >>> verdict = ip.channels.certify(
        ...     Evidence(
        ...         f=f[0], log_s=log_s[0], z=z[0], bank=bank, replica=0, first=True, repeat=0.0,
        ...         same_law=True, diagonal=True, floor=0.0,
        ...     )
        ... )
        >>> verdict.standing, round(verdict.value, 4)  # 2 coordinates of 0.5 nats
        ('exact', 1.0)
    """
    warnings = _failing(CONDITIONS, evidence)
    searched = bool(evidence.kept) and not set(warnings) - _HARMLESS
    if searched:
        warnings += _failing(SEARCHES, evidence)
    return Certificate(
        rate=evidence.whole_rate,
        value=evidence.bound,
        standing=_standing(warnings),
        stderr=evidence.stderr,
        error=evidence.systematic + (max(evidence.rate - evidence.seen, 0.0) if searched else 0.0),
        ceiling=math.log(evidence.n) if evidence.first else math.nan,
        n=evidence.n,
        margin=evidence.margin[0],
        seen=evidence.seen if searched else math.nan,
        code_entropy=evidence.code_entropy,
        smallest_eigenvalue=evidence.smallest_eigenvalue,
        aligned=_aligned(evidence) if searched else math.nan,
        void=tuple(evidence.void),
        mean_s=float(evidence.scales.mean()),
        mean_s2=float(evidence.scales.square().mean()),
        tail=evidence.tail,
        references=evidence.bank.size,
        shift=evidence.shift,
        repeat=math.nan if evidence.repeat is None else evidence.repeat,
        same_law=evidence.same_law,
        floor=evidence.floor,
        warnings=tuple(warnings),
    )


def _failing(conditions: dict[str, Condition], evidence: Evidence) -> list[str]:
    """Return the warnings of the conditions that fail."""
    return [code for code, fails in conditions.items() if fails(evidence)]


def _standing(warnings: Iterable[str]) -> Standing:
    """Find the standing of a rate with these warnings."""
    if _NO_BOUND.intersection(warnings):
        return "estimate"
    return "upper" if set(warnings) - _HARMLESS else "exact"


def _below_ceilings(margin: tuple[float, bool]) -> bool:
    """Return whether every subset that matters was checked and none is near its ceiling."""
    largest, exhaustive = margin
    return largest <= LIMITS["margin"] and exhaustive


def _aligned(e: Evidence) -> float:
    """Return the larger finding of the searches; the second is skipped if the first settles it."""
    return e.few_valued if e.few_valued > LIMITS["aligned"] else max(e.few_valued, e.crowded[0])
