"""The Echo layer: a noisy bottleneck that any network can hold, and that knows the information it lets through."""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..errors import InfoplaneError, choose
from ..nn.replicas import ReplicaLinear
from .bank import Bank
from .channel import Channel
from .echo import apply_scale, compose_scale, echo_noise, moment_step

__all__ = ["MIXINGS", "SCALES", "Echo"]

SCALES = ("input", "constant")
MIXINGS = ("diagonal", "rotation", "full")
#: A layer wider than this, after its first batches, follows its moments at one in so many: they would take longer than
#: its echoes.
WIDE, FIRST, FOLLOWED = 64, 80, 8


V = TypeVar("V")


class _Kept(NamedTuple, Generic[V]):
    """A value made of tensors, and these as they were then."""

    value: V
    sources: tuple[Tensor, ...]
    versions: tuple[float, ...]

    @classmethod
    def of(cls, value: V, *sources: Tensor) -> _Kept[V]:
        return cls(value, sources, tuple(map(_version, sources)))

    def still(self, *sources: Tensor) -> bool:
        same = all(a is b for a, b in zip(self.sources, sources, strict=True))
        return same and self.versions == tuple(map(_version, sources))


def _version(t: Tensor) -> float:
    """How often t has been written to; not a number, which equals nothing, where nobody counts."""
    return math.nan if t.is_inference() else t._version


class Echo(Channel):
    """z = f + S(f) e, with e an echo of other inputs: I(Z;X) = -E log |det S| (see `channels.echo`).

    The layer's input is f itself, so a layer is inserted behind any other without changing it; a map of more than one
    axis is flattened, and one echo is one sample in all its coordinates. log s = log(max_scale) +
    logsigmoid(a) with `a` an affine function of f (scale="input") or a constant of each unit (scale="constant"):
    the largest scale multiplies, it does not clamp, so its gradient never vanishes.

    features: K. max_scale: r < 1, the largest s; the rate cannot fall below -K log r.
    echoes: M, the terms of an echo while training; a power of two, and a batch must hold M + 1 rows.
    bias: the starting value of `a`; -3 starts quiet, with s about max_scale / 21.
    mixing: "diagonal"; "rotation", S = Q diag(s) with a fixed random rotation Q; "full", S = U(f) diag(s) V(f)' with
        orthogonal U, V, so that sup ||S|| <= r, without which powers of S(x) can grow whatever their spectral radius.
    shuffle: draw a random order of the batch for its echoes; False where the rows come in random order anyway.
    replicas, pool: see `Channel`.

    In training mode the echoes come from the batch itself, with their gradient, and `rate` answers for that call. In
    eval mode they are drawn from the `bank` (`infoplane.fill_banks`), and without one from the batch, if it is large
    enough.
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

        # Running moments of Z: what the innermost bracket of a training echo is drawn from.
        self.end_mean: Tensor
        self.end_second: Tensor
        self.end_count: Tensor
        self.register_buffer("end_mean", torch.zeros(replicas, features))
        self.register_buffer("end_second", torch.zeros(replicas, features, features))
        self.register_buffer("end_count", torch.zeros(()))

        self.bank: Bank | None = None

    # -- the channel

    def scales(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """log s (R, B, K) and S, (R, B, K) or (R, B, K, K), for f (R, B, K)."""
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
        """Two orthogonal matrices a row from (R, B, K(K-1)) free numbers: exp of a skew-symmetric matrix each."""
        k = self.features
        rows, columns = torch.triu_indices(k, k, 1, device=entries.device)
        upper = entries.new_zeros(*entries.shape[:-1], 2, k, k)
        upper[..., rows, columns] = entries.unflatten(-1, (2, -1))
        orthogonal = torch.linalg.matrix_exp(upper - upper.transpose(-1, -2))
        return orthogonal[..., 0, :, :], orthogonal[..., 1, :, :]

    def transmit(self, f: Tensor, s: Tensor) -> Tensor:
        if self.phase == "mean":
            return f + apply_scale(s, self._filled().mean.to(f.dtype).unsqueeze(-2).expand_as(f))
        if self.phase == "draw" or (not self.training and self.bank is not None):
            return f + apply_scale(s, self._filled().noise(f.shape[-2], self.streams_of(f)))
        return f + apply_scale(s, self._echoes(f, s))

    def rate_of(self, f: Tensor, log_s: Tensor) -> Tensor:
        """The batch mean of -log |det S|.

        For a layer above another Echo layer this is an approximation while training (rows share the lower layer's
        echoes); a Recorder measures it with independent reference codes.
        """
        return -log_s.sum(-1).mean(-1)

    def _echoes(self, f: Tensor, s: Tensor) -> Tensor:
        """Live echoes of the batch, ended with a Gaussian of the running stationary moments."""
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
        """One step of the contraction whose fixed point the stationary moments are, averaged over batches; of a wide
        layer at some of them."""
        count = self._batches()
        if self.features <= WIDE or count < FIRST or count % FOLLOWED == 0:
            mean, second = moment_step(f, s, self.end_mean.to(f.dtype), self.end_second.to(f.dtype))
            weight = max(1.0 / (1.0 + count), 0.1)
            self.end_mean.lerp_(mean.to(self.end_mean.dtype), weight)
            self.end_second.lerp_(second.to(self.end_second.dtype), weight)
        self.end_count += 1.0
        self._counted = _Kept.of(count + 1, self.end_count)

    def _batches(self) -> int:
        """`end_count`, which a GPU is asked for only where it is not this layer's own count."""
        kept = self._counted
        known = kept is not None and self.end_count.device.type != "cpu" and kept.still(self.end_count)
        return kept.value if kept is not None and known else int(self.end_count)

    def _end_root(self) -> Tensor:
        """(R, K, K), a root of the covariance that the moments imply; of a wide layer made again where they moved."""
        kept = self._rooted
        if kept is not None and self.features > WIDE and kept.still(self.end_mean, self.end_second):
            return kept.value
        covariance = self.end_second - self.end_mean.unsqueeze(-1) * self.end_mean.unsqueeze(-2)
        # a jitter far below what the tail is worth keeps the factor defined for a unit that is constant
        jitter = 1e-6 * self.end_second.diagonal(dim1=-2, dim2=-1) + 1e-12
        root: Tensor = torch.linalg.cholesky_ex(covariance + torch.diag_embed(jitter))[0]
        self._rooted = _Kept.of(root, self.end_mean, self.end_second)
        return root

    def _filled(self) -> Bank:
        if self.bank is None:
            raise InfoplaneError("This Echo layer has no bank of reference codes: call infoplane.fill_banks(model, x).")
        return self.bank

    # -- what it knows

    @property
    def floor(self) -> float:
        """-K log r, the least rate the layer can have, nats."""
        return float(-self.features * torch.log(torch.tensor(self.max_scale, dtype=torch.float64)))

    def __getstate__(self) -> dict[str, object]:
        # a bank belongs to these very weights, and what is kept to these very tensors
        return super().__getstate__() | {"bank": None, "_counted": None, "_rooted": None}

    def extra_repr(self) -> str:
        text = f"{self.features}, max_scale={self.max_scale}, echoes={self.echoes}, scale={self.scale}"
        text += f", mixing={self.mixing}"
        text += "" if self.pool is None else f", pool={self.pool}"
        return text + (f", replicas={self.replicas}" if self.replicas > 1 else "")
