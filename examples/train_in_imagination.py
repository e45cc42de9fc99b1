"""Actor and critic on a world model's latents: ``python examples/train_in_imagination.py``.

A smoke example that needs neither recordings nor a simulator: a shipped policy's imagined episodes stand in
for recorded ones. ``v2w imagine --config configs/imagination/drawer_close.yaml`` is the real thing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from v2w_gym import policies
from v2w_gym.config import from_dict
from v2w_gym.data.episode import Episode
from v2w_gym.training.imagination.config import ImaginationConfig
from v2w_gym.training.imagination.trainer import train


def record(world: str, policy: str, episodes: int, folder: Path) -> None:
    """Write imagined episodes of a policy as if they had been recorded."""
    settings: dict[str, Any] = {"world": world, "terminate_on_success": False, "autoreset_mode": "disabled"}
    envs = gym.make_vec("v2w_gym:Vid2World-v0", num_envs=episodes, **settings)
    actor = policies.resolve(policy)
    observation, infos = envs.reset(seed=0)
    frames, actions, flags, over = [observation["pixels"]], [], [np.zeros(episodes, np.bool_)], False
    while not over:
        actions.append(np.asarray(actor.act(observation), np.float32))
        observation, _, _, truncated, infos = envs.step(actions[-1])
        frames.append(observation["pixels"])
        flags.append(infos["is_success"])
        over = bool(truncated.all())
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(episodes):
        film, acted, won = (np.stack([row[i] for row in rows]) for rows in (frames, actions, flags))
        Episode(film, acted, won, "imagined", policy, i).save(folder / f"{i:03d}.npz")


def main() -> None:
    """Record, train for a few updates, and act on pixels with what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--policy", default="random", help="whose episodes to branch from")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/imagine-example"))
    arguments = parser.parse_args()

    data = arguments.out / "data"
    if not data.exists():
        record(arguments.world, arguments.policy, arguments.episodes, data)
    settings = {
        "data": [str(data)],
        "world": arguments.world,
        "updates": arguments.updates,
        "slots": 8,
        "unroll": 4,
        "heldout": 0.25,
        "judge": {"episodes": 8, "steps": 20},
        "look": {"every": 4, "episodes": 2, "steps": 8},
    }
    train(from_dict(ImaginationConfig, settings), arguments.out)
    policy = policies.resolve(f"latent:{arguments.out / 'policy.safetensors'}")
    frame = Episode.load(data / "000.npz").frames[:1]
    print(f"first action: {np.asarray(policy.act({'pixels': frame})).round(2)[0].tolist()}")


if __name__ == "__main__":
    main()
