"""A ranking as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEADER = ("rank", "policy", "imagined success", "real success", "difference", "real rank")
_METRICS = {"pearson": "Pearson", "spearman": "Spearman", "mmrv": "MMRV"}


def format_table(summary: Mapping[str, Any]) -> str:
    """The summary that :func:`~v2w_gym.evaluation.rank` returns, for a terminal; intervals are 95 %."""
    rows = [_HEADER, *(_row(entry) for entry in summary["policies"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    title = (
        f"{summary['world']}: {len(summary['policies'])} policies x {summary['episodes']} episodes, "
        f"success rule {summary['success_rule']!r}, seed {summary['seed']}"
    )
    return "\n".join(
        [title, "", lines[0], "-" * len(lines[0]), *lines[1:], "", *_agreement(summary), *_errors(summary)]
    )


def metric_line(summary: Mapping[str, Any]) -> str:
    """The three metrics with their intervals on one line."""
    shown = [(label, summary[key]) for key, label in _METRICS.items() if summary[key] is not None]
    return "   ".join(f"{label} {_rate(e['value'], e['low'], e['high'])}" for label, e in shown)


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    imagined, real = entry["success"], entry["real_success"]
    return (
        "failed" if entry["error"] else _or_dash(entry["rank"], "4d"),
        entry["name"],
        _rate(imagined, entry["low"], entry["high"]),
        _rate(real, entry["real_low"], entry["real_high"]) + ("~" if entry["unsteady"] else ""),
        "-" if imagined is None or real is None else f"{imagined - real:+10.2f}",
        _or_dash(entry["real_rank"], "9d"),
    )


def _or_dash(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _rate(value: float | None, low: float, high: float) -> str:
    return "-" if value is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _agreement(summary: Mapping[str, Any]) -> list[str]:
    if summary["pearson"] is None:
        return ["no measured success is known for these policies, so the ranking is not held against reality"]
    known = sum(entry["real_rank"] is not None for entry in summary["policies"])
    lines = [f"agreement with reality over {known} policies, 95 % bootstrap over starts and policies"]
    for key, label in _METRICS.items():
        estimate = summary[key]
        undefined = "undefined: success is the same for all policies, or there is only one"
        shown = _rate(estimate["value"], estimate["low"], estimate["high"])
        lines.append(f"  {label:9}{undefined if shown == '-' else shown}")
    return lines + _steady(summary)


def _steady(summary: Mapping[str, Any]) -> list[str]:
    """What hangs on details of reality that no frame shows, and the agreement without it."""
    if summary["steady"] is None:
        return []
    moved = [
        f"{entry['name']} ({entry['real_shaken']:.2f})" for entry in summary["policies"] if entry["unsteady"]
    ]
    return [
        "~ real success hangs on details that no frame shows; with a little noise in the actions it is: "
        + ", ".join(moved),
        f"  without them: {metric_line(summary['steady'])}",
    ]


def _errors(summary: Mapping[str, Any]) -> list[str]:
    failed = [entry for entry in summary["policies"] if entry["error"]]
    if not failed:
        return []
    return ["", f"{len(failed)} of {len(summary['policies'])} policies failed and are not ranked:"] + [
        f"  {entry['name']} (after {entry['episodes']} episodes): {entry['error']}" for entry in failed
    ]
