"""Sub-commands for those who make a world, in the order of the work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from v2w_gym.cli.command import Command

if TYPE_CHECKING:
    from v2w_gym.data.record import RecordConfig


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
    add(
        "--shift",
        help="change something of the scene: camera-moved, camera-turned, light, colour, obstacle or beyond",
    )
    add("--no-actions", dest="with_actions", action="store_false", help="record an action-free video")
    add("--workers", type=int, help="processes, one renderer each")
    add(
        "--policies",
        type=Path,
        metavar="FOLDER",
        help="the image policies of 'v2w train policies' act, half of the time disturbed on their way",
    )


def _record(arguments: argparse.Namespace) -> int:
    from v2w_gym.config import from_dict
    from v2w_gym.data.record import RecordConfig, record

    values = dict(vars(arguments))
    policies, _ = values.pop("policies", None), values.pop("typed")
    config = from_dict(RecordConfig, values, where="v2w record")
    if policies is None:
        record(config)
        return 0
    if refused := sorted(values.keys() & {"task", "behaviour", "shift", "with_actions"}):
        names = ", ".join("--no-actions" if name == "with_actions" else f"--{name}" for name in refused)
        raise ValueError(f"--policies acts in the plain scene by itself; leave out {names}")
    _record_policies(policies, config)
    return 0


def _record_policies(folder: Path, config: RecordConfig) -> None:
    from v2w_gym.data import reality
    from v2w_gym.policies import trained

    weights = {file.stem: str(file) for file in sorted(folder.glob("*.safetensors"))}
    if not weights:
        raise FileNotFoundError(
            f"no policy weights (*.safetensors) in {folder}; make some: v2w train policies"
        )
    seeds = range(config.first_seed, config.first_seed + config.episodes)
    disturb = reality.DisturbConfig()
    reality.record_policies(weights, trained.load, config.out, seeds, disturb, workers=config.workers)


def _add_train(parser: argparse.ArgumentParser) -> None:
    from v2w_gym.training.stages import STAGES

    stages = parser.add_subparsers(required=True, metavar="STAGE", dest="stage")
    for name in STAGES:  # with a parser of its own each, settings may stand before and after options
        add = stages.add_parser(name).add_argument
        add("--config", type=Path, required=True, help=f"YAML, e.g. configs/drawer_close/{name}.yaml")
        add("--out", type=Path, help=f"checkpoints, curves, samples, result (default: runs/{name})")
        add("overrides", nargs="*", metavar="key=value", help="e.g. loop.steps=100")


def _train(arguments: argparse.Namespace) -> int:
    from v2w_gym.training import stages

    out = arguments.out or Path("runs", arguments.stage)
    done = stages.run(arguments.stage, arguments.config, out, arguments.overrides)
    print(
        f"{arguments.stage}: {'done' if done else 'stopped by its time limit; run again to go on'}, see {out}"
    )
    return 0


def _add_reality(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--world", type=Path, help="the world folder: its starts, and all shipped policies")
    what.add_argument(
        "--policy",
        action="append",
        metavar="SPEC",
        help="this one alone, as v2w rank takes it, e.g. latent:FILE; repeat for more",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/reality.json"), help="table of --policy (default: %(default)s)"
    )
    parser.add_argument(
        "--episodes", type=int, default=100, help="start seeds 0 to N-1 (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")


def _reality(arguments: argparse.Namespace) -> int:
    from v2w_gym.data.reality import make_starts
    from v2w_gym.envs.integrity import WORLD_FILE, write_hashes
    from v2w_gym.training.policy_card import measure_shipped

    if arguments.policy:
        return _reality_of(arguments)
    command = f"v2w reality --world {arguments.world} --episodes {arguments.episodes}"
    table = arguments.world / "reality.json"
    try:
        make_starts(range(arguments.episodes)).save(arguments.world / "starts")
        measure_shipped(table, command, episodes=arguments.episodes, workers=arguments.workers)
    finally:  # a world that is there already has new files now, even if this was stopped halfway
        if (arguments.world / WORLD_FILE).is_file():
            write_hashes(arguments.world)
    return 0


def _reality_of(arguments: argparse.Namespace) -> int:
    from v2w_gym.data.reality import measure
    from v2w_gym.policies import registry

    for spec in arguments.policy:
        registry.resolve(spec)  # what cannot be opened is to be heard of before the first episode
    chosen = " ".join(f"--policy {spec}" for spec in arguments.policy)
    command = f"v2w reality {chosen} --episodes {arguments.episodes} --out {arguments.out}"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    measure(
        arguments.policy,
        registry.resolve,
        arguments.out,
        command=command,
        episodes=arguments.episodes,
        workers=arguments.workers,
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
        default=Path("runs/audit/validation.json"),
        help="(default: %(default)s)",
    )
    add("runs", nargs="+", metavar="stage=folder", help="in the order of training, e.g. codec=runs/codec")


def _card(arguments: argparse.Namespace) -> int:
    from v2w_gym.training.card import write_card

    for run in arguments.runs:
        if "=" not in run:
            raise ValueError(f"a run looks like codec=runs/codec, got {run!r}")
    write_card(arguments.world, dict(run.split("=", 1) for run in arguments.runs), arguments.validation)
    print(f"wrote {arguments.world / 'README.md'}")
    return 0


BUILD = {
    "record": Command("record episodes of Meta-World (needs the extra 'metaworld')", _add_record, _record),
    "train": Command("run one training stage, or go on with it", _add_train, _train),
    "reality": Command("starts of a world, and its shipped policies in reality", _add_reality, _reality),
    "assemble": Command("put trained parts together as a world folder", _add_assemble, _assemble),
    "card": Command("write the card of a world from its training and its audit", _add_card, _card),
}
