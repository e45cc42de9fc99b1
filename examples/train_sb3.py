"""Train a policy inside the world model with Stable-Baselines3: ``python examples/train_sb3.py``.

A smoke example: it shows that the pieces fit. A few hundred steps teach nothing; whatever more steps teach is
to be held against reality, since training in imagination also finds where imagination is wrong.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
from stable_baselines3 import PPO


def main() -> None:
    """Train for some steps and save the policy as Stable-Baselines3 does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("runs/sb3/ppo.zip"))
    arguments = parser.parse_args()

    # dense: the detector's probability of success at every step, in place of 0 or 1
    env = gym.make("v2w_gym:Vid2World-v0", world=arguments.world, obs_type="pixels", reward="dense")
    model = PPO("CnnPolicy", env, n_steps=64, batch_size=32, n_epochs=2, seed=0, device="cpu", verbose=1)
    model.learn(total_timesteps=arguments.steps)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    model.save(arguments.out)
    print(f"saved {arguments.out}; go on with stable_baselines3.PPO.load")


if __name__ == "__main__":
    main()
