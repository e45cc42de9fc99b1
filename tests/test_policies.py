"""Policies: shapes and ranges, slots that do not influence one another, names, files."""

import pickle

import numpy as np
import pytest

from v2w_gym import policies
from v2w_gym.policies import shallow, trained
from v2w_gym.policies.cnn import CnnConfig, CnnPolicy
from v2w_gym.policies.shallow import LinearPolicy, NearestPolicy, ReplayPolicy
from v2w_gym.policies.simple import ConstantPolicy, RandomPolicy, StillPolicy
from v2w_gym.policies.wrappers import Biased, Delayed, Erratic, Scaled

INSTRUCTION = "close the drawer"


class Brightness:
    """Acts on what it sees, so that a test knows which frame it saw."""

    def reset(self, instruction, slots):
        pass

    def act(self, observation):
        return np.repeat(observation["pixels"].mean(axis=(1, 2, 3))[:, None] / 255.0, 4, axis=1)


class OnlyActs:
    def act(self, observation):
        return np.zeros((len(observation["pixels"]), 4))


def films(slots, steps=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (steps, slots, 64, 64, 3), dtype=np.uint8)


def play(policy, film, seeds):
    """Actions ``(f, b, a)`` of a policy that is shown a film ``(f, b, h, w, 3)`` from the beginning."""
    if hasattr(policy, "seed"):
        policy.seed(seeds)
    policy.reset([INSTRUCTION] * film.shape[1], list(range(film.shape[1])))
    return np.stack([policy.act({"pixels": pixels}) for pixels in film])


@pytest.mark.parametrize("name", policies.names())
def test_shipped_policy_keeps_the_contract(name):
    policy = policies.load(name)
    assert isinstance(policy, policies.Policy)
    film, seeds = films(slots=3), [5, 6, 7]
    actions = play(policy, film, seeds)
    assert actions.shape == (6, 3, 4)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1.0
    np.testing.assert_array_equal(play(policy, film, seeds), actions)
    order = [2, 0, 1]
    shuffled = play(policies.load(name), film[:, order], [seeds[i] for i in order])
    np.testing.assert_allclose(shuffled, actions[:, order], atol=1e-5)
    alone = play(policies.load(name), film[:, 1:2], seeds[1:2])
    np.testing.assert_allclose(alone, actions[:, 1:2], atol=1e-5)


def test_policies_do_not_touch_what_they_are_shown():
    film = films(slots=2)
    before = film.copy()
    for name in policies.names():
        play(policies.load(name), film, [1, 2])
    np.testing.assert_array_equal(film, before)


def test_delayed_sees_old_frames_and_forgets_at_reset():
    film = films(slots=2)
    now = play(Brightness(), film, [0, 0])
    policy = Delayed(Brightness(), frames=2)
    late = play(policy, film, [0, 0])
    np.testing.assert_allclose(late[2:], now[:-2])
    np.testing.assert_allclose(late[:2], now[[0, 0]])
    policy.reset([INSTRUCTION], [1])  # slot 1 begins anew, slot 0 goes on
    mixed = policy.act({"pixels": film[0]})
    np.testing.assert_allclose(mixed[1], now[0, 1])
    np.testing.assert_allclose(mixed[0], now[-2, 0])


def test_frames_that_are_remembered_are_copies():
    policy, memory = Delayed(Brightness(), frames=1), np.zeros((1, 64, 64, 3), np.uint8)
    policy.act({"pixels": memory})
    memory[:] = 255  # the next frame, in the same place
    assert policy.act({"pixels": memory}).max() == 0


def test_an_error_inside_leaves_what_was_seen_as_it_was():
    own = Brightness()
    policy, film = Delayed(own, frames=1), films(slots=1)
    policy.act({"pixels": film[0]})
    own.act = None
    with pytest.raises(TypeError):
        policy.act({"pixels": film[1]})
    del own.act
    np.testing.assert_allclose(policy.act({"pixels": film[2]}), own.act({"pixels": film[0]}))


