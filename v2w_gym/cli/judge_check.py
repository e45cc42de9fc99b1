"""Sub-command ``judge-check``: hold a judge of clips against labelled clips, and try to mislead it."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from v2w_gym.cli.command import Command

FAILED = 1


def _add_judge_check(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Exit code: 0 if no probe of the red team fails, 1 if one does or none could run, 2 after an error. "
        "A probe passes only if its whole 95 % interval keeps to the bound."
    )
    add = parser.add_argument
    add("judge", metavar="NAME|FILE.yaml", help="the judge")
    add("--clips", required=True, help="episodes with success flags, videos with labels, or a ranking")
    add("--labels", help="JSON or CSV with the labels of videos (default: labels.json or .csv beside them)")
    add("--world", help="of a ranking: id, folder or hub id (default: where the ranking opened it)")
    add(
        "--imagined",
        action="store_true",
        help="the clips were imagined, and are labelled by how the same ended in reality",
    )
    add("--instruction", help="what was asked for (default: what the files say)")
    add("--swapped", help="what swapped instructions ask for (default: what another clip was told)")
    add("--fps", type=float, help="frames per second of real time (default: what the files say, or 5)")
    add("--episodes", type=int, default=200, help="clips at most (default: %(default)s)")
    add("--each", type=int, default=50, help="misleading clips of each kind at most (default: %(default)s)")
    add(
        "--bound",
        type=float,
        default=0.1,
        help="share of misleading clips that it may call a success (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    add("--device", default="cpu", help="where the judge runs, e.g. cuda (default: %(default)s)")
    add(
        "--out",
        type=Path,
        help="judge_check.json, judge_check.html and answers.jsonl; run again to go on "
        "(default: runs/judge-check-NAME)",
    )


def _judge_check(arguments: argparse.Namespace) -> int:
    from v2w_gym.evaluation.judge_check import JudgeCheckConfig, check_judge, format_card
    from v2w_gym.rewards.judges import open_judge

    name = Path(arguments.judge).stem
    folder = arguments.out or Path("runs", f"judge-check-{name}")
    config = JudgeCheckConfig(**{one.name: getattr(arguments, one.name) for one in fields(JudgeCheckConfig)})
    judge = open_judge(arguments.judge, device=arguments.device)
    report = check_judge(judge, config, folder, name=name, progress=True)
    print(f"\n{format_card(report)}\n\nthe card is in {folder}; open judge_check.html")
    return 0 if report["passed"] else FAILED


JUDGE_CHECK = {
    "judge-check": Command("hold a judge of clips against labelled ones", _add_judge_check, _judge_check),
}
