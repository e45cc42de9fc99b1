"""A chunk of actions is the same steps one after the other, for one episode."""

import gymnasium
import numpy as np
import pytest
from alike import assert_same
from gymnasium.vector.utils import concatenate, create_empty_array

import v2w_gym
from v2w_gym.arrays import OnHost
from v2w_gym.envs.actions import actions_of
from v2w_gym.envs.chunk import encode_chunk
from v2w_gym.envs.domains import CSGO_ACTIONS, RECON_ACTIONS

SLOTS, HORIZON = 5, 6
STEPS = ("pixels", "terminated", "truncated", "success_prob")


def draw(steps, slots=SLOTS, seed=0):
    """``(slots, steps, 4)``."""
    return np.random.default_rng(seed).uniform(-1, 1, (slots, steps, 4)).astype(np.float32)


def make(tiny_world, mode="disabled", **settings):
    envs = v2w_gym.WorldModelVectorEnv(SLOTS, tiny_world, autoreset_mode=mode, **settings)
    envs.reset(seed=5)
    return envs


def go_on(envs, actions):
    """Single steps, those of ended episodes ignored: rewards, what happened, the last result."""
    rewards, steps, executed = [], {key: [] for key in STEPS}, np.zeros(len(actions), int)
    for k in range(actions.shape[1]):
        executed += ~envs._imagination.ended
        if envs._imagination.ended.all():  # a single step would refuse
            rewards.append(np.zeros(len(actions)))
            for values in steps.values():
                values.append(values[-1])
            continue
        observation, reward, terminated, truncated, infos = result = envs.step(actions[:, k])
        rewards.append(reward)
        now = (observation["pixels"], terminated, truncated, infos["success_prob"])
        for values, value in zip(steps.values(), now, strict=True):
            values.append(value)
    return np.stack(rewards, 1), {k: np.stack(v, 1) for k, v in steps.items()}, executed, result


@pytest.mark.parametrize("lengths", [(2, 4), (8,)])
@pytest.mark.parametrize("settings", [{}, {"reward": "dense", "terminate_on_success": False}])
def test_a_chunk_is_its_single_steps(tiny_world, lengths, settings):
    chunked, stepped = make(tiny_world, **settings), make(tiny_world, **settings)
    ended_inside = 0
    for i, k in enumerate(lengths):
        actions = draw(k, seed=i)
        observation, rewards, terminated, truncated, infos = chunked.step_chunk(actions)
        expected, steps, executed, last = go_on(stepped, actions)
        chunk = infos.pop("chunk")
        assert rewards.shape == (SLOTS, k)
        assert rewards.dtype == np.float64
        np.testing.assert_array_equal(rewards, expected)
        assert chunk.pop("executed").tolist() == executed.tolist()
        assert_same(chunk, steps)
        assert chunk["pixels"].shape == (SLOTS, k, *chunked.world.frame_size, 3)
        assert_same((terminated, truncated), last[2:4])
        assert_same(observation, last[0])
        assert_same(infos, last[4])
        ended_inside += (executed < k).sum()
    if sum(lengths) > HORIZON:
        assert ended_inside >= SLOTS


def test_slots_that_end_inside_stand_still_and_cost_nothing(tiny_world):
    class Counting:
        """Notes how many slots each step denoises."""

        def __init__(self, model):
            self.model, self.batches = model, []

        def __getattr__(self, name):
            return getattr(self.model, name)

        def step(self, state, action):
            self.batches.append(len(action))
            return self.model.step(state, action)

    model = Counting(v2w_gym.World.open(tiny_world).model())
    envs = make(tiny_world, model=model)
    _, rewards, terminated, truncated, infos = envs.step_chunk(draw(8))
    chunk = infos["chunk"]
    executed = chunk["executed"]
    assert (terminated | truncated).all()
    assert terminated.any()
    assert len(set(executed.tolist())) > 1  # else nothing was tested
    assert executed.max() <= HORIZON
    assert sum(model.batches) == executed.sum()
    assert model.batches == [int((executed > k).sum()) for k in range(executed.max())]
    for slot, taken in enumerate(executed):
        ended = chunk["terminated"][slot] | chunk["truncated"][slot]
        assert ended.tolist() == [False] * (taken - 1) + [True] * (8 - taken + 1)
        assert (chunk["pixels"][slot, taken:] == chunk["pixels"][slot, taken - 1]).all()
        assert not rewards[slot, taken:].any()


