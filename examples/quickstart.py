"""Imagine one episode and look at it: ``python examples/quickstart.py``. Needs no simulator."""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np

ZOOM, SHOWN, HELD = 4, 6, 4  # enlargement, frames of the picture, steps that one random action is held


def main() -> None:
    """Take random actions to the end of the episode; save a film and a strip of frames."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--seed", type=int, default=0, help="fixes start, noise and actions")
    arguments = parser.parse_args()

    env = gym.make("v2w_gym:Vid2World-v0", world=arguments.world, render_mode="rgb_array")
    observation, info = env.reset(seed=arguments.seed)
    env.action_space.seed(arguments.seed)
    frames, total, ended = [observation["pixels"]], 0.0, False
    while not ended:
        if info["elapsed_steps"] % HELD == 0:
            action = env.action_space.sample()
        observation, reward, terminated, truncated, info = env.step(action)
        frames.append(observation["pixels"])
        total += float(reward)
        ended = terminated or truncated
    print(f"{info['elapsed_steps']} steps from {info['init_state']}: reward {total:g}")

    arguments.out.mkdir(parents=True, exist_ok=True)
    large = np.stack(frames).repeat(ZOOM, axis=1).repeat(ZOOM, axis=2)
    imageio.mimwrite(arguments.out / "episode.mp4", list(large), fps=env.metadata["render_fps"])
    shown = np.linspace(0, len(large) - 1, SHOWN).round().astype(int)
    imageio.imwrite(arguments.out / "episode.png", np.concatenate(large[shown], axis=1))
    print(f"look at {arguments.out}/episode.mp4 and episode.png")


if __name__ == "__main__":
    main()
