"""A ranking that stops early: exact error, what it decides, and that looking more often changes nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from v2w_gym.evaluation.stats import SequentialRanking, Standing, episodes_needed
from v2w_gym.evaluation.stats.sequential import first_decision


def luck(rates: dict[str, float], starts: int, seed: int, shared: float = 0.0) -> dict[str, list[float]]:
    """Outcomes of policies that share a part of the luck of every start."""
    rng = np.random.default_rng(seed)
    common = rng.random(starts)
    own = {name: np.where(rng.random(starts) < shared, common, rng.random(starts)) for name in rates}
    return {name: (own[name] < rate).astype(float).tolist() for name, rate in rates.items()}


def test_a_pair_is_decided_by_hand() -> None:
    # error .25 over 4 starts: by the second start 1/8 may be spent, but two of two has the chance 1/2; by the
    # fourth 1/4, and four of four has the chance 1/8
    assert first_decision([1, 1, 1, 1], episodes=4, error=0.25) == (1, 4)
    assert first_decision([-1, -1, -1, -1], episodes=4, error=0.25) == (-1, 4)
    assert first_decision([1, 1, 1, -1], episodes=4, error=0.25) == (0, 4)
    assert first_decision([1, 1, 1, 1], episodes=4, error=0.1) == (0, 4)


@pytest.mark.parametrize("error", [0.05, 0.2])
def test_equal_policies_are_told_apart_at_most_that_often_whatever_happens(error: float) -> None:
    """All 2^10 ways in which ten differing starts can fall, each as likely as any other."""
    wrong = sum(
        first_decision(lead, episodes=10, error=error)[0] != 0
        for lead in itertools.product((1, -1), repeat=10)
    )
    assert 0 < wrong / 2**10 <= error


def test_starts_on_which_both_fare_alike_or_that_cannot_be_scored_say_nothing() -> None:
    lead = [1.0] * 12
    alone = first_decision(lead, episodes=24, error=0.05)
    quiet = np.insert(np.array(lead), np.arange(12), [0.0, float("nan")] * 6)
    assert alone[0] == first_decision(quiet, episodes=24, error=0.05)[0] == 1


def test_a_decision_stands_however_the_outcomes_come_in() -> None:
    outcomes = luck({"good": 0.8, "middling": 0.5, "bad": 0.1}, 60, seed=4, shared=0.5)
    plan = SequentialRanking(("good", "middling", "bad"), episodes=60, error=0.05)
    decided: dict[tuple[str, str], int] = {}
    for seen in range(1, 61):
        standing = plan.standing({name: row[:seen] for name, row in outcomes.items()})
        assert decided.items() <= standing.decided.items()
        assert all(starts <= seen for starts in standing.decided.values())
        decided = dict(standing.decided)
    assert ("good", "bad") in decided
    assert decided == plan.standing(outcomes).decided


def test_a_policy_that_is_settled_needs_no_more_episodes() -> None:
    rates = {"always": 1.0, "half": 0.5, "about half": 0.55, "never": 0.0}
    outcomes = {name: row[:40] for name, row in luck(rates, 100, seed=0).items()}
    plan = SequentialRanking(tuple(rates), episodes=100)
    standing = plan.standing(outcomes)
    assert set(standing.needed) == {"half", "about half"}
    assert {("always", "half"), ("half", "never"), ("always", "never")} <= set(standing.decided)
    assert not standing.done
    best = SequentialRanking(tuple(rates), episodes=100, goal="best").standing(outcomes)
    assert best.done


def test_policies_that_never_differ_are_given_up() -> None:
    plan = SequentialRanking(("still", "sideways"), episodes=100)
    early = plan.standing({"still": [0.0] * 2, "sideways": [0.0] * 2})
    late = plan.standing({"still": [0.0] * 60, "sideways": [0.0] * 60})
    assert early.undecided == (("still", "sideways"),)
    assert late.hopeless == (("still", "sideways"),)
    assert late.done
    assert not late.decided


def test_nothing_is_decided_before_anything_was_seen() -> None:
    plan = SequentialRanking(("a", "b"), episodes=10)
    assert plan.standing({}).needed == ()
    assert plan.standing({"a": [], "b": []}).needed == ("a", "b")


def test_the_whole_plan_ends_even_if_nothing_is_decided() -> None:
    plan = SequentialRanking(("a", "b"), episodes=10)
    standing = plan.standing({"a": [1.0, 0.0] * 5, "b": [0.0, 1.0] * 5})
    assert standing.done
    assert standing.hopeless == (("a", "b"),)


def test_what_cannot_be_is_an_error() -> None:
    with pytest.raises(ValueError, match="lie between"):
        SequentialRanking(("a", "b"), episodes=10, error=0.7)
    with pytest.raises(ValueError, match="name of its own"):
        SequentialRanking(("a", "a"), episodes=10)
    plan = SequentialRanking(("a", "b"), episodes=2)
    with pytest.raises(ValueError, match="not in the plan"):
        plan.standing({"c": [1.0]})
    with pytest.raises(ValueError, match="at most 2"):
        plan.standing({"a": [1.0, 1.0, 1.0]})
    with pytest.raises(ValueError, match="0, 1 or NaN"):
        plan.standing({"a": [0.5]})


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.1])
@pytest.mark.parametrize("shared", [0.0, 0.6])
def test_equal_policies_in_simulation(rate: float, shared: float) -> None:
    """Told apart in at most 6 % of 2,000 rankings that may stop after any start, at an error of 5 %."""
    told_apart = 0
    for seed in range(2000):
        a, b = luck({"a": rate, "b": rate}, 97, seed, shared).values()
        told_apart += first_decision(np.array(a) - np.array(b), episodes=97, error=0.05)[0] != 0
    assert told_apart / 2000 <= 0.06


def ranked(plan: SequentialRanking, rows: dict[str, list[float]], every: int) -> tuple[Standing, int]:
    """Run a plan as ``v2w rank`` does, with a look every few starts."""
    for seen in [*range(every, plan.episodes, every), plan.episodes]:
        standing = plan.standing({name: row[:seen] for name, row in rows.items()})
        if standing.done:
            return standing, seen
    raise AssertionError("a plan is done when all its episodes are run")


@pytest.mark.slow
@pytest.mark.parametrize(("power", "right_at_least"), [(0.95, 0.85), (0.8, 0.6)])
def test_a_gap_of_twenty_points_in_simulation(power: float, right_at_least: float) -> None:
    """Against the fixed plan for that gap: far fewer episodes, hardly less often decided, never wrongly."""
    plan = SequentialRanking(("a", "b"), episodes_needed(first=0.6, second=0.4, power=power), error=0.05)
    run = right = wrong = 0
    for seed in range(400):
        standing, seen = ranked(plan, luck({"a": 0.6, "b": 0.4}, plan.episodes, seed), every=10)
        run += seen
        right += ("a", "b") in standing.decided
        wrong += ("b", "a") in standing.decided
    assert run / 400 <= 0.7 * plan.episodes
    assert right / 400 >= right_at_least
    assert wrong / 400 <= 0.01
