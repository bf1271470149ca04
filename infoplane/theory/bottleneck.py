"""The information bottleneck of a discrete law p(x, y): how much a T made of X alone can know of Y.

    I_Y(r) = max I(T;Y) over all p(t|x) with I(X;T) <= r

is concave, starts at (0, 0) with a slope of at most 1, and ends at (H(S), I(X;Y)), S the minimal sufficient statistic.
No layer lies above it, whatever the network, if both of its numbers are of the same law. All in nats.

N. Tishby, F. Pereira, W. Bialek, The information bottleneck method, 1999, https://arxiv.org/abs/physics/0004057
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

#: The iteration ends when the objective I(X;T) - beta I(T;Y) can fall by no more than this, in nats, as the multipliers
#: of the symbols there are tell (Blahut); or after so many steps, which `gap` then shows.
TOLERANCE = 1e-7
STEPS = 2000
#: Values of p(y=1|t) that are tried beyond those the cooling left, at each beta.
TRIALS = 5
#: Symbols of T whose p(y|t) agree to this are one.
SAME = 1e-7
#: Probabilities p(y|x) that agree to so many decimals are one symbol of X.
DECIMALS = 12


@dataclass(frozen=True, slots=True, eq=False)
class InformationCurve:
    """Points of an information bottleneck curve, by falling beta, from the end of the curve to (0, 0); (B,), nats.

    beta: of each point; the slope of the curve there is 1 / beta. inf and 0 for the ends, which are known.
    input_information, label_information: I(X;T) and I(T;Y).
    gap: for two labels, by how much max[I(T;Y) - I(X;T) / beta] over all T may exceed that of the point; NaN for more
        labels, where no bound is known.
    """

    beta: Floats
    input_information: Floats
    label_information: Floats
    gap: Floats

    def reached(self, rate: npt.ArrayLike) -> Floats:
        """I(T;Y) that some T of I(X;T) = `rate` does reach: chords between the points, which a T reaches by taking one
        of two symbols at random. A lower bound of the curve, flat behind its end; of the shape of `rate`."""
        order = np.lexsort((self.label_information, self.input_information))
        x, y = self.input_information[order], self.label_information[order]
        hull = [0]
        for k in range(1, len(x)):  # where an iteration stopped early, a point may lie below a chord
            while len(hull) > 1:
                i, j = hull[-2:]
                if (y[j] - y[i]) * (x[k] - x[i]) > (y[k] - y[i]) * (x[j] - x[i]):
                    break
                hull.pop()
            hull.append(k)
        return np.asarray(np.interp(np.asarray(rate, dtype=np.float64), x[hull], y[hull]))

    def bound(self, rate: npt.ArrayLike) -> Floats:
        """What no T of I(X;T) = `rate` exceeds: the least of the tangents, each raised by its gap, of I(T;Y) <= I(X;T)
        and of I(X;Y). Raises InfoplaneError for more than two labels, where the gaps are not known."""
        if np.isnan(self.gap).any():
            raise InfoplaneError("InformationCurve: no bound is known for more than two labels; see `reached`.")
        r = np.asarray(rate, dtype=np.float64)
        inner = slice(1, -1)
        x, y, beta = self.input_information[inner], self.label_information[inner], self.beta[inner]
        tangents = y + self.gap[inner] + (r[..., None] - x) / beta
        least = tangents.min(-1, initial=self.label_information[0])
        return np.asarray(np.minimum(least, r))


def information_curve(joint: npt.ArrayLike, betas: npt.ArrayLike | None = None) -> InformationCurve:
    """The information bottleneck curve of p(x, y): the iterations of Blahut and Arimoto, annealed.

        p(t|x) = p(t) exp(-beta KL[p(y|x) | p(y|t)]) / Z(x),   p(t) = sum_x p(x) p(t|x),   p(y|t) = sum_x p(y|x) p(x|t)

    Symbols of X with one p(y|x) are joined first. It starts at the largest beta with T = X and cools; symbols of T that
    have become alike are joined. (For the rule of the 12-bit task it takes a fifth of a second, for 100 symbols of X
    that all differ some 20.) The problem is not convex, so this alone may end in a local optimum. It is convex in p(t)
    once the p(y|t) are given, and for two labels p(y=1|t) is one number, all of whose values can be tried:

        max over T of [I(T;Y) - I(X;T) / beta] <= that of the point + max_t ln c(t) / beta,
        c(t) = sum_x p(x) exp(-beta KL[p(y|x) | p(y|t)]) / Z(x).

    Where that gap is not yet closed, the best value becomes a symbol of T and the iteration goes on.

    joint: (X, Y), not negative, with a sum of 1.
    betas: at least 1 each: below, (0, 0) is the optimum. Default: 150 from 1.003 to 10 001, beta - 1 in equal ratios.

    Raises InfoplaneError for other shapes and values.

    R. Blahut, Computation of channel capacity and rate-distortion functions, IEEE Trans. Inf. Theory 18 (1972), theorem
    6, for the stopping rule and the gap; P. Harremoes, N. Tishby, The information bottleneck revisited, ISIT 2007.
    """
    where = "information_curve"
    p = _joint(where, joint)
    chosen = 1 + np.geomspace(0.003, 1e4, 150) if betas is None else np.asarray(betas, dtype=np.float64)
    if chosen.ndim != 1 or not len(chosen) or not ((chosen >= 1) & np.isfinite(chosen)).all():
        raise InfoplaneError(f"{where}: betas of shape {chosen.shape}; expected (B,) finite numbers of at least 1.")
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
    """I_Y(r) of a fair bit X seen through a binary symmetric channel, in nats; of the shape of `rate`, 0 to ln 2.

        I_Y = ln 2 - h(flip * e),   h(e) = ln 2 - r,   flip * e = flip (1 - e) + (1 - flip) e

    Mrs. Gerber's lemma: H. Witsenhausen, A. Wyner, IEEE Trans. Inf. Theory 21 (1975) 493.
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
    """I(X;T) = H(T) and I(T;Y) where T is a function of X and X uniform over N inputs, exactly; each (...), nats.

        I(T;Y) = H(Y) - sum_t p(t) H(Y|T=t),   p(y|t) the mean of p(y|x) over the inputs of cell t

    cells: (..., N), whole numbers that agree for two inputs exactly where T does, such as `cell_numbers` gives.
    law: p(y=1|x) as (N,), or p(y|x) as (N, C).

    Raises InfoplaneError for other shapes, and where the law holds no probabilities.
    """
    where = "partition_information"
    t, p = np.asarray(cells), np.asarray(law, dtype=np.float64)
    if p.ndim == 1:
        p = np.stack([1 - p, p], 1)
    if t.ndim < 1 or t.dtype.kind not in "iu" or p.ndim != 2 or t.shape[-1] != len(p) or not len(p):
        raise InfoplaneError(
            f"{where}: cells of {t.dtype} and shape {t.shape}, a law of shape {p.shape}; expected whole numbers "
            "(..., N), and (N,) or (N, C)."
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
            f"{where}: a joint law of shape {p.shape} with a sum of {p.sum():.6g}; expected (X, Y), none negative, "
            "with a sum of 1."
        )
    out: Floats = p / p.sum()
    return out


