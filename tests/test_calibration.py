"""From imagined to real success."""

from __future__ import annotations

import numpy as np
import pytest

from v2w_gym.evaluation.stats import Tried, calibrated, check
from v2w_gym.evaluation.stats.calibration import fit


def tried(simulated: list[float], real: list[float], episodes: int = 100) -> Tried:
    full = np.full(len(simulated), float(episodes))
    return Tried(np.array(simulated) * full, full, np.array(real) * full, full)


def test_a_line_is_found_and_cut() -> None:
    x, y = fit(tried([0.2, 0.4, 0.6], [0.5, 0.7, 0.9]), "affine")
    assert np.interp([0.0, 0.3, 0.9], x, y) == pytest.approx([0.3, 0.6, 1.0])


def test_a_rising_function_is_found_by_pooling() -> None:
    x, y = fit(tried([0.1, 0.3, 0.5, 0.9], [0.2, 0.6, 0.4, 0.8]), "isotonic")
    assert list(x) == [0.1, 0.3, 0.5, 0.9]
    assert list(y) == pytest.approx([0.2, 0.5, 0.5, 0.8])
    assert np.interp([0.0, 1.0], x, y) == pytest.approx([0.2, 0.8])


def test_policies_of_equal_imagined_success_are_taken_together() -> None:
    x, y = fit(tried([0.0, 0.0, 0.8], [0.1, 0.3, 0.9]), "isotonic")
    assert list(x) == [0.0, 0.8]
    assert list(y) == pytest.approx([0.2, 0.9])


def test_a_world_that_ranks_backwards_has_no_map() -> None:
    _, y = fit(tried([0.1, 0.5, 0.9], [0.9, 0.5, 0.1]), "affine")
    assert np.ptp(y) == 0


@pytest.mark.parametrize("kind", ["affine", "isotonic"])
def test_the_check_tells_a_map_that_helps_from_one_that_harms(kind: str) -> None:
    rng, truth = np.random.default_rng(0), np.linspace(0.0, 1.0, 12)
    optimist = tried((0.5 + 0.4 * truth).round(2).tolist(), truth.round(2).tolist())
    assert check(optimist, kind).helps
    faithful = tried(
        truth.round(2).tolist(), np.clip(truth + rng.normal(0, 0.03, 12), 0, 1).round(2).tolist()
    )
    assert check(faithful, kind).raw_error < 0.05
    assert check(optimist, kind).raw_error > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["affine", "isotonic"])
def test_the_interval_covers_a_policy_that_was_not_learnt_from(kind: str) -> None:
    hits = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        true = rng.beta(0.8, 0.8, 13)
        imagined = np.clip(0.2 + 0.6 * true + rng.normal(0, 0.05, 13), 0, 1)
        s, r = rng.binomial(50, imagined).astype(float), rng.binomial(50, true).astype(float)
        known = Tried(s[:12], np.full(12, 50.0), r[:12], np.full(12, 50.0))
        estimate = calibrated(known, kind=kind, successes=int(s[12]), episodes=50, seed=seed)
        hits += estimate.low <= true[12] <= estimate.high
    assert hits >= 36


def test_too_few_policies_and_nonsense_are_errors() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        tried([0.1, 0.2], [0.1, 0.2])
    with pytest.raises(ValueError, match="at least 4"):
        check(tried([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), "affine")
    with pytest.raises(ValueError, match="'affine', 'isotonic'"):
        fit(tried([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), "spline")
    with pytest.raises(ValueError, match=r"0\.\.episodes"):
        tried([0.1, 0.2, 1.3], [0.1, 0.2, 0.3])
