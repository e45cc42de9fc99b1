"""Success rules: how the per-step judgements of an episode become its verdict.

The rule moves success rates by itself, so it is named in every ledger line and every summary:

========== =====================================================
``any``    success after at least one action
``last``   success after the last action
``held_K`` success after K actions in a row, e.g. ``held_3``
========== =====================================================

Where a judge sees the whole clip there is no rule to choose: ``clip`` stands for its one verdict.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

REPORTED = ("any", "last", "held_3")
"""Every summary gives success under these rules, whichever decides."""

CLIP = "clip"
"""What stands in place of a rule where a judge of whole clips gave the verdict."""

_HELD = re.compile(r"held_([1-9]\d*)")


def check_rule(rule: str) -> str:
    """Return ``rule`` if there is such a rule.

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in ("any", "last") and not _HELD.fullmatch(rule):
        raise ValueError(f"success_rule must be 'any', 'last' or 'held_K' such as 'held_3', got {rule!r}")
    return rule


def succeeded(flags: npt.NDArray[np.bool_], rule: str) -> bool:
    """Verdict of one episode from ``flags (steps,)``, the judgement after each action."""
    if rule == "last":
        return bool(flags[-1])
    needed = 1 if rule == "any" else int(check_rule(rule).removeprefix("held_"))
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest >= needed
