"""The worlds of the released models: what their actions mean, and how pictures become their frames."""

import json
import warnings
from pathlib import Path

import cv2
import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector.utils import batch_space, iterate

import v2w_gym
from v2w_gym.config import from_dict, to_dict
from v2w_gym.data.framing import Framing
from v2w_gym.data.outside import read_context, starts_from
from v2w_gym.envs import keyboard
from v2w_gym.envs.actions import actions_of
from v2w_gym.envs.arm import ArmActions, VectorArmActions, arm_spec
from v2w_gym.envs.domains import CSGO_ACTIONS, DOMAINS, RECON_ACTIONS, RT1_ACTIONS
from v2w_gym.envs.keyboard import press
from v2w_gym.envs.world import ActionSpec, DetectorSpec, WorldConfig
from v2w_gym.registration import GENERIC_ID

CLIPS = Path(__file__).parents[2] / "shared" / "data"
real_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"there are no recordings at {CLIPS}")
SIZE = (48, 48)
SMALL = Framing(source=(24, 20), picture=(48, 40), bars=(0, 0, 4, 4))
NORMALISED = ActionSpec(("x", "y"), (-0.1, -0.1), (0.1, 0.1), "metres")
SPECS = {"normalised": NORMALISED, **{name: domain.action for name, domain in DOMAINS.items()}}


def world_config(action, **changes):
    values = {
        "name": "toy",
        "version": 0,
        "frame_size": SIZE,
        "fps": 3.0,
        "horizon": 3,
        "window": 4,
        "action": action,
        "instructions": ("close the drawer",),
        "detector": DetectorSpec("none"),
        "framing": SMALL,
        "action_bound": None,
    }
    return WorldConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def worlds(tmp_path_factory, tiny_model):
    """Domain name to a folder with a tiny model; no detector, no starts."""
    folders = {}
    for name, domain in DOMAINS.items():
        folder = folders[name] = tmp_path_factory.mktemp("domains") / name
        tiny_model(len(domain.action.names), action_bound=None).save_pretrained(folder)
        sampler = json.loads((folder / "world.json").read_text())["sampler"]
        (folder / "world.json").write_text(json.dumps(to_dict(world_config(domain.action, sampler=sampler))))
    return folders


@pytest.fixture(scope="module", params=DOMAINS)
def domain(request):
    return request.param


def picture(h=24, w=20, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (h, w, 3), dtype=np.uint8)


def make(folder, **settings):
    return gymnasium.make(GENERIC_ID, world=str(folder), **{"starts": picture(), **settings})


def make_vec(folder, slots=2, **settings):
    return gymnasium.make_vec(
        GENERIC_ID, num_envs=slots, world=str(folder), **{"starts": picture(), **settings}
    )


def still(domain):
    """An action that fits the domain."""
    return press() if domain == "csgo" else np.zeros(len(DOMAINS[domain].action.names), np.float32)


def stack(actions):
    if isinstance(actions[0], dict):
        return {key: np.stack([action[key] for action in actions]) for key in actions[0]}
    return np.stack(actions)


def assert_undisturbed(env, good, bad_call, match):
    """The bad call raises, and what follows equals what follows without it."""
    after = []
    for disturb in (False, True):
        env.reset(seed=3)
        env.step(good)
        if disturb:
            with pytest.raises(ValueError, match=match):
                bad_call(env)
        after.append((env.step(good)[0]["pixels"], env.reset()[0]["pixels"]))
    for before, now in zip(*after, strict=True):
        np.testing.assert_array_equal(before, now)


# actions


@pytest.mark.parametrize("name", SPECS)
def test_whatever_the_space_samples_is_encoded(name):
    kind = actions_of(SPECS[name])
    kind.space.seed(0)
    batched = batch_space(kind.space, 3)
    batched.seed(0)
    for _ in range(20):
        action, batch = kind.space.sample(), batched.sample()
        encoded = kind.encode(action)
        assert (encoded.shape, encoded.dtype) == ((len(SPECS[name].names),), np.float32)
        assert np.isfinite(encoded).all()
        one_by_one = [kind.encode(row) for row in iterate(batched, batch)]
        np.testing.assert_array_equal(kind.encode(batch, 3), one_by_one)


@pytest.mark.parametrize("name", SPECS)
def test_action_specs_round_trip_and_say_what_each_component_is(name):
    spec = SPECS[name]
    assert from_dict(ActionSpec, json.loads(json.dumps(to_dict(spec)))) == spec
    assert len(set(spec.names)) == len(spec.names) == len(spec.units)


