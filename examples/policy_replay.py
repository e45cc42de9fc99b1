"""Recorded actions again, under other noise: ``python examples/policy_replay.py``.

Films a policy in imagination, keeps the episodes as a folder, and does the same actions once more from the
same starts. Episodes that ``v2w record`` made, or your robot, are replayed alike.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np

from v2w_gym import policies
from v2w_gym.data.episode import Episode
from v2w_gym.policies.simple import RandomPolicy


def imagine(world: str, policy: policies.Policy, slots: int, noise: int) -> list[Episode]:
    """One episode per slot, from the starts that the seeds 0, 1, 2, ... draw."""
    envs = gym.make_vec(
        "v2w_gym:Vid2World-v0",
        num_envs=slots,
        world=world,
        autoreset_mode="disabled",
        terminate_on_success=False,
    )
    noise_seeds = [noise + slot for slot in range(slots)]
    observation, infos = envs.reset(seed=0, options={"noise_seed": noise_seeds})
    policy.reset(list(infos["task"]), range(slots))
    frames, actions, success = [observation["pixels"]], [], [np.zeros(slots, np.bool_)]
    truncated = np.zeros(slots, np.bool_)
    while not truncated.all():
        actions.append(np.asarray(policy.act(observation), np.float32))
        observation, _, _, truncated, infos = envs.step(actions[-1])
        frames.append(observation["pixels"])
        success.append(infos["is_success"])
    envs.close()
    film, done, flags = np.stack(frames, 1), np.stack(actions, 1), np.stack(success, 1)
    return [Episode(film[i], done[i], flags[i], str(infos["task"][i]), "imagined", i) for i in range(slots)]


def main() -> None:
    """Record, replay, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/recorded"))
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    recorded = imagine(arguments.world, RandomPolicy(), arguments.episodes, noise=0)
    for number, episode in enumerate(recorded):
        episode.save(arguments.out / f"{number:04d}.npz")
    policy = policies.resolve(f"replay:{arguments.out}")  # a slot gets the recording that begins as it does
    again = imagine(arguments.world, policy, arguments.episodes, noise=1000)
    alike = [one.succeeded == other.succeeded for one, other in zip(recorded, again, strict=True)]
    difference = np.mean(
        [
            np.abs(one.frames[-1].astype(int) - other.frames[-1]).mean()
            for one, other in zip(recorded, again, strict=True)
        ]
    )
    print(f"{sum(alike)} of {len(alike)} episodes end alike; last frames differ by {difference:.1f} of 255")


if __name__ == "__main__":
    main()
