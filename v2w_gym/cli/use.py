"""Sub-commands for those who use a world: ``rank``, ``presets`` and ``worlds``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from v2w_gym.cli.command import Command


def _add_rank(parser: argparse.ArgumentParser) -> None:
    from v2w_gym.registration import SHIPPED_WORLDS

    add = parser.add_argument
    add("--world", default=next(iter(SHIPPED_WORLDS)), help="id, folder or hub id (default: %(default)s)")
    add(
        "--policy",
        action="append",
        metavar="NAME|MODULE:ATTR|FILE.py:ATTR",
        help="repeat for more; default: all shipped policies",
    )
    add("--episodes", type=int, default=50, help="per policy, each from its own start (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the noise that all policies share (default: %(default)s)")
    add(
        "--out",
        type=Path,
        help="folder of the results; run again to go on (default: runs/rank-WORLD-SEED-RULE|JUDGE[-PRESET])",
    )
    add("--sampler", metavar="PRESET", help="one of the world's presets, e.g. fast (default: its sampler)")
    add("--success-rule", default="any", help="any, last or held_K (default: %(default)s)")
    add("--judge", metavar="NAME|FILE.yaml", help="judge of whole clips in place of the world's detector")
    add(
        "--judge-check",
        type=Path,
        help="report of v2w judge-check on it, which corrects success rates (default: the one in --out)",
    )
    add("--batch-size", type=int, help="episodes imagined together; changes speed, not results")
    add("--device", default="cpu", help="where the world model runs, e.g. cuda (default: %(default)s)")
    add(
        "--stop-early",
        type=float,
        metavar="ERROR",
        help="stop as soon as it is decided; equal policies are told apart with at most this probability",
    )
    add("--calibrate", choices=("affine", "isotonic"), help="map imagined to real success, and say so")
    add("--force", action="store_true", help="go on from a ledger of unlike weights or machine, and say so")


def _rank(arguments: argparse.Namespace) -> int:
    from v2w_gym import evaluation
    from v2w_gym.envs.world import World
    from v2w_gym.policies import registry

    sys.path.append(os.getcwd())  # a policy beside the user is found by module:attr
    world = World.open(arguments.world)
    policies = {name: registry.resolve(name) for name in arguments.policy or registry.names()}
    judge = None if arguments.judge is None else Path(arguments.judge).stem
    rule = arguments.success_rule if judge is None else judge
    named = (world.config.name, str(arguments.seed), rule, arguments.sampler)
    out = arguments.out or Path("runs", "-".join(["rank", *filter(None, named)]))
    summary = evaluation.rank(
        world,
        policies,
        episodes=arguments.episodes,
        seed=arguments.seed,
        out=out,
        success_rule=arguments.success_rule,
        judge=arguments.judge,
        judge_check=arguments.judge_check,
        batch_size=evaluation.BATCH_SIZE if arguments.batch_size is None else arguments.batch_size,
        device=arguments.device,
        sampler=arguments.sampler,
        force=arguments.force,
        stop_early=arguments.stop_early,
        calibrate=arguments.calibrate,
        command=arguments.typed,
    )
    print(f"\n{evaluation.format_table(summary)}\n\npictures and numbers are in {out}; open report.html")
    return 0 if any(entry["error"] is None for entry in summary["policies"]) else 1


def _add_presets(parser: argparse.ArgumentParser) -> None:
    from v2w_gym.registration import SHIPPED_WORLDS

    add = parser.add_argument
    add("--world", default=next(iter(SHIPPED_WORLDS)), help="id, folder or hub id (default: %(default)s)")
    add("--heldout", required=True, help="folder of held-out episodes")
    add(
        "--episodes",
        type=int,
        default=50,
        help="held-out ones to replay, and imagined ones per policy (default: %(default)s)",
    )
    add("--device", default="cpu", help="where the world model runs, e.g. cuda (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=Path("runs/presets"),
        help="presets.json, and a ranking per preset; run again to go on (default: %(default)s)",
    )


def _presets(arguments: argparse.Namespace) -> int:
    from v2w_gym.envs.world import World
    from v2w_gym.evaluation import presets
    from v2w_gym.policies import registry

    report = presets.measure_presets(
        World.open(arguments.world),
        arguments.heldout,
        {name: registry.resolve(name) for name in registry.names()},
        arguments.out,
        episodes=arguments.episodes,
        device=arguments.device,
    )
    print(f"\n{presets.format_presets(report)}\n\nnumbers are in {arguments.out / 'presets.json'}")
    return 0


def _add_worlds(_: argparse.ArgumentParser) -> None:
    pass


def _worlds(_: argparse.Namespace) -> int:
    from v2w_gym.registration import GENERIC_ID, RELEASED_WORLDS, SHIPPED_WORLDS

    for env_id in (*SHIPPED_WORLDS, *RELEASED_WORLDS):
        print(f"{env_id}\n  {_needs(env_id)}")
    print(f'{GENERIC_ID}\n  any other world: gym.make("v2w_gym:{GENERIC_ID}", world="folder-or-hub-id")')
    return 0


def _needs(env_id: str) -> str:
    from v2w_gym.envs.world import World

    try:
        world = World.open(env_id)
    except FileNotFoundError as error:
        return f"not usable: {error}"
    h, w = world.config.frame_size
    reality = world.reality()
    measured = (
        f"measured success of {len(reality['policies'])} policies" if reality else "no measured success"
    )
    starts, given = (
        (f"{len(world.starts())} starts", "") if world.ships_starts else ("no starts", ', starts="clip.mp4"')
    )
    return (
        f"ready: {h}x{w} frames, {len(world.config.action.names)} action components, "
        f"{world.config.horizon} steps, {starts}, {measured}\n"
        f'  gym.make("v2w_gym:{env_id}"{given})'
    )


USE = {
    "rank": Command("rank policies in imagination, against reality where it is known", _add_rank, _rank),
    "presets": Command("measure the sampler presets of a world, side by side", _add_presets, _presets),
    "worlds": Command("list the world ids and what each needs", _add_worlds, _worlds),
}
