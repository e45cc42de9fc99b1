"""Agreement of imagined with real success rates, with intervals that resample starts and policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.stats.correlation import kendall, mmrv, pearson, regret, spearman
from v2w_gym.evaluation.stats.intervals import CONFIDENCE, UNDEFINED, Estimate, Floats

Metric = Callable[..., Floats]

RESAMPLES = 2000

METRICS: dict[str, tuple[Metric, float, float]] = {  # name -> function, least and greatest possible value
    "pearson": (pearson, -1.0, 1.0),
    "spearman": (spearman, -1.0, 1.0),
    "kendall": (kendall, -1.0, 1.0),
    "mmrv": (mmrv, 0.0, 1.0),
    "regret": (regret, 0.0, 1.0),
}


@dataclass(frozen=True)
class RealOutcomes:
    """What reality said about one policy.

    Attributes:
        outcomes: ``(e,)`` 0 or 1, in the order of the imagined starts if ``paired``, of any length and order
            if not.
        paired: True if outcome ``i`` was measured from the same start as imagined episode ``i``.
    """

    outcomes: Floats
    paired: bool


def agreement(
    *,
    simulated: npt.ArrayLike,
    real: Sequence[RealOutcomes],
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> dict[str, Estimate]:
    """All of ``METRICS`` of the success rates, with percentile bootstrap intervals.

    Each resample draws starts and policies with replacement. The drawn starts are the same for all policies,
    and for the imagined and the real episodes, because all of them share the luck of the start; unpaired
    reality is drawn on its own. A resample in which a metric is undefined counts as the worst for the low end
    and as the best for the high end: two policies give -1..1, not a false certainty.

    Args:
        simulated: ``(policies, episodes)`` 0, 1 or NaN (unscorable); column ``i`` is one start.
        real: one entry per policy.
        seed: of the resampling.
        resamples: how many.
        confidence: of the interval.

    Raises:
        ValueError: a policy without real outcomes, or paired outcomes of another length than the imagined
            ones.
    """
    s = np.asarray(simulated, dtype=np.float64)
    if s.ndim != 2 or len(s) != len(real):
        raise ValueError(f"simulated must be (policies, episodes) with {len(real)} policies, got {s.shape}")
    for i, entry in enumerate(real):
        if len(entry.outcomes) == 0 or (entry.paired and len(entry.outcomes) != s.shape[1]):
            raise ValueError(f"policy {i} has {len(entry.outcomes)} real outcomes for {s.shape[1]} starts")
    whole = np.ones((1, s.shape[1]))
    s_rate = _weighted_rates(s, whole)
    r_rate = np.array([[entry.outcomes.mean() for entry in real]])
    s_drawn, r_drawn, distinct = _resample(s, real, np.random.default_rng(seed), resamples)
    estimates = {}
    for name, (metric, least, greatest) in METRICS.items():
        value = float(metric(simulated=s_rate, real=r_rate)[0])
        drawn = np.where(distinct > 1, metric(simulated=s_drawn, real=r_drawn), np.nan)
        estimates[name] = _interval(value, drawn, least, greatest, confidence)
    return estimates


def _weighted_rates(outcomes: Floats, weights: Floats) -> Floats:
    """Rates ``(resamples, policies)`` of ``outcomes (policies, episodes)``; NaN episodes weigh nothing."""
    scored = ~np.isnan(outcomes)
    total = weights @ scored.T
    return np.where(total > 0, weights @ np.where(scored, outcomes, 0.0).T / np.maximum(total, 1.0), np.nan)


def _resample(
    simulated: Floats, real: Sequence[RealOutcomes], rng: np.random.Generator, resamples: int
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Imagined and real rates ``(resamples, policies)``, and how many distinct policies each row has."""
    policies, episodes = simulated.shape
    times_drawn = rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=resamples).astype(
        np.float64
    )
    s_rate = _weighted_rates(simulated, times_drawn)
    r_rate = np.empty_like(s_rate)
    for i, entry in enumerate(real):
        if entry.paired:
            r_rate[:, i] = _weighted_rates(entry.outcomes[None], times_drawn)[:, 0]
        else:
            n = len(entry.outcomes)
            r_rate[:, i] = rng.binomial(n, entry.outcomes.mean(), size=resamples) / n
    chosen = rng.integers(policies, size=(resamples, policies))
    ordered = np.sort(chosen, axis=1)
    distinct = 1 + (np.diff(ordered, axis=1) > 0).sum(axis=1)
    return np.take_along_axis(s_rate, chosen, 1), np.take_along_axis(r_rate, chosen, 1), distinct


def _interval(value: float, drawn: Floats, least: float, greatest: float, confidence: float) -> Estimate:
    if np.isnan(value):
        return UNDEFINED
    tail = (1 - confidence) / 2
    undefined = np.isnan(drawn)
    low = float(np.quantile(np.where(undefined, least, drawn), tail))
    high = float(np.quantile(np.where(undefined, greatest, drawn), 1 - tail))
    # resampling can only add rank violations, which may push all of a small MMRV's interval past its value
    return Estimate(value, min(low, value), max(high, value))


@dataclass(frozen=True)
class LeaveOneOut:
    """What a metric becomes when one policy is left out.

    Attributes:
        low: the least of these values; NaN where the metric is undefined without any of them.
        low_without: the policy whose absence makes it so, by its place.
        high: the greatest.
        high_without: likewise.
    """

    low: float
    low_without: int | None
    high: float
    high_without: int | None


def leave_one_out(*, simulated: npt.ArrayLike, real: npt.ArrayLike) -> dict[str, LeaveOneOut]:
    """How far every one of ``METRICS`` hangs on a single policy.

    Args:
        simulated: success rates ``(policies,)``.
        real: likewise.

    Raises:
        ValueError: the shapes differ.
    """
    s, r = np.asarray(simulated, dtype=np.float64), np.asarray(real, dtype=np.float64)
    if s.ndim != 1 or s.shape != r.shape:
        raise ValueError(f"simulated and real must be alike, (policies,), got {s.shape} and {r.shape}")
    nothing = LeaveOneOut(float("nan"), None, float("nan"), None)
    if len(s) < 2:
        return dict.fromkeys(METRICS, nothing)
    others = np.array([[j for j in range(len(s)) if j != i] for i in range(len(s))])
    ranges = {}
    for name, (metric, _, _) in METRICS.items():
        values = metric(simulated=s[others], real=r[others])
        if np.isnan(values).all():
            ranges[name] = nothing
        else:
            low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
            ranges[name] = LeaveOneOut(float(values[low]), low, float(values[high]), high)
    return ranges
