"""LeRobot policies: called as LeRobot's evaluator calls them, and what an imagined world cannot give.

LeRobot itself cannot be installed here; ``tests/lerobot_stub`` offers what its code offers.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_gym.data.framing import Framing
from v2w_gym.policies import resolve
from v2w_gym.policies.contract import ActionContract
from v2w_gym.policies.normaliser import Normaliser

STUB = Path(__file__).parent / "lerobot_stub"
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (3, 24, 24, 3), np.uint8)
SEEN = {"pixels": FRAMES}
IMAGE = {"observation.image": {"type": "VISUAL", "shape": [3, 24, 24]}}
STATE = {"observation.state": {"type": "STATE", "shape": [2]}}


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """The stub in LeRobot's place; yields what was called."""
    monkeypatch.syspath_prepend(str(STUB))
    import lerobot

    lerobot.calls.clear()
    yield lerobot.calls
    for name in [name for name in sys.modules if name.split(".")[0] == "lerobot"]:
        del sys.modules[name]


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint's folder with changes to its config."""

    def write(inputs=IMAGE, **changes):
        from lerobot.tiny import write_checkpoint

        return write_checkpoint(tmp_path, inputs, **changes)

    return write


def parts_of(folder, **settings):
    from v2w_gym.policies.lerobot_parts import load_parts

    return load_parts(folder, "cpu", **settings)


def made(folder, state=None, camera=None, framing=None, contract=None, **settings):
    from v2w_gym.policies.lerobot import LeRobotPolicy
    from v2w_gym.policies.lerobot_inputs import LeRobotInputs

    parts = parts_of(folder)
    inputs = LeRobotInputs(parts.policy.config, state, camera, framing)
    return LeRobotPolicy(parts, inputs, contract, **settings)


def begin(policy, slots=3):
    policy.seed(range(100, 100 + slots))
    policy.reset([f"task {slot}" for slot in range(slots)], list(range(slots)))


def test_the_order_is_that_of_lerobots_evaluator(checkpoint, calls):
    from dataclasses import replace

    policy = made(checkpoint(n_action_steps=2))

    def note(name):
        return lambda value: calls.append(name) or value

    policy._parts = replace(
        policy._parts, env_preprocessor=note("env_preprocessor"), env_postprocessor=note("env_postprocessor")
    )
    begin(policy)
    calls.clear()
    actions = policy.act(SEEN)
    before = ["reset", "preprocessor.reset", "postprocessor.reset"]
    start = ["preprocess_observation", "env_preprocessor", "preprocessor", "select_action"]
    assert calls == [*before, *start, "predict_action_chunk", "postprocessor", "env_postprocessor"]
    assert actions.shape == (3, 3)
    assert actions.dtype == np.float32
    level = 0.5 * FRAMES.mean((1, 2, 3)) / 255 + 0.006
    np.testing.assert_allclose(actions[:, 0], 2 * level, atol=0.025)  # the policy's noise is up to 0.02
    calls.clear()
    later = policy.act(SEEN)
    assert calls == [*start, "postprocessor", "env_postprocessor"]  # the second action of the chunk
    np.testing.assert_allclose(later - actions, 0.2, atol=1e-5)


def test_the_env_postprocessor_gets_what_lerobots_gets(checkpoint):
    from dataclasses import replace

    policy = made(checkpoint())
    policy._parts = replace(policy._parts, env_postprocessor=lambda value: {"action": value["action"] + 1})
    begin(policy)
    with_it = policy.act(SEEN)
    policy._parts = replace(policy._parts, env_postprocessor=None)
    begin(policy)
    np.testing.assert_allclose(with_it, policy.act(SEEN) + 1, atol=1e-6)


