"""Intervals and rank agreement: pure functions of numbers, on numpy and scipy alone.

An undefined value (correlation with a constant, agreement of a single policy) is NaN, never a made-up number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.float64]
Metric = Callable[..., Floats]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; all three are NaN where the value is undefined."""

    value: float
    low: float
    high: float


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


def wilson(*, successes: int, episodes: int, confidence: float = CONFIDENCE) -> Estimate:
    """Success rate with Wilson's score interval, which stays inside 0..1 and is honest at 0 and at 1.

    Raises:
        ValueError: more successes than episodes, or a negative count.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"successes must lie in 0..episodes, got {successes} of {episodes}")
    if episodes == 0:
        return UNDEFINED
    z = float(norm.ppf(0.5 + confidence / 2))
    rate, spread = successes / episodes, z**2 / episodes
    centre = (rate + spread / 2) / (1 + spread)
    half = z * np.sqrt(rate * (1 - rate) / episodes + spread / (4 * episodes)) / (1 + spread)
    low, high = centre - half, centre + half
    # at 0 and at 1 one end equals the rate exactly; rounding must not move it past
    return Estimate(
        rate, 0.0 if successes == 0 else float(low), 1.0 if successes == episodes else float(high)
    )


def pearson(*, simulated: npt.ArrayLike, real: npt.ArrayLike) -> Floats:
    """Sample correlation over the last axis ``(..., policies)``; NaN where either side is constant.

    Raises:
        ValueError: the shapes differ.
    """
    s, r = _pair(simulated, real)
    constant = (np.ptp(s, axis=-1) == 0) | (np.ptp(r, axis=-1) == 0)
    s, r = s - s.mean(axis=-1, keepdims=True), r - r.mean(axis=-1, keepdims=True)
    scale = np.sqrt((s * s).sum(axis=-1) * (r * r).sum(axis=-1))
    correlation = (s * r).sum(axis=-1) / np.where(constant, 1.0, scale)
    return np.where(constant, np.nan, np.clip(correlation, -1.0, 1.0))


def spearman(*, simulated: npt.ArrayLike, real: npt.ArrayLike) -> Floats:
    """Rank correlation over the last axis, tied values sharing their mean rank; NaN where a side is constant.

    Raises:
        ValueError: the shapes differ.
    """
    s, r = _pair(simulated, real)
    return pearson(simulated=rankdata(s, axis=-1), real=rankdata(r, axis=-1))


def mmrv(*, simulated: npt.ArrayLike, real: npt.ArrayLike) -> Floats:
    """Mean maximum rank violation over the last axis, as SIMPLER (arXiv 2405.05941) defines it.

    A pair that the simulation orders otherwise than reality costs its *real* gap, so the two arguments must
    not be swapped; every policy counts with its costliest pair. In 0..1, lower is better. Both comparisons
    are strict: a tie in simulation alone charges the truly better policy only, a tie in reality costs
    nothing. NaN for fewer than two policies, which have no order to violate.

    Raises:
        ValueError: the shapes differ.
    """
    s, r = _pair(simulated, real)
    if s.shape[-1] < 2:
        return np.full(s.shape[:-1], np.nan)
    gap = r[..., :, None] - r[..., None, :]
    violated = (s[..., :, None] > s[..., None, :]) != (gap > 0)
    worst = np.where(violated, np.abs(gap), 0.0).max(axis=-1)
    return np.where(np.isnan(s).any(axis=-1), np.nan, worst.mean(axis=-1))


def _pair(simulated: npt.ArrayLike, real: npt.ArrayLike) -> tuple[Floats, Floats]:
    s, r = np.asarray(simulated, dtype=np.float64), np.asarray(real, dtype=np.float64)
    if s.shape != r.shape or s.ndim == 0 or s.shape[-1] == 0:
        raise ValueError(f"simulated and real must be alike, (..., policies), got {s.shape} and {r.shape}")
    return s, r


METRICS: dict[str, tuple[Metric, float, float]] = {  # name -> function, least and greatest possible value
    "pearson": (pearson, -1.0, 1.0),
    "spearman": (spearman, -1.0, 1.0),
    "mmrv": (mmrv, 0.0, 1.0),
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
    """Pearson, Spearman and MMRV of success rates, with percentile bootstrap intervals.

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
