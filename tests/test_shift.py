"""Shifted scenes: each differs from the plain one, every draw is its seed's alone, and nothing adds up."""

import ctypes.util
import os

import numpy as np
import pytest

if ctypes.util.find_library("OSMesa") is None:
    pytest.skip("no offscreen OpenGL: apt-get install libosmesa6", allow_module_level=True)
os.environ.setdefault("MUJOCO_GL", "osmesa")  # read when mujoco is imported, just below
os.environ.setdefault("LP_NUM_THREADS", "0")
pytest.importorskip("metaworld")
pytestmark = pytest.mark.reality
mujoco = pytest.importorskip("mujoco")

from v2w_gym.data.episode import Episode  # noqa: E402
from v2w_gym.data.record import RecordConfig, episode_path, record  # noqa: E402
from v2w_gym.data.shift import MOVED, SHIFTS, TURNED, CameraMoved, CameraTurned, Scene  # noqa: E402


def camera():
    seen = mujoco.MjvCamera()
    seen.lookat[:], seen.distance, seen.azimuth, seen.elevation = (0.0, 0.66, 0.13), 0.95, 145.0, -28.0
    return seen


def gaze(seen):
    a, e = np.radians(seen.azimuth), np.radians(seen.elevation)
    return np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


def place(seen):
    return seen.lookat - seen.distance * gaze(seen)


def test_a_turned_camera_stays_where_it_is_however_often_it_turns():
    seen, before = camera(), camera()
    shift = CameraTurned(Scene(None, seen))
    for seed in range(6):
        shift.draw(np.random.default_rng(seed))
        np.testing.assert_allclose(place(seen), place(before), atol=1e-12)
        turned = abs(seen.azimuth - before.azimuth) + abs(seen.elevation - before.elevation)
        assert turned == pytest.approx(TURNED)


def test_a_moved_camera_looks_the_same_way_however_often_it_moves():
    seen, before = camera(), camera()
    shift = CameraMoved(Scene(None, seen))
    for seed in range(6):
        shift.draw(np.random.default_rng(seed))
        np.testing.assert_array_equal(gaze(seen), gaze(before))
        assert np.linalg.norm(place(seen) - place(before)) == pytest.approx(MOVED)


@pytest.mark.parametrize(("field", "value"), [("shift", "lihgt"), ("behaviour", "asleep")])
def test_an_unknown_name_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"unknown {field}.*known"):
        RecordConfig(out="nowhere", episodes=1, **{field: value})


@pytest.mark.slow
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shifted_episode_is_another_one_and_the_same_each_time(tmp_path, shift):
    def recorded(folder, shift, first):
        config = RecordConfig(str(tmp_path / folder), 2, first_seed=first, behaviour="still", shift=shift)
        record(config)
        return [Episode.load(episode_path(config, i)).frames for i in range(2)]

    plain = recorded("plain", None, 5)
    seventh_after_sixth = recorded("shifted", shift, 6)[1]
    seventh = recorded("again", shift, 7)[0]
    np.testing.assert_array_equal(seventh[1:], seventh_after_sixth[1:])
    assert not np.array_equal(recorded("other", shift, 5)[0], plain[0])
