"""Estimate the entropy of a law from the counts of a sample, with corrections of its bias."""

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

#: The posterior of NSB is summed on a grid of GRID points, where it is less than DEPTH nats below
#: its peak.
GRID = 513
DEPTH = 45.0
#: The largest number of symbols: more times exp(DEPTH) are beyond the range of float64.
MOST_SYMBOLS = 1e250


def corrected_entropy(counts: Tensor | Ints, method: str, *, symbols: float | Tensor | Floats | None = None) -> Tensor:
    """Estimate the entropy of the law that the counted points are a sample of.

    Do not use a correction for a population that was counted whole: there the plug-in is the truth.
    A correction may leave the interval [0, ln symbols]; nothing is clipped. For N points and m
    symbols seen, the methods are:

    - "plug-in": -sum n/N ln n/N. It is biased down by about (m - 1) / 2N.
    - "miller-madow": the plug-in + (m - 1) / 2N.
    - "grassberger": ln N - sum n G(n) / N with G(n) = psi(n) + (-1)^n [psi((n + 1)/2) - psi(n/2)] /
      2. If only one symbol was seen, this is ln N - G(N), which is about 1/N for odd N and -1/6N^2
      for even N, and 1.27 for a single point.
    - "chao-shen": with the coverage C = 1 - singletons / N and p = C n/N, -sum p ln p / (1 - (1 -
      p)^N). If every point is a singleton, C = 1 / N.
    - "nsb": the posterior mean under a mixture of Dirichlet priors that makes every entropy from 0
      to ln symbols about equally likely beforehand. For a single point it is therefore ln symbols /
      2.

    Args:
        counts: The number of points per symbol, (K,), or (R, K) for R replicas; integers of at
            least 0, with at least one above 0 per row. Zeros stand for symbols that were not seen,
            and change nothing. Flatten counts of pairs to one axis.
        method: The correction, one of CORRECTIONS.
        symbols: The number of possible symbols, seen or not; a number or (R,), at most 1e250. Only
            "nsb" reads it, and needs it: where few points coincide, the answer depends on it, and
            the number of symbols seen would reduce the answer to about ln m. For cells that cannot
            be numbered, give an upper bound; if the answer changes with the bound, choose another
            method.

    Returns:
        The entropy in nats, () or (R,).

    Raises:
        InfoplaneError: If the counts have another shape, type or value, if the method is unknown,
            or if "nsb" has no `symbols` or fewer than were seen.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> counts = torch.tensor([3, 1, 1, 1])
        >>> plug_in = ip.estimators.corrected_entropy(counts, "plug-in")
        >>> corrected = ip.estimators.corrected_entropy(counts, "miller-madow")
        >>> round((corrected - plug_in).item(), 6)
        0.25

    References:
        Miller, Note on the bias of information estimates, 1955.
        Grassberger, Entropy estimates from insufficient samplings, arXiv:physics/0307138, 2003.
        Chao & Shen, Nonparametric estimation of Shannon's index of diversity when there are unseen
        species in sample, Environmental and Ecological Statistics 10 (2003) 429.
        Nemenman, Shafee & Bialek, Entropy and inference, revisited, NeurIPS 14 (2002).
    """
    rows, device = _rows("corrected_entropy", counts, (1, 2))
    entropy = _entropy("corrected_entropy", rows, method, symbols)
    return torch.from_numpy(entropy).to(device)[() if counts.ndim == 2 else 0]


