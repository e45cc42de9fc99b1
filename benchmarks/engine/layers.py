"""Where the time of an environment step goes, by kind of layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.models.embeddings import TimestepEmbedding
from torch import nn

from engine.accounts import Accounts
from engine.bench import Bench
from engine.clock import seconds
from engine.section import Figures, Rows, Section
from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.world_model.actions import ActionEncoder
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.temporal import TemporalAttention, TemporalConv
from v2w_gym.world_model.unet import PlainAttention, VideoUNet
from v2w_gym.world_model.upsample import Upsample

KINDS: dict[type[nn.Module], str] = {
    TemporalConv: "temporal convolutions",
    TemporalAttention: "temporal attention",
    PlainAttention: "spatial attention",
    nn.Conv2d: "spatial convolutions",
    Upsample: "spatial convolutions",
    nn.GroupNorm: "norms",
    TimestepEmbedding: "embeddings",
    ActionEncoder: "embeddings",
    VideoUNet: "network, the rest",
}
"""Layers of the network. A layer inside another one counts as its own kind: the norm of an attention is a
norm. What the network does between its layers (activations, sums, reordering) is the rest."""

OTHERS = ("noise", "copy of the state", "sampler, the rest", "decoder", "success detector", "environment")
PARTS = (*dict.fromkeys(KINDS.values()), *OTHERS)


def measure(bench: Bench) -> Figures:
    figures: Figures = {}
    for batch in bench.batches:
        figures |= _spent(bench, batch)
    return figures


def _spent(bench: Bench, batch: int) -> Figures:
    """Milliseconds of each part: the mean over the middle half of the steps, so that the parts add up."""
    detector, model, action = bench.world.detector(bench.device), bench.model, bench.env_actions(batch)
    envs = WorldModelVectorEnv(
        batch,
        bench.world,
        model=model,
        detector=detector,
        **bench.endless,
    )
    envs.reset(seed=0)
    envs.step(action)
    methods: dict[tuple[Any, str], str] = {
        (model.dynamics.sampler, "noise"): "noise",
        (WorldState, "clone"): "copy of the state",
        (model, "step"): "sampler, the rest",
        (model, "decode"): "decoder",
        (detector, "score"): "success detector",
        (envs, "step"): "environment",
    }
    bare, watched = [], []
    for _ in range(max(4, bench.rounds)):
        bare.append(seconds(lambda: envs.step(action)))
        accounts = Accounts()
        with accounts.watching(model.unet, KINDS, methods):
            envs.step(action)
        watched.append(accounts.seconds)
    middle = sorted(watched, key=lambda s: sum(s.values()))[len(watched) // 4 : -(len(watched) // 4)]
    spent = {part: 1e3 * sum(s[part] for s in middle) / len(middle) for part in PARTS}
    bare = sorted(bare)[len(bare) // 4 : -(len(bare) // 4)]
    whole, unwatched = sum(spent.values()), 1e3 * sum(bare) / len(bare)
    return {
        **{f"time_{key_of(part)}_batch_{batch}_ms": ms for part, ms in spent.items()},
        f"time_whole_batch_{batch}_ms": whole,
        f"time_whole_unwatched_batch_{batch}_ms": unwatched,
    }


def key_of(part: str) -> str:
    return part.replace(",", "").replace(" ", "_")


def rows(figures: Mapping[str, float]) -> Rows:
    table = [["", "batch 1", "", "batch 32", ""]]
    for part in (*PARTS, "whole", "whole, unwatched"):
        row = [part]
        for batch in (1, 32):
            ms, whole = (
                figures[f"time_{key_of(part)}_batch_{batch}_ms"],
                figures[f"time_whole_batch_{batch}_ms"],
            )
            row += [f"{ms:.2f} ms", f"{100 * ms / whole:.0f} %"]
        table.append(row)
    return table


SECTION = Section(
    "layers",
    "Where the time of an environment step goes",
    measure,
    rows,
    note=(
        "Every moment is put to the innermost part that runs, so the parts add up to the whole; the last\n"
        "line is the same step without clocks in it. Network, the rest: activations, sums, reordering."
    ),
)
