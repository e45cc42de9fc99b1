"""The vector environment equals single environments, slot by slot and call by call."""

import gymnasium
import numpy as np
import pytest
from alike import assert_alike
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import v2w_gym
from v2w_gym.registration import GENERIC_ID

SLOTS = 4


def make(tiny_world, slots=SLOTS, **settings):
    return gymnasium.make_vec(GENERIC_ID, num_envs=slots, world=str(tiny_world), **settings)


def make_sync(tiny_world, mode, **settings):
    def one():
        return v2w_gym.WorldModelEnv(tiny_world, **settings)

    return SyncVectorEnv([one] * SLOTS, autoreset_mode=mode)


def draw_actions(steps, slots=SLOTS, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, slots, 4)).astype(np.float32)


@pytest.mark.parametrize("seed", [7, [3, 1, 4, 1]])
def test_slot_equals_single_env_with_the_same_seed(tiny_world, seed):
    envs = make(tiny_world, terminate_on_success=False)
    single = v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False)
    actions = draw_actions(5)
    seeds = seed if isinstance(seed, list) else [seed + i for i in range(SLOTS)]
    observations = [envs.reset(seed=seed)[0]["pixels"]]
    infos = []
    for row in actions:
        observation, *_, info = envs.step(row)
        observations.append(observation["pixels"])
        infos.append(info)
    for slot in range(SLOTS):
        assert_alike(observations[0][slot], single.reset(seed=seeds[slot])[0]["pixels"])
        for t, row in enumerate(actions):
            observation, *_, info = single.step(row[slot])
            assert_alike(observations[t + 1][slot], observation["pixels"])
            assert infos[t]["init_state"][slot] == info["init_state"]
            assert infos[t]["success_prob"][slot] == pytest.approx(info["success_prob"], abs=0.02)


def test_shuffling_slots_changes_nothing(tiny_world):
    order = np.array([2, 0, 3, 1])
    seeds = [11, 12, 13, 14]
    actions = draw_actions(5)
    straight, shuffled = make(tiny_world), make(tiny_world)
    before = straight.reset(seed=seeds)[0]["pixels"]
    after = shuffled.reset(seed=[seeds[i] for i in order])[0]["pixels"]
    np.testing.assert_array_equal(before[order], after)
    for row in actions:
        a, b = straight.step(row), shuffled.step(row[order])
        assert_alike(a[0]["pixels"][order], b[0]["pixels"])
        for mine, other in zip(a[1:4], b[1:4], strict=True):
            np.testing.assert_array_equal(mine[order], other)


@pytest.mark.parametrize(
    ("mode", "obs_type"),
    [*((mode, "dict") for mode in AutoresetMode), (AutoresetMode.SAME_STEP, "pixels")],
)
def test_autoreset_equals_sync_vector_env(tiny_world, mode, obs_type):
    ours = make(tiny_world, autoreset_mode=mode.name.lower(), obs_type=obs_type)
    theirs = make_sync(tiny_world, mode, obs_type=obs_type)
    assert ours.autoreset_mode is ours.metadata["autoreset_mode"] is mode
    for mine, other in zip(ours.reset(seed=5), theirs.reset(seed=5), strict=True):
        assert_alike(mine, other)
    endings = 0
    for row in draw_actions(9):
        results = ours.step(row), theirs.step(row)
        for mine, other in zip(*results, strict=True):
            assert_alike(mine, other)
        over = results[0][2] | results[0][3]
        endings += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            resets = (env.reset(options={"reset_mask": over.copy()}) for env in (ours, theirs))
            for mine, other in zip(*resets, strict=True):
                assert_alike(mine, other)
    assert endings > SLOTS  # the comparison met episodes that ended early and late
    for name in ("task", "task_description", "_max_episode_steps", "np_random_seed", "render_mode"):
        assert ours.get_attr(name) == theirs.get_attr(name)


@pytest.mark.slow
@pytest.mark.parametrize("mode", AutoresetMode)
def test_resets_by_seed_and_mask_equal_sync_vector_env(tiny_world, mode):
    ours = make(tiny_world, autoreset_mode=mode.name.lower())
    theirs = make_sync(tiny_world, mode)
    actions = iter(draw_actions(20, seed=1))

    def reset(seed=None, **options):
        both = (env.reset(seed=seed, options=dict(options)) for env in (ours, theirs))
        for mine, other in zip(*both, strict=True):
            assert_alike(mine, other)

    def step():
        results = ours.step(row := next(actions)), theirs.step(row)
        for mine, other in zip(*results, strict=True):
            assert_alike(mine, other)
        over = results[0][2] | results[0][3]
        if mode is AutoresetMode.DISABLED and over.any():
            reset(reset_mask=over)

    reset(7)
    step()
    reset([9, None, 4, None])  # two start anew from a seed, two go on with their generators
    step()
    for mask in ([True, False, True, False], [False, True, True, True]):
        reset(reset_mask=np.array(mask))
        step()
        reset(3, reset_mask=np.array(mask))
        step()
        reset([None, 8, None, 2], reset_mask=np.array(mask), task="open the drawer", start="seed-0042")
        step()
    assert ours.get_attr("np_random_seed") == theirs.get_attr("np_random_seed")


