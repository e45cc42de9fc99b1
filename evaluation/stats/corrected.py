"""Success rates corrected for a detector that errs, with intervals that include what is unknown about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.stats.intervals import (
    CONFIDENCE,
    UNDEFINED,
    Estimate,
    Floats,
    normal_quantile,
    wilson,
)

_DRAWS = 20_000


@dataclass(frozen=True)
class Confusion:
    """Verdicts of a detector on labelled episodes; episodes that it could not score are not among them.

    Attributes:
        true_success: labelled a success and judged one.
        false_success: labelled a failure, judged a success.
        true_failure: labelled a failure and judged one.
        false_failure: labelled a success, judged a failure.

    Raises:
        ValueError: a negative count.
    """

    true_success: int
    false_success: int
    true_failure: int
    false_failure: int

    def __post_init__(self) -> None:
        if min(self.true_success, self.false_success, self.true_failure, self.false_failure) < 0:
            raise ValueError(f"counts of episodes must not be negative, got {self}")

    @property
    def successes(self) -> int:
        """Episodes that are labelled a success."""
        return self.true_success + self.false_failure

    @property
    def failures(self) -> int:
        """Episodes that are labelled a failure."""
        return self.true_failure + self.false_success

    @property
    def sensitivity(self) -> Estimate:
        """Share of the successes that it recognises."""
        return wilson(successes=self.true_success, episodes=self.successes)

    @property
    def specificity(self) -> Estimate:
        """Share of the failures that it recognises."""
        return wilson(successes=self.true_failure, episodes=self.failures)


def confusion_of(*, verdicts: npt.ArrayLike, labels: npt.ArrayLike) -> Confusion:
    """Count verdicts against labels.

    Args:
        verdicts: ``(episodes,)`` 1, 0 or NaN (unscorable) by the detector.
        labels: ``(episodes,)`` 1, 0 or NaN (unlabelled), the truth.

    Raises:
        ValueError: lists of different length.
    """
    v, t = np.asarray(verdicts, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if v.shape != t.shape:
        raise ValueError(f"every verdict needs a label, got shapes {v.shape} and {t.shape}")
    return Confusion(
        true_success=int(((v == 1) & (t == 1)).sum()),
        false_success=int(((v == 1) & (t == 0)).sum()),
        true_failure=int(((v == 0) & (t == 0)).sum()),
        false_failure=int(((v == 0) & (t == 1)).sum()),
    )


def rogan_gladen(
    *, successes: int, episodes: int, confusion: Confusion, confidence: float = CONFIDENCE
) -> Estimate:
    """True success rate behind a detector's verdicts, if it errs here as often as on the labelled episodes.

    The estimate is Rogan and Gladen's, ``(rate + specificity - 1) / (sensitivity + specificity - 1)``, cut to
    0..1. The interval is Lang and Reiczigel's: a delta method on counts that are a little enlarged, so that
    it covers with few labelled episodes too, and where the detector never erred. Where verdicts are rarer
    than the errors alone would make them, the errors are not those of the labelled episodes, and the interval
    holds the end of the uncorrected one too.

    Args:
        successes: episodes judged a success.
        episodes: episodes that were judged; unscorable ones are not counted.
        confusion: on labelled episodes, other ones than these.
        confidence: of the interval.

    Returns:
        NaN without episodes, without labelled successes or failures, or with a detector that is no better
        than a coin, whose verdicts say nothing.

    Raises:
        ValueError: more successes than episodes, or a negative count.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"successes must lie in 0..episodes, got {successes} of {episodes}")
    if episodes == 0 or confusion.successes == 0 or confusion.failures == 0:
        return UNDEFINED
    better = confusion.sensitivity.value + confusion.specificity.value - 1
    if better <= 0:
        return UNDEFINED
    value = (successes / episodes + confusion.specificity.value - 1) / better
    z = normal_quantile(confidence)
    n, rate = _enlarged(successes, episodes, z**2)
    n_pos, sensitivity = _enlarged(confusion.true_success, confusion.successes, 2)
    n_neg, specificity = _enlarged(confusion.true_failure, confusion.failures, 2)
    scale = sensitivity + specificity - 1
    if scale <= 0:
        return Estimate(float(np.clip(value, 0, 1)), 0.0, 1.0)
    centre = (rate + specificity - 1) / scale
    missed = sensitivity * (1 - sensitivity) / n_pos
    mistaken = specificity * (1 - specificity) / n_neg
    shift = 2 * z**2 * (centre * missed - (1 - centre) * mistaken)
    variance = rate * (1 - rate) / n + centre**2 * missed + (1 - centre) ** 2 * mistaken
    half = z * np.sqrt(variance) / scale
    low, high = centre + shift - half, centre + shift + half
    raw = wilson(successes=successes, episodes=episodes, confidence=confidence)
    if (
        value < 0
    ):  # fewer than the errors alone would give: they are rarer here, and so the policy less certain
        high = max(high, raw.high)
    elif value > 1:
        low = min(low, raw.low)
    low, value, high = np.clip([low, value, high], 0.0, 1.0)
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


def _enlarged(count: int, of: int, more: float) -> tuple[float, float]:
    """Number of episodes and rate after ``more`` episodes, half of them successes, are added."""
    return of + more, (count + more / 2) / (of + more)


def prediction_powered(
    *,
    unlabelled: npt.ArrayLike,
    verdicts: npt.ArrayLike,
    labels: npt.ArrayLike,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """True success rate of one policy from many verdicts and a few labels of its own episodes.

    The labels say how often a verdict of success, and one of failure, is right; the many verdicts say how
    often each is given. Nothing is assumed of the detector: where it errs otherwise on this policy than on
    others, the labels show it. A verdict may come from imagination and the label from reality, if they share
    their start. This is prediction-powered inference with the best weight of the predictions, which for
    verdicts of two kinds is a rate per kind. The interval is that of Jeffreys' posterior.

    Args:
        unlabelled: verdicts 1, 0 or NaN of episodes without a label.
        verdicts: likewise, of the labelled episodes.
        labels: 1, 0 or NaN, in the same order.
        confidence: of the interval.

    Returns:
        NaN without a labelled episode.

    Raises:
        ValueError: not one label per verdict.
    """
    c = confusion_of(verdicts=verdicts, labels=labels)
    if c.successes + c.failures == 0:
        return UNDEFINED
    rest = np.asarray(unlabelled, dtype=np.float64)
    judged_success = c.true_success + c.false_success
    judged_failure = c.true_failure + c.false_failure
    positive, negative = judged_success + (rest == 1).sum(), judged_failure + (rest == 0).sum()
    rng = np.random.default_rng(0)  # the same counts always give the same interval

    def posterior(count: float, other: float) -> Floats:
        return rng.beta(count + 0.5, other + 0.5, _DRAWS)

    share = posterior(positive, negative)
    drawn = share * posterior(c.true_success, c.false_success)
    drawn += (1 - share) * posterior(c.false_failure, c.true_failure)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    share_seen = positive / (positive + negative)
    right = c.true_success / judged_success if judged_success else 0.5
    wrong = c.false_failure / judged_failure if judged_failure else 0.5
    value = share_seen * right + (1 - share_seen) * wrong
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))
