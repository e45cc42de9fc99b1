"""A ranking as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from v2w_gym.evaluation.remarks import remarks

LABELS = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kendall": "Kendall",
    "mmrv": "MMRV",
    "regret": "Regret",
}
_ON_ONE_LINE = ("pearson", "spearman", "mmrv")


def format_table(summary: Mapping[str, Any]) -> str:
    """The summary that :func:`~v2w_gym.evaluation.rank` returns, for a terminal; intervals are 95 %.

    Facts that are not known, or that a summary from before they were kept does not hold, are left out.
    """
    title = (
        f"{summary['world']}: {len(summary['policies'])} policies x {summary['episodes']} episodes, "
        f"success rule {summary['success_rule']!r}, seed {summary['seed']}"
    )
    head, *rows = _columns(summary)
    parts = [
        [title],
        [head, "-" * len(head), *rows],
        _agreement(summary),
        remarks(summary),
        _unranked(summary),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def metric_line(summary: Mapping[str, Any]) -> str:
    """The three metrics with their intervals on one line."""
    shown = [(LABELS[key], summary[key]) for key in _ON_ONE_LINE if summary[key] is not None]
    return "   ".join(f"{label} {_rate(estimate)}" for label, estimate in shown)


def _columns(summary: Mapping[str, Any]) -> list[str]:
    """One line per policy below a line of headings; a column that says nothing of any policy is left out."""
    entries = summary["policies"]
    rules = [r for r in (entries[0].get("rules", {}) if entries else {}) if r != summary["success_rule"]]
    table: dict[str, list[str]] = {
        "rank": [_standing(e) for e in entries],
        "policy": [e["name"] for e in entries],
        "alike": [e.get("group") or "-" for e in entries],
        "imagined success": [_interval(e, "") for e in entries],
        "unscorable": [f"{e['unscorable']:10d}" if e["unscorable"] else "-" for e in entries],
        **{rule: [_or_dash(e["rules"].get(rule), ".2f") for e in entries] for rule in rules},
        "corrected": [_rate(e.get("corrected")) for e in entries],
        _calibrated_heading(summary): [_rate(e.get("calibrated")) for e in entries],
        "credibility": [_or_dash(e.get("credibility"), "11.2f") for e in entries],
        "real success": [_interval(e, "real_") + ("~" if e["unsteady"] else "") for e in entries],
        "difference": [_difference(e) for e in entries],
        "real rank": [_or_dash(e["real_rank"], "9d") for e in entries],
    }
    always = {"rank", "policy", "imagined success", "real success", "difference", "real rank"}
    shown = {k: v for k, v in table.items() if k in always or any(cell != "-" for cell in v)}
    columns = [[heading, *cells] for heading, cells in shown.items()]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    ]


def _calibrated_heading(summary: Mapping[str, Any]) -> str:
    """The map's name stands over its numbers, so that nobody takes them for imagined ones."""
    known = summary.get("calibration")
    return f"calibrated ({known['kind']})" if known else "calibrated"


def _standing(entry: Mapping[str, Any]) -> str:
    if entry["error"]:
        return "failed"
    return "abstains" if entry.get("abstained") else _or_dash(entry["rank"], "4d")


def _difference(entry: Mapping[str, Any]) -> str:
    imagined, real = entry["success"], entry["real_success"]
    return "-" if imagined is None or real is None else f"{imagined - real:+10.2f}"


def _agreement(summary: Mapping[str, Any]) -> list[str]:
    if summary["pearson"] is None:
        real = any(entry["real_success"] is not None for entry in summary["policies"])
        missing = (
            "no policy of measured success has a rank"
            if real
            else "no measured success is known for these policies"
        )
        return [f"{missing}, so the ranking is not held against reality"]
    known = sum(entry["real_rank"] is not None for entry in summary["policies"])
    columns = [
        ["", *LABELS.values()],
        ["agreement", *(_rate(summary.get(key)) for key in LABELS)],
        ["without one policy", *(_without(summary, key) for key in LABELS)],
        ["a perfect evaluator", *(_rate((summary.get("ceiling") or {}).get(key)) for key in LABELS)],
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    ]
    undefined = ["-: undefined, since success is the same for all policies, or there is only one"]
    return [
        f"agreement with reality over {known} policies, 95 % bootstrap over starts and policies; "
        "MMRV by the real gap, strict ties",
        *(f"  {line}" for line in lines),
        *(undefined if summary["pearson"]["value"] is None else []),
        *_steady(summary),
    ]


def _without(summary: Mapping[str, Any], key: str) -> str:
    """The range of a metric over leaving out one policy, with the one whose absence makes it worst."""
    known = (summary.get("leave_one_out") or {}).get(key)
    if known is None or known["low"] is None:
        return "-"
    worst = known["low_without"] if key in ("pearson", "spearman", "kendall") else known["high_without"]
    named = f" (worst without {worst})" if known["low"] < known["high"] else ""
    return f"{known['low']:.2f} to {known['high']:.2f}{named}"


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


def _unranked(summary: Mapping[str, Any]) -> list[str]:
    entries, lines = summary["policies"], []
    abstained = [entry for entry in entries if entry.get("abstained") and not entry["error"]]
    if abstained:
        lines += [
            f"{len(abstained)} of {len(entries)} policies have no rank, for imagination is not credible:"
        ]
        lines += [f"  {entry['name']}: {entry['abstained']}" for entry in abstained]
    failed = [entry for entry in entries if entry["error"]]
    if failed:
        lines += [f"{len(failed)} of {len(entries)} policies failed and are not ranked:"]
        lines += [
            f"  {entry['name']} (after {entry['episodes']} episodes): {entry['error']}" for entry in failed
        ]
    return lines


def _interval(entry: Mapping[str, Any], prefix: str) -> str:
    low, high = entry[f"{prefix}low"], entry[f"{prefix}high"]
    return _rate({"value": entry[f"{prefix}success"], "low": low, "high": high})


def _rate(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def _or_dash(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
