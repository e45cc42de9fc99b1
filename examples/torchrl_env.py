"""The world as an environment of TorchRL: ``python examples/torchrl_env.py``.

Collects imagined episodes of random actions with TorchRL's own pieces; put your actor in place of None.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import torch
from torchrl.collectors import Collector
from torchrl.envs import Compose, RewardSum, StepCounter, ToTensorImage, TransformedEnv
from torchrl.envs.utils import check_env_specs

import v2w_gym


def main() -> None:
    """Check the specs, collect, and say what was collected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--steps", type=int, default=64, help="of each episode's slot")
    parser.add_argument("--envs", type=int, default=8, help="episodes imagined side by side")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()

    settings = {"world": given.world, "device": given.device, "output": "torch", "autoreset_mode": "disabled"}
    envs = gym.make_vec("v2w_gym:Vid2World-v0", num_envs=given.envs, **settings)
    env = TransformedEnv(
        v2w_gym.TorchRLEnv(envs),
        Compose(ToTensorImage(in_keys=["pixels"], out_keys=["image"]), StepCounter(), RewardSum()),
    )
    check_env_specs(env)
    torch.manual_seed(0)  # of the random actions; the episodes have the seed of the environment
    total = given.envs * given.steps
    collector = Collector(env, None, frames_per_batch=total, total_frames=total)
    collector.set_seed(0)
    for batch in collector:
        ended = batch["next", "done"].sum().item()
        won = (batch["next", "is_success"] & batch["next", "done"]).sum().item()
        shape = tuple(batch["image"].shape)
        print(f"images {shape}, {ended} episodes ended, {won} of them with a success")
    collector.shutdown()


if __name__ == "__main__":
    main()
