"""Kinds of actions: what a user thinks in, and the vectors that the models read."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium.vector.utils import batch_space, iterate

from v2w_gym.config import from_dict, to_dict
from v2w_gym.envs import keyboard
from v2w_gym.envs.actions import actions_of
from v2w_gym.envs.domains import CSGO_ACTIONS, DOMAINS, RECON_ACTIONS, RT1_ACTIONS
from v2w_gym.envs.keyboard import press
from v2w_gym.envs.world import ActionSpec

NORMALISED = ActionSpec(("x", "y"), (-0.1, -0.1), (0.1, 0.1), "metres")
SPECS = {"normalised": NORMALISED, **{name: domain.action for name, domain in DOMAINS.items()}}


@pytest.mark.parametrize("name", SPECS)
def test_whatever_the_space_samples_is_encoded(name):
    kind = actions_of(SPECS[name])
    kind.space.seed(0)
    batched = batch_space(kind.space, 3)
    batched.seed(0)
    for _ in range(20):
        action, batch = kind.space.sample(), batched.sample()
        encoded = kind.encode(action)
        assert (encoded.shape, encoded.dtype) == ((len(SPECS[name].names),), np.float32)
        assert np.isfinite(encoded).all()
        one_by_one = [kind.encode(row) for row in iterate(batched, batch)]
        np.testing.assert_array_equal(kind.encode(batch, (3,)), one_by_one)


@pytest.mark.parametrize("name", SPECS)
def test_action_specs_round_trip_and_say_what_each_component_is(name):
    spec = SPECS[name]
    assert from_dict(ActionSpec, json.loads(json.dumps(to_dict(spec)))) == spec
    assert len(set(spec.names)) == len(spec.names) == len(spec.units)


def test_normalised_and_raw_actions_reach_the_model_as_they_are():
    assert actions_of(NORMALISED).space == gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    kind = actions_of(RT1_ACTIONS)
    for i in range(13):
        for bound in (kind.space.low, kind.space.high):
            action = np.zeros(13, np.float32)
            action[i] = bound[i]
            np.testing.assert_array_equal(kind.encode(action), action)


def test_rt1_has_the_fields_of_the_recordings():
    fields = [name.rsplit("_", 1)[0] for name in RT1_ACTIONS.names]
    assert fields == [
        *["base_displacement"] * 2,
        "base",
        "gripper",
        *["rotation_delta"] * 3,
        *["terminate"] * 3,
        *["world_vector"] * 3,
    ]
    turn = np.float32(np.pi / 2)
    space = actions_of(RT1_ACTIONS).space
    assert space.high.tolist() == pytest.approx([1, 1, np.pi, 1, turn, turn, turn, 1, 1, 1, 1, 1, 1])
    assert space.low.tolist() == pytest.approx([-1, -1, -np.pi, -1, *[-turn] * 3, 0, 0, 0, -1, -1, -1])


@pytest.mark.parametrize(
    ("metres", "read"),
    [
        ((0, 0, 0), (-1 / 3, 0, 0)),
        ((-0.625, -1, -np.pi), (-1, -1, -np.pi)),
        ((1.25, 1, np.pi), (1, 1, np.pi)),
        ((0.25, 0.25, 0.1), ((1 + 2.5) / 7.5 * 2 - 1, 0.25, 0.1)),
    ],
)
def test_recon_metres_to_what_the_model_reads(metres, read):
    np.testing.assert_allclose(actions_of(RECON_ACTIONS).encode(metres), read, atol=1e-6)


def test_every_key_click_and_bin_has_a_component_of_its_own():
    kind, idle = actions_of(CSGO_ACTIONS), {24, 43}  # the mouse rests in bin 11 of 13..35 and 7 of 36..50
    for i, key in enumerate(keyboard.KEYS):
        assert set(np.flatnonzero(kind.encode(press(key)))) == {i} | idle
    for i, button in enumerate(keyboard.CLICKS):
        assert set(np.flatnonzero(kind.encode(press(clicks=[button])))) == {11 + i} | idle
    for i, count in enumerate(keyboard.MOUSE_X):
        assert set(np.flatnonzero(kind.encode(press(mouse=(count, 0))))) == {13 + i, 43}
        assert keyboard.NAMES[13 + i] == f"mouse_x_{count}"
    for i, count in enumerate(keyboard.MOUSE_Y):
        assert set(np.flatnonzero(kind.encode(press(mouse=(0, count))))) == {36 + i, 24}
        assert keyboard.NAMES[36 + i] == f"mouse_y_{count}"
    assert keyboard.MOUSE_X[::11] == (-1000, 0, 1000)
    assert keyboard.MOUSE_Y[::7] == (-200, 0, 200)
    assert press("w", mouse=(33, -5)) in kind.space
    assert kind.encode(press("w", "r", mouse=(33, -5))).sum() == 4


def test_recorded_key_vectors_are_taken_as_they_are():
    kind = actions_of(CSGO_ACTIONS)
    vectors = np.stack([kind.encode(press("w", mouse=(30, 0))), kind.encode(press("a", clicks=["right"]))])
    np.testing.assert_array_equal(kind.encode(vectors[0]), vectors[0])
    np.testing.assert_array_equal(kind.encode(vectors, (2,)), vectors)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"names": ("x",)}, "as many lows"),
        ({"unit": ("metres",)}, "one for each of its 2"),
        ({"high": (-1.0, 1.0)}, "below"),
    ],
)
def test_action_specs_that_make_no_sense(values, match):
    with pytest.raises(ValueError, match=match):
        from_dict(ActionSpec, {**to_dict(NORMALISED), **values})


def test_kinds_have_components_of_their_own():
    for kind in ("metric", "keyboard_mouse"):
        with pytest.raises(ValueError, match="components"):
            actions_of(ActionSpec(("x", "y"), (0.0, 0.0), (1.0, 1.0), "1", kind))
    with pytest.raises(ValueError, match="unknown key or button 'up'"):
        press("up")
