"""What it saves to double the resolution and convolve at once; see ``v2w_gym.world_model.upsample``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch.nn import functional

from engine.bench import Bench
from engine.clock import in_turns
from engine.section import Bar, Figures, Rows, Section
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.upsample import Upsample


def _one_after_the_other(self: Upsample, x: torch.Tensor) -> torch.Tensor:
    doubled: torch.Tensor = self.conv(functional.interpolate(x, scale_factor=2.0))
    return doubled


@contextmanager
def usual() -> Iterator[None]:
    """Doubles by nearest neighbours first, then convolves."""
    with patch.object(Upsample, "forward", _one_after_the_other):
        yield


def measure(bench: Bench) -> Figures:
    figures: Figures = {}
    for batch in bench.batches:
        state, action = bench.begin(batch), bench.tensor(bench.actions(batch))

        def step(state: WorldState = state, action: torch.Tensor = action) -> torch.Tensor:
            return bench.model.decode(bench.model.step(state, action).latent)

        def step_as_usual(step: Callable[[], torch.Tensor] = step) -> torch.Tensor:
            with usual():
                return step()

        turns = in_turns({"at once": step, "usual": step_as_usual}, bench.rounds, 4.0)
        apart = (step().int() - step_as_usual().int()).abs().max()
        figures[f"usual_over_at_once_batch_{batch}_ratio"] = turns.ratio("usual", "at once")
        figures[f"usual_against_at_once_batch_{batch}_grey_levels"] = float(apart)
    return figures


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
