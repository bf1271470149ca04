"""Kolchinsky and Tracey's bounds on the information of a layer seen through Gaussian noise."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..extras import COMPILED
from ..records import Estimate, InfoplaneError, Standing
from .inputs import Classes, ends_of, only_replica, read_labels, read_points
from .pairs import check_noise, noise_label, noise_params, noise_variances
from .protocol import About, Reading

__all__ = ["KDE", "KDEBounds", "kde_bounds"]

#: 0 for one class or 1 for two; rows i0 to i1, columns j0 to j1
Block = tuple[int, int, int, int, int]

#: Two points further apart than this, in units of 2 s, need no exponential: they add less than N exp(-26) = N 5e-12 to
#: a sum of at least 1.
REACH = math.sqrt(2 * 26.0)
#: Exponents of the wide kernel end here: the narrow one, its fourth power, is exp(-87), and below that float32 is
#: denormal and four times as slow. What that adds is taken off the sums.
FLOOR = -21.75
#: From this many coordinates on float32 is tried first; what its error may change a sum by, in the mean over points.
MANY = 48
ROUNDING = 5e-6
#: Exponents with larger errors in float32 are not looked at: sums that are all error cannot be judged by themselves.
MOST_ERROR = 0.1
#: With larger ones in float64, coordinates are subtracted instead of multiplied.
DOUBLE_ERROR = 1e-8
#: Points whose sums are made again in float64, to see what float32 did to them.
CHECKED = 16
#: With more classes than this, columns of other classes are not searched for those within reach.
SEARCHED_CLASSES = 16
#: Numbers made float64 at a time: their copies stay in the cache.
PIECE = 2**20
#: The compiled loops are for classes of at least so many points, in the mean.
SMALLEST_CLASS = 32


@dataclass(frozen=True, slots=True, eq=False)
class KDEBounds:
    """Bounds in nats: float64 tensors of shape (), or (R,) for R replicas.

    upper, lower: on I(X;T), X uniform over the N points.
    label_upper, label_lower: on I(T;Y), cut with [0, H(Y)]; None without labels.
    label_difference: upper - sum_y p(y) upper_y, what is published as I(T;Y), which is no bound; None without labels.
    label_entropy: H(Y); None without labels.
    self_weight: the mean of 1 / sum_j exp(-|t_i - t_j|^2 / 2 s2), the weight a point has in its own kernel sum.
    """

    upper: Tensor
    lower: Tensor
    label_upper: Tensor | None
    label_lower: Tensor | None
    label_difference: Tensor | None
    label_entropy: Tensor | None
    self_weight: Tensor


def kde_bounds(
    t: Tensor, noise_variance: float | Tensor, labels: Tensor | None = None, *, chunk: int | None = None
) -> KDEBounds:
    """Bounds on I(X;T) and I(T;Y) for T = t_X + N(0, s2 I), X uniform over the N points; nats.

        upper = -mean_i ln mean_j exp(-|t_i - t_j|^2 / 2 s2),    lower: the same with 8 s2 for 2 s2,

    j = i included. They bound the entropy of a mixture of N Gaussians, those of the points of class y bound H(T|Y=y),
    and I(T;Y) lies in [lower - sum_y p(y) upper_y, upper - sum_y p(y) lower_y]. (What is often plotted, upper minus
    the upper_y, is no lower bound.) About a population that the points are a sample of they say nothing.

    t: (N, D), or (R, N, D) for R replicas; real and finite.
    noise_variance: s2, a number or a tensor (R,).
    labels: (N,) or (R, N), classes as integers.
    chunk: rows worked on at a time; memory is about 128 chunk^2 bytes. Default: 192 to 1024, on a GPU 2048. Where it is
        not given, the points are on the CPU and there are fewer than 48 coordinates, loops compiled by numba do the
        work, if numba is installed (`pip install 'infoplane[fast]'`), in N-linear memory.

    Raises InfoplaneError for other shapes or types, values that are not finite, and s2 not above 0.

    Kolchinsky & Tracey, Estimating mixture entropy with pairwise distances, Entropy 19 (2017), equations 10 and 13;
    Kolchinsky, Tracey & Wolpert, Nonlinear information bottleneck, Entropy 21 (2019).
    """
    where = "kde_bounds"
    points = read_points(where, t)
    classes = None if labels is None else read_labels(where, labels, points)
    bounds = _bounds(where, points, noise_variance, classes, chunk)
    return bounds if t.ndim == 3 else only_replica(bounds)


@dataclass(frozen=True)
class KDE:
    """`kde_bounds` for the Recorder.

    noise_variance: s2; 1e-3 is Saxe et al.'s for the 12-bit task, 0.1 theirs for MNIST.
    scale: 'absolute', or 'layer': s2 is noise_variance times the mean square of the layer's centred values, for each
        replica at each snapshot.
    published: beside the brackets, as an estimator of its own, `kde-upper`, the information plane as Saxe et al. and
        others after them draw it: the upper bound on I(X;T), and for I(T;Y) the difference of upper bounds, no bound.
    """

    noise_variance: float = 1e-3
    scale: Literal["absolute", "layer"] = "absolute"
    published: bool = False

    name = "kde"
    deferred = False
    about = About(
        quantity="I(X;T), I(T;Y)",
        standing="upper and lower, for these N points through Gaussian noise",
        conditions="noise_variance near the squared distance of neighbours: below it both bounds read ln N, "
        "so scale it with the layer (scale=layer) where D is large; no bound for a population; published=true adds "
        "kde-upper, the plane as it is published",
        cost="N^2 D",
        source="Kolchinsky & Tracey, Entropy 19 (2017) 361",
    )

    def __post_init__(self) -> None:
        check_noise("KDE", self.noise_variance, self.scale)

    @property
    def channel(self) -> str:
        return noise_label(self.noise_variance, self.scale)

    @property
    def params(self) -> str:
        return noise_params(self.noise_variance, self.scale)

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Upper and lower bounds on I(X;T) and, with labels, on I(T;Y) of each replica; nats. And those of `published`.

        Downstream of noise, I(X;T) is of the mean path, and I(T;Y) is bounded for the mixture about one noisy draw a
        point only, so what bounds it is an estimate for the layer.
        """
        where = f"KDE, layer {reading.layer!r}"
        codes = read_points(where, reading.codes)
        classes = None if labels is None else read_labels(where, labels, codes)
        rows: list[list[Estimate]] = [[] for _ in codes]
        n = codes.shape[1]

        def add(quantity: str, bounds: KDEBounds, pair: tuple[Tensor, Tensor], ceiling: Tensor, path: str) -> None:
            sampled = path == "sampled-codes"
            for r, row in enumerate(rows):
                common = Estimate(
                    quantity=quantity,
                    value=math.nan,
                    standing="estimate",
                    channel=("noise-off, " if path == "noise-off" else "") + self.channel,
                    estimator=self.name,
                    params=self.params,
                    n=n,
                    ceiling=float(ceiling[r]),
                    warnings=(*_warnings(bounds, r, n), *([path] if path else [])),
                )
                for side, value in zip(_SIDES, pair, strict=True):
                    params = self.params + (f",bound={side}" if sampled else "")
                    standing = "estimate" if sampled else side
                    row.append(replace(common, value=float(value[r]), standing=standing, params=params))
                if not self.published:
                    continue
                common = replace(common, estimator="kde-upper")
                if quantity == "I(X;T)":
                    row.append(replace(common, value=float(pair[0][r]), standing="upper"))
                elif bounds.label_difference is not None:
                    warnings = (*common.warnings, "not-a-bound")
                    row.append(replace(common, value=float(bounds.label_difference[r]), warnings=warnings))

        log_n = torch.full((len(codes),), math.log(n), dtype=torch.float64)
        if reading.clean is None:
            bounds = self._of(where, codes, classes)
            add("I(X;T)", bounds, (bounds.upper, bounds.lower), log_n, "")
        else:
            bounds = self._of(where, read_points(where, reading.clean), None)
            add("I(X;T)", bounds, (bounds.upper, bounds.lower), log_n, "noise-off")
        if classes is not None:
            if reading.noisy:
                bounds = self._of(where, codes, classes)
            assert bounds.label_upper is not None
            assert bounds.label_lower is not None
            assert bounds.label_entropy is not None
            pair = bounds.label_upper, bounds.label_lower
            add("I(T;Y)", bounds, pair, bounds.label_entropy, "sampled-codes" if reading.noisy else "")
        return rows

    def _of(self, where: str, points: Tensor, classes: Classes | None) -> KDEBounds:
        variance = noise_variances(points, self.noise_variance, self.scale)
        return _bounds(where, points, variance, classes, None)


