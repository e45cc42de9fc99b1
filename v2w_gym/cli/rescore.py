"""Sub-command ``rescore``: score episodes of a ranking again from their films."""

from __future__ import annotations

import argparse
from pathlib import Path

from v2w_gym.cli.command import Command


def _add_rescore(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("ledger", type=Path, help="ledger.jsonl, or the folder that v2w rank --judge wrote")
    add("--judge", metavar="NAME|FILE.yaml", help="default: the judge of the ranking's last run")
    add("--all", action="store_true", dest="everything", help="all episodes, not the unscorable ones alone")
    add("--out", type=Path, help="folder for the verdicts of another judge, or of --all")
    add("--world", help="id, folder or hub id (default: where the ranking opened it)")
    add(
        "--judge-check",
        type=Path,
        help="report of v2w judge-check that corrects success rates (default: the one in the folder)",
    )
    add("--device", default="cpu", help="where the judge runs, e.g. cuda (default: %(default)s)")


def _rescore(arguments: argparse.Namespace) -> int:
    from v2w_gym.evaluation import format_table
    from v2w_gym.evaluation.rescoring import rescore
    from v2w_gym.evaluation.second import format_agreement

    done = rescore(
        arguments.ledger,
        arguments.judge,
        everything=arguments.everything,
        out=arguments.out,
        world=arguments.world,
        judge_check=arguments.judge_check,
        device=arguments.device,
        command=arguments.typed,
    )
    print(f"\n{format_table(done.summary)}\n")
    if arguments.out is not None:
        print(f"{format_agreement(done.before, done.after)}\n")
    left = done.asked - done.scored
    print(
        f"{done.asked} episodes were shown to the judge: {done.scored} scored, {left} still unscorable"
        + (f"; {done.unfilmed} have no film" if done.unfilmed else "")
        + f"; report in {done.folder}"
    )
    return 0


RESCORE = {
    "rescore": Command("score episodes of a ranking again from their films", _add_rescore, _rescore),
}
