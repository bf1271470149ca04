"""Generate the 12-bit task of Shwartz-Ziv & Tishby.

The inputs are all patterns of 12 bits, in which each bit is a point at a vertex of an icosahedron.
The binary label is invariant under the rotations and reflections of the icosahedron. It depends on
a pattern through four counts: n, the number of bits that are on, and the numbers of pairs of them
that are near (63.4 degrees apart), mid (116.6) and antipodal (180):

    y = 1[103 n + 2 near - 22 mid - 34 antipodal > 429.5]

The authors published the labels, but not their function. This rule is a separator that was fitted
to the labels, and it reproduces all 4096 of them (tests/data/test_icosahedron.py compares them if
the published file, var_u.mat, is available). That file may not be redistributed, and nothing of it
is needed. The 4096 patterns are the whole population: H(X) = 12 bits, H(Y) = I(X;Y) = .999157 bits.

These labels are hard, and the information bottleneck of a hard label is a straight line. The one in
the paper is not, because its rule is p(y=1|x) = sigmoid(gamma (f(x) - theta)); `icosahedron_law`
has this form, with the score above for f.

References:
    R. Shwartz-Ziv, N. Tishby, Opening the black box of deep neural networks via information, 2017,
    https://arxiv.org/abs/1703.00810
    The published file: https://github.com/ravidziv/IDNNs
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, Int64, Real

__all__ = ["ANTIPODE", "GAMMA", "NEAR", "THETA", "icosahedron", "icosahedron_law"]

#: NEAR[v] holds the five vertices next to vertex v, 63.4 degrees away.
NEAR = (
    (1, 3, 5, 10, 11),
    (0, 2, 3, 4, 11),
    (1, 3, 4, 8, 9),
    (0, 1, 2, 8, 10),
    (1, 2, 6, 9, 11),
    (0, 6, 7, 10, 11),
    (4, 5, 7, 9, 11),
    (5, 6, 8, 9, 10),
    (2, 3, 7, 9, 10),
    (2, 4, 6, 7, 8),
    (0, 3, 5, 7, 8),
    (0, 1, 4, 5, 6),
)
#: ANTIPODE[v] is the vertex opposite v. The remaining five are mid, 116.6 degrees away.
ANTIPODE = (9, 7, 5, 6, 10, 2, 3, 1, 11, 0, 4, 8)
#: The threshold of the labels, half-way between the nearest scores that occur (427 and 432).
THETA = 429.5
#: The steepness at which I(X;Y) of `icosahedron_law` is .99 bits, as in the paper.
GAMMA = 1.65


def icosahedron() -> tuple[Float[Tensor, "4096 12"], Int64[Tensor, " 4096"]]:
    """Generate the patterns and labels of the 12-bit task.

    Row i is the number i in binary, with the most significant bit first, as in the published file.

    Returns:
        The patterns, (4096, 12) float32 of 0 and 1, and the labels, (4096,) int64 of 0 and 1.

    Example:
        >>> import infoplane as ip
        >>> x, y = ip.data.icosahedron()
        >>> x[5].tolist()[-4:], int(y.sum())
        ([0.0, 1.0, 0.0, 1.0], 2118)
    """
    x = _patterns()
    return x.to(torch.float32), (_score(x) > THETA).to(torch.int64)


def icosahedron_law(gamma: float = GAMMA, theta: float = THETA) -> Float64[Tensor, " 4096"]:
    """Return the law p(y=1|x) = sigmoid(gamma (f(x) - theta)) of random labels of the 12-bit task.

    The score f is that of the task; it takes 51 values.

    Args:
        gamma: The steepness. I(X;Y) rises with it, and labels become hard; the default gives .99
            bits.
        theta: The threshold. With the default, p(y=1) is .5168 (.5171 with hard labels). No theta
            gives both p(y=1) = 1/2 and .99 bits: it would have to be the score of the 201 patterns
            next to the boundary, whose labels would then be random, and I(X;Y) would be below .955
            bits.

    Returns:
        The probability of the label 1 for each pattern, (4096,) float64.

    Example:
        >>> import infoplane as ip
        >>> round(float(ip.data.icosahedron_law().mean()), 4)
        0.5168
    """
    return torch.sigmoid(gamma * (_score(_patterns()).double() - theta))


def _patterns() -> Tensor:
    return (torch.arange(4096)[:, None] >> torch.arange(11, -1, -1)) & 1


def _score(x: Tensor) -> Tensor:
    n, near, mid, antipodal = pair_counts(x).unbind(1)
    return 103 * n + 2 * near - 22 * mid - 34 * antipodal


def pair_counts(x: Real[Tensor, "N 12"]) -> Int64[Tensor, "N 4"]:
    """Count the bits that are on, and the near, mid and antipodal pairs of them.

    Args:
        x: Patterns of 0 and 1, (N, 12).

    Returns:
        The four counts of each pattern, (N, 4).
    """
    near, antipode = torch.zeros(12, 12), torch.zeros(12, 12)
    for vertex in range(12):
        near[vertex, list(NEAR[vertex])] = 1.0
        antipode[vertex, ANTIPODE[vertex]] = 1.0
    mid = 1.0 - near - antipode - torch.eye(12)
    bits = x.to(torch.float32)  # whole numbers this small are exact in float32
    pairs = [((bits @ kind) * bits).sum(1) / 2 for kind in (near, mid, antipode)]
    return torch.stack([bits.sum(1), *pairs], 1).to(torch.int64)
