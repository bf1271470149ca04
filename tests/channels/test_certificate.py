"""Verdicts on rates against known information: a wrong "exact" is the worst that can happen."""

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from infoplane.channels.bank import Bank
from infoplane.channels.certificate import CONDITIONS, SEARCHES, Certificate, certify
from infoplane.channels.echo import moment_step
from infoplane.channels.evidence import CELLS, Evidence
from infoplane.channels.insertion import insert_echo
from infoplane.channels.models import measuring
from infoplane.channels.stack import fill_banks
from infoplane.streams import Streams
from infoplane.warning_codes import WARNINGS
from tests.channels.certified import (
    DOUBLE,
    LOG2,
    NINE,
    RICH,
    eights,
    evidence,
    flat,
    judge,
    reach,
    right,
    seen_at,
    signs,
    tied,
    uniform,
    with_bank,
)
from tests.drawn import normal


def test_the_yardstick_gives_the_numbers_of_the_book() -> None:
    """Return the known I of X = +-1, min(R, H), and the part that a thousand cells show."""
    for s, information in ((1 / 3, 0.6931), (0.45, 0.693), (0.5, 0.6931), (0.7, 0.3567), (0.618034, 0.479)):
        assert seen_at(4000, [-1.0, 1.0], s) == pytest.approx(information, abs=2e-3)


# -- what is exact


def test_a_plain_layer_is_exact() -> None:
    c = judge(normal(4096, 3, seed=0), [0.4, 0.6, 0.5])
    assert (c.standing, c.warnings) == ("exact", ())
    assert c.value == pytest.approx(-math.log(0.4 * 0.6 * 0.5))
    assert c.rate == pytest.approx(c.value)
    assert c.tail < 1e-6
    assert c.error < 0.01  # the draws of `Evidence.seen` scatter so much
    assert c.stderr == 0.0
    assert c.n == 4096
    assert c.ceiling == pytest.approx(math.log(4096))
    assert c.code_entropy == pytest.approx(math.log(4096))
    assert c.margin == pytest.approx(c.rate / math.log(4096), abs=0.02)


@pytest.mark.parametrize("n", [4, 8, 16, 64])
@pytest.mark.parametrize("ratio", [0.3, 0.59])
def test_few_codes_are_exact_below_the_margin(n: int, ratio: float) -> None:
    f = normal(n, seed=n)
    s = math.exp(-ratio * math.log(n))
    c = judge(f, s)
    truth = seen_at(10_000, f, s)
    if c.standing == "exact":
        assert abs(c.value - truth) <= max(reach(c), 0.01 * truth)
    assert c.standing == "exact" or "near-ceiling" in c.warnings or "resolution" in c.warnings


@pytest.mark.parametrize("kind", ["rising", "falling", "curved"])
def test_scales_that_follow_the_input_are_exact(kind: str) -> None:
    u = torch.linspace(-1, 1, 256, dtype=DOUBLE)
    f = {"rising": u, "falling": u, "curved": (3 * u).sin()}[kind]
    s = {"rising": 0.5 + 0.4 * u, "falling": 0.5 - 0.4 * u, "curved": 0.2 + 0.6 * u * u}[kind]
    c = judge(f, s)
    assert c.standing == "exact"
    assert abs(c.value - seen_at(4000, f, s)) <= max(reach(c), 0.01 * c.value)


def test_two_values_below_their_margin_are_exact_beside_others() -> None:
    """Few values of a coordinate only lower its ceiling: here R_1 = .22 is under .6 log 2."""
    c = judge(torch.cat([signs(4096).unsqueeze(1), normal(4096, 2, seed=0)], 1), [0.8, 0.5, 0.6])
    assert (c.standing, c.warnings) == ("exact", ())
    assert c.value == pytest.approx(-math.log(0.8 * 0.5 * 0.6))


def test_a_rotation_is_a_bound_and_its_rate_counts_all_coordinates() -> None:
    turn = torch.linalg.qr(normal(3, 3, seed=1))[0]
    c = judge(normal(4096, 3, seed=0), [0.4, 0.6, 0.5], sides=turn)
    assert (c.standing, c.warnings) == ("upper", ("mixed",))
    assert c.value == pytest.approx(-math.log(0.4 * 0.6 * 0.5))