def test_slots_of_unlike_age_start_and_instruction_share_a_batch(tiny_world):
    settings = {"terminate_on_success": False, "reward": "dense"}
    envs = make(tiny_world, autoreset_mode="disabled", **settings).unwrapped
    singles = [v2w_gym.WorldModelEnv(tiny_world, **settings) for _ in range(SLOTS)]
    tasks, starts = ["close the drawer", "open the drawer"] * 2, ["seed-0007", "seed-0042", None, "seed-0099"]
    actions = iter(draw_actions(8))

    def begin(slots, seed):
        options = {"task": tasks, "start": starts, "noise_seed": [seed + i for i in range(SLOTS)]}
        mask = np.isin(range(SLOTS), slots)
        envs.reset(seed=seed, options=options | {"reset_mask": mask})
        for i in slots:
            own = {key: values[i] for key, values in options.items()}
            singles[i].reset(seed=seed + i, options=own)

    def step():
        observation, rewards, _, _, infos = envs.step(row := next(actions))
        for i, single in enumerate(singles):
            frame, reward, _, _, info = single.step(row[i])
            assert_alike(observation["pixels"][i], frame["pixels"])
            assert_alike(float(rewards[i]), reward)
            assert_alike({key: infos[key][i : i + 1].tolist()[0] for key in info}, info)
        return infos["elapsed_steps"].tolist()

    begin(range(SLOTS), seed=0)
    assert step() == [1, 1, 1, 1]
    kept = singles[3].snapshot()
    begin([1, 3], seed=5)
    assert step() == [2, 1, 2, 1]
    envs.restore(kept, [0])
    singles[0].restore(kept)
    assert step() == [2, 2, 3, 2]
    begin([2], seed=9)
    assert [step(), step()] == [[3, 3, 1, 3], [4, 4, 2, 4]]  # beyond the window in some, not in others


class CountingModel:
    """A world model that notes how many slots each step denoises."""

    def __init__(self, model):
        self._model = model
        self.batches = []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def step(self, state, action):
        self.batches.append(len(action))
        return self._model.step(state, action)


def test_finished_slots_stand_still_and_cost_nothing(tiny_world):
    model = CountingModel(v2w_gym.World.open(tiny_world).model())
    envs = v2w_gym.WorldModelVectorEnv(SLOTS, tiny_world, autoreset_mode="disabled", model=model)
    envs.reset(seed=5)
    running, frames = np.ones(SLOTS, bool), None
    for row in draw_actions(6):
        expected = running.sum()
        observation, rewards, terminated, truncated, _ = envs.step(row)
        assert model.batches[-1] == expected
        if frames is not None:
            np.testing.assert_array_equal(observation["pixels"][~running], frames[~running])
        assert not rewards[~running].any()
        assert (terminated | truncated)[~running].all()
        running, frames = ~(terminated | truncated), observation["pixels"]
        if not running.any():
            break
    assert min(model.batches) < SLOTS
    with pytest.raises(gymnasium.error.ResetNeeded, match="every episode has ended"):
        envs.step(draw_actions(1)[0])


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_only_running_episodes_are_denoised(tiny_world, mode):
    model = CountingModel(v2w_gym.World.open(tiny_world).model())
    envs = v2w_gym.WorldModelVectorEnv(SLOTS, tiny_world, autoreset_mode=mode, model=model)
    envs.reset(seed=5)
    expected, running = [], np.ones(SLOTS, bool)
    for row in draw_actions(8):
        expected += [running.sum()] if running.any() else []
        _, _, terminated, truncated, _ = envs.step(row)
        running = ~(terminated | truncated) | (mode == "same_step")
    assert model.batches == expected
    assert (min(expected) < SLOTS) == (mode == "next_step")


def test_reset_mask_leaves_the_others_alone(tiny_world):
    envs = make(tiny_world, autoreset_mode="disabled", terminate_on_success=False)
    envs.reset(seed=0)
    row = draw_actions(1)[0]
    before = envs.step(row)[0]["pixels"]
    mask = np.array([False, True, False, True])
    options = {"reset_mask": mask, "start": [None, "seed-0007", None, "seed-0042"]}
    observation, infos = envs.reset(options=options)
    np.testing.assert_array_equal(observation["pixels"][~mask], before[~mask])
    np.testing.assert_array_equal(infos["_init_state"], mask)
    assert infos["init_state"].tolist() == [None, "seed-0007", None, "seed-0042"]
    assert envs.step(row)[4]["elapsed_steps"].tolist() == [2, 1, 2, 1]


