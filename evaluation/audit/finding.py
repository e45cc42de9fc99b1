"""What one probe of an audit found, and the rule by which it passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.stats import CONFIDENCE, Estimate

Floats = npt.NDArray[np.float64]
Verdict = Literal["pass", "fail", "not run"]

RESAMPLES = 2000


@dataclass(frozen=True)
class Bound:
    """What the whole interval of a value must keep to.

    Attributes:
        low: the least that passes, or None.
        high: the most that passes, or None.
        because: why this much.
    """

    low: float | None
    high: float | None
    because: str

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"at most {self.high:g}"

    def holds(self, estimate: Estimate) -> bool:
        """Whether the value and both ends of its interval keep to it; an undefined end does not."""
        above = self.low is None or min(estimate.low, estimate.value) >= self.low
        below = self.high is None or max(estimate.high, estimate.value) <= self.high
        return above and below and not np.isnan([estimate.low, estimate.value, estimate.high]).any()


@dataclass(frozen=True)
class Finding:
    """One probe.

    Attributes:
        name: short key, e.g. ``"null_action"``.
        question: what is asked, in words.
        verdict: pass, fail, or not run: what has not been measured has not passed.
        bound: what it takes to pass.
        estimate: the measured value with its 95 % interval over episodes; None if not run.
        says: what was measured, in one sentence; if not run, why not.
        to_run: if not run, what would make it run.
        details: further numbers, JSON values.
    """

    name: str
    question: str
    verdict: Verdict
    bound: Bound
    estimate: Estimate | None
    says: str
    to_run: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; a number that is undefined or infinite is None."""
        e = self.estimate
        interval = (None, None, None) if e is None else tuple(map(_number, (e.value, e.low, e.high)))
        return {
            "name": self.name,
            "question": self.question,
            "verdict": self.verdict,
            **dict(zip(("value", "low", "high"), interval, strict=True)),
            "passes": str(self.bound),
            "because": self.bound.because,
            "says": self.says,
            "to_run": self.to_run,
            "details": self.details,
        }


def judged(
    name: str,
    question: str,
    bound: Bound,
    estimate: Estimate,
    says: str,
    *,
    unless: str | None = None,
    **details: Any,
) -> Finding:
    """A probe that ran. It passes only if the whole interval keeps to the bound: few episodes do not pass.

    Args:
        name: see ``Finding``.
        question: see ``Finding``.
        bound: see ``Finding``.
        estimate: see ``Finding``.
        says: see ``Finding``.
        unless: a reason to fail whatever the value is, or None.
        **details: see ``Finding``.
    """
    kept = bound.holds(estimate)
    if not kept and bound.holds(Estimate(estimate.value, estimate.value, estimate.value)):
        says += "; the value would do, its interval does not: take more episodes"
    verdict: Verdict = "pass" if kept and unless is None else "fail"
    return Finding(
        name, question, verdict, bound, estimate, f"{says}; {unless}" if unless else says, details=details
    )


def not_run(name: str, question: str, bound: Bound, why: str, to_run: str) -> Finding:
    """A probe without what it needs; see ``Finding``."""
    return Finding(name, question, "not run", bound, None, why, to_run)


def over_episodes(statistic: Callable[[Floats], Floats], episodes: int, seed: int = 0) -> Estimate:
    """A statistic with its percentile bootstrap interval over episodes.

    Args:
        statistic: from weights ``(r, episodes)``, how often each episode counts, to values ``(r,)``.
        episodes: how many there are.
        seed: of the resampling.

    Returns:
        The value with every episode counted once; undefined resamples make both ends undefined.
    """
    value = float(statistic(np.ones((1, episodes)))[0])
    rng = np.random.default_rng(seed)
    drawn = statistic(
        rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=RESAMPLES).astype(np.float64)
    )
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def all_passed(findings: Sequence[Finding]) -> bool:
    """Whether no probe failed; where none could run nothing was tried, which is not a pass."""
    ran = [finding for finding in findings if finding.verdict != "not run"]
    return bool(ran) and all(finding.verdict == "pass" for finding in ran)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