def test_a_void_coordinate_is_dropped_and_the_rest_stays_exact() -> None:
    f, s = normal(4096, 2, seed=0), uniform(4096, 2, seed=1, low=0.3, high=0.6)
    whole = torch.cat([f, torch.zeros(4096, 1, dtype=DOUBLE), 2 * (1 - uniform(4096, 1, seed=2, low=0.1))], 1)
    scales = torch.cat([s, uniform(4096, 1, seed=3, low=0.1, high=0.9), uniform(4096, 1, seed=2, low=0.1)], 1)
    c = judge(whole, scales)
    assert c.void == (2, 3)
    assert c.warnings == ("void",)
    assert c.standing == "exact"
    assert c.value == pytest.approx(float(-s.log().sum(1).mean()))
    assert c.rate == pytest.approx(float(-scales.log().sum(1).mean()))


def test_a_layer_of_dead_units_holds_nothing() -> None:
    c = judge(torch.zeros(100, 2, dtype=DOUBLE), uniform(100, 2, seed=0, low=0.1, high=0.9))
    assert c.void == (0, 1)
    assert c.value == 0.0
    assert c.rate > 0


# -- what is not exact


def test_a_rate_above_the_entropy_of_the_inputs() -> None:
    c = judge(signs(4096), 1 / 3)
    assert c.standing == "upper"
    assert c.warnings == ("above-ceiling",)
    assert c.rate == pytest.approx(math.log(3))
    assert c.value == pytest.approx(LOG2)
    assert c.ceiling == pytest.approx(math.log(4096))
    assert c.code_entropy == pytest.approx(LOG2)


def test_a_coordinate_with_two_values_has_a_ceiling_of_its_own() -> None:
    """A two-valued f_1 with s_1 = .1 beside a rich f_2: R = 2.665, bound 1.056, truth 1.030."""
    f = torch.stack([signs(64), normal(64, seed=1)], 1)
    s = [0.1, math.exp(-0.363)]
    c = judge(f, s)
    assert c.rate == pytest.approx(2.665, abs=1e-3)
    assert c.standing == "upper"
    assert c.warnings == ("above-ceiling",)
    assert c.value == pytest.approx(1.056, abs=1e-3)


@pytest.mark.parametrize("kind", ["affine", "relu"])
def test_constant_codes_are_void(kind: str) -> None:
    s = uniform(1000, seed=0, low=0.1, high=0.9)
    f = 3 * (1 - s) if kind == "affine" else (normal(1000, seed=1) - 10).relu()
    c = judge(torch.stack([f, normal(1000, seed=2)], 1), torch.stack([s, torch.full_like(s, 0.5)], 1))
    assert c.void == (0,)
    assert "void" in c.warnings
    assert c.value == pytest.approx(LOG2)


def test_a_constant_f_with_a_varying_scale_is_not_void() -> None:
    """All of the rate is real, though f takes one value."""
    s = uniform(64, seed=0, low=0.2, high=0.6)
    c = judge(torch.ones(64, dtype=DOUBLE), s)
    assert c.void == ()
    assert "void" not in c.warnings
    assert c.value == pytest.approx(seen_at(1000, np.ones(64), s), abs=1e-3)


@pytest.mark.parametrize("kind", ["equal", "opposite", "sum"])
def test_dependent_coordinates_are_not_exact(kind: str) -> None:
    u = normal(4096, 2, seed=0)
    third = {"equal": u[:, :1], "opposite": -2 * u[:, :1], "sum": u.sum(1, keepdim=True)}[kind]
    c = judge(torch.cat([u, third], 1), 0.6)
    assert c.standing == "upper"
    assert "dependent" in c.warnings
    assert c.smallest_eigenvalue < 1e-9
    apart = judge(u, 0.6)
    assert apart.standing == "exact"
    assert apart.smallest_eigenvalue > 0.1


@pytest.mark.parametrize("zeros", [0.9, 0.95, 0.99])
def test_sparse_coordinates_are_not_exact(zeros: float) -> None:
    """All codes (f, s) differ, but the maps z -> s z commute: R = 1.3 nats, the truth .15 to .7."""
    s = uniform(2048, seed=0, low=0.05, high=0.6)
    f = torch.where(uniform(2048, seed=1) < zeros, 0.0, normal(2048, seed=2))
    assert judge(f, s).standing == "upper"
    assert judge(normal(2048, seed=2), s).standing == "exact"


