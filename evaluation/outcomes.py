"""From ledger records to the numbers that statistics work on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.rules import succeeded

Outcomes = npt.NDArray[np.float64]

SCORES = {"success": 1.0, "failure": 0.0, "unscorable": math.nan}


def of_policy(records: Sequence[Record], policy: str) -> dict[str, Record]:
    """Start id to the finished episode of ``policy``."""
    return {record.start_id: record for record in records if record.policy == policy}


def scores(records: Sequence[Record], policies: Sequence[str], starts: Sequence[str]) -> Outcomes:
    """Outcome ``(policies, starts)``: 1, 0, or NaN for an episode that is unscorable or was not run."""
    table = np.full((len(policies), len(starts)), np.nan)
    rows, columns = ({name: i for i, name in enumerate(names)} for names in (policies, starts))
    for record in records:
        if record.policy in rows and record.start_id in columns:
            table[rows[record.policy], columns[record.start_id]] = SCORES[record.verdict]
    return table


def in_order(records: Sequence[Record], policy: str, starts: Sequence[str]) -> list[float]:
    """Outcomes of the finished episodes from the first of ``starts`` on, up to the first that is missing."""
    finished, row = of_policy(records, policy), []
    for start in starts:
        if start not in finished:
            break
        row.append(SCORES[finished[start].verdict])
    return row


def successes_by_rule(records: Sequence[Record], rules: Sequence[str], threshold: float) -> dict[str, int]:
    """How many of the scorable ``records`` each rule calls a success.

    The rule that an episode was judged by needs no computing; the others judge the probabilities in the
    ledger, which are rounded to four digits.
    """
    return {rule: sum(_success(record, rule, threshold) for record in records) for rule in rules}


def _success(record: Record, rule: str, threshold: float) -> bool:
    if record.verdict == "unscorable":
        return False
    if rule == record.success_rule:
        return record.verdict == "success"
    return succeeded(np.array(record.probabilities, dtype=np.float64) >= threshold, rule)
