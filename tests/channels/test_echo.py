"""The Echo channel against direct sums, closed forms and densities on a grid."""

import importlib
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from infoplane.channels.echo import apply_scale, compose_scale, echo, echo_noise, moment_step, stationary_moments
from infoplane.errors import InfoplaneError
from tests.drawn import generator, normal

echo_module = importlib.import_module("infoplane.channels.echo")  # the name is the function's

DOUBLE = torch.float64
Array = np.ndarray
Curve = Callable[[Array], Array]


@pytest.fixture(params=["compiled loops", "doubling"])
def sampler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the compiled loops, and with the doubling that GPUs use."""
    monkeypatch.setattr(echo_module, "_USE_LOOPS", request.param == "compiled loops")


sampled = pytest.mark.usefixtures("sampler")


def uniform(*shape: int, low: float, high: float, seed: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator(seed), dtype=DOUBLE)


def batch(*shape: int, matrix: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw f, (..., B, K), and S: a diagonal or matrices, of norms that vary, at most .9."""
    f = normal(*shape, seed=seed)
    s = uniform(*shape, low=0.1, high=0.9, seed=seed + 1)
    if not matrix:
        return f, s
    width = shape[-1]
    left = torch.linalg.qr(normal(*shape, width, seed=seed + 2))[0]
    right = torch.linalg.qr(normal(*shape, width, seed=seed + 3))[0]
    return f, compose_scale(s.log(), left, right)


def direct(f: Tensor, s: Tensor, echoes: int, end: Tensor | None = None, order: Tensor | None = None) -> Tensor:
    """Sum e_i = f_1 + S_1 [f_2 + S_2 [... end_i]] term by term, over the rows that follow i."""
    if f.dim() == 3:
        orders = [None] * len(f) if order is None else list(order)
        ends = [None] * len(f) if end is None else list(end)
        return torch.stack([direct(*row[:2], echoes, *row[2:]) for row in zip(f, s, ends, orders, strict=True)])
    rows = f.shape[0]
    order = torch.arange(rows) if order is None else order
    out = torch.zeros_like(f)
    for place, i in enumerate(order.tolist()):
        e = torch.zeros_like(f[i]) if end is None else end[i]
        for step in range(echoes, 0, -1):
            j = int(order[(place + step) % rows])
            e = f[j] + (s[j] * e if s.dim() == f.dim() else s[j] @ e)
        out[i] = e
    return out


# -- the sampler


@sampled
@pytest.mark.parametrize("matrix", [False, True], ids=["diagonal", "matrix"])
@pytest.mark.parametrize("shape", [(17, 3), (4, 17, 3), (2, 40, 2)], ids=str)
@pytest.mark.parametrize(("ordered", "ended"), list(itertools.product([False, True], repeat=2)))
def test_the_sums_are_the_direct_ones(matrix: bool, shape: tuple[int, ...], ordered: bool, ended: bool) -> None:
    f, s = batch(*shape, matrix=matrix)
    end = normal(*shape, seed=9) if ended else None
    order = torch.rand(shape[:-1], generator=generator(5)).argsort(-1) if ordered else None
    for echoes in (1, 2, 4, 8, 16):
        noise = echo_noise(f, s, echoes=echoes, end=end, order=order)
        torch.testing.assert_close(noise, direct(f, s, echoes, end, order), rtol=1e-12, atol=1e-12)


def test_the_compiled_loops_take_what_they_can_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def loops(*_: object) -> None:
        raise RuntimeError("compiled")

    monkeypatch.setattr(echo_module, "_in_loops", loops)
    f, s = batch(9, 2, matrix=False)
    with pytest.raises(RuntimeError, match="compiled"):
        echo_noise(f, s, echoes=8)
    echo_noise(*batch(9, 2, matrix=True), echoes=8)
    echo_noise(f.bfloat16(), s.bfloat16(), echoes=8)
    monkeypatch.setattr(echo_module, "_USE_LOOPS", False)
    echo_noise(f, s, echoes=8)


@sampled
@pytest.mark.parametrize("units", [67, 128, 130])
@pytest.mark.parametrize("rows", [33, 65])
def test_many_coordinates(rows: int, units: int) -> None:
    f, s = batch(rows, units, matrix=False)
    torch.testing.assert_close(echo_noise(f, s, echoes=32), direct(f, s, 32), rtol=1e-12, atol=1e-12)
    single = echo_noise(f.float(), s.float(), echoes=32)
    torch.testing.assert_close(single.double(), direct(f, s, 32), rtol=1e-5, atol=1e-5)


