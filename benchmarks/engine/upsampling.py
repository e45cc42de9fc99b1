"""What it saves to double the resolution and convolve at once; see ``v2w_gym.world_model.upsample``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from unittest.mock import patch

import torch

from engine.bench import Bench
from engine.clock import in_turns
from engine.section import Bar, Figures, Rows, Section
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.upsample import Upsample


def measure(bench: Bench) -> Figures:
    figures: Figures = {}
    for batch in bench.batches:
        given = bench, bench.begin(batch), bench.tensor(bench.actions(batch))
        at_once, usual = partial(_frame, *given), partial(_frame_as_usual, *given)
        turns = in_turns({"at once": at_once, "usual": usual}, bench.rounds, 4.0)
        apart = (at_once().int() - usual().int()).abs().max()
        figures[f"usual_over_at_once_batch_{batch}_ratio"] = turns.ratio("usual", "at once")
        figures[f"usual_against_at_once_batch_{batch}_grey_levels"] = float(apart)
    return figures


def _frame(bench: Bench, state: WorldState, action: torch.Tensor) -> torch.Tensor:
    return bench.model.decode(bench.model.step(state, action).latent)


def _frame_as_usual(bench: Bench, state: WorldState, action: torch.Tensor) -> torch.Tensor:
    with patch.object(Upsample, "forward", Upsample.one_after_the_other):
        return _frame(bench, state, action)


def rows(figures: Mapping[str, float]) -> Rows:
    table = [["slots", "usual over at once", "largest difference"]]
    for key, ratio in figures.items():
        if key.startswith("usual_over_at_once"):
            batch = key.split("_")[-2]
            apart = figures[f"usual_against_at_once_batch_{batch}_grey_levels"]
            table.append([batch, f"{ratio:.2f}", f"{apart:.0f} of 255"])
    return table


SECTION = Section(
    "upsampling",
    "Doubling the resolution and convolving at once, instead of one after the other",
    measure,
    rows,
    bars=(
        Bar(
            "largest difference of the frames, grey levels",
            "usual_against_at_once_batch_32_grey_levels",
            most=1,
        ),
    ),
    note="A step and the decoding of its frame.",
)
