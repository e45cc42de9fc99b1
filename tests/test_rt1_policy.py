"""Policies in the manner of RT-1: thirteen fields, frames seen, gripper held, episodes ended, all by slot."""

import json
import re

import numpy as np
import pytest

from v2w_gym.config import to_dict
from v2w_gym.data.framing import Framing
from v2w_gym.envs.domains import DOMAINS, RT1_ACTIONS
from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.envs.world import DetectorSpec, World, WorldConfig
from v2w_gym.policies.contract import check_contract
from v2w_gym.policies.history import FrameHistory
from v2w_gym.policies.rt1 import RT1Policy, SimplerModel
from v2w_gym.policies.rt1_fields import FIELDS

FRAMING = Framing(source=(24, 20), picture=(48, 40), bars=(0, 0, 4, 4))
RNG = np.random.default_rng(0)


def output(slots, **changes):
    """A dict as RT-1's, other numbers in every place."""
    values = {
        "world_vector": np.linspace(0.1, 0.3, 3 * slots).reshape(slots, 3),
        "rotation_delta": np.linspace(-0.3, -0.1, 3 * slots).reshape(slots, 3),
        "gripper_closedness_action": np.full((slots, 1), 0.5),
        "terminate_episode": np.tile([0, 1, 0], (slots, 1)),
        "base_displacement_vector": np.linspace(0.4, 0.5, 2 * slots).reshape(slots, 2),
        "base_displacement_vertical_rotation": np.full((slots, 1), 0.6),
    }
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


class Model:
    """Answers what ``says`` makes of the number of slots; notes what it sees."""

    def __init__(self, says=output):
        self.says, self.seen, self.told = says, [], []

    def __call__(self, images, instruction):
        self.seen.append((images, instruction))
        return self.says(len(images))


def see(slots=2, value=0):
    return {"pixels": np.full((slots, 48, 48, 3), value, np.uint8)}


def policy(says=output, **settings):
    made = RT1Policy(Model(says), **{"framing": FRAMING, "size": (12, 10), **settings})
    made.reset(["close the drawer", "open it"], [0, 1])
    return made


def test_every_field_lands_where_the_world_reads_it():
    actions = policy().act(see())
    given = output(2)
    assert actions.shape == (2, 13)
    assert actions.dtype == np.float32
    for name, components in FIELDS.items():
        for i, component in enumerate(components):
            column = actions[:, RT1_ACTIONS.names.index(component)]
            np.testing.assert_allclose(column, given[name][:, i], atol=1e-6, err_msg=component)
    assert sorted(sum(FIELDS.values(), ())) == sorted(RT1_ACTIONS.names)


def test_without_base_and_terminate_the_base_stands_and_the_episode_goes_on():
    bare = {name: None for name in FIELDS if name.startswith(("base", "terminate"))}
    actions = policy(lambda slots: output(slots, **bare)).act(see())
    assert actions[:, :3].tolist() == [[0, 0, 0]] * 2
    assert actions[:, 7:10].tolist() == [[0, 1, 0]] * 2


WRONG = [
    ({"world_vector": None}, "needs world_vector"),
    ({"gripper_closedness_action": None}, "one of gripper_closedness_action and open_gripper"),
    ({"open_gripper": np.zeros((2, 1))}, "one of gripper_closedness_action and open_gripper"),
    ({"world_vectors": np.zeros((2, 3))}, "did you mean 'world_vector'?"),
    ({"rotation_delta": np.zeros((2, 4))}, "rotation_delta must be (b, 3) with b = 2, got (2, 4)"),
    ({"rotation_delta": np.zeros(3)}, "rotation_delta must be (b, 3)"),
    ({"world_vector": np.full((2, 3), np.nan)}, "world_vector must be finite"),
    ({"world_vector": np.full((2, 3), 1.75)}, "'dx' must lie in [-1, 1] metres per step"),
    ({"base_displacement_vertical_rotation": np.full((2, 1), 9)}, "'base_rotation' must lie in"),
    ({"world_vector": "fast"}, "must be numbers"),
]