def test_normalised_and_raw_actions_reach_the_model_as_they_are():
    assert actions_of(NORMALISED).space == gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    kind = actions_of(RT1_ACTIONS)
    for i in range(13):
        for bound in (kind.space.low, kind.space.high):
            action = np.zeros(13, np.float32)
            action[i] = bound[i]
            np.testing.assert_array_equal(kind.encode(action), action)


def test_rt1_has_the_fields_of_the_recordings():
    fields = [name.rsplit("_", 1)[0] for name in RT1_ACTIONS.names]
    assert fields == [
        *["base_displacement"] * 2,
        "base",
        "gripper",
        *["rotation_delta"] * 3,
        *["terminate"] * 3,
        *["world_vector"] * 3,
    ]
    turn = np.float32(np.pi / 2)
    space = actions_of(RT1_ACTIONS).space
    assert space.high.tolist() == pytest.approx([1, 1, np.pi, 1, turn, turn, turn, 1, 1, 1, 1, 1, 1])
    assert space.low.tolist() == pytest.approx([-1, -1, -np.pi, -1, *[-turn] * 3, 0, 0, 0, -1, -1, -1])


@pytest.mark.parametrize(
    ("metres", "read"),
    [
        ((0, 0, 0), (-1 / 3, 0, 0)),
        ((-0.625, -1, -np.pi), (-1, -1, -np.pi)),
        ((1.25, 1, np.pi), (1, 1, np.pi)),
        ((0.25, 0.25, 0.1), ((1 + 2.5) / 7.5 * 2 - 1, 0.25, 0.1)),
    ],
)
def test_recon_metres_to_what_the_model_reads(metres, read):
    np.testing.assert_allclose(actions_of(RECON_ACTIONS).encode(metres), read, atol=1e-6)


def test_every_key_click_and_bin_has_a_component_of_its_own():
    kind, idle = actions_of(CSGO_ACTIONS), {24, 43}  # the mouse rests in bin 11 of 13..35 and 7 of 36..50
    for i, key in enumerate(keyboard.KEYS):
        assert set(np.flatnonzero(kind.encode(press(key)))) == {i} | idle
    for i, button in enumerate(keyboard.CLICKS):
        assert set(np.flatnonzero(kind.encode(press(clicks=[button])))) == {11 + i} | idle
    for i, count in enumerate(keyboard.MOUSE_X):
        assert set(np.flatnonzero(kind.encode(press(mouse=(count, 0))))) == {13 + i, 43}
        assert keyboard.NAMES[13 + i] == f"mouse_x_{count}"
    for i, count in enumerate(keyboard.MOUSE_Y):
        assert set(np.flatnonzero(kind.encode(press(mouse=(0, count))))) == {36 + i, 24}
        assert keyboard.NAMES[36 + i] == f"mouse_y_{count}"
    assert keyboard.MOUSE_X[::11] == (-1000, 0, 1000)
    assert keyboard.MOUSE_Y[::7] == (-200, 0, 200)
    assert press("w", mouse=(33, -5)) in kind.space
    assert kind.encode(press("w", "r", mouse=(33, -5))).sum() == 4


def test_recorded_key_vectors_are_taken_as_they_are():
    kind = actions_of(CSGO_ACTIONS)
    vectors = np.stack([kind.encode(press("w", mouse=(30, 0))), kind.encode(press("a", clicks=["right"]))])
    np.testing.assert_array_equal(kind.encode(vectors[0]), vectors[0])
    np.testing.assert_array_equal(kind.encode(vectors, 2), vectors)


