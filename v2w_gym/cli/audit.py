"""Sub-command ``audit``: hold a world against recorded reality."""

from __future__ import annotations

import argparse
from pathlib import Path

from v2w_gym.cli.command import Command

FAILED = 1


def _add_audit(parser: argparse.ArgumentParser) -> None:
    from v2w_gym.registration import SHIPPED_WORLDS

    parser.epilog = (
        "Exit code: 0 if no probe fails, 1 if one does or none could run, 2 after an error. A probe without "
        "its recordings is 'not run', which neither passes nor fails. A probe passes only if its whole 95 % "
        "interval does."
    )
    add = parser.add_argument
    add("--world", default=next(iter(SHIPPED_WORLDS)), help="id, folder or hub id (default: %(default)s)")
    add(
        "--heldout", required=True, help="folder of held-out episodes; more than are replayed, see --episodes"
    )
    add("--probes", help="folder of episodes that never succeed; recorded in Meta-World if it is not there")
    add("--directions", help="folder of constant actions; recorded in Meta-World if it is not there")
    add(
        "--episodes",
        type=int,
        default=100,
        help="held-out episodes to replay; the action reader learns from the others (default: %(default)s)",
    )
    add("--steps", type=int, help="actions per episode (default: the world's horizon)")
    add(
        "--within",
        type=float,
        default=20.0,
        metavar="DB",
        help="PSNR to the recording that the horizon certificate promises (default: %(default)s)",
    )
    add(
        "--lpips",
        nargs=2,
        metavar=("FEATURES", "HEADS"),
        help="weights for LPIPS: torchvision's AlexNet or VGG16, and the authors' alex.pth or vgg.pth",
    )
    add("--protocol", metavar="NAME", help="score clips by one of the paper's protocols as well, e.g. rt1")
    add(
        "--again",
        type=float,
        metavar="NOISE",
        help="run held-out episodes in reality again, with so much noise in the actions, for the card",
    )
    add("--sampler", metavar="PRESET", help="one of the world's presets, e.g. fast (default: its sampler)")
    add("--device", default="cpu", help="where the world model runs, e.g. cuda (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=Path("runs/audit"),
        help="audit.json, audit.png, validation.json and films (default: %(default)s)",
    )


def _audit(arguments: argparse.Namespace) -> int:
    from v2w_gym.envs.world import World
    from v2w_gym.evaluation.audit import AuditConfig, audit, format_audit
    from v2w_gym.evaluation.audit.recordings import record_missing

    config = AuditConfig(
        heldout=arguments.heldout,
        probes=arguments.probes,
        directions=arguments.directions,
        episodes=arguments.episodes,
        steps=arguments.steps,
        within=arguments.within,
        lpips=None if arguments.lpips is None else tuple(arguments.lpips),
        protocol=arguments.protocol,
        again=arguments.again,
    )
    world = World.open(arguments.world)
    record_missing(config)
    report = audit(world, config, arguments.out, device=arguments.device, sampler=arguments.sampler)
    print(f"\n{format_audit(report)}\n\npicture and numbers are in {arguments.out}")
    return 0 if report["passed"] else FAILED


AUDIT = {"audit": Command("hold a world against recorded reality, probe by probe", _add_audit, _audit)}