def test_clustered_codes_carry_their_rate_in_digits_nobody_reads() -> None:
    """f = +-1 + .001 u, s = .1: of R = 2.303, 1e3, 1e4, 1e5 cells show .86, 2.02, 2.28."""
    f = signs(128) + 0.001 * uniform(128, seed=1, low=-1)
    c = judge(f, 0.1)
    assert c.rate == pytest.approx(2.303, abs=1e-3)
    assert seen_at(1_000, f, 0.1, points=8_000) < 0.9
    assert c.standing == "upper"
    assert c.warnings == ("resolution",)


@pytest.mark.parametrize("spread", [0.5, 0.2, 0.05, 0.02, 0.01, 0.003, 0.001, 1e-4])
def test_clusters_are_exact_where_they_are_seen(spread: float) -> None:
    f = signs(256) + spread * uniform(256, seed=1, low=-1)
    c = judge(f, 0.3)
    truth = seen_at(CELLS, f, 0.3, points=8 * CELLS)
    assert right(c, truth), (c.value, truth)
    if spread >= 0.2:
        assert c.standing == "exact"
    if spread <= 0.003:
        assert c.warnings == ("resolution",)


def test_codes_that_are_few_together() -> None:
    """Four points that lie on no line: R = 2.4 against log 4."""
    four = torch.arange(1024).remainder(4).to(DOUBLE)
    c = judge(torch.stack([four, (four - 1).square() + 0.1 * four], 1), 0.3)
    assert c.standing == "upper"
    assert c.warnings == ("above-ceiling",)
    assert c.value == c.code_entropy == pytest.approx(math.log(4))


def test_a_mixing_layer_has_the_ceiling_of_its_codes() -> None:
    f = torch.stack([signs(1024, seed=0), signs(1024, seed=1)], 1)
    c = judge(f, 0.2, sides=torch.linalg.qr(normal(2, 2, seed=1))[0])
    assert c.standing == "upper"
    assert "above-ceiling" in c.warnings
    assert c.value == c.code_entropy == pytest.approx(math.log(4), abs=0.01)


def test_a_coordinate_that_is_mixed_is_not_void() -> None:
    """f_1 = 0 and s_1 varies freely, but z_1 hears the other coordinate."""
    f = torch.stack([torch.zeros(1024, dtype=DOUBLE), normal(1024, seed=0)], 1)
    c = judge(f, [0.5, 0.6], sides=torch.linalg.qr(normal(2, 2, seed=1))[0])
    assert c.void == ()
    assert c.value == pytest.approx(-math.log(0.3))


def test_above_noise_two_values_are_no_ceiling_and_no_margin_either() -> None:
    c = judge(signs(4096), 0.3, first=False)
    assert c.standing == "upper"
    assert c.warnings == ("near-ceiling",)
    assert c.value == pytest.approx(-math.log(0.3))
    assert math.isnan(c.code_entropy)


@pytest.mark.parametrize("factor", [1e-5, 1e5])
def test_units_do_not_matter(factor: float) -> None:
    u, s = normal(4096, 2, seed=0), [0.4, 0.6]
    for f in (u, u[:, [0, 0]], torch.cat([u[:, :1], 0 * u[:, :1]], 1), u.sign()):
        plain, scaled = judge(f, s), judge(factor * f, s)
        assert (plain.standing, plain.warnings, plain.void) == (scaled.standing, scaled.warnings, scaled.void)
        assert plain.value == pytest.approx(scaled.value)
        assert plain.smallest_eigenvalue == pytest.approx(scaled.smallest_eigenvalue, abs=1e-9)
    assert judge(factor * u[:, [0, 0]], 0.5).warnings == judge(u[:, [0, 0]], 0.5).warnings != ()


# -- every warning: one case that trips it and one that does not

