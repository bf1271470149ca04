"""The base class of all noisy layers: their code, the phases of measuring, and records of calls."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, interpolate

from ..errors import InfoplaneError
from ..nn.replicas import OwnWeights
from ..streams import Streams

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["Channel", "Crossing", "Phase"]

Phase = Literal["auto", "off", "draw", "mean", "replay"]
_POOLS: dict[int, Callable[[Tensor, Any], Tensor]] = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d}


class Crossing(NamedTuple):
    """The codes of one call of a noisy layer, before and after the noise.

    Args:
        f: (R, B, K), before the noise.
        log_s: (R, B, K), the logarithm of the scale of the noise: s of an Echo layer, the standard
            deviation of Gaussian noise.
        z: (R, B, K), after the noise, in the type in which it is handed on.
    """

    f: Float[Tensor, "R B K"]
    log_s: Float[Tensor, "R B K"]
    z: Float[Tensor, "R B K"]


class Channel(OwnWeights, nn.Module, ABC):
    """Base class of the noisy layers, z = f + noise, that keep the shape of their input.

    A map with more than one axis is flattened into a code of K numbers, and all coordinates of a
    code get the noise of one draw. A compiled model runs a noisy layer uncompiled (a break in the
    graph), so that the compiler never rewrites the sampler or the rate.

    A subclass sets `kind` and defines `scales`, `transmit` and `rate_of`.

    Args:
        features: K, the number of coordinates of the code.
        replicas: R. With more than one, inputs are (R, B, ...).
        pool: (h, w), or (l,), for a feature map. The map, (B, C, H, W) or (B, C, L), is averaged
            over h x w areas, the channel acts on these K = C h w numbers, and z is spread over the
            areas (nearest), so that the map keeps its shape.

    Attributes:
        phase: "auto" follows the mode of the module; "draw" adds a fresh draw of the noise, "mean"
            the mean of the noise, "off" nothing, and "replay" returns the content of `replay`.
        watch: A list to which every call adds a `Crossing`, or None.
        replay: The output in the phase "replay", whatever the input.
        streams: The generators of the noise; None for PyTorch's global one.

    Raises:
        InfoplaneError: `features` or `pool` is impossible.

    Example:
        >>> import infoplane as ip
        >>> issubclass(ip.Echo, ip.channels.Channel), ip.channels.Gaussian.kind
        (True, 'gaussian')
    """

    #: the text in the column `channel`, one of `names.CHILDREN`
    kind: ClassVar[str]
    #: whether the layer has a rate to train with
    rated: ClassVar[bool] = True

    def __init__(self, features: int, *, replicas: int = 1, pool: tuple[int, ...] | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        if features < 1:
            raise InfoplaneError(f"{name}: features={features}; expected at least 1.")
        if pool is not None and (len(pool) not in _POOLS or min(pool) < 1 or features % math.prod(pool)):
            raise InfoplaneError(
                f"{name}: pool={pool}, features={features}; expected one or two sizes whose product divides the "
                "number of features."
            )
        self.features = features
        self.pool = None if pool is None else tuple(pool)
        self.replicas = replicas
        self.streams: Streams | None = None
        self.phase: Phase = "auto"
        self.watch: list[Crossing] | None = None
        self.replay: Tensor | None = None
        self._rate: Tensor | None = None

    # -- to be defined by a subclass

    @abstractmethod
    def scales(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logarithm of the scale of the noise, (R, B, K), and the scale itself."""

    @abstractmethod
    def transmit(self, f: Tensor, s: Tensor) -> Tensor:
        """Add noise of scale s to f, in the phases "auto", "draw" and "mean"."""

    @abstractmethod
    def rate_of(self, f: Tensor, log_s: Tensor) -> Tensor:
        """Compute the rate of a training call, (R,), in nats."""

    # -- the call

    def forward(self, h: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Add noise to the code of h.

        Args:
            h: (B, ...), or (R, B, ...) with replicas; K numbers per row, or a map to be pooled.

        Returns:
            z in the shape and type of h.

        Raises:
            InfoplaneError: The shape of h does not fit the layer.
        """
        if torch.compiler.is_compiling():  # asked first, because importing the compiler takes a second
            return cast(Tensor, torch.compiler.disable(self._through)(h))
        return self._through(h)

    def _through(self, h: Tensor) -> Tensor:
        """Run the channel in its phase, and record the rate and the crossing."""
        with _full_precision(h):
            f = self.code(h)
            log_s, s = self.scales(f)
            if self.phase == "off":
                z = f
            elif self.phase == "replay":
                assert self.replay is not None
                z = self.replay.to(f.dtype)
            else:
                z = self.transmit(f, s)
            if self.training and self.phase == "auto":
                self._rate = self.rate_of(f, log_s)
        # Under autocast the next layer casts as it needs; a half-precision network needs its own.
        if not torch.is_autocast_enabled(h.device.type):
            z = z.to(h.dtype)
        if self.watch is not None:  # copies, because the next layer may work in place on z or on h
            self.watch.append(Crossing(f.detach().clone(), log_s.detach(), z.detach().clone()))
        if self.phase == "replay":
            z = z.clone()
        return self._spread(z, h)

    def code(self, h: Float[Tensor, "*any"]) -> Float[Tensor, "R B K"]:
        """Make the code that the channel acts on.

        Args:
            h: The input of the layer.

        Returns:
            f, (R, B, K), in float32 or float64.

        Raises:
            InfoplaneError: The shape of h does not fit the layer.
        """
        if self.pool is not None:
            return self._pooled(h)
        name = type(self).__name__
        if self.replicas > 1 and (h.dim() < 3 or h.shape[0] != self.replicas):
            raise InfoplaneError(f"{name} got {tuple(h.shape)}; expected ({self.replicas}, B, {self.features}).")
        # (1, B, K) from a network with a replica axis, or (B, ...) from any other module
        stacked = self.replicas > 1 or (h.dim() == 3 and h.shape[0] == 1 and h.shape[2] == self.features)
        f = h.flatten(2) if stacked else h.flatten(1).unsqueeze(0)
        if f.shape[-1] != self.features:
            raise InfoplaneError(
                f"{name} got {tuple(h.shape)}, {f.shape[-1]} numbers per row; expected {self.features}."
            )
        return f if f.dtype == torch.float64 else f.float()

    def _pooled(self, h: Tensor) -> Tensor:
        """Average a map over areas: (R, B, K)."""
        assert self.pool is not None
        name, axes = type(self).__name__, len(self.pool)
        stacked = h.dim() == axes + 3
        channels = self.features // math.prod(self.pool)
        wanted = len(h) == self.replicas if stacked else self.replicas == 1 and h.dim() == axes + 2
        if not wanted or h.shape[-axes - 1] != channels:
            front = f"({self.replicas}, B" if self.replicas > 1 else "(B"
            raise InfoplaneError(
                f"{name} got {tuple(h.shape)}; expected {front}, {channels}, {', '.join('HW' if axes == 2 else 'L')})."
            )
        if any(size < cells for size, cells in zip(h.shape[-axes:], self.pool, strict=True)):
            raise InfoplaneError(
                f"{name} got {tuple(h.shape)}, a map smaller than its code; expected at least {self.pool}."
            )
        f = (h.flatten(0, 1) if stacked else h).contiguous()
        f = _POOLS[axes](f if f.dtype == torch.float64 else f.float(), self.pool)
        return f.reshape(self.replicas, -1, self.features)

    def _spread(self, z: Tensor, h: Tensor) -> Tensor:
        """Bring z, (R, B, K), into the shape of h."""
        if self.pool is None:
            return z.reshape(h.shape)
        axes = len(self.pool)
        cells = z.reshape(-1, h.shape[-axes - 1], *self.pool)
        return interpolate(cells, size=h.shape[-axes:], mode="nearest").reshape(h.shape)

    def code_of_output(self, out: Float[Tensor, "*any"]) -> Float[Tensor, "R B K"]:
        """Recover z from the output of a layer that pools.

        Args:
            out: The output, a map.

        Returns:
            z, (R, B, K), read at one place of every area.
        """
        assert self.pool is not None
        for axis, cells in zip(range(-len(self.pool), 0), self.pool, strict=True):
            area = interpolate(torch.arange(cells).float().view(1, 1, -1), size=out.shape[axis], mode="nearest")
            places = torch.searchsorted(area.flatten(), torch.arange(cells).float())
            out = out.index_select(axis, places.to(out.device))
        return out.reshape(self.replicas, -1, self.features)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Channel:
        """Move or convert the layer, but never below float32.

        A model in .half() keeps its noisy layers in full precision.
        """

        def keep(t: Tensor) -> Tensor:
            out = fn(t)
            return t.to(out.device) if out.is_floating_point() and out.dtype.itemsize < 4 else out

        return cast(Channel, super()._apply(keep, recurse))  # type: ignore[no-untyped-call]

    def streams_of(self, f: Tensor) -> Streams:
        """Return the generators from which the noise of f is drawn.

        Raises:
            InfoplaneError: There is not one per replica.
        """
        streams = self.streams or Streams([None] * self.replicas, f.device)
        if len(streams) != self.replicas:
            raise InfoplaneError(
                f"{type(self).__name__} has {self.replicas} replicas and {len(streams)} random streams; expected one "
                "stream per replica."
            )
        return streams

    @property
    def rate(self) -> Float[Tensor, "*R"]:
        """The rate of the last training call with its graph, (R,) or a scalar if R = 1, in nats."""
        if self._rate is None:
            raise InfoplaneError(
                f"This {type(self).__name__} layer has no rate yet; call the model in training mode first."
            )
        return self._rate.squeeze(0) if self.replicas == 1 else self._rate

    def __getstate__(self) -> dict[str, object]:
        # The rate holds a graph and the streams hold generators, so a copy starts without them.
        return self.__dict__ | {"_rate": None, "watch": None, "streams": None, "phase": "auto", "replay": None}


def _full_precision(h: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off: bfloat16 would round s = .999 to 1."""
    if torch.is_autocast_enabled(h.device.type):
        return torch.autocast(h.device.type, enabled=False)
    return nullcontext()
