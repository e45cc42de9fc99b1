"""A judge's report card for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from v2w_gym.evaluation.audit.text import shown

_WIDTH = 104


def format_card(report: Mapping[str, Any]) -> str:
    """What ``judge_check.json`` says; intervals are 95 %."""
    [(title, result)] = report["results"].items()
    rows = [("verdict", "red team", "says success", "passes if")]
    rows += [(p["verdict"], p["name"], shown(p), p["passes"]) for p in report["red_team"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    heading, *lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    failures = report["clips"] - report["successes"]
    table = [
        f"judge {report['judge']} ({report['hash']}), success from {report['threshold']:g} on",
        f"{title}: {report['successes']} successes, {failures} failures",
        "",
        *_matrix(result),
        "",
        *(f"{name:22}{value}" for name, value in figures(report)),
        "",
        heading,
        "-" * len(heading),
    ]
    indent = " " * (widths[0] + 2)
    for line, p in zip(lines, report["red_team"], strict=True):
        said = f"{p['question']} {p['says']}" + (f"; what it takes: {p['to_run']}" if p["to_run"] else "")
        table += [line, *textwrap.wrap(said, _WIDTH, initial_indent=indent, subsequent_indent=indent)]
    return "\n".join(table)


def _matrix(result: Mapping[str, Any]) -> list[str]:
    c = result["per_episode"]
    return [
        f"{'':22}{'judged success':>16}{'judged failure':>16}",
        f"{'labelled success':22}{c['true_success']:16d}{c['false_failure']:16d}",
        f"{'labelled failure':22}{c['false_success']:16d}{c['true_failure']:16d}",
    ]


def figures(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the figures on labelled clips, and of what they took."""
    [result] = report["results"].values()
    spent, unscorable = report["spent"], result["unscorable"]
    known, error = result["reliability"], "-"
    if known is not None:
        error = f"{known['expected_calibration_error']:.3f} expected calibration error"
    cost = "no known price" if spent["cost"] is None else f"cost {spent['cost']:.4g}"
    return [
        ("sensitivity", _rate(result["sensitivity"])),
        ("specificity", _rate(result["specificity"])),
        ("AUROC", _rate(result["auroc"])),
        ("calibration", error),
        ("unscorable", f"{unscorable['count']} of {report['clips']}, {_rate(unscorable)}"),
        (
            "per clip",
            f"{spent['seconds_per_clip']:.3g} s, {spent['tokens_per_clip']:.4g} tokens; "
            f"{spent['clips']} clips in all, {spent['tokens']} tokens, {cost}",
        ),
    ]


def _rate(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
