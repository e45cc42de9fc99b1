"""A zip of Stable-Baselines3 as a policy: ``python examples/policy_sb3.py --zip runs/sb3/ppo.zip``.

Without such a file it makes one first, by a few steps in imagination, which teach nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
from stable_baselines3 import PPO

from v2w_gym import SB3VecEnv, evaluation
from v2w_gym.policies.sb3 import from_spec


def train_a_little(world: str, file: Path) -> None:
    """Sixteen steps; see ``train_sb3.py`` for more."""
    envs = gym.make_vec("v2w_gym:Vid2World-v0", num_envs=4, world=world, obs_type="pixels", reward="dense")
    model = PPO("CnnPolicy", SB3VecEnv(envs), n_steps=4, batch_size=8, n_epochs=1, seed=0)
    model.learn(total_timesteps=16)
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)


def main() -> None:
    """Compare the model's spaces with the world's, then rank it as it acts and as it explores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--zip", type=Path, default=Path("runs/sb3/ppo.zip"))
    parser.add_argument("--episodes", type=int, default=4)
    arguments = parser.parse_args()
    if not arguments.zip.exists():
        train_a_little(arguments.world, arguments.zip)

    env = gym.make("v2w_gym:Vid2World-v0", world=arguments.world)
    contenders = {
        "acting": from_spec(f"sb3:{arguments.zip}"),
        "exploring": from_spec(f"sb3:{arguments.zip},deterministic=false"),
    }
    contenders["acting"].check_spaces(env.observation_space, env.action_space)
    summary = evaluation.rank(arguments.world, contenders, episodes=arguments.episodes, seed=0)
    print(evaluation.format_table(summary))
    print(f"\nv2w rank --policy sb3:{arguments.zip} does the same")


if __name__ == "__main__":
    main()
