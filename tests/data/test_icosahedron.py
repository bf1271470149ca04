import math
import os
from pathlib import Path

import pytest
import torch

from infoplane.data.icosahedron import ANTIPODE, NEAR, icosahedron, icosahedron_law, pair_counts
from infoplane.data.points import label_entropy, split
from infoplane.errors import InfoplaneError
from tests.drawn import generator

DATA = Path(os.environ.get("INFOPLANE_DATA", Path(__file__).parents[3] / "shared" / "data"))
PUBLISHED = DATA / "tishby" / "var_u.mat"


def automorphisms():
    """Find every permutation of the 12 vertices that keeps the near pairs, by trying."""
    found = []

    def extend(images):
        v = len(images)
        if v == 12:
            found.append(images)
            return
        for w in range(12):
            if w not in images and all((u in NEAR[v]) == (images[u] in NEAR[w]) for u in range(v)):
                extend([*images, w])

    extend([])
    return torch.tensor(found)


@pytest.fixture(scope="module")
def task():
    return icosahedron()


@pytest.fixture(scope="module")
def images(task):
    """The number of the pattern into which each automorphism takes each pattern, (120, 4096)."""
    weights = 2 ** torch.arange(11, -1, -1)
    return torch.stack([(task[0].long()[:, g] * weights).sum(1) for g in automorphisms()])


def test_every_pattern_in_counting_order(task):
    x, y = task
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    numbers = [int("".join(str(int(bit)) for bit in row), 2) for row in x]
    assert numbers == list(range(4096))
    assert set(x.unique().tolist()) == set(y.unique().tolist()) == {0, 1}


def test_label_entropy_of_the_task(task):
    y = task[1]
    assert int(y.sum()) == 2118
    assert label_entropy(y) / math.log(2) == pytest.approx(0.999157, abs=5e-7)


def test_the_graph_is_the_icosahedron():
    golden = (1 + 5**0.5) / 2
    corners = [p for a in (-1, 1) for b in (-golden, golden) for p in ((0, a, b), (a, b, 0), (b, 0, a))]
    cosine = torch.tensor(corners, dtype=torch.float64)
    cosine = cosine @ cosine.T / (1 + golden**2)
    for adjacency, angle in ((NEAR, 63.43), ([[v] for v in ANTIPODE], 180.0)):
        assert all(v in adjacency[w] for v in range(12) for w in adjacency[v])
        ours, theirs = (
            torch.zeros(12, 12, dtype=torch.float64),
            ((cosine.acos().rad2deg() - angle).abs() < 0.1).double(),
        )
        for v in range(12):
            ours[v, list(adjacency[v])] = 1
        torch.testing.assert_close(torch.linalg.eigvalsh(ours), torch.linalg.eigvalsh(theirs))
    # a vertex and its opposite have no near vertex in common
    assert all(not set(NEAR[v]) & set(NEAR[ANTIPODE[v]]) for v in range(12))


def test_the_label_is_invariant_under_the_group(task, images):
    assert images.shape == (120, 4096)
    assert (images.sort(1).values == torch.arange(4096)).all()
    assert (task[1][images] == task[1]).all()
    assert not (task[1][task[0].long()[:, torch.randperm(12)] @ 2 ** torch.arange(11, -1, -1)] == task[1]).all()


def entropy_bits(classes):
    return label_entropy(classes) / math.log(2)


def test_orbits_and_classes(task, images):
    orbit = images.min(0).values
    assert len(orbit.unique()) == 82
    assert entropy_bits(orbit) == pytest.approx(6.0738, abs=5e-5)
    counts = pair_counts(task[0])
    assert (counts[:, 1:].sum(1) == counts[:, 0] * (counts[:, 0] - 1) // 2).all()
    classes, inverse = counts.unique(dim=0, return_inverse=True)
    assert len(classes) == 64
    assert entropy_bits(inverse) == pytest.approx(5.5695, abs=5e-5)


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f"the published file is not at {PUBLISHED} (set INFOPLANE_DATA)")
def test_the_published_file_says_the_same(task):
    from scipy.io import loadmat

    published = loadmat(PUBLISHED)
    assert torch.equal(task[0], torch.from_numpy(published["F"]).float())
    assert torch.equal(task[1], torch.from_numpy(published["y"])[0].long())


