"""Bad input raises an error that says what to do, and leaves everything as it was."""

import json
import shutil

import gymnasium
import numpy as np
import pytest

import v2w_gym
from v2w_gym.registration import GENERIC_ID

GOOD = np.zeros(4, np.float32)
FRAMES = np.zeros((2, 48, 48, 3), np.uint8)

BAD_ACTIONS = {
    "wrong shape": (np.zeros(3), "shape"),
    "not a number": (np.array([np.nan, 0, 0, 0]), "finite"),
    "infinite": (np.array([0, np.inf, 0, 0]), "finite"),
    "out of range": (np.array([0, 0, 1.5, 0]), "clip"),
    "text": ("left", "numbers"),
    "nothing": (None, "action"),
}
BAD_OPTIONS = {
    "unknown key": ({"strat": "seed-0042"}, "did you mean 'start'"),
    "unknown start": ({"start": "seed-042"}, "'seed-0042'"),
    "start and frames": ({"start": "seed-0042", "frames": FRAMES[:1]}, "one or the other"),
    "small frames": ({"frames": FRAMES[:1, :40]}, "cv2.resize"),
    "float frames": ({"frames": FRAMES[:1] / 255.0}, "astype"),
    "no frame axis": ({"frames": FRAMES[0]}, r"frame\[None\]"),
    "no actions": ({"frames": FRAMES}, r"\(1, 4\)"),
    "too many actions": ({"frames": FRAMES, "actions": np.zeros((2, 4))}, r"\(1, 4\)"),
    "actions alone": ({"actions": np.zeros((1, 4))}, "frames"),
    "unknown task": ({"task": "close the door"}, "'close the drawer'"),
    "negative noise seed": ({"noise_seed": -1}, "noise_seed"),
    "fractional noise seed": ({"noise_seed": 0.5}, "noise_seed"),
}


def finish(env, action):
    """What the rest of the episode and the next one look like."""
    steps = [env.step(action)[0]["pixels"] for _ in range(2)]
    return [*steps, env.reset()[0]["pixels"], env.step(action)[0]["pixels"]]


def assert_undisturbed(env, action, bad_call, error, match):
    """The bad call raises, and what follows equals what follows without it."""
    env.reset(seed=3)
    env.step(action)
    expected = finish(env, action)
    env.reset(seed=3)
    env.step(action)
    with pytest.raises(error, match=match):
        bad_call(env)
    for before, after in zip(expected, finish(env, action), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.fixture(scope="module")
def single(tiny_world):
    return v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False)


@pytest.fixture(scope="module")
def vector(tiny_world):
    return v2w_gym.WorldModelVectorEnv(2, tiny_world, terminate_on_success=False)


@pytest.mark.parametrize(("action", "match"), BAD_ACTIONS.values(), ids=BAD_ACTIONS)
def test_bad_action(single, action, match):
    assert_undisturbed(single, GOOD, lambda env: env.step(action), ValueError, match)


@pytest.mark.parametrize(("action", "match"), list(BAD_ACTIONS.values())[1:4], ids=list(BAD_ACTIONS)[1:4])
def test_bad_action_in_one_slot_stops_all(vector, action, match):
    batch = np.stack([GOOD, action])
    assert_undisturbed(vector, np.stack([GOOD, GOOD]), lambda env: env.step(batch), ValueError, match)


