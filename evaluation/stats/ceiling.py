"""How well a perfect evaluator could have done: the noise ceiling of real and imagined episodes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.stats.agreement import METRICS
from v2w_gym.evaluation.stats.intervals import CONFIDENCE, UNDEFINED, Estimate, Floats


def noise_ceiling(
    *,
    real_successes: npt.ArrayLike,
    real_episodes: npt.ArrayLike,
    simulated_episodes: npt.ArrayLike,
    seed: int,
    draws: int = 2000,
    confidence: float = CONFIDENCE,
) -> dict[str, Estimate]:
    """Every one of ``METRICS`` for an evaluator that knows each policy's true success rate.

    It still plays a limited number of episodes, and is held against reality's limited number, so luck keeps
    it from a perfect score. Its episodes and reality's are drawn many times over from the same rates, each
    with luck of its own. Which rates those are is not known either: the measured ones are drawn towards their
    mean by as much as luck spreads them (empirical Bayes). An evaluator that starts where reality started can
    surpass the ceiling as far as the start decides the outcome.

    Args:
        real_successes: ``(policies,)``.
        real_episodes: ``(policies,)``.
        simulated_episodes: ``(policies,)`` or one number.
        seed: of the draws.
        draws: how many.
        confidence: of the interval.

    Returns:
        The median over the draws, and between what it lies in ``confidence`` of them; NaN where a metric is
        undefined in most draws.

    Raises:
        ValueError: no policy, one without episodes, or more successes than episodes.
    """
    won, n = np.asarray(real_successes, dtype=np.float64), np.asarray(real_episodes, dtype=np.int64)
    m = np.broadcast_to(np.asarray(simulated_episodes, dtype=np.int64), n.shape)
    if won.shape != n.shape or n.ndim != 1 or n.size == 0 or min(n.min(), m.min()) < 1 or (won > n).any():
        raise ValueError(
            f"every policy needs real and imagined episodes and at most as many successes, got {won} of {n} "
            f"real and {m} imagined ones"
        )
    rates, rng = shrunk(won / n, n), np.random.default_rng(seed)
    real = rng.binomial(n, rates, size=(draws, len(n))) / n
    simulated = rng.binomial(m, rates, size=(draws, len(n))) / m
    tail = (1 - confidence) / 2
    ceilings = {}
    for name, (metric, _, _) in METRICS.items():
        values = metric(simulated=simulated, real=real)
        values = values[~np.isnan(values)]
        if len(values) < draws / 2:
            ceilings[name] = UNDEFINED
        else:
            low, value, high = np.quantile(values, [tail, 0.5, 1 - tail])
            ceilings[name] = Estimate(float(value), float(low), float(high))
    return ceilings


def shrunk(rates: Floats, episodes: npt.NDArray[np.int64]) -> Floats:
    """Rates ``(policies,)`` drawn towards their mean, so that they spread as the true rates do, not more."""
    if len(rates) < 2:
        return rates
    # unbiased variance of each measured rate; a single episode tells none, so it counts as luck alone
    mean = rates.mean()
    luck = np.where(episodes > 1, rates * (1 - rates) / np.maximum(episodes - 1, 1), mean * (1 - mean))
    true_spread = max(float(rates.var(ddof=1) - luck.mean()), 0.0)
    return np.asarray(mean + np.sqrt(true_spread / max(rates.var(ddof=1), 1e-12)) * (rates - mean))