@sampled
def test_the_rows_of_a_batch_may_lie_apart_in_memory() -> None:
    f, s = (v.mT for v in batch(3, 17, matrix=False))
    torch.testing.assert_close(echo_noise(f, s, echoes=16), direct(f, s, 16), rtol=1e-12, atol=1e-12)


@sampled
def test_a_product_that_would_be_denormal_is_0_and_nothing_else_changes() -> None:
    f = normal(65, 5, seed=0).float()
    s = uniform(65, 5, low=0.01, high=0.1, seed=1).float()
    noise, tail = echo_noise(f, s, echoes=64), echo_noise(torch.zeros_like(f), s, echoes=64, end=torch.ones_like(f))
    assert torch.equal(tail, torch.zeros_like(f))  # .1^64
    torch.testing.assert_close(noise.double(), direct(f.double(), s.double(), 64), rtol=1e-5, atol=1e-6)


@sampled
def test_what_is_no_number_stays_in_its_replica_and_unit() -> None:
    f, s = batch(2, 9, 3, matrix=False)
    f[1, 4, 2] = math.nan
    noise = echo_noise(f, s, echoes=8)
    bad = noise.isnan()
    assert bad[1, :, 2].sum() == 8  # all rows but the row itself hear it
    assert not bad[0].any()
    assert not bad[1, :, :2].any()


@sampled
def test_leading_axes_are_independent() -> None:
    f, s = batch(2, 3, 9, 2, matrix=True)
    end = normal(2, 3, 9, 2, seed=8)
    order = torch.rand((2, 3, 9), generator=generator(5)).argsort(-1)
    noise = echo_noise(f, s, echoes=8, end=end, order=order)
    for i, j in itertools.product(range(2), range(3)):
        alone = echo_noise(f[i, j], s[i, j], echoes=8, end=end[i, j], order=order[i, j])
        torch.testing.assert_close(noise[i, j], alone, rtol=1e-12, atol=1e-12)


def jacobian(rows: int, echoes: int, order: Tensor | None, s: float = 0.5, width: int = 2) -> Tensor:
    """Differentiate: d e_ik / d f_jm, (B, K, B, K)."""
    f = normal(rows, width, seed=1)
    scale = torch.full_like(f, s)
    return torch.autograd.functional.jacobian(lambda v: echo_noise(v, scale, echoes=echoes, order=order), f)


@sampled
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("rows", "echoes"), [(9, 8), (17, 16), (20, 8)])
def test_each_echo_hears_each_other_row_at_most_once_and_never_itself(rows: int, echoes: int, ordered: bool) -> None:
    order = torch.randperm(rows, generator=generator(2)) if ordered else None
    weights = jacobian(rows, echoes, order)
    # every coordinate of an echo comes from the same rows, and from its own coordinate only
    assert torch.equal(weights[:, 0, :, 1], torch.zeros(rows, rows, dtype=DOUBLE))
    assert torch.equal(weights[:, 0, :, 0], weights[:, 1, :, 1])
    heard = weights[:, 0, :, 0]
    assert torch.equal(heard.diagonal(), torch.zeros(rows, dtype=DOUBLE))
    expected = torch.tensor([0.5**k for k in range(echoes)] + [0.0] * (rows - echoes), dtype=DOUBLE)
    for row in heard:
        torch.testing.assert_close(row.sort(descending=True).values, expected, rtol=1e-14, atol=0)


@sampled
def test_own_scale_never_enters() -> None:
    f, s = batch(9, 2, matrix=False)
    by_scale = torch.autograd.functional.jacobian(lambda v: echo_noise(f, v, echoes=8, end=f), s)
    assert torch.equal(torch.einsum("ikik->ik", by_scale), torch.zeros(9, 2, dtype=DOUBLE))
    assert (by_scale.abs().sum((1, 3)) > 0).sum() == 9 * 8


@pytest.mark.parametrize(("rows", "echoes"), [(8, 8), (64, 64), (1, 1), (5, 16)])
def test_a_batch_too_small_is_refused(rows: int, echoes: int) -> None:
    f, s = batch(rows, 2, matrix=False)
    with pytest.raises(InfoplaneError, match=rf"batch of {rows} rows .*{echoes} echoes.* at least {echoes + 1} rows"):
        echo_noise(f, s, echoes=echoes)


