"""Agreement of two judges beyond chance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.stats.corrected import confusion_of
from v2w_gym.evaluation.stats.intervals import CONFIDENCE, UNDEFINED, Estimate, Floats

_DRAWS = 5000


def cohen_kappa(*, first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Cohen's kappa: 1 is full agreement, 0 what chance alone gives two judges that share nothing.

    The interval is a percentile bootstrap over episodes; a resample in which kappa is undefined counts as the
    worst for the low end and as the best for the high end.

    Args:
        first: ``(episodes,)`` 1, 0 or NaN (unscorable) by one judge.
        second: likewise by the other; an episode that either could not score is left out.
        confidence: of the interval.

    Returns:
        NaN without a scored episode, or where both always gave the same verdict.

    Raises:
        ValueError: lists of different length.
    """
    c = confusion_of(verdicts=first, labels=second)
    counts = np.array([c.true_success, c.false_success, c.false_failure, c.true_failure], np.float64)
    episodes = int(counts.sum())
    value = float(_kappa(counts[None])[0]) if episodes else np.nan
    if np.isnan(value):
        return UNDEFINED
    drawn = _kappa(
        np.random.default_rng(0).multinomial(episodes, counts / episodes, _DRAWS).astype(np.float64)
    )
    tail = (1 - confidence) / 2
    low = float(np.quantile(np.nan_to_num(drawn, nan=-1.0), tail))
    high = float(np.quantile(np.nan_to_num(drawn, nan=1.0), 1 - tail))
    return Estimate(value, min(low, value), max(high, value))


def _kappa(counts: Floats) -> Floats:
    """Of tables ``(n, 4)``: both yes, first yes alone, second yes alone, both no."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    first, second = shares[:, 0] + shares[:, 1], shares[:, 0] + shares[:, 2]
    chance = first * second + (1 - first) * (1 - second)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa: Floats = np.where(chance < 1, (shares[:, 0] + shares[:, 3] - chance) / (1 - chance), np.nan)
    return kappa
