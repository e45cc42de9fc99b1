"""Which episodes are run, by whom and in what order; each finished batch goes into the ledger at once.

Processes that share a ledger share the work: each claims a batch, runs it and appends it. How starts are cut
into batches depends on the plan alone, not on who runs them or on what was there already, so that a ranking
that was killed and goes on imagines the very same batches.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from v2w_gym.evaluation.claims import Claims
from v2w_gym.evaluation.guard import GuardedPolicy, PolicyFailure
from v2w_gym.evaluation.ledger import Key, Ledger, Record
from v2w_gym.evaluation.outcomes import in_order
from v2w_gym.evaluation.rollout import Rollout
from v2w_gym.evaluation.stats import SequentialRanking

ROUND = 10
"""Starts between two looks of a ranking that may stop early."""

_BAR = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} episodes [{elapsed}<{remaining}]"
_POLL = 0.5  # seconds between looks at what another process does


@dataclass
class Schedule:
    """A plan of episodes, and what has come of it.

    Attributes:
        rollout: imagines a batch.
        starts: ids, the same for every policy.
        batch_size: most episodes that are imagined together.
        ledger: where finished episodes are written, and which of them need not be run again; None keeps them
            in memory.
        admit: as :meth:`Ledger.append` takes it.
        claims: shares the batches among processes; None where there is no ledger.
        early: says who needs more episodes; None runs all of them.
        finished: episodes, by policy, start and seed.
        failures: policy name to what went wrong.
    """

    rollout: Rollout
    starts: Sequence[str]
    batch_size: int
    ledger: Ledger | None = None
    admit: Callable[[Sequence[Record]], None] | None = None
    claims: Claims | None = None
    early: SequentialRanking | None = None
    finished: dict[Key, Record] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def run(self, policies: Mapping[str, GuardedPolicy], progress: bool) -> list[Record]:
        """Run what is missing; a policy that fails stops alone. Returns the episodes of the plan."""
        self._look()
        horizon = self.rollout.protocol.horizon  # the bar counts actions, and shows them as episodes
        if there := len(self._of(policies)):
            whole = len(policies) * len(self.starts)
            tqdm.write(f"{there} of {whole} episodes are in the ledger already", sys.stderr)
        with tqdm(
            total=len(policies) * len(self.starts) * horizon,
            initial=there * horizon,
            unit_scale=1 / horizon,
            bar_format=_BAR,
            disable=not progress,
        ) as bar:
            size = len(self.starts) if self.early is None else ROUND
            for begin in range(0, len(self.starts), size):
                self._round(self._needed(policies, begin), self.starts[begin : begin + size], policies, bar)
        if self.claims is not None:
            self.claims.clear()
        return self._of(policies)

    def _of(self, policies: Mapping[str, GuardedPolicy]) -> list[Record]:
        keys = [self._key(name, start) for name in policies for start in self.starts]
        return [self.finished[key] for key in keys if key in self.finished]

    def _key(self, name: str, start: str) -> Key:
        return name, start, self.rollout.protocol.seed

    def _needed(self, policies: Mapping[str, GuardedPolicy], begin: int) -> list[str]:
        """Who needs the episodes from start ``begin`` on.

        What lies beyond it has no say: a run that was killed within a round decides as it would have.
        """
        running = [name for name in policies if name not in self.failures]
        if self.early is None or begin == 0:
            return running
        known, before = list(self.finished.values()), self.starts[:begin]
        return list(self.early.standing({name: in_order(known, name, before) for name in running}).needed)

    def _round(
        self, names: Sequence[str], starts: Sequence[str], policies: Mapping[str, GuardedPolicy], bar: Any
    ) -> None:
        """Take all of ``names`` through ``starts``, batch by batch; other processes may take their share."""
        todo = [(name, batch) for name in names for batch in batches(starts, self.batch_size)]
        while todo:
            left = []
            for name, batch in todo:
                bar.set_description(name)
                if not self._settle(name, policies[name], batch, bar):
                    left.append((name, batch))
                self._count(policies, bar)
            if len(left) == len(todo):
                bar.set_description("waiting for another process")
                time.sleep(_POLL)
                self._look()
            todo = left

    def _settle(self, name: str, policy: GuardedPolicy, batch: Sequence[str], bar: Any) -> bool:
        """Whether nothing is left to do for ``batch``; False while another process runs it."""
        if name in self.failures or not self._missing(name, batch):
            return True
        with self._claim(name, batch) as mine:
            if not mine:
                return False
            self._look()
            if missing := self._missing(name, batch):
                try:
                    self._keep(self.rollout.play(name, policy, missing, bar.update))
                except PolicyFailure as failure:
                    self.failures[name] = str(failure)
                    tqdm.write(f"policy {name!r} stopped, the others go on: {failure}", sys.stderr)
            return True

    def _missing(self, name: str, batch: Sequence[str]) -> list[str]:
        return [start for start in batch if self._key(name, start) not in self.finished]

    def _claim(self, name: str, batch: Sequence[str]) -> contextlib.AbstractContextManager[bool]:
        return contextlib.nullcontext(True) if self.claims is None else self.claims.claim(name, batch)

    def _look(self) -> None:
        if self.ledger is not None:
            self.ledger.refresh()
            self.finished = {record.key: record for record in self.ledger.records}

    def _keep(self, records: Sequence[Record]) -> None:
        if self.ledger is None:
            self.finished |= {record.key: record for record in records}
        else:  # which may hold another process's record of the same episode, and that counts
            self.ledger.append(records, self.admit)
            self.finished = {record.key: record for record in self.ledger.records}

    def _count(self, policies: Mapping[str, GuardedPolicy], bar: Any) -> None:
        """Set the bar to what is finished: a batch of a policy that failed does not count."""
        horizon, done = self.rollout.protocol.horizon, len(self._of(policies))
        lost = sum(len(self._missing(name, self.starts)) for name in self.failures)
        bar.n, bar.total = done * horizon, (len(policies) * len(self.starts) - lost) * horizon
        bar.refresh()


def batches(starts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut into as few batches as ``size`` allows, of nearly equal length."""
    count = -(-len(starts) // size)
    for i in range(count):
        yield starts[len(starts) * i // count : len(starts) * (i + 1) // count]
