"""Corrected entropies against published values, independent code, exact expectations and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import gammaln, polygamma, psi
from scipy.stats import binom

from infoplane.errors import InfoplaneError
from infoplane.estimators.corrections import CORRECTIONS, corrected_entropy, corrected_information

METHODS = list(CORRECTIONS)
SAMPLES = {
    "birds": [4, 2, 3, 0, 2, 4, 0, 0, 2, 1, 1],
    "one": [1],
    "once each": [1] * 6,
    "twice each": [2] * 5,
    "one symbol": [0, 40, 0],
    "two": [7, 1],
    "steep": [1000, 300, 41, 12, 5, 3, 1, 1, 1],
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def entropy(counts: object, method: str, symbols: float | None = None) -> float:
    return float(corrected_entropy(np.asarray(counts), method, symbols=symbols))


@pytest.mark.parametrize(
    ("counts", "method", "value"),
    [
        # the R package entropy
        (SAMPLES["birds"], "plug-in", 1.968382408728),
        (SAMPLES["birds"], "chao-shen", 2.201137101279),
        (SAMPLES["once each"], "chao-shen", 3.840549310406),
    ],
)
def test_published_values(counts, method, value):
    assert entropy(counts, method) == pytest.approx(value, abs=1e-11)


def test_published_values_of_nsb():
    """Values of the package ndd, accurate to 5e-6, and of the same integral with 30 digits."""
    counts = [4, 12, 4, 5, 3, 1, 5, 1, 2, 2, 2, 2, 11, 3, 4, 12, 12, 1, 2]
    assert entropy(counts, "nsb", 100) == pytest.approx(2.8060922529931225, abs=1e-5)
    assert entropy(counts, "nsb", 100) == pytest.approx(2.80609691605432906, abs=1e-12)
    more = [7, 3, 5, 8, 9, 1, 3, 3, 1, 0, 2, 5, 2, 11, 4, 23, 5, 0, 8, 0]
    assert entropy(more, "nsb", 20) == pytest.approx(2.623634344902917, abs=1e-8)


# --- independent code


def grassberger_g(n: int) -> float:
    """Compute G_n by Grassberger's recursion, from G_1 = -gamma - ln 2."""
    g = -np.euler_gamma - math.log(2)
    if n > 1:
        g += 2 + sum(2 / (2 * k + 1) for k in range(1, n // 2))
    return g


def plainly(counts: list[int], method: str, symbols: float) -> float:
    """The formulae symbol by symbol, and NSB's integral by quadrature."""
    seen = [c for c in counts if c > 0]
    n = sum(seen)
    if method in ("plug-in", "miller-madow"):
        plug_in = -sum(c / n * math.log(c / n) for c in seen)
        return plug_in if method == "plug-in" else plug_in + (len(seen) - 1) / (2 * n)
    if method == "grassberger":
        return math.log(n) - sum(c * grassberger_g(c) for c in seen) / n
    if method == "chao-shen":
        single = seen.count(1)
        p = [(1 - (single if single < n else n - 1) / n) * c / n for c in seen]
        return -sum(q * math.log(q) / (1 - (1 - q) ** n) for q in p)
    filled = np.array(seen + [0] * (int(symbols) - len(seen)))

    def log_weight(u: float) -> float:
        b = math.exp(u)
        likelihood = gammaln(symbols * b) - gammaln(n + symbols * b) + (gammaln(filled + b) - gammaln(b)).sum()
        return math.log(b * (symbols * polygamma(1, symbols * b + 1) - polygamma(1, b + 1))) + likelihood

    def mean(u: float) -> float:
        b = math.exp(u)
        return psi(n + symbols * b + 1) - ((filled + b) / (n + symbols * b) * psi(filled + b + 1)).sum()

    peak = max(log_weight(u) for u in np.linspace(-12, 9, 300))
    integrals = [
        quad(
            lambda u, m=m: math.exp(log_weight(u) - peak) * m(u),
            -25,
            13,
            limit=800,
            epsabs=1e-11,
            points=(-8, -3, 0, 3),
        )
        for m in (mean, lambda u: 1.0)
    ]
    return integrals[0][0] / integrals[1][0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_agrees_with_independent_code(sample, method):
    counts = SAMPLES[sample]
    symbols = max(len(counts), 3)
    tolerance = 1e-5 if method == "nsb" else 1e-10  # the quadrature ends at exp(13)
    assert entropy(counts, method, symbols) == pytest.approx(plainly(counts, method, symbols), abs=tolerance)


@pytest.mark.parametrize(
    ("counts", "symbols", "value"),
    [
        ([3], 4, 0.349050490885960061770),
        ([5, 2], 2, 0.593858989247476020406),
        ([1, 1, 1], 1000, 4.405987075552173953),
        ([1000, 1], 2, 0.008925554587011583785),
    ],
)
def test_nsb_with_thirty_digits(counts, symbols, value):
    assert entropy(counts, "nsb", symbols) == pytest.approx(value, abs=1e-11)


# --- known properties


def test_a_single_point_leaves_nsb_with_its_prior():
    """The prior is uniform in the entropy, so the answer is ln K / 2."""
    for symbols in (1, 2, 10, 1e6, 1e200):
        assert entropy([1], "nsb", symbols) == pytest.approx(math.log(symbols) / 2, rel=1e-8)


def test_nsb_of_very_many_symbols():
    """NSB depends on the number of symbols only when few points coincide."""
    often = rng().multinomial(400, np.full(100, 0.01))
    found = [entropy(often, "nsb", k) for k in (1e10, 1e100, 1e250)]
    assert max(found) - min(found) < 0.1
    assert found[0] == pytest.approx(math.log(100), abs=0.15)
    never = [entropy(np.ones(50, dtype=int), "nsb", k) for k in (1e3, 1e6, 1e9)]
    assert never[0] + 3 < never[1] < never[2] - 3
    # a narrow posterior is found: its width is about 1 / sqrt(K)
    many = rng(1).multinomial(10**8, np.full(10**5, 1e-5))
    assert entropy(many, "nsb", 1e5) == pytest.approx(math.log(1e5), abs=1e-5)


def test_uniform_over_1024_symbols():
    """Averages of 100 samples; the plug-in's is exactly 1024 E[-n/N ln n/N] of a binomial n."""
    k, repeats = 1024, 100
    expected = {  # of single samples, from another program
        300: {"plug-in": 5.53, "miller-madow": 5.96, "nsb": 6.88},
        1000: {"plug-in": 6.36, "miller-madow": 6.69, "nsb": 6.92},
        4000: {"plug-in": 6.80, "miller-madow": 6.93, "nsb": 6.93},
    }
    for n, known in expected.items():
        counts = rng(n).multinomial(n, np.full(k, 1 / k), size=repeats)
        for method in METHODS:
            found = corrected_entropy(counts[: 30 if method == "nsb" else repeats], method, symbols=k)
            mean, sd = float(found.mean()), float(found.std())
            if method in known:
                assert abs(mean - known[method]) < 2.5 * sd + 0.005
            if method == "plug-in":
                m = np.arange(1, 100)
                exact = k * float((binom.pmf(m, n, 1 / k) * -(m / n) * np.log(m / n)).sum())
                assert abs(mean - exact) < 4 * sd / math.sqrt(repeats)
            else:  # each is nearer to ln 1024 than the plug-in
                assert abs(mean - math.log(k)) < math.log(k) - float(corrected_entropy(counts, "plug-in").mean())


@pytest.mark.parametrize("method", METHODS)
def test_many_points_give_the_truth(method):
    p = np.array([0.5, 0.25, 0.125, 0.1, 0.025])
    truth = float(-(p * np.log(p)).sum())
    n = 200_000
    found = corrected_entropy(rng(3).multinomial(n, p, size=20), method, symbols=5)
    spread = math.sqrt(float((p * np.log(p) ** 2).sum() - truth**2) / n)  # of the plug-in, to first order
    assert abs(float(found.mean()) - truth) < 4 * spread / math.sqrt(20) + 5 / n
    assert float(found.std()) == pytest.approx(spread, rel=0.7)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001])
def test_one_symbol_alone(n):
    for method in ("plug-in", "miller-madow", "chao-shen"):
        assert entropy([n, 0, 0], method) == 0.0
        assert math.copysign(1.0, entropy([n], method)) == 1.0
    assert entropy([n], "nsb", 1) == 0.0
    assert 0 < entropy([n], "nsb", 8) <= math.log(8) / 2 + 1e-12
    assert entropy([n], "grassberger") == pytest.approx(math.log(n) - grassberger_g(n), abs=1e-12)
    assert abs(entropy([n], "grassberger")) < 1.28 / n


def test_nothing_is_clipped():
    assert entropy([2], "grassberger") == pytest.approx(math.log(2) - 2 + np.euler_gamma + math.log(2))  # -0.0365
    assert entropy([1] * 6, "chao-shen") > math.log(6)


@pytest.mark.parametrize("method", METHODS)
def test_symmetries_and_forms(method):
    counts = rng(5).poisson(3, size=(4, 30))
    together = corrected_entropy(counts, method, symbols=64)
    assert together.shape == (4,)
    assert together.dtype == torch.float64
    order = rng(6).permutation(30)
    padded = np.concatenate([counts[:, order], np.zeros((4, 9), dtype=int)], 1)
    assert corrected_entropy(padded, method, symbols=64).tolist() == pytest.approx(together.tolist(), abs=1e-12)
    for dtype in (torch.int64, torch.uint8):
        tensor = torch.tensor(counts, dtype=dtype)
        assert torch.equal(corrected_entropy(tensor, method, symbols=64), together)
    alone = corrected_entropy(torch.tensor(counts[2]), method, symbols=64)
    assert alone.shape == ()
    assert float(alone) == pytest.approx(float(together[2]), abs=1e-12)
    each = torch.tensor([40.0, 64.0, 100.0, 1e6])
    by_row = corrected_entropy(counts, method, symbols=each)
    for r in range(4):
        assert float(by_row[r]) == pytest.approx(entropy(counts[r], method, float(each[r])), abs=1e-12)
    if method != "nsb":
        assert torch.equal(corrected_entropy(counts, method), together)


@pytest.mark.parametrize("method", METHODS)
def test_information(method):
    table = np.array([[30, 1, 0], [2, 25, 4]])
    expected = (
        entropy(table.sum(1), method, 2) + entropy(table.sum(0), method, 3) - entropy(table.reshape(-1), method, 6)
    )
    found = corrected_information(torch.tensor(table), method, symbols=(2, 3))
    assert found.shape == ()
    assert float(found) == pytest.approx(expected, abs=1e-12)
    stacked = corrected_information(np.stack([table, table[::-1]]), method, symbols=(2, 3))
    assert stacked.tolist() == pytest.approx([expected] * 2, abs=1e-12)
    swapped = corrected_information(table.T, method, symbols=(3, 2))
    assert float(swapped) == pytest.approx(expected, abs=1e-12)
    # a copy of 4 symbols that are seen often gives ln 4; independent symbols give 0
    copy = corrected_information(np.diag([5000] * 4), method, symbols=(4, 4))
    assert float(copy) == pytest.approx(math.log(4), abs=2e-3)
    apart = corrected_information(np.full((4, 4), 5000), method, symbols=(4, 4))
    assert float(apart) == pytest.approx(0.0, abs=2e-4)
    if method != "nsb":
        assert float(corrected_information(table, method)) == float(found)


def test_information_of_independent_variables_is_less_biased():
    """The plug-in's bias is (A - 1)(B - 1) / 2N; Miller-Madow removes it, and is often negative."""
    n, a, b = 300, 8, 6
    counts = rng(8).multinomial(n, np.full(a * b, 1 / (a * b)), size=200).reshape(200, a, b)
    plug_in, corrected = (corrected_information(counts, m) for m in ("plug-in", "miller-madow"))
    assert float(plug_in.mean()) == pytest.approx((a - 1) * (b - 1) / (2 * n), rel=0.1)
    assert abs(float(corrected.mean())) < 0.1 * float(plug_in.mean())
    assert 0.2 < float((corrected < 0).double().mean()) < 0.8


@pytest.mark.parametrize(
    ("counts", "method", "symbols", "says"),
    [
        (torch.zeros(3), "plug-in", None, "an array of torch.float32; expected a tensor or array of integers"),
        (np.ones(3), "plug-in", None, "an array of float64; expected"),
        (np.ones(3, dtype=bool), "plug-in", None, "an array of bool"),
        (torch.ones(3, dtype=torch.bool), "plug-in", None, "an array of torch.bool"),
        ([1, 2], "plug-in", None, "a list; expected"),
        (np.ones((1, 1, 3), dtype=int), "plug-in", None, r"shape \(1, 1, 3\); expected \(K,\) or \(R, K\)"),
        (np.ones(0, dtype=int), "plug-in", None, r"shape \(0,\)"),
        (np.array([3, -2]), "plug-in", None, "the least count is -2; expected counts of at least 0"),
        (np.array([[1, 2], [0, 0]]), "plug-in", None, "a row holds no point"),
        (np.array([1, 2]), "nsb", None, "'nsb' needs the number of possible symbols"),
        (np.array([1, 2]), "nsb", 1, "symbols=1, but 2 were seen; expected at least as many"),
        (np.array([1, 2]), "plug-in", math.nan, "symbols=nan"),
        (np.array([1, 2]), "nsb", 1e300, "at most 1e.250"),
        (np.array([1, 2]), "nsb", np.array([3, 4]), r"symbols has shape \(2,\); expected a number, or 1 of them"),
    ],
)
def test_bad_input_is_named(counts, method, symbols, says):
    with pytest.raises(InfoplaneError, match=f"corrected_entropy: .*{says}"):
        corrected_entropy(counts, method, symbols=symbols)


def test_bad_method_and_tables_are_named():
    with pytest.raises(
        InfoplaneError, match=r"Unknown correction 'miller'\. Did you mean 'miller-madow'\? Known: plug-in"
    ):
        corrected_entropy(np.array([1, 2]), "miller")
    with pytest.raises(InfoplaneError, match=r"corrected_information: the counts have shape \(2,\); expected \(A, B\)"):
        corrected_information(np.array([1, 2]), "plug-in")
    with pytest.raises(InfoplaneError, match="corrected_information: symbols=4; expected a pair"):
        corrected_information(np.ones((2, 2), dtype=int), "nsb", symbols=4)
    with pytest.raises(InfoplaneError, match="corrected_information: 'nsb' needs the number"):
        corrected_information(np.ones((2, 2), dtype=int), "nsb")
