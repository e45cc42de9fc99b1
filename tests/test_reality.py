"""Policies in the simulator: what they see, what is written down, what is not done twice."""

import ctypes.util
import json
import os

import numpy as np
import pytest

if ctypes.util.find_library("OSMesa") is None:
    pytest.skip("no offscreen OpenGL: apt-get install libosmesa6", allow_module_level=True)
os.environ.setdefault("MUJOCO_GL", "osmesa")  # read when mujoco is imported, just below
os.environ.setdefault("LP_NUM_THREADS", "0")
pytest.importorskip("metaworld")
pytestmark = pytest.mark.reality

from v2w_gym import policies  # noqa: E402
from v2w_gym.data import reality  # noqa: E402
from v2w_gym.data.episode import Episode  # noqa: E402
from v2w_gym.policies.simple import ConstantPolicy, StillPolicy  # noqa: E402


class Witness:
    """Remembers what it was shown."""

    def __init__(self):
        self.seen = []

    def act(self, observation):
        self.seen.append(observation)
        return np.zeros((1, 4))


def test_a_policy_sees_pixels_only_and_the_start_is_the_shipped_one():
    witness = Witness()
    episode = reality.run_episode(witness, reality.process_task(reality.TASK), seed=3)
    assert len(witness.seen) == 32
    assert all(set(observation) == {"pixels"} for observation in witness.seen)
    start = reality.make_starts([1, 3]).by_id("seed-0003")
    assert start.seed == 3
    np.testing.assert_array_equal(start.frames[0], witness.seen[0]["pixels"][0])
    np.testing.assert_array_equal(start.frames[0], episode.frames[0])


def test_a_late_policy_sees_what_was_some_actions_ago():
    class Moving(Witness):
        def act(self, observation):
            super().act(observation)
            return np.array([[0.0, 0.5, 0.0, 0.0]])

    witness = Moving()
    episode = reality.run_episode(witness, reality.process_task(reality.TASK), seed=3, late=5)
    seen = np.concatenate([observation["pixels"] for observation in witness.seen])
    assert (episode.frames[1] != episode.frames[0]).any()
    np.testing.assert_array_equal(seen[:6], episode.frames[[0] * 6])
    np.testing.assert_array_equal(seen[5:], episode.frames[:27])


def test_a_first_frame_is_a_function_of_the_seed_with_the_marker_settled_or_not():
    task = reality.process_task(reality.TASK)
    for settle in (True, False):
        task.reset(11, settle)
        task.step([0.0, 1.0, 0.0, 0.0])
        first = task.reset(3, settle)
        task.reset(12, settle)
        np.testing.assert_array_equal(task.reset(3, settle), first)
    assert (task.reset(3) != first).any()


def test_an_undisturbed_recording_begins_as_what_is_measured(tmp_path):
    reality.record_policy(ConstantPolicy([0.0, 0.5, 0.0, 0.0]), "ahead", tmp_path, [3])
    (path,) = tmp_path.glob("*.npz")
    start = reality.make_starts([3]).by_id("seed-0003")
    np.testing.assert_array_equal(Episode.load(path).frames[0], start.frames[0])


def test_stillness_fails_and_one_push_ahead_succeeds():
    assert reality.run_policy(StillPolicy(), [0, 1]) == {"seed-0000": False, "seed-0001": False}
    outcomes = reality.run_policy(policies.load("converged"), [0, 1])
    assert all(outcomes.values())


def test_an_episode_run_again_ends_alike_unless_its_actions_are_drowned_in_noise():
    task = reality.process_task(reality.TASK)
    episodes = [
        reality.run_episode(policies.load("converged"), task, seed, settle=bool(seed % 2)) for seed in (0, 1)
    ]
    assert reality.ends_alike(episodes, 0.0) == [True, True]
    assert not all(reality.ends_alike(episodes, 5.0))


@pytest.mark.slow
def test_another_task_closes_the_renderer_of_the_one_before():
    first = reality.process_task(reality.TASK)
    expected = first.reset(3)
    other = reality.process_task("door-close-v3")
    assert reality.process_task("door-close-v3") is other
    with pytest.raises(RuntimeError, match="after close"):
        first.reset(3)
    np.testing.assert_array_equal(reality.process_task(reality.TASK).reset(3), expected)


def test_junk_actions_are_refused():
    with pytest.raises(ValueError, match="action must"):
        reality.run_policy(ConstantPolicy([0.0, 0.0]), [0])
    with pytest.raises(ValueError, match="clip"):
        reality.run_policy(ConstantPolicy([2.0, 0.0, 0.0, 0.0]), [0])


def test_recording_is_repeatable_resumes_and_holds_what_the_robot_did(tmp_path):
    policy, disturb = ConstantPolicy([0.0, 0.5, 0.0, 0.0]), reality.DisturbConfig(chance=1.0)
    reality.record_policy(policy, "ahead", tmp_path, [7], disturb)
    (path,) = tmp_path.glob("*.npz")
    first = Episode.load(path)
    assert first.behaviour == "policy:ahead"
    assert first.actions is not None
    assert len(np.unique(first.actions[:, 1])) > 1
    stamp = path.stat().st_mtime_ns
    reality.record_policy(policy, "ahead", tmp_path, [7], disturb)
    assert path.stat().st_mtime_ns == stamp
    path.unlink()
    reality.record_policy(policy, "ahead", tmp_path, [7], disturb)
    np.testing.assert_array_equal(Episode.load(path).actions, first.actions)


@pytest.mark.slow
def test_the_table_keeps_what_it_does_not_measure_again(tmp_path):
    out = tmp_path / "reality.json"
    reality.measure(["still"], policies.load, out, command="first", episodes=2, workers=1)
    table = reality.measure(["random"], policies.load, out, command="second", episodes=2, workers=1)
    assert json.loads(out.read_text()) == table
    assert list(table["policies"]) == ["still", "random"]
    shaken = table["policies"]["still"].pop("shaken")
    assert shaken["noise"] == reality.SHAKE
    assert 0.0 <= shaken["success"] <= 1.0
    assert table["policies"]["still"] == {
        "success": 0.0,
        "episodes": 2,
        "outcomes": {"seed-0000": False, "seed-0001": False},
    }
