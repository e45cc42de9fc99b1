"""Stop a ranking as soon as it is decided, at a stated error rate.

Two policies that met the same starts differ only where one succeeds and the other does not. If they are
equally good, each such start is a fair coin. The lead of one over the other is then a fair walk, whose
distribution is known exactly, and so is how far it strays by chance. The error rate is spent evenly over the
plan: by start ``i`` of ``n``, at most ``i/n`` of it. So a pair may be looked at after every single start, and
however the looks fall, equal policies are told apart in at most ``error`` of all rankings.

What has been decided is a function of the outcomes alone, not of batches or of how often one looks: a ranking
that was killed and goes on decides as if nothing had happened.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from v2w_gym.evaluation.stats.intervals import Floats

Goal = Literal["ranking", "best"]
Pair = tuple[str, str]

HOPELESS = 0.1
"""A pair that the rest of the plan would decide with less than this chance is given up."""


@dataclass(frozen=True)
class Standing:
    """What the outcomes so far say.

    Attributes:
        decided: ``(better, worse)`` to the number of common starts that it took.
        undecided: pairs that more starts may still decide.
        hopeless: pairs that are given up: as they go, the rest of the plan would hardly decide them.
        needed: policies that some undecided pair still needs, in the order of the plan; the others may stop.
    """

    decided: Mapping[Pair, int]
    undecided: tuple[Pair, ...]
    hopeless: tuple[Pair, ...]
    needed: tuple[str, ...]

    @property
    def done(self) -> bool:
        """True if no policy needs another episode."""
        return not self.needed


@dataclass(frozen=True)
class SequentialRanking:
    """A plan that may end early.

    Attributes:
        policies: names.
        episodes: most episodes per policy, each from its own start; the starts are the same for all.
        error: probability, over the whole ranking, that any two equally good policies are told apart (or a
            worse one is put before a better one, which is rarer).
        goal: ``"ranking"`` goes on until every pair is decided or hopeless, ``"best"`` until one policy is
            left that may be the best.

    Raises:
        ValueError: fewer than one episode, an error outside 0..0.5, a name twice, or an unknown goal.
    """

    policies: tuple[str, ...]
    episodes: int
    error: float = 0.05
    goal: Goal = "ranking"

    def __post_init__(self) -> None:
        if self.episodes < 1 or not 0 < self.error < 0.5:
            raise ValueError(
                f"episodes must be at least 1 and error lie between 0 and 0.5, got {self.episodes} "
                f"and {self.error}"
            )
        if len(set(self.policies)) < len(self.policies):
            raise ValueError(f"every policy needs a name of its own, got {list(self.policies)}")
        if self.goal not in ("ranking", "best"):
            raise ValueError(f"goal must be 'ranking' or 'best', got {self.goal!r}")

    @property
    def error_per_pair(self) -> float:
        """What each comparison may use of the error: the pairs share it (for the best, those with it)."""
        k = len(self.policies)
        return self.error / max(1, k * (k - 1) // 2 if self.goal == "ranking" else k - 1)

    def standing(self, outcomes: Mapping[str, Sequence[float]]) -> Standing:
        """What is decided by ``outcomes``.

        Args:
            outcomes: policy to 1, 0 or NaN (unscorable) per finished episode, in the order of the starts,
                which is the same for all. A policy that failed is left out. A pair is compared over the
                starts that both have finished.

        Raises:
            ValueError: a policy that the plan does not know, more episodes than planned, or an outcome that
                is none of 0, 1 and NaN.
        """
        rows = {name: self._row(name, values) for name, values in outcomes.items()}
        known = [name for name in self.policies if name in rows]
        decided: dict[Pair, int] = {}
        open_pairs: dict[Pair, bool] = {}  # to whether it is hopeless
        for first, second in itertools.combinations(known, 2):
            common = min(len(rows[first]), len(rows[second]))
            lead = rows[first][:common] - rows[second][:common]
            winner, starts = first_decision(lead, episodes=self.episodes, error=self.error_per_pair)
            if winner:
                decided[(first, second) if winner > 0 else (second, first)] = starts
            else:
                open_pairs[first, second] = self._hopeless(lead)
        if self.goal == "best":
            beaten = {worse for _, worse in decided}
            open_pairs = {pair: gone for pair, gone in open_pairs.items() if not beaten & set(pair)}
        undecided = tuple(pair for pair, gone in open_pairs.items() if not gone)
        wanted = {name for pair in undecided for name in pair}
        needed = tuple(n for n in known if n in wanted and len(rows[n]) < self.episodes)
        return Standing(decided, undecided, tuple(p for p, gone in open_pairs.items() if gone), needed)

    def _row(self, name: str, values: Sequence[float]) -> Floats:
        row = np.asarray(values, dtype=np.float64)
        if name not in self.policies:
            raise ValueError(f"policy {name!r} is not in the plan, which has {list(self.policies)}")
        if row.ndim != 1 or len(row) > self.episodes or not (np.isnan(row) | (row == 0) | (row == 1)).all():
            raise ValueError(
                f"outcomes of {name!r} must be at most {self.episodes} numbers, each 0, 1 or NaN: {values}"
            )
        return row

    def _hopeless(self, lead: Floats) -> bool:
        """If the rest goes on like this, the chance that the pair is decided by the end is below HOPELESS."""
        rest = self.episodes - len(lead)
        if rest == 0:
            return True
        scored = lead[~np.isnan(lead)]
        n, differing, ahead = len(scored), int(np.abs(scored).sum()), float(scored.sum())
        share = (differing + 1) / (n + 1)  # a pair that has never differed may yet
        drift = ahead / (n + 1)
        spread = np.sqrt(max(share - drift**2, 0.0) * (rest + rest**2 / (n + 1)))
        error = self.error_per_pair
        fewest = 1 - np.log2(error)  # even a lead without a single setback must be this long
        reach = max(norm.ppf(1 - error / 2) * np.sqrt(differing + rest * share), fewest)
        chances = norm.sf((reach - np.array([1, -1]) * (ahead + rest * drift)) / max(spread, 1e-9))
        return bool(chances.sum() < HOPELESS)


def first_decision(lead: npt.ArrayLike, *, episodes: int, error: float) -> tuple[int, int]:
    """When the first policy's lead over the second became too large for chance.

    Args:
        lead: ``(starts,)`` 1 where the first alone succeeded, -1 where the second alone, 0 where both fared
            alike, NaN where either could not be scored.
        episodes: starts in the whole plan.
        error: probability that equal policies are told apart, over the whole plan.

    Returns:
        1 or -1 (who is better) and the number of starts it took; 0 and all of them if it is not decided.
    """
    steps = np.asarray(lead, dtype=np.float64)
    walk = np.array([1.0])  # chance of each |lead| 0, 1, ... of equal policies that are not told apart yet
    ahead, spent = 0, 0.0
    for i, step in enumerate(steps, start=1):
        if abs(step) == 1:
            walk, ahead = _step(walk), ahead + int(step)
        beyond = np.cumsum(walk[::-1])[::-1]
        reach = int((spent + beyond > error * i / episodes).sum())  # the least lead that chance rarely gives
        if reach < len(walk):
            spent += float(beyond[reach])
            walk = walk[:reach]
        if abs(ahead) >= reach:
            return (1 if ahead > 0 else -1), i
    return 0, len(steps)


def _step(walk: Floats) -> Floats:
    """Chance of each distance from 0 after one more toss of a fair coin."""
    after = np.zeros(len(walk) + 1)
    after[1:] += walk / 2
    after[: len(walk) - 1] += walk[1:] / 2
    after[1] += walk[0] / 2  # from 0 both ways lead to 1
    return after
