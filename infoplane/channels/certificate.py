"""Is the rate of an Echo layer its information? The conditions, for one layer and one replica.

I(Z;X) <= R always, with equality where e has a density of finite entropy. N inputs can be counted,
so I <= ln N, every subset of coordinates has a ceiling of its own, and near a ceiling, or where
codes repeat, R is reached only in ever finer digits of z. A rate is called exact where all
conditions below hold, at 1/1000 of the range of z. A rate that fails any of them is reported as an
upper bound (or, where its noise is not that of the law, as an estimate), with the reason; its value
is then the tighter of the two bounds.

No search can cover everything. Under a non-diagonal S any subspace may have a ceiling, so there a
rate is never called exact. Under a diagonal S a linear combination of coordinates is an Echo
channel where their scales are equal: those of two and (up to eight coordinates) of three are
searched for few values whatever the scales, and those of any number where the scales are alike.
Where these are too many to search, or the coordinates more than 64, a rate is not called exact.
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
    """The verdict on one layer, and the values it rests on.

    Rates and entropies are in nats; coordinates count from 0.

    rate: -E log |det S| over all coordinates. value: what is to be reported; standing: as what.
    stderr: 0 for a first layer, whose law is the probe; above, of the noisy codes and of the finite
    bank.
    error: bound on the systematic error: truncation, finite bank, and what of the rate is not seen
    in CELLS cells.
    ceiling: ln N for a first layer, NaN above (Z_{k-1} is continuous).
    margin: the largest R_A / H(f_A) over subsets A, codes counted in CELLS cells. seen: what of the
    rate is seen in CELLS cells per coordinate (`Evidence.seen`), NaN where the verdict was reached
    without it.
    aligned: the largest share of points that a combination of few values was found to hold, in
    units of the share that is too much (`ceilings.few_valued` and `ceilings.crowded_flats`); NaN
    where it was not searched for.
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
        """Return its columns in certificates.csv: every value, and the verdict on those judged."""
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


# -- the conditions, one function for each; True where it fails, and its warning is raised


def _void(e: Evidence) -> bool:
    """Some coordinates of z are constant; they are dropped."""
    return bool(e.void)


def _mixed(e: Evidence) -> bool:
    """S is not diagonal, so any subspace may have a ceiling."""
    return not e.diagonal


def _wide(e: Evidence) -> bool:
    """There are too many coordinates to search their combinations."""
    return len(e.kept) > LIMITS["coordinates"]


def _unchecked_subsets(e: Evidence) -> bool:
    """There are too many subsets of coordinates to hold each against its ceiling."""
    return not _below_ceilings(e.margin) and not e.margin_of_values[1]


def _near_ceiling(e: Evidence) -> bool:
    """Some subset of coordinates lets through nearly as much as its codes, by value, can hold."""
    if _below_ceilings(e.margin):
        return False
    largest, exhaustive = e.margin_of_values
    return exhaustive and not largest <= LIMITS["margin"] and not _above_ceiling(e)


def _above_ceiling(e: Evidence) -> bool:
    """The rate is more than some coordinates can hold."""
    return e.bound < e.rate


def _unresolved(e: Evidence) -> bool:
    """The codes are few only if counted in cells, or the digits of z are coarser than a cell."""
    few = not _below_ceilings(e.margin) and _below_ceilings(e.margin_of_values) and not _above_ceiling(e)
    return few or bool((e.digits > e.width / CELLS).any())


def _dependent(e: Evidence) -> bool:
    """Coordinates are linearly dependent, and the rate counts them more than once."""
    return e.smallest_eigenvalue < LIMITS["smallest_eigenvalue"]


def _tail(e: Evidence) -> bool:
    """The echoes were cut off too early."""
    return e.tail > LIMITS["tail_nats"]


def _few_reference(e: Evidence) -> bool:
    """A layer above noise has too few reference codes."""
    return not e.first and e.bank.size < LIMITS["references"]


def _stale_bank(e: Evidence) -> bool:
    """The reference codes are not those of the present weights."""
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

#: The conditions of every layer, by the warning that each raises, in the order in which they are
#: listed.
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

#: What costs most, and is asked only of a rate that would otherwise be exact.
SEARCHES: dict[str, Condition] = {
    "few-valued": _few_valued,
    "unchecked-subsets": _unchecked_flats,
    "resolution": _unseen,
}

#: What a rate may carry and still be exact.
_HARMLESS = {"void", "collapsed"}
#: What makes R no bound: I = R + h(z) - h(e), of either sign.
_NO_BOUND = {"tail", "stale-bank", "other-law"}


def certify(evidence: Evidence) -> Certificate:
    """Judge one replica of one Echo layer: each condition in turn, and what follows for the rate.

    Args:
        evidence: what the layer showed.

    Returns:
        The verdict, with every value that it rests on.
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
    return [code for code, fails in conditions.items() if fails(evidence)]


def _standing(warnings: Iterable[str]) -> Standing:
    """The standing of a rate with these warnings."""
    if _NO_BOUND.intersection(warnings):
        return "estimate"
    return "upper" if set(warnings) - _HARMLESS else "exact"


def _below_ceilings(margin: tuple[float, bool]) -> bool:
    """Whether no subset of coordinates is near its ceiling, and all that matter were looked at."""
    largest, exhaustive = margin
    return largest <= LIMITS["margin"] and exhaustive


def _aligned(e: Evidence) -> float:
    """The larger of what the searches found; the second is not made where the first settles it."""
    return e.few_valued if e.few_valued > LIMITS["aligned"] else max(e.few_valued, e.crowded[0])
