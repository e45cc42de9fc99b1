"""Environment steps per second against the number of slots, through the vector environment."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import partial

import torch

from engine.bench import Bench
from engine.clock import in_turns
from engine.section import Bar, Figures, Rows, Section

MOST = 256  # slots on a CPU
GAIN = 1.03  # on a GPU, the curve ends where doubling the slots twice gains less
LIMIT_S = 3.0


def measure(bench: Bench) -> Figures:
    figures, batch = Figures(), 1
    while (rate := _rate(bench, batch)) is not None:
        figures[f"env_steps_batch_{batch}_per_s"] = rate
        if _enough(bench, batch, list(figures.values())):
            break
        batch *= 2
    return figures | _scaling(bench)


def _rate(bench: Bench, batch: int) -> float | None:
    """Steps of all slots per second; None where memory ends."""
    try:
        step = partial(bench.environment(batch).step, bench.env_actions(batch))
        turns = in_turns({"step": step}, bench.rounds, LIMIT_S)
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        gc.collect()
    return 1e3 * batch / turns.ms("step")


def _enough(bench: Bench, batch: int, rates: list[float]) -> bool:
    if bench.device == "cpu":
        return batch >= (32 if bench.quick else MOST)
    return len(rates) > 2 and rates[-1] < GAIN * rates[-3]


def _scaling(bench: Bench) -> Figures:
    """Slots together against one alone, step by step in turns."""
    calls = {str(n): partial(bench.environment(n).step, bench.env_actions(n)) for n in bench.batches}
    turns, (one, many) = in_turns(calls, bench.rounds), bench.batches
    return {f"env_steps_batch_{many}_over_{one}_ratio": many / one * turns.ratio(str(one), str(many))}


def rows(figures: Mapping[str, float]) -> Rows:
    rates = {k.split("_")[3]: rate for k, rate in figures.items() if k.endswith("_per_s")}
    return [["slots", *rates], ["steps per second", *(f"{rate:.1f}" for rate in rates.values())]]


SECTION = Section(
    "throughput",
    "Environment steps per second, all slots together, against the number of slots",
    measure,
    rows,
    (Bar("steps per second, batch 32 over batch 1", "env_steps_batch_32_over_1_ratio", least=3),),
    "Through gymnasium.make_vec: network, decoder, success detector and the environment's own work.",
)
