"""Measure the engine, side by side in one run: ``python benchmarks/run.py --json figures.json``.

Prints and writes one flat JSON object; every key says its unit. Ratios are medians of interleaved pairs, so a
machine that slows down slows both sides.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict

from v2w_gym.envs.world import World
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.timeline import Stepping, clip
from v2w_gym.world_model.vid2world import Vid2World

Figures = dict[str, float]


def seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def paired(a: Callable[[], object], b: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median seconds of ``a``, of ``b``, and the median of their ratio, pair by pair."""
    a(), b()
    pairs = [(seconds(a), seconds(b)) for _ in range(rounds)]
    ratio = statistics.median(x / y for x, y in pairs)
    return statistics.median(x for x, _ in pairs), statistics.median(y for _, y in pairs), ratio


def starting_state(model: Vid2World, world: World, batch: int) -> WorldState:
    starts = world.starts()
    frames = np.stack([starts.by_id(starts.ids[i % len(starts)]).frames for i in range(batch)])
    return model.init(frames, np.zeros((batch, frames.shape[1] - 1, model.action_dim)), list(range(batch)))


def age(model: Vid2World, state: WorldState, frames: int) -> WorldState:
    rng = np.random.default_rng(0)
    for _ in range(frames):
        state = model.step(state, rng.uniform(-1, 1, (len(state.seed), model.action_dim)))
    return state


def latency_over_time(model: Vid2World, world: World, rounds: int) -> Figures:
    young = age(model, starting_state(model, world, 1), 10)
    old = age(model, young, 490)
    action = np.zeros((1, model.action_dim))
    b, a, ratio = paired(lambda: model.step(old, action), lambda: model.step(young, action), rounds)
    return {"step_frame_10_ms": 1e3 * a, "step_frame_500_ms": 1e3 * b, "step_frame_500_over_10_ratio": ratio}


def cache_against_recompute(model: Vid2World, world: World, batch: int, rounds: int) -> Figures:
    """One step of the same weights, reading the cache or running the whole window at every denoising step."""
    config = dataclasses.replace(model.dynamics.sampler.config, history="recompute")
    whole = LatentDynamics(model.unet, model.dynamics.diffusion.config, config)
    cached = age(model, starting_state(model, world, batch), model.window)
    ring = dataclasses.replace(cached, cache=TensorDict({}, batch_size=[batch]))
    action = torch.zeros(batch, model.action_dim)
    slow, fast, ratio = paired(
        lambda: whole.step(ring, action), lambda: model.dynamics.step(cached, action), rounds
    )
    return {
        f"recompute_batch_{batch}_ms_per_frame": 1e3 * slow / batch,
        f"cached_batch_{batch}_ms_per_frame": 1e3 * fast / batch,
        f"recompute_over_cached_batch_{batch}_ratio": ratio,
    }


@torch.no_grad()
def cache_error(model: Vid2World, world: World, frames: int = 64) -> Figures:
    """Largest difference of cached stepping and one banded parallel forward, over the largest output."""
    first = starting_state(model, world, 1).first
    shape = (1, frames, *first.shape[1:])
    latents, level = torch.randn(shape), torch.randint(0, 1000, (1, frames))
    actions = torch.rand(1, frames, model.action_dim) * 2 - 1
    parallel = model.unet(latents, level, actions, None, first, clip(frames, model.window))
    cache, worst = starting_state(model, world, 1).cache, 0.0
    for value in cache.values(include_nested=True, leaves_only=True):
        value.fill_(-1 if value.dtype == torch.int64 else 0)
    for t in range(frames):
        axis = Stepping(cache, torch.tensor([[t]]), keep=1)
        one = model.unet(latents[:, t : t + 1], level[:, t : t + 1], actions[:, t : t + 1], None, first, axis)
        worst = max(worst, float((one[:, 0] - parallel[:, t]).abs().max()))
    return {"cached_against_parallel_relative_error": worst / float(parallel.abs().max())}


def steps_per_second(model: Vid2World, world: World, batch: int, rounds: int) -> Figures:
    state, action = starting_state(model, world, batch), np.zeros((batch, model.action_dim))

    def step() -> torch.Tensor:
        return model.decode(model.step(state, action).latent)

    step()
    return {f"env_steps_batch_{batch}_per_s": batch / statistics.median(seconds(step) for _ in range(rounds))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    world = World.open(arguments.world)
    model = world.model()
    assert isinstance(model, Vid2World)
    figures: Figures = {
        "threads": torch.get_num_threads(),
        "denoising_steps": len(model.dynamics.sampler.levels),
    }
    figures |= cache_error(model, world)
    figures |= latency_over_time(model, world, arguments.rounds)
    figures |= cache_against_recompute(model, world, 16, arguments.rounds)
    for batch in (1, 16, 32):
        figures |= steps_per_second(model, world, batch, arguments.rounds)
    text = json.dumps({key: round(value, 7) for key, value in figures.items()}, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
