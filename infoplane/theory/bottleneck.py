"""The information bottleneck of a discrete law p(x, y): the most that a code of X can know about Y.

    I_Y(r) = max I(T;Y) over all p(t|x) with I(X;T) <= r

This curve is concave. It starts at (0, 0) with a slope of at most 1 and ends at (H(S), I(X;Y)),
where S is the minimal sufficient statistic. No layer of any network lies above it, provided that
both numbers of the layer are about the same law. All values are in nats.

References:
    Tishby, Pereira & Bialek, The information bottleneck method, 1999,
    https://arxiv.org/abs/physics/0004057
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from ..errors import InfoplaneError

__all__ = ["InformationCurve", "binary_symmetric_curve", "information_curve", "partition_information"]

Floats = npt.NDArray[np.float64]

#: The iteration ends when the objective I(X;T) - beta I(T;Y) can fall by at most this (nats) with
#: the symbols that T has. The multipliers of the symbols tell how far it can fall (Blahut).
TOLERANCE = 1e-7
#: The iteration also ends after this many steps; `InformationCurve.gap` shows if this was early.
STEPS = 2000
#: The number of new values of p(y=1|t) that are tried at each beta.
TRIALS = 5
#: Symbols of T whose p(y|t) differ by no more than this are joined.
SAME = 1e-7
#: Symbols of X whose p(y|x) agree to this many decimals are joined.
DECIMALS = 12


@dataclass(frozen=True, slots=True, eq=False)
class InformationCurve:
    """Points of an information bottleneck curve, from its end at large beta down to (0, 0).

    Args:
        beta: The trade-off of each point, (B,), falling; the slope of the curve there is 1 / beta.
            The two ends, which are known exactly, have inf and 0.
        input_information: I(X;T) of each point, (B,), in nats.
        label_information: I(T;Y) of each point, (B,), in nats.
        gap: How far max[I(T;Y) - I(X;T) / beta] over all T may exceed the value of the point, (B,),
            in nats. It is NaN if there are more than two labels, because no bound is known then.

    Example:
        >>> import numpy as np
        >>> import infoplane as ip
        >>> joint = np.array([[0.5, 0.0], [0.0, 0.5]])
        >>> curve = ip.theory.information_curve(joint)
        >>> isinstance(curve, ip.theory.InformationCurve)
        True
        >>> curve.reached([0.0, 0.5, 1.0]).round(3).tolist()
        [0.0, 0.5, 0.693]
        >>> curve.bound([0.0, 0.5, 1.0]).round(3).tolist()
        [0.0, 0.5, 0.693]
    """

    beta: Floats
    input_information: Floats
    label_information: Floats
    gap: Floats

    def reached(self, rate: npt.ArrayLike) -> Floats:
        """Return an I(T;Y) that some T with I(X;T) = `rate` reaches: a lower bound on the curve.

        It follows the chords between the points. A T on a chord uses the code of one of the two
        points, chosen at random. Beyond the end of the curve, the bound is flat.

        Args:
            rate: I(X;T), (...), in nats.

        Returns:
            The lower bound, (...), in nats.
        """
        order = np.lexsort((self.label_information, self.input_information))
        x, y = self.input_information[order], self.label_information[order]
        hull = [0]
        for k in range(1, len(x)):  # a point may lie below a chord if its iteration stopped early
            while len(hull) > 1:
                i, j = hull[-2:]
                if (y[j] - y[i]) * (x[k] - x[i]) > (y[k] - y[i]) * (x[j] - x[i]):
                    break
                hull.pop()
            hull.append(k)
        return np.asarray(np.interp(np.asarray(rate, dtype=np.float64), x[hull], y[hull]))

    def bound(self, rate: npt.ArrayLike) -> Floats:
        """Return an I(T;Y) that no T with I(X;T) = `rate` exceeds: an upper bound on the curve.

        It is the smallest of three bounds: the tangents, each raised by its gap; the rate itself;
        and I(X;Y).

        Args:
            rate: I(X;T), (...), in nats.

        Returns:
            The upper bound, (...), in nats.

        Raises:
            InfoplaneError: If there are more than two labels, because their gaps are not known.
        """
        if np.isnan(self.gap).any():
            raise InfoplaneError("InformationCurve: no bound is known for more than two labels; see `reached`.")
        r = np.asarray(rate, dtype=np.float64)
        inner = slice(1, -1)
        x, y, beta = self.input_information[inner], self.label_information[inner], self.beta[inner]
        tangents = y + self.gap[inner] + (r[..., None] - x) / beta
        least = tangents.min(-1, initial=self.label_information[0])
        return np.asarray(np.minimum(least, r))


def information_curve(joint: npt.ArrayLike, betas: npt.ArrayLike | None = None) -> InformationCurve:
    """Compute the information bottleneck curve of p(x, y) with annealed Blahut-Arimoto iterations.

        p(t|x) = p(t) exp(-beta KL[p(y|x) | p(y|t)]) / Z(x)
        p(t) = sum_x p(x) p(t|x)
        p(y|t) = sum_x p(y|x) p(x|t)

    Symbols of X with the same p(y|x) are joined first. The iteration starts at the largest beta
    with T = X and then cools; symbols of T that become alike are joined on the way. The rule of the
    12-bit task takes a fifth of a second, and 100 symbols of X that are all different take about
    20 seconds.

    The problem is not convex, so the iteration alone may end in a local optimum. However, it is
    convex in p(t) for given p(y|t), and with two labels p(y|t) is a single number, p(y=1|t), whose
    values can all be tried:

        max over T of [I(T;Y) - I(X;T) / beta] <= (the value of the point) + max_t ln c(t) / beta
        c(t) = sum_x p(x) exp(-beta KL[p(y|x) | p(y|t)]) / Z(x)

    As long as that gap is not closed, the best value becomes a new symbol of T and the iteration
    continues.

    Args:
        joint: The law p(x, y), (X, Y): no value is negative, and their sum is 1.
        betas: The trade-offs, (B,), each at least 1, because (0, 0) is the optimum below 1. By
            default 150 values from 1.003 to 10 001, with beta - 1 in equal ratios.

    Returns:
        The points of the curve.

    Raises:
        InfoplaneError: If the shape or a value of an argument is not as described.

    Example:
        >>> import infoplane as ip
        >>> curve = ip.theory.information_curve([[0.4, 0.1], [0.1, 0.4]])
        >>> round(float(curve.label_information[0]), 4)
        0.1927
        >>> bool(curve.gap.max() < 1e-6)
        True

    References:
        Blahut, Computation of channel capacity and rate-distortion functions, IEEE Transactions on
        Information Theory 18, 1972, theorem 6, for the stopping rule and the gap.

        Harremoës & Tishby, The information bottleneck revisited, ISIT 2007.
    """
    where = "information_curve"
    p = _joint(where, joint)
    chosen = 1 + np.geomspace(0.003, 1e4, 150) if betas is None else np.asarray(betas, dtype=np.float64)
    if chosen.ndim != 1 or not len(chosen) or not ((chosen >= 1) & np.isfinite(chosen)).all():
        raise InfoplaneError(f"{where}: got betas of shape {chosen.shape}; expected (B,) finite numbers of at least 1.")
    p_x, of_x = _merged(p)
    p_y = p_x @ of_x
    whole = float(entr(p_y).sum() - p_x @ entr(of_x).sum(1))
    p_t, of_t = p_x, of_x
    rows = [(math.inf, float(entr(p_x).sum()), whole, 0.0)]
    for beta in np.unique(chosen)[::-1].tolist():
        p_t, of_t, row = _settle(p_x, of_x, p_t, of_t, beta)
        rows.append(row)
    rows.append((0.0, 0.0, 0.0, 0.0 if of_x.shape[1] <= 2 else math.nan))
    return InformationCurve(*np.array(rows).T)


def binary_symmetric_curve(flip: float, rate: npt.ArrayLike) -> Floats:
    """Compute the information bottleneck curve of a fair bit behind a binary symmetric channel.

        I_Y = ln 2 - h(flip * e)
        h(e) = ln 2 - r
        flip * e = flip (1 - e) + (1 - flip) e

    Here h is the binary entropy, and r is I(X;T).

    Args:
        flip: The probability that the channel flips the bit.
        rate: I(X;T), (...), from 0 to ln 2, in nats.

    Returns:
        The largest I(T;Y) at each rate, (...), in nats.

    Example:
        >>> import math
        >>> binary_symmetric_curve(0.1, [0.0, math.log(2)]).round(4).tolist()
        [0.0, 0.3681]

    References:
        Witsenhausen & Wyner, A conditional entropy bound for a pair of discrete random variables,
        IEEE Transactions on Information Theory 21, 1975 (a form of Mrs. Gerber's lemma).
    """
    r = np.asarray(rate, dtype=np.float64)
    low, high = np.zeros_like(r), np.full_like(r, 0.5)
    for _ in range(60):  # h rises from 0 to 1/2
        e = (low + high) / 2
        below = entr(e) + entr(1 - e) < math.log(2) - r
        low, high = np.where(below, e, low), np.where(below, high, e)
    through = flip * (1 - low) + (1 - flip) * low
    return np.asarray(math.log(2) - entr(through) - entr(1 - through))


def partition_information(cells: npt.ArrayLike, law: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Compute I(X;T) and I(T;Y) exactly for a T that is a function of a uniform X with N values.

        I(X;T) = H(T)
        I(T;Y) = H(Y) - sum_t p(t) H(Y|T=t)

    Here p(y|t) is the mean of p(y|x) over the inputs of cell t.

    Args:
        cells: The cell of each input, (..., N): integers that agree for two inputs exactly if T
            does. `estimators.cell_numbers` returns such integers.
        law: p(y=1|x), (N,), or p(y|x), (N, C).

    Returns:
        I(X;T) and I(T;Y), each (...), in nats.

    Raises:
        InfoplaneError: If the shapes do not match, or the law does not hold probabilities.

    Example:
        >>> import infoplane as ip
        >>> i_x, i_y = ip.theory.partition_information([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0])
        >>> round(float(i_x), 3), round(float(i_y), 3)
        (0.693, 0.693)
    """
    where = "partition_information"
    t, p = np.asarray(cells), np.asarray(law, dtype=np.float64)
    if p.ndim == 1:
        p = np.stack([1 - p, p], 1)
    if t.ndim < 1 or t.dtype.kind not in "iu" or p.ndim != 2 or t.shape[-1] != len(p) or not len(p):
        raise InfoplaneError(
            f"{where}: got cells of {t.dtype} and shape {t.shape}, and a law of shape {p.shape}; expected whole "
            "numbers of shape (..., N), and a law of shape (N,) or (N, C)."
        )
    if not (p >= 0).all() or not np.allclose(p.sum(1), 1):
        raise InfoplaneError(f"{where}: the law has values from {p.min():.3g} to {p.max():.3g}; expected p(y|x).")
    h_y = entr(p.mean(0)).sum()
    out = []
    for row in t.reshape(-1, len(p)):
        _, ids, counts = np.unique(row, return_inverse=True, return_counts=True)
        of_t = np.stack([np.bincount(ids, weights=column) for column in p.T], 1) / counts[:, None]
        share = counts / len(p)
        out.append((entr(share).sum(), h_y - share @ entr(of_t).sum(1)))
    both = np.array(out).T.reshape(2, *t.shape[:-1])
    return both[0], both[1]


def _joint(where: str, joint: npt.ArrayLike) -> Floats:
    p = np.asarray(joint, dtype=np.float64)
    if p.ndim != 2 or p.size == 0 or not np.isfinite(p).all() or not (p >= 0).all() or abs(p.sum() - 1) > 1e-9:
        raise InfoplaneError(
            f"{where}: got a joint law of shape {p.shape} with a sum of {p.sum():.6g}; expected shape (X, Y), no "
            "negative value, and a sum of 1."
        )
    out: Floats = p / p.sum()
    return out


def _merged(p: Floats) -> tuple[Floats, Floats]:
    """Return p(s), (S,), and p(y|s), (S, Y), of the minimal sufficient statistic.

    Labels that never occur are left out.
    """
    p = p[p.sum(1) > 0][:, p.sum(0) > 0]
    p_x = p.sum(1)
    of_x = p / p_x[:, None]
    _, ids = np.unique(of_x.round(DECIMALS), axis=0, return_inverse=True)
    ids = ids.reshape(-1)
    joined = np.stack([np.bincount(ids, weights=column) for column in p.T], 1)
    share = joined.sum(1)
    return share, joined / share[:, None]


def _settle(
    p_x: Floats, of_x: Floats, p_t: Floats, of_t: Floats, beta: float
) -> tuple[Floats, Floats, tuple[float, float, float, float]]:
    """Iterate from (p(t), p(y|t)) at one beta.

    Returns:
        p(t) and p(y|t) at the optimum, and its point (beta, I(X;T), I(T;Y), gap).
    """
    gap = math.nan
    for trial in range(TRIALS + 1):
        p_t, of_t, z = _iterate(p_x, of_x, p_t, of_t, beta)
        if of_x.shape[1] > 2:
            break
        best, excess = _best_symbol(p_x, of_x, z, beta)
        gap = max(excess, 0.0) / beta
        if excess <= 10 * TOLERANCE or trial == TRIALS:
            break
        p_t = np.append(0.999 * p_t, 0.001)
        of_t = np.vstack([of_t, [1 - best, best]])
    given_x, _ = _encoder(of_x, p_t, of_t, beta)
    p_xt = p_x[:, None] * given_x
    p_t = p_xt.sum(0)
    of_t = (p_xt.T @ of_x) / p_t[:, None]
    p_y = p_x @ of_x
    i_x = float(entr(p_t).sum() - p_x @ entr(given_x).sum(1))
    i_y = float(entr(p_y).sum() - p_t @ entr(of_t).sum(1))
    return p_t, of_t, (beta, max(i_x, 0.0), max(i_y, 0.0), gap)


def _divergence(of_x: Floats, of_t: Floats) -> Floats:
    """Return KL[p(y|x) | p(y|t)], (X, T)."""
    out: Floats = -entr(of_x).sum(1)[:, None] - of_x @ np.log(np.maximum(of_t, 1e-300)).T
    return out


def _encoder(of_x: Floats, p_t: Floats, of_t: Floats, beta: float) -> tuple[Floats, Floats]:
    """Return p(t|x), (X, T), and ln Z(x), (X,)."""
    exponents = np.log(p_t) - beta * _divergence(of_x, of_t)
    top = exponents.max(1, keepdims=True)
    weights = np.exp(exponents - top)
    total = weights.sum(1, keepdims=True)
    return weights / total, (top + np.log(total))[:, 0]


def _iterate(p_x: Floats, of_x: Floats, p_t: Floats, of_t: Floats, beta: float) -> tuple[Floats, Floats, Floats]:
    """Iterate until convergence; return p(t), p(y|t) and ln Z(x)."""
    for step in range(STEPS):
        given_x, _ = _encoder(of_x, p_t, of_t, beta)
        p_xt = p_x[:, None] * given_x
        new_t = p_xt.sum(0)
        moved = (p_xt.T @ of_x) / np.maximum(new_t, 1e-300)[:, None]
        multipliers = np.log(new_t / p_t)
        shift = float(new_t @ np.abs(moved - of_t).max(1))
        done = multipliers.max() < TOLERANCE and beta * shift**2 < TOLERANCE
        p_t, of_t = new_t, moved
        if step % 20 == 0 or done:
            p_t, of_t = _joined(p_t, of_t)
        if done:
            break
    return p_t, of_t, _encoder(of_x, p_t, of_t, beta)[1]


def _joined(p_t: Floats, of_t: Floats) -> tuple[Floats, Floats]:
    """Drop the symbols of T without weight, and join those that are alike."""
    keep = p_t > 1e-14
    p_t, of_t = p_t[keep] / p_t[keep].sum(), of_t[keep]
    order = np.lexsort(of_t.T)
    p_t, of_t = p_t[order], of_t[order]
    new = np.concatenate([[True], np.abs(np.diff(of_t, axis=0)).max(1) > SAME])
    ids = np.cumsum(new) - 1
    if ids[-1] + 1 == len(p_t):
        return p_t, of_t
    share = np.asarray(np.bincount(ids, weights=p_t), dtype=np.float64)
    mean = np.stack([np.bincount(ids, weights=p_t * column) for column in of_t.T], 1) / share[:, None]
    return share, mean


def _best_symbol(p_x: Floats, of_x: Floats, z: Floats, beta: float) -> tuple[float, float]:
    """Return the p(y=1|t) with the largest ln c(t), and that ln c(t); of_x: (X, 2)."""
    if of_x.shape[1] == 1:
        return 1.0, 0.0

    def logc(angle: Floats) -> Floats:
        s = np.sin(angle) ** 2
        terms = np.log(p_x)[:, None] - beta * _divergence(of_x, np.stack([1 - s, s], 1)) - z[:, None]
        top = terms.max(0)
        out: Floats = top + np.log(np.exp(terms - top).sum(0))
        return out

    # with p(y=1|t) = sin^2(angle), all bumps of c(t) are at least 1 / (2 sqrt(beta)) wide
    angles = np.linspace(0, math.pi / 2, 64 + math.ceil(60 * math.sqrt(beta)))
    step = angles[1]
    values = logc(angles)
    best = angles[values.argmax()]
    for _ in range(3):
        near = np.clip(np.linspace(best - step, best + step, 41), 0, math.pi / 2)
        values = logc(near)
        best, step = near[values.argmax()], step / 20
    return float(np.sin(best) ** 2), float(values.max())