_SIDES: tuple[Standing, Standing] = ("upper", "lower")


def _warnings(bounds: KDEBounds, r: int, n: int) -> list[str]:
    raised = {
        "self-weight": float(bounds.self_weight[r]) > 0.2,
        "at-ceiling": float(bounds.lower[r]) >= 0.99 * math.log(n),  # and so is the upper bound, which is no less
    }
    return [code for code, yes in raised.items() if yes]


def _bounds(
    where: str, points: Tensor, noise_variance: float | Tensor, classes: Classes | None, chunk: int | None
) -> KDEBounds:
    replicas, n, _ = points.shape
    variance = torch.as_tensor(noise_variance, dtype=torch.float64)
    if variance.shape not in ((), (1,), (replicas,)) or not bool(((variance > 0) & variance.isfinite()).all()):
        raise InfoplaneError(
            f"{where}: noise_variance={noise_variance!r}; expected a finite number above 0, or {replicas} of them."
        )
    if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
        raise InfoplaneError(f"{where}: chunk={chunk!r}; expected a number of rows, at least 1.")
    compiled = COMPILED and chunk is None and points.device.type == "cpu" and points.shape[2] < MANY
    # tiles of small classes would be mostly empty
    compiled = compiled and (classes is None or n >= SMALLEST_CLASS * classes.size)
    if chunk is None:
        chunk = (192 if points.shape[2] < MANY else 1024 if COMPILED else 256) if points.device.type == "cpu" else 2048
    label_entropy = None if classes is None else classes.entropy()
    rows = []
    for r, s2 in enumerate(variance.expand(replicas).tolist()):
        t, unit = points[r], 2 * math.sqrt(s2)
        low, high = ends_of(t)
        if not (high - low) / unit < 1e70:
            raise InfoplaneError(f"{where}: values / sqrt(noise_variance) span {2 * (high - low) / unit:.3g}.")
        ids = None if classes is None else classes.ids[r]
        if compiled:
            from .compiled import kernel_sums  # numba takes half a second to import

            total, own = kernel_sums(t, unit, ids)
        else:
            total, own = _kernel_sums(t, unit, ids, chunk)
        # by NumPy: torch takes the logarithm of few numbers on several threads, which then spin (`ends_of`)
        of_all, of_class = total.cpu().numpy(), own.cpu().numpy()
        row = [*np.log(n / of_all).mean(1)[::-1], (1 / of_all[1]).mean()]  # bounds exactly 0 where all points are one
        if label_entropy is not None:
            # upper - sum_y p(y) lower_y = mean_i ln(own wide / all narrow) + H(Y), and the other way round
            h = float(label_entropy[r])
            pair = np.log(of_class / of_all[::-1]).mean(1) + h
            row += [*pair.clip(0.0, h), np.log(of_class[1] / of_all[1]).mean() + h]
        rows.append(row)
    upper, lower, self_weight, *of_label = torch.tensor(np.array(rows).T, device=points.device)
    label_upper, label_lower, label_difference = of_label if of_label else (None, None, None)
    return KDEBounds(upper, lower, label_upper, label_lower, label_difference, label_entropy, self_weight)


