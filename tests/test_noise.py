"""Noise belongs to the episode: a pure function of (episode seed, frame index, stream, denoising step)."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

import v2w_gym
from v2w_gym.world_model.diffusion import Diffusion
from v2w_gym.world_model.noise import STREAMS, noise
from v2w_gym.world_model.sampler import Sampler, SamplerConfig

EPISODES, STEPS = 4, 5  # the toy world gives 2 frames to start from, and its window is 4
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (STEPS, EPISODES, 4)).astype(np.float32)
TOLERANCE = 1e-5
"""Of the largest latent. Batches of another size take other kernels, which add in another order; measured on
a CPU are 1.5e-6 here and 2e-6 after 30 steps in the world of the package."""
EVERY_STREAM = {"eta": 1.0, "history_level": 200, "sample_posterior": True, "guidance_scale": 2.0}
SAMPLERS = {
    "one stream": {},
    "antithetic": {"first_noise": "antithetic"},
    "every stream": EVERY_STREAM,
    "recompute": EVERY_STREAM | {"history": "recompute"},
}


class Drawn:
    """A source of noise that notes what it gave for which (seed, frame, stream, step)."""

    def __init__(self):
        self.rows = {}

    def __call__(self, seeds, frames, stream, shape, step=0):
        given = noise(seeds, frames, stream, shape, step)
        pairs = zip(seeds.flatten().tolist(), frames.flatten().tolist(), strict=True)
        for (seed, frame), row in zip(pairs, given.reshape(-1, *shape), strict=True):
            assert torch.equal(self.rows.setdefault((seed, frame, stream, step), row), row)
        return given

    def of(self, seed):
        return {key[1:]: row for key, row in self.rows.items() if key[0] == seed}


class EndsOne:
    """Sees success in slot 0 from the third frame that is imagined."""

    threshold, hash = 0.5, "ends one"

    def __init__(self):
        self.calls = 0

    def reset(self, instruction, slots):
        pass

    def score(self, frames, slots):
        self.calls += 1
        return np.isin(slots, 0) * float(self.calls > 3)


class Run:
    """Some of the episodes side by side."""

    def __init__(self, tiny_world, episodes, sampler, **settings):
        self.episodes = list(episodes)
        self.envs = v2w_gym.WorldModelVectorEnv(
            len(self.episodes),
            tiny_world,
            autoreset_mode="disabled",
            sampler=sampler,
            **{"terminate_on_success": False} | settings,
        )
        self.envs.reset(seed=[100 + i for i in self.episodes])

    def step(self, actions):
        """Latent and frame of each episode."""
        frames = self.envs.step(actions[self.episodes])[0]["pixels"].astype(int)
        latents = self.envs.snapshot().state.latent
        return {i: (latents[row], frames[row]) for row, i in enumerate(self.episodes)}


@pytest.fixture(scope="module")
def together(tiny_world):
    """Each step's latent and frame of each episode, all of them in one batch."""
    found = {}

    def of(name):
        if name not in found:
            run = Run(tiny_world, range(EPISODES), SAMPLERS[name])
            found[name] = [run.step(row) for row in ACTIONS]
        return found[name]

    return of


def assert_same(one, other):
    for (latent, frame), (expected, image) in zip(one, other, strict=True):
        torch.testing.assert_close(latent, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))
        assert abs(frame - image).max() <= 1


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    "batches",
    [[[2, 0, 3, 1]], [[0, 1], [2, 3]], [[3]], [[2, 2]]],
    ids=["shuffled", "halves", "alone", "twice"],
)
def test_how_episodes_are_batched_changes_nothing(tiny_world, together, name, batches):
    for batch in batches:
        run = Run(tiny_world, batch, SAMPLERS[name])
        for row, expected in zip(ACTIONS, together(name), strict=True):
            found = run.step(row)
            assert_same([found[i] for i in batch], [expected[i] for i in batch])


@pytest.mark.parametrize("name", SAMPLERS)
def test_ends_and_resets_of_other_slots_change_nothing(tiny_world, together, name):
    settings = {"terminate_on_success": True, "detector": EndsOne()}
    run, undisturbed = Run(tiny_world, range(EPISODES), SAMPLERS[name], **settings), [2, 3]
    for t, (row, expected) in enumerate(zip(ACTIONS, together(name), strict=True)):
        found = run.step(row)
        assert_same([found[i] for i in undisturbed], [expected[i] for i in undisturbed])
        if t == 1:
            mask = np.isin(range(EPISODES), 1)
            run.envs.reset(seed=7, options={"reset_mask": mask, "task": "open the drawer"})
    held = run.envs.snapshot().episodes
    assert held.terminated.tolist() == [True, False, False, False]
    assert held.elapsed.tolist() == [3, 3, 5, 5]