@pytest.mark.parametrize(("options", "match"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_reset_option(single, options, match):
    assert_undisturbed(single, GOOD, lambda env: env.reset(seed=9, options=options), ValueError, match)


@pytest.mark.parametrize(("options", "match"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_reset_option_in_one_slot_stops_all(vector, options, match):
    lists = {key: [None, value] for key, value in options.items()}
    batch = np.stack([GOOD, GOOD])
    assert_undisturbed(vector, batch, lambda env: env.reset(seed=9, options=lists), ValueError, match)


@pytest.mark.parametrize(
    ("arguments", "match"),
    {
        "too few starts": ({"options": {"start": ["seed-0042"]}}, "length 2"),
        "mask is a list": ({"options": {"reset_mask": [True, False]}}, "numpy bool"),
        "mask picks nothing": ({"options": {"reset_mask": np.zeros(2, bool)}}, "True"),
        "too many seeds": ({"seed": [1, 2, 3]}, "list of 2"),
    }.values(),
)
def test_bad_vector_reset(vector, arguments, match):
    batch = np.stack([GOOD, GOOD])
    assert_undisturbed(vector, batch, lambda env: env.reset(**arguments), ValueError, match)


def test_negative_seed(single, vector):
    assert_undisturbed(single, GOOD, lambda env: env.reset(seed=-1), gymnasium.error.Error, "Seed")
    batch = np.stack([GOOD, GOOD])
    assert_undisturbed(vector, batch, lambda env: env.reset(seed=[1, -1]), gymnasium.error.Error, "Seed")


def test_reset_is_needed(tiny_world):
    env = v2w_gym.WorldModelEnv(tiny_world, horizon=1, render_mode="rgb_array")
    for call in (lambda: env.step(GOOD), env.render):
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"env\.reset\(\)"):
            call()
    env.reset(seed=0)
    env.step(GOOD)
    with pytest.raises(gymnasium.error.ResetNeeded, match="has ended"):
        env.step(GOOD)
    envs = v2w_gym.WorldModelVectorEnv(2, tiny_world)
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"slots \[0, 1\]"):
        envs.step(np.zeros((2, 4), np.float32))
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"slots \[1\]"):
        envs.reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize(
    ("settings", "match"),
    {
        "misspelt": ({"rewrad": "dense"}, "did you mean 'reward'"),
        "unknown reward": ({"reward": "shaped"}, "dense"),
        "unknown observation": ({"obs_type": "state"}, "pixels"),
        "no steps": ({"horizon": 0}, "at least 1"),
        "unknown sampler key": ({"sampler": {"step": 1}}, "did you mean 'steps'"),
        "no such device": ({"device": "gpu"}, "device must be"),
        "render mode": ({"render_mode": "ansi"}, "rgb_array"),
    }.values(),
)
def test_bad_setting(tiny_world, settings, match):
    for make in (v2w_gym.WorldModelEnv, lambda world, **k: v2w_gym.WorldModelVectorEnv(2, world, **k)):
        with pytest.raises(ValueError, match=match):
            make(tiny_world, **settings)
    with pytest.raises(ValueError, match="same_step"):
        v2w_gym.WorldModelVectorEnv(2, tiny_world, autoreset_mode="sometimes")


@pytest.mark.parametrize(
    ("world", "match"),
    {
        "no such folder": ("./nowhere", "shipped worlds"),
        "misspelt id": ("Vid2World-DrawerClosed-v0", "did you mean 'Vid2World-DrawerClose-v0'"),
        "hub out of reach": ("somebody/no-such-world", "the hub did not give it"),
    }.values(),
)
def test_no_such_world(world, match):
    with pytest.raises(FileNotFoundError, match=match):
        v2w_gym.World.open(world)


def test_no_world_at_all():
    with pytest.raises(ValueError, match="world="):
        gymnasium.make(GENERIC_ID)


@pytest.fixture
def copied(tiny_world, tmp_path):
    return shutil.copytree(tiny_world, tmp_path / "world")


def test_folder_that_is_no_world(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"world\.json"):
        v2w_gym.World.open(tmp_path)


def test_damaged_world_file(copied):
    path = copied / "world.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match="damaged"):
        v2w_gym.World.open(copied)


def test_unknown_key_in_world_file(copied):
    path = copied / "world.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "horizont": 3}))
    with pytest.raises(ValueError, match="did you mean 'horizon'"):
        v2w_gym.World.open(copied)


WEIGHTS = ("unet/*.safetensors", "codec/*.safetensors", "detector/*.safetensors", "starts/starts.npz")


@pytest.mark.parametrize("pattern", WEIGHTS)
def test_missing_truncated_and_foreign_files(copied, pattern):
    path = next(copied.glob(pattern))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{path.name} is truncated or belongs to another world"):
        gymnasium.make(GENERIC_ID, world=str(copied))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        gymnasium.make(GENERIC_ID, world=str(copied))
    path.write_bytes(whole)
    (path.parent / "stranger.bin").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"stranger\.bin, which world\.json does not list"):
        gymnasium.make(GENERIC_ID, world=str(copied))
    v2w_gym.write_hashes(copied)
    gymnasium.make(GENERIC_ID, world=str(copied))


def test_starts_that_do_not_belong_together(copied, tmp_path):
    (copied / "starts" / "starts.json").write_text(json.dumps({"ids": ["a"], "seeds": [1]}))
    with pytest.raises(ValueError, match="fetch both again"):
        v2w_gym.StartContexts.load(copied / "starts")
    with pytest.raises(FileNotFoundError, match=r"starts\.json"):
        v2w_gym.StartContexts.load(tmp_path)


def test_parts_of_different_worlds(tiny_world):
    world = v2w_gym.World.open(tiny_world)
    with pytest.raises(ValueError, match="objects model, detector and starts"):
        v2w_gym.WorldModelEnv(world.config)
    path = json.loads((tiny_world / "world.json").read_text()) | {"frame_size": [64, 64], "hashes": {}}
    config = v2w_gym.config.from_dict(v2w_gym.WorldConfig, path)
    with pytest.raises(ValueError, match="different worlds"):
        v2w_gym.WorldModelEnv(config, model=world.model(), detector=world.detector(), starts=world.starts())
