"""How many episodes tell two success rates apart, and what a given number of episodes can tell.

One formula throughout, the normal approximation with the variances of both rates (not pooled): the
difference of two rates has the variance ``v / n`` over ``n`` episodes, and is seen in the share ``power`` of
all rankings if ``n = v * ((z(error / 2) + z(1 - power)) / gap)^2``. Unpaired, ``v = p(1-p) + q(1-q)``; over
common starts and noise it is less by twice the covariance of the two outcomes.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import norm

POWER, ERROR = 0.8, 0.05


def episodes_needed(
    *, first: float, second: float, correlation: float = 0.0, power: float = POWER, error: float = ERROR
) -> int:
    """Episodes per policy that tell two true success rates apart.

    Args:
        first: success rate of one policy.
        second: of the other.
        correlation: of their outcomes over common starts and noise; 0 if each meets its own.
        power: share of rankings in which the difference shall be seen.
        error: share of rankings in which equal policies may be told apart.

    Raises:
        ValueError: equal rates, a number outside its range, or a correlation that two such rates cannot have.
    """
    if first == second:
        raise ValueError(f"no number of episodes tells {first} from {second}")
    variance = difference_variance(first=first, second=second, correlation=correlation)
    return max(1, math.ceil(variance * (_reach(power, error) / (first - second)) ** 2 - 1e-9))


def visible_gap(
    *, rate: float, episodes: int, correlation: float = 0.0, power: float = POWER, error: float = ERROR
) -> tuple[float, float]:
    """The nearest rates below and above ``rate`` that so many episodes per policy tell from it.

    NaN where not even 0 or 1 is far enough.

    Args:
        rate: success rate of one policy.
        episodes: per policy.
        correlation: of outcomes over common starts and noise; where a rate is too far for so strong a
            correlation, the strongest that it allows is taken.
        power: share of rankings in which the difference shall be seen.
        error: share of rankings in which equal policies may be told apart.

    Raises:
        ValueError: no episodes, or a number outside its range.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    _check_rates(rate)
    reach = _reach(power, error)

    def short(other: float) -> float:
        bound = _strongest(rate, other)
        variance = difference_variance(first=rate, second=other, correlation=min(correlation, bound))
        return reach * math.sqrt(max(variance, 0.0) / episodes) - abs(other - rate)

    def nearest(end: float) -> float:
        if end == rate or short(end) > 0:
            return float("nan")
        near = rate + math.copysign(1e-9, end - rate)
        return near if short(near) <= 0 else float(brentq(short, near, end))

    return nearest(0.0), nearest(1.0)


def difference_variance(*, first: float, second: float, correlation: float = 0.0) -> float:
    """Variance of the difference of two outcomes of one start, each 0 or 1.

    Raises:
        ValueError: a rate outside 0..1, or a correlation that two such rates cannot have.
    """
    _check_rates(first, second)
    weakest, strongest = -_strongest(first, 1 - second), _strongest(first, second)
    if not weakest - 1e-9 <= correlation <= strongest + 1e-9:
        raise ValueError(
            f"outcomes with success {first:g} and {second:g} can be correlated by "
            f"{weakest:.2f}..{strongest:.2f}, got {correlation:g}"
        )
    covariance = correlation * math.sqrt(first * (1 - first) * second * (1 - second))
    return first * (1 - first) + second * (1 - second) - 2 * covariance


def correlation_of(*, first: float, second: float, discordant: float) -> float:
    """The correlation of two outcomes from the share of starts on which exactly one policy succeeds.

    Raises:
        ValueError: a share that two such rates cannot have.
    """
    _check_rates(first, second)
    least, most = abs(first - second), min(first + second, 2 - first - second)
    if not least - 1e-9 <= discordant <= most + 1e-9:
        raise ValueError(
            f"policies with success {first:g} and {second:g} differ on a share of {least:.2f}..{most:.2f} "
            f"of the starts, got {discordant:g}"
        )
    spread = math.sqrt(first * (1 - first) * second * (1 - second))
    covariance = (first + second - discordant) / 2 - first * second
    return covariance / spread if spread > 0 else 0.0


def _strongest(first: float, second: float) -> float:
    """The largest correlation that two outcomes of these rates can have."""
    spread = math.sqrt(first * (1 - first) * second * (1 - second))
    return (min(first, second) - first * second) / spread if spread > 0 else 0.0


def _reach(power: float, error: float) -> float:
    if not 0.5 <= power < 1 or not 0 < error < 0.5:
        raise ValueError(f"power must lie in 0.5..1 and error in 0..0.5, got {power} and {error}")
    return float(norm.ppf(1 - error / 2) + norm.ppf(power))


def _check_rates(*rates: float) -> None:
    if not all(0 <= rate <= 1 for rate in rates):
        raise ValueError(f"success rates must lie in 0..1, got {', '.join(f'{rate:g}' for rate in rates)}")
