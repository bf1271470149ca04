"""Estimate matrix-based Rényi information from the eigenvalues of Gram matrices."""

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

#: The largest rounding of an exponent of the kernel, eps (|x| / sigma)^2. Values that differ by
#: less are equal.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class RenyiInformation:
    """Hold entropies and information of order alpha, in nats.

    The tensors are float64, of shape () or, for R replicas, (R,).

    Attributes:
        information: I(A;B) = S(A) + S(B) - S(A o B), which may be negative.
        entropy_x: S(A).
        entropy_y: S(B).
        joint_entropy: S(A o B).
        width_x: The width sigma of the kernel of x. By the rule, it is 0 where all points are
            equal.
        width_y: The width of the kernel of y; None for labels.
        null_mean: The mean information with the rows of y permuted; None without permutations.
        null_std: The standard deviation of the information with the rows of y permuted; None
            without permutations.
        n: The number of points used.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> found = ip.estimators.renyi_information(x, x, permutations=5)
        >>> bool(found.information > found.null_mean + 2 * found.null_std), found.n
        (True, 50)
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
    """Estimate the matrix-based Rényi information of x and y.

        K_ij = exp(-|x_i - x_j|^2 / 2 sigma^2),    A = K / tr K
        S(A) = ln tr A^alpha / (1 - alpha)
        I(A;B) = S(A) + S(B) - S(A o B / tr A o B)

    Here o is the product entry by entry. Values are in nats, while the papers use bits. This is not
    Shannon's information of the variables: for independent variables it is above 0, and falls from
    ln N to 0 as the kernel widens. Compare it therefore with its permuted null. For alpha other
    than 1 it can be negative.

    Args:
        x: One variable, (N, D), or (R, N, D) for R replicas.
        y: The other variable, (N, E) or (R, N, E); or labels as integers, (N,) or (R, N), whose
            kernel is 1 within a class and 0 otherwise.
        alpha: The order, at least 0.5 (below it, eigenvalues that are too small for float64 make
            most of the value). 1 gives the limit, von Neumann's entropy. 2 needs no eigenvalues,
            and takes N^2 D time and memory linear in N. Any other order takes N^3 time and N^2
            memory.
        width: The width sigma of both kernels, in units of the root mean square distance of two
            points. The scale of a layer then does not matter. Unlike the median distance, this unit
            is not 0 in a saturated or dying layer.
        width_x: The width of the kernel of x itself, instead of the rule.
        width_y: The width of the kernel of y itself, instead of the rule.
        points: The largest number of points used, a random subset of the rows; 0 for all.
        permutations: The number of permutations of the rows of y, at least 2; 0 for no null.
        seed: The seed of the subset and the permutations, which are the same for all replicas.
        chunk: The number of rows to work on at a time for alpha = 2. The default makes 2^20
            numbers.

    Returns:
        The information and entropies, in nats, with the permuted null.

    Raises:
        InfoplaneError: If a tensor has another shape or type, if values are not finite, or if an
            option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> labels = (x[:, 0] > 0).long()
        >>> found = ip.estimators.renyi_information(x, labels, alpha=2)
        >>> bool(found.null_mean < found.information < found.entropy_y)
        True

    References:
        Sánchez Giraldo, Rao & Príncipe, Measures of entropy from data using infinitely divisible
        kernels, IEEE Transactions on Information Theory 61 (2015) 535.
        Wickstrøm et al., Information plane analysis of deep neural networks via matrix-based
        Rényi's entropy and tensor kernels, arXiv:1909.11396, 2019 (they choose sigma by alignment
        with the labels).
    """
    where = "renyi_information"
    options = _Options(where, alpha, width, points, permutations)
    options.check()
    labels = isinstance(y, Tensor) and y.dtype in INTEGERS
    received = read_labels(where, y, x) if labels else read_points(where, y)
    if labels and width_y is not None:
        raise InfoplaneError(
            f"{where}: width_y={width_y!r}, but y are labels, whose kernel has no width; expected None."
        )
    for name, given in (("width_x", width_x), ("width_y", width_y)):
        if given is not None and not is_positive(given):
            raise InfoplaneError(f"{where}: {name}={given!r}; expected a finite number above 0, or None.")
    check_chunk(where, chunk)
    return _information(options, x, received, [seed] * len(x), (width_x, width_y), chunk)


@dataclass(frozen=True)
class Renyi(Estimator):
    """Estimate Rényi information of a layer for the Recorder, as `renyi_information` does.

    The subset and the permutations follow from the replica's seed, and are the same in every layer
    and epoch.

    Args:
        alpha: The order, at least 0.5.
        width: The width of the kernels, in units of the root mean square distance of two points.
        points: The largest number of points used; 0 for all.
        permutations: The number of permutations, at least 2; 0 for no null.

    Raises:
        InfoplaneError: If an option is out of range.

    Example:
        >>> import torch
        >>> import infoplane as ip
        >>> x = torch.randn(1, 50, 2, generator=torch.Generator().manual_seed(0))
        >>> reading = ip.estimators.Reading(layer="fc1", codes=x.tanh(), inputs=x)
        >>> [[value, null]] = ip.estimators.Renyi(alpha=2).measure(reading, labels=None)
        >>> null.side, value.value > null.value
        ('null', True)

    References:
        Sánchez Giraldo, Rao & Príncipe, Measures of entropy from data using infinitely divisible
        kernels, IEEE Transactions on Information Theory 61 (2015) 535.
    """

    alpha: float = 1.01
    width: float = 1.0
    points: int = 500
    permutations: int = 10

    name = "renyi"
    about = About(
        quantity="It measures I(X;T) and I(T;Y), and I(Z;X) of a noisy layer.",
        standing="The number is an estimate of the kernel's information, which is not Shannon's.",
        conditions="Compare only values with the same width and the same number of points, and each with its permuted "
        "null, because even independent variables give more than 0.",
        cost="The time per permutation grows with points^3, or with points^2 D for alpha=2.",
        source="Sánchez Giraldo, Rao & Príncipe, Measures of entropy from data using infinitely divisible kernels, "
        "IEEE Transactions on Information Theory 61 (2015). Wickstrøm et al., arXiv:1909.11396, 2019.",
    )

    def __post_init__(self) -> None:
        _Options("Renyi", self.alpha, self.width, self.points, self.permutations).check()

    @property
    def channel(self) -> str:
        """The kernel, for the column `channel`."""
        return f"kernel of width {number(self.width)} x RMS distance"

    @property
    def params(self) -> str:
        """Every option that changes the value, for the column `params`."""
        return (
            f"alpha={number(self.alpha)},width={number(self.width)},points={self.points},"
            f"permutations={self.permutations}"
        )

    def measure(self, reading: Reading, labels: Tensor | None) -> list[list[Estimate]]:
        """Estimate I(X;T) and, with labels, I(T;Y) of each replica.

        For a noisy layer, I(sent; received) of its own channel takes the place of I(X;T). Each
        value is followed by its permuted null, with the side "null": the mean, with its standard
        error, std / sqrt(permutations). Above noise, both are measured on one noisy draw per point.

        Args:
            reading: The values of the layer.
            labels: Classes as integers, (N,) or (R, N), or None.

        Returns:
            A list per replica of its numbers, in nats.

        Raises:
            InfoplaneError: As `renyi_information` does; also if the reading has no inputs to
                compare with.
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
                f"{where}: the reading has no inputs, but I(X;T) by kernels compares the layer with them; "
                "give the probe's inputs to the Reading, or choose another estimator."
            )
        found = _information(options, sent, codes, reading.seed_of)
        log_n = torch.full((len(codes),), math.log(found.n), dtype=torch.float64)
        rows = [self._numbers(of_input, found, log_n, r) for r in range(len(codes))]
        if classes is not None:
            found = _information(options, codes, classes, reading.seed_of)
            of_label = replace(sampled, quantity="I(T;Y)")
            for r, row in enumerate(rows):
                # S(A o B) >= S(A), because the product with a correlation matrix only spreads the
                # eigenvalues.
                row += self._numbers(of_label, found, found.entropy_y, r)
        return rows

    def _numbers(self, common: Estimate, found: RenyiInformation, ceiling: Tensor, r: int) -> list[Estimate]:
        """Make the value of one replica, and the mean of its permuted null."""
        null = replace(common, n=found.n, ceiling=float(ceiling[r]), warnings=("kernel-width", *common.warnings))
        warnings = ("kernel-width", *_at_null(found, r), *common.warnings)
        value = replace(null, value=float(found.information[r]), warnings=warnings)
        if found.null_mean is None or found.null_std is None:
            return [value]
        stderr = float(found.null_std[r]) / math.sqrt(self.permutations)
        return [value, replace(null, value=float(found.null_mean[r]), side="null", stderr=stderr)]


