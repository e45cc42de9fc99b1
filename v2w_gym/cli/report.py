"""Sub-commands for what a ranking left: ``report`` tells it again, ``merge`` puts several together."""

from __future__ import annotations

import argparse
from pathlib import Path

from v2w_gym.cli.command import Command


def _add_report(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("ledger", type=Path, help="ledger.jsonl, or the folder that v2w rank wrote")
    add("--world", help="id, folder or hub id (default: where the ranking opened it)")
    add("--audit", type=Path, help="audit.json of v2w audit (default: the one beside the ledger)")
    add(
        "--judge-check",
        type=Path,
        help="report of v2w judge-check that corrects success rates (default: the one beside the ledger)",
    )
    add("--calibrate", choices=("affine", "isotonic"), help="map imagined to real success, and say so")
    add("--out", type=Path, help="the HTML file (default: report.html beside the ledger)")


def _report(arguments: argparse.Namespace) -> int:
    from v2w_gym.evaluation.page import write_page
    from v2w_gym.evaluation.publishing import PAGE
    from v2w_gym.evaluation.rereading import ledger_file, reread

    sources = reread(
        arguments.ledger,
        world=arguments.world,
        audit=arguments.audit,
        judge_check=arguments.judge_check,
        calibrate=arguments.calibrate,
    )
    out = arguments.out or ledger_file(arguments.ledger).parent / PAGE
    write_page(out, sources)
    size = out.stat().st_size / 1e6
    print(f"{len(sources.records)} episodes; report of {size:.1f} MB in {out}, open it in a browser")
    return 0


def _add_merge(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("ledgers", type=Path, nargs="+", help="ledgers, or folders that v2w rank wrote")
    add("--out", type=Path, required=True, help="folder of the merged ledger; it may hold one already")
    add("--force", action="store_true", help="merge runs of unlike weights, versions or machines, and say so")


def _merge(arguments: argparse.Namespace) -> int:
    from v2w_gym.evaluation.merging import merge

    merged = merge(arguments.ledgers, arguments.out, force=arguments.force)
    for text in merged.mixed:
        print(f"unlike: {text}")
    print(f"{merged.added} episodes added, {merged.double} were there already; go on with")
    print(f"  v2w report {arguments.out}")
    return 0


REPORT = {
    "report": Command("write the report of a ranking again, from its ledger", _add_report, _report),
    "merge": Command("put the ledgers of several rankings together", _add_merge, _merge),
}
