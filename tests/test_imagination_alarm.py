"""The exploitation alarm fires when reward rises while a trust falls, and at no other time."""

import numpy as np
import pytest

from v2w_gym.training.imagination.alarm import AlarmConfig, ExploitationAlarm


def alarms(rewards, trusts, **values):
    alarm = ExploitationAlarm(AlarmConfig(**{"over": 2, **values}))
    return [alarm.look(r, {"agreement": t}) for r, t in zip(rewards, trusts, strict=True)]


UP, FLAT = [0.2, 0.2, 0.4, 0.6, 0.8], [0.5] * 5
FALLING = [1.0, 1.0, 0.9, 0.7, 0.5]


def test_it_says_what_rose_and_what_fell():
    found = alarms(UP, FALLING)
    assert [len(alarm) for alarm in found] == [0, 0, 0, 1, 1]
    assert str(found[-1][0]) == (
        "exploitation: since agreement was best, imagined reward rose from 0.20 to 0.70 "
        "and agreement fell from 1.00 to 0.60"
    )


@pytest.mark.parametrize(
    ("rewards", "trusts"),
    [
        (UP, [1.0] * 5),
        (FLAT, FALLING),
        (UP[::-1], FALLING),
        (UP, FALLING[::-1]),
        (UP, [1, 0.97, 1, 0.96, 0.95]),
    ],
    ids=["sound", "no gain", "both fall", "both rise", "within noise"],
)
def test_it_is_silent_otherwise(rewards, trusts):
    assert not any(alarms(rewards, trusts))


def test_one_odd_look_is_not_enough():
    assert not any(alarms([0.2, 0.2, 0.6, 0.6, 0.6], [1, 1, 1, 0.85, 1], over=3))


def test_noise_of_looks_raises_no_false_alarm():
    """48 episodes a look, trust steady at .95, success rising: silent in 97 of 100 runs of 20 looks."""
    rng, silent = np.random.default_rng(0), 0
    for _ in range(100):
        rewards = rng.binomial(48, np.linspace(0.3, 0.9, 20)) / 48
        silent += not any(alarms(rewards, rng.binomial(48, 0.95, 20) / 48, over=3))
    assert silent >= 97


def test_a_trust_that_comes_later_than_others_is_refused():
    alarm = ExploitationAlarm()
    alarm.look(0.1, {"credibility": 1.0})
    with pytest.raises(ValueError, match="must always be"):
        alarm.look(0.1, {"reality": 1.0})


@pytest.mark.parametrize("values", [{"rise": 0.0}, {"fall": 2.0}, {"over": 0}])
def test_settings_without_sense_are_refused(values):
    with pytest.raises(ValueError, match="rise and fall"):
        AlarmConfig(**values)


def test_it_goes_on_from_what_it_saw():
    first, second = ExploitationAlarm(AlarmConfig(over=2)), ExploitationAlarm(AlarmConfig(over=2))
    for reward, trust in zip(UP[:4], FALLING[:4], strict=True):
        first.look(reward, {"agreement": trust})
    second.load_state_dict(first.state_dict())
    assert second.look(UP[4], {"agreement": 0.5}) == first.look(UP[4], {"agreement": 0.5}) != []