def test_handicaps_take_a_policy_that_only_acts():
    assert not play(Scaled(OnlyActs(), 0.5), films(slots=2), [0, 0]).any()


def test_handicaps_do_what_they_say():
    film = films(slots=2)
    own = ConstantPolicy([0.5, -1.0, 0.0, 1.0])
    np.testing.assert_allclose(play(Scaled(own, 0.5), film, [0, 0])[0, 0], [0.25, -0.5, 0.0, 0.5])
    np.testing.assert_allclose(play(Biased(own, [0.8, 0, 0, 0]), film, [0, 0])[0, 0], [1.0, -1.0, 0.0, 1.0])
    replaced = play(Erratic(own, 0.3), films(slots=50, steps=20), list(range(50))) != own.action
    assert 0.25 < replaced.any(axis=-1).mean() < 0.35
    assert not play(StillPolicy(), film, [0, 0]).any()
    random = play(RandomPolicy(), film, [3, 4])
    assert not np.allclose(random[:, 0], random[:, 1])


def test_cnn_survives_its_file(tmp_path):
    policy, film = CnnPolicy(CnnConfig(channels=(4, 4, 8))), films(slots=2)
    policy.half().float()  # weights are kept as float16
    policy.save(tmp_path / "p.safetensors", {"run": "test"})
    again = CnnPolicy.load(tmp_path / "p.safetensors")
    assert again.config == policy.config
    np.testing.assert_array_equal(play(again, film, [0, 0]), play(policy, film, [0, 0]))


def test_cnn_refuses_bad_files_and_frames(tmp_path):
    path = tmp_path / "p.safetensors"
    with pytest.raises(FileNotFoundError, match="v2w train policies"):
        CnnPolicy.load(path)
    CnnPolicy().save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="no safetensors file"):
        CnnPolicy.load(path)
    with pytest.raises(ValueError, match="uint8"):
        CnnPolicy().act({"pixels": np.zeros((1, 64, 64, 3), np.float32)})
    with pytest.raises(ValueError, match="resize"):
        CnnPolicy().act({"pixels": np.zeros((1, 32, 32, 3), np.uint8)})


def test_resolve_takes_names_modules_and_files(tmp_path):
    assert type(policies.resolve("still")) is StillPolicy
    assert type(policies.resolve("v2w_gym.policies.simple:RandomPolicy")) is RandomPolicy
    file = tmp_path / "mine.py"
    file.write_text(
        "class Mine:\n    def act(self, observation):\n        return [[0, 0, 0, 0]]\n"
        "instance = Mine()\ndef make():\n    return Mine()\ndef needs(x):\n    return Mine()\nnumber = 3\n"
    )
    for attribute in ("Mine", "instance", "make"):
        assert policies.resolve(f"{file}:{attribute}").act({}) == [[0, 0, 0, 0]]
    for attribute, message in (("number", "act"), ("needs", "without arguments"), ("instanse", "instance")):
        with pytest.raises(ValueError, match=message):
            policies.resolve(f"{file}:{attribute}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("stil", "did you mean 'still'"), ("no_such_module:x", "cannot import"), ("no/file.py:x", "no file")],
)
def test_resolve_says_what_is_wrong(spec, message):
    with pytest.raises(ValueError, match=message):
        policies.resolve(spec)


