"""Gymnasium's wrappers of vector environments do to ours what they do to its own SyncVectorEnv."""

import copy
import sys
import types

import gymnasium
import imageio.v3 as imageio
import numpy as np
import pytest
from alike import assert_alike
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import vector as wrappers

import v2w_gym
from v2w_gym.registration import GENERIC_ID

SLOTS, HORIZON, STEPS = 2, 2, 4
SETTINGS = {"reward": "dense", "horizon": HORIZON, "render_mode": "rgb_array"}
WRAPPERS = {
    "RecordEpisodeStatistics": {},
    "DictInfoToList": {},
    "NormalizeReward": {"epsilon": 1.0},  # by a tiny deviation it would blow up how batches round
    "ClipReward": {"min_reward": 0.2, "max_reward": 0.6},
    "RescaleAction": {"min_action": np.float32(-2), "max_action": np.float32(2)},
    "HumanRendering": {"screen_size": (96, 96)},
    "GrayscaleObservation": {},
    "FlattenObservation": {},
    "ResizeObservation": {"shape": (24, 24)},
    "NormalizeObservation": {},
    "TransformObservation": {"func": lambda frames: 255 - frames},
}
"""What they are made with."""


def make(tiny_world, mode, obs_type="pixels", **settings):
    return gymnasium.make_vec(
        GENERIC_ID,
        num_envs=SLOTS,
        world=str(tiny_world),
        autoreset_mode=mode.name.lower(),
        obs_type=obs_type,
        **SETTINGS | settings,
    )


def play(envs, mode, convert=np.asarray):
    """Results of some steps with actions drawn from all of the space; slots that ended are reset by mask."""
    low, high = envs.single_action_space.low, envs.single_action_space.high
    shares = np.random.default_rng(0).uniform(size=(STEPS, SLOTS, 4)).astype(np.float32)
    results = [envs.reset(seed=5)]
    for row in low + shares * (high - low):
        results.append(envs.step(convert(row)))
        over = results[-1][2] | results[-1][3]
        if mode is AutoresetMode.DISABLED and over.any():
            results.append(envs.reset(options={"reset_mask": over}))
    envs.close()
    for *_, infos in results:
        if "episode" in infos and isinstance(infos, dict):
            infos["episode"].pop("t")  # durations differ
    return results


class Recorded(VectorEnv):
    """Gives again what a vector environment gave: the same results to many wrappers."""

    def __init__(self, envs, results):
        for name in ("num_envs", "metadata", "render_mode", "single_observation_space", "observation_space"):
            setattr(self, name, getattr(envs, name))
        self.single_action_space, self.action_space = envs.single_action_space, envs.action_space
        self._results = iter(copy.deepcopy(results))

    def step(self, actions):
        del actions
        self._newest, *rest = next(self._results)
        return (self._newest, *rest)

    def reset(self, *, seed=None, options=None):
        del seed, options
        return self.step(None)

    def render(self):
        return tuple(self._newest)


@pytest.fixture(scope="module")
def recorded(tiny_world):
    """What SyncVectorEnv gives in each autoreset mode."""
    made = {}

    def one():
        return v2w_gym.WorldModelEnv(tiny_world, obs_type="pixels", **SETTINGS)

    for mode in AutoresetMode:
        envs = SyncVectorEnv([one] * SLOTS, autoreset_mode=mode)
        made[mode] = envs, play(envs, mode)
    return lambda mode: Recorded(*made[mode])


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapper_does_what_it_does_to_sync_vector_env(tiny_world, recorded, mode, name):
    wrap, arguments = getattr(wrappers, name), WRAPPERS[name]
    ours = make(tiny_world, mode)
    try:
        theirs = wrap(recorded(mode), **arguments)
    except ValueError:  # not for this mode
        with pytest.raises(ValueError, match="autoreset_mode"):
            wrap(ours, **arguments)
        return
    ours = wrap(ours, **arguments)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert_alike(play(ours, mode), play(theirs, mode))


@pytest.fixture
def without_moviepy(monkeypatch):
    """Stands in for the one class of moviepy that RecordVideo asks for, so that the tests do without it."""

    class ImageSequenceClip:
        def __init__(self, frames, fps):
            self._frames, self._fps = frames, fps

        def write_videofile(self, path, logger):
            del logger
            imageio.imwrite(path, np.stack(self._frames), fps=self._fps, macro_block_size=1)

    clip = types.ModuleType("moviepy.video.io.ImageSequenceClip")
    clip.ImageSequenceClip = ImageSequenceClip
    for name in ("moviepy", "moviepy.video", "moviepy.video.io", clip.__name__):
        monkeypatch.setitem(sys.modules, name, clip)


@pytest.mark.filterwarnings("ignore:.*autoreset mode is same-step")
@pytest.mark.parametrize("mode", AutoresetMode)
def test_videos_of_all_slots_side_by_side(tiny_world, tmp_path, without_moviepy, mode):
    envs = wrappers.RecordVideo(
        make(tiny_world, mode, "dict", terminate_on_success=False),
        str(tmp_path / "videos"),
        episode_trigger=lambda episode: True,
        gc_trigger=None,  # collecting takes longer than all else
    )
    envs.reset(seed=0)
    envs.step(np.zeros((SLOTS, 4), np.float32))
    np.testing.assert_array_equal(envs.recorded_frames[-1], np.concatenate(envs.render(), axis=1))
    play(envs, mode)  # begins with a reset, and closes
    videos = [imageio.imread(path) for path in sorted((tmp_path / "videos").glob("*.mp4"))]
    full = HORIZON + (mode is not AutoresetMode.SAME_STEP)  # that wrapper never sees the last frame there
    assert [len(video) for video in videos[:2]] == [2, full]
    assert len(videos) >= 3
    assert videos[0].shape[1:] == (48, 2 * 48, 3)


@pytest.mark.parametrize(
    ("mode", "obs_type"), [*((mode, "dict") for mode in AutoresetMode), (AutoresetMode.SAME_STEP, "pixels")]
)
def test_numbers_become_tensors_and_texts_stay(tiny_world, mode, obs_type):
    pytest.importorskip("array_api_compat", reason="gymnasium's NumpyToTorch needs array-api-compat")
    import torch

    plain = play(make(tiny_world, mode, obs_type), mode)
    results = play(wrappers.NumpyToTorch(make(tiny_world, mode, obs_type)), mode, convert=torch.from_numpy)

    def back(value):
        if isinstance(value, dict):
            return {key: back(inner) for key, inner in value.items()}
        if isinstance(value, torch.Tensor):
            return value.numpy()
        assert value.dtype == object  # texts, and last observations, one entry per slot
        entries = np.full(SLOTS, None, dtype=object)
        for i, entry in enumerate(value):
            entries[i] = entry if entry is None or isinstance(entry, str) else back(entry)
        return entries

    assert_alike([tuple(map(back, result)) for result in results], plain)
