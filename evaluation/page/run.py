"""How a ranking was made, and what must be said before anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from v2w_gym.config import to_dict
from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.manifest import Manifest, Provenance
from v2w_gym.evaluation.mixing import origins

_CONDITIONS = {
    "world": "world",
    "world_version": "version of the world",
    "world_model_hash": "world model",
    "detector_hash": "detector",
    "config_hash": "conditions",
    "seed": "seed",
    "success_rule": "success rule",
    "threshold": "detector's threshold",
    "horizon": "actions per episode",
    "instruction": "instruction",
}
_LATEST = 12  # commands shown


def notices(summary: Mapping[str, Any], audit: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """What a reader must know before the numbers."""
    said = []
    if mixed := summary.get("mixed"):
        text = "; ".join(mixed)
        said.append(_notice("bad", "Episodes of unlike runs were mixed by force.", f"Here are {text}."))
    failed = [e["name"] for e in summary["policies"] if e["error"]]
    for name in failed:
        error = next(e["error"] for e in summary["policies"] if e["name"] == name)
        said.append(_notice("bad", f"{name} failed and is not ranked:", error))
    abstained = [e["name"] for e in summary["policies"] if e.get("abstained")]
    if abstained:
        text = "Most of their imagined episodes are not credible, so they have no rank."
        said.append(_notice("warn", f"Not believed: {', '.join(abstained)}.", text))
    if audit and audit["failed"]:
        text = "Read the section on the audit before you rely on this ranking."
        probes = "1 probe" if audit["failed"] == 1 else f"{audit['failed']} probes"
        said.append(_notice("bad", f"The world model failed {probes} of its audit.", text))
    if early := summary.get("sequential"):
        text = (
            f"{early['episodes_run']} of {early['episodes_planned']} planned episodes were run. Equally good "
            f"policies are told apart with probability {early['error']:g} at most."
        )
        stopped = early["episodes_run"] < early["episodes_planned"]
        if stopped:
            text += (
                " Intervals and letters take no account of the stop: rates of who stopped early lean a "
                "little to the side that was decided."
            )
        head = (
            "This ranking was stopped as soon as it was decided:"
            if stopped
            else "It might have stopped early:"
        )
        said.append(_notice("warn", head, text))
    return said


def _notice(kind: str, head: str, text: str) -> dict[str, str]:
    return {"kind": kind, "head": head, "text": text}


def view(summary: Mapping[str, Any], provenance: Provenance, records: Sequence[Record]) -> dict[str, Any]:
    """What the section shows."""
    counts = origins(records)
    notes = []
    if unknown := counts.pop("unknown", 0):
        notes.append(f"{unknown} episodes are from before it was kept which versions and machine made them.")
    if luck := summary.get("shared_luck"):
        notes.extend(_luck(luck))
    conditions = [(name, str(summary[key])) for key, name in _CONDITIONS.items() if key in summary]
    if sampler := summary.get("sampler"):
        conditions.append(("sampler", ", ".join(f"{key} {value}" for key, value in sampler.items())))
    return {
        "runs": [to_dict(run) for run in provenance.runs[-_LATEST:]],
        "made_notes": notes,
        "conditions": conditions,
        "manifests": [
            _manifest(provenance.manifests[name], count)
            for name, count in counts.items()
            if name in provenance.manifests
        ],
    }


def _luck(luck: Mapping[str, Any]) -> list[str]:
    if luck["variance_factor"] is None:
        return []
    return [
        "All policies met the same starts and the same noise. That divided the variance of the difference "
        f"between two of them by {luck['variance_factor']:.2f} on average{_most(luck)}."
    ]


def _most(luck: Mapping[str, Any]) -> str:
    if luck["pair"] is None or luck["most"] is None:
        return ""
    return f", and by {luck['most']:.1f} for {luck['pair'][0]} and {luck['pair'][1]}"


def _manifest(manifest: Manifest, episodes: int) -> dict[str, Any]:
    lines = [
        ("precision", manifest.precision),
        ("machine", manifest.device),
        ("threads", str(manifest.threads)),
        ("v2w_gym", manifest.v2w_gym),
        ("python", manifest.python),
        *manifest.libraries.items(),
    ]
    return {"name": manifest.hash, "episodes": episodes, "lines": lines}
