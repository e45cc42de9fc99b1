"""Who runs what in a ranking that may stop early, without a world: batches and kills have no say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from test_ledger import record

from v2w_gym.evaluation.ledger import Ledger, Record
from v2w_gym.evaluation.outcomes import in_order
from v2w_gym.evaluation.rollout import Rollout
from v2w_gym.evaluation.schedule import Schedule
from v2w_gym.evaluation.stats import SequentialRanking

STARTS = [f"seed-{i:04d}" for i in range(100)]
RATES = {"good": 0.9, "middling": 0.7, "fair": 0.4, "bad": 0.0}


class Played:
    """Episodes whose ends are known; the process is killed after so many batches."""

    protocol = SimpleNamespace(horizon=1, seed=0)

    def __init__(self, batches: float = float("inf")) -> None:
        self.left = batches

    def play(self, name: str, policy: Any, starts: Sequence[str], tick: Callable[[int], Any]) -> list[Record]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return [fact(name, start) for start in starts]


def fact(name: str, start: str) -> Record:
    index = STARTS.index(start)
    luck = np.random.default_rng((index, list(RATES).index(name))).random()
    verdict = "success" if luck < RATES[name] else "failure"
    return dataclasses.replace(record(index), policy=name, verdict=verdict)


def ran(path: Path, batch_size: int, batches: float = float("inf")) -> dict[str, int]:
    """How many episodes each policy has in the end."""
    early = SequentialRanking(tuple(RATES), len(STARTS), 0.05)
    schedule = Schedule(cast(Rollout, Played(batches)), STARTS, batch_size, Ledger(path), early=early)
    records = schedule.run(cast(Any, dict.fromkeys(RATES)), progress=False)
    return {name: len(in_order(records, name, STARTS)) for name in RATES}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return ran(tmp_path_factory.mktemp("undisturbed") / "ledger.jsonl", 50)


def test_an_early_stop_saves_something(undisturbed: dict[str, int]) -> None:
    assert len(set(undisturbed.values())) > 1
    assert sum(undisturbed.values()) < len(RATES) * len(STARTS)


@pytest.mark.parametrize("batch_size", [3, 7])
def test_the_size_of_batches_does_not_move_the_looks(
    undisturbed: dict[str, int], tmp_path: Path, batch_size: int
) -> None:
    assert ran(tmp_path / "ledger.jsonl", batch_size) == undisturbed


@pytest.mark.parametrize("batches", [10, 35])
def test_a_ranking_killed_within_a_round_decides_as_if_nothing_had_been(
    undisturbed: dict[str, int], tmp_path: Path, batches: int
) -> None:
    path = tmp_path / "ledger.jsonl"
    with pytest.raises(KeyboardInterrupt):
        ran(path, 4, batches)
    assert ran(path, 4) == undisturbed


def test_another_process_may_have_judged_what_this_one_could_not(tmp_path: Path) -> None:
    """What the ledger holds counts, in the summary of this process as in the next one's."""
    path = tmp_path / "ledger.jsonl"
    schedule = Schedule(cast(Rollout, Played()), STARTS[:1], 1, Ledger(path))
    told = fact("good", STARTS[0])
    Ledger(path).append([told])
    schedule._keep([dataclasses.replace(told, verdict="unscorable", probability=None)])
    assert list(schedule.finished.values()) == [told]
