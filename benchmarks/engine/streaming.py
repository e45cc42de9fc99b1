"""Streaming against recomputing the window: one frame more of the same episode, by the same weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from engine.bench import Bench
from engine.clock import in_turns
from engine.exactness import against_parallel, against_recompute, without_cache
from engine.section import Bar, Figures, Rows, Section
from v2w_gym.world_model.dynamics import LatentDynamics
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.unet import VideoUNet

WINDOWS = (4, 8, 16, 32)
LIMIT_S = 4.0  # per comparison; three rounds are made in any case


def measure(bench: Bench) -> Figures:
    own, figures = bench.model.window, against_recompute(bench) | against_parallel(bench)
    windows = sorted({own, 4} if bench.quick else {own, *WINDOWS})
    steps = sorted({bench.steps} if bench.quick else {bench.steps, 2, 4})
    for window in windows:
        unet = bench.model.unet if window == own else with_window(bench.model.unet, window)
        old = _old(bench, unet, window)
        for count in steps:
            usual = window == own and count == bench.steps
            for batch in (1, 16, 32) if usual else bench.batches:
                found = _compare(bench, unet, old, count, batch)
                figures |= {f"{k}_window_{window}_steps_{count}_{v}": x for (k, v), x in found.items()}
                if usual:
                    figures |= {f"{k}_{v}": x for (k, v), x in found.items()}
    return figures


def with_window(unet: VideoUNet, window: int) -> VideoUNet:
    """The same network with another window, its tables of distances fitted.

    Only the time it takes is of interest, and time does not depend on what weights are.
    """
    other: VideoUNet = VideoUNet.from_config({**unet.config, "window": window}).eval()
    weights = unet.state_dict()
    for name in [name for name in weights if name.endswith("distance_bias")]:
        weights[name] = _fitted(weights[name], window)
    other.load_state_dict(weights, assign=True)
    return other


def _fitted(table: torch.Tensor, window: int) -> torch.Tensor:
    """A table ``(heads, 2 window - 1)``, distance 0 in its middle, cut or gone on at random."""
    known = (table.shape[1] + 1) // 2
    near = min(window, known)
    fitted = torch.randn(len(table), 2 * window - 1).to(table)
    fitted[:, window - near : window + near - 1] = table[:, known - near : known + near - 1]
    return fitted


def _dynamics(bench: Bench, unet: VideoUNet, **sampler: Any) -> LatentDynamics:
    used = bench.model.dynamics
    config = dataclasses.replace(used.sampler.config, window=None, **sampler)
    return LatentDynamics(unet, used.diffusion.config, config)


def _old(bench: Bench, unet: VideoUNet, frames: int) -> WorldState:
    """One episode, older than its window."""
    dynamics, begin = _dynamics(bench, unet, steps=1), bench.begin(1)
    no_actions = torch.zeros(1, 0, bench.model.action_dim, device=bench.device)
    state = dynamics.init(begin.latent[:, None], no_actions, [0])
    for t in range(frames):
        state = dynamics.step(state, bench.tensor(bench.actions(1, seed=t)))
    return state


def _compare(
    bench: Bench, unet: VideoUNet, old: WorldState, steps: int, batch: int
) -> dict[tuple[str, str], float]:
    stream, whole = (_dynamics(bench, unet, steps=steps, history=h) for h in ("stream", "recompute"))
    state: WorldState = old[[0] * batch]  # type: ignore[index]  # tensorclass adds it
    bare = without_cache(state)
    action = bench.tensor(bench.actions(batch))
    calls = {"cached": lambda: stream.step(state, action), "recompute": lambda: whole.step(bare, action)}
    turns = in_turns(calls, bench.rounds, LIMIT_S)
    return {
        ("recompute", f"batch_{batch}_ms_per_frame"): turns.ms("recompute") / batch,
        ("cached", f"batch_{batch}_ms_per_frame"): turns.ms("cached") / batch,
        ("recompute_over_cached", f"batch_{batch}_ratio"): turns.ratio("recompute", "cached"),
    }


def rows(figures: Mapping[str, float]) -> Rows:
    end = "_batch_1_ratio"
    keys = [k.removesuffix(end).split("_") for k in figures if k.endswith(end) and "_window_" in k]
    places = sorted({(int(k[4]), int(k[6])) for k in keys})
    head = ["window", "steps", "", "batch 1: recompute", "streaming", "ratio"]
    table = [[*head, "", "batch 32: recompute", "streaming", "ratio"]]
    for window, steps in places:
        row = [str(window), str(steps)]
        for batch in (1, 32):
            at = f"window_{window}_steps_{steps}_batch_{batch}"
            times = (figures[f"{way}_{at}_ms_per_frame"] for way in ("recompute", "cached"))
            row += [
                "",
                *(f"{t:.2f} ms" for t in times),
                f"{figures[f'recompute_over_cached_{at}_ratio']:.1f}",
            ]
        table.append(row)
    return table


SECTION = Section(
    "streaming",
    "Streaming against recomputing the window: milliseconds per frame and episode",
    measure,
    rows,
    (
        Bar(
            "recompute over streaming, the world's window and steps, batch 32",
            "recompute_over_cached_batch_32_ratio",
            least=8,
        ),
        Bar(
            "largest relative difference of the two ways",
            "cached_against_recompute_relative_error",
            most=1e-4,
        ),
    ),
    "Episodes older than the window. Windows other than the world's own run its weights with the table of\n"
    "distances cut or gone on at random: time does not depend on what weights are.",
)
