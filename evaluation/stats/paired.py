"""Two policies that met the same starts and noise: what they differ by, and what sharing luck saved."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binomtest

from v2w_gym.evaluation.stats.intervals import CONFIDENCE, UNDEFINED, Estimate, normal_quantile


@dataclass(frozen=True)
class Paired:
    """How two policies compare over the starts on which both were scored.

    Attributes:
        starts: how many those are.
        first_only: starts on which the first alone succeeded.
        second_only: starts on which the second alone did.
        difference: success of the first less that of the second, with Tango's score interval.
        p_value: of McNemar's exact test: the chance of a lead at least as large, either way, if both are
            equally good.
        correlation: of their outcomes over starts; NaN where one of them always fares alike.
        spread: product of the two standard deviations, the covariance at a correlation of 1.
        variance_paired: of the difference, times the number of starts.
        variance_unpaired: what it would be if each policy had met starts and noise of its own.
    """

    starts: int
    first_only: int
    second_only: int
    difference: Estimate
    p_value: float
    correlation: float
    spread: float
    variance_paired: float
    variance_unpaired: float

    @property
    def variance_factor(self) -> float:
        """By how much shared luck divides the variance of the difference, and so the episodes needed.

        Infinite where outcomes never differ, NaN where neither policy varies.
        """
        return variance_factor(paired=self.variance_paired, unpaired=self.variance_unpaired)


def variance_factor(*, paired: float, unpaired: float) -> float:
    """Variance of unpaired differences over that of paired ones; NaN where there is none to cut."""
    if paired == 0:
        return float("inf") if unpaired > 0 else float("nan")
    return unpaired / paired


def compare(*, first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = CONFIDENCE) -> Paired:
    """Compare two policies start by start.

    Args:
        first: ``(starts,)`` 1, 0 or NaN (unscorable).
        second: likewise, of the same starts in the same order.
        confidence: of the interval.

    Raises:
        ValueError: lists of different length.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"both policies need an outcome per start, got shapes {a.shape} and {b.shape}")
    scored = ~(np.isnan(a) | np.isnan(b))
    a, b = a[scored], b[scored]
    if len(a) == 0:
        nan = float("nan")
        return Paired(0, 0, 0, UNDEFINED, nan, nan, nan, nan, nan)
    ahead, behind = int((a > b).sum()), int((b > a).sum())
    variances = a.var() + b.var()
    spread = float(a.std() * b.std())
    covariance = float(np.mean(a * b) - a.mean() * b.mean())
    differing = ahead + behind
    return Paired(
        starts=len(a),
        first_only=ahead,
        second_only=behind,
        difference=score_interval(first_only=ahead, second_only=behind, starts=len(a), confidence=confidence),
        p_value=float(binomtest(ahead, differing).pvalue) if differing else 1.0,
        correlation=covariance / spread if spread > 0 else float("nan"),
        spread=spread,
        variance_paired=float((a - b).var()),
        variance_unpaired=float(variances),
    )


def score_interval(
    *, first_only: int, second_only: int, starts: int, confidence: float = CONFIDENCE
) -> Estimate:
    """Difference of two paired rates with Tango's score interval, which is right for small counts too.

    Args:
        first_only: starts on which the first alone succeeded.
        second_only: starts on which the second alone did.
        starts: all of them.
        confidence: of the interval.

    Raises:
        ValueError: counts below 0, or more than there are starts.
    """
    if min(first_only, second_only) < 0 or first_only + second_only > starts:
        raise ValueError(f"{first_only} and {second_only} of {starts} starts cannot be")
    if starts == 0:
        return UNDEFINED
    z, value = normal_quantile(confidence), (first_only - second_only) / starts

    def excess(difference: float) -> float:
        """How far the counts are from a true difference, squared, less what the interval allows."""
        return _score(first_only, second_only, starts, difference) - z**2

    edge = 1 - 1e-12
    low = -1.0 if value <= -edge or excess(-edge) < 0 else float(brentq(excess, -edge, value))
    high = 1.0 if value >= edge or excess(edge) < 0 else float(brentq(excess, value, edge))
    return Estimate(value, low, high)


def _score(first_only: int, second_only: int, starts: int, difference: float) -> float:
    """Tango's statistic, squared; the share of starts won by the second alone is the likeliest one."""
    n, d = starts, difference
    linear = -(first_only + second_only) + (2 * n - first_only + second_only) * d
    constant = -second_only * d * (1 - d)
    share = (np.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * share + d * (1 - d))
    distance = first_only - second_only - n * d
    if distance == 0:
        return 0.0
    return float(distance**2 / variance) if variance > 0 else float("inf")


@dataclass(frozen=True)
class SharedLuck:
    """What common starts and common noise did for comparisons between policies.

    Attributes:
        factor: by which the variance of a difference was divided, over all pairs of policies that vary; below
            1 if sharing did harm.
        correlation: of outcomes, that this amounts to.
        most: the largest factor of a single pair.
        pair: which rows of the outcomes those are, or None where no two policies vary.
    """

    factor: float
    correlation: float
    most: float
    pair: tuple[int, int] | None


def shared_luck(outcomes: npt.ArrayLike) -> SharedLuck:
    """Measure it on ``outcomes (policies, starts)``, each 1, 0 or NaN; NaN where no two policies vary."""
    o = np.asarray(outcomes, dtype=np.float64)
    pairs = {(i, j): compare(first=o[i], second=o[j]) for i, j in itertools.combinations(range(len(o)), 2)}
    pairs = {key: pair for key, pair in pairs.items() if not np.isnan(pair.correlation)}
    if not pairs:
        return SharedLuck(float("nan"), float("nan"), float("nan"), None)
    paired = sum(pair.variance_paired for pair in pairs.values())
    unpaired = sum(pair.variance_unpaired for pair in pairs.values())
    spread = sum(2 * pair.spread for pair in pairs.values())
    best = max(pairs, key=lambda key: pairs[key].variance_factor)
    return SharedLuck(
        factor=variance_factor(paired=paired, unpaired=unpaired),
        correlation=(unpaired - paired) / spread,
        most=pairs[best].variance_factor,
        pair=best,
    )
