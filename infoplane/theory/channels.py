"""Channels whose information is known in closed form or by quadrature, as truths for estimators.

All values are in nats, and all computations are in float64. X is sent, Z ~ N(0, I) is the noise,
and T = f(X) + std Z is received.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr, rel_entr, xlogy
from torch import Tensor

from ..errors import InfoplaneError

if TYPE_CHECKING:
    from jaxtyping import Float64

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

#: The distance at which Gaussians are cut off, in standard deviations; 2e-19 of the mass is beyond.
REACH = 9.0
#: The most panels of the input that are halved at a time; that is half a million function values.
MOST_PANELS = 2**14


def gaussian_input_information(function: Callable[[Floats], Floats], std: float, *, per_std: int = 8) -> float:
    """Compute I(X; f(X) + std Z) for X ~ N(0, 1).

        I = 1/2 ln(1 + v / std^2) - integral of p ln(p / q)

    Here m and v are the mean and the variance of f(X), p is the density of T, and q is the density
    of N(m, v + std^2). Neither term loses digits for a small or a large std, and the second one is
    0 if f is linear.

    Args:
        function: The function f from an array of numbers to an array of the same shape with finite
            values. It should be smooth except for a few kinks or jumps, which are found. Features
            narrower than 0.01 may be missed.
        std: The standard deviation of the noise.
        per_std: The number of grid points of T per std. The error falls exponentially with it: it
            is below 1e-7 nats for 4 and below 1e-12 nats for 8.

    Returns:
        The information in nats.

    Raises:
        InfoplaneError: If std is not positive, the function returns anything else, or its values
            extend over more than about 10^4 std.

    Example:
        >>> round(gaussian_input_information(lambda x: x, 1.0), 6)  # 1/2 ln 2
        0.346574
    """
    _check_noise("gaussian_input_information", std, per_std)
    values, weights = _gaussian_nodes(function, std)
    return _mixture_information(values, weights, std, per_std)


def discrete_input_information(
    values: npt.ArrayLike, std: float, weights: npt.ArrayLike | None = None, *, per_std: int = 8
) -> float:
    """Compute I(X; v_X + std Z) for an X with m symbols.

        I = - sum_i w_i E_Z ln sum_j w_j exp(-|v_i - v_j|^2 / 2 std^2 - Z.(v_i - v_j) / std)

    It tends to H(X) for a small std, and to 1/2 tr Cov(v) / std^2 for a large one. In one dimension
    it is computed as in `gaussian_input_information`. In more dimensions, the integral is over the
    span of the values.

    Args:
        values: The value v of each symbol, (m,) or (m, D). After the mean is subtracted, their span
            must have at most 3 dimensions.
        std: The standard deviation of the noise.
        weights: The probability of each symbol, (m,), with a sum of 1; by default 1/m.
        per_std: The number of grid points per std, as in `gaussian_input_information`. The time
            grows as m^2 (18 per_std)^dimensions: 8 values in 3 dimensions take 16 s with 8, and an
            eighth of that with 4.

    Returns:
        The information in nats.

    Raises:
        InfoplaneError: If the shape or a value of an argument is not as described, the span is too
            large, or std is not positive.

    Example:
        >>> round(discrete_input_information([-1.0, 1.0], 0.1), 6)  # almost ln 2
        0.693147
    """
    where = "discrete_input_information"
    _check_noise(where, std, per_std)
    v = np.asarray(values, dtype=np.float64)
    if v.ndim not in (1, 2) or v.size == 0 or not np.isfinite(v).all():
        raise InfoplaneError(f"{where}: got values of shape {v.shape}; expected (m,) or (m, D) finite numbers.")
    w = _weights(where, weights, len(v))
    v, w = v[w > 0].reshape((w > 0).sum(), -1), w[w > 0]
    v = v - v[0]
    _, sizes, axes = np.linalg.svd(v, full_matrices=False)
    spanned = axes[sizes > 1e-12 * sizes[0]]
    v = v @ spanned.T
    if v.shape[1] > 3:
        raise InfoplaneError(
            f"{where}: the values span {v.shape[1]} dimensions; expected at most 3. The information of independent "
            "blocks adds up, so compute each block by itself."
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
    """Compute I(T;Y) of T = V + std Z and a label Y, for m equally likely or weighted pairs (V, Y).

        I = integral of sum_y p(t, y) ln[p(t, y) / p(t) p(y)]

    It tends to I(V;Y) for a small std, and to 0 for a large one.

    Args:
        values: The values V, (m,).
        labels: The classes Y, (m,).
        std: The standard deviation of the noise.
        weights: The probability of each pair, (m,), with a sum of 1; by default 1/m.
        per_std: The number of grid points per std, as in `gaussian_input_information`.

    Returns:
        The information in nats.

    Raises:
        InfoplaneError: If the shape or a value of an argument is not as described, or std is not
            positive.

    Example:
        >>> round(label_information_1d([-1.0, 1.0], [0, 1], 0.1), 6)  # almost ln 2
        0.693147
    """
    where = "label_information_1d"
    _check_noise(where, std, per_std)
    v, y = np.asarray(values, dtype=np.float64), np.asarray(labels)
    if v.ndim != 1 or v.shape != y.shape or v.size == 0 or not np.isfinite(v).all():
        raise InfoplaneError(
            f"{where}: got values of shape {v.shape} and labels of shape {y.shape}; expected (m,) finite numbers and "
            "(m,) classes."
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
    """Compute I(X;T) for independent fair bits, each sent through noise of its own.

    Args:
        bits: The number of bits.
        std: The standard deviation of the noise.
        spacing: The distance between the two values that encode a bit.

    Returns:
        `bits` times the information of a single bit, which is at most ln 2, in nats.

    Example:
        >>> round(cube_information(12, 0.1), 6)  # almost 12 ln 2
        8.317766
    """
    return bits * discrete_input_information([-spacing / 2, spacing / 2], std)


def gaussian_pair_information(rho: float, dimension: int = 1) -> float:
    """Compute the information of independent Gaussian pairs: -dimension/2 ln(1 - rho^2).

    Args:
        rho: The correlation of each pair.
        dimension: The number of pairs.

    Returns:
        The information in nats.

    Raises:
        InfoplaneError: If rho is not between -1 and 1.

    Example:
        >>> round(gaussian_pair_information(0.5), 6)
        0.143841
    """
    if not -1 < rho < 1:
        raise InfoplaneError(f"gaussian_pair_information: rho={rho!r}; expected a number between -1 and 1.")
    return -0.5 * dimension * math.log1p(-rho * rho)


def rotated_neurons(
    function: Callable[[Floats], Floats], dimension: int, std: float, n: int, generator: torch.Generator
) -> tuple[Float64[Tensor, "N D"], Float64[Tensor, "N D"], Float64[Tensor, "N D"], float]:
    """Draw from a layer with known information: T = Q f(X) + std Z, with X ~ N(0, I_D).

    The function f acts on each unit, and Q is a random rotation. Because Q' T consists of D
    separate neurons, I(X;T) = D I(X_1; f(X_1) + std Z_1).

    Args:
        function: The function f, as in `gaussian_input_information`.
        dimension: The number D of units.
        std: The standard deviation of the noise.
        n: The number of points.
        generator: The source of Q (drawn first, uniformly over the orthogonal matrices), of X and
            of the noise.

    Returns:
        The inputs x, the codes Q f(x) without noise and the codes t, each (n, D) in float64, and
        I(X;T) in nats.

    Raises:
        InfoplaneError: As in `gaussian_input_information`.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> x, f, t, information = rotated_neurons(np.tanh, 2, 0.3, 5, torch.Generator())
        >>> t.shape, round(information, 3)
        (torch.Size([5, 2]), 1.591)
    """
    drawn = [torch.randn(k, dimension, dtype=torch.float64, generator=generator) for k in (dimension, n, n)]
    q, r = torch.linalg.qr(drawn[0])
    q = q * r.diagonal().sign()
    x = drawn[1]
    f = torch.from_numpy(function(x.numpy())) @ q.T
    return x, f, f + std * drawn[2], dimension * gaussian_input_information(function, std)


def echo_chain_gaussian(s1: float, s2: float) -> float:
    """Compute I(Z2;X) = -1/2 ln[1 - (1 - s1^2)(1 - s2^2)] of two Echo layers in a row.

    X is Gaussian, and both layers are linear with constant scales. Then corr(Z1, X)^2 = 1 - s1^2,
    and correlations multiply along the chain. The rates of the layers are I(Z1;X) = -ln s1 and
    I(Z2;Z1) = -ln s2.

    Args:
        s1: The scale of the first layer, between 0 and 1.
        s2: The scale of the second layer, between 0 and 1.

    Returns:
        The information in nats.

    Raises:
        InfoplaneError: If a scale is not between 0 and 1.

    Example:
        >>> round(echo_chain_gaussian(0.5, 0.5), 6)
        0.413339
    """
    for s in (s1, s2):
        if not 0 < s < 1:
            raise InfoplaneError(f"echo_chain_gaussian: got a scale of {s!r}; expected a number between 0 and 1.")
    # 1 - (1 - a)(1 - b) = a + b - a b, with no digits lost for small scales
    a, b = s1 * s1, s2 * s2
    return -0.5 * math.log(a + b - a * b)


def minimal_model_entropy(w: float, edges: npt.ArrayLike, inverse: Callable[[Floats], Floats]) -> float:
    """Compute the binned information of three neurons in a row: I(X; bin(f(w X))), X ~ N(0, 1).

        I = H(bin(f(w X))) = - sum_i p_i ln p_i
        p_i = Phi(f^-1(b_{i+1}) / w) - Phi(f^-1(b_i) / w)

    Args:
        w: The weight, above 0.
        edges: The edges b of the bins [b_i, b_{i+1}), ascending. They must cover all values that
            f(w x) takes.
        inverse: The inverse of an increasing f. Where f is flat, it is the smallest x with
            f(x) >= b: -inf at and below the smallest value of f, and inf above the largest. For
            ReLU, it is `lambda b: np.where(b > 0, b, -np.inf)`.

    Returns:
        The information in nats.

    Raises:
        InfoplaneError: If w or the edges are not as described, or the edges do not cover the law.

    Example:
        >>> import numpy as np
        >>> round(minimal_model_entropy(0.01, np.linspace(-1, 1, 3), np.arctanh), 6)  # two bins
        0.693147

    References:
        Saxe et al., On the information bottleneck theory of deep learning, ICLR 2018, section 2 and
        figure 2.
    """
    where = "minimal_model_entropy"
    b = np.asarray(edges, dtype=np.float64)
    if not 0 < w < math.inf or b.ndim != 1 or len(b) < 2 or not (np.diff(b) > 0).all():
        raise InfoplaneError(
            f"{where}: got w={w!r} and edges of shape {b.shape}; expected w > 0 and at least 2 edges in rising order."
        )
    with np.errstate(divide="ignore"):
        x = inverse(b) / w
    p = np.diff(ndtr(x))
    outside = float(ndtr(x[0]) + ndtr(-x[-1]))
    if not outside < 1e-9:
        raise InfoplaneError(f"{where}: {outside:.3g} of the law lies outside the edges; expected edges that cover it.")
    return float(-xlogy(p, p).sum())


def _check_noise(where: str, std: float, per_std: int) -> None:
    if not 0 < std < math.inf:
        raise InfoplaneError(f"{where}: std={std!r}; expected a finite number above 0.")
    if per_std < 1:
        raise InfoplaneError(f"{where}: per_std={per_std!r}; expected at least 1.")


def _weights(where: str, weights: npt.ArrayLike | None, m: int) -> Floats:
    w = np.full(m, 1 / m) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (m,) or not (w >= 0).all() or not abs(w.sum() - 1) < 1e-9:
        raise InfoplaneError(
            f"{where}: got weights of shape {w.shape}; expected ({m},), none negative, with a sum of 1."
        )
    total: np.float64 = w.sum()
    return w / total


def _mixture_information(values: Floats, weights: Floats, std: float, per_std: int) -> float:
    """Return I(X; v_X + std Z) in one dimension; values and weights: (m,)."""
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
    """Yield pieces of a grid t, (T,), and sum_i w_i N(t; v_i, std^2) there, (T, C).

    The grid has steps of std / per_std and covers all the mass. On such a grid the trapezoid rule
    has an error of exp(-2 pi per_std d), where d is the distance in std between the real axis and
    the nearest singularity of the logarithm. The singularities are zeros of the density: they lie
    at pi / u for two values that are u apart, and their weight is exp(-u^2 / 8).

    Args:
        values: (m,).
        weights: (m, C).
        std: The standard deviation of the noise.
        per_std: The number of grid points per std.
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
    """Return I(X; v_X + std Z) from a grid of Z in two or three dimensions around each value.

    Args:
        v: The values, (m, k).
        w: Their weights, (m,).
        std: The standard deviation of the noise.
        per_std: The number of grid points per std.
    """
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
            # log1p and expm1, because all exponents are near 0 for a large std
            exponents = -0.5 * (apart**2).sum(1) - z @ apart.T
            # the smallest possible value, the weight itself minus 1, may round to -1
            ratios = np.maximum(np.expm1(exponents) @ w, -1 + 2.0**-53)
            total -= weight * (phi @ np.log1p(ratios))
    return float(total)


