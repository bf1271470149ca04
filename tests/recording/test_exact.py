"""The bounds on information about the label from a network's own scores."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from infoplane.data.points import label_entropy
from infoplane.recording.exact import label_bounds


def noisy_bits(n: int, share: float, logit: float, seed: int):
    """Make scores that are certain of a bit, and labels that differ from it in a share of cases."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=g)
    sign = 2.0 * (y ^ (torch.rand(n, generator=g) < share).long()) - 1
    return torch.stack([-sign * logit / 2, sign * logit / 2], -1), y


@pytest.mark.parametrize(("n", "share"), [(200, 0.005), (200, 0.0015), (1000, 0.001), (4096, 0.00025)])
@pytest.mark.parametrize("logit", [6.0, 15.0, 40.0])
def test_rare_errors_that_the_draws_do_not_show(n, share, logit):
    """I = ln 2 - H(share) for a binary symmetric channel; most draws show at most one error."""
    truth = math.log(2) + share * math.log(share) + (1 - share) * math.log1p(-share)
    for seed in range(40):
        (lower,) = label_bounds(*noisy_bits(n, share, logit, seed), None, "echo")
        assert lower.standing == "lower"
        assert lower.value <= truth + 4 * lower.stderr
        assert lower.value > truth - 0.2


def test_the_lower_bound_is_the_entropy_less_the_cross_entropy():
    """This holds if scores exclude no class, up to the effect of mixing with a share of 1 / N."""
    g = torch.Generator().manual_seed(0)
    scores, y = torch.randn(4096, 3, generator=g), torch.randint(0, 3, (4096,), generator=g)
    scores = scores + 2 * torch.nn.functional.one_hot(y, 3)
    (lower,) = label_bounds(scores, y, None, "echo")
    loss = cross_entropy(scores.double(), y, reduction="none")
    assert lower.value == pytest.approx(label_entropy(y) - float(loss.mean()), abs=3 / 4096)
    unseen = 1.5 * (lower.value + math.log(4096)) / 4096
    assert lower.stderr == pytest.approx(math.hypot(float(loss.std()) / 64, unseen), rel=0.01)


def test_scores_of_more_classes_than_there_are_labels():
    for y in (torch.zeros(50, dtype=torch.int64), torch.arange(50) % 2 + 1):
        (lower,) = label_bounds(torch.zeros(50, 7), y, None, "echo")
        assert lower.value < 0.0
        assert math.isfinite(lower.stderr)
