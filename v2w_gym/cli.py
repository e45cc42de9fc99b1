"""The command ``v2w``. A sub-command imports what it needs when it runs, so that ``v2w --help`` is instant.

To add one: write ``_add_NAME(parser)``, ``_NAME(arguments) -> exit code``, and a line in ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER_ERROR, STOPPED = 2, 130


@dataclass(frozen=True)
class Command:
    """One sub-command.

    Attributes:
        help: one line.
        add_arguments: declares its arguments.
        run: does the work and returns the exit code.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


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
        help="folder of the results; run again to go on (default: runs/rank-WORLD-SEED-RULE)",
    )
    add("--success-rule", default="any", help="any, last or held_K (default: %(default)s)")
    add("--batch-size", type=int, help="episodes imagined together; changes speed, not results")
    add("--device", default="cpu", help="where the world model runs, e.g. cuda (default: %(default)s)")


def _rank(arguments: argparse.Namespace) -> int:
    from v2w_gym import evaluation
    from v2w_gym.envs.world import World
    from v2w_gym.policies import registry

    sys.path.append(os.getcwd())  # a policy beside the user is found by module:attr
    world = World.open(arguments.world)
    policies = {name: registry.resolve(name) for name in arguments.policy or registry.names()}
    out = arguments.out or Path("runs", f"rank-{world.config.name}-{arguments.seed}-{arguments.success_rule}")
    summary = evaluation.rank(
        world,
        policies,
        episodes=arguments.episodes,
        seed=arguments.seed,
        out=out,
        success_rule=arguments.success_rule,
        batch_size=evaluation.BATCH_SIZE if arguments.batch_size is None else arguments.batch_size,
        device=arguments.device,
    )
    print(f"\n{evaluation.format_table(summary)}\n\npictures and numbers are in {out}")
    return 0 if any(entry["error"] is None for entry in summary["policies"]) else 1


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.argument_default = argparse.SUPPRESS  # what is not given is left to the defaults of RecordConfig
    add = parser.add_argument
    add("--out", required=True, help="folder for the episode files")
    add("--episodes", type=int, required=True, help="how many; those already there are kept")
    add("--task", help="Meta-World task; default: closing the drawer")
    add(
        "--first-seed",
        type=int,
        help="episode i has this seed + i; keep the ranges of different splits apart",
    )
    add("--behaviour", help="one kind only; default: a kind per episode")
    add("--no-actions", dest="with_actions", action="store_false", help="record an action-free video")
    add("--workers", type=int, help="processes, one renderer each")


def _record(arguments: argparse.Namespace) -> int:
    from v2w_gym.config import from_dict
    from v2w_gym.data.record import RecordConfig, record

    record(from_dict(RecordConfig, vars(arguments), where="v2w record"))
    return 0


def _add_worlds(_: argparse.ArgumentParser) -> None:
    pass


def _worlds(_: argparse.Namespace) -> int:
    from v2w_gym.registration import GENERIC_ID, SHIPPED_WORLDS

    for env_id in SHIPPED_WORLDS:
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
    return (
        f"ready: {h}x{w} frames, {len(world.config.action.names)} action components, "
        f"{world.config.horizon} steps, {len(world.starts())} starts, {measured}\n"
        f'  gym.make("v2w_gym:{env_id}")'
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    from v2w_gym.training.stages import STAGES

    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML, e.g. configs/drawer_close/codec.yaml"
    )
    parser.add_argument("--out", type=Path, help="checkpoints, curves, samples, result (default: runs/STAGE)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. loop.steps=100")


def _train(arguments: argparse.Namespace) -> int:
    from v2w_gym.training import stages

    out = arguments.out or Path("runs", arguments.stage)
    done = stages.run(arguments.stage, arguments.config, out, arguments.overrides)
    print(
        f"{arguments.stage}: {'done' if done else 'stopped by its time limit; run again to go on'}, see {out}"
    )
    return 0


def _add_assemble(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML, e.g. configs/drawer_close/world.yaml"
    )
    parser.add_argument("--out", type=Path, required=True, help="the world folder")


def _assemble(arguments: argparse.Namespace) -> int:
    from v2w_gym.config import load
    from v2w_gym.training.assemble import AssembleConfig, assemble

    assemble(load(AssembleConfig, arguments.config), arguments.out)
    print(f'{arguments.out} is a world: gym.make("v2w_gym:Vid2World-v0", world="{arguments.out}")')
    return 0


def _add_card(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--world", type=Path, required=True, help="the world folder")
    add(
        "--validation",
        type=Path,
        default=Path("runs/validate/validation.json"),
        help="(default: %(default)s)",
    )
    add("runs", nargs="+", metavar="stage=folder", help="in the order of training, e.g. codec=runs/codec")


def _card(arguments: argparse.Namespace) -> int:
    from v2w_gym.training.card import write_card

    write_card(arguments.world, dict(run.split("=", 1) for run in arguments.runs), arguments.validation)
    print(f"wrote {arguments.world / 'README.md'}")
    return 0


def _add_validate(parser: argparse.ArgumentParser) -> None:
    from v2w_gym.registration import SHIPPED_WORLDS

    add = parser.add_argument
    add("--world", default=next(iter(SHIPPED_WORLDS)), help="id, folder or hub id (default: %(default)s)")
    add("--heldout", required=True, help="folder of held-out episodes")
    add("--probes", help="folder of episodes that never succeed; recorded if it is not there")
    add("--directions", help="folder of one constant action per direction; recorded if it is not there")
    add("--episodes", type=int, default=100, help="held-out episodes to replay (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=Path("runs/validate"),
        help="films and validation.json (default: %(default)s)",
    )


def _validate(arguments: argparse.Namespace) -> int:
    from v2w_gym.envs.world import World
    from v2w_gym.evaluation import validation

    world = World.open(arguments.world)
    if arguments.probes and not Path(arguments.probes).exists():
        validation.record_probes(arguments.probes)
    if arguments.directions and not Path(arguments.directions).exists():
        validation.record_directions(arguments.directions)
    given = validation.Validation(
        arguments.heldout, arguments.probes, arguments.directions, arguments.episodes
    )
    print(validation.format_report(validation.validate(world, given, arguments.out)))
    return 0


COMMANDS = {
    "rank": Command("rank policies in imagination, against reality where it is known", _add_rank, _rank),
    "record": Command("record episodes of Meta-World (needs the extra 'metaworld')", _add_record, _record),
    "train": Command("run one training stage, or go on with it", _add_train, _train),
    "assemble": Command("put trained parts together as a world folder", _add_assemble, _assemble),
    "validate": Command("hold a world against recorded reality", _add_validate, _validate),
    "card": Command("write the card of a world from its training and its validation", _add_card, _card),
    "worlds": Command("list the world ids and what each needs", _add_worlds, _worlds),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments; default: those of the process.

    Returns:
        0, 1 if nothing could be ranked, 2 after an error of the user's making, 130 if stopped by the
        keyboard.
    """
    parser = argparse.ArgumentParser(prog="v2w", description="Vid2World worlds as environments.")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    arguments: dict[str, Any] = vars(parser.parse_args(argv))
    command, traceback = COMMANDS[arguments.pop("command")], arguments.pop("traceback")
    try:
        return command.run(argparse.Namespace(**arguments))
    except (ValueError, OSError, ImportError) as error:
        if traceback:
            raise
        print(f"v2w: error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return STOPPED