BAD_ACTIONS = {
    "rt1": [
        (np.zeros(7), r"\(13,\)"),
        (np.full(13, np.nan), "finite"),
        (
            np.eye(13)[4] * 1.6,
            r"'rotation_delta_roll' must lie in \[-1\.57.* radians per step, got 1\.6; clip",
        ),
        (np.eye(13)[7] * -0.1, "terminate_0"),
        (None, "shape"),
    ],
    "csgo": [
        (np.zeros(50), r"\(51,\)"),
        (np.full(51, 0.5), "0 or 1"),
        (np.full(51, 2), "clip"),
        ({"keys": np.zeros(11)}, "fields keys, clicks, mouse_x, mouse_y, got keys"),
        ({**press(), "mouse_z": 0}, "mouse_z"),
        ({**press(), "keys": np.zeros(10)}, r"'keys'.*\(11,\)"),
        ({**press(), "clicks": np.array([0, 2])}, "'clicks'"),
        ({**press(), "mouse_x": 23}, "'mouse_x'"),
        ({**press(), "mouse_y": 1.5}, "'mouse_y'.*integers"),
        ("w", "numbers"),
    ],
    "recon": [
        (np.zeros(2), r"\(3,\)"),
        ((1.3, 0, 0), r"'dx'.*\[-0\.625, 1\.25\] metres per step"),
        ((0, np.inf, 0), "finite"),
        ((0, 0, 4), "'dyaw'"),
    ],
}


@pytest.mark.parametrize(
    ("name", "action", "match"), [(name, *row) for name, rows in BAD_ACTIONS.items() for row in rows]
)
def test_a_bad_action_changes_nothing(worlds, name, action, match):
    env = make(worlds[name], disable_env_checker=True)
    assert_undisturbed(env, still(name), lambda env: env.step(action), match)


def test_a_bad_action_in_one_slot_stops_all(worlds, domain):
    bad = {
        "rt1": np.full(13, 9, np.float32),
        "csgo": {**press(), "mouse_x": 99},
        "recon": np.full(3, 9, np.float32),
    }[domain]
    good, envs = still(domain), make_vec(worlds[domain])
    assert_undisturbed(envs, stack([good, good]), lambda envs: envs.step(stack([good, bad])), "must lie in")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"names": ("x",)}, "as many lows"),
        ({"unit": ("metres",)}, "one for each of its 2"),
        ({"high": (-1.0, 1.0)}, "below"),
    ],
)
def test_action_specs_that_make_no_sense(values, match):
    with pytest.raises(ValueError, match=match):
        from_dict(ActionSpec, {**to_dict(NORMALISED), **values})


def test_kinds_have_components_of_their_own():
    for kind in ("metric", "keyboard_mouse"):
        with pytest.raises(ValueError, match="components"):
            actions_of(ActionSpec(("x", "y"), (0.0, 0.0), (1.0, 1.0), "1", kind))
    with pytest.raises(ValueError, match='"action_bound": null'):
        world_config(RT1_ACTIONS, action_bound=1.0)
    with pytest.raises(ValueError, match="unknown key or button 'up'"):
        press("up")


# arm actions


def test_arm_actions_field_by_field(worlds):
    env = ArmActions(make(worlds["rt1"]))
    assert env.arm.names == ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    idle = dict.fromkeys(RT1_ACTIONS.names, 0.0) | {"terminate_1": 1.0}
    partner = {
        "dx": "world_vector_x",
        "dy": "world_vector_y",
        "dz": "world_vector_z",
        "droll": "rotation_delta_roll",
        "dpitch": "rotation_delta_pitch",
        "dyaw": "rotation_delta_yaw",
        "gripper": "gripper_closedness",
    }
    for i, name in enumerate(env.arm.names):
        for value in (-0.75, 0.5, 1.0):
            thirteen = env.action(np.eye(7, dtype=np.float32)[i] * value)
            assert dict(zip(RT1_ACTIONS.names, thirteen.tolist(), strict=True)) == {
                **idle,
                partner[name]: value,
            }


@pytest.mark.parametrize(
    ("gripper", "opens", "closes"),
    [("closing", -1, 1), ("opening", 1, -1), ("openness", 1, 0), ("closedness", 0, 1)],
)
def test_gripper_conventions(worlds, gripper, opens, closes):
    env = ArmActions(make(worlds["rt1"]), gripper)
    arm = np.zeros(7, np.float32)
    for number, field in ((opens, -1.0), (closes, 1.0), ((opens + closes) / 2, 0.0)):
        arm[6] = number
        assert arm in env.action_space
        assert env.action(arm)[3] == field
    with pytest.raises(ValueError, match="'gripper' must lie in"):
        env.action(np.array([0, 0, 0, 0, 0, 0, -1.5]))


