"""The evidence from one replica of a frozen Echo layer, from which its certificate is made.

`Evidence` holds the tensors that were read from the layer. What follows from them (the margin to
every ceiling, the smallest eigenvalue, the part of the rate that is seen at a finite resolution,
...) is computed once, on first use. All information is in nats; coordinates count from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..warning_codes import LIMITS
from . import ceilings
from .bank import Bank

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

__all__ = ["CELLS", "Evidence"]

#: Cells per coordinate over the range of z: the resolution at which codes are counted and the rate
#: must be seen.
CELLS = 1000
#: The number of draws of the noise from which the rate at that resolution is measured.
_DRAWS = 2**15
#: The bias from a finite bank, in nats per coordinate and times the number of references. With the
#: noise of layer 2 made of finitely many codes, the mean of I(Z_2;Z_1) - R is about .7 nats /
#: references per coordinate (Gaussian codes, 128 to 4096 of them). Its scatter is larger, and part
#: of the standard error.
_REFERENCE_BIAS = 1.0


@dataclass(frozen=True)
class Evidence:
    """The codes and scales of one replica of a frozen Echo layer, and its reference codes.

    Args:
        f: (N, K), the codes of the probe before the noise.
        log_s: (N, K), the logarithms of their scales.
        z: (N, K), the noisy codes, in the type in which they are handed on.
        bank: The reference codes of all replicas.
        replica: The index of this replica in the bank.
        first: Whether there is no noise below the layer, so that f is a function of x.
        repeat: max |f - f'| over inputs that were passed twice, in standard deviations of each
            coordinate; None for a layer above noise, where it is not known.
        same_law: Whether the bank was filled from the probe.
        diagonal: Whether S is diagonal.
        floor: The smallest rate that the layer can have, in nats.
    """

    f: Float[Tensor, "N K"]
    log_s: Float[Tensor, "N K"]
    z: Float[Tensor, "N K"]
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
    def codes(self) -> Float64[Tensor, "N K"]:
        """f, (N, K), in float64."""
        return self.f.double()

    @cached_property
    def rates(self) -> Float64[Tensor, "N K"]:
        """-log s, (N, K). Its mean is the rate of each coordinate."""
        return -self.log_s.double()

    @cached_property
    def scales(self) -> Float64[Tensor, "N K"]:
        """s, (N, K)."""
        return (-self.rates).exp()

    @cached_property
    def void(self) -> list[int]:
        """The coordinates with f_i = v (1 - s_i) for some v, so that z_i = v for every x.

        Such a v is the stationary mean. Under a matrix S a coordinate hears the others, so none is
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
    def kept_codes(self) -> Float64[Tensor, "N kept"]:
        """f of the kept coordinates, (N, kept)."""
        return self.codes[:, self.kept]

    @cached_property
    def kept_scales(self) -> Float64[Tensor, "N kept"]:
        """s of the kept coordinates, (N, kept)."""
        return self.scales[:, self.kept]

    @cached_property
    def kept_rates(self) -> Float64[Tensor, "N kept"]:
        """-log s of the kept coordinates, (N, kept)."""
        return self.rates[:, self.kept]

    # -- the rate and its ceilings

    @cached_property
    def whole_rate(self) -> float:
        """The rate over all coordinates, including void ones."""
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

        It does for codes that are a function of x. If codes change from pass to pass, one pass does
        not show their ceiling.
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
        """A rigorous upper bound: the least of R, H(codes) and sum_i min(R_i, H(codes_i))."""
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
        """The largest R_A / H(f_A) over subsets A of coordinates, with codes counted in cells.

        The second value says whether all subsets that matter were checked; see `ceilings.margin`.
        """
        return ceilings.margin(self.cells.floor(), self.rate_of, self.diagonal)

    @cached_property
    def margin_of_values(self) -> tuple[float, bool]:
        """The same, with codes counted by value."""
        return ceilings.margin(self.kept_codes, self.rate_of, self.diagonal)

    # -- the resolution

    @cached_property
    def noisy(self) -> Float64[Tensor, "N kept"]:
        """z of the kept coordinates, (N, kept)."""
        return self.z.double()[:, self.kept]

    @cached_property
    def width(self) -> Float64[Tensor, " kept"]:
        """The range of each z_i, (kept,)."""
        return (self.noisy.amax(0) - self.noisy.amin(0)).clamp(min=1e-300)

    @cached_property
    def cells(self) -> Float64[Tensor, "N kept"]:
        """f in units of cells, (N, kept). There are CELLS of them over the range of z."""
        return (self.kept_codes - self.noisy.amin(0)) * (CELLS / self.width)

    @cached_property
    def digits(self) -> Float64[Tensor, " kept"]:
        """The spacing of floating-point numbers at each z_i, (kept,), in the type handed on."""
        return torch.finfo(self.z.dtype).eps * self.noisy.abs().amax(0)

    @cached_property
    def seen(self) -> float:
        """The part of the rate that is seen in CELLS cells per coordinate."""
        each = [_seen_in_cells(e, s) for e, s in zip(self._draws.unbind(1), self.kept_scales.unbind(1), strict=True)]
        noise = (self.kept_scales.T @ self.kept_scales / self.n) * self.covariance
        seen = math.fsum(min(i, r) for i, r in zip(each, self.rate_of, strict=True))
        return seen - _lost_jointly(self.covariance, noise, self.width / CELLS)

    @property
    def _draws(self) -> Float64[Tensor, "draws kept"]:
        """Draws of the noise e, (_DRAWS, kept)."""
        generator = torch.Generator(self.bank.f.device).manual_seed(0)
        return self.bank.draw(self.replica, _DRAWS, generator).double()[:, self.kept]

    # -- dependence between coordinates

    @cached_property
    def covariance(self) -> Float64[Tensor, "kept kept"]:
        """The covariance of z, (kept, kept), from the reference codes."""
        return self.bank.covariance[self.replica][self.kept][:, self.kept]

    @cached_property
    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of the covariance of z, scaled by E f_i^2."""
        if not self.kept:
            return math.inf
        scale = self.kept_codes.square().mean(0).clamp(min=1e-300).sqrt()
        return float(torch.linalg.eigvalsh(self.covariance / scale / scale.unsqueeze(-1))[0])

    @cached_property
    def few_valued(self) -> float:
        """The result of `ceilings.few_valued`, for two and three coordinates."""
        return ceilings.few_valued(self.kept_codes, self.kept_rates)

    @cached_property
    def crowded(self) -> tuple[float, bool]:
        """The result of `ceilings.crowded_flats`, for more coordinates."""
        return ceilings.crowded_flats(self.cells, self.kept_rates)

    # -- the noise

    @cached_property
    def tail(self) -> float:
        """A bound on the information in the echo terms that were left out."""
        return float(self.bank.tail[self.replica])

    @cached_property
    def systematic(self) -> float:
        """A bound on the systematic error: the tail and, above noise, the finite bank."""
        return self.tail if self.first else self.tail + _REFERENCE_BIAS * len(self.kept) / self.bank.size

    @cached_property
    def stderr(self) -> float:
        """The standard error: 0 for a first layer, whose law is the probe.

        For a layer above noise it covers the noisy codes and the finite bank.
        """
        if self.first:
            return 0.0
        sampling = float(self.kept_rates.sum(-1).std()) / math.sqrt(self.n)
        return sampling + _bank_noise(self.kept_codes, self.kept_scales, self.bank.size)

    @cached_property
    def shift(self) -> float:
        """The largest distance between the means of f, f^2 and s in the bank and in the probe.

        It is in standard deviations for a first layer, whose codes must be the same, and in
        standard errors of two samples for a layer above noise.
        """
        here, there = self.codes, self.bank.f[self.replica].double()
        here, there = torch.cat([here, here.square()], 1), torch.cat([there, there.square()], 1)
        if self.diagonal_bank:
            here = torch.cat([here, self.scales], 1)
            there = torch.cat([there, self.bank.s[self.replica].double()], 1)
        one, other = (1, 1) if self.first else (len(here), len(there))
        spread = (here.var(0) / one + there.var(0) / other).sqrt()
        distance = (here.mean(0) - there.mean(0)).abs()
        # two passes round differently, so a constant that differs in its last digits has not moved
        rounding = (1e-2 if self.first else 1e-6) * here.square().mean(0).sqrt() + 1e-300
        return float((distance / torch.maximum(spread, rounding)).max())

    @property
    def diagonal_bank(self) -> bool:
        """Whether the bank holds diagonals rather than matrices."""
        return self.bank.s.dim() == self.bank.f.dim()


def _seen_in_cells(e: Tensor, s: Tensor) -> float:
    """Measure I(Z_i;X) of one coordinate in CELLS cells over the range of its noise.

    Every coordinate is an Echo channel of its own. Seen in cells of width d, Z_i given x is e_i
    seen in cells of width d / s_i(x), so

        I_d = E_x [ H_d(e_i) - H_{d / s_i(x)}(e_i) ]

    This tends to -E log s_i if e_i has a density, and is smaller where cells of width d do not show
    that density yet.

    Args:
        e: Draws of e_i, (draws,).
        s: The scales s_i, (N,).

    Returns:
        I_d, in nats.
    """
    entropies = _entropies_of_doubled_cells(e)
    coarser = (-s.log2()).clamp(0.0, len(entropies) - 1.0).cpu().numpy()
    given = np.interp(coarser, np.arange(len(entropies)), entropies)
    return entropies[0] - float(given.mean())


def _entropies_of_doubled_cells(e: Tensor) -> list[float]:
    """Measure the entropy of e in cells of doubling width, from 1/CELLS of its range to one cell.

    Miller and Madow's correction for the bias of the counts is added.
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
    """Compute the information in oblique directions that cells hide, for Gaussian z, in nats.

    Coordinates that are nearly equal may differ by less than a cell. A cell acts like uniform noise
    of variance width^2 / 12.

    Args:
        covariance: The covariance of z, (K, K).
        noise: The covariance of z given x, (K, K).
        cell: The widths of the cells, (K,).
    """
    blur = torch.diag(cell.square() / 12)
    lost = _gaussian_information(covariance, noise) - _gaussian_information(covariance + blur, noise + blur)
    return max(lost, 0.0) if math.isfinite(lost) else math.inf


def _gaussian_information(covariance: Tensor, noise: Tensor) -> float:
    """Compute the information of a Gaussian channel, in nats."""
    return 0.5 * float(torch.logdet(covariance) - torch.logdet(noise))


def _bank_noise(f: Tensor, s: Tensor, references: int) -> float:
    """Compute a standard error of I(Z_k;Z_{k-1}) for finitely many reference codes, in nats.

    The relative error of their variance has standard deviation sqrt((kurtosis - 1) / references),
    and the information is off by (1 - E s^2) / 2 of it. The errors are added over coordinates, as
    if all erred together.
    """
    centred = f - f.mean(0)
    variance = centred.square().mean(0).clamp(min=1e-300)
    kurtosis = centred.pow(4).mean(0) / variance.square()
    share = ((kurtosis - 1.0).clamp(min=0.0) / references).sqrt()
    return float((0.5 * (1.0 - s.square().mean(0)) * share).sum())
