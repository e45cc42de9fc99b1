"""Environments over worlds like the released ones: their actions, frames, starts, and no detector."""

import json
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector.utils import batch_space

import v2w_gym
from v2w_gym.config import from_dict, to_dict
from v2w_gym.data.framing import Framing
from v2w_gym.envs.arm import ArmActions, VectorArmActions, arm_spec
from v2w_gym.envs.domains import DOMAINS, RT1_ACTIONS
from v2w_gym.envs.keyboard import press
from v2w_gym.envs.world import DetectorSpec, WorldConfig
from v2w_gym.registration import GENERIC_ID

CLIPS = Path(__file__).parents[2] / "shared" / "data"
real_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"there are no recordings at {CLIPS}")
SIZE = (48, 48)
SMALL = Framing(source=(24, 20), picture=(48, 40), bars=(0, 0, 4, 4))


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


def fitted(*seeds):
    return SMALL.fit(np.stack([picture(seed=seed) for seed in seeds]))


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


# environments


def test_world_config_round_trips_and_its_facts_fit_each_other():
    config = world_config(RT1_ACTIONS)
    assert from_dict(WorldConfig, json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ValueError, match='"action_bound": null'):
        world_config(RT1_ACTIONS, action_bound=1.0)
    with pytest.raises(ValueError, match=r"framing makes frames \(h, w\) of \(48, 48\)"):
        world_config(RT1_ACTIONS, frame_size=(64, 64))


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
