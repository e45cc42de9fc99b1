"""Success rates with intervals.

An undefined value (a rate of no episodes, a correlation with a constant) is NaN, never a made-up number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm

Floats = npt.NDArray[np.float64]

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

    It covers the truth in 95 % of repetitions on average over rates; at a single rate it may be a little
    more or less, since episodes are counted in whole numbers.

    Raises:
        ValueError: more successes than episodes, or a negative count.
    """
    if _check(successes, episodes) == 0:
        return UNDEFINED
    z = normal_quantile(confidence)
    rate, spread = successes / episodes, z**2 / episodes
    centre = (rate + spread / 2) / (1 + spread)
    half = z * np.sqrt(rate * (1 - rate) / episodes + spread / (4 * episodes)) / (1 + spread)
    low, high = centre - half, centre + half
    # at 0 and at 1 one end equals the rate exactly; rounding must not move it past
    return Estimate(
        rate, 0.0 if successes == 0 else float(low), 1.0 if successes == episodes else float(high)
    )


def clopper_pearson(*, successes: int, episodes: int, confidence: float = CONFIDENCE) -> Estimate:
    """Success rate with the exact interval: never covers the truth less often than promised, mostly more.

    Raises:
        ValueError: more successes than episodes, or a negative count.
    """
    if _check(successes, episodes) == 0:
        return UNDEFINED
    tail, failures = (1 - confidence) / 2, episodes - successes
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, failures + 1))
    high = 1.0 if failures == 0 else float(beta.ppf(1 - tail, successes + 1, failures))
    return Estimate(successes / episodes, low, high)


def normal_quantile(confidence: float) -> float:
    """How many standard deviations a two-sided interval reaches: 1.96 for 0.95."""
    return float(norm.ppf(0.5 + confidence / 2))


def _check(successes: int, episodes: int) -> int:
    if not 0 <= successes <= episodes:
        raise ValueError(f"successes must lie in 0..episodes, got {successes} of {episodes}")
    return episodes
