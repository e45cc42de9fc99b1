"""Judge imagined episodes yourself: run this, judge on the page that it names, run it again."""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np

from v2w_gym.rewards.human import HumanConfig, HumanJudge
from v2w_gym.rewards.judge import Clip


def main() -> None:
    """Imagine random episodes; say what people have said of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--out", type=Path, default=Path("runs/label"), help="folder of the queue")
    parser.add_argument("--episodes", type=int, default=4)
    arguments = parser.parse_args()

    env = gym.make("v2w_gym:Vid2World-v0", world=arguments.world)
    judge = HumanJudge.from_config(HumanConfig(str(arguments.out)))
    for seed in range(
        arguments.episodes
    ):  # the same seed gives the same episode, so its verdict is found again
        observation, info = env.reset(seed=seed)
        env.action_space.seed(seed)
        action = env.action_space.sample()
        frames, ended = [observation["pixels"]], False
        while not ended:
            observation, _, terminated, truncated, _ = env.step(action)
            frames.append(observation["pixels"])
            ended = terminated or truncated
        (found,) = judge.judge([Clip(np.stack(frames), "close the drawer", env.metadata["render_fps"])])
        print(f"{info['init_state']}: {found.verdict(judge.threshold)}; {found.reason}")


if __name__ == "__main__":
    main()
