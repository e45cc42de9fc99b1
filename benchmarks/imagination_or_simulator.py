"""Steps per second of one algorithm in imagination and in the simulator itself, with rendering, side by side.

``python benchmarks/imagination_or_simulator.py`` trains the same PPO with the same network twice, in turns,
so that both meet the same machine. Needs Meta-World. It says how fast, not how good: ``v2w rank`` says that.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper

import v2w_gym

SLOTS, ROLLOUT = 16, 32
Figures = dict[str, float]


class Simulated(gym.Env[Any, Any]):
    """Meta-World as the embedded world shows it; one per process, as its renderer demands."""

    def __init__(self, seed: int) -> None:
        from v2w_gym.data.metaworld import FRAME_SIZE, MetaWorldTask

        self._task, self._seed, self._age = MetaWorldTask(), seed, 0
        self.observation_space = gym.spaces.Box(0, 255, (FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A scene that the environment has not shown yet."""
        super().reset(seed=seed)
        self._seed, self._age = self._seed + 1, 0
        return self._task.reset(self._seed), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Four simulator steps and a picture."""
        frame, success = self._task.step(action)
        self._age += 1
        return frame, float(success), success, self._age >= ROLLOUT, {}


class Timed(VecEnvWrapper):
    """Adds up the time that the environment takes."""

    seconds = 0.0

    def reset(self) -> Any:
        """As it is."""
        return self.venv.reset()

    def step_async(self, actions: Any) -> None:
        """Begin to count."""
        self._began = time.perf_counter()
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        """Count."""
        outcome = self.venv.step_wait()
        self.seconds += time.perf_counter() - self._began
        return outcome


def imagined(sampler: str | None) -> VecEnv:
    envs = gym.make_vec(
        "v2w_gym:Vid2World-DrawerClose-v0", num_envs=SLOTS, obs_type="pixels", sampler=sampler
    )
    return v2w_gym.SB3VecEnv(envs)


def simulated(processes: int) -> VecEnv:
    made: list[Callable[[], Any]] = [functools.partial(Simulated, 1000 * i) for i in range(processes)]
    return DummyVecEnv(made) if processes == 1 else SubprocVecEnv(made, start_method="spawn")


def learner(env: VecEnv, steps: int) -> PPO:
    """The same network, and as many samples between two updates."""
    return PPO(
        "CnnPolicy", env, n_steps=steps // env.num_envs, batch_size=256, n_epochs=4, seed=0, device="cpu"
    )


def work(side: str, sampler: str | None, processes: int, threads: int, wire: Connection[Any, Any]) -> None:
    """In a process of its own: train for one rollout and its updates whenever asked to."""
    torch.set_num_threads(threads)
    env = Timed(imagined(sampler) if side == "imagination" else simulated(processes))
    samples = SLOTS * ROLLOUT
    model = learner(env, samples)
    wire.send("ready")
    while wire.recv():
        env.seconds, began, cpu = 0.0, time.perf_counter(), os.times()
        model.learn(samples, reset_num_timesteps=False)
        spent = time.perf_counter() - began
        after = os.times()
        busy = after.user + after.system - cpu.user - cpu.system
        wire.send({"steps": float(samples), "seconds": spent, "world": env.seconds, "cpu": busy})
    env.close()


def race(options: argparse.Namespace) -> Figures:
    """Let both sides train in turns."""
    context, wires, total = multiprocessing.get_context("spawn"), {}, {}
    try:
        for side in ("imagination", "simulator"):
            wires[side], far = context.Pipe()
            given = (side, options.sampler, options.processes, options.threads, far)
            context.Process(target=work, args=given).start()
            far.close()  # so that a side that dies is heard of
            wires[side].recv()
            total[side] = {"steps": 0.0, "seconds": 0.0, "world": 0.0, "cpu": 0.0}
        for _ in range(options.rounds):
            for side, wire in wires.items():
                wire.send(True)
                for key, value in wire.recv().items():
                    total[side][key] += value
        for wire in wires.values():
            wire.send(False)
    except EOFError:
        raise SystemExit("a side of the race has died, see above") from None
    finally:
        for wire in wires.values():
            wire.close()
    return {f"{side}_{name}": value for side, sums in total.items() for name, value in rates(sums).items()}


def rates(sums: Figures) -> Figures:
    steps, seconds = sums["steps"], sums["seconds"]
    return {
        "steps_per_second": steps / seconds,
        "world_steps_per_second": steps / sums["world"],
        "share_of_time_in_world": sums["world"] / seconds,
        "share_of_a_core": sums["cpu"] / seconds,  # without simulators in processes of their own
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4, help=f"of {SLOTS * ROLLOUT} steps, on each side")
    parser.add_argument("--sampler", help="of the world, e.g. fast")
    parser.add_argument("--processes", type=int, default=1, help="simulators side by side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = race(options)
    print("| | imagination | simulator |\n|---|---|---|")
    for name in rates({"steps": 1.0, "seconds": 1.0, "world": 1.0, "cpu": 1.0}):
        both = [figures[f"{side}_{name}"] for side in ("imagination", "simulator")]
        print(f"| {name.replace('_', ' ')} | {both[0]:.2f} | {both[1]:.2f} |")
    if options.json:
        options.json.write_text(json.dumps({k: round(v, 4) for k, v in figures.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
