"""The Echo layer: a noisy bottleneck for any network, with a known rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..errors import InfoplaneError, choose
from ..nn.replicas import ReplicaLinear
from .bank import Bank
from .channel import Channel
from .echo import apply_scale, compose_scale, echo_noise, moment_step

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["MIXINGS", "SCALES", "Echo"]

SCALES = ("input", "constant")
MIXINGS = ("diagonal", "rotation", "full")
#: A layer wider than WIDE updates its moments at the first FIRST batches and then at one batch in
#: FOLLOWED, because the moments would otherwise take longer than its echoes.
WIDE, FIRST, FOLLOWED = 64, 80, 8


V = TypeVar("V")


class _Kept(NamedTuple, Generic[V]):
    """A value that was computed from tensors, with the versions that these had."""

    value: V
    sources: tuple[Tensor, ...]
    versions: tuple[float, ...]

    @classmethod
    def of(cls, value: V, *sources: Tensor) -> _Kept[V]:
        """Keep a value with the tensors that it was computed from."""
        return cls(value, sources, tuple(map(_version, sources)))

    def still(self, *sources: Tensor) -> bool:
        """Return whether these are the same tensors, unchanged since."""
        same = all(a is b for a, b in zip(self.sources, sources, strict=True))
        return same and self.versions == tuple(map(_version, sources))


def _version(t: Tensor) -> float:
    """Return how often t has been written to; NaN, which equals nothing, if that is not counted."""
    return math.nan if t.is_inference() else t._version


class Echo(Channel):
    """Echo noise, z = f + S(f) e, where e is an echo of the codes of other inputs.

        e = f(x0) + S(x0) [ f(x1) + S(x1) [ f(x2) + ... ] ],    x, x0, x1, ... iid

    The input of the layer is f itself, so a layer can be put behind any other without changing it.
    The scales are log s = log(max_scale) + logsigmoid(a), where a is an affine function of f
    (scale="input") or a constant of each unit (scale="constant"). max_scale multiplies and does not
    clamp, so the gradient never vanishes.

    In training mode the echoes come from the other rows of the batch, with their gradient, and
    `rate` is -log |det S| averaged over the batch. In eval mode they are drawn from the layer's
    `bank` of reference codes (see `fill_banks`), or, without a bank, from the batch if it is large
    enough.

    **When the rate is exact.** For the ideal channel, with infinitely many terms and inputs iid
    from one law q, I(Z;X) <= R = -E log |det S(x)| whenever ||S|| <= r < 1 and E log(1 + |f|) is
    finite. Equality holds where the law of e has a density of finite entropy. A network on N inputs
    meets this only approximately, so a `Recorder` judges every rate by a certificate (see
    `Certificate`). The rate has the standing "exact" only if all conditions hold:

    - S is diagonal, and at most 64 coordinates are not constant (constant ones are left out);
    - every set of coordinates has a rate of at most 0.6 times the entropy of its codes;
    - the coordinates are not linearly dependent, and no linear combination of them was found to
      take few values;
    - the echoes are so long that their missing tail is worth at most 1e-3 nats, and the reference
      codes were made with the present weights from the measured inputs, at least 4096 of them for a
      layer above noise;
    - the code of an input depends on neither the other inputs of its batch nor the pass (dropout);
    - the rate is seen at a finite resolution (below).

    Any other rate is reported as an upper bound, or as an estimate if its echoes do not follow the
    law of the inputs, with a warning that gives the reason. The conditions are checks and not a
    proof, because no search covers every combination of coordinates.

    **What "exact" asserts.** |value - I| <= error + k stderr, where

    - law: I is I(Z;X) for x uniform on the N inputs of the probe and frozen weights, so it cannot
      exceed ln N. It is not the information under the population that the inputs came from. For a
      layer above noise, I is I(Z_k;Z_{k-1}), the information about the noisy code that enters it,
      and I(Z_k;X) is only bounded from above.
    - resolution: I is read from z in 1000 cells per coordinate, over its range. At most 2 % of the
      rate plus 0.01 nats lie in finer digits.
    - error: `error` is the sum of 1/2 sum_i (E s_i^2)^M for the missing tail (M being the number of
      terms drawn from the bank), the part of the rate that is not seen at that resolution, and, for
      a layer above noise, K nats / references.
      `stderr` is 0 for a first layer, whose law is the probe itself. For a layer above noise it
      covers the sampled codes and the finite bank.

    In training, `rate` carries no certificate. If the rows of a batch are iid, each row hears an
    echo of exactly M terms, ended with a Gaussian that has the stationary moments; its information
    differs from R by about 1/2 sum_i (E s_i^2)^M. For a layer above another Echo layer the rate is
    an approximation in training, because the rows share the echoes of the layer below.

    Args:
        features: K, the number of coordinates.
        max_scale: r, the largest s, between 0 and 1. The rate cannot fall below -K ln r.
        echoes: M, the number of terms of an echo in training; a power of two. A batch must hold at
            least M + 1 rows.
        bias: The starting value of a. The default of -3 starts quiet, with s about max_scale / 21.
        scale: "input" or "constant".
        mixing: "diagonal"; "rotation" for S = Q diag(s) with a fixed random rotation Q; or "full"
            for S = U(f) diag(s) V(f)' with orthogonal U and V. All keep sup ||S|| <= r. (A spectral
            radius below 1 would not be enough, because products of different S(x) can grow.)
        shuffle: Whether to draw a random order of the batch for its echoes. False suits rows that
            already come in random order.
        replicas: R. With more than one, inputs are (R, B, ...).
        rotation_seed: The seed of Q.
        pool: The areas that a feature map is averaged over; see `Channel`.

    Raises:
        InfoplaneError: An option is not one of those above.

    Example:
        >>> import infoplane as ip
        >>> import torch
        >>> layer = ip.Echo(3, echoes=16, scale="constant", bias=0.0, max_scale=0.9)
        >>> z = layer(torch.randn(100, 3, generator=torch.Generator().manual_seed(0)))
        >>> z.shape, round(layer.rate.item(), 4)  # -3 ln(0.9 / 2)
        (torch.Size([100, 3]), 2.3955)

    References:
        Brekelmans, Moyer, Galstyan & Ver Steeg, "Exact Rate-Distortion in Autoencoders via Echo
        Noise", 2019.
    """

    kind = "echo"
    _counted: _Kept[int] | None = None
    _rooted: _Kept[Tensor] | None = None

    def __init__(
        self,
        features: int,
        *,
        max_scale: float = 0.9155,
        echoes: int = 64,
        bias: float = -3.0,
        scale: str = "input",
        mixing: str = "diagonal",
        shuffle: bool = True,
        replicas: int = 1,
        rotation_seed: int = 0,
        pool: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(features, replicas=replicas, pool=pool)
        if not 0.0 < max_scale < 1.0:
            raise InfoplaneError(f"Echo: max_scale={max_scale}; expected a number between 0 and 1, both excluded.")
        if echoes < 1 or echoes & (echoes - 1):
            raise InfoplaneError(f"Echo: echoes={echoes}; expected a power of two (..., 16, 32, 64, ...).")
        self.max_scale = max_scale
        self.echoes = echoes
        self.scale = choose(scale, SCALES, "scale of an Echo layer")
        self.mixing = choose(mixing, MIXINGS, "mixing of an Echo layer")
        self.shuffle = shuffle

        self.head: ReplicaLinear | None = None
        self.log_odds: nn.Parameter | None = None
        if scale == "input":
            self.head = ReplicaLinear(features, features, replicas)
            nn.init.constant_(self.head.bias, bias)
        else:
            self.log_odds = nn.Parameter(torch.full((replicas, 1, features), float(bias)))
        self.register_buffer("rotation", None)
        self.rotation: Tensor | None
        self.skew: ReplicaLinear | None = None
        if mixing == "rotation":
            generator = torch.Generator().manual_seed(rotation_seed)
            q, r = torch.linalg.qr(torch.randn(features, features, generator=generator))
            self.register_buffer("rotation", q * r.diagonal().sign())
        elif mixing == "full":
            self.skew = ReplicaLinear(features, features * (features - 1), replicas)

        # Running moments of Z, from which the innermost bracket of an echo is drawn in training.
        self.end_mean: Tensor
        self.end_second: Tensor
        self.end_count: Tensor
        self.register_buffer("end_mean", torch.zeros(replicas, features))
        self.register_buffer("end_second", torch.zeros(replicas, features, features))
        self.register_buffer("end_count", torch.zeros(()))

        self.bank: Bank | None = None

    # -- the channel

    def scales(
        self, f: Float[Tensor, "R B K"]
    ) -> tuple[Float[Tensor, "R B K"], Float[Tensor, "R B K"] | Float[Tensor, "R B K K"]]:
        """Compute log s and S for codes f.

        Args:
            f: (R, B, K).

        Returns:
            log s, (R, B, K), and S: its diagonal, (R, B, K), or (R, B, K, K).
        """
        if self.head is not None:
            a = self.head(f)
        else:
            assert self.log_odds is not None
            a = self.log_odds.expand_as(f)
        log_s = logsigmoid(a) + torch.log(torch.tensor(self.max_scale, dtype=f.dtype, device=f.device))
        left, right = self.rotation, None
        if self.skew is not None:
            left, right = self._orthogonal(self.skew(f))
        return log_s, compose_scale(log_s, left, right)

    def _orthogonal(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """Make two orthogonal matrices per row of (R, B, K(K-1)) free numbers.

        Each is the exponential of a skew-symmetric matrix.
        """
        k = self.features
        rows, columns = torch.triu_indices(k, k, 1, device=entries.device)
        upper = entries.new_zeros(*entries.shape[:-1], 2, k, k)
        upper[..., rows, columns] = entries.unflatten(-1, (2, -1))
        orthogonal = torch.linalg.matrix_exp(upper - upper.transpose(-1, -2))
        return orthogonal[..., 0, :, :], orthogonal[..., 1, :, :]

    def transmit(
        self, f: Float[Tensor, "R B K"], s: Float[Tensor, "R B K"] | Float[Tensor, "R B K K"]
    ) -> Float[Tensor, "R B K"]:
        """Add the noise.

        Args:
            f: (R, B, K).
            s: S, (R, B, K) or (R, B, K, K).

        Returns:
            z, (R, B, K).

        Raises:
            InfoplaneError: There is no bank, and the batch is too small or the phase needs one.
        """
        if self.phase == "mean":
            return f + apply_scale(s, self._filled().mean.to(f.dtype).unsqueeze(-2).expand_as(f))
        if self.phase == "draw" or (not self.training and self.bank is not None):
            return f + apply_scale(s, self._filled().noise(f.shape[-2], self.streams_of(f)))
        return f + apply_scale(s, self._echoes(f, s))

    def rate_of(self, f: Float[Tensor, "R B K"], log_s: Float[Tensor, "R B K"]) -> Float[Tensor, " R"]:
        """Average -log |det S| over the batch.

        For a layer above another Echo layer this is an approximation in training, because the rows
        share the echoes of the layer below. A `Recorder` measures it with independent reference
        codes.

        Args:
            f: (R, B, K).
            log_s: (R, B, K).

        Returns:
            (R,), in nats.
        """
        return -log_s.sum(-1).mean(-1)

    def _echoes(self, f: Tensor, s: Tensor) -> Tensor:
        """Sum echoes of the batch, ended with a Gaussian of the running stationary moments."""
        streams = self.streams_of(f)
        if f.shape[-2] <= self.echoes:
            raise InfoplaneError(
                f"Echo got a batch of {f.shape[-2]} rows; {self.echoes} echoes need at least {self.echoes + 1}. Use a "
                "larger batch, fewer echoes, or in eval mode a bank (infoplane.fill_banks)."
            )
        if self.training:
            self._follow(f.detach(), s.detach())
        xi = streams.normal(f.shape[-2], self.features, dtype=f.dtype)
        end = self.end_mean.unsqueeze(-2).to(f.dtype) + xi @ self._end_root().to(f.dtype).transpose(-1, -2)
        order = streams.permutations(f.shape[-2]) if self.shuffle else None
        return echo_noise(f, s, echoes=self.echoes, end=end, order=order)

    @torch.no_grad()
    def _follow(self, f: Tensor, s: Tensor) -> None:
        """Move the running moments one step towards the stationary ones.

        The stationary moments are the fixed point of a contraction; its steps are averaged over
        batches. A wide layer skips most batches.
        """
        count = self._batches()
        if self.features <= WIDE or count < FIRST or count % FOLLOWED == 0:
            mean, second = moment_step(f, s, self.end_mean.to(f.dtype), self.end_second.to(f.dtype))
            weight = max(1.0 / (1.0 + count), 0.1)
            self.end_mean.lerp_(mean.to(self.end_mean.dtype), weight)
            self.end_second.lerp_(second.to(self.end_second.dtype), weight)
        self.end_count += 1.0
        self._counted = _Kept.of(count + 1, self.end_count)

    def _batches(self) -> int:
        """Return `end_count`. A GPU is asked for it only if something else may have changed it."""
        kept = self._counted
        known = kept is not None and self.end_count.device.type != "cpu" and kept.still(self.end_count)
        return kept.value if kept is not None and known else int(self.end_count)

    def _end_root(self) -> Tensor:
        """Factor the covariance that the moments imply, (R, K, K).

        For a wide layer the factor is kept until the moments move.
        """
        kept = self._rooted
        if kept is not None and self.features > WIDE and kept.still(self.end_mean, self.end_second):
            return kept.value
        covariance = self.end_second - self.end_mean.unsqueeze(-1) * self.end_mean.unsqueeze(-2)
        # a jitter far below the worth of the tail keeps the factor defined for a constant unit
        jitter = 1e-6 * self.end_second.diagonal(dim1=-2, dim2=-1) + 1e-12
        root: Tensor = torch.linalg.cholesky_ex(covariance + torch.diag_embed(jitter))[0]
        self._rooted = _Kept.of(root, self.end_mean, self.end_second)
        return root

    def _filled(self) -> Bank:
        """Return the bank, which must have been filled."""
        if self.bank is None:
            raise InfoplaneError("This Echo layer has no bank of reference codes; call infoplane.fill_banks(model, x).")
        return self.bank

    @property
    def floor(self) -> float:
        """The smallest rate that the layer can have, -K ln r, in nats."""
        return float(-self.features * torch.log(torch.tensor(self.max_scale, dtype=torch.float64)))

    def __getstate__(self) -> dict[str, object]:
        # the bank belongs to the present weights, and the kept values to the present tensors
        return super().__getstate__() | {"bank": None, "_counted": None, "_rooted": None}

    def extra_repr(self) -> str:
        text = f"{self.features}, max_scale={self.max_scale}, echoes={self.echoes}, scale={self.scale}"
        text += f", mixing={self.mixing}"
        text += "" if self.pool is None else f", pool={self.pool}"
        return text + (f", replicas={self.replicas}" if self.replicas > 1 else "")
