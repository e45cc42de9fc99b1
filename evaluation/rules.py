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

import numpy as np
import numpy.typing as npt

from v2w_gym.rewards.rules import by_rule, check_rule

__all__ = ["CLIP", "REPORTED", "check_rule", "succeeded"]

REPORTED = ("any", "last", "held_3")
"""Every summary gives success under these rules, whichever decides."""

CLIP = "clip"
"""What stands in place of a rule where a judge of whole clips gave the verdict."""


def succeeded(flags: npt.NDArray[np.bool_], rule: str) -> bool:
    """Verdict of one episode from ``flags (steps,)``, the judgement after each action."""
    return by_rule(flags, rule) > 0