@pytest.mark.parametrize(
    "order",
    [
        torch.arange(9),
        torch.full((3, 9), 10**6),
        torch.arange(9).repeat(3, 1) - 1,
        torch.zeros(3, 9, dtype=torch.int64),
    ],
    ids=["one for three", "too large", "negative", "twice"],
)
def test_an_order_that_is_none_is_refused(order: Tensor) -> None:
    f, s = batch(3, 9, 4, matrix=False)
    with pytest.raises(InfoplaneError, match=r"order is .*expected permutations of 9 rows, \(3, 9\)"):
        echo_noise(f, s, echoes=4, order=order)


@pytest.mark.parametrize("echoes", [0, -1, 3, 6, 100])
def test_the_number_of_echoes_is_a_power_of_two(echoes: int) -> None:
    f, s = batch(200, 2, matrix=False)
    with pytest.raises(InfoplaneError, match=rf"echoes={echoes}; expected a power of two"):
        echo_noise(f, s, echoes=echoes)


@pytest.mark.parametrize(
    ("f", "s"),
    [
        ((9, 2), (9, 3)),
        ((9, 2), (8, 2)),
        ((9, 2), (9,)),
        ((9, 2), (8, 2, 2)),
        ((9, 2), (2, 9, 2)),
        ((9,), (9,)),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(f: tuple[int, ...], s: tuple[int, ...]) -> None:
    with pytest.raises(InfoplaneError, match=r"echo_noise: f .* expected f"):
        echo_noise(torch.zeros(f), torch.zeros(s), echoes=2)


@sampled
@pytest.mark.parametrize("echoes", [1, 2, 8])
@pytest.mark.parametrize("matrix", [False, True], ids=["diagonal", "matrix"])
def test_gradcheck(matrix: bool, echoes: int) -> None:
    f, s = batch(10, 2, matrix=matrix)
    end, order = normal(10, 2, seed=7), torch.randperm(10, generator=generator(3))
    f, s, end = f.requires_grad_(), s.requires_grad_(), end.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *v: echo_noise(v[0], v[1], echoes=echoes, end=v[2], order=order), (f, s, end)
    )


@sampled
def test_a_diagonal_is_a_matrix_with_the_same_gradient() -> None:
    f, s = batch(3, 40, 2, matrix=False)
    end, weight = normal(3, 40, 2, seed=7), normal(3, 40, 2, seed=8)
    order = torch.rand((3, 40), generator=generator(5)).argsort(-1)
    results = []
    for scale in (lambda v: v, torch.diag_embed):
        leaves = f.clone().requires_grad_(), s.clone().requires_grad_(), end.clone().requires_grad_()
        noise = echo_noise(leaves[0], scale(leaves[1]), echoes=32, end=leaves[2], order=order)
        results.append([noise.detach(), *torch.autograd.grad((noise * weight).sum(), leaves)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sides", ["none", "left", "right", "both"])
def test_the_scale_has_the_determinant_and_the_norm_that_are_claimed(sides: str) -> None:
    log_s = uniform(5, 7, 3, low=0.05, high=0.95, seed=0).log()
    left = torch.linalg.qr(normal(5, 7, 3, 3, seed=1))[0] if sides in ("left", "both") else None
    right = torch.linalg.qr(normal(5, 7, 3, 3, seed=2))[0] if sides in ("right", "both") else None
    s = compose_scale(log_s, left, right)
    full = torch.diag_embed(s) if sides == "none" else s
    torch.testing.assert_close(torch.linalg.slogdet(full).logabsdet, log_s.sum(-1))
    torch.testing.assert_close(torch.linalg.matrix_norm(full, 2), log_s.exp().amax(-1))
    expected = torch.diag_embed(log_s.exp())
    expected = expected if left is None else left @ expected
    expected = expected if right is None else expected @ right.mT
    torch.testing.assert_close(full, expected)
    v = normal(5, 7, 3, seed=3)
    torch.testing.assert_close(apply_scale(s, v), torch.einsum("...ij,...j->...i", full, v))


@pytest.mark.parametrize("mixed", [False, True])
def test_the_rate_is_of_the_tensor_that_was_sampled_with(mixed: bool) -> None:
    f = normal(33, 3, seed=0)
    log_s = uniform(33, 3, low=0.05, high=0.95, seed=1).log().requires_grad_()
    left = torch.linalg.qr(normal(3, 3, seed=2))[0] if mixed else None
    end, order = normal(33, 3, seed=3), torch.randperm(33, generator=generator(4))
    z, rate = echo(f, log_s, echoes=32, end=end, order=order, left=left)
    s = compose_scale(log_s, left)
    torch.testing.assert_close(z, f + apply_scale(s, direct(f, s, 32, end, order)))
    full = s if mixed else torch.diag_embed(s)
    torch.testing.assert_close(rate, -torch.linalg.slogdet(full).logabsdet)
    torch.testing.assert_close(torch.autograd.grad(rate.sum(), log_s)[0], torch.full_like(log_s, -1.0))


@sampled
def test_gradients_flow_through_the_echoes() -> None:
    f = normal(9, 1, seed=0).requires_grad_()
    z = echo(f, torch.full((9, 1), math.log(0.5), dtype=DOUBLE), echoes=8).z
    (gradient,) = torch.autograd.grad(z[0, 0], f)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([0.5**k for k in range(9)], dtype=DOUBLE))


# -- laws


def independent_rows(f: Tensor, log_s: Tensor, echoes: int = 32, end: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Draw n independent pairs (e, z), (n, K) each: row 0 of each of n batches."""
    noise = echo_noise(f, log_s.exp(), echoes=echoes, end=end)
    return noise[:, 0], echo(f, log_s, echoes=echoes, end=end).z[:, 0]


def test_coin_flips_with_half_the_scale_give_a_uniform_law() -> None:
    x = torch.randint(2, (20_000, 33, 1), generator=generator(0)).to(DOUBLE) * 2 - 1
    e, z = independent_rows(x, torch.full_like(x, math.log(0.5)))
    law = stats.uniform(-2, 4)
    assert stats.kstest(e[:, 0].numpy(), law.cdf).pvalue > 1e-4
    assert stats.kstest(z[:, 0].numpy(), law.cdf).pvalue > 1e-4
    # the sign of z is x, so I(Z;X) = H(X) = log 2, which is the rate
    assert torch.equal(z.sign(), x[:, 0])
    assert float(echo(x, torch.full_like(x, math.log(0.5)), echoes=32).rate.mean()) == pytest.approx(math.log(2))


@pytest.mark.parametrize("s", [0.3, 0.6, 0.85])
def test_gaussian_inputs(s: float) -> None:
    n = 20_000
    x = normal(n, 65, 1, seed=1)
    end = normal(n, 65, 1, seed=2) / math.sqrt(1 - s * s)
    e, z = independent_rows(x, torch.full_like(x, math.log(s)), echoes=64 if s > 0.8 else 32, end=end)
    variance = 1 / (1 - s * s)
    assert float(e.var()) == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / n))
    assert float(z.var()) == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / n))
    rho = float(torch.corrcoef(torch.cat([x[:, 0], z], 1).T)[0, 1])
    # corr(X, Z)^2 = 1 - s^2, so -1/2 log(1 - corr^2) = -log s; its standard error is corr / sqrt n
    assert -0.5 * math.log(1 - rho * rho) == pytest.approx(-math.log(s), abs=5 * rho / math.sqrt(n))
    assert stats.kstest(e[:, 0].numpy(), stats.norm(scale=math.sqrt(variance)).cdf).pvalue > 1e-4


LAYERS = {
    "constant scale": lambda u: (u, 0.6 + 0 * u),
    "rising scale": lambda u: (u, 0.5 + 0.4 * u),
    "falling scale": lambda u: (u, 0.9 - 0.4 * u),
    "curved": lambda u: (np.sin(5 * u) + 0.3 * u, 0.2 + 0.6 * u * u),
}


def nodes(count: int) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(count)
    return (x + 1) / 2, w / 2


def grid_law(f: Array, s: Array, q: Array, points: int, steps: int = 200) -> tuple[Array, Array]:
    """Return the edges of cells and the distribution function of e on them.

    It comes from iterating P(e <= t) = E_x P(e <= (t - f) / s), where f, s and q are the values,
    scales and weights of the inputs.
    """
    low, high = min((f / (1 - s)).min(), 0.0), max((f / (1 - s)).max(), 0.0)
    for _ in range(1000):
        low, high = min((f + s * low).min(), low), max((f + s * high).max(), high)
    edges = np.linspace(low, high, points + 1)
    cdf = (edges - low) / (high - low)
    for _ in range(steps):
        new = sum(w * np.interp((edges - a) / b, edges, cdf) for a, b, w in zip(f, s, q, strict=True))
        moved = np.abs(new - cdf).max()
        cdf = new
        if moved < 1e-12:
            break
    return edges, cdf


def entropy(p: Array) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


@pytest.mark.parametrize("name", LAYERS)
def test_rate_is_information_on_a_grid(name: str) -> None:
    """h(Z) = h(e), and I(Z;X) by integration is -E log s to four digits."""
    u, q = nodes(80)
    f, s = LAYERS[name](u)
    edges, cdf = grid_law(f, s, q, points=3000)
    given = [np.diff(np.interp((edges - a) / b, edges, cdf)) for a, b in zip(f, s, strict=True)]
    output = sum(w * p for w, p in zip(q, given, strict=True))
    assert entropy(output) == pytest.approx(entropy(np.diff(cdf)), abs=1e-5)
    # I = h(Z) - h(Z|X); the cells of the two laws cancel
    information = entropy(output) - sum(w * entropy(p) for w, p in zip(q, given, strict=True))
    assert information == pytest.approx(-float(q @ np.log(s)), abs=2e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_samples_follow_the_law_of_the_grid(name: str) -> None:
    n = 6_000
    u, q = nodes(80)
    edges, cdf = grid_law(*LAYERS[name](u), q, points=3000)
    f, s = map(torch.as_tensor, LAYERS[name](uniform(n, 65, 1, low=0, high=1, seed=3).numpy()))
    mean, second = stationary_moments(f.flatten(0, 1), s.flatten(0, 1))
    end = mean + (second[0] - mean**2).sqrt() * normal(n, 65, 1, seed=4)
    for sample in independent_rows(f, s.log(), echoes=64, end=end):
        assert stats.kstest(sample[:, 0].numpy(), lambda t: np.interp(t, edges, cdf)).pvalue > 1e-4


# -- moments


def moment_cases() -> dict[str, tuple[Tensor, Tensor]]:
    """Draw codes, (N, K), with means, that are correlated with their scales."""
    f, s = batch(50, 3, matrix=False, seed=20)
    g, m = batch(50, 3, matrix=True, seed=30)
    relu = normal(50, 3, seed=40).relu()
    return {
        "diagonal": (f + 1, s),
        "relu": (relu, 0.9 * torch.sigmoid(2 * relu - 1)),
        "matrix": (g - 1, m),
        "constant": (f + 1, torch.full_like(f, 0.7)),
        "one row": (f[:1], s[:1]),
    }


@pytest.mark.parametrize("case", moment_cases())
def test_stationary_moments_are_a_fixed_point(case: str) -> None:
    f, s = moment_cases()[case]
    mean, second = stationary_moments(f, s)
    again, once_more = moment_step(f, s, mean, second)
    torch.testing.assert_close(again, mean, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(once_more, second, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(second, second.mT)
    assert float(torch.linalg.eigvalsh(second - torch.outer(mean, mean))[0]) > -1e-10
    # a layer's running moments rely on this: the steps have this limit from anywhere
    m, m2 = torch.ones_like(mean), torch.eye(len(mean), dtype=DOUBLE)
    for _ in range(400):
        m, m2 = moment_step(f, s, m, m2)
    torch.testing.assert_close((m, m2), (mean, second))


@pytest.mark.parametrize("case", ["diagonal", "relu", "matrix"])
def test_moments_by_the_formulas_of_the_book(case: str) -> None:
    f, s = moment_cases()[case]
    mean, second = stationary_moments(f, s)
    full = torch.diag_embed(s) if s.dim() == 2 else s
    torch.testing.assert_close(mean, torch.linalg.inv(torch.eye(3, dtype=DOUBLE) - full.mean(0)) @ f.mean(0))
    products = torch.stack([torch.kron(m, m) for m in full]).mean(0)
    shifted = torch.einsum("nij,j->ni", full, mean)
    constant = (
        torch.einsum("ni,nj->nij", f, f)
        + torch.einsum("ni,nj->nij", f, shifted)
        + torch.einsum("ni,nj->nij", shifted, f)
    ).mean(0)
    solved = torch.linalg.solve(torch.eye(9, dtype=DOUBLE) - products, constant.flatten()).unflatten(0, (3, 3))
    torch.testing.assert_close(second, solved)


def test_moments_keep_replicas_apart() -> None:
    for matrix in (False, True):
        f, s = batch(4, 30, 2, matrix=matrix)
        mean, second = stationary_moments(f, s)
        for r in range(4):
            torch.testing.assert_close((mean[r], second[r]), stationary_moments(f[r], s[r]))


@pytest.mark.parametrize("case", ["diagonal", "relu", "matrix"])
def test_echoes_and_codes_have_the_stationary_moments(case: str) -> None:
    f, s = moment_cases()[case]
    mean, second = stationary_moments(f, s)
    n, rows = 20_000, 33
    picks = torch.randint(len(f), (n, rows), generator=generator(6))
    root = torch.linalg.cholesky(second - torch.outer(mean, mean))
    end = mean + normal(n, rows, 3, seed=7) @ root.T
    e = echo_noise(f[picks], s[picks], echoes=32, end=end)[:, 0]
    z = f[picks[:, 0]] + apply_scale(s[picks[:, 0]], e)
    for sample in (e, z):
        outer = torch.einsum("ni,nj->nij", sample, sample)
        for values, expected in ((sample, mean), (outer, second)):
            assert ((values.mean(0) - expected).abs() <= 5 * values.std(0) / math.sqrt(n)).all()


def test_products_that_grow_have_no_stationary_law() -> None:
    """The spectral radius is .1 everywhere, but the products grow."""
    f = normal(2, 2, seed=0)
    grows = torch.tensor([[[0.1, 5.0], [0.0, 0.1]], [[0.1, 0.0], [5.0, 0.1]]], dtype=DOUBLE)  # spectral radius .1 each
    assert float(torch.linalg.eigvals(grows).abs().max()) < 0.11
    with pytest.raises(InfoplaneError, match="no stationary law"):
        stationary_moments(f, grows)


@pytest.mark.parametrize("s", [[1.0, 1.0], [1.2, 1.2], [1.5, 0.1]], ids=str)
def test_scales_above_one_have_no_stationary_law(s: list[float]) -> None:
    """E s^2 < 1 is needed, because 1 / (1 - E s^2) must be a variance."""
    with pytest.raises(InfoplaneError, match="no stationary law"):
        stationary_moments(normal(2, 1, seed=0), torch.tensor(s, dtype=DOUBLE).unsqueeze(1))
    mean, second = stationary_moments(normal(2, 1, seed=0), torch.tensor([[1.2], [0.1]], dtype=DOUBLE))
    assert float(second) > float(mean) ** 2


def test_a_slow_contraction_has_moments_too() -> None:
    f, turn = normal(20, 2, seed=0), torch.linalg.qr(normal(2, 2, seed=1))[0]
    log_s = torch.full((20, 2), math.log(0.9986), dtype=DOUBLE)
    mean, second = stationary_moments(f, compose_scale(log_s, turn))
    again, once_more = moment_step(f, compose_scale(log_s, turn), mean, second)
    torch.testing.assert_close((again, once_more), (mean, second), rtol=1e-9, atol=1e-9)


# -- Z and e have one law; what breaks it is seen


def rows_of(n: int, seed: int, rows: int = 33) -> tuple[Tensor, Tensor, Tensor]:
    """Draw n batches, (n, B, 2), of correlated coordinates with their scales, and Gaussian ends."""
    x = normal(n, rows, 1, seed=seed)
    f = torch.cat([x, (x + 0.5 * normal(n, rows, 1, seed=seed + 1)).relu()], -1)
    s = 0.8 * torch.sigmoid(f)
    mean, second = stationary_moments(f.flatten(0, 1), s.flatten(0, 1))
    root = torch.linalg.cholesky(second - torch.outer(mean, mean))
    return f, s, mean + normal(n, rows, 2, seed=seed + 2) @ root.T


DIRECTIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0], [1.0, -2.0], [2.0, -1.0]], dtype=DOUBLE).T


def same_law(a: Tensor, b: Tensor) -> float:
    """Return the smallest of six Kolmogorov-Smirnov p-values along six directions, times six."""
    pairs = zip((a @ DIRECTIONS).T, (b @ DIRECTIONS).T, strict=True)
    return 6 * min(stats.ks_2samp(x.numpy(), y.numpy()).pvalue for x, y in pairs)


Noise = Callable[[Tensor, Tensor, Tensor], Tensor]


def inclusive(f: Tensor, s: Tensor, end: Tensor) -> Tensor:
    """A wrong noise: term l carries S_0 ... S_l, its own included."""
    return echo_noise(s * f, s, echoes=32, end=end)


def own_scale(f: Tensor, s: Tensor, end: Tensor) -> Tensor:
    """A wrong noise: the row's own S in place of its echoes'."""
    e = end
    for step in range(32, 0, -1):
        e = f.roll(-step, -2) + s * e
    return e


def coordinate_wise(f: Tensor, s: Tensor, end: Tensor) -> Tensor:
    """A wrong noise: another sample for each coordinate."""
    parts = [
        echo_noise(f.roll(7 * k, 0)[..., [k]], s.roll(7 * k, 0)[..., [k]], echoes=32, end=end[..., [k]]) for k in (0, 1)
    ]
    return torch.cat(parts, -1)


def centred(f: Tensor, s: Tensor, end: Tensor) -> Tensor:
    """A wrong noise: its mean taken off, though S follows the input."""
    return echo_noise(f, s, echoes=32, end=end) - stationary_moments(f.flatten(0, 1), s.flatten(0, 1))[0]


def one_term(f: Tensor, s: Tensor, end: Tensor) -> Tensor:
    """A wrong noise: cut off after one term."""
    return f.roll(-1, -2)


N_LAW = 20_000


@pytest.fixture(scope="module")
def independent_echoes() -> Tensor:
    f, s, end = rows_of(N_LAW, seed=50)
    return echo_noise(f, s, echoes=32, end=end)[:, 0]


def test_codes_and_independent_echoes_have_one_law(independent_echoes: Tensor) -> None:
    f, s, end = rows_of(N_LAW, seed=60)
    z, _ = echo(f, s.log(), echoes=32, end=end)
    assert same_law(z[:, 0], independent_echoes) > 1e-3


@pytest.mark.parametrize("wrong", [inclusive, own_scale, coordinate_wise, centred, one_term], ids=lambda w: w.__name__)
def test_a_wrong_noise_is_told_apart(wrong: Noise) -> None:
    """With a wrong e, the law of f + S e is not the law of e, so the test above would see it."""
    f, s, end = rows_of(N_LAW, seed=60)
    other = rows_of(N_LAW, seed=50)
    z = (f + s * wrong(f, s, end))[:, 0]
    assert same_law(z, wrong(*other)[:, 0]) < 1e-6


def test_a_scale_that_is_read_twice_is_told_apart(independent_echoes: Tensor) -> None:
    f, s, end = rows_of(N_LAW, seed=60)
    z = (f + s.exp() * echo_noise(f, s, echoes=32, end=end))[:, 0]
    assert same_law(z, independent_echoes) < 1e-6


def test_echoes_of_another_sample_in_each_coordinate_lose_the_total_correlation() -> None:
    """Then I = R - TC(Z), less than the sum of the rates (Gaussian)."""
    s, n = 0.6, 100_000
    x = normal(n, 1, seed=0)
    noise = normal(n, 2, seed=1) / math.sqrt(1 - s * s)
    z = x + s * noise
    covariance = torch.cov(torch.cat([x, z], 1).T)
    information = 0.5 * torch.log(
        torch.linalg.det(covariance[1:, 1:]) * covariance[0, 0] / torch.linalg.det(covariance)
    )
    total_correlation = 0.5 * torch.log(covariance[1, 1] * covariance[2, 2] / torch.linalg.det(covariance[1:, 1:]))
    assert float(information) == pytest.approx(-2 * math.log(s) - float(total_correlation), abs=5 / math.sqrt(n))


def test_drawing_with_replacement_lets_the_row_into_its_own_noise() -> None:
    """Without replacement x and e are independent per row; with it they are not."""
    n, rows, s = 40_000, 33, 0.84
    x = normal(n, rows, 1, seed=2)
    scale = torch.full_like(x, s)
    e = echo_noise(x, scale, echoes=32)[:, 0, 0]
    assert abs(float((x[:, 0, 0] * e).mean())) < 5 * float((x[:, 0, 0] * e).std()) / math.sqrt(n)
    variance = (1 - s**64) / (1 - s * s)
    assert float(e.var()) == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / n))
    picks = torch.randint(rows, (n, 32), generator=generator(3))
    repeated = (torch.take_along_dim(x[..., 0], picks, 1) * s ** torch.arange(32)).sum(1)
    assert float(repeated.var()) > variance * 1.05
    assert float((x[:, 0, 0] * repeated).mean()) > 5 * float((x[:, 0, 0] * repeated).std()) / math.sqrt(n)


# -- how the sum ends


def truncated_information(f: Curve, s: Curve, echoes: int, end: str) -> tuple[float, float]:
    """R and I_M = R + h(e_{M+1}) - h(e_M) for x uniform on [0, 1], from densities on a grid.

    end: "zero", "mean" or "gaussian", what the innermost bracket holds.
    """
    u, q = nodes(60)
    a, b = f(u), s(u)
    mu = float(q @ a) / (1 - float(q @ b))
    second = (float(q @ a**2) + 2 * mu * float(q @ (a * b))) / (1 - float(q @ b**2))
    spread = math.sqrt(second - mu * mu)
    t = np.linspace(mu - 14 * spread, mu + 14 * spread, 6001)
    if end == "gaussian":
        p = np.exp(-0.5 * ((t - mu) / spread) ** 2) / math.sqrt(2 * math.pi) / spread
        terms = 0
    else:  # the density of the first bracket f(x) + s(x) end, by its quantile function
        fine = np.linspace(0, 1, 200_001)
        first = f(fine) + s(fine) * (mu if end == "mean" else 0.0)
        p = np.diff(np.interp(np.append(t, 2 * t[-1] - t[-2]) - (t[1] - t[0]) / 2, np.sort(first), fine)) / (
            t[1] - t[0]
        )
        terms = 1
    step = t[1] - t[0]
    h: list[float] = []
    for count in range(terms, echoes + 2):
        if count > terms:
            p = sum(w * np.interp((t - x) / y, t, p, left=0.0, right=0.0) / y for x, y, w in zip(a, b, q, strict=True))
            p = p / (p.sum() * step)
        h.append(float(-(p[p > 0] * np.log(p[p > 0])).sum() * step))
    rate = -float(q @ np.log(b))
    return rate, rate + h[-1] - h[-2]


@pytest.mark.parametrize(
    ("slope", "at_zero"), [((0.5, 0.4), 9.5e-4), ((0.9, -0.4), -4.8e-3)], ids=["rising scale", "falling scale"]
)
def test_an_echo_ended_at_zero_is_biased_and_one_with_the_right_moments_is_not(
    slope: tuple[float, float], at_zero: float
) -> None:
    def error(end: str) -> float:
        rate, information = truncated_information(lambda u: u, lambda u: slope[0] + slope[1] * u, 16, end)
        return information - rate

    assert error("zero") == pytest.approx(at_zero, rel=0.03)
    assert abs(error("mean")) < 2e-5
    assert abs(error("gaussian")) < 2e-5


def test_coin_flips_ended_at_zero_carry_all_of_x_and_ended_with_a_gaussian_carry_the_rate() -> None:
    """X = +-1, s = .9, M = 14: without an end, e has 2^14 atoms and z reveals x."""
    s, echoes = 0.9, 14
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=echoes)), dtype=DOUBLE)
    e = signs @ s ** torch.arange(echoes, dtype=DOUBLE)
    z = torch.cat([1 + s * e, -1 + s * e])
    assert len(z.unique()) == len(z)  # all differ, so H(X|Z) = 0 and I = log 2
    rate = -math.log(s)
    spread = 1 / math.sqrt(1 - s * s)
    t = np.linspace(-14 * spread, 14 * spread, 8001)
    p = np.exp(-0.5 * (t / spread) ** 2) / math.sqrt(2 * math.pi) / spread
    h = []
    for _ in range(echoes + 1):
        p = sum(0.5 * np.interp((t - x) / s, t, p, left=0.0, right=0.0) / s for x in (-1.0, 1.0))
        h.append(-float((p[p > 0] * np.log(p[p > 0])).sum()) * (t[1] - t[0]))
    assert rate + h[-1] - h[-2] == pytest.approx(rate, abs=2e-3)
    assert rate == pytest.approx(0.105, abs=5e-4)


def test_a_finite_sum_of_the_sampler_ended_at_zero_gives_x_away() -> None:
    x = torch.randint(2, (2_000, 17, 1), generator=generator(0)).to(DOUBLE) * 2 - 1
    bare = echo(x, torch.full_like(x, math.log(0.9)), echoes=16).z[..., 0]
    # 2^16 possible echoes: z is one of 2^17 numbers and each belongs to one x
    possible = torch.zeros(1, dtype=DOUBLE)
    for k in range(16):
        possible = torch.cat([possible + 0.9**k, possible - 0.9**k])
    up, down = (1 + 0.9 * possible).sort().values, (-1 + 0.9 * possible).sort().values

    def distance(table: Tensor, values: Tensor) -> Tensor:
        at = torch.searchsorted(table, values).clamp(1, len(table) - 1)
        return torch.minimum((table[at] - values).abs(), (table[at - 1] - values).abs())

    guess = torch.where(distance(up, bare[:, 0].contiguous()) < distance(down, bare[:, 0].contiguous()), 1.0, -1.0)
    assert torch.equal(guess.to(DOUBLE), x[:, 0, 0])
    spread = 1 / math.sqrt(1 - 0.81)
    ended = echo(x, torch.full_like(x, math.log(0.9)), echoes=16, end=spread * normal(2_000, 17, 1, seed=1)).z[:, 0, 0]
    guess = torch.where(distance(up, ended.contiguous()) < distance(down, ended.contiguous()), 1.0, -1.0)
    assert float((guess.to(DOUBLE) == x[:, 0, 0]).double().mean()) < 0.75
