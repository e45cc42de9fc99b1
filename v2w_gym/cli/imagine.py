"""Sub-command ``imagine``: train a policy in imagination, and hold it against reality."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from v2w_gym.cli.command import Command

_KEPT = ("start", "policy", "last")


def _add_imagine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, required=True, help="YAML file, e.g. configs/imagination/drawer_close.yaml")
    add(
        "--out",
        type=Path,
        default=Path("runs/imagine"),
        help="checkpoint, curve and policies; run again to go on (default: %(default)s)",
    )
    add(
        "--compare",
        type=int,
        default=0,
        metavar="N",
        help="then rank what training began with, its best and its last over N starts of the world",
    )
    add("--real", action="store_true", help="with --compare: the same starts in Meta-World, too")
    add("overrides", nargs="*", metavar="key=value", help="e.g. updates=100 clone.teacher=linear seed=1")


def _imagine(arguments: argparse.Namespace) -> int:
    from v2w_gym.training import stages

    if arguments.real and arguments.compare < 1:
        raise ValueError("--real needs a number of starts: --compare 50 --real")
    sys.path.append(os.getcwd())  # a teacher beside the user is found by module:attr
    out: Path = arguments.out
    done = stages.run("imagination", arguments.config, out, arguments.overrides)
    ended = "done" if done else f"stopped before its end, {out / 'progress.jsonl'} says why"
    print(f"imagine: {ended}\n  v2w rank --policy latent:{out / 'policy.safetensors'}")
    if arguments.compare:
        _compare(out, arguments.compare, arguments.real)
    return 0


def _compare(out: Path, episodes: int, real: bool) -> None:
    """Imagined and real success of the kept policies, side by side, in ``comparison.json``."""
    from v2w_gym import evaluation
    from v2w_gym.policies.latent import LatentPolicy
    from v2w_gym.policies.stored import read_policy

    world = json.loads((out / "legs.jsonl").read_text().splitlines()[-1])["config"]["world"]
    policies = {name: LatentPolicy.load(out / f"{name}.safetensors") for name in _KEPT}
    updates = read_policy(out / "last.safetensors")[1]["updates"]  # a ranking knows policies by name alone
    summary = evaluation.rank(world, policies, episodes=episodes, seed=0, out=out / f"rank-{updates}")
    rows = {
        e["name"]: {"imagined": e["success"], "low": e["low"], "high": e["high"]} for e in summary["policies"]
    }
    if real:
        from v2w_gym.data.reality import run_policy

        seeds = _seeds(world, episodes)
        for name, policy in policies.items():
            rows[name]["real"] = sum(run_policy(policy, seeds).values()) / episodes
    (out / "comparison.json").write_text(
        json.dumps({"episodes": episodes, "policies": rows}, indent=1) + "\n"
    )
    print(f"\n{'policy':8s} imagined   real   ({episodes} starts)")
    for name in _KEPT:
        row = rows[name]
        measured = f"{row['real']:.2f}" if "real" in row else "   -"
        print(f"{name:8s} {row['imagined']:8.2f}   {measured}")


def _seeds(world: str, episodes: int) -> list[int]:
    """Those of Meta-World that belong to the starts of a ranking."""
    from v2w_gym.envs.world import World

    starts = World.open(world).starts()
    seeds = [starts.by_id(start).seed for start in starts.ids[:episodes]]
    if None in seeds:
        raise ValueError(
            f"the starts of world {world!r} bear no seeds of Meta-World, so reality cannot begin from them; "
            "leave --real out"
        )
    return [seed for seed in seeds if seed is not None]


IMAGINE = {"imagine": Command("train a policy in imagination, or go on with it", _add_imagine, _imagine)}