def corrected_information(table: Tensor | Ints, method: str, *, symbols: tuple[float, float] | None = None) -> Tensor:
    """Estimate I(A;B) = H(A) + H(B) - H(A,B) from counts of pairs, each entropy corrected.

    The errors of the three entropies do not cancel, and the value for independent variables may be
    negative.

    Args:
        table: The number of times that each pair was seen, (A, B), or (R, A, B) for R replicas.
        method: As for `corrected_entropy`.
        symbols: For "nsb", the number of possible symbols of A and of B. The number of possible
            pairs is their product.

    Returns:
        The information in nats, () or (R,).

    Raises:
        InfoplaneError: As for `corrected_entropy`.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> table = torch.tensor([[10, 0], [0, 10]])
        >>> round(ip.estimators.corrected_information(table, "plug-in").item(), 4)
        0.6931
    """
    where = "corrected_information"
    rows, device = _rows(where, table, (2, 3))
    if symbols is not None and (not isinstance(symbols, tuple) or len(symbols) != 2):
        raise InfoplaneError(
            f"{where}: symbols={symbols!r}; expected a pair: the numbers of possible symbols of A and of B."
        )
    of_a, of_b = symbols or (None, None)
    of_pairs = None if of_a is None or of_b is None else of_a * of_b
    information = (
        _entropy(where, rows.sum(2), method, of_a)
        + _entropy(where, rows.sum(1), method, of_b)
        - _entropy(where, rows.reshape(len(rows), -1), method, of_pairs)
    )
    return torch.from_numpy(information).to(device)[() if table.ndim == 3 else 0]


def _rows(where: str, counts: Tensor | Ints, dimensions: tuple[int, int]) -> tuple[Floats, torch.device]:
    """Check counts, and return them as (R, ...) float64, with their device."""
    whole = counts.dtype in INTEGERS if isinstance(counts, Tensor) else isinstance(counts, np.ndarray)
    if not whole or (isinstance(counts, np.ndarray) and counts.dtype.kind not in "iu"):
        got = f"an array of {counts.dtype}" if isinstance(counts, Tensor | np.ndarray) else f"a {type(counts).__name__}"
        raise InfoplaneError(f"{where}: the counts are {got}; expected a tensor or array of integers.")
    few, many = dimensions
    if counts.ndim not in dimensions or 0 in counts.shape:
        expected = "(K,) or (R, K)" if few == 1 else "(A, B) or (R, A, B)"
        raise InfoplaneError(
            f"{where}: the counts have shape {tuple(counts.shape)}; expected {expected}, each at least 1."
        )
    device = counts.device if isinstance(counts, Tensor) else torch.device("cpu")
    array = counts.detach().cpu().numpy() if isinstance(counts, Tensor) else counts
    rows = array.astype(np.float64).reshape(-1, *array.shape[array.ndim - few :])
    if (rows < 0).any():
        raise InfoplaneError(f"{where}: the least count is {rows.min():.0f}; expected counts of at least 0.")
    if not rows.any(axis=tuple(range(1, many))).all():
        raise InfoplaneError(f"{where}: a row holds no point; expected at least one count above 0 in each.")
    return rows, device


def _entropy(where: str, rows: Floats, method: str, symbols: float | Tensor | Floats | None) -> Floats:
    """Check the method and the number of symbols, and compute the entropies, (R,)."""
    correction = CORRECTIONS[choose(method, CORRECTIONS, "correction")]
    if symbols is None:
        if method == "nsb":
            raise InfoplaneError(
                f"{where}: 'nsb' needs the number of possible symbols, seen or not; expected symbols=NUMBER, if need "
                "be an upper bound; or choose grassberger or chao-shen, which do not need it."
            )
        return correction(rows, None)
    possible = np.asarray(symbols.cpu() if isinstance(symbols, Tensor) else symbols, dtype=np.float64)
    if possible.shape not in ((), (1,), (len(rows),)):
        raise InfoplaneError(f"{where}: symbols has shape {possible.shape}; expected a number, or {len(rows)} of them.")
    possible = np.broadcast_to(possible, len(rows))
    seen = (rows > 0).sum(1)
    if not ((possible >= seen) & (possible <= MOST_SYMBOLS)).all():
        raise InfoplaneError(
            f"{where}: symbols={symbols!r}, but {int(seen.max())} were seen; expected at least as many, and at most "
            f"{MOST_SYMBOLS:.0e}."
        )
    return correction(rows, possible)


# Each correction takes counts (R, K) and, where known, the numbers of symbols (R,), and returns
# entropies (R,).


def _plug_in(rows: Floats, symbols: Floats | None) -> Floats:
    """Compute the plug-in entropy."""
    return entropy_of_counts(rows)