def test_arm_actions_are_what_the_thirteen_fields_do(worlds):
    plain, envs = make(worlds["rt1"]), VectorArmActions(make_vec(worlds["rt1"]))
    env = ArmActions(make(worlds["rt1"]))
    envs.action_space.seed(0)
    rows = envs.action_space.sample()
    together = (envs.reset(seed=[5, 5]), envs.step(rows))[1][0]["pixels"]
    for row, seen in zip(rows, together, strict=True):
        env.reset(seed=5)
        plain.reset(seed=5)
        alone = env.step(row)[0]["pixels"]
        np.testing.assert_array_equal(alone, plain.step(env.action(row))[0]["pixels"])
        assert np.abs(alone.astype(int) - seen).max() <= 1  # batching moves floats a little
    assert envs.single_action_space == env.action_space
    assert envs.action_space.shape == (2, 7)


def test_bad_arm_actions_change_nothing(worlds):
    good, bad = np.zeros(7, np.float32), np.full(7, 2, np.float32)
    env, envs = ArmActions(make(worlds["rt1"])), VectorArmActions(make_vec(worlds["rt1"]))
    assert_undisturbed(env, good, lambda env: env.step(bad), "'dx' must lie in")
    assert_undisturbed(envs, stack([good, good]), lambda e: e.step(stack([good, bad])), "'dx' must lie in")
    assert_undisturbed(env, good, lambda env: env.step(np.zeros(13)), r"\(7,\)")


def test_arm_actions_need_the_thirteen_fields(worlds):
    for wrap, env in ((ArmActions, make(worlds["recon"])), (VectorArmActions, make_vec(worlds["recon"]))):
        with pytest.raises(ValueError, match="RT-1's 13 fields"):
            wrap(env)
    with pytest.raises(ValueError, match="gripper must be one of"):
        ArmActions(make(worlds["rt1"]), "pinch")
    assert arm_spec("openness").low[6] == 0


# frames


@pytest.mark.parametrize("framing", [SMALL, *(domain.framing for domain in DOMAINS.values())])
@pytest.mark.parametrize("shape", ["source", (97, 131), (700, 333), (30, 400)])
def test_any_picture_becomes_a_frame_with_black_bars(framing, shape):
    clip = np.stack([picture(*(framing.source if shape == "source" else shape), seed) for seed in range(2)])
    frames = framing.fit(clip)
    assert (frames.shape, frames.dtype) == ((2, *framing.frame_size, 3), np.uint8)
    inside = framing.unpad(frames)
    assert inside.shape[1:3] == framing.picture
    assert int(frames.sum(dtype=np.int64)) == int(inside.sum(dtype=np.int64))  # all outside is black
    assert inside.any(axis=-1).all()  # and nothing inside is
    np.testing.assert_array_equal(framing.fit(frames), frames)


def test_released_frames_are_320_by_512():
    assert {domain.framing.frame_size for domain in DOMAINS.values()} == {(320, 512)}
    assert DOMAINS["rt1"].framing.bars == (0, 0, 56, 56)
    assert DOMAINS["csgo"].framing.bars == (22, 23, 0, 0)
    assert DOMAINS["recon"].framing.bars == (0, 0, 96, 96)


def test_other_proportions_lose_their_margin_only():
    inner = picture(24, 20)
    for wider in (((0, 0), (7, 7), (0, 0)), ((9, 9), (0, 0), (0, 0))):
        np.testing.assert_array_equal(SMALL.fit(np.pad(inner, wider)[None]), SMALL.fit(inner[None]))


