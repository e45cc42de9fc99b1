"""Head and ranking of the report."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from v2w_gym.evaluation.ledger import Record

Entry = Mapping[str, Any]

NOTHING = "\u2013"
MOST_CELLS = 30_000
"""Episodes above which the page does not draw every one of them."""


def view(summary: Mapping[str, Any], records: Sequence[Record], starts: Sequence[str]) -> dict[str, Any]:
    """What head and ranking show."""
    entries = summary["policies"]
    ranked = [e for e in entries if e["rank"] is not None]
    return {
        "title": f"{len(entries)} {'policy' if len(entries) == 1 else 'policies'} ranked in imagination",
        "world": summary["world"],
        "lead": _lead(summary, ranked),
        "tiles": _tiles(summary, ranked),
        "measured": any(e["real_success"] is not None for e in entries),
        "rows": [_row(e) for e in entries],
        "remarks": [*_ties(ranked), *_remarks(entries)],
        "grid": _grid(entries, records, starts),
    }


def percent(value: float) -> str:
    """A rate in whole percents."""
    return f"{100 * value:.0f} %"


def span(estimate: Mapping[str, Any], form: str = ".2f") -> str:
    """``low to high`` of an estimate."""
    return f"{estimate['low']:{form}} to {estimate['high']:{form}}"


def _lead(summary: Mapping[str, Any], ranked: Sequence[Entry]) -> str:
    plan = f"up to {summary['episodes']}" if summary.get("sequential") else f"{summary['episodes']}"
    start = f"{plan} imagined episodes per policy, told to “{summary['instruction']}”."
    if not ranked:
        return f"{start} No policy could be ranked."
    best = ranked[0]
    first = [e["name"] for e in ranked if e["rank"] == best["rank"]]
    verb, it = ("succeeds", "it") if len(first) == 1 else ("succeed", "them")
    says = f"{_names(first)} {verb} most often, in {percent(best['success'])}"
    if alike := [e["name"] for e in ranked[len(first) :] if _letters(e) & _letters(best)]:
        says += f"; {_names(alike)} cannot be told apart from {it}"
    return f"{start} {says}."


def _names(names: Sequence[str], most: int = 4) -> str:
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _letters(entry: Entry) -> set[str]:
    return set(re.findall(r"[a-z]\d*", entry.get("group") or ""))


def _tiles(summary: Mapping[str, Any], ranked: Sequence[Entry]) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = []
    known = sum(e["real_rank"] is not None for e in summary["policies"])
    for key, name in (("pearson", "Pearson, with reality"), ("spearman", "Spearman, with reality")):
        estimate = summary.get(key)
        if estimate is not None and estimate["value"] is not None:
            note = f"{span(estimate)}, {known} policies"
            tiles.append(_tile(name, f"{estimate['value']:.2f}", note))
    if (regret := summary.get("regret")) and regret["value"] is not None:
        picked = _names(summary.get("picked") or ["?"])
        tiles.append(
            _tile(
                "regret of the pick", f"{100 * regret['value']:.0f} points", f"real loss by taking {picked}"
            )
        )
    run = sum(e["episodes"] for e in summary["policies"])
    tiles.append(_tile("episodes", f"{run:,}".replace(",", " "), f"{len(summary['policies'])} policies"))
    if away := len(summary["policies"]) - len(ranked):
        tiles.append(_tile("not ranked", str(away), "failed or abstained", bad=True))
    return tiles


def _tile(label: str, value: str, note: str, bad: bool = False) -> dict[str, Any]:
    return {"label": label, "value": value, "note": note, "bad": bad}


def _row(entry: Entry) -> dict[str, Any]:
    imagined, real = _bar(entry, ""), _bar(entry, "real_")
    said = [f"{entry['name']}:"]
    said += [f"imagined {percent(entry['success'])}"] if imagined else ["no imagined success"]
    said += [f"real {percent(entry['real_success'])}"] if real else []
    return {
        "rank": entry["rank"],
        "name": entry["name"],
        "group": entry.get("group") or "",
        "chips": _chips(entry),
        "imagined": imagined,
        "real": real,
        "middle": 34 if real else 50,
        "spoken": f"{said[0]} {', '.join(said[1:])}",
    }


def _bar(entry: Entry, prefix: str) -> dict[str, float] | None:
    low, high = entry[prefix + "low"], entry[prefix + "high"]
    value = entry[prefix + "success"]
    return None if value is None else {"value": 100 * value, "low": 100 * low, "high": 100 * high}


def _chips(entry: Entry) -> list[dict[str, str]]:
    chips = []
    if entry["error"]:
        chips.append({"word": "failed", "why": entry["error"]})
    if entry.get("abstained"):
        chips.append({"word": "not believed", "why": entry["abstained"]})
    if entry["unsteady"]:
        chips.append({"word": "unsteady", "why": "see below the ranking"})
    if entry["unscorable"]:
        chips.append({"word": f"{entry['unscorable']} unscorable", "why": "not counted as failures"})
    return chips


def _ties(ranked: Sequence[Entry]) -> list[str]:
    members: dict[str, list[str]] = defaultdict(list)
    for entry in ranked:
        for letter in _letters(entry):
            members[letter].append(entry["name"])
    if not members:
        return []
    if all(len(names) == 1 for names in members.values()):
        return ["Every two of these policies can be told apart."]
    return [
        "Policies that share a letter cannot be told apart with these episodes: over the same starts they "
        "differ no more than chance allows, at 5 % error for all comparisons together."
    ]


def _remarks(entries: Sequence[Entry]) -> list[str]:
    """What the marks beside the names mean."""
    said = []
    if unsteady := [f"{percent(e['real_shaken'])} ({e['name']})" for e in entries if e["unsteady"]]:
        said.append(
            "Unsteady: real success hangs on details that no frame shows; with a little noise in the actions "
            f"it becomes {', '.join(unsteady)}."
        )
    return said


def _grid(
    entries: Sequence[Entry], records: Sequence[Record], starts: Sequence[str]
) -> dict[str, Any] | None:
    """Every verdict: a row per policy, a column per start, equal neighbours in one piece."""
    if len(entries) * len(starts) > MOST_CELLS:
        return None
    verdicts = {(r.policy, r.start_id): r.verdict for r in records}
    rows = []
    for entry in entries:
        row = [str(verdicts.get((entry["name"], start), "missing")) for start in starts]
        runs, begin = [], 0
        for verdict, group in groupby(row):
            length = len(list(group))
            runs.append({"verdict": verdict, "begin": begin, "length": length})
            begin += length
        spoken = f"{entry['name']}: {row.count('success')} successes, {row.count('failure')} failures"
        rows.append({"name": entry["name"], "runs": runs, "spoken": spoken})
    return {"rows": rows, "columns": len(starts)}
