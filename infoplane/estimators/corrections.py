"""Entropies of a law from the counts of a sample of it, corrected for the bias of the plug-in."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import gammaln, polygamma, psi
from torch import Tensor

from ..errors import InfoplaneError, choose
from .entropy import entropy_of_counts
from .inputs import INTEGERS

__all__ = ["CORRECTIONS", "corrected_entropy", "corrected_information"]

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

#: The posterior of NSB is summed on a grid of so many points, where it is less than DEPTH nats below its peak.
GRID = 513
DEPTH = 45.0
#: More symbols than these are beyond the range of float64 times exp(DEPTH).
MOST_SYMBOLS = 1e250


def corrected_entropy(counts: Tensor | Ints, method: str, *, symbols: float | Tensor | Floats | None = None) -> Tensor:
    """The entropy of the law that the counted points are a sample of, in nats: float64, shape () or (R,).

    Never for a population that was counted whole: there the plug-in is the truth. A correction may leave
    [0, ln symbols]; nothing is clipped.

    counts: (K,), or (R, K) for R rows; integers of at least 0, not all 0 in a row. Zeros are symbols not seen, and
        change nothing. Counts of pairs are flattened to one axis.
    method: one of CORRECTIONS. N points, m symbols seen:
        'plug-in': -sum n/N ln n/N. Biased down by about (m - 1) / 2N.
        'miller-madow': the plug-in + (m - 1) / 2N.
        'grassberger': ln N - sum n G(n) / N, G(n) = psi(n) + (-1)^n [psi((n + 1)/2) - psi(n/2)] / 2. One symbol alone
            reads ln N - G(N), about 1/N for odd N and -1/6N^2 for even; 1.27 for a single point.
        'chao-shen': coverage C = 1 - singletons / N, p = C n/N, then -sum p ln p / (1 - (1 - p)^N). Where every point
            is a singleton, C = 1 / N.
        'nsb': the posterior mean under a mixture of Dirichlet priors under which every entropy from 0 to
            ln symbols is about equally likely beforehand; so ln symbols / 2 for a single point.
    symbols: the number of symbols there are, seen or not; a number or (R,), at most 1e250. Only 'nsb' reads it and
        cannot do without: where few points coincide the answer follows from it, and the number seen in its place
        would put it down to about ln m. For cells that cannot be numbered, give an upper bound, and take another
        method if the answer moves with it.

    Raises InfoplaneError for other shapes, types and values, an unknown method, and 'nsb' without symbols or with
    fewer than were seen.

    Miller, Note on the bias of information estimates (1955); Grassberger, Entropy estimates from insufficient
    samplings, arXiv:physics/0307138 (2003); Chao & Shen, Environmental and Ecological Statistics 10 (2003) 429;
    Nemenman, Shafee & Bialek, Entropy and inference, revisited, NeurIPS 14 (2002).
    """
    rows, device = _rows("corrected_entropy", counts, (1, 2))
    entropy = _entropy("corrected_entropy", rows, method, symbols)
    return torch.from_numpy(entropy).to(device)[() if counts.ndim == 2 else 0]


def corrected_information(table: Tensor | Ints, method: str, *, symbols: tuple[float, float] | None = None) -> Tensor:
    """I(A;B) = H(A) + H(B) - H(A,B), each corrected, from the counts of pairs; nats, float64, shape () or (R,).

    The errors of the three do not cancel, and independent variables may read less than 0.

    table: (A, B) or (R, A, B), how often each pair was seen.
    symbols: how many there are of A and of B, for 'nsb'; A x B of the pairs.

    Raises InfoplaneError as `corrected_entropy` does.
    """
    where = "corrected_information"
    rows, device = _rows(where, table, (2, 3))
    if symbols is not None and (not isinstance(symbols, tuple) or len(symbols) != 2):
        raise InfoplaneError(f"{where}: symbols={symbols!r}; expected a pair, how many there are of A and of B.")
    of_a, of_b = symbols or (None, None)
    of_pairs = None if of_a is None or of_b is None else of_a * of_b
    information = (
        _entropy(where, rows.sum(2), method, of_a)
        + _entropy(where, rows.sum(1), method, of_b)
        - _entropy(where, rows.reshape(len(rows), -1), method, of_pairs)
    )
    return torch.from_numpy(information).to(device)[() if table.ndim == 3 else 0]


def _rows(where: str, counts: Tensor | Ints, dimensions: tuple[int, int]) -> tuple[Floats, torch.device]:
    """(R, ...) float64, and the device of the counts."""
    whole = counts.dtype in INTEGERS if isinstance(counts, Tensor) else isinstance(counts, np.ndarray)
    if not whole or (isinstance(counts, np.ndarray) and counts.dtype.kind not in "iu"):
        got = f"an array of {counts.dtype}" if isinstance(counts, Tensor | np.ndarray) else f"a {type(counts).__name__}"
        raise InfoplaneError(f"{where}: the counts are {got}; expected a tensor or array of integers.")
    few, many = dimensions
    if counts.ndim not in dimensions or 0 in counts.shape:
        expected = "(K,) or (R, K)" if few == 1 else "(A, B) or (R, A, B)"
        raise InfoplaneError(f"{where}: the counts have shape {tuple(counts.shape)}; expected {expected}, none 0.")
    device = counts.device if isinstance(counts, Tensor) else torch.device("cpu")
    array = counts.detach().cpu().numpy() if isinstance(counts, Tensor) else counts
    rows = array.astype(np.float64).reshape(-1, *array.shape[array.ndim - few :])
    if (rows < 0).any():
        raise InfoplaneError(f"{where}: the least count is {rows.min():.0f}; expected counts of at least 0.")
    if not rows.any(axis=tuple(range(1, many))).all():
        raise InfoplaneError(f"{where}: a row holds no point; expected at least one count above 0 in each.")
    return rows, device


def _entropy(where: str, rows: Floats, method: str, symbols: float | Tensor | Floats | None) -> Floats:
    correction = CORRECTIONS[choose(method, CORRECTIONS, "correction")]
    if symbols is None:
        if method == "nsb":
            raise InfoplaneError(
                f"{where}: 'nsb' needs the number of symbols there are, seen or not; expected symbols=NUMBER, an upper "
                "bound if need be; or take grassberger or chao-shen, which do without."
            )
        return correction(rows, None)
    possible = np.asarray(symbols.cpu() if isinstance(symbols, Tensor) else symbols, dtype=np.float64)
    if possible.shape not in ((), (1,), (len(rows),)):
        raise InfoplaneError(f"{where}: symbols has shape {possible.shape}; expected a number, or {len(rows)} of them.")
    possible = np.broadcast_to(possible, len(rows))
    seen = (rows > 0).sum(1)
    if not ((possible >= seen) & (possible <= MOST_SYMBOLS)).all():
        raise InfoplaneError(
            f"{where}: symbols={symbols!r}, and {int(seen.max())} were seen; expected no fewer, and at most "
            f"{MOST_SYMBOLS:.0e}."
        )
    return correction(rows, possible)


# each: (R, K) counts and, where known, (R,) numbers of symbols -> (R,) entropies


def _plug_in(rows: Floats, symbols: Floats | None) -> Floats:
    return entropy_of_counts(rows)


def _miller_madow(rows: Floats, symbols: Floats | None) -> Floats:
    return np.asarray(entropy_of_counts(rows) + ((rows > 0).sum(1) - 1) / (2 * rows.sum(1)))


def _grassberger(rows: Floats, symbols: Floats | None) -> Floats:
    n = rows.sum(1)
    # a table of G: there are far fewer counts than symbols
    values, place = np.unique(rows, return_inverse=True)
    k = np.where(values > 0, values, 1.0)
    sign = 1 - 2 * (k % 2)
    terms = values * (psi(k) + sign * (psi((k + 1) / 2) - psi(k / 2)) / 2)
    return np.asarray(np.log(n) - terms[place.reshape(rows.shape)].sum(1) / n)


def _chao_shen(rows: Floats, symbols: Floats | None) -> Floats:
    n = rows.sum(1, keepdims=True)
    single = (rows == 1).sum(1, keepdims=True)
    coverage = np.where(single < n, 1 - single / n, 1 / n)
    p = np.where(rows > 0, coverage * rows / n, 1.0)  # 1 adds 0
    with np.errstate(divide="ignore"):
        seen = -np.expm1(n * np.log1p(-p))  # 1 - (1 - p)^N
    return np.asarray((p * -np.log(p) / seen).sum(1))


def _nsb(rows: Floats, symbols: Floats | None) -> Floats:
    assert symbols is not None
    return np.array([_posterior_mean(row[row > 0], float(k)) for row, k in zip(rows, symbols, strict=True)])


CORRECTIONS: dict[str, Callable[[Floats, Floats | None], Floats]] = {
    "plug-in": _plug_in,
    "miller-madow": _miller_madow,
    "grassberger": _grassberger,
    "chao-shen": _chao_shen,
    "nsb": _nsb,
}


def _posterior_mean(counts: Floats, symbols: float) -> float:
    """NSB's estimate: E[H | counts] under a Dirichlet prior of parameter b, averaged over p(b | counts).

    p(b) is such that E[H | b] = psi(K b + 1) - psi(b + 1) is uniform in (0, ln K). The average is a sum on a grid of
    ln b, which for a smooth integrand that vanishes at both ends is as good as any quadrature; the grid closes in on
    the peak, as narrow as K^-1/2.
    """
    if symbols == 1:
        return 0.0
    values, multiplicity = np.unique(counts, return_counts=True)
    n, unseen = counts.sum(), symbols - len(counts)
    low, high = -math.log(symbols) - DEPTH, DEPTH
    while True:
        u = np.linspace(low, high, GRID)
        b = np.exp(u)
        total = symbols * b
        weight = np.log(_prior(b, total)) - _log_rising(total, n)
        for value, times in zip(values, multiplicity, strict=True):
            weight += times * _log_rising(b, value)
        weight -= weight.max()
        (kept,) = np.nonzero(weight > -DEPTH)
        first, last = max(kept[0] - 1, 0), min(kept[-1] + 1, GRID - 1)
        if last - first > GRID // 4:
            break
        low, high = u[first], u[last]
    mean = psi(n + total + 1) - unseen * b / (n + total) * psi(b + 1)
    for value, times in zip(values, multiplicity, strict=True):
        mean -= times * (value + b) / (n + total) * psi(value + b + 1)
    return float(np.average(mean, weights=np.exp(weight)))


def _prior(b: Floats, total: Floats) -> Floats:
    """d E[H | b] / d ln b = K b psi'(K b + 1) - b psi'(b + 1), without its cancellations. total: K b."""

    def h(z: Floats) -> Floats:
        return np.asarray(z * polygamma(1, z + 1))

    def rest(z: Floats) -> Floats:
        """1 - h(z)."""
        inverse = 1 / np.maximum(z, 1e3)
        return np.where(z > 1e3, inverse / 2 - inverse**2 / 6, 1 - h(z))

    return np.where(total < 1, h(total) - h(b), rest(b) - rest(total))


def _log_rising(a: Floats, n: float) -> Floats:
    """ln Gamma(a + n) / Gamma(a), n >= 1, by Stirling's series where a is large and the two cancel."""
    large = np.maximum(a, 16.0)

    def tail(z: Floats) -> Floats:
        return 1 / z / 12 - (1 / z) ** 3 / 360 + (1 / z) ** 5 / 1260

    stirling = (large - 0.5) * np.log1p(n / large) + n * np.log(large + n) - n + tail(large + n) - tail(large)
    small = np.minimum(a, 16.0)
    return np.where(a > 16, stirling, gammaln(small + n) - gammaln(small))
