"""Zips of Stable-Baselines3 as policies: models that the library trained for a step and saved itself."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

from v2w_gym import evaluation, policies
from v2w_gym.policies.sb3 import SB3Policy
from v2w_gym.policies.sb3_files import algorithm_of, find_normalisation, load_normalisation
from v2w_gym.policies.sb3_frames import Layout, Stack

A, SIDE = 4, 36


class Scene(gym.Env):
    """Noise as far as the eye can see."""

    def __init__(self, side=SIDE, reach=1.0, keyed=False):
        image = gym.spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.observation_space = gym.spaces.Dict({"pixels": image}) if keyed else image
        self.action_space = gym.spaces.Box(-reach, reach, (A,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def frames(b, side=SIDE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (b, side, side, 3), dtype=np.uint8)


SMALL = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}
KEYED = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}


def ppo(env, **changes):
    from stable_baselines3 import PPO

    settings = {"n_steps": 2, "batch_size": 2, "n_epochs": 1, "policy_kwargs": SMALL, "seed": 0, **changes}
    settings["policy_kwargs"] = copy.deepcopy(settings["policy_kwargs"])  # the library writes into it
    model = PPO(settings.pop("policy", "CnnPolicy"), env, **settings)
    return model.learn(2)


def trained(kind, env):
    import stable_baselines3

    if kind == "ppo":
        return ppo(env)
    if kind == "a2c":
        return stable_baselines3.A2C("CnnPolicy", env, n_steps=2, policy_kwargs=copy.deepcopy(SMALL)).learn(2)
    algorithm = getattr(stable_baselines3, kind.upper())
    settings = {"buffer_size": 4, "learning_starts": 1, "batch_size": 2}
    settings["policy_kwargs"] = copy.deepcopy(SMALL)
    return algorithm("CnnPolicy", env, **settings).learn(3)


# fast: what needs no library


def test_layouts_are_read_from_the_shape_of_the_space():
    assert Layout.of((36, 48, 3)) == Layout(36, 48, 1, first=False)
    assert Layout.of((9, 36, 48)) == Layout(36, 48, 3, first=True)
    for layout in (Layout(4, 5, 2, True), Layout(4, 5, 2, False)):
        stacked = layout.stacked(np.stack([layout.single(np.zeros((1, 4, 5, 3)))] * 2, axis=1))
        assert stacked.shape[1:] == layout.shape
        assert Layout.of((64, 64, 6) if not layout.first else (6, 64, 64)).frames == 2
    with pytest.raises(ValueError, match=r"4 channels.*from_callable"):
        Layout.of((36, 36, 4))


def test_stacks_begin_with_zeros_and_slots_keep_apart():
    stack = Stack(3)
    one, two, three = (np.full((2, 1), value) for value in (1, 2, 3))
    assert stack.see(one)[:, :, 0].tolist() == [[0, 0, 1], [0, 0, 1]]
    stack.see(two)
    stack.reset([1])
    assert stack.see(three)[:, :, 0].tolist() == [[1, 2, 3], [0, 0, 3]]


def test_what_is_no_zip_of_the_library_is_refused(tmp_path):
    (tmp_path / "junk.zip").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"policy 'sb3:.*junk\.zip'.*no model of Stable-Baselines3"):
        policies.resolve(f"sb3:{tmp_path}/junk.zip")
    with pytest.raises(ValueError, match=r"no file .*model\.save"):
        policies.resolve(f"sb3:{tmp_path}/nothing.zip")


@pytest.mark.parametrize("name", ["ppo_vecnormalize.pkl", "ppo/vecnormalize.pkl", "vecnormalize.pkl"])
def test_statistics_are_found_where_the_library_and_its_zoo_put_them(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert find_normalisation(tmp_path / "ppo.zip") == tmp_path / name


@pytest.mark.parametrize("keyed", [False, True])
def test_statistics_are_refused_for_a_model_that_reads_bytes(tmp_path, keyed):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    VecNormalize(DummyVecEnv([lambda: Scene(keyed=keyed)])).save(str(tmp_path / "vecnormalize.pkl"))
    with pytest.raises(ValueError, match=r"reads bytes.*normalise=none"):
        load_normalisation(tmp_path / "vecnormalize.pkl", Scene(keyed=keyed), tmp_path / "model.zip")


def test_models_of_other_actions_are_refused():
    for space in (gym.spaces.Discrete(4), gym.spaces.MultiDiscrete([2, 2])):
        scene = Scene()
        scene.action_space = space
        with pytest.raises(ValueError, match="gives a vector of numbers"):
            SB3Policy(scene)


class Picky:
    """Was trained for something else."""

    def check_spaces(self, observation_space, action_space):
        raise ValueError(f"{observation_space['pixels'].shape} and {action_space.shape} will not do")

    def act(self, observation):
        raise AssertionError("no episode should begin")


def test_a_ranking_compares_spaces_before_the_first_episode(tiny_world):
    with pytest.raises(ValueError, match=r"policy 'other': \(48, 48, 3\) and \(4,\) will not do"):
        evaluation.rank(str(tiny_world), {"other": Picky()}, episodes=1, seed=0)


# slow: the library itself


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ppo", "a2c", "sac", "td3", "ddpg"])
def test_a_zip_acts_as_its_model(kind, tmp_path):
    model = trained(kind, Scene())
    model.save(tmp_path / "model.zip")
    assert algorithm_of(tmp_path / "model.zip") == {"ddpg": "td3"}.get(kind, kind)
    shown = frames(3)
    wanted, _ = model.predict(shown.transpose(0, 3, 1, 2), deterministic=True)
    for spec in (f"sb3:{tmp_path}/model.zip", f"sb3:{kind.upper()}:{tmp_path}/model.zip"):
        policy = policies.resolve(spec)
        assert isinstance(policy, policies.Policy)
        np.testing.assert_allclose(policy.act({"pixels": shown}), wanted, atol=1e-6)
    alone = policies.resolve(spec).act({"pixels": shown[1:2]})
    np.testing.assert_allclose(alone, wanted[1:2], atol=1e-5)


@pytest.mark.slow
def test_off_policy_zips_do_not_bring_their_replay_buffer(tmp_path):
    from stable_baselines3 import SAC

    model = SAC("CnnPolicy", Scene(), buffer_size=100, policy_kwargs=copy.deepcopy(SMALL))
    model.save(tmp_path / "model.zip")
    assert policies.resolve(f"sb3:{tmp_path}/model.zip").model.replay_buffer.buffer_size == 1


@pytest.mark.slow
def test_drawn_actions_repeat_after_seed_and_slots_keep_apart(tmp_path):
    ppo(Scene()).save(tmp_path / "model.zip")
    policy = policies.resolve(f"sb3:{tmp_path}/model.zip,deterministic=false")
    shown = frames(3)

    def play(rows, seeds):
        policy.seed(seeds)
        policy.reset([""] * len(rows), range(len(rows)))
        return np.stack([policy.act({"pixels": shown[rows]}) for _ in range(3)])

    state = torch.get_rng_state()
    actions = play([0, 1, 2], [5, 6, 7])
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.allclose(actions[0], actions[1])
    np.testing.assert_array_equal(play([0, 1, 2], [5, 6, 7]), actions)
    np.testing.assert_allclose(play([2, 0], [7, 5]), actions[:, [2, 0]], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [False, True])
def test_stacked_frames_are_those_of_the_library(tmp_path, keyed):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage

    venv = VecTransposeImage(VecFrameStack(DummyVecEnv([lambda: Scene(keyed=keyed)] * 2), 3))
    policy_class = "MultiInputPolicy" if keyed else "CnnPolicy"
    model = ppo(venv, policy=policy_class, policy_kwargs=KEYED if keyed else SMALL)
    model.save(tmp_path / "model.zip")
    policy = policies.resolve(f"sb3:{tmp_path}/model.zip")
    film = [frames(2, seed=i) for i in range(4)]
    policy.reset([""] * 2, [0, 1])
    for t, shown in enumerate(film):
        actions = policy.act({"pixels": shown})
        past = [film[i] if i >= 0 else film[0] * 0 for i in (t - 2, t - 1, t)]
        stacked = np.concatenate(past, axis=-1).transpose(0, 3, 1, 2)
        wanted, _ = model.predict({"pixels": stacked} if keyed else stacked, deterministic=True)
        np.testing.assert_allclose(actions, wanted, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True])
def test_statistics_beside_the_zip_are_used(tmp_path, inside):
    """Normalised before the frames are stacked, as in the Zoo, or after."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

    bare = DummyVecEnv([Scene])
    venv = VecFrameStack(VecNormalize(bare), 2) if inside else VecNormalize(VecFrameStack(bare, 2))
    model = ppo(venv, policy="MlpPolicy", policy_kwargs={"net_arch": [8]})
    model.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"float32, not bytes.*model_vecnormalize\.pkl.*normalise=none"):
        policies.resolve(f"sb3:{tmp_path}/model.zip")
    normaliser = venv.venv if inside else venv
    normaliser.save(tmp_path / "model_vecnormalize.pkl")
    policy = policies.resolve(f"sb3:{tmp_path}/model.zip")
    policy.reset([""], [0])
    film = [frames(1, seed=i) for i in range(3)]
    for t, shown in enumerate(film):
        past = [film[t - 1] if t else film[0] * 0, shown]
        if inside:
            past = [normaliser.normalize_obs(past[0]) * (t > 0), normaliser.normalize_obs(past[1])]
            seen = np.concatenate(past, axis=-1)
        else:
            seen = normaliser.normalize_obs(np.concatenate(past, axis=-1))
        wanted, _ = model.predict(seen, deterministic=True)
        np.testing.assert_allclose(policy.act({"pixels": shown}), wanted, atol=1e-5)