def test_options_have_a_leading_slot_axis(tiny_world):
    envs = make(tiny_world, slots=2, terminate_on_success=False)
    starts = v2w_gym.World.open(tiny_world).starts()
    ids, noise = ["seed-0099", "seed-0042"], [5, 6]
    actions = draw_actions(3, slots=2)
    contexts = [starts.by_id(id) for id in ids]
    own = {
        "frames": np.stack([c.frames for c in contexts]),
        "actions": np.stack([c.actions for c in contexts]),
    }
    by_id = envs.reset(seed=0, options={"start": ids, "noise_seed": noise, "task": "open the drawer"})
    first = [envs.step(row)[0]["pixels"] for row in actions]
    assert by_id[1]["task"].tolist() == ["open the drawer"] * 2
    envs.reset(seed=1, options={**own, "noise_seed": noise})
    np.testing.assert_array_equal(first, [envs.step(row)[0]["pixels"] for row in actions])
    envs.reset(seed=2, options={"start": "seed-0042", "noise_seed": 6})
    both = [envs.step(row[[1, 1]])[0]["pixels"] for row in actions]
    assert_alike(np.stack(both)[:, 0], np.stack(both)[:, 1])


def test_contexts_of_unequal_length(tiny_world):
    envs = make(tiny_world, slots=2, terminate_on_success=False)
    context = v2w_gym.World.open(tiny_world).starts().by_id("seed-0042")
    options = {
        "frames": [context.frames, context.frames[-1:]],
        "actions": [context.actions, context.actions[:0]],
    }
    observation, infos = envs.reset(seed=0, options=options)
    np.testing.assert_array_equal(observation["pixels"][0], observation["pixels"][1])
    assert infos["frame_index"].tolist() == [1, 0]
    assert envs.step(draw_actions(1, slots=2)[0])[4]["frame_index"].tolist() == [2, 1]


def test_max_episode_steps_shortens_only(tiny_world):
    assert make(tiny_world, max_episode_steps=4).get_attr("_max_episode_steps") == (4,) * SLOTS
    assert make(tiny_world, max_episode_steps=99).get_attr("_max_episode_steps") == (6,) * SLOTS
    assert make(tiny_world, max_episode_steps=-1).get_attr("_max_episode_steps") == (6,) * SLOTS


def test_attributes_by_name(tiny_world):
    envs = make(tiny_world, slots=2, render_mode="rgb_array")
    observation, _ = envs.reset(seed=0, options={"task": ["open the drawer", "close the drawer"]})
    assert envs.call("task_description") == ("open the drawer", "close the drawer")
    for frames in (envs.render(), envs.call("render")):
        np.testing.assert_array_equal(np.stack(frames), observation["pixels"])
    assert envs.get_attr("action_space") == (envs.single_action_space,) * 2
    envs.set_attr("nickname", ["a", "b"])
    assert envs.get_attr("nickname") == ("a", "b")
    with pytest.raises(AttributeError, match="fixed at construction"):
        envs.set_attr("horizon", 3)
    with pytest.raises(ValueError, match="2 values"):
        envs.set_attr("nickname", ["a"])
    envs.close()
    envs.close()


def test_attributes_as_in_sync_vector_env(tiny_world):
    both = (
        make(tiny_world, render_mode="rgb_array"),
        make_sync(tiny_world, AutoresetMode.SAME_STEP, render_mode="rgb_array"),
    )
    seen = []
    for envs in both:
        envs.reset(seed=0, options={"task": "open the drawer"})
        envs.set_attr("label", "one for all")
        envs.set_attr("number", (0, 1, 2, 3))
        envs.set_attr("callback", [str.upper] * SLOTS)
        names = ("label", "number", "task", "observation_space", "action_space")
        seen.append([envs.get_attr(name) for name in names] + [envs.call("callback", "a"), envs.call("task")])
        assert_alike(envs.call("render"), tuple(envs.render()))
        with pytest.raises(AttributeError, match="nothing"):
            envs.get_attr("nothing")
        with pytest.raises(ValueError, match="3"):
            envs.set_attr("label", ["a", "b", "c"])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_gymnasium_statistics_wrapper_counts_episodes(tiny_world, mode):
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(
        make(tiny_world, slots=2, autoreset_mode=mode, terminate_on_success=False, reward="dense")
    )
    envs.reset(seed=0)
    lengths = []
    for row in draw_actions(6, slots=2):
        *_, infos = envs.step(row)
        if "episode" in infos:
            lengths += infos["episode"]["l"].tolist()
    assert lengths == [6, 6]


def test_results_are_fresh_objects(tiny_world):
    envs = make(tiny_world, terminate_on_success=False)
    first, _ = envs.reset(seed=0)
    kept = first["pixels"].copy()
    results = [envs.step(row) for row in draw_actions(2)]
    np.testing.assert_array_equal(first["pixels"], kept)
    assert not np.shares_memory(results[0][0]["pixels"], results[1][0]["pixels"])
    assert not np.shares_memory(results[0][2], results[1][2])