def test_same_step_resets_after_the_chunk(tiny_world):
    ours, plain = make(tiny_world, "same_step"), make(tiny_world)
    endings = 0
    for i in range(4):
        actions = draw(3, seed=i)
        mine, other = ours.step_chunk(actions), plain.step_chunk(actions)
        for a, b in zip(mine[1:4], other[1:4], strict=True):
            assert_same(a, b)
        assert_same(mine[4]["chunk"], other[4]["chunk"])
        over = other[2] | other[3]
        endings += over.sum()
        observation = other[0]
        if over.any():
            assert mine[4]["_final_obs"].tolist() == over.tolist()
            for slot in np.flatnonzero(over):
                np.testing.assert_array_equal(mine[4]["final_obs"][slot]["pixels"], other[0]["pixels"][slot])
                for key, values in mine[4]["final_info"].items():
                    assert values[slot] == (True if key.startswith("_") else other[4][key][slot])
            observation, infos = plain.reset(options={"reset_mask": over})
            assert mine[4]["init_state"][over].tolist() == infos["init_state"][over].tolist()
        assert_same(mine[0], observation)
    assert endings > SLOTS


def test_next_step_makes_the_chunk_after_the_end_the_reset(tiny_world):
    ours, plain = make(tiny_world, "next_step"), make(tiny_world)
    over, resets = np.zeros(SLOTS, bool), 0
    for i in range(5):
        actions = draw(3, seed=i)
        before = over
        observation, rewards, terminated, truncated, infos = ours.step_chunk(actions)
        chunk, over = infos["chunk"], terminated | truncated
        if before.any():
            first, _ = plain.reset(options={"reset_mask": before})
            assert not chunk["executed"][before].any()
            assert not rewards[before].any()
            assert not over[before].any()
            assert (infos["elapsed_steps"][before] == 0).all()
            for k in range(3):
                np.testing.assert_array_equal(chunk["pixels"][before, k], first["pixels"][before])
            resets += before.sum()
        going = [i for i in range(SLOTS) if not before[i]]
        plain._imagination.step(going, encoded_rows(plain, actions[going, 0]))  # the others wait
        for k in (1, 2):
            live = [i for i in going if not plain._imagination.ended[i]]
            if live:
                plain._imagination.step(live, encoded_rows(plain, actions[live, k]))
        np.testing.assert_array_equal(observation["pixels"], plain._imagination.frames)
        np.testing.assert_array_equal(over, plain._imagination.ended)
    assert resets > SLOTS


def encoded_rows(envs, actions):
    from v2w_gym.envs.actions import encoded

    return encoded(envs._parts.actions, actions, (len(actions),), OnHost())


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_chunks_of_one_are_steps(tiny_world, mode):
    chunked, stepped = make(tiny_world, mode), make(tiny_world, mode)
    for k in range(HORIZON + 2):
        actions = draw(1, seed=k)
        observation, rewards, *flags, infos = chunked.step_chunk(actions)
        expected = stepped.step(actions[:, 0])
        del infos["chunk"]
        assert_same([observation, rewards[:, 0], *flags, infos], list(expected))


def test_slot_equals_single_env(tiny_world):
    envs = make(tiny_world)
    actions = draw(8)
    observation, rewards, terminated, truncated, infos = envs.step_chunk(actions)
    single = v2w_gym.WorldModelEnv(tiny_world)
    for slot in range(SLOTS):
        single.reset(seed=5 + slot)
        mine = single.step_chunk(actions[slot])
        assert np.abs(mine[0]["pixels"].astype(int) - observation["pixels"][slot]).max() <= 1
        np.testing.assert_allclose(mine[1], rewards[slot], atol=0.02)
        assert mine[2:4] == (terminated[slot], truncated[slot])
        assert mine[4]["chunk"]["executed"] == infos["chunk"]["executed"][slot]
        for key in STEPS:
            assert mine[4]["chunk"][key].shape == infos["chunk"][key][slot].shape


