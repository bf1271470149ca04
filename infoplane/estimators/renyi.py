"""Matrix-based Rényi information: entropies of the eigenvalues of Gram matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InfoplaneError
from ..records import Estimate, Path
from ..streams import derive
from .inputs import (
    INTEGERS,
    Classes,
    check_chunk,
    is_count,
    is_positive,
    number,
    over_replicas,
    read_labels,
    read_points,
)
from .protocol import About, Estimator, Reading
from .views import PATH_WARNINGS

__all__ = ["Renyi", "RenyiInformation", "renyi_information"]

#: What rounding may add to an exponent of the kernel, eps (|x| / sigma)^2; values as near as that
#: are equal.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class RenyiInformation:
    """Entropies and information of order alpha, in nats: float64 tensors of shape (), or (R,) for R replicas.

    information: I(A;B) = S(A) + S(B) - S(A o B); below 0 it stays so.
    entropy_x, entropy_y, joint_entropy: S(A), S(B), S(A o B).
    width_x, width_y: sigma of the kernels; 0 by the rule where all points are one. width_y is None for labels.
    null_mean, null_std: of the information with the rows of y permuted; None without permutations.
    n: the number of points used.
    """

    information: Tensor
    entropy_x: Tensor
    entropy_y: Tensor
    joint_entropy: Tensor
    width_x: Tensor
    width_y: Tensor | None
    null_mean: Tensor | None
    null_std: Tensor | None
    n: int


@over_replicas("x")
def renyi_information(
    x: Tensor,
    y: Tensor,
    *,
    alpha: float = 1.01,
    width: float = 1.0,
    width_x: float | None = None,
    width_y: float | None = None,
    points: int = 0,
    permutations: int = 10,
    seed: int = 0,
    chunk: int | None = None,
) -> RenyiInformation:
    """The matrix-based Rényi information of x and y, in nats (the papers' are in bits).

        S(A) = ln tr A^alpha / (1 - alpha),  A = K / tr K,  K_ij = exp(-|x_i - x_j|^2 / 2 sigma^2),
        I(A;B) = S(A) + S(B) - S(A o B / tr A o B),  o the product entry by entry.

    It is not Shannon's information of the variables: independent ones read more than 0, anything from ln N to 0 as
    the kernel widens; so hold it against its permuted null. For alpha other than 1 it can be negative.

    x: (N, D), or (R, N, D) for R replicas; real and finite.
    y: the same with a D of its own; or labels, (N,) or (R, N) integers, whose kernel is 1 within a class, else 0.
    alpha: at least 0.5 (below it eigenvalues too small for float64 make most of the value); 1: the limit, von Neumann's
        entropy; 2: no eigenvalues, N^2 D time and memory linear in N. Any other takes N^3 time and N^2 memory.
    width: sigma of both kernels in units of the root mean square distance of two points, which unlike the median one
        is no 0 in a saturated or dying layer; the scale of a layer does not matter then.
    width_x, width_y: sigma itself, in place of the rule.
    points: at most that many, a random subset of the rows; 0: all.
    permutations: of the rows of y, at least 2; 0: no null.
    seed: of subset and permutations, the same for all replicas.
    chunk: rows worked on at a time for alpha = 2. Default: as many as make 2^20 numbers.

    Raises InfoplaneError for other shapes or types, values that are not finite, and options out of range.

    Sánchez Giraldo, Rao & Príncipe, Measures of entropy from data using infinitely divisible kernels, IEEE Trans. Inf.
    Theory 61 (2015) 535; Wickstrøm et al., Information plane analysis of deep neural networks via matrix-based Rényi's
    entropy and tensor kernels, arXiv:1909.11396 (who choose sigma by alignment with the labels).
    """
    where = "renyi_information"
    options = _Options(where, alpha, width, points, permutations)
    options.check()
    labels = isinstance(y, Tensor) and y.dtype in INTEGERS
    received = read_labels(where, y, x) if labels else read_points(where, y)
    if labels and width_y is not None:
        raise InfoplaneError(f"{where}: width_y={width_y!r}, but y are labels, whose kernel has no width.")
    for name, given in (("width_x", width_x), ("width_y", width_y)):
        if given is not None and not is_positive(given):
            raise InfoplaneError(f"{where}: {name}={given!r}; expected a finite number above 0, or None.")
    check_chunk(where, chunk)
    return _information(options, x, received, [seed] * len(x), (width_x, width_y), chunk)


@dataclass(frozen=True)
class Renyi(Estimator):
    """`renyi_information` for the Recorder.

    alpha, width, points, permutations: as there. The subset and the permutations are those of the replica's seed, the
    same in every layer and epoch.
    """

    alpha: float = 1.01
    width: float = 1.0
    points: int = 500
    permutations: int = 10

    name = "renyi"
    about = About(
        quantity="I(X;T), I(T;Y); at a noisy layer I(Z;X)",
        standing="estimate, of the kernel's information, which is not Shannon's",
        conditions="values of one width and one number of points, each against its permuted null: independent "
        "variables read more than 0",
        cost="n^3 a permutation, n = points; alpha=2: n^2 D",
        source="Sánchez Giraldo, Rao & Príncipe, IEEE Trans. Inf. Theory 61 (2015) 535; Wickstrøm et al., 2019",
    )

    def __post_init__(self) -> None:
        _Options("Renyi", self.alpha, self.width, self.points, self.permutations).check()

    @property
    def channel(self) -> str:
        return f"kernel of width {number(self.width)} x RMS distance"

    @property
    def params(self) -> str:
        return (
            f"alpha={number(self.alpha)},width={number(self.width)},points={self.points},"
            f"permutations={self.permutations}"
        )

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """I(X;T), or I(sent; received) of a noisy channel, and with labels I(T;Y), of each replica; nats.

        Each value is followed by that of its permuted null, with the side "null": the mean, with its standard error,
        std / sqrt(permutations). Above noise both are of one noisy draw per point.

        Raises InfoplaneError as `renyi_information` does, and where the reading has no inputs to compare with.
        """
        where = f"Renyi, layer {reading.layer!r}"
        options = _Options(where, self.alpha, self.width, self.points, self.permutations)
        codes = read_points(where, reading.codes)
        classes = None if labels is None else read_labels(where, labels, codes)
        common = Estimate(
            quantity="I(X;T)",
            value=math.nan,
            standing="estimate",
            channel=self.channel,
            estimator=self.name,
            params=self.params,
        )
        path: Path = "sampled" if reading.noisy or reading.noise is not None else ""
        sampled = replace(common, path=path, warnings=PATH_WARNINGS[path])
        if reading.noise is not None:
            of_input = replace(common, quantity=reading.noise.quantity)
            sent = read_points(where, reading.noise.sent)
        elif reading.inputs is not None:
            of_input = sampled
            sent = read_points(f"{where}, inputs", reading.inputs)
        else:
            raise InfoplaneError(
                f"{where}: the reading has no inputs, and I(X;T) by kernels compares the layer with them; "
                "give the probe's inputs to the Reading, or take another estimator."
            )
        found = _information(options, sent, codes, reading.seed_of)
        log_n = torch.full((len(codes),), math.log(found.n), dtype=torch.float64)
        rows = [self._numbers(of_input, found, log_n, r) for r in range(len(codes))]
        if classes is not None:
            found = _information(options, codes, classes, reading.seed_of)
            of_label = replace(sampled, quantity="I(T;Y)")
            for r, row in enumerate(rows):
                # S(A o B) >= S(A): the Hadamard product with a correlation matrix only spreads the
                # eigenvalues
                row += self._numbers(of_label, found, found.entropy_y, r)
        return rows

    def _numbers(self, common: Estimate, found: RenyiInformation, ceiling: Tensor, r: int) -> list[Estimate]:
        """The value of one replica, and the mean of its permuted null."""
        null = replace(common, n=found.n, ceiling=float(ceiling[r]), warnings=("kernel-width", *common.warnings))
        warnings = ("kernel-width", *_at_null(found, r), *common.warnings)
        value = replace(null, value=float(found.information[r]), warnings=warnings)
        if found.null_mean is None or found.null_std is None:
            return [value]
        stderr = float(found.null_std[r]) / math.sqrt(self.permutations)
        return [value, replace(null, value=float(found.null_mean[r]), side="null", stderr=stderr)]


def _at_null(of: RenyiInformation, r: int) -> tuple[str, ...]:
    if of.null_mean is None or of.null_std is None:
        return ()
    above = float(of.information[r] - of.null_mean[r] - 2 * of.null_std[r])
    return ("at-null",) if above < ROUNDING else ()


@dataclass(frozen=True, slots=True)
class _Options:
    """where: whose name an error bears."""

    where: str
    alpha: float
    width: float
    points: int
    permutations: int

    def check(self) -> None:
        if not is_positive(self.alpha) or self.alpha < 0.5:
            raise InfoplaneError(f"{self.where}: alpha={self.alpha!r}; expected a finite number of at least 0.5.")
        if not is_positive(self.width):
            raise InfoplaneError(f"{self.where}: width={self.width!r}; expected a finite number above 0.")
        for name, given, least in (("points", self.points, 1), ("permutations", self.permutations, 2)):
            if not (is_count(given, least) or (is_count(given, 0) and given == 0)):
                raise InfoplaneError(f"{self.where}: {name}={given!r}; expected 0, or an integer of at least {least}.")


def _information(
    options: _Options,
    x: Tensor,
    y: Tensor | Classes,
    seeds: Sequence[int],
    widths: tuple[float | None, float | None] = (None, None),
    chunk: int | None = None,
) -> RenyiInformation:
    """x: (R, N, D); y: (R, N, D') or classes."""
    where, alpha = options.where, options.alpha
    replicas, total = x.shape[:2]
    if isinstance(y, Tensor) and y.shape[:2] != x.shape[:2]:
        raise InfoplaneError(
            f"{where}: x has shape {tuple(x.shape)} and y {tuple(y.shape)}; expected as many replicas and points."
        )
    if isinstance(y, Tensor) and y.device != x.device:
        raise InfoplaneError(f"{where}: y is on {y.device}, expected {x.device} as x.")
    n = min(total, options.points or total)
    rows = []
    for r in range(replicas):
        generator = torch.Generator().manual_seed(derive("renyi", seeds[r]))
        some = torch.randperm(total, generator=generator)[:n].sort().values.to(x.device)
        orders = [torch.randperm(n, generator=generator).to(x.device) for _ in range(options.permutations)]
        first, sigma_x = _scaled(where, "x", x[r, some], options.width, widths[0])
        if isinstance(y, Tensor):
            second, sigma_y = _scaled(where, "y", y[r, some], options.width, widths[1])
            entropies = _of_points(first, second, orders, alpha, chunk)
        else:
            sigma_y = first.new_tensor(math.nan)
            entropies = _of_classes(first, y.ids[r, some], orders, alpha, chunk)
        rows.append(torch.cat([entropies, torch.stack([sigma_x, sigma_y])]))
    columns = torch.stack(rows, 1)
    of_x, of_y, joint, sigma_x, sigma_y = columns[0], columns[1], columns[2], columns[-2], columns[-1]
    null = of_x + of_y - columns[3:-2]
    return RenyiInformation(
        information=of_x + of_y - joint,
        entropy_x=of_x,
        entropy_y=of_y,
        joint_entropy=joint,
        width_x=sigma_x,
        width_y=sigma_y if isinstance(y, Tensor) else None,
        null_mean=null.mean(0) if len(null) else None,
        null_std=null.std(0) if len(null) else None,
        n=n,
    )


def _scaled(where: str, name: str, t: Tensor, width: float, sigma: float | None) -> tuple[Tensor, Tensor]:
    """(N, D) float64, centred and in units of sigma; and sigma."""
    t = t.to(torch.float64)
    t = t - t[0]  # first, so that a constant column is exactly 0
    t = t - t.mean(0)
    largest = t.abs().amax()
    unit = torch.where(largest > 0, largest, 1.0)  # squares of tiny values underflow
    by_rule = width * unit * (2 * (t / unit).square().sum(1).mean()).sqrt()
    scale = by_rule if sigma is None else torch.full_like(by_rule, sigma)
    t = t / torch.where(scale > 0, scale, 1.0)
    reach = float(t.square().sum(1).amax())
    if not reach * torch.finfo(torch.float64).eps < ROUNDING:
        raise InfoplaneError(
            f"{where}: the width {float(scale):.3g} of the kernel of {name} is {math.sqrt(reach):.3g} times smaller "
            "than the spread of its points, too little for their distances to be told; expected a larger width."
        )
    return t, scale


def _of_points(x: Tensor, y: Tensor, orders: list[Tensor], alpha: float, chunk: int | None) -> Tensor:
    """S(A), S(B), S(A o B), and S(A o B) with y in each of the orders. x, y: (N, .), in units of their widths."""
    if alpha == 2:
        # the product of two Gaussian kernels is the kernel of both variables side by side
        pairs = [torch.cat([x, y], 1), *(torch.cat([x, y[order]], 1) for order in orders)]
        sums = torch.stack([_sum_of_squares(t, chunk) for t in (x, y, *pairs)])
        return 2 * math.log(len(x)) - sums.log()
    a, b = _gram(x), _gram(y)
    products = (a * b[order][:, order] for order in orders)
    return torch.stack([_entropy(torch.linalg.eigvalsh(k), alpha) for k in (a, b, a * b, *products)])


def _of_classes(x: Tensor, ids: Tensor, orders: list[Tensor], alpha: float, chunk: int | None) -> Tensor:
    """The same with labels in place of y. Sorted by class, A o B is made of the blocks of A: so are its eigenvalues."""
    counts = torch.bincount(ids)
    sizes = counts[counts > 0].tolist()
    blocks = [y.argsort(stable=True).split(sizes) for y in (ids, *(ids[order] for order in orders))]
    of_labels = _entropy(counts.to(torch.float64), alpha)
    if alpha == 2:
        sums = [_sum_of_squares(x, chunk)]
        sums += [torch.stack([_sum_of_squares(x[members], chunk) for members in block]).sum() for block in blocks]
        of_points = list(2 * math.log(len(x)) - torch.stack(sums).log())
    else:
        a = _gram(x)
        of_points = [_entropy(torch.linalg.eigvalsh(a), alpha)]
        for block in blocks:
            values = [torch.linalg.eigvalsh(a[members][:, members]) for members in block]
            of_points.append(_entropy(torch.cat(values), alpha))
    return torch.stack([of_points[0], of_labels, *of_points[1:]])


def _entropy(eigenvalues: Tensor, alpha: float) -> Tensor:
    """ln sum p^alpha / (1 - alpha), p = eigenvalues / their sum, by sum p^alpha - 1: nothing is lost near alpha 1."""
    least = len(eigenvalues) * torch.finfo(torch.float64).eps * eigenvalues.amax()
    values = eigenvalues[eigenvalues > least]  # what lies below is the rounding of a 0
    p = values / values.sum()
    if alpha == 1:
        return -(p * p.log()).sum()
    return torch.log1p((p * torch.expm1((alpha - 1) * p.log())).sum()) / (1 - alpha)


def _gram(x: Tensor) -> Tensor:
    """(N, N) float64, exp(-|x_i - x_j|^2 / 2)."""
    half = 0.5 * x.square().sum(1)
    return torch.addmm(-half[:, None] - half, x, x.T).exp_()


def _sum_of_squares(x: Tensor, chunk: int | None) -> Tensor:
    """sum_ij K_ij^2, a block of rows at a time, from the diagonal on."""
    n = len(x)
    step = chunk or max(1, 2**20 // n)
    squares = x.square().sum(1)
    total = x.new_zeros(())
    for i0 in range(0, n, step):
        i1 = min(i0 + step, n)
        kernel = torch.addmm(-squares[i0:i1, None] - squares[i0:], x[i0:i1], x[i0:].T, alpha=2).exp_()
        total += 2 * kernel.sum() - kernel[:, : i1 - i0].sum()  # the square on the diagonal is its own mirror image
    return total
