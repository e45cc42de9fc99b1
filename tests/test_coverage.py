"""Intervals hold the truth as often as they promise, in 1,000 repetitions with a known truth each."""

from __future__ import annotations

import numpy as np
import pytest

from v2w_gym.evaluation.stats import (
    Confusion,
    Estimate,
    clopper_pearson,
    prediction_powered,
    rogan_gladen,
    score_interval,
    wilson,
)

REPETITIONS = 1000


def covered(intervals: list[Estimate], truth: float) -> float:
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


@pytest.mark.parametrize("episodes", [20, 50, 100])
def test_wilson_over_all_rates(episodes: int) -> None:
    rng = np.random.default_rng(0)
    rates = rng.random(REPETITIONS)
    hits = [
        interval.low <= rate <= interval.high
        for rate in rates
        for interval in [wilson(successes=int(rng.binomial(episodes, rate)), episodes=episodes)]
    ]
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
def test_clopper_pearson_never_promises_too_much(rate: float) -> None:
    rng = np.random.default_rng(0)
    drawn = [clopper_pearson(successes=int(k), episodes=50) for k in rng.binomial(50, rate, REPETITIONS)]
    assert covered(drawn, rate) >= 0.945


@pytest.mark.parametrize("starts", [30, 50, 100])
@pytest.mark.parametrize(("ahead", "behind"), [(0.3, 0.1), (0.2, 0.2), (0.05, 0.3), (0.4, 0.2)])
def test_paired_difference(starts: int, ahead: float, behind: float) -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(starts, [ahead, behind, 1 - ahead - behind], size=REPETITIONS)
    drawn = [score_interval(first_only=int(a), second_only=int(b), starts=starts) for a, b, _ in counts]
    assert 0.93 <= covered(drawn, ahead - behind) <= 0.97


@pytest.mark.parametrize(
    ("rate", "sensitivity", "specificity", "labelled"),
    [(0.5, 0.9, 0.95, 200), (0.2, 0.92, 0.93, 200), (0.8, 0.92, 0.93, 200), (0.5, 0.8, 0.97, 30)],
)
def test_corrected_rate(rate: float, sensitivity: float, specificity: float, labelled: int) -> None:
    rng, episodes = np.random.default_rng(0), 50
    drawn, uncorrected = [], []
    for _ in range(REPETITIONS):
        succeeded = rng.binomial(episodes, rate)
        judged = rng.binomial(succeeded, sensitivity) + rng.binomial(episodes - succeeded, 1 - specificity)
        seen, spared = rng.binomial(labelled, sensitivity), rng.binomial(labelled, specificity)
        counts = Confusion(int(seen), int(labelled - spared), int(spared), int(labelled - seen))
        drawn.append(rogan_gladen(successes=int(judged), episodes=episodes, confusion=counts))
        uncorrected.append(wilson(successes=int(judged), episodes=episodes))
    assert 0.93 <= covered(drawn, rate) <= 0.97
    assert covered(uncorrected, rate) < covered(drawn, rate)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "sensitivity", "specificity", "labelled"),
    [(0.5, 0.9, 0.95, 50), (0.2, 0.92, 0.93, 50), (0.8, 0.9, 0.9, 30), (0.1, 0.81, 0.97, 50)],
)
def test_prediction_powered_rate(rate: float, sensitivity: float, specificity: float, labelled: int) -> None:
    rng, drawn = np.random.default_rng(0), []
    for _ in range(REPETITIONS):
        truth = rng.random(200 + labelled) < rate
        right = rng.random(truth.shape) < np.where(truth, sensitivity, specificity)
        verdicts = np.where(right, truth, ~truth).astype(float)
        drawn.append(
            prediction_powered(
                unlabelled=verdicts[labelled:], verdicts=verdicts[:labelled], labels=truth[:labelled]
            )
        )
    assert 0.93 <= covered(drawn, rate) <= 0.97