def _miller_madow(rows: Floats, symbols: Floats | None) -> Floats:
    """Add the first-order bias to the plug-in entropy."""
    return np.asarray(entropy_of_counts(rows) + ((rows > 0).sum(1) - 1) / (2 * rows.sum(1)))


def _grassberger(rows: Floats, symbols: Floats | None) -> Floats:
    """Compute Grassberger's estimate of 2003."""
    n = rows.sum(1)
    # G is computed once per distinct count, of which there are far fewer than symbols.
    values, place = np.unique(rows, return_inverse=True)
    k = np.where(values > 0, values, 1.0)
    sign = 1 - 2 * (k % 2)
    terms = values * (psi(k) + sign * (psi((k + 1) / 2) - psi(k / 2)) / 2)
    return np.asarray(np.log(n) - terms[place.reshape(rows.shape)].sum(1) / n)


def _chao_shen(rows: Floats, symbols: Floats | None) -> Floats:
    """Compute Chao and Shen's estimate, which corrects for the coverage of the sample."""
    n = rows.sum(1, keepdims=True)
    single = (rows == 1).sum(1, keepdims=True)
    coverage = np.where(single < n, 1 - single / n, 1 / n)
    p = np.where(rows > 0, coverage * rows / n, 1.0)  # a share of 1 adds 0
    with np.errstate(divide="ignore"):
        seen = -np.expm1(n * np.log1p(-p))  # 1 - (1 - p)^N
    return np.asarray((p * -np.log(p) / seen).sum(1))


def _nsb(rows: Floats, symbols: Floats | None) -> Floats:
    """Compute Nemenman, Shafee and Bialek's estimate."""
    assert symbols is not None
    return np.array([_posterior_mean(row[row > 0], float(k)) for row, k in zip(rows, symbols, strict=True)])


#: Every correction of the entropy of counts, by the name that `corrected_entropy` takes.
CORRECTIONS: dict[str, Callable[[Floats, Floats | None], Floats]] = {
    "plug-in": _plug_in,
    "miller-madow": _miller_madow,
    "grassberger": _grassberger,
    "chao-shen": _chao_shen,
    "nsb": _nsb,
}


def _posterior_mean(counts: Floats, symbols: float) -> float:
    """Compute E[H | counts] under a Dirichlet prior of parameter b, averaged over p(b | counts).

    p(b) is such that E[H | b] = psi(K b + 1) - psi(b + 1) is uniform in (0, ln K). The average is a
    sum on a grid of ln b, which is as good as any quadrature for a smooth integrand that vanishes
    at both ends. The grid narrows down to the peak, which is as narrow as K^-1/2.
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
    """Compute d E[H | b] / d ln b = K b psi'(K b + 1) - b psi'(b + 1), without its cancellations.

    The argument `total` is K b.
    """

    def h(z: Floats) -> Floats:
        """Compute z psi'(z + 1)."""
        return np.asarray(z * polygamma(1, z + 1))

    def rest(z: Floats) -> Floats:
        """Compute 1 - h(z)."""
        inverse = 1 / np.maximum(z, 1e3)
        return np.where(z > 1e3, inverse / 2 - inverse**2 / 6, 1 - h(z))

    return np.where(total < 1, h(total) - h(b), rest(b) - rest(total))


def _log_rising(a: Floats, n: float) -> Floats:
    """Compute ln Gamma(a + n) / Gamma(a) for n >= 1.

    Stirling's series is used where a is large and the two terms cancel.
    """
    large = np.maximum(a, 16.0)

    def tail(z: Floats) -> Floats:
        """Compute the tail of Stirling's series."""
        return 1 / z / 12 - (1 / z) ** 3 / 360 + (1 / z) ** 5 / 1260

    stirling = (large - 0.5) * np.log1p(n / large) + n * np.log(large + n) - n + tail(large + n) - tail(large)
    small = np.minimum(a, 16.0)
    return np.where(a > 16, stirling, gammaln(small + n) - gammaln(small))