def _at_null(of: RenyiInformation, r: int) -> tuple[str, ...]:
    """Whether the value is within its null, as a list of warnings."""
    if of.null_mean is None or of.null_std is None:
        return ()
    above = float(of.information[r] - of.null_mean[r] - 2 * of.null_std[r])
    return ("at-null",) if above < ROUNDING else ()


@dataclass(frozen=True, slots=True)
class _Options:
    """Hold the options of an estimate, and the name that a message bears."""

    where: str
    alpha: float
    width: float
    points: int
    permutations: int

    def check(self) -> None:
        """Check the options."""
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
    """Compute the information of x (R, N, D) with y (R, N, E), or with classes."""
    where, alpha = options.where, options.alpha
    replicas, total = x.shape[:2]
    if isinstance(y, Tensor) and y.shape[:2] != x.shape[:2]:
        raise InfoplaneError(
            f"{where}: x has shape {tuple(x.shape)} and y {tuple(y.shape)}; expected the same numbers of replicas and "
            "points."
        )
    if isinstance(y, Tensor) and y.device != x.device:
        raise InfoplaneError(f"{where}: y is on {y.device}; expected {x.device}, where x is.")
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
    """Centre points and divide them by the width of their kernel.

    Returns:
        The points, (N, D) float64, and the width.
    """
    t = t.to(torch.float64)
    t = t - t[0]  # this comes first, so that a constant column is exactly 0
    t = t - t.mean(0)
    largest = t.abs().amax()
    unit = torch.where(largest > 0, largest, 1.0)  # the squares of tiny values would underflow
    by_rule = width * unit * (2 * (t / unit).square().sum(1).mean()).sqrt()
    scale = by_rule if sigma is None else torch.full_like(by_rule, sigma)
    t = t / torch.where(scale > 0, scale, 1.0)
    reach = float(t.square().sum(1).amax())
    if not reach * torch.finfo(torch.float64).eps < ROUNDING:
        raise InfoplaneError(
            f"{where}: the width {float(scale):.3g} of the kernel of {name} is {math.sqrt(reach):.3g} times smaller "
            "than the spread of its points, so rounding would hide their distances; expected a larger width."
        )
    return t, scale