def test_some_slots_cannot_begin_alone_while_they_share_a_queue(checkpoint):
    policy = made(checkpoint(n_action_steps=2))
    begin(policy)
    policy.act(SEEN)
    policy.reset(["again"], [1])
    with pytest.raises(ValueError, match=r"slots \[1\] begin .* while \[0, 2\] go on.*per_slot=True"):
        policy.act(SEEN)
    begin(policy)
    policy.act(SEEN)  # all together: fine again
    with pytest.raises(ValueError, match="began with 3 slots, now there are 2"):
        policy.act({"pixels": FRAMES[:2]})
    begin(policy, slots=2)  # a smaller batch afterwards is a new one
    assert policy.act({"pixels": FRAMES[:2]}).shape == (2, 3)


def test_a_policy_object_per_slot_has_queues_of_its_own_and_shares_weights(checkpoint):
    policy = made(checkpoint(n_action_steps=3), per_slot=True)
    begin(policy)
    first = policy.act(SEEN)
    alone = made(checkpoint(n_action_steps=3), per_slot=True)
    alone.seed([101])
    alone.reset(["task 1"], [0])
    np.testing.assert_allclose(alone.act({"pixels": FRAMES[1:2]})[0], first[1], atol=1e-6)
    second = policy.act(SEEN)
    np.testing.assert_allclose(second - first, 0.2, atol=1e-5)
    policy.reset(["task 1"], [1])
    third = policy.act(SEEN)
    np.testing.assert_allclose(third[[0, 2]] - second[[0, 2]], 0.2, atol=1e-5)
    np.testing.assert_allclose(third[1], first[1], atol=1e-6)  # begins again, from the same seed
    weights = [part.policy.weight for part in policy._own.values()]
    assert weights[0] is weights[1] is weights[2]


def test_actions_follow_from_seeds_and_the_global_generator_is_left_alone(checkpoint):
    policy = made(checkpoint())
    state = torch.random.get_rng_state()
    begin(policy)
    one = [policy.act(SEEN) for _ in range(2)]
    assert (torch.random.get_rng_state() == state).all()
    begin(policy)
    assert all((a == policy.act(SEEN)).all() for a in one)
    policy.seed([1, 2, 3])
    policy.reset(["task 0", "task 1", "task 2"], [0, 1, 2])
    assert (policy.act(SEEN) != one[0]).any()


def test_chunks_have_a_phase_per_slot(checkpoint, calls):
    from v2w_gym.policies.lerobot import lerobot_chunks
    from v2w_gym.policies.lerobot_inputs import LeRobotInputs

    parts = parts_of(checkpoint(n_action_steps=2, chunk_size=4))
    policy = lerobot_chunks(parts, LeRobotInputs(parts.policy.config))
    assert policy.execute == 2
    policy.reset(["a", "b", "c"], [0, 1, 2])
    calls.clear()
    first = policy.act(SEEN)
    assert calls == ["preprocess_observation", "preprocessor", "predict_action_chunk", *["postprocessor"] * 4]
    policy.reset(["b"], [1])
    second = policy.act(SEEN)
    np.testing.assert_allclose(second[[0, 2]] - first[[0, 2]], 0.2, atol=1e-5)
    np.testing.assert_allclose(second[1], first[1], atol=0.03)  # begins again, with other noise
    with pytest.raises(ValueError, match=r"2 frames \(n_obs_steps\).*per_slot=True"):
        lerobot_chunks(parts_of(checkpoint(n_obs_steps=2)), LeRobotInputs(parts.policy.config))


def test_a_state_is_needed_and_can_be_a_constant_or_an_estimate(checkpoint):
    folder = checkpoint({**IMAGE, **STATE})
    with pytest.raises(ValueError, match=r"observation.state \(2 numbers\).*state=\[0.0\] \* 2"):
        made(folder)
    for state in ([0.1, 0.2], lambda observation: np.tile([0.1, 0.2], (len(observation["pixels"]), 1))):
        policy = made(folder, state=state)
        begin(policy)
        blind = made(checkpoint())
        begin(blind)
        np.testing.assert_allclose(policy.act(SEEN) - blind.act(SEEN), 0.6, atol=1e-5)
        checkpoint({**IMAGE, **STATE})
    with pytest.raises(ValueError, match="must have 2 numbers"):
        made(folder, state=[0.0])
    policy = made(folder, state=lambda observation: [0.0])
    with pytest.raises(ValueError, match=r"state must be \(3, 2\)"):
        policy.act(SEEN)
    with pytest.raises(ValueError, match=r"reads no observation.state"):
        made(checkpoint(), state=[0.0])
    with pytest.raises(ValueError, match="environment_state"):
        made(checkpoint({**IMAGE, "observation.environment_state": {"type": "ENV", "shape": [4]}}))


