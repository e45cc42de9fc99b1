"""Rules that make one judgement of many: how judgements of frames, or of windows, decide about a whole clip.

========== ============================
``any``    the best one counts
``last``   the last one counts
``held_K`` the best run of K in a row
========== ============================
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

_HELD = re.compile(r"held_([1-9]\d*)")


def check_rule(rule: str) -> str:
    """Return ``rule`` if there is such a rule.

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in ("any", "last") and not _HELD.fullmatch(rule):
        raise ValueError(f"success_rule must be 'any', 'last' or 'held_K' such as 'held_3', got {rule!r}")
    return rule


def by_rule(scores: npt.ArrayLike, rule: str) -> float:
    """The probability that ``rule`` makes of ``scores (n,)``, each 0..1; n is at least 1.

    A run is as good as its worst, and there is none in fewer than K. So the result reaches a threshold if and
    only if the rule finds success among the scores that reach it: flags are scores of 0 and 1.
    """
    values = np.asarray(scores, np.float64)
    if rule == "last":
        return float(values[-1])
    needed = 1 if rule == "any" else int(check_rule(rule).removeprefix("held_"))
    if len(values) < needed:
        return 0.0
    return float(np.lib.stride_tricks.sliding_window_view(values, needed).min(axis=1).max())
