"""A judge of clips in an environment: when it is asked, what it remembers, and what nobody judged."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import v2w_gym
from v2w_gym.rewards.judge import Clip, Judgement
from v2w_gym.rewards.watching import Watching

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)


class Counting:
    """Says how long the clip is, in tenths; keeps what it was shown; cannot tell while it is ``out``."""

    threshold, hash = 0.35, "counting"

    def __init__(self) -> None:
        self.asked: list[list[Clip]] = []
        self.out = False

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        self.asked.append(list(clips))
        return [Judgement(None, "out") if self.out else Judgement(len(clip.frames) / 10) for clip in clips]


def picture(value: int) -> Any:
    return np.full((1, 8, 8, 3), value, np.uint8)


def test_it_is_asked_of_the_whole_clip_every_so_many_steps_and_at_the_last() -> None:
    judge = Counting()
    watching = Watching(judge, every=2, last=5, fps=3.0)
    watching.reset(["close"], [0])
    said = [float(watching.score(picture(i), [0])[0]) for i in range(6)]
    np.testing.assert_array_equal(said, [np.nan, np.nan, 0.3, 0.3, 0.5, 0.6])
    assert [len(clip.frames) for [clip] in judge.asked] == [3, 5, 6]
    assert [frame[0, 0, 0] for frame in judge.asked[-1][0].frames] == list(range(6))
    assert (judge.asked[0][0].instruction, judge.asked[0][0].fps) == ("close", 3.0)


def test_its_hash_says_when_it_is_asked() -> None:
    kinds = [Watching(Counting(), every, last) for every in (2, 3) for last in (None, 5, 6)]
    assert len({watching.hash for watching in kinds}) == 6
    assert kinds[1].fresh().hash == kinds[1].hash


def test_slots_that_are_due_share_one_batch_and_none_sees_the_other() -> None:
    judge = Counting()
    watching = Watching(judge, every=2)
    watching.reset(["a", "b"], [0, 1])
    for i in range(3):
        watching.score(np.concatenate([picture(i), picture(100 + i)]), [0, 1])
    assert [[clip.instruction for clip in batch] for batch in judge.asked] == [["a", "b"]]
    assert [clip.frames[:, 0, 0, 0].tolist() for clip in judge.asked[0]] == [[0, 1, 2], [100, 101, 102]]
    watching.reset(["c"], [1])
    for i in range(3):
        watching.score(np.concatenate([picture(i), picture(50 + i)]), [0, 1])
    assert judge.asked[-1][0].frames[:, 0, 0, 0].tolist() == [50, 51, 52]


def test_an_error_leaves_the_memory_as_it_was() -> None:
    class Refusing(Counting):
        def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
            if len(self.asked) == 0:
                self.asked.append([])
                raise ValueError("no")
            return super().judge(clips)

    watching = Watching(Refusing(), every=1)
    watching.reset(["a"], [0])
    watching.score(picture(0), [0])
    with pytest.raises(ValueError, match="no"):
        watching.score(picture(1), [0])
    assert watching.score(picture(1), [0])[0] == 0.2
    with pytest.raises(ValueError, match="no episode"):
        watching.score(picture(0), [3])


@pytest.fixture
def judge() -> Counting:
    return Counting()


def test_nobody_judged_is_no_failure_and_no_nan(tiny_world: Path, judge: Counting) -> None:
    env = v2w_gym.WorldModelEnv(tiny_world, detector=judge, judge_every=2, reward="dense")
    _, info = env.reset(seed=0)
    assert (info["judged"], info["is_success"], info["success_prob"]) == (False, False, 0.0)
    judge.out = True
    found = [env.step(action) for action in ACTIONS[:3]]
    assert [reward for _, reward, *_ in found] == [0.0] * 3
    assert not any(info["judged"] or info["is_success"] for *_, info in found)
    judge.out = False
    _, reward, terminated, _, info = env.step(ACTIONS[3])
    assert (reward, terminated, info["judged"], info["is_success"]) == (0.5, True, True, True)


def test_slots_of_a_vector_environment_are_judged_alone(tiny_world: Path, judge: Counting) -> None:
    envs = v2w_gym.WorldModelVectorEnv(
        2, tiny_world, detector=judge, judge_every=4, output="torch", reward="dense"
    )
    envs.reset(seed=0)
    gained = []
    for action in ACTIONS[:4]:
        _, rewards, terminated, _, infos = envs.step(np.stack([action] * 2))
        gained.append(rewards.tolist())
    assert len(judge.asked) == 1
    assert gained == [[0.0, 0.0]] * 3 + [[0.5, 0.5]]
    assert terminated.all()
    assert infos["final_info"]["judged"].all()
    assert not infos["judged"].any(), "the new episodes are not judged yet"
    with pytest.raises(ValueError, match="finite"):
        envs.step(np.full((2, 4), np.nan, np.float32))
    for action in ACTIONS[:4]:
        envs.step(np.stack([action] * 2))
    assert [len(clip.frames) for clip in judge.asked[-1]] == [5, 5], "a bad action is no step"


@pytest.mark.parametrize("stored", [False, True])
def test_snapshots_carry_what_was_seen(
    tiny_world: Path, judge: Counting, tmp_path: Path, stored: bool
) -> None:
    env = v2w_gym.WorldModelEnv(
        tiny_world, detector=judge, judge_every=2, reward="dense", terminate_on_success=False
    )
    env.reset(seed=1)
    for action in ACTIONS[:3]:
        env.step(action)
    kept = env.snapshot()
    if stored:
        kept.save(tmp_path / "kept")
        kept = v2w_gym.Snapshot.load(tmp_path / "kept")
    expected = [env.step(action)[1:] for action in ACTIONS[3:]]
    clip = judge.asked[-1][0].frames
    env.reset(seed=2)
    env.step(ACTIONS[5])
    _, info = env.restore(kept)
    assert info["judged"]
    assert [env.step(action)[1:] for action in ACTIONS[3:]] == expected
    np.testing.assert_array_equal(judge.asked[-1][0].frames, clip)


def test_forks_do_not_mix_their_histories(tiny_world: Path, judge: Counting) -> None:
    env = v2w_gym.WorldModelEnv(tiny_world, detector=judge, judge_every=2, terminate_on_success=False)
    env.reset(seed=1)
    env.step(ACTIONS[0])
    branches = env.fork(2)
    branches.step(np.stack([ACTIONS[1], -ACTIONS[1]]))
    first, second = judge.asked[-1]
    np.testing.assert_array_equal(first.frames[:2], second.frames[:2])
    assert (first.frames[2] != second.frames[2]).any()
    observation = env.step(ACTIONS[2])[0]
    [own] = judge.asked[-1]
    assert len(own.frames) == 3
    np.testing.assert_array_equal(own.frames[2], observation["pixels"])


def test_without_its_beginning_an_episode_is_not_judged(tiny_world: Path, judge: Counting) -> None:
    plain = v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False)
    plain.reset(seed=1)
    plain.step(ACTIONS[0])
    env = v2w_gym.WorldModelEnv(tiny_world, detector=judge, judge_every=1, terminate_on_success=False)
    env.restore(plain.snapshot())
    assert not env.step(ACTIONS[1])[-1]["judged"]
    assert judge.asked == []
    env.reset(seed=1)
    assert env.step(ACTIONS[1])[-1]["judged"]


def test_a_string_opens_a_judge(tiny_world: Path, tmp_path: Path) -> None:
    spec = tmp_path / "mine.yaml"
    spec.write_text(f"kind: frame_classifier\nworld: {tiny_world}\n")
    env: Any = gymnasium.make(
        "v2w_gym:Vid2World-v0", world=str(tiny_world), detector=str(spec), judge_every=3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    _, info = env.reset(seed=0)
    assert not info["judged"]
    for action in ACTIONS[:3]:
        *_, info = env.step(action)
    assert info["judged"]
    envs: Any = gymnasium.make_vec(
        "v2w_gym:Vid2World-v0", 2, world=str(tiny_world), detector=str(spec), judge_every=1
    )
    envs.reset(seed=0)
    assert envs.step(np.stack([ACTIONS[0]] * 2))[-1]["judged"].all()
    with pytest.raises(ValueError, match="judge_every"):
        v2w_gym.WorldModelEnv(tiny_world, detector=str(spec), judge_every=0)
