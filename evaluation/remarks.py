"""What a reader of a ranking's table has to know, a sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from v2w_gym.evaluation.rules import CLIP
from v2w_gym.evaluation.stats import FEWEST

_FEW = 5
_SHARES = ("sensitivity", "specificity")


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """Sentences about the numbers of a summary; one that nothing is known about is left out."""
    return [
        *other_rule(summary),
        *_picked(summary),
        *_alike(summary),
        *_luck(summary.get("shared_luck")),
        *_detector(summary.get("detector")),
        *_calibration(summary.get("calibration")),
        *_early(summary.get("sequential")),
        *_unscorable(summary),
        *_judge(summary.get("judge")),
    ]


def other_rule(summary: Mapping[str, Any]) -> list[str]:
    """That imagined and real success do not mean the same, if so."""
    ours, theirs = summary["success_rule"], summary.get("real_rule")
    if theirs in (None, ours) or ours == CLIP or summary["pearson"] is None:
        return []
    return [f"real success was measured by the rule {theirs!r}, imagined success by {ours!r}: not the same"]


def _picked(summary: Mapping[str, Any]) -> list[str]:
    if not summary.get("picked") or not summary.get("regret"):
        return []
    names, lost = _some(summary["picked"]), summary["regret"]["value"]
    cost = "loses no real success" if lost == 0 else f"loses {lost:.2f} of real success"
    return [f"picking the imagined best ({names}) {cost} against the real best"]


def _alike(summary: Mapping[str, Any]) -> list[str]:
    groups = [entry.get("group") for entry in summary["policies"] if entry.get("group")]
    if len(groups) < 2:
        return []
    return ["alike: policies that share a letter cannot be told apart with these episodes"]


def _luck(luck: Mapping[str, Any] | None) -> list[str]:
    if luck is None or luck["pair"] is None:
        return []
    whole = "" if luck["variance_factor"] is None else f" by {luck['variance_factor']:.2f} over all pairs"
    most = "wholly" if luck["most"] is None else f"by {luck['most']:.2f}"
    first, second = luck["pair"]
    return [
        f"common starts and noise divide the variance of a difference{whole}, "
        f"{most} between {first} and {second}"
    ]


def _detector(detector: Mapping[str, Any] | None) -> list[str]:
    if detector is None:
        return []
    episodes = sum(detector[f"{a}_{b}"] for a in ("true", "false") for b in ("success", "failure"))
    seen, spared = (detector[k]["value"] for k in _SHARES)
    if seen is None or spared is None:
        return []
    recorded, apart = detector.get("recorded"), ""
    kind = detector.get("labelled", "imagined")
    if kind == "recorded":
        apart = "; errors of the world model are not among these"
    if recorded is not None and None not in (known := [recorded[k]["value"] for k in _SHARES]):
        apart = f" (of recorded ones {known[0]:.0%} and {known[1]:.0%}; the rest is the world model's)"
    return [
        f"corrected: for a detector that recognised {seen:.0%} of the successes and {spared:.0%} of the "
        f"failures among {episodes} labelled {kind} episodes{apart}"
    ]


def _calibration(known: Mapping[str, Any] | None) -> list[str]:
    if known is None:
        return []
    if known["error"] is None:
        return [
            f"not calibrated: a map to real success needs {FEWEST} policies that reality has tried, got "
            f"{known['policies']}"
        ]
    change = f"from {known['raw_error']:.2f} to {known['error']:.2f} off reality on average"
    verdict = "it helps" if known["helps"] else "IT DOES HARM, do not use it"
    return [
        f"calibrated: {known['kind']} map to real success, each of {known['policies']} policies by what the "
        f"others teach: {change}, so {verdict}"
    ]


def _early(early: Mapping[str, Any] | None) -> list[str]:
    if early is None:
        return []
    pairs = len(early["decided"]) + len(early["undecided"])
    return [
        f"early stop: {early['episodes_run']} of {early['episodes_planned']} episodes were run and decide "
        f"{len(early['decided'])} of {pairs} pairs, at an error rate of {early['error']:.0%} over all of them"
    ]


def _unscorable(summary: Mapping[str, Any]) -> list[str]:
    count = sum(entry["unscorable"] for entry in summary["policies"])
    if not count:
        return []
    again = "; score them again: v2w rescore FOLDER" if summary.get("judge") else ""
    return [f"{count} episodes are unscorable and count neither as success nor as failure{again}"]


def _judge(judge: Mapping[str, Any] | None) -> list[str]:
    if judge is None:
        return []
    cost = "at no known price" if judge["cost"] is None else f"at a cost of {judge['cost']:.4g}"
    return [
        f"the judge of whole clips took {judge['tokens']} tokens for {judge['episodes']} episodes, {cost}"
    ]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more