@pytest.mark.slow
def test_statistics_of_another_model_are_refused(tmp_path):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    ppo(Scene()).save(tmp_path / "model.zip")
    VecNormalize(DummyVecEnv([Scene])).save(str(tmp_path / "vecnormalize.pkl"))
    with pytest.raises(ValueError, match=r"reads bytes.*normalise=none"):
        policies.resolve(f"sb3:{tmp_path}/model.zip")
    policies.resolve(f"sb3:{tmp_path}/model.zip,normalise=none").act({"pixels": frames(1)})
    VecNormalize(DummyVecEnv([Scene]), norm_obs=False).save(str(tmp_path / "vecnormalize.pkl"))
    policies.resolve(f"sb3:{tmp_path}/model.zip").act({"pixels": frames(1)})
    with pytest.raises(ValueError, match="holds a"):
        policies.resolve(f"sb3:{tmp_path}/model.zip,normalise={_pickled(tmp_path / 'list.pkl')}")


def _pickled(path):
    path.write_bytes(pickle.dumps([1]))
    return path


@pytest.mark.slow
def test_spaces_are_compared_with_those_of_the_world(tmp_path):
    policy = SB3Policy(ppo(Scene()))
    for keyed in (False, True):
        same = Scene(keyed=keyed)
        policy.check_spaces(same.observation_space, same.action_space)
    other = Scene(side=48)
    with pytest.raises(ValueError, match=r"36x36 pixels.*48"):
        policy.check_spaces(other.observation_space, other.action_space)
    with pytest.raises(ValueError, match=r"36x36 pixels.*48"):
        policy.act({"pixels": frames(1, 48)})
    wide = Scene(reach=2.0)
    with pytest.raises(ValueError, match=r"-2.0.*RescaleAction"):
        policy.check_spaces(wide.observation_space, wide.action_space)
    with pytest.raises(ValueError, match=r"the model reads \['pixels'\]"):
        policy.act({"images": frames(1)})


@pytest.mark.slow
def test_wrong_algorithms_are_refused(tmp_path):
    ppo(Scene()).save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="unknown algorithm 'pppo'; did you mean 'ppo'"):
        policies.resolve(f"sb3:pppo:{tmp_path}/model.zip")
    with pytest.raises(ValueError, match="could not be loaded as a model of SAC"):
        policies.resolve(f"sb3:sac:{tmp_path}/model.zip")
