"""What of a ranking can be believed: credibility, the detector's errors, the audit of the world model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.page.ranks import NOTHING

_PASSED = {"pass": True, "passed": True, "fail": False, "failed": False, True: True, False: False}
_STATES: dict[bool | None, tuple[str, str, str]] = {
    True: ("passed", "✓", "passed"),
    False: ("failed", "✗", "failed"),
    None: ("unknown", NOTHING, "not run"),
}


def credibility(summary: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    """Credibility of every policy's episodes, and who is not ranked for lack of it."""
    told: dict[str, list[float]] = {}
    for record in records:
        if record.credibility is not None:
            told.setdefault(record.policy, []).append(record.credibility)
    threshold, abstained = (
        summary.get("credible_from"),
        [e for e in summary["policies"] if e.get("abstained")],
    )
    texts = [f"Not ranked: {e['name']}, because {e['abstained']}." for e in abstained]
    if not told:
        texts.append(
            "This world, or the version that made this ledger, does not say how credible its steps are: "
            "no policy could be set aside for being imagined where the model was never trained."
        )
    elif threshold is not None and not abstained:
        texts.append("No policy had to be set aside: most of everybody's episodes are credible.")
    if told and threshold is not None:
        texts.append(
            f"An episode counts as credible from {threshold:.2f} on, the mean over its steps; a policy most "
            "of whose episodes are not has no rank."
        )
    lines = [
        {
            "name": e["name"],
            "mean": f"{sum(told[e['name']]) / len(told[e['name']]):.2f}",
            "least": f"{min(told[e['name']]):.2f}",
            "said": "no" if e["rank"] is None else "yes",
        }
        for e in summary["policies"]
        if e["name"] in told
    ]
    return {"texts": texts, "lines": lines}


def detector(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Success under every rule, and corrected for the detector's errors where these are known."""
    entries = [e for e in summary["policies"] if e["success"] is not None]
    rules = list(dict.fromkeys(rule for e in entries for rule in e.get("rules") or {}))
    texts = [_verdicts(summary)]
    known, corrected = summary.get("detector"), any(e.get("corrected") for e in entries)
    if known is not None:
        texts.append(
            f"Corrected rates take off how it errs on {known.get('labelled', 'imagined')} episodes whose "
            "outcome is known; their intervals include what is not known of that. Errors on imagined "
            "episodes are also those of the world model, errors on recorded ones its own."
        )
    else:
        texts.append("How often it errs is not known here, so no rate is corrected for it.")
    if unscorable := sum(e["unscorable"] for e in entries):
        texts.append(f"{unscorable} episodes are unscorable and count neither as success nor as failure.")
    calibrated = any(e.get("calibrated") for e in entries)
    columns = [f"rule {rule}" for rule in rules]
    columns += ["corrected"] * corrected + ["calibrated to reality"] * calibrated
    lines = []
    for e in entries:
        cells = [_percent((e.get("rules") or {}).get(rule)) for rule in rules]
        cells += [_interval(e.get("corrected"))] * corrected + [_interval(e.get("calibrated"))] * calibrated
        lines.append({"name": e["name"], "cells": cells})
    errors = [((known or {}).get("labelled", "imagined"), known), ("recorded", (known or {}).get("recorded"))]
    return {
        "texts": texts,
        "columns": columns,
        "lines": lines if columns else [],
        "errors": [_errors(name, counts) for name, counts in errors if counts is not None],
    }


def _verdicts(summary: Mapping[str, Any]) -> str:
    """Who says what a success is."""
    if (judge := summary.get("judge")) is None:
        return (
            f"Success is what the detector says: from a probability of {summary['threshold']:g} on, a frame "
            f"counts, and the rule “{summary['success_rule']}” makes the verdict of an episode."
        )
    cost = "" if judge["cost"] is None else f" and cost {judge['cost']:.4g}"
    return (
        "Success is what a judge says that sees each clip as a whole: an episode counts from a probability "
        f"of {summary['threshold']:g} on. {judge['episodes']} episodes took {judge['tokens']} tokens{cost}; "
        f"{judge['unscorable']} of them could not be judged."
    )


def _errors(name: str, counts: Mapping[str, Any]) -> dict[str, Any]:
    """How a detector judged labelled episodes."""
    seen, spared = counts["true_success"], counts["true_failure"]
    return {
        "name": name,
        "cells": [
            _share(seen, seen + counts["false_failure"], counts["sensitivity"]),
            _share(spared, spared + counts["false_success"], counts["specificity"]),
        ],
    }


def _share(right: int, labelled: int, estimate: Mapping[str, Any]) -> dict[str, str]:
    return {"counts": f"{right} of {labelled}", "rate": _interval(estimate)}


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f}"


def _interval(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return NOTHING
    return f"{100 * estimate['value']:.0f} [{100 * estimate['low']:.0f}, {100 * estimate['high']:.0f}]"


def audit(content: Any, model_hash: str) -> dict[str, Any] | None:
    """The probes of an ``audit.json``; None where there is none.

    Args:
        content: of the file.
        model_hash: of the world model that the ranking used.

    Raises:
        ValueError: the content is no list of probes.
    """
    if content is None:
        return None
    probes = next(
        (content[key] for key in ("probes", "findings") if isinstance(content, Mapping) and key in content),
        content,
    )
    if not isinstance(probes, list) or not all(isinstance(p, Mapping) and "name" in p for p in probes):
        raise ValueError(
            'an audit must hold a list "probes" of objects with at least a "name"; write it with v2w audit'
        )
    shown = [_probe(probe) for probe in probes]
    count = {state: sum(p["state"] == state for p in shown) for state, _, _ in _STATES.values()}
    said = [
        f"{n} {word}"
        for word, n in (
            ("passed", count["passed"]),
            ("failed", count["failed"]),
            ("not run", count["unknown"]),
        )
        if n
    ]
    lead = f"Of {len(shown)} probes {', '.join(said)}."
    theirs = content.get("model_hash", model_hash) if isinstance(content, Mapping) else model_hash
    if theirs != model_hash:
        lead += f" They were asked of other weights or another sampler ({theirs}, here {model_hash})."
    return {"lead": lead, "probes": shown, "failed": count["failed"]}


def _probe(probe: Mapping[str, Any]) -> dict[str, Any]:
    given = probe.get("passed", probe.get("verdict"))
    state, mark, word = _STATES[_PASSED.get(given) if isinstance(given, str | bool) else None]
    figures = []
    if isinstance(value := probe.get("value"), int | float):
        interval = ""
        if isinstance(probe.get("low"), int | float) and isinstance(probe.get("high"), int | float):
            interval = f" [{probe['low']:.3g}, {probe['high']:.3g}]"
        figures.append(f"{value:.3g}{interval}")
    if (bound := probe.get("passes", probe.get("threshold"))) is not None:
        figures.append(f"to pass: {bound:.3g}" if isinstance(bound, float) else f"to pass: {bound}")
    text = [str(probe[key]) for key in ("question", "text", "says") if probe.get(key)]
    text += [f"What it takes: {probe['to_run']}"] if probe.get("to_run") else []
    return {
        "name": str(probe["name"]).replace("_", " "),
        "state": state,
        "mark": mark,
        "word": word,
        "figures": "; ".join(figures),
        "text": " ".join(map(_sentence, text)),
    }


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
