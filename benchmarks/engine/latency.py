"""Latency of one step against how old the episode is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from engine.bench import Bench
from engine.clock import in_turns
from engine.section import Bar, Figures, Rows, Section

FRAMES = (10, 30, 100, 300, 500, 1000)


def measure(bench: Bench) -> Figures:
    state, ages, action = bench.begin(1), {}, bench.actions(1)
    for frame in FRAMES:
        state = bench.grown(state, frame - int(state.frame_index.max()))
        ages[str(frame)] = state
    calls = {frame: partial(bench.model.step, state, action) for frame, state in ages.items()}
    turns = in_turns(calls, 2 * bench.rounds)
    figures = {f"step_frame_{frame}_ms": turns.ms(frame) for frame in ages}
    young, *_, older, oldest = ages
    for old in (older, oldest):
        figures[f"step_frame_{old}_over_{young}_ratio"] = turns.ratio(old, young)
    return figures


def rows(figures: Mapping[str, float]) -> Rows:
    ms = [figures[f"step_frame_{frame}_ms"] for frame in FRAMES]
    return [["frame", *(f"{frame:,}" for frame in FRAMES)], ["step, ms", *(f"{m:.2f}" for m in ms)]]


SECTION = Section(
    "latency",
    "Latency of a step of the model against the frame index of the episode, batch 1",
    measure,
    rows,
    (Bar("frame 1,000 over frame 10", "step_frame_1000_over_10_ratio", most=1.05),),
)