@pytest.mark.parametrize("name", SAMPLERS)
def test_policies_with_the_same_noise_seed_meet_the_same_noise(tiny_world, name):
    """One acts in a batch among others, one alone; from one start with one noise seed."""
    drawn, frames = [], []
    for slots, slot in ((3, 1), (1, 0)):
        model = v2w_gym.Vid2World.from_pretrained(tiny_world, sampler=SAMPLERS[name])
        model.dynamics.sampler.source = source = Drawn()
        envs = v2w_gym.WorldModelVectorEnv(slots, tiny_world, model=model, terminate_on_success=False)
        seeds = [7, 8, 9][:slots]
        seeds[slot] = 123
        envs.reset(seed=slots, options={"start": "seed-0042", "noise_seed": seeds})
        for row in ACTIONS[:, :slots]:
            frames.append(envs.step(row)[0]["pixels"][slot])
        drawn.append(source.of(123))
    assert not np.array_equal(frames[0], frames[STEPS])  # they did not act alike
    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(row, drawn[1][key]) for key, row in drawn[0].items())
    given = {stream for _, stream, _ in drawn[0]}
    assert given == (set(STREAMS) if "eta" in SAMPLERS[name] else {"frame"})


def begins(kind, frames=33, slots=64):
    """``(slots, frames, 64)``, where each frame of each slot begins, as the network is first shown it."""
    sampler, shown = Sampler(Diffusion(), SamplerConfig(steps=1, first_noise=kind)), []

    def predict(z, level):
        shown.append(z[:, 0].flatten(1).clone())
        return torch.zeros_like(z), None

    for frame in range(frames):
        index = torch.full((slots,), frame)
        sampler.denoise(predict, torch.empty(slots, 4, 4, 4), torch.arange(slots), index)
    return torch.stack(shown, 1).double()


def test_antithetic_noise_is_taken_back_by_the_next_frame():
    begun = begins("antithetic")
    assert torch.equal(begun[:, 1::2], -begun[:, 0:-1:2])
    anew = begun[:, ::2]  # and is otherwise what independent noise is
    assert stats.kstest(anew.flatten().numpy(), "norm").pvalue > 1e-3
    for one, other in ((anew[:, 1:], anew[:, :-1]), (anew[1:], anew[:-1])):
        assert abs(float((one * other).mean())) < 4.5 / one.numel() ** 0.5
    plain = begins("independent")
    assert abs(float((plain[:, 1:] * plain[:, :-1]).mean())) < 4.5 / plain[:, 1:].numel() ** 0.5


def test_a_kind_of_noise_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r'first_noise must be "independent" or "antithetic", got \'fresh\''):
        SamplerConfig(first_noise="fresh")


def draw(seeds=256, frames=32, stream="frame", size=32, first=0, step=0):
    """``(seeds, frames, size)`` float64, of neighbouring seeds and frames."""
    seeds, frames = torch.arange(first, first + seeds), torch.arange(frames)
    grid = torch.broadcast_tensors(seeds[:, None], frames)
    return noise(*grid, stream, (size,), step).double()


def test_a_row_depends_on_its_own_seed_and_frame_only():
    seeds, frames = torch.tensor([3, -1, 2**31 - 1, 3, 0]), torch.tensor([0, 5, 1, 1, 10_000])
    rows = noise(seeds, frames, "history", (2, 3), step=4)
    assert rows.shape == (5, 2, 3)
    assert rows.dtype == torch.float32
    for i in range(5):
        assert torch.equal(noise(seeds[i : i + 1], frames[i : i + 1], "history", (2, 3), step=4)[0], rows[i])
        assert torch.equal(noise(seeds[i], frames[i], "history", (2, 3), step=4), rows[i])
    order = torch.tensor([4, 1, 1, 0])
    assert torch.equal(noise(seeds[order], frames[order], "history", (2, 3), step=4), rows[order])
    several = noise(seeds[:, None].expand(-1, 5), frames.expand(5, -1), "history", (2, 3), step=4)
    assert torch.equal(several.diagonal().movedim(-1, 0), rows)


def test_noise_is_unit_normal():
    drawn = draw().flatten()
    n = len(drawn)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((drawn**power).mean()) - moment) < 4 * (variance / n) ** 0.5
    assert stats.kstest(drawn.numpy(), "norm").pvalue > 1e-3
    assert 4.3 < float(drawn.abs().max()) < 6.5


def test_neighbours_are_unrelated():
    drawn = draw()
    others = {
        "next seed": (drawn[1:], drawn[:-1]),
        "next frame": (drawn[:, 1:], drawn[:, :-1]),
        "next component": (drawn[..., 1:], drawn[..., :-1]),
        "halves of a frame": drawn.chunk(2, dim=-1),
        "next seed, frame before": (drawn[1:, :-1], drawn[:-1, 1:]),
        "seed and frame exchanged": (drawn[:32, :32], drawn[:32, :32].transpose(0, 1).contiguous()),
        "next step": (drawn, draw(step=1)),
        "seed 2**31 further": (drawn, draw(first=2**31)),
        **{stream: (drawn, draw(stream=stream)) for stream in STREAMS if stream != "frame"},
    }
    for name, (one, other) in others.items():
        if name == "seed and frame exchanged":
            apart = ~torch.eye(32, dtype=torch.bool)
            one, other = one[apart], other[apart]
        n = one.numel()
        assert abs(float((one * other).mean())) < 4.5 / n**0.5, name
        assert abs(float(((one**2 - 1) * (other**2 - 1)).mean())) < 4.5 * 2 / n**0.5, name


def test_no_two_frames_share_their_noise():
    kinds = itertools.product(STREAMS, range(3))
    drawn = torch.cat([draw(64, 64, stream, 2, step=step).flatten(0, 1) for stream, step in kinds])
    assert len(drawn.unique(dim=0)) == len(drawn)
