"""Channels whose information is known, by closed form or by quadrature: what estimators are held against.

All in nats and float64. X is what is sent, Z ~ N(0, I) the noise, T = f(X) + std Z what is received.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr, rel_entr, xlogy
from torch import Tensor

from ..errors import InfoplaneError

__all__ = [
    "cube_information",
    "discrete_input_information",
    "echo_chain_gaussian",
    "gaussian_input_information",
    "gaussian_pair_information",
    "label_information_1d",
    "minimal_model_entropy",
    "rotated_neurons",
]

Floats = npt.NDArray[np.float64]

#: Where the Gaussians are cut off, in standard deviations: 2e-19 of one lies beyond.
REACH = 9.0
#: Panels of the input that are halved at a time, at most: half a million values of the function.
MOST_PANELS = 2**14


def gaussian_input_information(function: Callable[[Floats], Floats], std: float, *, per_std: int = 8) -> float:
    """I(X; f(X) + std Z), X ~ N(0, 1), in nats.

    With m and v the mean and variance of f(X), p the density of T and q that of N(m, v + std^2),

        I = 1/2 ln(1 + v / std^2) - integral of p ln(p / q),

    where neither term loses digits for small or for large std. For f(x) = a x the second is 0.

    function: f, of an array of numbers to one of the same shape, finite; smooth but for a few kinks or jumps, which are
        found. Features narrower than 0.01 may be missed.
    per_std: values of T that are looked at in one std. The error falls exponentially: below 1e-12 nats for 8, 1e-7
        for 4.

    Raises InfoplaneError for std not above 0, a function with other values, and one that goes through more than some
    10^4 std.
    """
    _check_noise("gaussian_input_information", std, per_std)
    values, weights = _gaussian_nodes(function, std)
    return _mixture_information(values, weights, std, per_std)


def discrete_input_information(
    values: npt.ArrayLike, std: float, weights: npt.ArrayLike | None = None, *, per_std: int = 8
) -> float:
    """I(X; v_X + std Z), X one of m symbols, in nats: ln m or H(X) for small std, 1/2 tr Cov(v) / std^2 for large.

        I = - sum_i w_i E_Z ln sum_j w_j exp(-|v_i - v_j|^2 / 2 std^2 - Z.(v_i - v_j) / std),

    in one dimension as in `gaussian_input_information`. The integral is over the span of the values.

    values: (m,), or (m, D) whose span, their mean taken off, has at most 3 dimensions.
    weights: (m,), positive or 0, with a sum of 1. Default: 1/m.
    per_std: as in `gaussian_input_information`; time goes with m^2 (18 per_std)^dimensions, 16 s for 8 values in 3
        dimensions, of which 4 takes an eighth.

    Raises InfoplaneError for other shapes and values, a larger span, and std not above 0.
    """
    where = "discrete_input_information"
    _check_noise(where, std, per_std)
    v = np.asarray(values, dtype=np.float64)
    if v.ndim not in (1, 2) or v.size == 0 or not np.isfinite(v).all():
        raise InfoplaneError(f"{where}: values of shape {v.shape}; expected (m,) or (m, D) finite numbers.")
    w = _weights(where, weights, len(v))
    v, w = v[w > 0].reshape((w > 0).sum(), -1), w[w > 0]
    v = v - v[0]
    _, sizes, axes = np.linalg.svd(v, full_matrices=False)
    spanned = axes[sizes > 1e-12 * sizes[0]]
    v = v @ spanned.T
    if v.shape[1] > 3:
        raise InfoplaneError(
            f"{where}: the values span {v.shape[1]} dimensions; expected at most 3. Independent blocks add up: "
            "take each by itself."
        )
    if v.shape[1] == 0:
        return 0.0
    return _mixture_information(v[:, 0], w, std, per_std) if v.shape[1] == 1 else _cell_by_cell(v, w, std, per_std)


def label_information_1d(
    values: npt.ArrayLike,
    labels: npt.ArrayLike,
    std: float,
    weights: npt.ArrayLike | None = None,
    *,
    per_std: int = 8,
) -> float:
    """I(T;Y) of T = V + std Z and a label Y, for (V, Y) of m pairs, in nats: I(V;Y) for small std, 0 for large.

        I = integral of sum_y p(t, y) ln[p(t, y) / p(t) p(y)].

    values: (m,). labels: (m,) classes. weights: (m,) of the pairs, positive or 0, with a sum of 1. Default: 1/m.

    Raises InfoplaneError for other shapes and values, and for std not above 0.
    """
    where = "label_information_1d"
    _check_noise(where, std, per_std)
    v, y = np.asarray(values, dtype=np.float64), np.asarray(labels)
    if v.ndim != 1 or v.shape != y.shape or v.size == 0 or not np.isfinite(v).all():
        raise InfoplaneError(
            f"{where}: values of shape {v.shape} and labels of shape {y.shape}; expected (m,) finite numbers and (m,)."
        )
    classes, ids = np.unique(y, return_inverse=True)
    joint = np.zeros((len(v), len(classes)))
    joint[np.arange(len(v)), ids] = _weights(where, weights, len(v))
    of_class = joint.sum(0)
    total = 0.0
    for _, density in _densities(v, joint, std, per_std):
        total += rel_entr(density, density.sum(1, keepdims=True) * of_class).sum()
    return float(total * std / per_std)


def cube_information(bits: int, std: float, *, spacing: float = 2.0) -> float:
    """I(X;T) for `bits` independent fair bits, each sent as -spacing/2 or spacing/2 with noise of its own, in nats.

    bits times that of one, which is at most ln 2.
    """
    return bits * discrete_input_information([-spacing / 2, spacing / 2], std)


def gaussian_pair_information(rho: float, dimension: int = 1) -> float:
    """-dimension/2 ln(1 - rho^2): of `dimension` independent Gaussian pairs of correlation rho, in nats."""
    if not -1 < rho < 1:
        raise InfoplaneError(f"gaussian_pair_information: rho={rho!r}; expected a number between -1 and 1.")
    return -0.5 * dimension * math.log1p(-rho * rho)


def rotated_neurons(
    function: Callable[[Floats], Floats], dimension: int, std: float, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, float]:
    """A layer that knows its information: T = Q f(X) + std Z, X ~ N(0, I_D), f unit by unit, Q a random rotation.

    I(X;T) = D I(X_1; f(X_1) + std Z_1), for Q' T is D neurons side by side. Returns x, Q f(x) and t, each (n, D)
    float64, and that information in nats. Q is uniform over the orthogonal matrices, drawn first.
    """
    drawn = [torch.randn(k, dimension, dtype=torch.float64, generator=generator) for k in (dimension, n, n)]
    q, r = torch.linalg.qr(drawn[0])
    q = q * r.diagonal().sign()
    x = drawn[1]
    f = torch.from_numpy(function(x.numpy())) @ q.T
    return x, f, f + std * drawn[2], dimension * gaussian_input_information(function, std)


def echo_chain_gaussian(s1: float, s2: float) -> float:
    """I(Z2;X) = -1/2 ln[1 - (1 - s1^2)(1 - s2^2)] of two Echo layers in a row, in nats.

    X Gaussian, both layers linear with constant scales 0 < s1, s2 < 1: corr(Z1, X)^2 = 1 - s1^2, and correlations
    multiply along the chain. Its rates are -ln s1, which is I(Z1;X), and -ln s2, which is I(Z2;Z1).
    """
    for s in (s1, s2):
        if not 0 < s < 1:
            raise InfoplaneError(f"echo_chain_gaussian: a scale of {s!r}; expected a number between 0 and 1.")
    # 1 - (1 - a)(1 - b) = a + b - a b, with no digits lost for small scales
    a, b = s1 * s1, s2 * s2
    return -0.5 * math.log(a + b - a * b)


def minimal_model_entropy(w: float, edges: npt.ArrayLike, inverse: Callable[[Floats], Floats]) -> float:
    """I(X; bin(f(w X))) = H(bin(f(w X))), X ~ N(0, 1), in nats: three neurons in a row, the last one binned.

        p_i = Phi(f^-1(b_{i+1}) / w) - Phi(f^-1(b_i) / w),    bins [b_i, b_{i+1}).

    w: above 0. edges: b, ascending, from the bottom to the top of all that f(w x) takes.
    inverse: f^-1 of an increasing f; where f is flat, the least x with f(x) >= b: -inf at and below its bottom, inf
        above its top. ReLU: `lambda b: np.where(b > 0, b, -np.inf)`.

    Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018, section 2 and figure 2.
    """
    where = "minimal_model_entropy"
    b = np.asarray(edges, dtype=np.float64)
    if not 0 < w < math.inf or b.ndim != 1 or len(b) < 2 or not (np.diff(b) > 0).all():
        raise InfoplaneError(
            f"{where}: w={w!r}, edges of shape {b.shape}; expected w > 0 and at least 2 edges, rising."
        )
    with np.errstate(divide="ignore"):
        x = inverse(b) / w
    p = np.diff(ndtr(x))
    outside = float(ndtr(x[0]) + ndtr(-x[-1]))
    if not outside < 1e-9:
        raise InfoplaneError(f"{where}: {outside:.3g} of the law lies outside the edges; expected none: wider edges.")
    return float(-xlogy(p, p).sum())


def _check_noise(where: str, std: float, per_std: int) -> None:
    if not 0 < std < math.inf:
        raise InfoplaneError(f"{where}: std={std!r}; expected a finite number above 0.")
    if per_std < 1:
        raise InfoplaneError(f"{where}: per_std={per_std!r}; expected at least 1.")


def _weights(where: str, weights: npt.ArrayLike | None, m: int) -> Floats:
    w = np.full(m, 1 / m) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (m,) or not (w >= 0).all() or not abs(w.sum() - 1) < 1e-9:
        raise InfoplaneError(f"{where}: weights of shape {w.shape}; expected ({m},), none negative, with a sum of 1.")
    total: np.float64 = w.sum()
    return w / total


def _mixture_information(values: Floats, weights: Floats, std: float, per_std: int) -> float:
    """I(X; v_X + std Z) in one dimension. values, weights: (m,)."""
    centred = values - weights @ values
    variance = weights @ centred**2
    noise = std * std
    whole = variance + noise
    total = 0.0
    for t, density in _densities(centred, weights[:, None], std, per_std):
        p = density[:, 0]
        ln_q = -0.5 * (t * t / whole + math.log(2 * math.pi * whole))
        total += (xlogy(p, p) - p * ln_q).sum()
    return float(0.5 * math.log1p(variance / noise) - total * std / per_std)


def _densities(values: Floats, weights: Floats, std: float, per_std: int) -> Iterator[tuple[Floats, Floats]]:
    """Pieces of t (T,), and sum_i w_i N(t; v_i, std^2) there (T, C), over a grid of std / per_std wherever any is.

    The trapezoid rule on such a grid errs by exp(-2 pi per_std d), d the distance in std of the nearest singularity of
    the logarithm from the real axis: zeros of the density, pi / u for two values u apart, weighed with exp(-u^2 / 8).
    values: (m,), weights: (m, C).
    """
    order = np.argsort(values)
    v, w = values[order], weights[order]
    step = std / per_std
    ends = np.flatnonzero(np.diff(v, append=math.inf) > 2 * REACH * std + step)
    starts = np.concatenate([[0], ends[:-1] + 1])
    for low, high in zip(v[starts], v[ends], strict=True):
        points = math.ceil((high - low + 2 * REACH * std) / step) + 1
        for first in range(0, points, 256):
            t = low - REACH * std + step * np.arange(first, min(first + 256, points))
            near = slice(*np.searchsorted(v, [t[0] - 10 * std, t[-1] + 10 * std]))
            kernel = np.exp(-0.5 * ((t[:, None] - v[near]) / std) ** 2)
            yield t, kernel @ w[near] / (math.sqrt(2 * math.pi) * std)


def _cell_by_cell(v: Floats, w: Floats, std: float, per_std: int) -> float:
    """I(X; v_X + std Z) by a grid in Z of two or three dimensions about each value. v: (m, k), w: (m,)."""
    side = np.arange(-math.ceil(REACH * per_std), math.ceil(REACH * per_std) + 1) / per_std
    plane = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    slices = [plane] if v.shape[1] == 2 else [np.column_stack([np.full(len(plane), s), plane]) for s in side]
    total = 0.0
    for z in slices:
        z = z[(z**2).sum(1) < REACH**2]
        if not len(z):
            continue
        phi = np.exp(-0.5 * (z**2).sum(1)) * (2 * math.pi) ** (-v.shape[1] / 2) / per_std ** v.shape[1]
        for value, weight in zip(v, w, strict=True):
            apart = (value - v) / std
            # log1p and expm1: for large std all exponents are near 0
            exponents = -0.5 * (apart**2).sum(1) - z @ apart.T
            # no less than the weight itself - 1, which may round to -1
            ratios = np.maximum(np.expm1(exponents) @ w, -1 + 2.0**-53)
            total -= weight * (phi @ np.log1p(ratios))
    return float(total)


def _gaussian_nodes(function: Callable[[Floats], Floats], std: float) -> tuple[Floats, Floats]:
    """f at nodes of x, and their weights under N(0, 1): Gauss-Legendre in panels halved until f is resolved."""
    where = "gaussian_input_information"
    node, weight = np.polynomial.legendre.leggauss(16)
    low = np.arange(-17, 17) / 2.0  # 2e-17 lies beyond
    high = low + 0.5

    def sampled(low: Floats, high: Floats) -> tuple[Floats, Floats]:
        half = (high - low)[:, None] / 2
        x = low[:, None] + half * (1 + node)
        f = np.asarray(function(x))
        if f.shape != x.shape or not np.isfinite(f).all():
            raise InfoplaneError(
                f"{where}: the function gave {f.shape} for {x.shape} numbers between {x.min():.3g} and {x.max():.3g}; "
                "expected as many finite numbers."
            )
        return f.astype(np.float64), half * weight * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)

    f, w = sampled(low, high)
    mean = (w * f).sum()
    scale = math.sqrt((w * (f - mean) ** 2).sum() + std**2)
    values, weights = [], []
    while len(low):
        if len(low) > MOST_PANELS:
            raise InfoplaneError(
                f"{where}: the function goes through too many std={std!r} or has too many jumps; expected a larger std."
            )
        middle = (low + high) / 2
        f, w = sampled(low, high)
        fine_f, fine_w = (
            np.concatenate(two, 1) for two in zip(sampled(low, middle), sampled(middle, high), strict=True)
        )  # fmt: skip
        off = [
            (w * ((f - mean) / scale) ** k).sum(1) - (fine_w * ((fine_f - mean) / scale) ** k).sum(1) for k in (1, 2)
        ]
        resolved = (np.abs(off) < 1e-15).all(0) & (np.ptp(fine_f, axis=1) <= 2 * std)
        done = resolved | (high - low < 1e-14)  # a jump is closed in on until nothing is left of its panel
        values.append(fine_f[done].ravel())
        weights.append(fine_w[done].ravel())
        low, middle, high = low[~done], middle[~done], high[~done]
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    w = np.concatenate(weights)
    return np.concatenate(values), w / w.sum()
