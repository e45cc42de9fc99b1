"""Sub-command ``improve``: play in reality, fine-tune the world on it, imagine in the new world, repeat."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from v2w_gym.cli.command import Command

NOT_DONE = 1


def _add_improve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, required=True, help="YAML file, e.g. configs/improve/drawer_close.yaml")
    add(
        "--out",
        type=Path,
        default=Path("runs/improve"),
        help="rounds, improve.json and improve.png; run again to go on (default: %(default)s)",
    )
    add("overrides", nargs="*", metavar="key=value", help="e.g. rounds=3 policy=linear train=none")


def _improve(arguments: argparse.Namespace) -> int:
    from v2w_gym.evaluation.fidelity import Replays
    from v2w_gym.training import stages
    from v2w_gym.training.improving.config import ImproveConfig
    from v2w_gym.training.improving.realities import open_reality
    from v2w_gym.training.improving.rounds import improve

    sys.path.append(os.getcwd())  # a policy beside the user is found by module:attr
    config = stages.settings(ImproveConfig, arguments.config, arguments.overrides)
    referee = Replays(seed=config.seed, device=config.device)
    missing = improve(config, arguments.out, open_reality(config.play), referee)
    if missing is not None:
        print(f"improve: {missing}")
        return NOT_DONE
    print(f"improve: done, see {arguments.out / 'improve.json'} and improve.png beside it")
    return 0


IMPROVE = {
    "improve": Command(
        "improve a world by rounds of play in reality, or go on with it", _add_improve, _improve
    )
}