def test_a_frame_is_given_under_the_name_that_the_policy_reads(checkpoint):
    top = {"observation.images.top": {"type": "VISUAL", "shape": [3, 12, 16]}}
    policy = made(checkpoint(top))
    begin(policy)
    assert policy.act(SEEN).shape == (3, 3)
    assert policy._inputs(SEEN)["pixels"]["top"].shape == (3, 12, 16, 3)
    both = checkpoint({**top, "observation.images.wrist": {"type": "VISUAL", "shape": [3, 12, 16]}})
    with pytest.raises(ValueError, match=r"reads 2 \(observation.images.top, observation.images.wrist\)"):
        made(both)
    assert set(made(both, camera="observation.images.top")._inputs(SEEN)["pixels"]) == {"top"}
    with pytest.raises(ValueError, match=r"must be .* got 'top'"):
        made(both, camera="top")


def test_bars_are_taken_off(checkpoint):
    framing = Framing(source=(24, 16), picture=(24, 16), bars=(0, 0, 4, 4))
    shape = {"observation.image": {"type": "VISUAL", "shape": [3, 24, 16]}}
    policy = made(checkpoint(shape), framing=framing)
    assert (policy._inputs(SEEN)["pixels"] == FRAMES[:, :, 4:20]).all()


def test_what_lerobot_cannot_load_is_one_clear_error(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"LeRobot could not load .*config.json not found"):
        parts_of(tmp_path / "nothing")
    with pytest.raises(ValueError, match="not available"):
        parts_of(checkpoint(type="other"))
    assert parts_of(checkpoint(), rename={"observation.image": "observation.images.top"}).policy.config.device


def test_without_lerobot_the_error_says_what_to_type(checkpoint, monkeypatch):
    folder = checkpoint()
    monkeypatch.setitem(sys.modules, "lerobot", None)
    with pytest.raises(ImportError, match=r"pip install .*lerobot.*ws://HOST:PORT"):
        parts_of(folder)


CONTRACT = """
names: [dx, dy, gripper]
units: [centimetres per step, centimetres per step, "1"]
frame: base
mode: delta
rate: 10.0
gripper: closedness
normaliser: {data: my_recordings}
"""


def test_a_spec_opens_it_and_states_its_contract(checkpoint, tmp_path):
    folder = checkpoint({**IMAGE, **STATE}, n_action_steps=2)
    (tmp_path / "actions.yaml").write_text(CONTRACT)
    policy = resolve(f"lerobot:{folder},state=0.1/0.2,contract={tmp_path}/actions.yaml,execute=2")
    policy.reset(["a"] * 3, [0, 1, 2])
    assert policy.act(SEEN).shape == (3, 3)
    assert policy.contract.rate == 10
    assert policy.contract.normaliser.file.startswith("policy_postprocessor_step_0.safetensors sha256:")
    assert resolve(f"lerobot:{folder},state=0.1/0.2,per_slot=true").contract is None
    with pytest.raises(ValueError, match=r"does not say what its actions mean.*contract=actions\.yaml"):
        resolve(f"lerobot:{folder},state=0.1/0.2,world=Vid2World-DrawerClose-v0")
    with pytest.raises(ValueError, match=r"lacks \['dz'\]"):
        resolve(
            f"lerobot:{folder},state=0.1/0.2,contract={tmp_path}/actions.yaml,world=Vid2World-DrawerClose-v0"
        )


def test_a_contract_of_another_width_is_refused(checkpoint):
    contract = ActionContract(("dx", "gripper"), "1", normaliser=Normaliser())
    with pytest.raises(ValueError, match="gives 3 numbers, its contract names 2"):
        made(checkpoint(), contract=contract)
