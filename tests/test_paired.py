"""Two policies over the same starts: McNemar, the paired interval, and what shared luck saves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from v2w_gym.evaluation.stats import compare, score_interval, shared_luck
from v2w_gym.evaluation.stats.paired import _score


def test_a_comparison_by_hand() -> None:
    first = [1, 1, 1, 1, 0, 0, 1, 1, float("nan"), 1]
    second = [1, 0, 0, 0, 0, 0, 1, 0, 1, float("nan")]
    pair = compare(first=first, second=second)
    assert (pair.starts, pair.first_only, pair.second_only) == (8, 4, 0)
    assert pair.difference.value == 0.5
    assert pair.p_value == pytest.approx(2 * 0.5**4)  # McNemar: four of four fair coins, either way
    # rates 6/8 and 2/8, both succeed on 2/8: covariance .25 - .1875
    assert pair.correlation == pytest.approx(0.0625 / 0.1875)
    assert pair.variance_paired == pytest.approx(0.25)
    assert pair.variance_unpaired == pytest.approx(2 * 0.1875)
    assert pair.variance_factor == pytest.approx(1.5)


def test_variances_and_covariance_fit_together() -> None:
    rng = np.random.default_rng(0)
    luck = rng.random(200)
    a, b = (luck < 0.6).astype(float), (0.5 * luck + 0.5 * rng.random(200) < 0.5).astype(float)
    pair = compare(first=a, second=b)
    assert pair.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert pair.variance_paired == pytest.approx((a - b).var())
    assert pair.variance_unpaired - pair.variance_paired == pytest.approx(2 * pair.correlation * pair.spread)
    assert pair.p_value == pytest.approx(
        scipy.stats.binomtest(pair.first_only, pair.first_only + pair.second_only).pvalue
    )


@pytest.mark.parametrize("counts", [(7, 2, 40), (0, 3, 10), (0, 0, 20), (20, 0, 20), (1, 1, 2), (0, 1, 1)])
def test_the_ends_of_the_interval_are_as_far_as_its_confidence_allows(counts: tuple[int, int, int]) -> None:
    first_only, second_only, starts = counts
    interval = score_interval(first_only=first_only, second_only=second_only, starts=starts)
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    for end in (interval.low, interval.high):
        if abs(end) < 1 - 1e-9:
            assert _score(first_only, second_only, starts, end) == pytest.approx(1.96**2, rel=1e-3)


def test_swapping_the_policies_turns_the_interval_round() -> None:
    there = score_interval(first_only=9, second_only=2, starts=30)
    back = score_interval(first_only=2, second_only=9, starts=30)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_without_a_start_in_common_nothing_is_known() -> None:
    pair = compare(first=[1, float("nan")], second=[float("nan"), 1])
    assert pair.starts == 0
    assert np.isnan([pair.difference.value, pair.p_value, pair.variance_factor]).all()
    with pytest.raises(ValueError, match="outcome per start"):
        compare(first=[1, 0], second=[1])
    with pytest.raises(ValueError, match="cannot be"):
        score_interval(first_only=3, second_only=3, starts=5)


def test_twins_share_all_luck_and_strangers_none() -> None:
    rng = np.random.default_rng(1)
    start, own = rng.random(4000), rng.random((2, 4000))
    twins = np.array([start < 0.5, start < 0.5, start < 0.6], dtype=float)
    strangers = np.array([own[0] < 0.5, own[1] < 0.6], dtype=float)
    assert shared_luck(twins).most == float("inf")
    assert shared_luck(twins).pair == (0, 1)
    assert shared_luck(twins).factor > 5
    assert shared_luck(strangers).factor == pytest.approx(1.0, abs=0.1)
    assert shared_luck(strangers).correlation == pytest.approx(0.0, abs=0.05)


def test_policies_that_always_fare_alike_tell_nothing_of_luck() -> None:
    luck = shared_luck([[1, 1, 1], [0, 0, 0], [0, 1, 0]])
    assert luck.pair is None
    assert np.isnan(luck.factor)
