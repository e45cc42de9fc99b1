"""A vision-language-action model in the manner of OpenVLA in the RT-1 world, its actions made to fit.

    python examples/policy_openvla.py                               # offline, see below
    python examples/policy_openvla.py --checkpoint openvla/openvla-7b --device cuda --weights FILE

Without ``--checkpoint`` a stand-in of a few numbers takes its place, loaded in the same way from files of its
own. Without ``--weights`` the world has random weights: its frames are noise.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from v2w_gym.policies import ContractMismatch, adapt, check_contract
from v2w_gym.policies.openvla import OpenVLAPolicy, VlaSettings


def stand_in() -> Path:
    """The folder of a checkpoint at toy size."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    print("no --checkpoint: a stand-in with random answers, to show what is called")
    folder = Path(tempfile.mkdtemp(prefix="vla-")) / "tinyvla"
    return Path(importlib.import_module("tinyvla").write(folder))


def main() -> None:
    """Load, see why its actions do not fit as they are, adapt them, take some steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-RT1-v0", help="id of a world that takes RT-1's fields")
    parser.add_argument("--weights", help="of the released world; default: random ones")
    parser.add_argument("--checkpoint", help="folder or hub id; its own Python files are run")
    parser.add_argument("--unnorm-key", default="fractal20220817_data", help="whose statistics")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--denoising", type=int, default=1, help="denoising steps per frame, 50 in the paper")
    parser.add_argument("--out", type=Path, default=Path("runs/policy-openvla"))
    arguments = parser.parse_args()

    source = {"weights": arguments.weights} if arguments.weights else {"preset": "tiny-random"}
    sampler = {"steps": arguments.denoising}
    env: Any = gym.make(f"v2w_gym:{arguments.world}", sampler=sampler, **source).unwrapped
    settings = VlaSettings(arguments.unnorm_key, framing=env.world.framing)
    checkpoint = str(arguments.checkpoint or stand_in())
    policy = OpenVLAPolicy.from_pretrained(
        checkpoint, settings, trust_remote_code=True, device=arguments.device
    )
    try:
        check_contract(policy, env.world)
    except ContractMismatch as error:
        print(f"as it is, it does not fit: {error}\n")
    fitted = adapt(policy, env.world, gripper="sticky", clip=True)
    print(f"adapted it does; not stated by either side: {', '.join(check_contract(fitted, env.world))}")

    observation, info = env.reset(seed=0)
    fitted.reset([info["task"]], [0])
    actions = []
    for step in range(arguments.steps):
        action = fitted.act({"pixels": observation["pixels"][None]})[0]
        observation, *_ = env.step(action)
        actions.append(action)
        print(f"step {step}: world_vector {action[10:13].round(3)}, gripper {action[3]:+.1f}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.savez(arguments.out / "actions.npz", actions=np.stack(actions))


if __name__ == "__main__":
    main()
