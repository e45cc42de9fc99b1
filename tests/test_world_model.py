"""What the world model promises: causality, an exact cache, honest dropout and guidance, state as a value."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_gym.config import from_dict, to_dict
from v2w_gym.training.codec import CodecConfig, build
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.sampler import SamplerConfig
from v2w_gym.world_model.state import empty_cache
from v2w_gym.world_model.timeline import Stepping, clip, twin
from v2w_gym.world_model.unet import VideoUNet
from v2w_gym.world_model.vid2world import Vid2World

WINDOW, SIZE, ACTIONS = 5, 4, 3
TINY = {
    "latent_channels": 4,
    "action_dim": ACTIONS,
    "block_out_channels": (16, 32),
    "attention_head_dim": 8,
    "norm_num_groups": 8,
    "window": WINDOW,
}


def unet(**changes: object) -> VideoUNet:
    torch.manual_seed(0)
    network = VideoUNet(**{**TINY, **changes})
    for parameter in network.parameters():  # layers that start at zero would hide what they do
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.fixture(scope="module", params=[None, ((-2.0, 2.0), None, (-0.5, 0.5))], ids=["plain", "set point"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vid2World:
    """As it is read from a folder, its weights laid out as they are there."""
    codec = build(CodecConfig((), (), "", channels=(8, 8, 16), latent_channels=4))
    network = unet(set_point=request.param)
    made = Vid2World(codec, network, (16, 16), sampler=SamplerConfig(steps=2))
    made.save_pretrained(folder := tmp_path_factory.mktemp("model"))
    read = Vid2World.from_pretrained(folder)
    assert read.hash == made.hash
    return read


def clips(frames: int, batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, frames, 4, SIZE, SIZE, generator=generator)
    return {
        "latents": latents,
        "noise_level": torch.randint(0, 1000, (batch, frames), generator=generator),
        "actions": torch.rand(batch, frames, ACTIONS, generator=generator) * 2 - 1,
        "first": latents[:, 0].clone(),
    }


def run(network, time, *, kept=None, **inputs):
    with torch.no_grad():
        return network(action_kept=kept, time=time, **inputs)


def context(batch: int, frames: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (batch, frames, 16, 16, 3), dtype=np.uint8)
    return images, rng.uniform(-1, 1, (batch, frames - 1, ACTIONS)).astype(np.float32)


@pytest.mark.parametrize("changed", ["latents", "noise_level", "actions"])
def test_a_frame_never_changes_an_earlier_one(changed: str) -> None:
    network, inputs, j = unet(), clips(9), 4
    before = run(network, clip(9, WINDOW), **inputs)
    altered = {k: v.clone() for k, v in inputs.items()}
    altered[changed][:, j] = 7 if changed == "noise_level" else altered[changed][:, j] + 1.0
    after = run(network, clip(9, WINDOW), **altered)
    assert torch.equal(before[:, :j], after[:, :j])
    for i in range(j, 9):
        assert not torch.equal(before[:, i], after[:, i])


def test_the_non_causal_switch_lets_frames_look_ahead() -> None:
    network, inputs = unet(causal=False), clips(9)
    before = run(network, clip(9, WINDOW, causal=False), **inputs)
    inputs["latents"][:, 8] += 1.0
    after = run(network, clip(9, WINDOW, causal=False), **inputs)
    assert not torch.equal(before[:, 5], after[:, 5])


def test_cached_stepping_equals_the_parallel_forward_far_beyond_the_window() -> None:
    network, frames = unet(), 6 * WINDOW
    inputs = clips(frames)
    parallel = run(network, clip(frames, WINDOW), **inputs)
    cache = empty_cache(network, 2, SIZE, SIZE, torch.device("cpu"))
    for t in range(frames):
        one = {k: v if k == "first" else v[:, t : t + 1] for k, v in inputs.items()}
        for keep in (0, 1):  # passes before the last one must leave no trace
            stepped = run(network, Stepping(cache, torch.full((2, 1), t), keep), **one)
        torch.testing.assert_close(stepped[:, 0], parallel[:, t], rtol=1e-4, atol=1e-5)


def test_the_training_axis_equals_stepping() -> None:
    network, frames = unet(), 3 * WINDOW
    clean, noisy = clips(frames), clips(frames)
    noisy["latents"] = noisy["latents"].flip(1)
    names = ("latents", "noise_level", "actions")
    rows = {k: torch.cat([clean[k][:, :-1], noisy[k][:, 1:]], 1) for k in names}
    trained = run(network, twin(frames, WINDOW), first=clean["first"], **rows)[:, frames - 1 :]
    cache = empty_cache(network, 2, SIZE, SIZE, torch.device("cpu"))
    for t in range(1, frames):
        index = torch.tensor([t - 1, t]).expand(2, -1)
        both = {k: torch.stack([clean[k][:, t - 1], noisy[k][:, t]], 1) for k in names}
        stepped = run(network, Stepping(cache, index, 1), first=clean["first"], **both)
        torch.testing.assert_close(stepped[:, 1], trained[:, t - 1], rtol=1e-4, atol=1e-5)
        one = {k: noisy[k][:, t : t + 1] for k in names}
        again = run(network, Stepping(cache, index[:, 1:], 0), first=clean["first"], **one)
        torch.testing.assert_close(again[:, 0], trained[:, t - 1], rtol=1e-4, atol=1e-5)


def test_candidates_pass_together_as_if_each_were_alone_and_leave_no_trace() -> None:
    network, frames = unet(), 2 * WINDOW + 1
    inputs, others = clips(frames), clips(3)
    others["actions"] = others["actions"] * torch.tensor([1.0, -1.0, 0.3])[None, :, None]
    cache = empty_cache(network, 2, SIZE, SIZE, torch.device("cpu"))
    for t in range(frames - 1):
        one = {k: v if k == "first" else v[:, t : t + 1] for k, v in inputs.items()}
        run(network, Stepping(cache, torch.full((2, 1), t), 1), **one)
    newest = {k: v[:, -1:] for k, v in inputs.items() if k != "first"}
    candidates = {k: v for k, v in others.items() if k != "first"}
    alone, held = [], []
    for i in range(3):
        own, axis = cache.clone(), [frames - 1, frames]
        pair = {k: torch.cat([newest[k], candidates[k][:, i : i + 1]], 1) for k in newest}
        index = torch.tensor(axis).expand(2, -1)
        alone.append(run(network, Stepping(own, index, 1), first=inputs["first"], **pair)[:, 1])
        held.append(own)
    index = torch.tensor([frames - 1, *[frames] * 3]).expand(2, -1)
    all_at_once = {k: torch.cat([newest[k], candidates[k]], 1) for k in newest}
    together = run(network, Stepping(cache, index, 1), first=inputs["first"], **all_at_once)[:, 1:]
    torch.testing.assert_close(together, torch.stack(alone, 1), rtol=1e-4, atol=1e-5)
    for own in held:
        torch.testing.assert_close(dict(own.flatten_keys().items()), dict(cache.flatten_keys().items()))


def test_dropping_every_action_is_the_unconditional_branch() -> None:
    network, inputs, axis = unet(), clips(6), clip(6, WINDOW)
    dropped = run(network, axis, kept=torch.zeros(2, 6, dtype=torch.bool), **inputs)
    encoder, network.action_encoder = network.action_encoder, None
    assert torch.equal(dropped, run(network, axis, **inputs))
    network.action_encoder = encoder
    assert not torch.equal(dropped, run(network, axis, **inputs))


def test_guidance_drops_only_the_current_action(model: Vid2World) -> None:
    images, actions = context(2, 3)
    state = model.init(images, actions, [5, 6])
    action = np.full((2, ACTIONS), 0.5, dtype=np.float32)

    def stepped(scale: float) -> torch.Tensor:
        dynamics = LatentDynamics(model.unet, None, SamplerConfig(steps=1, guidance_scale=scale))
        return dynamics.step(state, torch.from_numpy(action)).latent

    conditional, unconditional, guided = stepped(1.0), stepped(0.0), stepped(2.5)
    torch.testing.assert_close(
        guided, unconditional + 2.5 * (conditional - unconditional), rtol=1e-4, atol=1e-4
    )
    other = model.init(images, -actions, [5, 6])
    assert not torch.equal(
        other.cache["down/0/0/temporal_conv/convs/0"], state.cache["down/0/0/temporal_conv/convs/0"]
    )


def test_noise_belongs_to_the_episode_not_to_the_slot(model: Vid2World) -> None:
    images, actions = context(4)
    action = np.linspace(-1, 1, 4 * ACTIONS, dtype=np.float32).reshape(4, ACTIONS)
    order = [2, 0, 3, 1]
    straight = model.step(model.init(images, actions, [1, 2, 3, 4]), action)
    shuffled = model.step(model.init(images[order], actions[order], [3, 1, 4, 2]), action[order])
    torch.testing.assert_close(shuffled.latent, straight.latent[order], rtol=1e-5, atol=1e-5)


def test_step_leaves_its_argument_alone_and_a_fork_shares_the_past(model: Vid2World) -> None:
    images, actions = context(1, 2)
    state = model.init(images, actions, [9])
    action = np.zeros((1, ACTIONS), dtype=np.float32)
    first, again = model.step(state, action), model.step(state, action)
    assert torch.equal(first.latent, again.latent)
    fork = state[torch.zeros(2, dtype=torch.long)].clone()
    fork.seed[1] = 10
    branches = model.step(fork, action.repeat(2, 0))
    torch.testing.assert_close(branches.latent[0], first.latent[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(branches.latent[1], first.latent[0])


def test_slots_of_different_age_step_in_one_batch(model: Vid2World) -> None:
    images, actions = context(2)
    action = np.full((1, ACTIONS), 0.3, dtype=np.float32)
    old = model.init(images[:1], actions[:1], [1])
    for _ in range(WINDOW + 2):
        old = model.step(old, action)
    both = torch.cat([old, model.init(images[1:], actions[1:], [2])])
    stepped = model.step(both, action.repeat(2, 0))
    torch.testing.assert_close(stepped.latent[0], model.step(old, action).latent[0], rtol=1e-4, atol=1e-5)
    assert stepped.frame_index.tolist() == [WINDOW + 3, 1]


def test_save_then_load_gives_the_same_frames(model: Vid2World, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = Vid2World.from_pretrained(tmp_path)
    assert loaded.hash == model.hash
    images, actions = context(1)
    action = np.zeros((1, ACTIONS), dtype=np.float32)
    frames = [m.decode(m.step(m.init(images, actions, [1]), action).latent) for m in (model, loaded)]
    assert torch.equal(*frames)
    config = json.loads((tmp_path / "unet" / "config.json").read_text())
    assert config["window"] == WINDOW
    assert config["temporal_norm"] == "frame"


def test_sampler_settings_round_trip_and_unknown_ones_are_refused(tmp_path: Path, model: Vid2World) -> None:
    config = SamplerConfig(steps=3, guidance_scale=2.0)
    assert from_dict(SamplerConfig, to_dict(config)) == config
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'guidance_scale'"):
        Vid2World.from_pretrained(tmp_path, sampler={"guidance_scal": 2.0})


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((2, ACTIONS + 1)), "shape"),
        (np.full((2, ACTIONS), np.nan), "finite"),
        (np.full((2, ACTIONS), np.inf), "finite"),
        (np.full((2, ACTIONS), 1.5), "clip it first"),
        ("left", "numbers"),
    ],
)
def test_a_bad_action_raises_and_changes_nothing(model: Vid2World, action: object, message: str) -> None:
    images, actions = context(2)
    state = model.init(images, actions, [1, 2])
    before = state.clone()
    with pytest.raises(ValueError, match=message):
        model.step(state, action)
    assert bool((state == before).all())


def test_bad_context_says_what_was_expected(model: Vid2World) -> None:
    images, actions = context(2)
    with pytest.raises(ValueError, match="uint8"):
        model.init(images.astype(np.float32), actions, [1, 2])
    with pytest.raises(ValueError, match=r"\(16, 16, 3\)"):
        model.init(images[:, :, :8], actions, [1, 2])
    with pytest.raises(ValueError, match="one seed per slot"):
        model.init(images, actions, [1])
