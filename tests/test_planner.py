"""The planner: a search that finds what is best, a memory that begins where the world is, and its seeds."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from v2w_gym import policies
from v2w_gym.envs.world import World
from v2w_gym.policies.cem import Search, search
from v2w_gym.policies.contract import ContractMismatch, check_contract
from v2w_gym.policies.foresight import Foresight
from v2w_gym.policies.planner import FOLDER, Planner, PlannerConfig

TASK = "close the drawer"


def generators(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


# the search


def peak(best):
    """A score that is highest at ``best`` ``(b, k, a)``."""
    return lambda candidates: -np.square(candidates - best[:, None]).sum(axis=(2, 3))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_it_finds_the_best_sequence(seed):
    best = np.random.default_rng(seed).uniform(-0.9, 0.9, (2, 2, 3))
    numbers = Search(samples=64, elites=8, generations=8, std=0.8, min_std=0.01)
    found, scores = search(numbers, peak(best), np.zeros_like(best), generators(1, 2))
    assert scores.min() > -0.25  # 0.2 off in each of six numbers; the middle scores -1.6 in the mean
    np.testing.assert_allclose(scores, peak(best)(found[:, None])[:, 0])


def test_what_it_begins_from_and_what_it_found_compete():
    """So no generation of a fixed score ends worse than the one before."""
    best, numbers = np.full((1, 3, 2), 0.3), Search(samples=4, elites=2, generations=1, std=1.0, min_std=0.1)
    start = best + 0.01
    found, _ = search(numbers, peak(best), start, generators(0))
    np.testing.assert_array_equal(found, start)
    reached = [
        search(dataclasses.replace(numbers, generations=n), peak(best), start * 0, generators(0))[1]
        for n in (1, 2, 4, 8)
    ]
    assert reached == sorted(reached)


def test_searches_side_by_side_keep_apart():
    best = np.random.default_rng(0).uniform(-1, 1, (3, 2, 2))
    numbers = Search(samples=8, elites=2, generations=3, std=1.0, min_std=0.1)
    together, _ = search(numbers, peak(best), np.zeros_like(best), generators(4, 5, 6))
    alone, _ = search(numbers, peak(best[1:2]), np.zeros((1, 2, 2)), generators(5))
    np.testing.assert_array_equal(together[1:2], alone)
    assert np.abs(together).max() <= 1.0


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"elites": 30}, "elites"),
        ({"samples": 1, "elites": 1}, "samples >= 2"),
        ({"generations": 0}, "generations"),
        ({"min_std": 2.0}, "min_std <= std"),
        ({"hold": 5}, "multiples of hold"),
        ({"execute": 32}, "more than the plan's horizon"),
        ({"penalty": -1.0}, "penalty"),
        ({"history": 0}, "history"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(wrong, what):
    with pytest.raises(ValueError, match=what):
        PlannerConfig(**wrong)


# in a world


@pytest.fixture(scope="module")
def config(tiny_world):
    return PlannerConfig(
        str(tiny_world), samples=3, elites=2, generations=2, horizon=4, hold=2, execute=2, min_std=0.1
    )


def envs_of(world, slots):
    made = gym.make_vec(
        "v2w_gym:Vid2World-v0",
        num_envs=slots,
        world=str(world),
        autoreset_mode="disabled",
        terminate_on_success=False,
    )
    return made.unwrapped


def play(planner, envs, seeds, steps=3):
    """Actions ``(f, b, a)``, each slot from the start that its seed draws."""
    observation, _ = envs.reset(seed=list(seeds))
    planner.seed(seeds)
    planner.reset([TASK] * len(seeds), range(len(seeds)))
    actions = []
    for _ in range(steps):
        actions.append(planner.act(observation))
        observation, *_ = envs.step(actions[-1])
    return np.stack(actions)


@pytest.mark.slow
def test_same_seeds_same_plans_and_slots_keep_apart(tiny_world, config):
    planner = Planner(config)
    assert isinstance(planner, policies.Policy)
    actions = play(planner, envs_of(tiny_world, 2), [3, 4])
    assert actions.shape == (3, 2, 4)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1.0
    np.testing.assert_array_equal(actions[0], actions[1])  # held
    assert not np.allclose(actions[1], actions[2])
    np.testing.assert_array_equal(play(planner, envs_of(tiny_world, 2), [3, 4]), actions)
    np.testing.assert_allclose(play(Planner(config), envs_of(tiny_world, 1), [4]), actions[:, 1:], atol=1e-5)
    assert not np.allclose(play(planner, envs_of(tiny_world, 1), [5])[0], actions[0, 1])


def test_sequences_alike_score_alike_within_a_generation(config):
    foresight = Foresight(config.world)
    first = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), dtype=np.uint8)
    state = foresight.begin([first, first], [np.zeros((0, 4), np.float32)] * 2, [TASK] * 2)
    sequence = np.random.default_rng(1).uniform(-1, 1, (1, 1, 3, 4))
    scores = foresight.score(state, sequence.repeat(2, axis=0).repeat(2, axis=1), [7, 8])
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], atol=1e-6)
    assert abs(scores[0, 0] - scores[1, 0]) > 1e-6  # other noise, other scores
    assert ((scores >= 0) & (scores <= 1)).all()


def test_noise_in_what_was_seen_repeats(config):
    first = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), dtype=np.uint8)
    scores = []
    for _ in range(2):
        foresight = Foresight(config.world, sampler={"sample_posterior": True})
        state = foresight.begin([first], [np.zeros((0, 4), np.float32)], [TASK])
        scores.append(foresight.score(state, np.zeros((1, 1, 2, 4)), [7])[0, 0])
    assert scores[0] == scores[1]


def test_it_thinks_from_all_that_it_has_seen_and_done(tiny_world, config, monkeypatch):
    begun = []
    begin = Foresight.begin

    def spied(self, frames, actions, tasks):
        begun.append((frames, actions, tasks))
        return begin(self, frames, actions, tasks)

    monkeypatch.setattr(Foresight, "begin", spied)
    planner, envs = Planner(dataclasses.replace(config, history=3)), envs_of(tiny_world, 1)
    observation, _ = envs.reset(seed=0)
    planner.reset([TASK], [0])
    shown, done = [], []
    for _ in range(5):
        shown.append(observation["pixels"][0])
        done.append(planner.act(observation)[0])
        observation, *_ = envs.step(done[-1][None])
    for (frames, actions, tasks), step in zip(begun, (0, 2, 4), strict=True):
        first = max(0, step - 2)
        np.testing.assert_array_equal(frames[0], shown[first : step + 1])
        np.testing.assert_array_equal(actions[0], np.reshape(done[first:step], (-1, 4)))
        assert tasks == [TASK]
    planner.reset([TASK], [0])
    planner.act(observation)
    assert len(begun[-1][0][0]) == 1


def test_a_world_of_other_actions_than_it_thinks_in_is_refused(tiny_world, config):
    planner, world = Planner(config), World.open(tiny_world).config
    assert "normaliser" not in check_contract(planner, world)
    wider = dataclasses.replace(world.action, low=(-2.0,) * 4, high=(2.0,) * 4)
    with pytest.raises(ContractMismatch, match="normaliser: got bounds"):
        check_contract(planner, dataclasses.replace(world, action=wider))


def test_a_plan_is_moved_on_and_competes(tiny_world, config):
    planner, envs = Planner(config), envs_of(tiny_world, 1)
    play(planner, envs, [1], steps=1)
    plan = planner._thoughts._plans[0]
    start = planner._thoughts._start(0)
    np.testing.assert_array_equal(start[:1], plan[1:])
    assert not start[1:].any()


@pytest.mark.slow
def test_with_privilege_it_thinks_from_the_very_state(tiny_world, config):
    envs, asked = envs_of(tiny_world, 2), []

    def snapshot(slots):
        asked.append(slots)
        return envs.snapshot(slots)

    planner = Planner(config, privileged=snapshot)
    actions = play(planner, envs, [3, 4], steps=2)
    assert asked == [[0, 1]]
    before = envs.snapshot()
    planner.act({"pixels": np.zeros((2, 48, 48, 3), np.uint8)})
    np.testing.assert_array_equal(envs.snapshot().episodes.frames, before.episodes.frames)
    assert not np.allclose(actions[0, 0], actions[0, 1])


def test_a_penalty_needs_a_world_that_can_tell(config):
    foresight = Foresight(config.world, penalty=0.5)
    first = np.zeros((1, 48, 48, 3), np.uint8)
    state = foresight.begin([first], [np.zeros((0, 4), np.float32)], [TASK])
    with pytest.raises(ValueError, match=r"'tiny' cannot tell.*penalty=0"):
        foresight.score(state, np.zeros((1, 1, 1, 4)), [1])


@pytest.mark.slow
def test_a_penalty_is_what_is_not_credible():
    world, zeros = PlannerConfig().world, np.zeros((1, 2, 2, 4))
    scores = []
    for penalty in (0.0, 0.5, 1.0):
        foresight = Foresight(world, penalty=penalty)
        noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
        state = foresight.begin([noise], [np.zeros((0, 4), np.float32)], [TASK])
        scores.append(foresight.score(state, zeros, [1]))
    assert (scores[0] - scores[1] > 0.05).all()
    np.testing.assert_allclose(scores[0] - scores[2], 2 * (scores[0] - scores[1]), atol=1e-6)


@pytest.mark.slow
def test_it_closes_the_drawer_in_the_shipped_world():
    config = PlannerConfig(samples=16, horizon=12, execute=4)
    envs, succeeded = envs_of(config.world, 2), np.zeros(2, bool)
    planner = Planner(config)
    observation, _ = envs.reset(seed=[100, 101])
    planner.seed([0, 1])
    planner.reset([TASK] * 2, [0, 1])
    for _ in range(12):
        observation, _, _, _, infos = envs.step(planner.act(observation))
        succeeded |= infos["is_success"]
    assert succeeded.all()


@pytest.mark.parametrize("name", [file.stem for file in FOLDER.glob("*.yaml")])
def test_every_named_budget_can_be_had(name, tiny_world):
    assert policies.resolve(f"planner:{name},world={tiny_world}").config.world == str(tiny_world)


def test_it_is_named_by_a_text(tiny_world, tmp_path):
    planner = policies.resolve(f"planner:world={tiny_world},samples=5,elites=2")
    assert (planner.config.samples, planner.config.elites) == (5, 2)
    (tmp_path / "small.yaml").write_text(f"world: {tiny_world}\nsamples: 6\n")
    planner = policies.resolve(f"planner:{tmp_path}/small.yaml,samples=7")
    assert (planner.config.samples, planner.config.world) == (7, str(tiny_world))
    (tmp_path / "broken.yaml").write_text("samples: [")
    (tmp_path / "list.yaml").write_text("- samples")
    for spec, what in (
        (f"planner:{tmp_path}/broken.yaml", "neither JSON nor YAML"),
        (f"planner:{tmp_path}/list.yaml", "must hold a mapping"),
        ("planner:sample=3", "did you mean 'samples'"),
        ("planner:world=nowhere", "no world 'nowhere'"),
        ("planner:nothing.yaml", "no file nothing.yaml"),
    ):
        with pytest.raises(ValueError, match=f"policy '{spec}.*{what}"):
            policies.resolve(spec)
