"""Means over replicas with intervals, and the fall of a number from its peak."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

import infoplane as ip
from infoplane.errors import InfoplaneError


def frame(values, **more):
    """Return measurements with these values, (replicas, epochs) in nats, at epochs 0, 10, 20, ..."""
    rows = [
        {"run": "r", "layer": "hidden1", "estimator": "kde", "quantity": "I(X;T)", "standing": "upper"}
        | {"epoch": 10 * at, "replica": r, "value_nats": v}
        | more
        for r, row in enumerate(values)
        for at, v in enumerate(row)
    ]
    return pd.DataFrame(rows)


def test_the_interval_is_that_of_the_t_test():
    values = np.random.default_rng(0).normal(2.0, 1.0, (7, 3))
    table = ip.analysis.mean_over_replicas(frame(values))
    assert list(table["epoch"]) == [0, 10, 20]
    for at, row in enumerate(table.itertuples()):
        interval = ttest_1samp(values[:, at], 0.0).confidence_interval(0.95)
        assert (row.low, row.high) == pytest.approx(tuple(interval))
        assert (row.mean, row.sd) == pytest.approx((values[:, at].mean(), values[:, at].std(ddof=1)))
        assert row.replicas == 7


def test_the_interval_holds_the_truth_as_often_as_it_says():
    values = np.random.default_rng(1).normal(0.0, 1.0, (5, 2000))
    table = ip.analysis.mean_over_replicas(frame(values))
    covered = ((table["low"] < 0) & (table["high"] > 0)).mean()
    assert covered == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 2000) ** 0.5)


def test_one_replica_has_a_mean_and_no_interval():
    table = ip.analysis.mean_over_replicas(frame([[1.0, 2.0]]))
    assert list(table["mean"]) == [1.0, 2.0]
    assert table[["low", "high", "sd"]].isna().all(axis=None)


def test_a_replica_is_not_counted_twice():
    twice = pd.concat([frame([[1.0]]), frame([[1.0]])])
    with pytest.raises(InfoplaneError, match="several rows in one group"):
        ip.analysis.mean_over_replicas(twice)


def test_the_fall_is_from_the_peak_of_the_mean():
    rise, fall = [0.0, 3.0, 1.0], [0.0, 5.0, 2.0]
    (row,) = ip.analysis.fall_from_peak(frame([rise, fall])).itertuples()
    assert (row.start, row.peak, row.peak_epoch, row.end) == (0.0, 4.0, 10, 1.5)
    assert row.fall == 2.5
    interval = ttest_1samp([2.0, 3.0], 0.0).confidence_interval(0.95)
    assert (row.low, row.high) == pytest.approx(tuple(interval))


def test_peaks_of_single_replicas_make_no_fall():
    """Two replicas that peak at different epochs each fall by 1, but their mean does not fall."""
    (row,) = ip.analysis.fall_from_peak(frame([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])).itertuples()
    assert row.fall == 0.0


def test_what_never_falls_falls_by_nothing_and_a_lost_replica_is_left_out():
    (row,) = ip.analysis.fall_from_peak(frame([[1.0, 2.0, 3.0], [1.0, 2.0, np.nan]])).itertuples()
    assert (row.fall, row.peak_epoch, row.replicas) == (0.0, 20, 1)


def test_each_number_has_a_row_of_its_own():
    both = pd.concat([frame([[2.0, 1.0]], standing=s, layer=x) for s in ("upper", "lower") for x in ("a", "b")])
    for column, words in (("side", ("upper", "lower", "null")), ("path", ("noise-off", "sampled", "replicates"))):
        own = pd.concat([frame([[2.0, 1.0], [2.0, 1.0]], **{column: word}) for word in words])
        for table in (ip.analysis.fall_from_peak(own), ip.analysis.mean_over_replicas(own[own["epoch"] == 0])):
            assert list(table[column]) == [*words]
    table = ip.analysis.fall_from_peak(pd.concat([both, frame([[9.0, 0.0]], quantity="I(T;Y)")]))
    assert set(table[["standing", "layer"]].itertuples(index=False, name=None)) == {
        (s, x) for s in ("upper", "lower") for x in "ab"
    }
    assert set(table["fall"]) == {1.0}
    with pytest.raises(InfoplaneError, match="holds no"):
        ip.analysis.fall_from_peak(both, "I(Z;X)")
