"""How many votes are cast and how they become one judgement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from v2w_gym.rewards.served_answers import Shares
from v2w_gym.rewards.served_endpoint import EndpointConfig
from v2w_gym.rewards.served_panel import Answered


@dataclass(frozen=True)
class Votes:
    """The rule by which votes are counted.

    Attributes:
        count: votes on each clip.
        readable: votes that must be readable for a judgement; None: more than half of ``count``.
        rule: ``mean`` averages the votes; ``plurality`` takes the answer that most votes gave, and where two
            answers lead with equal votes there is no judgement.
    """

    count: int = 5
    readable: int | None = None
    rule: Literal["mean", "plurality"] = "mean"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count of votes must be at least 1, got {self.count}")
        if not 1 <= self.needed <= self.count:
            raise ValueError(f"readable must lie in 1..{self.count}, the count of votes, got {self.readable}")

    @property
    def needed(self) -> int:
        """Readable votes without which there is no judgement."""
        return self.count // 2 + 1 if self.readable is None else self.readable

    def combine(self, cast: Sequence[Shares]) -> Shares | None:
        """One share per answer from readable votes; None for a tie under ``plurality``."""
        if self.rule == "mean":
            return tuple(float(share) for share in np.mean(cast, axis=0))
        (first, most), *others = Counter(cast).most_common()
        return None if others and others[0][1] == most else first


def why_not(answers: Sequence[Answered], readable: int, votes: Votes) -> str:
    """Says that too few votes could be read, and the most frequent reason for it."""
    reasons = Counter(answered.reason for answered in answers if answered.shares is None)
    said = f"; {reasons.most_common(1)[0][0]}" if reasons else ""
    return f"{readable} of {votes.count} votes could be read, {votes.needed} are needed{said}"


def spent(answers: Sequence[Answered], endpoint: EndpointConfig) -> tuple[int, float | None]:
    """Tokens of all votes, and their price; None where a price or a count is not known."""
    read, written = sum(a.read for a in answers), sum(a.written for a in answers)
    known = all(a.counted for a in answers)
    return read + written, endpoint.cost(read, written) if known else None
