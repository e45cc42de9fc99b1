"""Success rates behind a detector that errs."""

from __future__ import annotations

import numpy as np
import pytest

from v2w_gym.evaluation.stats import Confusion, confusion_of, prediction_powered, rogan_gladen, wilson


def test_rogan_and_gladen_by_hand() -> None:
    # sensitivity .81, specificity .97: a true rate of .5 shows as .42, and back
    detector = Confusion(true_success=81, false_success=3, true_failure=97, false_failure=19)
    assert rogan_gladen(successes=42, episodes=100, confusion=detector).value == pytest.approx(0.5)
    assert detector.sensitivity.value == 0.81
    assert detector.specificity.value == 0.97


def test_a_perfect_detector_corrects_nothing_but_is_not_taken_for_certain() -> None:
    many = Confusion(true_success=10**6, false_success=0, true_failure=10**6, false_failure=0)
    few = Confusion(true_success=15, false_success=0, true_failure=15, false_failure=0)
    sure, unsure = (rogan_gladen(successes=20, episodes=50, confusion=c) for c in (many, few))
    raw = wilson(successes=20, episodes=50)
    assert [sure.value, unsure.value] == pytest.approx([raw.value, raw.value])
    assert (sure.low, sure.high) == pytest.approx((raw.low, raw.high), abs=0.01)
    assert unsure.high - unsure.low > sure.high - sure.low


def test_corrected_rates_stay_in_range() -> None:
    detector = Confusion(true_success=90, false_success=10, true_failure=90, false_failure=10)
    never = rogan_gladen(successes=0, episodes=50, confusion=detector)
    always = rogan_gladen(successes=50, episodes=50, confusion=detector)
    assert never.low == never.value == 0.0
    assert always.value == always.high == 1.0
    assert never.high >= wilson(successes=0, episodes=50).high  # not more certain than without correction


def test_a_detector_that_knows_nothing_gives_no_rate() -> None:
    coin = Confusion(true_success=50, false_success=50, true_failure=50, false_failure=50)
    assert np.isnan(rogan_gladen(successes=20, episodes=50, confusion=coin).value)
    unlabelled = Confusion(true_success=50, false_success=0, true_failure=0, false_failure=0)
    assert np.isnan(rogan_gladen(successes=20, episodes=50, confusion=unlabelled).value)
    with pytest.raises(ValueError, match="negative"):
        Confusion(true_success=-1, false_success=0, true_failure=0, false_failure=0)


def test_unscorable_is_no_failure() -> None:
    nan = float("nan")
    counted = confusion_of(verdicts=[1, 1, 0, 0, nan, 1], labels=[1, 0, 0, 1, 1, nan])
    assert counted == Confusion(true_success=1, false_success=1, true_failure=1, false_failure=1)
    with pytest.raises(ValueError, match="needs a label"):
        confusion_of(verdicts=[1], labels=[1, 0])


def test_many_verdicts_and_a_few_labels_by_hand() -> None:
    # of 100 verdicts 60 say success, which is right in 4 of 5; of those that say failure 1 of 5 is wrong
    estimate = prediction_powered(
        unlabelled=[1] * 55 + [0] * 35,
        verdicts=[1] * 5 + [0] * 5,
        labels=[1, 1, 1, 1, 0, 0, 0, 0, 0, 1],
    )
    assert estimate.value == pytest.approx(0.6 * 0.8 + 0.4 * 0.2)
    assert estimate.low < estimate.value < estimate.high


def test_verdicts_narrow_what_labels_alone_say() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(500) < 0.4).astype(float)
    verdicts = np.where(rng.random(500) < 0.95, truth, 1 - truth)
    labels_alone = wilson(successes=int(truth[:40].sum()), episodes=40)
    together = prediction_powered(unlabelled=verdicts[40:], verdicts=verdicts[:40], labels=truth[:40])
    assert together.high - together.low < 0.7 * (labels_alone.high - labels_alone.low)
    assert np.isnan(prediction_powered(unlabelled=[1, 0], verdicts=[], labels=[]).value)
