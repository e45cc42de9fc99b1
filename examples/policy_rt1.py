"""A policy in the manner of RT-1 in the RT-1 world: its fields, its history, its gripper.

    python examples/policy_rt1.py                                   # offline, see below
    python examples/policy_rt1.py --weights FILE_FOLDER_OR_HUB_ID

Without ``--weights`` the world has random weights: its frames are noise. The policy is a stand-in in both
cases; put your model in the place of ``Reach``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np

from v2w_gym.data.episode import FrameArray
from v2w_gym.policies import check_contract
from v2w_gym.policies.rt1 import RT1Policy


class Reach:
    """Moves ahead while the picture changes, closes the gripper at once, and says when it has done."""

    def __call__(self, images: FrameArray, instruction: list[str]) -> dict[str, Any]:
        """RT-1's fields for images ``(b, n, h, w, 3)`` uint8, the newest last, and a text per slot."""
        slots = len(images)
        change = np.abs(images[:, -1].astype(np.float32) - images[:, -2]).mean(axis=(1, 2, 3))
        return {
            "world_vector": np.tile([0.05, 0.0, -0.02], (slots, 1)),
            "rotation_delta": np.zeros((slots, 3)),
            "gripper_closedness_action": np.ones((slots, 1)),
            "terminate_episode": np.where(change[:, None] > 100, [[1, 0, 0]], [[0, 1, 0]]),
        }


def main() -> None:
    """Some steps of two episodes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-RT1-v0", help="id of a world that takes RT-1's fields")
    parser.add_argument("--weights", help="of the released world; default: random ones")
    parser.add_argument("--starts", help="where episodes begin: an image, a clip or a folder of them")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--denoising", type=int, default=1, help="denoising steps per frame, 50 in the paper")
    parser.add_argument("--out", type=Path, default=Path("runs/policy-rt1"))
    arguments = parser.parse_args()

    source = {"weights": arguments.weights} if arguments.weights else {"preset": "tiny-random"}
    envs: Any = gym.make_vec(
        f"v2w_gym:{arguments.world}",
        num_envs=2,
        starts=arguments.starts,
        sampler={"steps": arguments.denoising},
        autoreset_mode="disabled",
        **source,
    )
    policy = RT1Policy(Reach(), history=6, framing=envs.world.framing)
    check_contract(policy, envs.world)
    observation, _ = envs.reset(seed=0)
    policy.reset(["close drawer"] * 2, [0, 1])
    frames = [observation["pixels"]]
    for step in range(arguments.steps):
        actions = policy.act(observation)
        observation, _, _, _, infos = envs.step(actions)
        frames.append(observation["pixels"])
        print(f"step {step}: world_vector {actions[0, 10:13].round(3)}, gripper {actions[0, 3]:+.1f}")
    print(
        f"ended by the policy itself, slot to step: {policy.terminated or 'none'}; judged: {infos['judged']}"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    film = envs.world.framing.unpad(np.stack(frames)[:, 0])
    imageio.imwrite(arguments.out / "episode.mp4", film, fps=envs.world.fps)


if __name__ == "__main__":
    main()