def _of_points(x: Tensor, y: Tensor, orders: list[Tensor], alpha: float, chunk: int | None) -> Tensor:
    """Compute S(A), S(B), S(A o B), and S(A o B) with y in each of the orders.

    x and y are (N, D) and (N, E), in units of their widths.
    """
    if alpha == 2:
        # The product of two Gaussian kernels is the kernel of both variables side by side.
        pairs = [torch.cat([x, y], 1), *(torch.cat([x, y[order]], 1) for order in orders)]
        sums = torch.stack([_sum_of_squares(t, chunk) for t in (x, y, *pairs)])
        return 2 * math.log(len(x)) - sums.log()
    a, b = _gram(x), _gram(y)
    products = (a * b[order][:, order] for order in orders)
    return torch.stack([_entropy(torch.linalg.eigvalsh(k), alpha) for k in (a, b, a * b, *products)])


def _of_classes(x: Tensor, ids: Tensor, orders: list[Tensor], alpha: float, chunk: int | None) -> Tensor:
    """Do the same with labels in the place of y.

    Sorted by class, A o B consists of blocks of A, so its eigenvalues are those of the blocks.
    """
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
    """Compute ln sum p^alpha / (1 - alpha) with p = eigenvalues / their sum.

    It is computed from sum p^alpha - 1, so that nothing is lost near alpha = 1.
    """
    least = len(eigenvalues) * torch.finfo(torch.float64).eps * eigenvalues.amax()
    values = eigenvalues[eigenvalues > least]  # smaller ones are the rounding of a 0
    p = values / values.sum()
    if alpha == 1:
        return -(p * p.log()).sum()
    return torch.log1p((p * torch.expm1((alpha - 1) * p.log())).sum()) / (1 - alpha)


def _gram(x: Tensor) -> Tensor:
    """Compute exp(-|x_i - x_j|^2 / 2), (N, N) float64."""
    half = 0.5 * x.square().sum(1)
    return torch.addmm(-half[:, None] - half, x, x.T).exp_()


def _sum_of_squares(x: Tensor, chunk: int | None) -> Tensor:
    """Compute sum_ij K_ij^2, a block of rows at a time, from the diagonal on."""
    n = len(x)
    step = chunk or max(1, 2**20 // n)
    squares = x.square().sum(1)
    total = x.new_zeros(())
    for i0 in range(0, n, step):
        i1 = min(i0 + step, n)
        kernel = torch.addmm(-squares[i0:i1, None] - squares[i0:], x[i0:i1], x[i0:].T, alpha=2).exp_()
        total += 2 * kernel.sum() - kernel[:, : i1 - i0].sum()  # the square on the diagonal is its own mirror image
    return total