@pytest.mark.parametrize(("changes", "text"), WRONG)
def test_output_that_is_not_rt1s_is_refused_by_field(changes, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        policy(lambda slots: output(slots, **changes)).act(see())
    with pytest.raises(ValueError, match="returns a dict"):
        policy(lambda slots: np.zeros((slots, 13))).act(see())


@pytest.mark.parametrize(
    "wrong", [{"world_vector": None}, {"world_vector": np.full((2, 3), 1.75)}, {"raises": True}]
)
def test_a_call_that_fails_leaves_history_gripper_and_end_as_they_were(wrong):
    def says(slots):
        if made._model.fails and "raises" in wrong:
            raise RuntimeError("out of memory")
        changes = wrong if made._model.fails else {}
        closing = {"gripper_closedness_action": np.full((slots, 1), 0.9 if made._model.fails else 0.1)}
        return output(slots, **{**closing, **changes})

    made = policy(says, history=3, sticky=3)
    made._model.fails = False
    made.act(see(value=10))
    made._model.fails = True
    with pytest.raises((ValueError, RuntimeError)):
        made.act(see(value=20))
    made._model.fails = False
    actions = made.act(see(value=30))
    assert made._model.seen[-1][0][0, :, 0, 0, 0].tolist() == [10, 10, 30]
    assert actions[:, RT1_ACTIONS.names.index("gripper_closedness")] == pytest.approx(0.1)
    assert made._steps == {0: 2, 1: 2}


def test_history_is_that_of_each_slot_in_the_policys_size():
    made = policy(history=3)
    for value in (10, 20):
        made.act(see(value=value))
    made.reset(["push it"], [1])
    made.act(see(value=30))
    images, instruction = made._model.seen[-1]
    assert images.shape == (2, 3, 12, 10, 3)
    assert images[:, :, 0, 0, 0].tolist() == [[10, 20, 30], [30, 30, 30]]
    assert instruction == ["close the drawer", "push it"]


def test_bars_are_taken_off_before_the_picture_is_resized():
    frame = FRAMING.fit(RNG.integers(100, 256, (1, 24, 20, 3), np.uint8))
    assert FrameHistory(1, (12, 10), FRAMING).see(frame).min() >= 90  # no black came in
    assert FrameHistory(1, (12, 12), None).see(frame).min() < 90
    assert FrameHistory(2, start="black").see(frame)[0, 0].max() == 0
    with pytest.raises(ValueError, match=r"framing=world.config.framing"):
        FrameHistory(1, (12, 10), FRAMING).see(frame[:, :40])
    with pytest.raises(ValueError, match="uint8"):
        FrameHistory(1).see(frame.astype(np.float32))
    for wrong in ({"length": 0}, {"length": 1, "start": "noise"}):
        with pytest.raises(ValueError, match=r"frame|start"):
            FrameHistory(**wrong)


def test_frames_that_are_remembered_are_copies():
    history, memory = FrameHistory(3), np.full((1, 4, 4, 3), 1, np.uint8)
    history.see(memory)
    memory[:] = 2  # the next frame, in the same place
    assert history.see(memory)[0, :, 0, 0, 0].tolist() == [1, 1, 2]


def test_gripper_commands_are_held_and_small_ones_dropped():
    commands = iter([0.005, 0.9, -0.9, -0.9, 0.2])
    made = policy(lambda slots: output(slots, gripper_closedness_action=np.full((slots, 1), next(commands))))
    made._sticky.repeat = 2
    place = RT1_ACTIONS.names.index("gripper_closedness")
    held = [made.act(see())[0, place] for _ in range(5)]
    np.testing.assert_allclose(held, [0, 0.9, 0.9, -0.9, -0.9], atol=1e-6)


def test_a_state_of_the_gripper_becomes_commands_at_its_changes():
    states = iter([1.0, 1.0, 0.0, 0.0, 0.0])
    bare = {"gripper_closedness_action": None}
    made = policy(
        lambda slots: output(slots, **bare, open_gripper=np.full((slots, 1), next(states))), sticky=2
    )
    place = RT1_ACTIONS.names.index("gripper_closedness")
    assert [made.act(see())[1, place] for _ in range(5)] == [0, 0, 1, 1, 0]


def test_a_policy_that_ends_its_episode_stands_still_from_then_on():
    ends = iter([[[0, 1, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0]], *[[[0, 1, 0]] * 2] * 2])
    made = policy(lambda slots: output(slots, terminate_episode=np.array(next(ends))))
    moved = np.stack([made.act(see()) for _ in range(3)])
    assert (moved[:, 0, 10:13] != 0).any(-1).tolist() == [True, True, False]  # the ending step still moves
    assert (moved[:, 1, 10:13] != 0).any(-1).all()
    assert (moved[:, :, 7:10] == [0, 1, 0]).all()
    assert made.terminated == {0: 2}
    made.reset(["again"], [0])
    assert made.terminated == {}
    assert (made.act(see())[0, 10:13] != 0).all()


class SimplerLike:
    """The two methods that SIMPLER's evaluator calls."""

    made = 0

    def __init__(self):
        SimplerLike.made += 1
        self.task, self.steps = None, 0

    def reset(self, task_description):
        self.task, self.steps = task_description, 0

    def step(self, image, task_description=None):
        assert image.dtype == np.uint8
        assert image.shape == (12, 10, 3)
        assert task_description == self.task
        self.steps += 1
        raw = {name: value[0] for name, value in output(1).items()}
        raw["world_vector"] = np.full(3, 0.01 * self.steps)
        return raw, {"world_vector": raw["world_vector"], "rot_axangle": np.zeros(3), "gripper": np.zeros(1)}


def test_simplers_policies_take_one_object_for_each_slot():
    SimplerLike.made = 0
    made = RT1Policy(SimplerModel(SimplerLike), history=1, framing=FRAMING, size=(12, 10))
    made.reset(["a", "b"], [0, 1])
    made.act(see())
    made.reset(["c"], [1])
    np.testing.assert_allclose(made.act(see())[:, 10], [0.02, 0.01], atol=1e-6)
    assert SimplerLike.made == 2


def darker(images, instruction):
    """Goes the faster the brighter it is."""
    level = images.reshape(len(images), -1).mean(1, keepdims=True) / 255
    fields = {name: np.repeat(value, len(images), 0) for name, value in output(1).items()}
    return {**fields, "world_vector": np.tile(0.1 * level, (1, 3))}


@pytest.fixture(scope="module")
def rt1_world(tmp_path_factory, tiny_model):
    """Folder of a tiny world that reads RT-1's fields."""
    folder = tmp_path_factory.mktemp("rt1")
    tiny_model(13, action_bound=None).save_pretrained(folder)
    sampler = json.loads((folder / "world.json").read_text())["sampler"]
    sizes = {"frame_size": (48, 48), "fps": 3.0, "horizon": 3, "window": 4, "framing": FRAMING}
    config = WorldConfig(
        name="toy",
        version=0,
        action=RT1_ACTIONS,
        instructions=("close it",),
        detector=DetectorSpec("none"),
        sampler=sampler,
        action_bound=None,
        **sizes,
    )
    (folder / "world.json").write_text(json.dumps(to_dict(config)))
    return folder


def test_an_rt1_world_takes_its_actions_and_slots_do_not_mix(rt1_world):
    frames = FRAMING.fit(RNG.integers(0, 256, (2, 24, 20, 3), np.uint8))

    def episode(slots):
        made = RT1Policy(darker, framing=FRAMING, size=(12, 10))
        assert check_contract(made, World.open(rt1_world)) == ()
        env = WorldModelVectorEnv(len(slots), str(rt1_world), autoreset_mode="disabled")
        options = {"frames": frames[slots][:, None], "noise_seed": [5 + slot for slot in slots]}
        observation, _ = env.reset(options=options)
        made.reset(["close it"] * len(slots), list(range(len(slots))))
        for _ in range(2):
            observation, *_ = env.step(made.act(observation))
        return observation["pixels"].astype(int)

    assert abs(episode([0, 1])[1] - episode([1])[0]).max() <= 1  # a float that rounds to the next level


def test_the_frames_of_the_released_world_have_the_size_that_the_policy_expects():
    framing = DOMAINS["rt1"].framing
    made = RT1Policy(Model(), history=1)
    made.act({"pixels": np.zeros((1, *framing.frame_size, 3), np.uint8)})
    assert made._model.seen[0][0].shape == (1, 1, 256, 320, 3)
