"""What it would save, and cost, to keep a frame's features from its last denoising step.

The engine lets every finished frame pass through the network once more, beside its successor, because what
later frames read must be features of the finished frame. The last denoising step computes features of nearly
the same frame: with noise in it. This keeps those instead, and measures how far the frames then stray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from engine.bench import Bench
from engine.clock import Call, in_turns
from engine.section import Figures, Rows, Section
from v2w_gym.evaluation.metrics import psnr
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.stream import Stream
from v2w_gym.world_model.timeline import Stepping

BATCH, FRAMES = 32, 16


class Fused(Stream):
    """Keeps each frame as its last denoising step sees it. The cache it is given holds the newest frame."""

    def imagine(self, state: WorldState, action: torch.Tensor) -> torch.Tensor:
        """See ``Stream``."""
        index = state.frame_index[:, None] + 1
        kept = torch.ones_like(index, dtype=torch.bool)

        def predict(z: torch.Tensor, level: int) -> tuple[torch.Tensor, None]:
            axis = Stepping(state.cache, index, keep=int(level == self.sampler.levels[-1]))
            levels = torch.full_like(index, level)
            return self.network(z, levels, action[:, None], kept, state.first, axis, None), None

        return self.sampler.denoise(predict, state.latent, state.seed, state.frame_index + 1)


def measure(bench: Bench) -> Figures:
    figures: Figures = {}
    for steps in (1, 2, 4):
        usual, fused = (_dynamics(bench, steps) for _ in range(2))
        fused.history = Fused(fused.history.network, fused.sampler)
        state, strayed = bench.begin(BATCH), bench.begin(BATCH)
        fused.history.remember(strayed)
        errors, action = [], bench.tensor(bench.actions(BATCH))
        for t in range(FRAMES):
            moved = bench.tensor(bench.actions(BATCH, seed=t))
            state, strayed = usual.step(state, moved), fused.step(strayed, moved)
            frames = (bench.model.decode(s.latent).cpu().numpy() for s in (state, strayed))
            errors.append(psnr(*frames).mean())
        calls: dict[str, Call] = {
            "usual": partial(usual.step, state, action),
            "fused": partial(fused.step, strayed, action),
        }
        turns = in_turns(calls, bench.rounds, 4.0)
        figures[f"usual_over_fused_steps_{steps}_ratio"] = turns.ratio("usual", "fused")
        figures[f"fused_against_usual_steps_{steps}_psnr_db"] = float(np.mean(errors))
    return figures


def _dynamics(bench: Bench, steps: int) -> LatentDynamics:
    used = bench.model.dynamics
    config = dataclasses.replace(used.sampler.config, steps=steps, guidance_scale=1.0)
    return LatentDynamics(bench.model.unet, used.diffusion.config, config)


def rows(figures: Mapping[str, float]) -> Rows:
    table = [["denoising steps", "usual over fused", "frames of the two alike"]]
    for steps in (1, 2, 4):
        ratio = figures[f"usual_over_fused_steps_{steps}_ratio"]
        alike = figures[f"fused_against_usual_steps_{steps}_psnr_db"]
        table.append([str(steps), f"{ratio:.2f}", f"{alike:.1f} dB"])
    return table


SECTION = Section(
    "fused",
    "Keeping a frame's features from its last denoising step instead of from a pass of its own",
    measure,
    rows,
    note=f"Not an option of the sampler. {FRAMES} frames of {BATCH} slots with random actions, mean PSNR of\n"
    "one way against the other; two ways that differ by rounding alone are above 60 dB.",
)
