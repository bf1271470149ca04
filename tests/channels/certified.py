"""Layers that are easy to judge, and helpers that the tests of certificates and ceilings share."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infoplane.channels.bank import Bank
from infoplane.channels.certificate import Certificate, certify
from infoplane.channels.echo import apply_scale, compose_scale
from infoplane.channels.evidence import Evidence
from infoplane.streams import Streams
from tests.drawn import generator, normal

DOUBLE = torch.float64
LOG2 = math.log(2)


def uniform(*shape: int, seed: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator(seed), dtype=DOUBLE)


def signs(n: int, seed: int = 0) -> Tensor:
    """Draw n signs, half of them positive, in random order."""
    return torch.randperm(n, generator=generator(seed)).remainder(2).to(DOUBLE) * 2 - 1


def evidence(f: Tensor, s: Any, *, bank: Bank | None = None, sides: Tensor | None = None, **options: Any) -> Evidence:
    """Make the evidence of a frozen layer with codes f, (N, K), and scales s.

    The bank is made from the probe itself if none is given.
    """
    f = f if f.dim() == 2 else f.unsqueeze(1)
    s = torch.as_tensor(s, dtype=f.dtype)
    s = (s.unsqueeze(1) if s.shape == f.shape[:1] != f.shape[1:] else s).expand_as(f)
    scale = compose_scale(s.log(), sides)
    bank = Bank(f.unsqueeze(0), scale.unsqueeze(0)) if bank is None else bank
    z = f + apply_scale(scale, bank.noise(len(f), Streams([0]))[0].to(f.dtype))
    first = options.pop("first", True)
    known = {"replica": 0, "repeat": 0.0 if first else None, "same_law": True, "diagonal": sides is None, "floor": 0.0}
    return Evidence(f=f, log_s=s.log(), z=z, bank=bank, first=first, **known | options)


def judge(f: Tensor, s: Any, **options: Any) -> Certificate:
    return certify(evidence(f, s, **options))


def reach(c: Certificate) -> float:
    """Return how far the truth may be from the value for the number to be right."""
    return c.error + 1e-3 + 4 * c.stderr


def right(c: Certificate, truth: float) -> bool:
    """Check that a rate is not exact, or right up to what cells may hide: 2 % and .01 nats."""
    return c.standing != "exact" or abs(c.value - truth) <= reach(c) + 0.02 * c.value + 0.01


def tells_apart(trap: Evidence, truth: float, twin: Evidence) -> Certificate:
    """Check that a trap is not called exact for more than it holds, while its twin is exact.

    The twin is the same layer without the trap. Without it, a judge that calls nothing exact would
    pass. The result is the certificate of the trap.
    """
    c, sound = certify(trap), certify(twin)
    assert right(c, truth), (c.value, truth)
    assert c.rate == pytest.approx(-float(trap.log_s.sum(1).mean()))
    assert sound.standing == "exact", sound.warnings
    assert sound.value == pytest.approx(-float(twin.log_s.sum(1).mean()))
    return c


def entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def seen_at(cells: int, f: Any, s: Any, q: Any = None, points: int | None = None) -> float:
    """Compute I(Z;X) of one coordinate as seen in `cells` cells over the range of z.

    x is one of N inputs with weights q (or uniform). The law of e comes from iterating
    P(e <= t) = E_x P(e <= (t - f) / s), so no step is random.
    """
    f, s = np.asarray(f, float), np.broadcast_to(np.asarray(s, float), np.shape(f))
    q = np.full(len(f), 1 / len(f)) if q is None else np.asarray(q)
    low, high = min((f / (1 - s)).min(), 0.0), max((f / (1 - s)).max(), 0.0)
    for _ in range(2000):
        low, high = min((f + s * low).min(), low), max((f + s * high).max(), high)
    t = np.linspace(low, high, (points or 2 * cells) + 1)
    cdf = (t - low) / (high - low)
    for _ in range(200):
        new = sum(w * np.interp((t - a) / b, t, cdf) for a, b, w in zip(f, s, q, strict=True))
        moved, cdf = np.abs(new - cdf).max(), new
        if moved < 1e-9:
            break
    edges = np.linspace(low, high, cells + 1)
    output, given = np.zeros(cells), 0.0
    for a, b, w in zip(f, s, q, strict=True):
        p = np.diff(np.interp((edges - a) / b, t, cdf))
        output, given = output + w * p, given + w * entropy(p)
    return entropy(output) - given


RICH = normal(4096, 2, seed=7)


def with_bank(f: Tensor, s: float, size: int = 4096) -> Bank:
    f = f[:size].unsqueeze(0)
    return Bank(f, torch.full_like(f, s))


def eights(width: int) -> Tensor:
    """Draw (4096, width) with 8 values per column.

    Thousands of subsets of 40 columns then have an entropy below log 4096.
    """
    return torch.stack([torch.randperm(4096, generator=generator(k)) // 512 for k in range(width)], 1).to(DOUBLE)


NINE = normal(4096, 9, seed=4)


def flat(width: int, share: float, missing: int = 1) -> Tensor:
    """Draw (4096, width) with a share of points on an oblique flat `missing` dimensions short."""
    f = normal(4096, width, seed=6)
    normals = torch.linalg.qr(normal(width, width, seed=9)).Q[:, :missing]
    on = torch.arange(4096) < share * 4096
    return torch.where(on.unsqueeze(1), f - f @ normals @ normals.T, f)


def tied(n: int = 4096) -> Tensor:
    """Draw (n, 3) from 64 random points of space: one, two or three coordinates have log 64."""
    return normal(64, 3, seed=5)[torch.arange(n) // (n // 64)]
