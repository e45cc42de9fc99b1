"""Sub-command ``imagine``: train a policy in imagination."""

from __future__ import annotations

import argparse
from pathlib import Path

from v2w_gym.cli.command import Command


def _add_imagine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--config", type=Path, required=True, help="YAML file, e.g. configs/imagination/drawer_close.yaml"
    )
    add(
        "--out",
        type=Path,
        default=Path("runs/imagine"),
        help="checkpoint, curve and policies; run again to go on (default: %(default)s)",
    )
    add("overrides", nargs="*", metavar="key=value", help="e.g. updates=100 clone.teacher=linear seed=1")


def _imagine(arguments: argparse.Namespace) -> int:
    from v2w_gym.training import stages

    done = stages.run("imagination", arguments.config, arguments.out, arguments.overrides)
    policy = arguments.out / "policy.safetensors"
    ended = "done" if done else "stopped before its end, progress.jsonl says why"
    print(f"imagine: {ended}, see {arguments.out}\n  v2w rank --policy latent:{policy}")
    return 0


IMAGINE = {"imagine": Command("train a policy in imagination, or go on with it", _add_imagine, _imagine)}
