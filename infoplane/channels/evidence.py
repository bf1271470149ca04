"""Everything that one replica of a frozen Echo layer shows, from which its certificate is made.

The `Evidence` holds what was read from the layer. What follows from it (the margin to every
ceiling, the smallest eigenvalue, what of the rate is seen at a finite resolution, ...) is computed
when it is first asked for, and once. All information in nats; coordinates count from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..warning_codes import LIMITS
from . import ceilings
from .bank import Bank

__all__ = ["CELLS", "Evidence"]

#: Cells per coordinate over the range of z: the resolution at which codes are counted and the rate
#: must be seen.
CELLS = 1000
#: Draws of the noise in which the rate is looked for at that resolution.
_DRAWS = 2**15
#: The mean of I(Z_2;Z_1) - R where the noise of layer 2 is made of finitely many codes is about .7
#: nats / references per coordinate (Gaussian codes, 128 to 4096 of them); its scatter is larger,
#: and part of the standard error.
_REFERENCE_BIAS = 1.0


@dataclass(frozen=True)
class Evidence:
    """The codes and scales of one replica of a frozen Echo layer, and its reference codes.

    Args:
        f: (N, K), the codes of the probe before the noise.
        log_s: (N, K), the logarithms of their scales.
        z: (N, K), the noisy codes, in the type in which they are handed on.
        bank: the reference codes of all replicas.
        replica: which slice of the bank belongs to this replica.
        first: whether no noise lies below the layer, so that f is a function of x.
        repeat: max |f - f'| over inputs that were passed again, in standard deviations of each
            coordinate; None for a layer above the first, where it is not known.
        same_law: whether the bank was filled from the probe.
        diagonal: whether S is diagonal.
        floor: the least rate that the layer can have, in nats.
    """

    f: Tensor
    log_s: Tensor
    z: Tensor
    bank: Bank
    replica: int
    first: bool
    repeat: float | None
    same_law: bool
    diagonal: bool
    floor: float

    # -- the codes, in double precision

    @property
    def n(self) -> int:
        """The number of inputs."""
        return self.f.shape[0]

    @cached_property
    def codes(self) -> Tensor:
        """(N, K): f."""
        return self.f.double()

    @cached_property
    def rates(self) -> Tensor:
        """(N, K): -log s, whose mean is the rate of each coordinate."""
        return -self.log_s.double()

    @cached_property
    def scales(self) -> Tensor:
        """(N, K): s."""
        return (-self.rates).exp()

    @cached_property
    def void(self) -> list[int]:
        """The coordinates with f_i = v (1 - s_i) for some v: there z_i = v for every x.

        Such a v is the stationary mean. Under a matrix S a coordinate hears the others, and none is
        void.
        """
        if not self.diagonal:
            return []
        f, s = self.codes, self.scales
        v = f.mean(0) / (1.0 - s.mean(0))
        off = (f - v * (1.0 - s)).abs().amax(0)
        return torch.nonzero(off <= LIMITS["void"] * f.square().mean(0).sqrt()).flatten().tolist()

    @cached_property
    def kept(self) -> list[int]:
        """The coordinates that are not void. Only these are judged."""
        return [k for k in range(self.f.shape[1]) if k not in self.void]

    @cached_property
    def kept_codes(self) -> Tensor:
        """(N, kept): f."""
        return self.codes[:, self.kept]

    @cached_property
    def kept_scales(self) -> Tensor:
        """(N, kept): s."""
        return self.scales[:, self.kept]

    @cached_property
    def kept_rates(self) -> Tensor:
        """(N, kept): -log s."""
        return self.rates[:, self.kept]

    # -- the rate and its ceilings

    @cached_property
    def whole_rate(self) -> float:
        """The rate over all coordinates, void ones too."""
        return float(self.rates.sum(-1).mean())

    @cached_property
    def rate_of(self) -> list[float]:
        """The rate of each coordinate that is kept."""
        return self.rates.mean(0)[self.kept].tolist()

    @cached_property
    def rate(self) -> float:
        """The rate over the coordinates that are kept."""
        return math.fsum(self.rate_of)

    @cached_property
    def has_ceiling(self) -> bool:
        """Whether the entropy of the codes bounds the information.

        It does for codes that are a function of x. Those that change from pass to pass have no
        ceiling that one pass would show.
        """
        return self.first and not (self.repeat is not None and self.repeat > LIMITS["repeat"])

    @cached_property
    def code_entropy(self) -> float:
        """The entropy of the distinct codes (f, s); NaN where it is no ceiling."""
        if not self.has_ceiling:
            return math.nan
        return ceilings.joint_entropy(torch.cat([self.kept_codes, self.kept_scales], -1))

    @cached_property
    def bound(self) -> float:
        """The rigorous upper bound, the least of R, H(codes) and sum_i min(R_i, H(codes_i))."""
        if not self.has_ceiling:
            return self.rate
        value = min(self.rate, self.code_entropy)
        if self.diagonal:
            columns = zip(self.kept_codes.unbind(1), self.kept_scales.unbind(1), strict=True)
            entropies = [ceilings.joint_entropy(torch.stack(column, -1)) for column in columns]
            value = min(value, math.fsum(min(r, h) for r, h in zip(self.rate_of, entropies, strict=True)))
        return value

    @cached_property
    def margin(self) -> tuple[float, bool]:
        """`ceilings.margin`, the largest R_A / H(f_A) over subsets A, counted in cells."""
        return ceilings.margin(self.cells.floor(), self.rate_of, self.diagonal)

    @cached_property
    def margin_of_values(self) -> tuple[float, bool]:
        """The same with codes counted by value."""
        return ceilings.margin(self.kept_codes, self.rate_of, self.diagonal)

    # -- the resolution

    @cached_property
    def noisy(self) -> Tensor:
        """(N, kept): z."""
        return self.z.double()[:, self.kept]

    @cached_property
    def width(self) -> Tensor:
        """(kept,): the range of each z_i."""
        return (self.noisy.amax(0) - self.noisy.amin(0)).clamp(min=1e-300)

    @cached_property
    def cells(self) -> Tensor:
        """(N, kept): f in units of cells, of which there are CELLS over the range of z."""
        return (self.kept_codes - self.noisy.amin(0)) * (CELLS / self.width)

    @cached_property
    def digits(self) -> Tensor:
        """(kept,): the spacing of floating-point numbers at each z_i, in the type handed on."""
        return torch.finfo(self.z.dtype).eps * self.noisy.abs().amax(0)

    @cached_property
    def seen(self) -> float:
        """The part of the rate that is seen in CELLS cells per coordinate."""
        each = [_seen_in_cells(e, s) for e, s in zip(self._draws.unbind(1), self.kept_scales.unbind(1), strict=True)]
        noise = (self.kept_scales.T @ self.kept_scales / self.n) * self.covariance
        seen = math.fsum(min(i, r) for i, r in zip(each, self.rate_of, strict=True))
        return seen - _lost_jointly(self.covariance, noise, self.width / CELLS)

    @property
    def _draws(self) -> Tensor:
        """(_DRAWS, kept): draws of the noise e."""
        generator = torch.Generator(self.bank.f.device).manual_seed(0)
        return self.bank.draw(self.replica, _DRAWS, generator).double()[:, self.kept]

    # -- dependence between coordinates

    @cached_property
    def covariance(self) -> Tensor:
        """(kept, kept): of z, from the reference codes."""
        return self.bank.covariance[self.replica][self.kept][:, self.kept]

    @cached_property
    def smallest_eigenvalue(self) -> float:
        """Of the covariance of z, scaled by E f_i^2."""
        if not self.kept:
            return math.inf
        scale = self.kept_codes.square().mean(0).clamp(min=1e-300).sqrt()
        return float(torch.linalg.eigvalsh(self.covariance / scale / scale.unsqueeze(-1))[0])

    @cached_property
    def few_valued(self) -> float:
        """`ceilings.few_valued`, of two and three coordinates."""
        return ceilings.few_valued(self.kept_codes, self.kept_rates)

    @cached_property
    def crowded(self) -> tuple[float, bool]:
        """`ceilings.crowded_flats`, of more coordinates than that."""
        return ceilings.crowded_flats(self.cells, self.kept_rates)

    # -- the noise

    @cached_property
    def tail(self) -> float:
        """A bound on the information that the terms left out of the echoes are worth."""
        return float(self.bank.tail[self.replica])

    @cached_property
    def systematic(self) -> float:
        """A bound on the systematic error: the tail, and above the first layer the finite bank."""
        return self.tail if self.first else self.tail + _REFERENCE_BIAS * len(self.kept) / self.bank.size

    @cached_property
    def stderr(self) -> float:
        """0 for a first layer, whose law is the probe; above, of the noisy codes and the bank."""
        if self.first:
            return 0.0
        sampling = float(self.kept_rates.sum(-1).std()) / math.sqrt(self.n)
        return sampling + _bank_noise(self.kept_codes, self.kept_scales, self.bank.size)

    @cached_property
    def shift(self) -> float:
        """The largest distance between the bank's and the probe's means of f, f^2 and s.

        It is in standard deviations for a first layer, whose codes must be the same, and else in
        standard errors of two samples.
        """
        here, there = self.codes, self.bank.f[self.replica].double()
        here, there = torch.cat([here, here.square()], 1), torch.cat([there, there.square()], 1)
        if self.diagonal_bank:
            here = torch.cat([here, self.scales], 1)
            there = torch.cat([there, self.bank.s[self.replica].double()], 1)
        one, other = (1, 1) if self.first else (len(here), len(there))
        spread = (here.var(0) / one + there.var(0) / other).sqrt()
        distance = (here.mean(0) - there.mean(0)).abs()
        # two passes round differently: a constant that differs in its last digits has not moved
        rounding = (1e-2 if self.first else 1e-6) * here.square().mean(0).sqrt() + 1e-300
        return float((distance / torch.maximum(spread, rounding)).max())

    @property
    def diagonal_bank(self) -> bool:
        """Whether the bank holds diagonals, and no matrices."""
        return self.bank.s.dim() == self.bank.f.dim()


def _seen_in_cells(e: Tensor, s: Tensor) -> float:
    """I(Z_i;X) of one coordinate as CELLS cells over the range of its noise show it, in nats.

    Every coordinate is an Echo channel of its own, and seen in cells of width d, Z_i given x is e_i
    seen in cells of width d / s_i(x): I_d = E_x [ H_d(e_i) - H_{d / s_i(x)}(e_i) ], which tends to
    -E log s_i where e_i has a density and falls short of it where that density has not yet shown.

    Args:
        e: (draws,), draws of e_i.
        s: (N,), the scales s_i.
    """
    entropies = _entropies_of_doubled_cells(e)
    coarser = (-s.log2()).clamp(0.0, len(entropies) - 1.0).cpu().numpy()
    given = np.interp(coarser, np.arange(len(entropies)), entropies)
    return entropies[0] - float(given.mean())


def _entropies_of_doubled_cells(e: Tensor) -> list[float]:
    """The entropy of e in cells whose width doubles, from 1/CELLS of its range to a single cell.

    With Miller and Madow's correction for the bias of the count.
    """
    low = e.amin()
    count = 2 ** math.ceil(math.log2(CELLS))
    digits = ((e - low) * (CELLS / (e.amax() - low).clamp(min=1e-300))).long().clamp(0, count - 1)
    counts = digits.bincount(minlength=count).double()
    entropies = []
    while True:
        p = counts / counts.sum()
        entropies.append(float(-torch.xlogy(p, p).sum()) + (int((p > 0).sum()) - 1) / (2 * len(e)))
        if len(counts) == 1:
            return entropies
        counts = counts.view(-1, 2).sum(1)


def _lost_jointly(covariance: Tensor, noise: Tensor, cell: Tensor) -> float:
    """The information that cells hide of directions oblique to the axes, for Gaussian z, in nats.

    Coordinates that are nearly equal differ by less than a cell: a cell acts like uniform noise, of
    variance width^2 / 12.

    Args:
        covariance: (K, K), of z.
        noise: (K, K), of z given x.
        cell: (K,), the widths of the cells.
    """
    blur = torch.diag(cell.square() / 12)
    lost = _gaussian_information(covariance, noise) - _gaussian_information(covariance + blur, noise + blur)
    return max(lost, 0.0) if math.isfinite(lost) else math.inf


def _gaussian_information(covariance: Tensor, noise: Tensor) -> float:
    return 0.5 * float(torch.logdet(covariance) - torch.logdet(noise))


def _bank_noise(f: Tensor, s: Tensor, references: int) -> float:
    """A standard error for I(Z_k;Z_{k-1}) with finitely many reference codes, in nats.

    Their variance is off by a share of standard deviation sqrt((kurtosis - 1) / references), and
    the information by (1 - E s^2) / 2 of that share, added up over coordinates as if all erred
    together.
    """
    centred = f - f.mean(0)
    variance = centred.square().mean(0).clamp(min=1e-300)
    kurtosis = centred.pow(4).mean(0) / variance.square()
    share = ((kurtosis - 1.0).clamp(min=0.0) / references).sqrt()
    return float((0.5 * (1.0 - s.square().mean(0)) * share).sum())
