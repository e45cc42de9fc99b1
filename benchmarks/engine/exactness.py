"""Whether stepping from the cache is the same function as running whole clips, measured."""

from __future__ import annotations

import dataclasses

import torch
from tensordict import TensorDict

from engine.bench import Bench
from engine.section import Figures
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.timeline import Stepping, clip


def without_cache(state: WorldState) -> WorldState:
    """The state as a model that recomputes its window knows it."""
    bare: WorldState = state.clone(recurse=False)  # type: ignore[attr-defined]  # tensorclass adds it
    bare.cache = TensorDict({}, batch_size=[len(state.seed)], device=state.seed.device)
    return bare


def against_recompute(bench: Bench, batch: int = 2) -> Figures:
    """Both ways of imagining, each fed its own frames, until the episode is as long as the window."""
    stream = bench.model.dynamics
    config = dataclasses.replace(stream.sampler.config, history="recompute")
    whole = LatentDynamics(bench.model.unet, stream.diffusion.config, config)
    one = bench.begin(batch)
    other, worst, largest = without_cache(one), 0.0, 0.0
    for t in range(bench.model.window - 1 - int(one.frame_index.max())):
        action = bench.tensor(bench.actions(batch, seed=t))
        one, other = stream.step(one, action), whole.step(other, action)
        worst = max(worst, float((one.latent - other.latent).abs().max()))
        largest = max(largest, float(other.latent.abs().max()))
    return {"cached_against_recompute_relative_error": worst / largest}


@torch.no_grad()
def against_parallel(bench: Bench, frames: int = 64) -> Figures:
    """One pass over many frames with the banded mask, against the same frames one by one."""
    model, begin, generator = bench.model, bench.begin(1), torch.Generator().manual_seed(0)
    latents = torch.randn(1, frames, *begin.first.shape[1:], generator=generator).to(bench.device)
    level = torch.randint(0, 1000, (1, frames), generator=generator).to(bench.device)
    actions = model.unet.leading.along(bench.tensor(bench.actions(frames)[None])[:, 1:])
    axis = clip(frames, model.window).to(latents.device)
    parallel = model.unet(latents, level, actions, None, begin.first, axis)
    cache, worst = begin.cache, 0.0
    for value in cache.values(include_nested=True, leaves_only=True):
        value.fill_(-1 if value.dtype == torch.int64 else 0)
    for t in range(frames):
        one, stepping = slice(t, t + 1), Stepping(cache, level.new_tensor([[t]]), keep=1)
        v = model.unet(latents[:, one], level[:, one], actions[:, one], None, begin.first, stepping)
        worst = max(worst, float((v[:, 0] - parallel[:, t]).abs().max()))
    return {"cached_against_parallel_relative_error": worst / float(parallel.abs().max())}
