"""Rank a LeRobot policy, with its pre- and post-processors, against one that does nothing.

    python examples/policy_lerobot.py                                           # offline, see below
    python examples/policy_lerobot.py --checkpoint FOLDER_OR_HUB_ID --state 0 0 0 0

Without ``--checkpoint`` a stand-in takes the place of LeRobot and of a checkpoint: it has the same functions,
and its policy goes the faster the brighter the picture is. What it reaches means nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from v2w_gym import evaluation, policies
from v2w_gym.envs.world import World
from v2w_gym.policies.lerobot import LeRobotPolicy
from v2w_gym.policies.lerobot_inputs import LeRobotInputs
from v2w_gym.policies.lerobot_parts import load_parts


def stand_in(actions: int) -> Path:
    """Puts a stand-in in LeRobot's place; the folder of a checkpoint of it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "lerobot_stub"))
    print("no --checkpoint: a stand-in for LeRobot and for a policy, to show what is called")
    folder = tempfile.mkdtemp(prefix="lerobot-checkpoint-")
    return Path(
        importlib.import_module("lerobot.tiny").write_checkpoint(folder, actions=actions, n_action_steps=2)
    )


def main() -> None:
    """Load, say what the actions mean, rank."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Vid2World-DrawerClose-v0", help="id, folder or hub id")
    parser.add_argument("--checkpoint", help="folder or hub id of a LeRobot policy; default: a stand-in")
    parser.add_argument("--state", nargs="+", type=float, help="constant in place of observation.state")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/policy-lerobot"))
    arguments = parser.parse_args()

    world = World.open(arguments.world)
    takes = policies.world_contract(world)
    parts = load_parts(arguments.checkpoint or stand_in(len(takes.names)), arguments.device)
    inputs = LeRobotInputs(parts.policy.config, state=arguments.state, framing=world.config.framing)
    # a checkpoint does not say what its actions mean: this one was trained on actions of this very world.
    # For others write an ActionContract, and policies.adapt(policy, world) converts what can be converted
    policy = LeRobotPolicy(parts, inputs, contract=takes)

    adapted = policies.adapt(policy, world, clip=True)
    contenders = {"lerobot": adapted, "does nothing": policies.load("still")}
    summary = evaluation.rank(world, contenders, episodes=arguments.episodes, seed=0, out=arguments.out)
    print(evaluation.format_table(summary))


if __name__ == "__main__":
    main()
