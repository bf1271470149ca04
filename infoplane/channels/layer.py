"""The Echo layer: a noisy bottleneck that any network can hold, and that knows the information it lets through."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, interpolate, logsigmoid

from ..records import InfoplaneError, choose
from ..replicas import ReplicaLinear, Streams
from .bank import Bank
from .echo import apply_scale, compose_scale, echo_noise, moment_step

__all__ = ["MIXINGS", "SCALES", "Echo", "Passed"]

SCALES = ("input", "constant")
MIXINGS = ("diagonal", "rotation", "full")
Phase = Literal["auto", "pass", "draw", "mean", "replay"]
_POOLS: dict[int, Callable[[Tensor, Any], Tensor]] = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d}


class Passed(NamedTuple):
    """What went through an Echo layer in one call: f, log_s and z, each (R, B, K); z in the type it is handed on in."""

    f: Tensor
    log_s: Tensor
    z: Tensor


class Echo(nn.Module):
    """z = f + S(f) e, with e an echo of other inputs: I(Z;X) = -E log |det S| (see `channels.echo`).

    The layer's input is f itself, so a layer is inserted behind any other without changing it; a map of more than one
    axis is flattened, and one echo is one sample in all its coordinates. log s = log(bound) + logsigmoid(a) with `a` an
    affine function of f (scale="input") or a constant of each unit (scale="constant"): the bound multiplies, it does
    not clamp, so its gradient never vanishes.

    features: K. bound: r < 1, the largest s; the rate cannot fall below -K log r.
    echoes: M, the terms of an echo while training; a power of two, and a batch must hold M + 1 rows.
    bias: the starting value of `a`; -3 starts quiet, with s about bound / 21.
    mixing: "diagonal"; "rotation", S = Q diag(s) with a fixed random rotation Q; "full", S = U(f) diag(s) V(f)' with
        orthogonal U, V, so that sup ||S|| <= r, without which powers of S(x) can grow whatever their spectral radius.
    shuffle: draw a random order of the batch for its echoes; False where the rows come in random order anyway.
    replicas: R; inputs are then (R, B, K).
    pool: (h, w) of a map's code, or (l,): the map, (B, C, H, W) or (B, C, L), is averaged over h x w areas, the channel
        acts on these K = C h w numbers, and z is spread over the areas (nearest), so that the map keeps its shape.

    Compiled models run it uncompiled (a break in the graph): sampler and rate are never the compiler's.
    In training mode the echoes come from the batch itself, with their gradient, and `rate` answers for that call. In
    eval mode they are drawn from the `bank` (`infoplane.fill_banks`), and without one from the batch, if it is large
    enough.
    """

    def __init__(
        self,
        features: int,
        *,
        bound: float = 0.9155,
        echoes: int = 64,
        bias: float = -3.0,
        scale: str = "input",
        mixing: str = "diagonal",
        shuffle: bool = True,
        replicas: int = 1,
        rotation_seed: int = 0,
        pool: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if features < 1:
            raise InfoplaneError(f"Echo: features={features}; expected at least 1.")
        if not 0.0 < bound < 1.0:
            raise InfoplaneError(f"Echo: bound={bound}; expected a number between 0 and 1, both excluded.")
        if echoes < 1 or echoes & (echoes - 1):
            raise InfoplaneError(f"Echo: echoes={echoes}; expected a power of two (..., 16, 32, 64, ...).")
        if pool is not None and (len(pool) not in _POOLS or min(pool) < 1 or features % math.prod(pool)):
            raise InfoplaneError(
                f"Echo: pool={pool}, features={features}; expected one or two sizes whose product divides the features."
            )
        self.features = features
        self.pool = None if pool is None else tuple(pool)
        self.bound = bound
        self.echoes = echoes
        self.scale = choose(scale, SCALES, "scale of an Echo layer")
        self.mixing = choose(mixing, MIXINGS, "mixing of an Echo layer")
        self.shuffle = shuffle
        self.replicas = replicas

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

        self.streams: Streams | None = None
        self.bank: Bank | None = None
        self.phase: Phase = "auto"
        #: a list to which every call adds what passed; None: nobody watches
        self.watch: list[Passed] | None = None
        #: what comes out in the phase "replay", whatever goes in
        self.replay: Tensor | None = None
        self._rate: Tensor | None = None

    # -- the channel ------------------------------------------------------------------------------------------------

    def scales(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """log s (R, B, K) and S, (R, B, K) or (R, B, K, K), for f (R, B, K)."""
        if self.head is not None:
            a = self.head(f)
        else:
            assert self.log_odds is not None
            a = self.log_odds.expand_as(f)
        log_s = logsigmoid(a) + torch.log(torch.tensor(self.bound, dtype=f.dtype, device=f.device))
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

    def forward(self, h: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # asked first: importing the compiler to switch it off takes a second
            return cast(Tensor, torch.compiler.disable(self._through)(h))
        return self._through(h)

    def _through(self, h: Tensor) -> Tensor:
        with _full_precision(h):
            f = self.code(h)
            log_s, s = self.scales(f)
            if self.phase == "pass":
                z = f
            elif self.phase == "replay":
                assert self.replay is not None
                z = self.replay.to(f.dtype)
            elif self.phase == "mean":
                z = f + apply_scale(s, self._filled().mean.to(f.dtype).unsqueeze(-2).expand_as(f))
            elif self.phase == "draw" or (not self.training and self.bank is not None):
                z = f + apply_scale(s, self._filled().noise(f.shape[-2], self._streams(f)))
            else:
                z = f + apply_scale(s, self._echoes(f, s))
            if self.training and self.phase == "auto":
                self._rate = -log_s.sum(-1).mean(-1)
        # Under autocast what follows casts as it needs; a network that is itself of half precision wants its own type.
        if not torch.is_autocast_enabled(h.device.type):
            z = z.to(h.dtype)
        if self.watch is not None:  # copies, for what follows may work in place, on z as on what f is a view of
            self.watch.append(Passed(f.detach().clone(), log_s.detach(), z.detach().clone()))
        if self.phase == "replay":
            z = z.clone()
        return self._spread(z, h)

    def code(self, h: Tensor) -> Tensor:
        """What the channel acts on, (R, B, K) and at least float32, of what went into the layer."""
        if self.pool is not None:
            return self._pooled(h)
        if self.replicas > 1 and (h.dim() < 3 or h.shape[0] != self.replicas):
            raise InfoplaneError(f"Echo got {tuple(h.shape)}; expected ({self.replicas}, B, {self.features}).")
        # (1, B, K) from our own networks' replica axis, or (B, ...) from anybody's module
        stacked = self.replicas > 1 or (h.dim() == 3 and h.shape[0] == 1 and h.shape[2] == self.features)
        f = h.flatten(2) if stacked else h.flatten(1).unsqueeze(0)
        if f.shape[-1] != self.features:
            raise InfoplaneError(f"Echo got {tuple(h.shape)}, {f.shape[-1]} numbers a row; expected {self.features}.")
        return f if f.dtype == torch.float64 else f.float()

    def _pooled(self, h: Tensor) -> Tensor:
        assert self.pool is not None
        axes = len(self.pool)
        stacked = h.dim() == axes + 3
        channels = self.features // math.prod(self.pool)
        wanted = len(h) == self.replicas if stacked else self.replicas == 1 and h.dim() == axes + 2
        if not wanted or h.shape[-axes - 1] != channels:
            front = f"({self.replicas}, B" if self.replicas > 1 else "(B"
            raise InfoplaneError(
                f"Echo got {tuple(h.shape)}; expected {front}, {channels}, {', '.join('HW' if axes == 2 else 'L')})."
            )
        if any(size < cells for size, cells in zip(h.shape[-axes:], self.pool, strict=True)):
            raise InfoplaneError(
                f"Echo got {tuple(h.shape)}, a map smaller than its code; expected at least {self.pool}."
            )
        f = (h.flatten(0, 1) if stacked else h).contiguous()
        f = _POOLS[axes](f if f.dtype == torch.float64 else f.float(), self.pool)
        return f.reshape(self.replicas, -1, self.features)

    def _spread(self, z: Tensor, h: Tensor) -> Tensor:
        """z (R, B, K) in the shape of h."""
        if self.pool is None:
            return z.reshape(h.shape)
        axes = len(self.pool)
        cells = z.reshape(-1, h.shape[-axes - 1], *self.pool)
        return interpolate(cells, size=h.shape[-axes:], mode="nearest").reshape(h.shape)

    def code_of_output(self, out: Tensor) -> Tensor:
        """z, (R, B, K), of what came out of a layer that pools: one place of every area."""
        assert self.pool is not None
        for axis, cells in zip(range(-len(self.pool), 0), self.pool, strict=True):
            area = interpolate(torch.arange(cells).float().view(1, 1, -1), size=out.shape[axis], mode="nearest")
            places = torch.searchsorted(area.flatten(), torch.arange(cells).float())
            out = out.index_select(axis, places.to(out.device))
        return out.reshape(self.replicas, -1, self.features)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Echo:
        """Move or convert, but never below float32: a model in .half() keeps its Echo layers in full precision."""

        def keep(t: Tensor) -> Tensor:
            out = fn(t)
            return t.to(out.device) if out.is_floating_point() and out.dtype.itemsize < 4 else out

        return cast(Echo, super()._apply(keep, recurse))  # type: ignore[no-untyped-call]

    def _echoes(self, f: Tensor, s: Tensor) -> Tensor:
        """Live echoes of the batch, ended with a Gaussian of the running stationary moments."""
        streams = self._streams(f)
        if f.shape[-2] <= self.echoes:
            raise InfoplaneError(
                f"Echo got a batch of {f.shape[-2]} rows; {self.echoes} echoes need at least {self.echoes + 1}. Use a "
                "larger batch, fewer echoes, or in eval mode a bank (infoplane.fill_banks)."
            )
        if self.training:
            self._follow(f.detach(), s.detach())
        covariance = self.end_second - self.end_mean.unsqueeze(-1) * self.end_mean.unsqueeze(-2)
        # a jitter far below what the tail is worth keeps the factor defined for a unit that is constant
        jitter = 1e-6 * self.end_second.diagonal(dim1=-2, dim2=-1) + 1e-12
        root, _ = torch.linalg.cholesky_ex(covariance + torch.diag_embed(jitter))
        xi = streams.normal(f.shape[-2], self.features, dtype=f.dtype)
        end = self.end_mean.unsqueeze(-2).to(f.dtype) + xi @ root.to(f.dtype).transpose(-1, -2)
        order = streams.permutations(f.shape[-2]) if self.shuffle else None
        return echo_noise(f, s, echoes=self.echoes, end=end, order=order)

    @torch.no_grad()
    def _follow(self, f: Tensor, s: Tensor) -> None:
        """One step of the contraction whose fixed point the stationary moments are, averaged over batches."""
        mean, second = moment_step(f, s, self.end_mean.to(f.dtype), self.end_second.to(f.dtype))
        weight = (1.0 / (1.0 + self.end_count)).clamp(min=0.1)
        self.end_mean.lerp_(mean.to(self.end_mean.dtype), weight)
        self.end_second.lerp_(second.to(self.end_second.dtype), weight)
        self.end_count += 1.0

    def _filled(self) -> Bank:
        if self.bank is None:
            raise InfoplaneError("This Echo layer has no bank of reference codes: call infoplane.fill_banks(model, x).")
        return self.bank

    def _streams(self, f: Tensor) -> Streams:
        streams = self.streams or Streams([None] * self.replicas, f.device)
        if len(streams) != self.replicas:
            raise InfoplaneError(f"Echo has {self.replicas} replicas and {len(streams)} random streams.")
        return streams

    # -- what it knows ------------------------------------------------------------------------------------------------

    @property
    def rate(self) -> Tensor:
        """(R,), or a scalar for one replica: the batch mean of -log |det S| in the last training call, nats.

        For a layer above another Echo layer this is an approximation while training (rows share the lower layer's
        echoes); a Recorder measures it with independent reference codes.
        """
        if self._rate is None:
            raise InfoplaneError("This Echo layer has no rate yet: call the model in training mode first.")
        return self._rate.squeeze(0) if self.replicas == 1 else self._rate

    @property
    def floor(self) -> float:
        """-K log r, the least rate the layer can have, nats."""
        return float(-self.features * torch.log(torch.tensor(self.bound, dtype=torch.float64)))

    def __getstate__(self) -> dict[str, object]:
        # The last rate holds a graph, the streams hold generators, and a bank belongs to these very weights: a copy of
        # the layer starts without them.
        return self.__dict__ | {
            "_rate": None,
            "watch": None,
            "streams": None,
            "bank": None,
            "phase": "auto",
            "replay": None,
        }

    def extra_repr(self) -> str:
        text = f"{self.features}, bound={self.bound}, echoes={self.echoes}, scale={self.scale}, mixing={self.mixing}"
        text += "" if self.pool is None else f", pool={self.pool}"
        return text + (f", replicas={self.replicas}" if self.replicas > 1 else "")


def _full_precision(h: Tensor) -> AbstractContextManager[object]:
    """float32 under autocast: bfloat16 would round s = .999 to 1."""
    if torch.is_autocast_enabled(h.device.type):
        return torch.autocast(h.device.type, enabled=False)
    return nullcontext()
