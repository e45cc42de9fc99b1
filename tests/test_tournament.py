"""Strengths and tie groups."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from v2w_gym.evaluation.stats import bradley_terry, tie_groups
from v2w_gym.evaluation.stats.tournament import _fit, letter

Table = list[list[float]]


def test_two_policies_have_the_odds_of_their_wins() -> None:
    outcomes = [[1.0] * 8 + [0.0] * 2 + [1.0] * 5, [0.0] * 8 + [1.0] * 2 + [1.0] * 5]
    first, second = bradley_terry(outcomes, seed=0)
    assert first.value - second.value == pytest.approx(np.log(8.5 / 2.5), abs=1e-4)  # half a win each way
    assert first.value + second.value == pytest.approx(0.0, abs=1e-6)
    assert first.low < first.value < first.high


def test_strengths_are_the_likeliest() -> None:
    """At the best fit every policy wins as often as its strength says it should."""
    rng = np.random.default_rng(3)
    wins = rng.integers(0, 30, (2, 9, 9)) * rng.integers(0, 2, (2, 9, 9)) + 0.5 * (1 - np.eye(9))
    wins[:, range(9), range(9)] = 0.0
    strengths = _fit(wins)
    chance = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
    expected = ((wins + wins.swapaxes(1, 2)) * chance).sum(axis=2)
    assert expected == pytest.approx(wins.sum(axis=2), rel=1e-3)


def test_how_hard_a_start_is_cancels_out() -> None:
    """Outcomes from the model itself: success has odds exp(strength - difficulty)."""
    rng, truth = np.random.default_rng(0), np.array([1.5, 0.5, 0.0, -2.0])
    difficulty = rng.normal(0.0, 2.0, 4000)
    chance = 1 / (1 + np.exp(difficulty - truth[:, None]))
    strengths = bradley_terry((rng.random(chance.shape) < chance).astype(float), seed=0)
    assert [s.value for s in strengths] == pytest.approx(truth - truth.mean(), abs=0.15)


def test_intervals_of_strengths_cover() -> None:
    truth, hits = np.array([1.0, 0.0, -1.0]), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        chance = 1 / (1 + np.exp(rng.normal(0.0, 1.0, 60) - truth[:, None]))
        outcomes = (rng.random(chance.shape) < chance).astype(float)
        for strength, true in zip(bradley_terry(outcomes, seed=seed, resamples=200), truth, strict=True):
            hits += strength.low <= true <= strength.high
    assert 0.92 <= hits / 600 <= 0.98


def test_a_policy_that_never_loses_stays_finite_and_twins_are_equal() -> None:
    outcomes = [[1.0] * 30, [0.0] * 30, [0.0] * 30, [float("nan")] * 30]
    best, *twins, unseen = bradley_terry(outcomes, seed=0)
    assert np.isfinite([best.value, best.low, best.high]).all()
    assert twins[0].value == pytest.approx(twins[1].value)
    assert twins[0].value < unseen.value < best.value
    assert bradley_terry([[1.0, 0.0]], seed=0)[0].value == 0.0


def rows(*successes: int) -> Table:
    return [[1.0] * k + [0.0] * (100 - k) for k in successes]


def test_policies_share_a_letter_unless_they_are_told_apart() -> None:
    assert tie_groups(rows(90, 89, 20, 19)) == ["a", "a", "b", "b"]
    assert tie_groups(rows(50, 45, 40)) == [
        "a",
        "ab",
        "b",
    ]  # 6 of 6 differing starts are needed, 10 are there
    assert tie_groups(rows(50, 50)) == ["a", "a"]
    assert tie_groups(rows(50)) == ["a"]


def test_more_pairs_need_stronger_evidence() -> None:
    told_apart = tie_groups(rows(50, 44))
    assert told_apart == ["a", "b"]  # 2 / 2^6 = .03
    among_many = tie_groups(rows(50, 44, *[44] * 8))
    assert set(among_many[0]) & set(among_many[1])


def test_letters_do_not_run_out() -> None:
    assert [letter(i) for i in (0, 25, 26, 53)] == ["a", "z", "a2", "b3"]


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_a_pair_without_a_start_in_common_hides_no_other(order: tuple[str, ...]) -> None:
    nothing = [float("nan")]
    table = {
        "a": [1.0] * 20 + nothing * 5,
        "b": [0.0] * 20 + nothing * 5,
        "c": nothing * 20 + [1.0] * 5,
    }
    groups = dict(zip(order, tie_groups([table[name] for name in order]), strict=True))
    assert not set(groups["a"]) & set(groups["b"]), "20 of 20 starts differ"
    assert set(groups["c"]) == set(groups["a"]) | set(groups["b"])
