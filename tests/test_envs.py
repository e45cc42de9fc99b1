"""Every registered id honours Gymnasium's contract; one episode behaves as the seed and the options say."""

import gc
import importlib.util
import json
import shutil
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence

import v2w_gym
from v2w_gym.registration import GENERIC_ID, SHIPPED_WORLDS

HAS_PYGAME = importlib.util.find_spec("pygame") is not None


@pytest.fixture(params=[GENERIC_ID, *SHIPPED_WORLDS])
def made(request, tiny_world):
    """Id and keywords of every registered environment."""
    if request.param == GENERIC_ID:
        return request.param, {"world": str(tiny_world)}
    return request.param, {}


@pytest.fixture
def tiny_env(tiny_world):
    """A bare environment over the tiny world that runs to its horizon."""
    with v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False) as env:
        yield env


def play(env, actions, **reset):
    """Frames, rewards and infos of one episode."""
    observation, info = env.reset(**reset)
    frames, rewards, infos = [observation["pixels"]], [], [info]
    for action in actions:
        observation, reward, _, _, info = env.step(action)
        frames.append(observation["pixels"])
        rewards.append(reward)
        infos.append(info)
    return np.stack(frames), rewards, infos


def draw_actions(env, count=4, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *env.action_space.shape)).astype(np.float32)


@pytest.mark.parametrize("obs_type", ["dict", "pixels"])
def test_check_env_finds_nothing(made, obs_type):
    env_id, kwargs = made
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(env_id, obs_type=obs_type, render_mode="rgb_array", **kwargs).unwrapped)


@pytest.mark.parametrize("obs_type", ["dict", "pixels"])
def test_sb3_check_env_finds_nothing(made, obs_type):
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    env_id, kwargs = made
    env = gymnasium.make(env_id, obs_type=obs_type, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_for_sb3(env)


def test_spec_round_trips_through_json(made):
    env_id, kwargs = made
    env = gymnasium.make(env_id, horizon=3, **kwargs)
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped._max_episode_steps == 3
    vector = gymnasium.make_vec(env_id, num_envs=2, horizon=3, **kwargs)
    assert EnvSpec.from_json(vector.spec.to_json()).kwargs["horizon"] == 3


def test_package_prefix_and_closing_twice(made):
    env_id, kwargs = made
    env = gymnasium.make(f"v2w_gym:{env_id}", **kwargs)
    env.reset(seed=0)
    env.close()
    env.close()


def test_reading_the_spec_copies_no_model(tiny_world):
    from v2w_gym.world_model.unet import VideoUNet

    env = gymnasium.make(GENERIC_ID, world=str(tiny_world))
    before = sum(type(o) is VideoUNet for o in gc.get_objects())
    specs = [env.spec, env.spec, env.unwrapped.spec]
    assert sum(type(o) is VideoUNet for o in gc.get_objects()) == before
    assert all(spec.kwargs == {"world": str(tiny_world)} for spec in specs)


def test_two_environments_share_weights(tiny_world):
    world = v2w_gym.World.open(tiny_world)
    assert world.model() is v2w_gym.World.open(str(tiny_world)).model()
    assert world.model(steps=1) is not world.model()
    assert world.model(steps=1).hash != world.model().hash


def test_weights_that_were_written_again_are_read_again(tiny_world, tmp_path):
    """Without hashes, too, as beside a training that saves into the same folder."""
    folder = shutil.copytree(tiny_world, tmp_path / "world")
    values = json.loads((folder / "world.json").read_text())
    (folder / "world.json").write_text(json.dumps({**values, "hashes": {}}))
    first = v2w_gym.World.open(folder).model()
    assert v2w_gym.World.open(folder).model() is first
    other = v2w_gym.Vid2World.from_pretrained(folder)
    next(other.unet.parameters()).data += 1
    other.save_part("unet", folder)
    assert v2w_gym.World.open(folder).model().hash == other.hash != first.hash


def test_spaces_and_bare_pixels(tiny_world):
    env = v2w_gym.WorldModelEnv(tiny_world)
    bare = v2w_gym.WorldModelEnv(tiny_world, obs_type="pixels")
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
    assert env.observation_space == gymnasium.spaces.Dict({"pixels": bare.observation_space})
    np.testing.assert_array_equal(env.reset(seed=3)[0]["pixels"], bare.reset(seed=3)[0])


def test_seed_fixes_everything(tiny_env):
    actions = draw_actions(tiny_env)
    first, again, other = (play(tiny_env, actions, seed=seed) for seed in (5, 5, 6))
    assert data_equivalence(first, again, exact=True)
    assert not np.array_equal(first[0], other[0])


def test_actions_matter(tiny_env):
    still, moving = (play(tiny_env, [[x, 0, 0, 0]], seed=0)[0][1].astype(int) for x in (0.0, 1.0))
    assert np.abs(still - moving).max() > 0


def test_info_keys_and_python_scalars(tiny_env):
    _, rewards, infos = play(tiny_env, draw_actions(tiny_env, 2), seed=0)
    kinds = {
        "is_success": bool,
        "success_prob": float,
        "task": str,
        "init_state": str,
        "frame_index": int,
        "elapsed_steps": int,
    }
    for step, info in enumerate(infos):
        assert {key: type(value) for key, value in info.items()} == kinds
        assert info["elapsed_steps"] == step
        assert info["frame_index"] == step + 1  # the tiny starts have two context frames
    assert all(type(reward) is float for reward in rewards)


def test_success_rewards_and_ends(tiny_world):
    dense = v2w_gym.WorldModelEnv(tiny_world, reward="dense", terminate_on_success=False)
    sparse = v2w_gym.WorldModelEnv(tiny_world)
    for seed in range(4):
        actions = draw_actions(dense, 6, seed)
        _, rewards, infos = play(dense, actions, seed=seed)
        assert rewards == [info["success_prob"] for info in infos[1:]]
        verdicts = [info["success_prob"] >= 0.5 for info in infos]
        assert verdicts == [info["is_success"] for info in infos]
        sparse.reset(seed=seed)
        for action, success in zip(actions, verdicts[1:], strict=True):
            _, reward, terminated, _, _ = sparse.step(action)
            assert (reward, terminated) == (float(success), success)
            if terminated:
                break


@pytest.mark.parametrize(("settings", "steps"), [({}, 6), ({"horizon": 9}, 9), ({"max_episode_steps": 4}, 4)])
def test_truncates_at_the_horizon(tiny_world, settings, steps):
    env = v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False, **settings)
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in draw_actions(env, steps)]
    assert ends == [(False, False)] * (steps - 1) + [(False, True)]
    assert env._max_episode_steps == steps