def _merged(p: Floats) -> tuple[Floats, Floats]:
    """p(s), (S,), and p(y|s), (S, Y), of the minimal sufficient statistic; labels that never occur are left out."""
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
    """Iterate from (p(t), p(y|t)) at one beta: the optimum, and its point (beta, I(X;T), I(T;Y), gap)."""
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
    """KL[p(y|x) | p(y|t)], (X, T)."""
    out: Floats = -entr(of_x).sum(1)[:, None] - of_x @ np.log(np.maximum(of_t, 1e-300)).T
    return out


def _encoder(of_x: Floats, p_t: Floats, of_t: Floats, beta: float) -> tuple[Floats, Floats]:
    """p(t|x), (X, T), and ln Z(x), (X,)."""
    exponents = np.log(p_t) - beta * _divergence(of_x, of_t)
    top = exponents.max(1, keepdims=True)
    weights = np.exp(exponents - top)
    total = weights.sum(1, keepdims=True)
    return weights / total, (top + np.log(total))[:, 0]


def _iterate(p_x: Floats, of_x: Floats, p_t: Floats, of_t: Floats, beta: float) -> tuple[Floats, Floats, Floats]:
    """The iterations of Blahut and Arimoto to the end: p(t), p(y|t) and ln Z(x)."""
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
    """Without symbols of no weight, and those that are alike as one."""
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
    """The p(y=1|t) of the largest ln c(t), and ln c(t) there. of_x: (X, 2)."""
    if of_x.shape[1] == 1:
        return 1.0, 0.0

    def logc(angle: Floats) -> Floats:
        s = np.sin(angle) ** 2
        terms = np.log(p_x)[:, None] - beta * _divergence(of_x, np.stack([1 - s, s], 1)) - z[:, None]
        top = terms.max(0)
        out: Floats = top + np.log(np.exp(terms - top).sum(0))
        return out

    # p(y=1|t) = sin^2: the bumps of c(t) are then all at least 1 / (2 sqrt beta) wide
    angles = np.linspace(0, math.pi / 2, 64 + math.ceil(60 * math.sqrt(beta)))
    step = angles[1]
    values = logc(angles)
    best = angles[values.argmax()]
    for _ in range(3):
        near = np.clip(np.linspace(best - step, best + step, 41), 0, math.pi / 2)
        values = logc(near)
        best, step = near[values.argmax()], step / 20
    return float(np.sin(best) ** 2), float(values.max())
