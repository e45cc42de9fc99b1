"""The Stable-Baselines3 adapter equals its own DummyVecEnv of single environments, and its algorithms run."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from alike import assert_alike
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecTransposeImage

import v2w_gym
from v2w_gym.registration import GENERIC_ID

SLOTS, HORIZON = 3, 6


def make(tiny_world, **settings):
    return v2w_gym.SB3VecEnv(
        gymnasium.make_vec(GENERIC_ID, num_envs=SLOTS, world=str(tiny_world), **settings)
    )


def make_dummy(tiny_world, **settings):
    return DummyVecEnv([lambda: v2w_gym.WorldModelEnv(tiny_world, **settings)] * SLOTS)


def draw_actions(steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, SLOTS, 4)).astype(np.float32)


@pytest.mark.parametrize(("obs_type", "reward"), [("pixels", "sparse"), ("dict", "dense")])
def test_every_slot_equals_the_single_environment_of_dummy_vec_env(tiny_world, obs_type, reward):
    settings = {"obs_type": obs_type, "reward": reward, "horizon": 2}  # short: both kinds of ends are met
    ours, theirs = make(tiny_world, **settings), make_dummy(tiny_world, **settings)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.seed(5) == theirs.seed(5)
    assert_alike(ours.reset(), theirs.reset())
    assert_alike(ours.reset_infos, theirs.reset_infos)
    ends = []
    for row in draw_actions(8):
        mine, other = ours.step(row), theirs.step(row)
        assert_alike(list(mine), list(other))
        assert mine[1].dtype == np.float32
        assert_alike(ours.reset_infos, theirs.reset_infos)
        ends += [info for info, done in zip(mine[3], mine[2], strict=True) if done]
    assert {(end["is_success"], end["TimeLimit.truncated"]) for end in ends} == {(True, False), (False, True)}
    assert all(end["elapsed_steps"] > 0 for end in ends)  # of the episode that ended, not of the next one


def test_seeds_and_options_hold_for_the_next_reset_only(tiny_world):
    ours, theirs = make(tiny_world), make_dummy(tiny_world)
    for options in (
        {"task": "open the drawer", "noise_seed": 3},
        [{"start": "seed-0007"}, {}, {"start": "seed-0042", "task": "open the drawer"}],
    ):
        for env in (ours, theirs):
            env.seed(1)
            env.set_options(options)
        for _ in range(2):
            assert_alike(ours.reset(), theirs.reset())
            assert_alike(ours.reset_infos, theirs.reset_infos)
    assert [info["task"] for info in ours.reset_infos] == ["close the drawer"] * SLOTS


def test_an_unfit_option_changes_nothing(tiny_world):
    env = make(tiny_world)
    env.seed(0)
    env.reset()
    kept = env.vector_env.unwrapped.snapshot()
    env.set_options({"strat": "seed-0007"})
    with pytest.raises(ValueError, match="did you mean 'start'"):
        env.reset()
    assert (env.vector_env.unwrapped.snapshot().state == kept.state).all()


def test_attributes_and_methods_by_slot(tiny_world):
    env = make(tiny_world, render_mode="rgb_array", obs_type="pixels")
    observation = env.reset()
    assert env.get_attr("task") == ["close the drawer"] * SLOTS
    assert not env.has_attr("nickname")
    env.set_attr("nickname", ["a", "b"], indices=[0, 2])
    assert env.get_attr("nickname", indices=2) == [["a", "b"]]
    assert not env.has_attr("nickname")  # not in all slots
    assert callable(env.get_attr("render", 0)[0])  # handed over, not called
    np.testing.assert_array_equal(env.env_method("render", indices=[1])[0], observation[1])
    with pytest.raises(AttributeError, match="fixed at construction"):
        env.set_attr("horizon", 3)
    assert env.env_is_wrapped(gymnasium.wrappers.TimeLimit, indices=[0, 1]) == [False, False]
    np.testing.assert_array_equal(env.get_images(), observation)
    height, width = observation.shape[1:3]
    assert env.render().shape == (2 * height, 2 * width, 3)  # tiled
    env.close()
    env.close()
    blind = make(tiny_world)
    with pytest.warns(UserWarning, match='render_mode="rgb_array"'):
        assert blind.get_images() == [None] * SLOTS


def test_wrappers_of_stable_baselines(tiny_world):
    ours, theirs = (
        VecMonitor(VecTransposeImage(VecFrameStack(make_(tiny_world, obs_type="pixels"), 2)))
        for make_ in (make, make_dummy)
    )
    for env in (ours, theirs):
        env.seed(5)
    assert_alike(ours.reset(), theirs.reset())
    episodes = []
    for row in draw_actions(7):
        *mine, infos = ours.step(row)
        *other, expected = theirs.step(row)
        assert_alike(mine, other)
        for info, same in zip(infos, expected, strict=True):
            if "episode" in info:
                assert info["terminal_observation"].shape == (6, 48, 48)
                assert_alike(info["terminal_observation"], same["terminal_observation"])
                episodes.append({key: info["episode"][key] - same["episode"][key] for key in "rl"})
    assert len(episodes) >= SLOTS
    assert not any(any(differences.values()) for differences in episodes)


@pytest.mark.parametrize(("policy", "obs_type"), [("CnnPolicy", "pixels"), ("MultiInputPolicy", "dict")])
def test_ppo_learns_without_a_warning_and_comes_back(tiny_world, tmp_path, policy, obs_type):
    env = VecMonitor(make(tiny_world, obs_type=obs_type, reward="dense"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PPO(policy, env, n_steps=8, batch_size=12, n_epochs=1, seed=0, device="cpu")
        before = [parameter.detach().clone() for parameter in model.policy.parameters()]
        model.learn(total_timesteps=24)
        model.save(tmp_path / "ppo")
        loaded = PPO.load(tmp_path / "ppo", env=env, device="cpu")
        returns, lengths = evaluate_policy(loaded, env, n_eval_episodes=SLOTS, return_episode_rewards=True)
    assert any((a != b).any() for a, b in zip(before, model.policy.parameters(), strict=True))
    assert len(model.ep_success_buffer) == len(model.ep_info_buffer) >= SLOTS
    early = [episode["l"] < HORIZON for episode in model.ep_info_buffer]
    assert np.array(model.ep_success_buffer)[early].all()  # only success ends an episode early
    assert max(lengths) <= HORIZON
    assert np.isfinite(returns).all()
    observation = env.reset()
    chosen = [learner.predict(observation, deterministic=True)[0] for learner in (model, loaded)]
    np.testing.assert_array_equal(*chosen)


def test_off_policy_transitions_end_in_the_last_frame(tiny_world):
    steps = 8
    model = SAC(
        "CnnPolicy",
        make(tiny_world, obs_type="pixels"),
        buffer_size=SLOTS * 20,
        learning_starts=(steps - 1) * SLOTS,
        batch_size=4,
        train_freq=steps,
        gradient_steps=1,
        policy_kwargs={"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}},
        seed=0,
        device="cpu",
    )
    model.learn(total_timesteps=steps * SLOTS)
    assert model._n_updates == 1
    buffer, single = model.replay_buffer, make_dummy(tiny_world, obs_type="pixels")
    single.seed(0)
    observation, ends = single.reset(), 0
    for t in range(steps):
        after, rewards, dones, infos = single.step(buffer.actions[t])
        ends += dones.sum()
        last = [info.get("terminal_observation", frame) for info, frame in zip(infos, after, strict=True)]
        assert_alike(buffer.observations[t].transpose(0, 2, 3, 1), observation)
        assert_alike(buffer.next_observations[t].transpose(0, 2, 3, 1), np.stack(last))
        assert_alike(buffer.rewards[t], rewards)
        np.testing.assert_array_equal(buffer.dones[t], dones)
        np.testing.assert_array_equal(buffer.timeouts[t], [i["TimeLimit.truncated"] for i in infos])
        observation = after
    assert ends > SLOTS
    assert torch.isfinite(model.policy.actor.mu.weight).all()


@pytest.mark.parametrize("mode", ["next_step", "disabled"])
def test_another_autoreset_mode_is_refused(tiny_world, mode):
    with pytest.raises(ValueError, match=rf'got autoreset_mode .{mode}.; make .*autoreset_mode="same_step"'):
        make(tiny_world, autoreset_mode=mode)


def test_tensors_are_refused(tiny_world):
    with pytest.raises(ValueError, match="got output='torch'; leave output out"):
        make(tiny_world, output="torch")


def test_another_vector_environment_is_refused():
    with pytest.raises(ValueError, match=r"got SyncVectorEnv; make one with gymnasium\.make_vec"):
        v2w_gym.SB3VecEnv(gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"))
