"""Train a policy inside the world model with Stable-Baselines3: ``python examples/train_sb3.py``.

A smoke example: it shows that the pieces fit. A few hundred steps teach nothing; whatever more steps teach is
to be held against reality, since training in imagination also finds where imagination is wrong.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from v2w_gym import SB3VecEnv


def main() -> None:
    """Train for some steps, all episodes in one batch, and save the policy as Stable-Baselines3 does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--steps", type=int, default=256, help="of all episodes together")
    parser.add_argument("--slots", type=int, default=8, help="episodes imagined side by side")
    parser.add_argument("--out", type=Path, default=Path("runs/sb3/ppo.zip"))
    arguments = parser.parse_args()

    # dense: the detector's probability of success at every step, in place of 0 or 1
    settings = {"world": arguments.world, "obs_type": "pixels", "reward": "dense"}
    envs = gym.make_vec("v2w_gym:Vid2World-v0", num_envs=arguments.slots, **settings)
    env = VecMonitor(SB3VecEnv(envs))  # counts episodes: rollout/ep_rew_mean and rollout/success_rate
    model = PPO("CnnPolicy", env, n_steps=8, batch_size=4 * env.num_envs, seed=0, verbose=1)
    model.learn(total_timesteps=arguments.steps)
    env.close()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    model.save(arguments.out)
    print(f"saved {arguments.out}; go on with stable_baselines3.PPO.load")


if __name__ == "__main__":
    main()