CASES: dict[str, Callable[[], tuple[Certificate, Certificate]]] = {
    "above-ceiling": lambda: (judge(signs(1000), 0.3), judge(signs(1000), 0.8)),
    "near-ceiling": lambda: (judge(signs(1000), math.exp(-0.62 * LOG2)), judge(signs(1000), math.exp(-0.58 * LOG2))),
    "near-ceiling of a subset": lambda: (
        judge(torch.cat([tied(), RICH], 1), [0.4] * 3 + [0.9] * 2),
        judge(torch.cat([tied(), RICH], 1), [0.7] * 3 + [0.9] * 2),
    ),
    "resolution": lambda: (
        judge(signs(256) + 1e-7 * uniform(256, seed=1), 0.2),
        judge(signs(256) + 1e-1 * uniform(256, seed=1), 0.2),
    ),
    "unchecked-subsets": lambda: (judge(eights(40), math.exp(-0.1)), judge(eights(8), math.exp(-0.1))),
    "unchecked-subsets of flats": lambda: (judge(NINE, math.exp(-0.5)), judge(NINE[:, :4], math.exp(-0.5))),
    "resolution of half precision": lambda: tuple(  # type: ignore[arg-type,return-value]
        certify(replace(seen, z=seen.z.to(dtype)))
        for seen in (evidence(RICH, 0.5),)
        for dtype in (torch.bfloat16, torch.float32)
    ),
    "wide": lambda: (judge(normal(1024, 65, seed=1), 0.97), judge(normal(1024, 64, seed=1), 0.97)),
    "dependent": lambda: (judge(RICH[:, [0, 0]], 0.5), judge(RICH, 0.5)),
    "few-valued": lambda: (
        judge(torch.stack([RICH[:, 0], 0.5 * signs(4096) - RICH[:, 0]], 1), 0.2),
        judge(torch.stack([RICH[:, 0], 0.5 * RICH[:, 1] - RICH[:, 0]], 1), 0.2),
    ),
    "few-valued in five dimensions": lambda: (judge(flat(5, 0.5), 0.6), judge(flat(5, 0.35), 0.6)),
    "few-valued in two combinations of four": lambda: (
        judge(flat(4, 0.25, missing=2), math.exp(-0.45)),
        judge(flat(4, 0.15, missing=2), math.exp(-0.45)),
    ),
    "few-valued in space": lambda: (
        judge(torch.cat([RICH, RICH.sum(1, keepdim=True) + signs(4096).unsqueeze(1)], 1), 0.4),
        judge(torch.cat([RICH, RICH.sum(1, keepdim=True) + normal(4096, 1, seed=3)], 1), 0.4),
    ),
    "mixed": lambda: (judge(RICH, 0.5, sides=torch.eye(2, dtype=DOUBLE)), judge(RICH, 0.5)),
    "void": lambda: (judge(RICH * torch.tensor([1.0, 0.0]), 0.5), judge(RICH, 0.5)),
    "tail": lambda: (
        judge(RICH, 0.99999, bank=with_bank(RICH, 0.99999)),
        judge(RICH, 0.95, bank=with_bank(RICH, 0.95)),
    ),
    "few-reference": lambda: (
        judge(RICH, 0.5, first=False, bank=with_bank(RICH, 0.5, 4095)),
        judge(RICH, 0.5, first=False, bank=with_bank(RICH, 0.5, 4096)),
    ),
    "stale-bank": lambda: (
        judge(1.1 * RICH, 0.5, bank=with_bank(RICH, 0.5)),
        judge(RICH, 0.5, bank=with_bank(RICH, 0.5)),
    ),
    "stale-bank with a mean": lambda: (
        judge(1.1 * (RICH + 2), 0.5, bank=with_bank(RICH + 2, 0.5)),
        judge(RICH + 2, 0.5, bank=with_bank(RICH + 2, 0.5)),
    ),
    "stale-bank of scales": lambda: (judge(RICH, 0.5, bank=with_bank(RICH, 0.51)), judge(RICH, 0.5)),
    "stale-bank of another size": lambda: (
        judge(1.1 * (RICH - RICH.mean(0)), 0.5, bank=with_bank(RICH - RICH.mean(0), 0.5)),
        judge(RICH - RICH.mean(0), 0.5),
    ),
    "stale-bank above noise": lambda: (
        judge(1.1 * RICH, 0.5, first=False, bank=with_bank(RICH, 0.5)),
        judge(RICH, 0.5, first=False, bank=with_bank(normal(4096, 2, seed=8), 0.5)),
    ),
    "stale-bank of another mean above noise": lambda: (
        judge(RICH + 0.2, 0.5, first=False, bank=with_bank(RICH, 0.5)),
        judge(RICH + 0.2, 0.5, first=False, bank=with_bank(normal(4096, 2, seed=8) + 0.2, 0.5)),
    ),
    "batch-dependent": lambda: (judge(RICH, 0.5, repeat=2e-4), judge(RICH, 0.5, repeat=5e-5)),
    "other-law": lambda: (judge(RICH, 0.5, same_law=False), judge(RICH, 0.5, same_law=True)),
    "collapsed": lambda: (
        judge(RICH, 0.91, floor=-2 * math.log(0.9155)),
        judge(RICH, 0.88, floor=-2 * math.log(0.9155)),
    ),
}