def test_a_file_may_hold_dataclasses_with_late_annotations(tmp_path):
    file = tmp_path / "late.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Mine:\n    gain: float = 1.0\n"
        "    def act(self, observation):\n        return [[0]]\n"
    )
    made = policies.resolve(f"{file}:Mine")
    assert made.act({}) == [[0]]
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_a_broken_file_is_named(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("1 / 0")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        policies.resolve(f"{file}:x")


@pytest.mark.slow
def test_cloning_learns_and_saves_its_stages(tmp_path):
    from v2w_gym.training.policies import Aim, Demonstrations, PoliciesConfig, Run, fit

    rng = np.random.default_rng(0)
    place = rng.uniform(-1.0, 1.0, (2, 16)).astype(np.float32)
    frames = np.zeros((2, 16, 64, 64, 3), np.uint8)
    for index in np.ndindex(2, 16):  # a bar whose place is the action
        column = round(30 + 25 * float(place[index]))
        frames[index][:, column : column + 4] = 255
    labels = np.repeat(place[None, ..., None], 4, axis=-1)
    run = Run("toy", clean=2, recovery=0, stages=(20, 120))
    config = PoliciesConfig((run,), str(tmp_path), (Aim("true"),), clean=2, recovery=0, batch_size=16)
    fit(run, config, Demonstrations(frames, labels), tmp_path / "run")
    begun, done = (CnnPolicy.load(tmp_path / f"toy-{step:04d}.safetensors") for step in (20, 120))
    error = [np.abs(p.act({"pixels": frames[0]}) - labels[0, 0]).mean() for p in (begun, done)]
    assert error[1] < 0.25 < error[0]


def labelled(frames=200, seed=0):
    """Frames, and actions that are a linear function of them."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (frames, 64, 64, 3), dtype=np.uint8)
    weight = rng.normal(0.0, 0.05, (768, 4)).astype(np.float32)
    return pixels, np.clip(shallow.small(pixels) @ weight, -1.0, 1.0)


def test_a_small_frame_holds_the_means_of_its_patches():
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    frames[0, 4:8, :4, 1] = 255  # one patch: second row, first column, green
    expected = np.full((16, 16, 3), -1.0)
    expected[1, 0, 1] = 1.0
    np.testing.assert_allclose(shallow.small(frames)[0], expected.ravel())
    with pytest.raises(ValueError, match="60x64"):
        shallow.small(np.zeros((1, 60, 64, 3), np.uint8))


def test_a_linear_policy_finds_what_is_linear():
    frames, actions = labelled(1200)
    policy = LinearPolicy.fit(frames[:1000], actions[:1000], ridge=1e-5)
    np.testing.assert_allclose(policy.act({"pixels": frames[1000:]}), actions[1000:], atol=0.02)


def test_the_nearest_frame_of_a_remembered_one_is_itself():
    frames, actions = labelled()
    policy = NearestPolicy.fit(frames, actions, directions=24, count=1)
    np.testing.assert_array_equal(policy.act({"pixels": frames}), actions)
    mean = NearestPolicy.fit(frames[:3], actions[:3], directions=2, count=3)
    np.testing.assert_allclose(mean.act({"pixels": frames[5:6]})[0], actions[:3].mean(0), atol=1e-6)


def test_a_replay_keeps_time_for_each_slot():
    actions = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    policy, film = ReplayPolicy(actions), films(slots=2, steps=5)
    np.testing.assert_array_equal(play(policy, film, [0, 0])[:, 1], actions[[0, 1, 2, 2, 2]])
    policy.reset([INSTRUCTION], [0])  # the other slot goes on
    np.testing.assert_array_equal(policy.act({"pixels": film[0]}), actions[[0, 2]])


def test_policies_without_a_network_survive_a_file(tmp_path):
    frames, actions = labelled()
    made = (LinearPolicy.fit(frames, actions, 1.0), NearestPolicy.fit(frames, actions), ReplayPolicy(actions))
    for policy in made:
        shallow.save(policy, tmp_path / "policy.safetensors", {"note": "kept"})
        loaded = trained.load(tmp_path / "policy.safetensors")
        assert type(loaded) is type(policy)
        film = films(slots=2)
        np.testing.assert_allclose(play(loaded, film, [0, 0]), play(policy, film, [0, 0]), atol=0.05)


def test_files_that_hold_no_such_policy_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="v2w train policies"):
        shallow.load(tmp_path / "none.safetensors")
    CnnPolicy(CnnConfig()).save(tmp_path / "cnn.safetensors")
    assert isinstance(trained.load(tmp_path / "cnn.safetensors"), CnnPolicy)
    with pytest.raises(ValueError, match="no policy of this kind"):
        shallow.load(tmp_path / "cnn.safetensors")
