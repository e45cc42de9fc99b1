"""Episodes as values: going back, branching, saving, and what is refused."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch

import v2w_gym
from v2w_gym.envs.snapshot import Snapshot

AGE, AHEAD = 3, 2  # the toy world's window is 4 frames, its episodes have 6 steps
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (AGE + AHEAD, 4)).astype(np.float32)


@pytest.fixture
def env(tiny_world):
    with v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False) as env:
        env.reset(seed=5)
        for action in ACTIONS[:AGE]:
            env.step(action)
        yield env


def go_on(env):
    return [env.step(action) for action in ACTIONS[AGE:]]


def assert_same(ours, theirs):
    for (a, *rest, info), (b, *others, expected) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a["pixels"], b["pixels"])
        assert rest == others
        assert info == expected


def test_restore_then_step_is_step_to_the_last_bit(env):
    kept = env.snapshot()
    expected = go_on(env)
    observation, info = env.restore(kept)
    np.testing.assert_array_equal(observation["pixels"], kept.episodes.frames[0])
    assert info["elapsed_steps"] == AGE
    assert_same(go_on(env), expected)
    env.reset(seed=6)
    env.restore(kept)
    assert_same(go_on(env), expected)


def test_a_snapshot_shares_nothing_with_the_episode(env):
    kept = env.snapshot()
    before = kept.state.latent.clone(), kept.episodes.frames.copy()
    go_on(env)
    assert (kept.state.latent == before[0]).all()
    np.testing.assert_array_equal(kept.episodes.frames, before[1])
    env.restore(kept)
    go_on(env)
    assert (kept.state.latent == before[0]).all()


@pytest.mark.slow
def test_saving_and_loading_in_another_process(env, tiny_world, tmp_path):
    env.snapshot().save(tmp_path / "episode.safetensors")
    loaded = Snapshot.load(tmp_path / "episode.safetensors")
    expected = go_on(env)
    env.restore(loaded)
    assert_same(go_on(env), expected)
    program = f"""
import numpy as np, torch, v2w_gym
torch.set_num_threads(1)
env = v2w_gym.WorldModelEnv({str(tiny_world)!r}, terminate_on_success=False)
env.restore(v2w_gym.Snapshot.load({str(tmp_path / "episode.safetensors")!r}))
observation, *_ = env.step(np.array({ACTIONS[AGE].tolist()}, np.float32))
np.save({str(tmp_path / "frame.npy")!r}, observation["pixels"])
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "frame.npy"), expected[0][0]["pixels"])


def apart(a, b):
    """Largest difference in grey levels; rounding depends on a row's place in its batch."""
    return np.abs(a.astype(int) - b).max()


def test_a_fork_shares_the_past_and_diverges_by_action_or_noise(env):
    past = env.snapshot().episodes.frames[0]
    alike, others = env.fork(3), env.fork(3, noise_seeds=[1, 2, 2])
    for envs in (alike, others):
        np.testing.assert_array_equal(envs.call("task"), [env.task] * 3)
        assert (envs._imagination.frames == past).all()
    same = np.repeat(ACTIONS[AGE][None], 3, 0)
    frames = alike.step(same)[0]["pixels"]
    assert apart(frames[0], frames[1]) <= 1
    noisy = others.step(same)[0]["pixels"]
    assert apart(noisy[1], noisy[2]) <= 1 < apart(noisy[0], noisy[1])
    different = np.stack([ACTIONS[AGE], -ACTIONS[AGE], ACTIONS[AGE]])
    moved = alike.step(different)[0]["pixels"]
    assert apart(moved[0], moved[2]) <= 1 < apart(moved[0], moved[1])


def test_slots_are_kept_and_put_back_by_number(tiny_world):
    envs = gymnasium.make_vec(
        "v2w_gym:Vid2World-v0", num_envs=3, world=str(tiny_world), terminate_on_success=False
    ).unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"slots \[1\]"):
        envs.snapshot([1])
    envs.reset(seed=0)
    rows = np.repeat(ACTIONS[:, None], 3, 1)
    envs.step(rows[0])
    young = envs.snapshot([2])
    envs.step(rows[1])
    left_alone = envs._imagination.frames[[0, 1]].copy()
    envs.restore(young[[0, 0]], [2, 0])
    np.testing.assert_array_equal(envs._imagination.frames[0], envs._imagination.frames[2])
    np.testing.assert_array_equal(envs._imagination.frames[1], left_alone[1])
    assert envs._imagination.elapsed.tolist() == [1, 2, 1]
    frames = envs.step(rows[2])[0]["pixels"]  # slots of different age go on together
    assert apart(frames[0], frames[2]) <= 1
    branch = envs.fork(1, 2)
    assert branch._imagination.elapsed.tolist() == [3, 3]


def test_a_snapshot_goes_into_slots_in_any_order(tiny_world):
    envs = v2w_gym.WorldModelVectorEnv(3, tiny_world, autoreset_mode="disabled", terminate_on_success=False)
    envs.reset(seed=[7, 8, 9])
    envs.step(np.stack([ACTIONS[0]] * 3))
    kept = envs.snapshot()
    straight = envs.step(np.stack([ACTIONS[1]] * 3))
    envs.restore(kept[[0, 1, 2]], [2, 0, 1])
    moved = envs.step(np.stack([ACTIONS[1]] * 3))
    assert apart(moved[0]["pixels"][[2, 0, 1]], straight[0]["pixels"]) <= 1
    assert moved[4]["init_state"][[2, 0, 1]].tolist() == straight[4]["init_state"].tolist()
    before = kept.state.clone()
    envs.reset(seed=1, options={"reset_mask": np.array([True, False, False])})  # one slot anew, in place
    envs.restore(kept)
    envs.reset(seed=1, options={"reset_mask": np.array([True, False, False])})
    assert torch.equal(kept.state.latent, before.latent)
    assert torch.equal(kept.state.seed, before.seed)


def test_what_does_not_fit_is_refused_and_changes_nothing(env, tiny_world, tmp_path):
    kept = env.snapshot()
    other = v2w_gym.WorldModelEnv(tiny_world, sampler={"steps": 1})
    other.reset(seed=0)
    before = other._imagination.frames.copy()
    with pytest.raises(ValueError, match=r"belongs to the world model .* make it with the same world"):
        other.restore(kept)
    np.testing.assert_array_equal(other._imagination.frames, before)
    with pytest.raises(ValueError, match="holds 2 episodes, to be restored into 1 slots"):
        env.restore(kept[[0, 0]])
    with pytest.raises(ValueError, match="one for each of 1 rows"):
        kept.with_noise([1, 2])
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged or no snapshot"):
        Snapshot.load(tmp_path / "junk")
    with pytest.raises(gymnasium.error.ResetNeeded):
        v2w_gym.WorldModelEnv(tiny_world).snapshot()
