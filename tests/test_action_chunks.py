"""Chunks of actions: what is done of them, when a slot asks again, and slots that stay apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w_gym.policies import Policy
from v2w_gym.policies.chunks import Chunked

N, A = 5, 3


class Planned:
    """Chunks that tell where they came from: (what the frame shows, slot's episode, how far ahead)."""

    def __init__(self, length=N):
        self.length, self.asked, self.episodes, self.seeds = length, [], {}, None

    def seed(self, seeds):
        self.seeds = list(seeds)

    def reset(self, instruction, slots):
        for text, slot in zip(instruction, slots, strict=True):
            self.episodes[slot] = text

    def chunk(self, observation, slots):
        assert len(observation["pixels"]) == len(slots)
        self.asked.append(list(slots))
        shown = observation["pixels"][:, 0, 0, 0].astype(float)
        words = [float(self.episodes.get(slot, 0)) for slot in slots]
        return np.array(
            [[(x, word, ahead) for ahead in range(self.length)] for x, word in zip(shown, words, strict=True)]
        )


def pixels(values):
    return {"pixels": np.asarray(values, np.uint8)[:, None, None, None].repeat(3, axis=-1)}


def play(policy, film):
    """Actions ``(f, b, a)`` for a film ``(f, b)`` of grey frames."""
    return np.stack([policy.act(pixels(values)) for values in film])


def test_it_is_a_policy():
    assert isinstance(Chunked(Planned(), execute=1), Policy)


def test_executing_whole_chunks_is_open_loop():
    film = np.arange(15)[:, None]
    actions = play(Chunked(Planned(), execute=N), film)[:, 0]
    np.testing.assert_array_equal(actions[:, 2], np.arange(15) % N)
    np.testing.assert_array_equal(actions[:, 0], np.arange(15) // N * N)


def test_receding_horizon_asks_again_and_drops_the_rest():
    source = Planned()
    actions = play(Chunked(source, execute=2), np.arange(7)[:, None])[:, 0]
    np.testing.assert_array_equal(actions[:, 0], [0, 0, 2, 2, 4, 4, 6])
    np.testing.assert_array_equal(actions[:, 2], [0, 1, 0, 1, 0, 1, 0])
    assert source.asked == [[0]] * 4


@pytest.mark.parametrize("execute", [1, 2])
def test_ensembling_weights_the_oldest_first(execute):
    m, film = 0.3, np.arange(9)[:, None]
    actions = play(Chunked(Planned(), execute=execute, ensemble=m), film)[:, 0]
    for t in range(9):
        asked = np.array([s for s in range(0, t + 1, execute) if t - s < N], float)  # oldest first
        weights = np.exp(-m * np.arange(len(asked)))
        wanted = [(weights * asked).sum() / weights.sum(), 0, (weights * (t - asked)).sum() / weights.sum()]
        np.testing.assert_allclose(actions[t], wanted, rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, N), st.floats(-400, 400), st.lists(st.floats(-1, 1, width=32), min_size=A, max_size=A))
def test_ensembling_constant_chunks_returns_them(execute, m, action):
    class Constant:
        def chunk(self, observation, slots):
            return np.tile(action, (len(slots), N, 1))

    actions = play(Chunked(Constant(), execute=execute, ensemble=m), np.zeros((12, 2)))
    np.testing.assert_allclose(actions, np.tile(np.float32(action), (12, 2, 1)), rtol=1e-6, atol=1e-30)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_slots_do_not_influence_one_another(data):
    """Slots that begin anew at different steps act as each would alone."""
    slots, steps = data.draw(st.integers(2, 4)), 12
    execute, ensemble = data.draw(st.integers(1, N)), data.draw(st.sampled_from([None, 0.0, 0.1]))
    resets = data.draw(st.lists(st.sets(st.integers(0, slots - 1)), min_size=steps, max_size=steps))
    film = np.random.default_rng(0).integers(0, 256, (steps, slots))
    source = Planned()
    together = Chunked(source, execute=execute, ensemble=ensemble)
    alone = [Chunked(Planned(), execute=execute, ensemble=ensemble) for _ in range(slots)]
    for t in range(steps):
        again = sorted(resets[t])
        together.reset([str(t)] * len(again), again)
        for slot in again:
            alone[slot].reset([str(t)], [0])
        actions = together.act(pixels(film[t]))
        single = np.concatenate([alone[slot].act(pixels(film[t, [slot]])) for slot in range(slots)])
        np.testing.assert_array_equal(actions, single)
    for slot in range(slots):
        assert sum(slot in asked for asked in source.asked) == len(alone[slot].source.asked)


def test_only_slots_that_need_a_chunk_are_asked():
    source = Planned()
    policy = Chunked(source, execute=4)
    policy.reset(["1"] * 3, [0, 1, 2])
    policy.act(pixels([1, 2, 3]))
    policy.reset(["2"], [1])
    policy.act(pixels([4, 5, 6]))
    assert source.asked == [[0, 1, 2], [1]]


def test_seeds_are_passed_through_and_need_not_be_wanted():
    source = Planned()
    Chunked(source, execute=1).seed([3, 4])
    assert source.seeds == [3, 4]

    class Bare:
        def chunk(self, observation, slots):
            return np.zeros((len(slots), N, A))

    policy = Chunked(Bare(), execute=1)
    policy.seed([1])
    policy.reset(["go"], [0])
    assert policy.act(pixels([0])).shape == (1, A)


def test_cameras_by_name_and_lists_are_cut_to_the_slots_that_ask():
    seen = []

    class Looks:
        def chunk(self, observation, slots):
            seen.append(observation)
            return np.zeros((len(slots), 2, A))

    policy = Chunked(Looks(), execute=2)
    frames = np.arange(2)
    observation = {"pixels": {"top": frames, "wrist": frames + 10}, "task": ["left", "right"]}
    policy.act(observation)
    policy.reset(["right"], [1])
    policy.act(observation)
    assert seen[1]["task"] == ["right"]
    assert seen[1]["pixels"]["wrist"].tolist() == [11]


@pytest.mark.parametrize("bad", [np.zeros((1, N)), np.zeros((2, N, A)), np.zeros((1, 0, A)), "chunk"])
def test_what_is_no_chunk_is_refused(bad):
    class Bad:
        def chunk(self, observation, slots):
            return bad

    with pytest.raises(ValueError, match="chunk"):
        Chunked(Bad(), execute=1).act(pixels([0]))


def test_chunks_shorter_than_what_is_executed_are_refused_with_the_line_that_fits():
    with pytest.raises(ValueError, match=r"execute=8 needs chunks.*got 5; lower it: execute=5"):
        Chunked(Planned(), execute=8).act(pixels([0]))


@pytest.mark.parametrize("execute", [0, -1, 1.5, True])
def test_a_number_of_steps_that_is_none_is_refused(execute):
    with pytest.raises(ValueError, match="execute"):
        Chunked(Planned(), execute=execute)


def test_an_ensemble_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="ensemble"):
        Chunked(Planned(), execute=1, ensemble=float("nan"))


def test_a_source_that_fails_leaves_every_slot_as_it_was():
    source = Planned()
    policy, film = Chunked(source, execute=2), np.arange(5)[:, None]
    before = play(policy, film[:2])
    working = source.chunk

    def broken(observation, slots):
        raise TimeoutError

    source.chunk = broken
    with pytest.raises(TimeoutError):
        policy.act(pixels(film[2]))
    source.chunk = working
    whole = play(Chunked(Planned(), execute=2), film)
    np.testing.assert_array_equal(np.concatenate([before, play(policy, film[2:])]), whole)