def _kernel_sums(t: Tensor, unit: float, ids: Tensor | None, chunk: int) -> tuple[Tensor, Tensor]:
    """sum_j of exp(-|x_i - x_j|^2 / 2) and of its fourth power, over all j and over those of the class of i.

    x = t / unit. t: (N, D). ids: (N,) or None, then there is one class. Returns two (2, N) float64 tensors, the points
    in an order of their own.

    The points are sorted by class, so the sums of a class are those of whole blocks; within a class along the longest
    axis of the layer, so that most pairs out of reach are never looked at; and a block above the diagonal serves for
    its mirror image too.

    The exponents are products of float64: in float32 their error, 2^-24 |x|^2, is the same for all points of a
    cluster and goes into the bounds whole (1e-3 nats for a saturated tanh layer at s2 = 1e-3). But where there are so
    many coordinates that the products take the time, float32 is tried first.
    """
    n, d = t.shape
    step = max(1, (PIECE if t.device.type == "cpu" else 2**24) // d)
    some = t[:: 1 + n // step].to(torch.float64)
    axis = _longest_axis(some - some.mean(0))
    total, places = torch.zeros_like(some[0]), []
    for part in t.split(step):
        part = part.to(torch.float64)
        total += part.sum(0)
        places.append(part @ axis)
    mean, place = total / n, torch.cat(places).div_(unit)
    order = place.argsort()
    ends = [n]
    if ids is not None:
        order = order[ids[order].argsort(stable=True)]
        sizes = torch.bincount(ids)
        ends = sizes[sizes > 0].cumsum(0).tolist()
    blocks = list(_blocks(place[order].tolist(), ends, chunk))

    def prepared(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """x, (N, D), and -|x|^2 / 2, (N,), from float64."""
        x, half = t.new_empty(n, d, dtype=dtype), t.new_empty(n, dtype=dtype)
        for rows, x_part, half_part in zip(order.split(step), x.split(step), half.split(step), strict=True):
            exact = (t.index_select(0, rows).to(torch.float64) - mean).div_(unit)
            x_part.copy_(exact)
            half_part.copy_(torch.linalg.vector_norm(exact, dim=1).square_().mul_(-0.5))
        return x, half

    # below "highest", the precision that a user may have set, products in float32 are rounded as bfloat16 or TF32
    if t.device.type == "cpu" and d >= MANY and torch.get_float32_matmul_precision() == "highest":
        x, half = prepared(torch.float32)
        if _error(half) <= MOST_ERROR:
            sums = _sums(x, half, blocks)
            if _harmless(x, half, sums[0], step):
                return sums
    x, half = prepared(torch.float64)
    return _sums(x, half, blocks, by_differences=_error(half) > DOUBLE_ERROR)


def _error(half: Tensor) -> float:
    """About what rounding does to the exponents of points within reach of each other."""
    eps = torch.finfo(half.dtype).eps / 2
    return eps * (math.sqrt(-2 * float(half.min())) + REACH) ** 2


def _harmless(x: Tensor, half: Tensor, total: Tensor, step: int) -> bool:
    """Whether what float32 did to the exponents is nothing to the sums, (2, N), that came of it.

    By the size of the exponents, and, for coordinates whose errors are all of one sign add up, by sums in float64 of
    some of the points.
    """
    if not _error(half) * float((total[0] - 1).clamp(0.0, 1.0).mean()) <= ROUNDING:
        return False
    some = slice(0, None, 1 + len(x) // CHECKED)
    of_some = x[some].to(torch.float64)
    own = of_some.square().sum(1, keepdim=True)
    exact = torch.zeros(2, len(of_some), dtype=torch.float64)
    for part in x.split(step):
        part = part.to(torch.float64)
        square = (own + part.square().sum(1) - 2 * (of_some @ part.T)).clamp_(min=0.0)
        exact[0] += square.mul_(-0.5).exp_().sum(1)
        exact[1] += square.pow_(4).sum(1)
    return bool(((total[:, some] / exact).log().abs() <= 2 * ROUNDING).all())


def _sums(x: Tensor, half: Tensor, blocks: list[Block], *, by_differences: bool = False) -> tuple[Tensor, Tensor]:
    """The sums over all blocks, (2, N) each. x: (N, D); half: (N,), -|x|^2 / 2.

    by_differences: of the coordinates, in float64, instead of a product: slow, and for any size of x.
    """
    if COMPILED and x.device.type == "cpu" and not by_differences:
        from .compiled import block_sums

        return block_sums(x, half, blocks)
    one = torch.ones_like(half)
    left, right = torch.column_stack([x, half, one]), torch.column_stack([x, one, half]).T
    right = right if x.dtype == torch.float32 else right.contiguous()
    sums = torch.zeros(2, 2, len(left), dtype=torch.float64, device=left.device)  # same class, other; wide, narrow
    floors = torch.zeros(2, len(left), dtype=torch.float64, device=left.device)  # how many kernels are in each sum
    largest = max((i1 - i0) * (j1 - j0) for _, i0, i1, j0, j1 in blocks)
    exponents = left.new_empty(0 if left.dtype == torch.float32 else largest)
    kernels = torch.empty(2 * largest, device=left.device)
    for other, i0, i1, j0, j1 in blocks:
        shape = i1 - i0, j1 - j0
        size = shape[0] * shape[1]
        kernel = kernels[: 2 * size].view(2, *shape)
        wide, narrow = kernel
        if by_differences:
            exact = torch.cdist(x[i0:i1], x[j0:j1], compute_mode="donot_use_mm_for_euclid_dist")
            wide.copy_(exact.clamp_(max=1e3).square_().mul_(-0.5))
        elif left.dtype == torch.float32:
            torch.mm(left[i0:i1], right[:, j0:j1], out=wide)
        else:
            wide.copy_(torch.mm(left[i0:i1], right[:, j0:j1], out=exponents[:size].view(shape)))
        wide.clamp_(FLOOR, 0.0).exp_()
        torch.mul(wide, wide, out=narrow)
        torch.mul(narrow, narrow, out=narrow)
        if j0 == i0:
            kernel.diagonal(dim1=1, dim2=2).fill_(1.0)
        # at most 8 chunk float32 numbers, which torch adds pairwise; whole rows add up in float64
        sums[other, :, i0:i1] += kernel.sum(2)
        floors[other, i0:i1] += j1 - j0
        beside = max(j0, i1)  # the mirror image of the square on the diagonal is itself
        if beside < j1:
            sums[other, :, beside:j1] += kernel[:, :, beside - j0 :].sum(1)
            floors[other, beside:j1] += i1 - i0
    wide = sums[:, 0]
    wide -= math.exp(FLOOR) * (floors - wide)  # nothing where all kernels are 1
    torch.maximum(wide, sums[:, 1], out=wide)  # as it is of each pair; by rounding it may be less
    return sums.sum(0), sums[0]


def _blocks(place: list[float], ends: list[int], chunk: int) -> Iterator[Block]:
    """Blocks that hold every pair i <= j within reach: (0 for one class or 1 for two, i0, i1, j0, j1).

    place: of each point on the axis, ascending within a class. ends: where the classes end.
    """
    start = 0
    for k, end in enumerate(ends):
        for i0 in range(start, end, chunk):
            i1 = min(i0 + chunk, end)
            low, high = place[i0] - REACH, place[i1 - 1] + REACH
            spans = [(0, i0, bisect.bisect_right(place, high, i1, end))]
            if len(ends) > SEARCHED_CLASSES:
                spans.append((1, end, ends[-1]))
            else:
                for s, e in itertools.pairwise(ends[k:]):
                    s, e = bisect.bisect_left(place, low, s, e), bisect.bisect_right(place, high, s, e)
                    if s == spans[-1][2] and spans[-1][0] == 1:
                        spans[-1] = (1, spans[-1][1], e)  # larger products are faster
                    else:
                        spans.append((1, s, e))
            for other, j_start, j_end in spans:
                for j0 in range(j_start, j_end, 8 * chunk):
                    yield other, i0, i1, j0, min(j0 + 8 * chunk, j_end)
        start = end


def _longest_axis(some: Tensor) -> Tensor:
    """(D,): about the first principal axis of some points (n, D), by a few steps of the power method. Any unit vector
    would be right."""
    axis = torch.zeros_like(some[0])
    axis[(some.amax(0) - some.amin(0)).argmax()] = 1.0
    for _ in range(4):
        axis = some.T @ (some @ axis)
        axis = axis / axis.norm().clamp_min(1e-300)
    return axis