@functools.cache
def case(name: str) -> tuple[Certificate, Certificate]:
    """A layer that trips the warning, and one that does not."""
    return CASES[name]()


def test_every_warning_of_echo_has_a_condition_and_a_case() -> None:
    names = list(WARNINGS)
    own = set(names[names.index("above-ceiling") :]) - {"chain"}
    assert own == {name.split(" ")[0] for name in CASES}
    assert own == {*CONDITIONS, *SEARCHES}


@pytest.mark.parametrize("name", CASES)
def test_each_warning_is_tripped_and_is_not(name: str) -> None:
    trips, passes = case(name)
    code = name.split(" ")[0]
    assert code in trips.warnings
    assert passes.warnings == ()
    assert passes.standing == "exact"
    if code not in ("void", "collapsed"):
        assert trips.standing == ("estimate" if code in ("tail", "stale-bank", "other-law") else "upper")


COLUMN = {
    "above-ceiling": "margin_ok",
    "near-ceiling": "margin_ok",
    "resolution": "resolution_ok",
    "unchecked-subsets": "margin_ok",
    "wide": "independent_ok",
    "dependent": "independent_ok",
    "few-valued": "independent_ok",
    "mixed": "independent_ok",
    "tail": "tail_ok",
    "few-reference": "references_ok",
    "stale-bank": "bank_ok",
    "batch-dependent": "deterministic_ok",
    "other-law": "law_ok",
}


@pytest.mark.parametrize("name", [name for name in CASES if name.split(" ")[0] in COLUMN])
def test_the_row_gives_a_verdict_beside_the_value(name: str) -> None:
    trips, passes = (c.row() for c in case(name))
    column = COLUMN[name.split(" ")[0]]
    assert trips[column] is False
    assert passes[column] is True
    assert name.split(" ")[0] in str(trips["warnings"]).split(";")
    assert passes["warnings"] == ""
    assert passes["law"] == "probe"
    assert passes["standing"] == "exact"


def test_the_collapse_and_the_void_are_in_the_row() -> None:
    trips, passes = (c.row() for c in case("collapsed"))
    assert trips["collapsed"] is True
    assert passes["collapsed"] is False
    assert case("void")[0].row()["void"] == "1"
    assert case("void")[1].row()["void"] == ""
    assert case("other-law")[0].row()["law"] == "other"


def test_the_tail_is_part_of_the_error() -> None:
    c = case("tail")[0]
    assert c.tail == pytest.approx(0.99999**8192)
    assert c.error >= c.tail


@pytest.mark.parametrize("first", [True, False])
def test_what_is_not_seen_of_the_rate_is_part_of_the_error(first: bool) -> None:
    c = judge(normal(4096, 2, seed=0), 0.1, first=first)
    assert c.standing == "exact"
    assert c.rate - c.seen > 1e-3
    assert c.error == pytest.approx(c.rate - c.seen + c.tail + (0.0 if first else 2 / 4096))


def test_a_code_above_noise_has_no_ceiling_and_a_standard_error() -> None:
    s = uniform(4096, 2, seed=3, low=0.3, high=0.7)
    c = judge(RICH, s, first=False)
    assert math.isnan(c.ceiling)
    assert math.isnan(c.repeat)
    assert c.standing == "exact"
    assert c.stderr >= float((-s.log().sum(1)).std()) / 64 * (1 - 1e-9)
    assert c.error > judge(RICH, s).error


