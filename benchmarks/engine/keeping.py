"""What it costs to keep an episode and to go back to it, and the memory of a slot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

from engine.bench import Bench
from engine.clock import Call, in_turns
from engine.section import Bar, Figures, Rows, Section
from v2w_gym.envs.vector import WorldModelVectorEnv


def measure(bench: Bench) -> Figures:
    takes = bench.model.memory_per_slot()
    figures: Figures = {
        f"{k.removesuffix('_bytes')}_kib_per_slot": v / 2**10 for k, v in dataclasses.asdict(takes).items()
    }
    for batch in bench.batches:
        envs = bench.environment(batch)
        calls: dict[str, Call] = {
            "step": partial(envs.step, bench.env_actions(batch)),
            "there and back": partial(_there_and_back, envs),
        }
        turns = in_turns(calls, 3 * bench.rounds)
        figures[f"snapshot_and_restore_batch_{batch}_ms"] = turns.ms("there and back")
        share = turns.ratio("there and back", "step")
        figures[f"snapshot_and_restore_batch_{batch}_step_percent"] = 100 * share
    return figures


def _there_and_back(envs: WorldModelVectorEnv) -> None:
    envs.restore(envs.snapshot([0]), [0])


def rows(figures: Mapping[str, float]) -> Rows:
    table = [["", *(f"batch {batch}" for batch in (1, 32))]]
    for text, unit, form in (
        ("snapshot and restore", "ms", "{:.3f} ms"),
        ("share of a step", "step_percent", "{:.2f} %"),
    ):
        values = (figures[f"snapshot_and_restore_batch_{batch}_{unit}"] for batch in (1, 32))
        table.append([text, *(form.format(value) for value in values)])
    for text, what in (("its state", "state"), ("at work in a step", "step"), ("in decoding", "decode")):
        table.append([f"a slot takes, {text}", f"{figures[f'{what}_kib_per_slot']:.0f} KiB"])
    return table


SECTION = Section(
    "keeping",
    "Keeping one episode and going back to it; memory of a slot",
    measure,
    rows,
    tuple(
        Bar(
            f"snapshot and restore of one slot, percent of a step, batch {batch}",
            f"snapshot_and_restore_batch_{batch}_step_percent",
            most=1,
        )
        for batch in (1, 32)
    ),
    "A step holds two states of every slot, the one it was given and the one it makes.",
)