def _gaussian_nodes(function: Callable[[Floats], Floats], std: float) -> tuple[Floats, Floats]:
    """Return f at nodes of x, and the weights of the nodes under N(0, 1).

    The nodes are Gauss-Legendre nodes in panels that are halved until f is resolved.
    """
    where = "gaussian_input_information"
    node, weight = np.polynomial.legendre.leggauss(16)
    low = np.arange(-17, 17) / 2.0  # 2e-17 of the mass lies beyond
    high = low + 0.5

    def sampled(low: Floats, high: Floats) -> tuple[Floats, Floats]:
        half = (high - low)[:, None] / 2
        x = low[:, None] + half * (1 + node)
        f = np.asarray(function(x))
        if f.shape != x.shape or not np.isfinite(f).all():
            raise InfoplaneError(
                f"{where}: the function returned shape {f.shape} for numbers of shape {x.shape} between "
                f"{x.min():.3g} and {x.max():.3g}; expected finite numbers of the same shape."
            )
        return f.astype(np.float64), half * weight * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)

    f, w = sampled(low, high)
    mean = (w * f).sum()
    scale = math.sqrt((w * (f - mean) ** 2).sum() + std**2)
    values, weights = [], []
    while len(low):
        if len(low) > MOST_PANELS:
            raise InfoplaneError(
                f"{where}: the values of the function extend over too many std={std!r}, or it has too many jumps; "
                "expected a larger std."
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
        done = resolved | (high - low < 1e-14)  # the panel of a jump is halved until nothing is left of it
        values.append(fine_f[done].ravel())
        weights.append(fine_w[done].ravel())
        low, middle, high = low[~done], middle[~done], high[~done]
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    w = np.concatenate(weights)
    return np.concatenate(values), w / w.sum()