def test_the_spread_of_the_rates_is_part_of_the_standard_error() -> None:
    """Signs have the same second moment in any bank, so nothing else is uncertain."""
    s = uniform(4096, seed=3, low=0.3, high=0.7)
    c = judge(signs(4096), s, first=False)
    assert c.stderr == pytest.approx(float(s.log().std()) / 64, rel=0.05)


def test_a_dropout_below_the_layer_is_noticed() -> None:
    """The Recorder passes some inputs twice; here this is done by hand."""

    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x, 0.1, training=True)

    verdicts = []
    for below in (Noisy(), nn.Dropout(0.1)):
        net = nn.Sequential(below, nn.Linear(2, 2)).double()
        model = insert_echo(net, ["1"], RICH[:4], scale="constant", bias=0.0)
        bank = fill_banks(model, RICH, streams=Streams([0]))["1.echo"]
        with measuring(model, "draw", Streams([1])) as layers:
            layers["1.echo"].watch = watch = []
            model(RICH)
            model(RICH)
        moved = float((watch[0].f - watch[1].f).abs().max() / watch[0].f.square().mean().sqrt())
        passed = [t[0] for t in watch[0]]
        verdicts.append(certify(Evidence(*passed, bank, 0, True, moved, True, True, 0.0)))
    assert "batch-dependent" in verdicts[0].warnings
    assert verdicts[0].standing != "exact"
    assert verdicts[1].warnings == ()
    assert verdicts[1].standing == "exact"


# -- the bound that is reported


@pytest.mark.parametrize("seed", range(6))
def test_the_value_is_never_below_the_information(seed: int) -> None:
    """With one coordinate and few weighted codes, the value is a bound, and close if exact."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 9))
    f, s = random.standard_normal(count), random.uniform(0.1, 0.8, count)
    repeats = random.integers(1, 40, count)
    c = judge(torch.as_tensor(np.repeat(f, repeats)), torch.as_tensor(np.repeat(s, repeats)))
    truth = seen_at(4000, f, s, q=repeats / repeats.sum())
    assert truth <= c.value + c.error + 1e-3
    if c.standing == "exact":
        assert abs(truth - c.value) <= max(reach(c), 0.01 * c.value)


# -- reference codes of finite number


def mismatch(f: Tensor, s: Tensor, law: tuple[Tensor, Tensor]) -> float:
    """Compute I(Z2;Z1) - R with one bank of codes f, s, (n, K), where (f, s) truly follow a law.

    Many draws of the law are given. The difference is h(Z) - h(e), the entropies of Gaussians with
    their moments, to a few per cent.
    """
    bank = Bank(f.unsqueeze(0), s.unsqueeze(0))
    noise = bank.covariance[0] + torch.outer(bank.mean[0], bank.mean[0])
    mean, second = moment_step(*law, bank.mean[0], noise)
    return float(torch.logdet(second - torch.outer(mean, mean)) - torch.logdet(bank.covariance[0])) / 2


ABOVE: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "gaussian": lambda v: (v[:, :1], torch.full_like(v[:, :1], 0.7)),
    "gaussian in space": lambda v: (v, torch.full_like(v, 0.7)),
    "relu": lambda v: (v[:, :1].relu(), torch.full_like(v[:, :1], 0.5)),
    "heavy tail": lambda v: (v[:, :1].exp(), torch.full_like(v[:, :1], 0.4)),
    "varying scale": lambda v: (v[:, :1], 0.9 * torch.sigmoid(v[:, :1])),
    "far off": lambda v: (v[:, :1] + 5, 0.5 + 0.3 * v[:, 1:2].tanh()),
}


@pytest.mark.parametrize("references", [256, 1024, 4096])
@pytest.mark.parametrize("name", ABOVE)
def test_the_interval_covers_what_a_finite_bank_does(name: str, references: int) -> None:
    """4096 codes miss the law by sqrt(2 / n) (1 - s^2) / 2 nats for Gaussians, more than 1 / n."""
    law = ABOVE[name](normal(200_000, 3, seed=99))
    f, s = ABOVE[name](normal(references, 3, seed=0))
    interval = reach(judge(f, s, first=False))
    off = [mismatch(*ABOVE[name](normal(references, 3, seed=seed)), law) for seed in range(10)]
    assert max(map(abs, off)) <= interval
    assert interval <= 25 * np.std(off) + 0.05  # and is not so wide as to be useless