# the stochastic rule


def information_bits(p):
    h = torch.special.entr(torch.stack([p, 1 - p])).sum(0)
    whole = torch.special.entr(torch.stack([p.mean(), 1 - p.mean()])).sum()
    return float(whole - h.mean()) / math.log(2)


def test_the_stochastic_rule_is_as_published(task, images):
    p = icosahedron_law()
    assert p.dtype == torch.float64
    assert information_bits(p) == pytest.approx(0.99, abs=1e-3)
    assert float(p.mean()) == pytest.approx(0.5168, abs=1e-4)
    assert torch.equal((p > 0.5).long(), task[1])  # the hard rule is its likelier label
    assert (p[images] == p).all()
    assert len(p.unique()) <= 51
    assert torch.equal((icosahedron_law(1e6) > 0.5).long(), task[1])
    assert information_bits(icosahedron_law(1e6)) == pytest.approx(0.999157, abs=5e-7)
    assert (icosahedron_law(0.0) == 0.5).all()


def test_no_threshold_gives_half_the_labels_and_so_much_information():
    for gamma in (1.0, 1.65, 5.0):
        low, high = 400.0, 460.0
        for _ in range(60):
            theta = (low + high) / 2
            low, high = (theta, high) if float(icosahedron_law(gamma, theta).mean()) > 0.5 else (low, theta)
        assert information_bits(icosahedron_law(gamma, low)) < 0.955


# dividing the points


@pytest.mark.parametrize("fraction", [0.05, 0.45, 0.8, 1.0])
@pytest.mark.parametrize("by_class", [False, True])
def test_a_split_is_a_partition_in_the_order_drawn(task, fraction, by_class):
    y = task[1]
    train, test = split(4096, fraction, generator(), y if by_class else None)
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(4096))
    order = torch.randperm(4096, generator=generator())
    place = order.argsort()
    for part in (train, test):
        assert part.dtype == torch.int64
        assert (place[part].diff() > 0).all()
    if by_class:
        assert [int((y[train] == c).sum()) for c in (0, 1)] == [round(fraction * 1978), round(fraction * 2118)]
    else:
        assert torch.equal(train, order[: round(fraction * 4096)])


def test_a_split_draws_from_its_own_generator():
    state = torch.get_rng_state()
    first, again, other = (split(100, 0.5, generator(seed))[0].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.5), r"Cannot split 0 points at 0\.5; expected points, and a fraction in \(0, 1\]"),
        ((10, 0.0), "Cannot split 10 points at 0"),
        ((10, 1.5), "Cannot split 10 points at 1.5"),
        ((10, math.nan), "Cannot split 10 points at nan"),
        ((10, 0.01), "There is nothing to train on: 0.01 of 10 points is less than one"),
    ],
)
def test_a_split_that_cannot_be(arguments, message):
    with pytest.raises(InfoplaneError, match=message):
        split(*arguments, generator())


def test_labels_that_do_not_fit():
    with pytest.raises(InfoplaneError, match=r"Cannot split 10 points by labels of shape \(9,\); expected \(10,\)"):
        split(10, 0.5, generator(), torch.zeros(9))


def test_label_entropy():
    assert label_entropy(torch.tensor([5, 5, -1, -1, 7, 7, 7, 7])) == pytest.approx(1.5 * math.log(2), abs=1e-15)
    assert math.copysign(1, label_entropy(torch.ones(3, dtype=torch.int64))) == 1
    assert label_entropy(torch.ones(3, dtype=torch.int64)) == 0
    with pytest.raises(InfoplaneError, match="There are no labels"):
        label_entropy(torch.zeros(0, dtype=torch.int64))