def test_start_task_and_noise_options(tiny_env):
    actions = draw_actions(tiny_env)
    options = {"start": "seed-0042", "task": "open the drawer", "noise_seed": 11}
    frames, _, infos = play(tiny_env, actions, seed=1, options=options)
    assert infos[0]["init_state"] == "seed-0042"
    assert {info["task"] for info in infos} == {tiny_env.task, tiny_env.task_description, "open the drawer"}
    same_noise = play(tiny_env, actions, seed=2, options=options)[0]
    other_noise = play(tiny_env, actions, seed=1, options={"start": "seed-0042"})[0]
    np.testing.assert_array_equal(frames, same_noise)
    np.testing.assert_array_equal(frames[0], other_noise[0])
    assert not np.array_equal(frames[1], other_noise[1])


def test_own_frames_equal_the_start_they_come_from(tiny_env, tiny_world):
    context = v2w_gym.World.open(tiny_world).starts().by_id("seed-0099")
    actions = draw_actions(tiny_env)
    own = {"frames": context.frames, "actions": context.actions}
    by_id, _, _ = play(tiny_env, actions, seed=4, options={"start": context.id})
    by_frames, _, infos = play(tiny_env, actions, seed=4, options=own)
    np.testing.assert_array_equal(by_id, by_frames)
    assert infos[0]["init_state"] == "custom"
    alone = tiny_env.reset(seed=4, options={"frames": context.frames[-1:]})[0]
    np.testing.assert_array_equal(alone["pixels"], context.frames[-1])


def test_options_do_not_shift_the_random_stream(tiny_env):
    tiny_env.reset(seed=8)
    expected = tiny_env.reset()[1]["init_state"], tiny_env.np_random.bit_generator.state
    tiny_env.reset(seed=8, options={"start": "seed-0007", "noise_seed": 3})
    assert (tiny_env.reset()[1]["init_state"], tiny_env.np_random.bit_generator.state) == expected


def test_rgb_array_is_the_observation(tiny_world):
    env = v2w_gym.WorldModelEnv(tiny_world, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), observation["pixels"])
    assert env.metadata["render_fps"] == 20.0


@pytest.mark.skipif(not HAS_PYGAME, reason="the window needs pygame")
def test_human_window_shows_the_frame(tiny_world):
    import pygame

    env = gymnasium.make(GENERIC_ID, world=str(tiny_world), render_mode="human")
    observation, _ = env.reset(seed=0)
    assert env.render() is None
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    scale = len(shown) // 48
    np.testing.assert_array_equal(shown[::scale, ::scale], observation["pixels"])
    env.close()
    env.close()
    assert pygame.display.get_surface() is None


@pytest.mark.skipif(HAS_PYGAME, reason="pygame is installed")
def test_human_without_pygame_says_what_to_install(tiny_world):
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="pip install pygame"):
        v2w_gym.WorldModelEnv(tiny_world, render_mode="human")


def test_objects_in_place_of_parts(tiny_world):
    world = v2w_gym.World.open(tiny_world)
    starts = v2w_gym.StartContexts([world.starts().by_id("seed-0042")])
    parts = {"model": world.model(), "detector": world.detector(), "starts": starts}
    env = v2w_gym.WorldModelEnv(world.config, **parts)
    assert {env.reset(seed=seed)[1]["init_state"] for seed in range(4)} == {"seed-0042"}


def test_world_folder_facts(tiny_world):
    world = v2w_gym.World.open(tiny_world)
    assert world.reality() == {"policies": {"still": {"success": 0.0}}}
    assert world.starts().ids == ("seed-0007", "seed-0042", "seed-0043", "seed-0099")
    assert world.starts().by_id("seed-0042").seed == 42
    assert world.detector().threshold == world.config.detector.threshold


def test_starts_round_trip(tiny_world, tmp_path):
    starts = v2w_gym.World.open(tiny_world).starts()
    starts.save(tmp_path)
    again = v2w_gym.StartContexts.load(tmp_path)
    assert again.ids == starts.ids
    for id in starts.ids:
        before, after = starts.by_id(id), again.by_id(id)
        np.testing.assert_array_equal(before.frames, after.frames)
        np.testing.assert_array_equal(before.actions, after.actions)
        assert before.seed == after.seed