def test_framing_round_trips_and_fits_its_world():
    config = world_config(RT1_ACTIONS)
    assert from_dict(WorldConfig, json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ValueError, match=r"framing makes frames \(h, w\) of \(48, 48\)"):
        world_config(RT1_ACTIONS, frame_size=(64, 64))
    for wrong in ({"bars": (0, 0, 1)}, {"bars": (0, 0, 1, -1)}, {"picture": (0, 4)}):
        with pytest.raises(ValueError, match="framing needs"):
            from_dict(Framing, {**to_dict(SMALL), **wrong})
    for bad in (picture(), picture()[None] / 255, "clip.mp4", np.zeros((0, 4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="frames must"):
            SMALL.fit(bad)


@real_clips
@pytest.mark.parametrize("clip", ["18", "81"])
def test_csgo_frames_are_those_of_the_released_loader(clip):
    """The first frame of the small clips is the recording that the large ones show enlarged and padded."""
    facts = ((320, 512), 51, DOMAINS["csgo"].framing)
    ours = read_context(CLIPS / "csgo" / f"{clip}_fast.mp4", *facts).frames[0]
    theirs = read_context(CLIPS / "csgo" / f"{clip}_gt.mp4", *facts).frames[0]
    assert np.abs(ours.astype(int) - theirs).mean() < 2  # two rows or another interpolation: 4 and more


@real_clips
def test_rt1_clips_have_their_bars_where_the_framing_has_them():
    framing = DOMAINS["rt1"].framing
    for clip in sorted((CLIPS / "rt1").glob("*.mp4")):
        frame = read_context(clip, (320, 512), 13, framing).frames[0]
        assert framing.unpad(frame).max(axis=(0, 2)).min() > 16
        assert max(frame[:, :52].max(), frame[:, -52:].max()) < 16  # the video codec blurs the edge


# starts from outside

FACTS = (SIZE, 2, SMALL)


def write_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(seed=seed)[..., ::-1])


def fitted(*seeds):
    return SMALL.fit(np.stack([picture(seed=seed) for seed in seeds]))


def steps(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)


def test_images_of_a_folder_are_starts_and_sub_folders_clips(tmp_path):
    for i in (2, 10, 1):
        write_image(tmp_path / f"view{i}.png", i)
        write_image(tmp_path / "known" / f"{i}.png", i)
        write_image(tmp_path / "unknown" / f"{i}.png", i)
    np.save(tmp_path / "known" / "actions.npy", steps(2))
    (tmp_path / "notes.txt").write_text("not a start")
    starts = starts_from(str(tmp_path), *FACTS)
    assert starts.ids == ("known", "unknown", "view1", "view2", "view10")
    np.testing.assert_array_equal(starts.by_id("view10").frames, fitted(10))
    np.testing.assert_array_equal(starts.by_id("unknown").frames, fitted(1))
    known = starts.by_id("known")
    np.testing.assert_array_equal(known.frames, fitted(1, 2, 10))
    np.testing.assert_array_equal(known.actions, steps(2))
    assert starts_from(tmp_path / "known", *FACTS).ids == ("known",)
    shorter = starts_from(tmp_path / "known", *FACTS, length=2).by_id("known")
    np.testing.assert_array_equal(shorter.frames, fitted(1, 2))
    with pytest.raises(ValueError, match="too few for a context of 2 frames"):
        starts_from(tmp_path, *FACTS, length=2)


@pytest.mark.parametrize(("frames", "actions"), [("image", "action"), ("frames", "actions")])
def test_npz_drops_the_action_that_leads_out(tmp_path, frames, actions):
    clip = np.stack([picture(seed=seed) for seed in range(3)])
    for count in (2, 3):
        np.savez(tmp_path / "episode.npz", **{frames: clip, actions: steps(3)[:count]})
        context = read_context(tmp_path / "episode.npz", *FACTS)
        np.testing.assert_array_equal(context.frames, fitted(0, 1, 2))
        np.testing.assert_array_equal(context.actions, steps(3)[:2])
    np.savez(tmp_path / "episode.npz", **{frames: clip})
    assert len(read_context(tmp_path / "episode.npz", *FACTS).frames) == 1


@real_clips
def test_video_gives_as_many_frames_as_actions_lead_to():
    clip, facts = CLIPS / "rt1" / "00005316_gt.mp4", ((320, 512), 13, DOMAINS["rt1"].framing)
    first = read_context(clip, *facts)
    assert (first.id, first.frames.shape, first.actions.shape) == ("00005316_gt", (1, 320, 512, 3), (0, 13))
    three = read_context(clip, *facts, actions=np.zeros((2, 13)))
    assert three.frames.shape == (3, 320, 512, 3)
    np.testing.assert_array_equal(three.frames[0], first.frames[0])
    assert len(starts_from(CLIPS / "rt1", *facts)) == len(list((CLIPS / "rt1").glob("*.mp4")))
    with pytest.raises(ValueError, match="at most 16"):
        read_context(clip, *facts, actions=np.zeros((40, 13)))


def test_arrays_and_saved_starts(tmp_path):
    clip = np.stack([picture(seed=seed) for seed in range(3)])
    starts = starts_from(clip, *FACTS)
    assert starts.ids == ("0000", "0001", "0002")
    np.testing.assert_array_equal(starts.by_id("0002").frames, fitted(2))
    assert len(starts_from(clip[0], *FACTS)) == 1
    v2w_gym.StartContexts([v2w_gym.Context("a", clip, steps(2), 7)]).save(tmp_path)
    again = starts_from(tmp_path, *FACTS).by_id("a")
    assert again.seed == 7
    np.testing.assert_array_equal(again.frames, fitted(0, 1, 2))
    np.testing.assert_array_equal(again.actions, steps(2))


def test_starts_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected an image"):
        starts_from(tmp_path / "nowhere.mp4", *FACTS)
    with pytest.raises(ValueError, match="nothing to start from"):
        starts_from(tmp_path, *FACTS)
    for name in ("a.png", "a.mp4", "a.npz", "a.txt"):
        for content in (b"", b"PK\x03\x04 junk"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=f"{name} (is|holds)"):
                read_context(tmp_path / name, *FACTS)
    np.savez(tmp_path / "pickled.npz", image=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", pixels=picture())
    np.savez(tmp_path / "misfit.npz", image=picture()[None], action=np.zeros((1, 3)))
    for name, match in (("pickled", "plain arrays"), ("other", "holds pixels"), ("misfit", r"\(n, 2\)")):
        with pytest.raises(ValueError, match=match):
            read_context(tmp_path / f"{name}.npz", *FACTS)
    np.savez_compressed(tmp_path / "whole.npz", image=np.stack([picture(seed=s) for s in range(9)]))
    whole = (tmp_path / "whole.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + bytes(100) + whole[300:]):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            read_context(tmp_path / "damaged.npz", *FACTS)
    with pytest.raises(ValueError, match=r"cv2\.resize"):
        starts_from(picture(), SIZE, 2)  # no framing: the exact size only
    with pytest.raises(ValueError, match="finite"):
        read_context(np.stack([picture()] * 2), *FACTS, actions=np.full((1, 2), np.nan))


# environments


def test_check_env_finds_nothing(worlds, domain):
    """But that metres and radians are no -1..1, which is as it should be; ``RescaleAction`` makes them so."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*symmetric and normalized space")
        check_env(make(worlds[domain], render_mode="rgb_array").unwrapped)


def test_learners_that_want_normalised_actions_get_them(worlds):
    env, plain = (make(worlds["recon"], sampler={"steps": 1}) for _ in range(2))
    rescaled = gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    assert rescaled.action_space == gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
    frames = []
    for made, action in ((rescaled, np.ones(3, np.float32)), (plain, plain.action_space.high)):
        made.reset(seed=0)
        frames.append(made.step(action)[0]["pixels"])
    assert np.abs(np.subtract(*frames, dtype=int)).max() <= 1  # the wrapper computes in single precision


def test_slots_equal_single_environments(worlds, domain):
    single = make(worlds[domain])
    single.action_space.seed(1)
    actions = [single.action_space.sample() for _ in range(2)]
    envs = make_vec(worlds[domain])
    envs.reset(seed=[3, 4])
    seen = envs.step(stack(actions))[0]["pixels"]
    for i, action in enumerate(actions):
        single.reset(seed=3 + i)
        assert np.abs(single.step(action)[0]["pixels"].astype(int) - seen[i]).max() <= 1
    assert envs.action_space == batch_space(single.action_space, 2)


def test_starts_and_frames_of_any_size(worlds, tmp_path):
    np.savez(
        tmp_path / "clip.npz", image=np.stack([picture(seed=s) for s in range(3)]), action=np.zeros((3, 3))
    )
    env = make(worlds["recon"], starts=str(tmp_path / "clip.npz"))
    observation, info = env.reset(seed=0)
    assert (info["init_state"], info["frame_index"]) == ("clip", 2)
    np.testing.assert_array_equal(observation["pixels"], fitted(2)[0])
    early = make(worlds["recon"], starts=str(tmp_path / "clip.npz"), context_frames=1)
    np.testing.assert_array_equal(early.reset(seed=0)[0]["pixels"], fitted(0)[0])
    own = {"frames": np.stack([picture(30, 60), picture(30, 60, 1)]), "actions": np.full((1, 3), 5.0)}
    np.testing.assert_array_equal(
        env.reset(seed=0, options=own)[0]["pixels"], SMALL.fit(own["frames"])[1]
    )  # recordings may leave the range of the space
    envs = make_vec(worlds["csgo"], starts=picture())
    pixels = envs.reset(seed=0, options={"frames": [picture(30, 60)[None], None]})[0]["pixels"]
    np.testing.assert_array_equal(pixels, np.concatenate([SMALL.fit(picture(30, 60)[None]), fitted(0)]))


def test_recorded_vectors_between_frames_are_checked(worlds):
    env = make(worlds["csgo"])
    frames = np.stack([picture(), picture(seed=1)])
    env.reset(seed=0, options={"frames": frames, "actions": np.zeros((1, 51))})
    bad = {"frames": frames, "actions": np.full((1, 51), 0.5)}
    assert_undisturbed(env, press(), lambda env: env.reset(seed=9, options=bad), "0 or 1")
    for starts, match in (
        (frames / 255, "astype"),
        (frames[:, :, :0], "must end in"),
        (7, "must be a path"),
    ):
        with pytest.raises(ValueError, match=match):
            make(worlds["csgo"], starts=starts)


def test_bars_can_be_left_out_of_what_is_shown(worlds):
    for unpadded, shape in ((True, (48, 40, 3)), (False, (48, 48, 3))):
        env = make(worlds["rt1"], render_mode="rgb_array", unpadded=unpadded)
        pixels = env.reset(seed=0)[0]["pixels"]
        assert (pixels.shape, env.render().shape) == ((*SIZE, 3), shape)
        envs = make_vec(worlds["rt1"], render_mode="rgb_array", unpadded=unpadded)
        envs.reset(seed=0)
        assert [frame.shape for frame in envs.render()] == [shape] * 2
        assert envs.call("render")[1].shape == shape
    np.testing.assert_array_equal(SMALL.unpad(pixels), pixels[:, 4:-4])


def test_the_window_leaves_bars_out_too(worlds):
    pygame = pytest.importorskip("pygame")
    env = make(worlds["rt1"], render_mode="human", unpadded=True)
    pixels = env.reset(seed=0)[0]["pixels"]
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    np.testing.assert_array_equal(shown[::10, ::10], SMALL.unpad(pixels))
    env.close()


def test_a_world_without_starts_needs_them_only_when_it_must(worlds):
    env = make(worlds["rt1"], starts=None, disable_env_checker=True)
    for options in (None, {"start": "a"}):
        with pytest.raises(ValueError, match=r'ships no starts.*starts="clip\.mp4"'):
            env.reset(seed=0, options=options)
    own = {"frames": picture()[None]}
    np.testing.assert_array_equal(env.reset(seed=0, options=own)[0]["pixels"], fitted(0)[0])
    env.step(still("rt1"))
    with pytest.raises(FileNotFoundError, match="ships no starts"):
        v2w_gym.World.open(worlds["rt1"]).starts()
    with pytest.raises(ValueError, match='autoreset_mode="disabled"'):
        make_vec(worlds["rt1"], starts=None)
    envs = make_vec(worlds["rt1"], starts=None, autoreset_mode="disabled")
    envs.reset(seed=0, options={"frames": picture()[None, None].repeat(2, 0)})
    envs.step(stack([still("rt1")] * 2))


def test_nothing_succeeds_where_nothing_judges(worlds, tiny_world):
    env = make(worlds["rt1"], reward="dense")
    _, info = env.reset(seed=0)
    ends = []
    while not any(ends[-1:]):
        _, reward, terminated, truncated, info = env.step(still("rt1"))
        assert (reward, terminated, info["is_success"], info["judged"]) == (0.0, False, False, False)
        ends.append(truncated)
    assert len(ends) == 3
    judged = v2w_gym.WorldModelEnv(
        worlds["rt1"], starts=picture(), detector=v2w_gym.World.open(tiny_world).detector()
    )
    assert "judged" not in judged.reset(seed=0)[1]


@real_clips
@pytest.mark.parametrize(("name", "clip"), [("rt1", "rt1/00005316_gt.mp4"), ("csgo", "csgo/18_gt.mp4")])
def test_real_clips_start_episodes_at_full_size(tiny_model, name, clip):
    domain = DOMAINS[name]
    config = world_config(domain.action, frame_size=(320, 512), framing=domain.framing)
    env = v2w_gym.WorldModelEnv(
        v2w_gym.World(Path(), config),
        model=tiny_model(len(domain.action.names), (320, 512), None),
        starts=CLIPS / clip,
        unpadded=True,
        render_mode="rgb_array",
    )
    observation, info = env.reset(seed=0)
    assert info["init_state"] == Path(clip).stem
    assert observation["pixels"].shape == (320, 512, 3)
    assert env.render().shape[:2] == domain.framing.picture
    assert env.step(still(name))[0]["pixels"].shape == (320, 512, 3)