def test_single_env_chunk_is_its_steps(tiny_world):
    with (
        v2w_gym.WorldModelEnv(tiny_world, reward="dense") as chunked,
        v2w_gym.WorldModelEnv(tiny_world, reward="dense") as stepped,
    ):
        for seed in range(4):
            actions = draw(8, 1, seed)[0]
            chunked.reset(seed=seed), stepped.reset(seed=seed)
            observation, rewards, terminated, truncated, info = chunked.step_chunk(actions)
            assert type(terminated) is type(truncated) is bool
            chunk = info.pop("chunk")
            for k in range(chunk["executed"]):
                last = stepped.step(actions[k])
                np.testing.assert_array_equal(chunk["pixels"][k], last[0]["pixels"])
                assert (rewards[k], chunk["terminated"][k], chunk["truncated"][k]) == last[1:4]
                assert chunk["success_prob"][k] == last[4]["success_prob"]
            assert_same([observation, terminated, truncated, info], [last[0], *last[2:]])
            assert not rewards[chunk["executed"] :].any()
            for env in (chunked, stepped):
                with pytest.raises(gymnasium.error.ResetNeeded, match="has ended"):
                    env.step_chunk(actions)


@pytest.mark.parametrize("bad", [np.nan, 1.5])
def test_a_bad_action_anywhere_leaves_all_episodes_alone(tiny_world, bad):
    envs, untouched = make(tiny_world, "next_step"), make(tiny_world, "next_step")
    actions = draw(3)
    envs.step_chunk(actions), untouched.step_chunk(actions)
    spoilt = draw(3, seed=1)
    spoilt[-1, -1, -1] = bad
    with pytest.raises(ValueError, match=r"gripper|finite"):
        envs.step_chunk(spoilt)
    for shape in ((SLOTS, 3, 5), (SLOTS, 4), (SLOTS - 1, 3, 4), (SLOTS, 0, 4), (4,)):
        with pytest.raises(ValueError, match="shape"):
            envs.step_chunk(np.zeros(shape, np.float32))
    assert_same(list(envs.step_chunk(actions)), list(untouched.step_chunk(actions)))


def test_there_must_be_an_episode(tiny_world):
    with pytest.raises(gymnasium.error.ResetNeeded, match="no episode yet"):
        v2w_gym.WorldModelEnv(tiny_world).step_chunk(draw(2)[0])
    with pytest.raises(gymnasium.error.ResetNeeded, match="no episode yet"):
        v2w_gym.WorldModelVectorEnv(SLOTS, tiny_world).step_chunk(draw(2))
    envs = make(tiny_world)
    envs.step_chunk(draw(HORIZON))
    with pytest.raises(gymnasium.error.ResetNeeded, match="every episode has ended"):
        envs.step_chunk(draw(2))


@pytest.mark.parametrize("spec", [CSGO_ACTIONS, RECON_ACTIONS], ids=["keyboard", "metric"])
def test_every_kind_of_action_comes_in_chunks(spec):
    kind = actions_of(spec)
    kind.space.seed(0)
    drawn = [[kind.space.sample() for _ in range(3)] for _ in range(2)]

    def batched(space, items):
        return concatenate(space, items, create_empty_array(space, len(items)))

    rows = [batched(kind.space, row) for row in drawn]
    if isinstance(rows[0], dict):
        chunk = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    else:
        chunk = np.stack(rows)
    expected = [[kind.encode(action) for action in row] for row in drawn]
    np.testing.assert_array_equal(encode_chunk(kind, chunk, (2,), OnHost()), expected)
    one = {name: values[0] for name, values in chunk.items()} if isinstance(chunk, dict) else chunk[0]
    np.testing.assert_array_equal(encode_chunk(kind, one, (), OnHost()), expected[0])
    with pytest.raises(ValueError, match="leading axes"):
        encode_chunk(kind, {} if isinstance(chunk, dict) else 0.0, (2,), OnHost())
