"""Real success per minute of training, in imagination and in the simulator itself, side by side in one run.

``python benchmarks/success_per_minute.py`` trains the same PPO with the same network on both sides, in turns
of 512 steps. After every turn both policies act in Meta-World on scenes that neither has met; that is not
counted as time of training. Needs Meta-World.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from imagination_or_simulator import ROLLOUT, SLOTS, imagined, learner, simulated
from stable_baselines3 import PPO
from tqdm import tqdm

from v2w_gym.data.reality import run_policy
from v2w_gym.policies.sb3 import SB3Policy

TURN = SLOTS * ROLLOUT
SIDES = ("imagination", "simulator")
ENOUGH = 0.8
"""Real success that a policy should reach."""
FIRST_SCENE = 500_000
"""Seeds from here on are neither the world's starts nor those of the simulators."""

Row = dict[str, float]


def work(side: str, seed: int, processes: int, wire: Connection[Any, Any]) -> None:
    """In a process of its own: leave the model in every file that is asked for, after a turn of training."""
    torch.set_num_threads(1)
    model = learner(imagined(None) if side == "imagination" else simulated(processes), TURN)
    model.set_random_seed(seed)
    wire.send(0.0)
    while (file := wire.recv()) is not None:
        began = time.perf_counter()
        if wire.recv():
            model.learn(TURN, reset_num_timesteps=False)
        spent = time.perf_counter() - began
        model.save(file)
        wire.send(spent)


def race(options: argparse.Namespace, folder: Path) -> dict[str, list[Row]]:
    """A row per turn and side: steps and seconds of training so far, and real success."""
    context, wires = multiprocessing.get_context("spawn"), {}
    curves: dict[str, list[Row]] = {side: [] for side in SIDES}
    for side in SIDES:
        wires[side], far = context.Pipe()
        given = (side, options.seed, options.processes, far)
        context.Process(target=work, args=given, daemon=options.processes == 1).start()
        far.close()  # so that a side that dies is heard of
        wires[side].recv()
    try:
        for turn in tqdm(range(options.turns + 1), desc="turns"):
            for side, wire in wires.items():
                file = folder / f"{side}.zip"
                wire.send(file)
                wire.send(turn > 0)  # the first look is at the untrained policy
                before = curves[side][-1]["seconds"] if turn else 0.0
                seconds = before + wire.recv()
                scenes = range(FIRST_SCENE, FIRST_SCENE + options.episodes)
                found = run_policy(SB3Policy(PPO.load(file, device="cpu")), scenes)
                rate = sum(found.values()) / len(found)
                curves[side].append({"steps": float(turn * TURN), "seconds": seconds, "real_success": rate})
    finally:
        for wire in wires.values():
            with contextlib.suppress(OSError):  # a side that has died
                wire.send(None)
    return curves


def summed(curve: list[Row]) -> Row:
    """Speed, and the real success that a minute of training brought, until it was enough or at its best."""
    reached = [row for row in curve[1:] if row["real_success"] >= ENOUGH]
    there = reached[0] if reached else max(curve[1:], key=lambda row: row["real_success"])
    minutes = there["seconds"] / 60
    return {
        "steps_per_second": curve[-1]["steps"] / curve[-1]["seconds"],
        "untrained": curve[0]["real_success"],
        "reached": there["real_success"],
        "steps_until_then": there["steps"],
        "minutes_until_then": minutes,
        "success_gained_per_minute": (there["real_success"] - curve[0]["real_success"]) / minutes,
    }


def report(curves: dict[str, list[Row]]) -> str:
    """Both curves and what they come to, as text."""
    left, right = (curves[side] for side in SIDES)
    lines = ["| steps | imagination: minutes | real | simulator: minutes | real |", "|---|---|---|---|---|"]
    for one, other in zip(left, right, strict=True):
        cells = [f"{row['seconds'] / 60:.2f} | {row['real_success']:.2f}" for row in (one, other)]
        lines.append(f"| {one['steps']:.0f} | {cells[0]} | {cells[1]} |")
    lines += ["", "| | imagination | simulator |", "|---|---|---|"]
    sums = [summed(curve) for curve in (left, right)]
    for name in sums[0]:
        lines.append(f"| {name.replace('_', ' ')} | {sums[0][name]:.2f} | {sums[1][name]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=6, help=f"of {TURN} steps, on each side")
    parser.add_argument("--episodes", type=int, default=50, help="in reality after every turn")
    parser.add_argument("--processes", type=int, default=1, help="simulators side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        curves = race(options, Path(folder))
    print(report(curves))
    if options.json:
        options.json.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    main()
