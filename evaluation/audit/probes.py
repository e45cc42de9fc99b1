"""All probes in their order, and the files that an audit leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from v2w_gym.data.episode import Episode
from v2w_gym.envs.world import World
from v2w_gym.evaluation.audit import clips, fidelity, motion, optimism
from v2w_gym.evaluation.audit.evidence import AuditConfig, Evidence, gather, read_episodes
from v2w_gym.evaluation.audit.finding import Finding, all_passed
from v2w_gym.evaluation.audit.motion import Ruler
from v2w_gym.evaluation.audit.picture import write_picture
from v2w_gym.evaluation.audit.reader import ReaderConfig
from v2w_gym.evaluation.audit.validation import validate
from v2w_gym.evaluation.replay import replay


def audit(
    world: World,
    config: AuditConfig,
    out: str | Path,
    *,
    device: str = "cpu",
    sampler: str | Mapping[str, Any] | None = None,
    reader: ReaderConfig | None = None,
) -> dict[str, Any]:
    """Audit a world; write ``audit.json``, ``audit.png``, ``validation.json`` and films into ``out``.

    Args:
        world: folder, id or hub id, opened.
        config: recordings and promises.
        out: folder.
        device: where the world model runs.
        sampler: one of the world's presets by name, or values that replace those of its sampler.
        reader: how the action reader learns.

    Returns:
        What ``audit.json`` says; see ``docs/audit.md``.

    Raises:
        FileNotFoundError: a folder without episodes, or LPIPS weights that are not there.
        ValueError: episodes that do not fit the world or the protocol, or an unknown sampler preset or
            protocol.
    """
    used = world.sampler(sampler)
    scored = None if config.protocol is None else _clips(world, config.protocol, config.heldout)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    evidence = gather(world, config, device=device, sampler=sampler)
    findings, ruler = probe(evidence, reader)
    report: dict[str, Any] = {
        "world": world.config.name,
        "version": world.config.version,
        "model_hash": world.model(device, sampler).hash,
        "detector_hash": world.detector(device).hash,
        "sampler": used,
        "episodes": len(evidence.heldout.episodes),
        "steps": evidence.heldout.actions.shape[1],
        "passed": all_passed(findings),
        "counts": {v: sum(f.verdict == v for f in findings) for v in ("pass", "fail", "not run")},
        "reader": ruler if isinstance(ruler, str) else ruler.as_dict(),
        "lpips": None if evidence.lpips is None else evidence.lpips.network,
        "probes": [finding.as_dict() for finding in findings],
    }
    if scored is not None:
        rules, recorded = scored
        played = replay(world, recorded, given=rules.given, device=device, sampler=sampler)
        report["protocol"] = {"name": config.protocol} | clips.score_clips(
            rules, played.frames, np.stack([clip.frames for clip in recorded]), evidence.lpips
        )
    (out / "audit.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    write_picture(out / "audit.png", report, evidence)
    validate(evidence, out, used, config.again)
    return report


def _clips(world: World, name: str, heldout: str) -> tuple[clips.ClipProtocol, list[Episode]]:
    """A protocol and the clips that it scores; what does not fit is to be heard of before hours of work."""
    rules = clips.protocol(name)
    recorded = read_episodes(world, heldout, rules.frames - 1, rules.clips)
    clips.prepared(rules, recorded[0].frames[None], "recorded")
    return rules, recorded


def probe(evidence: Evidence, reader: ReaderConfig | None = None) -> tuple[list[Finding], Ruler | str]:
    """All findings in a fixed order, and the ruler that two of them used, or why there is none."""
    recorded = evidence.heldout.recorded[:, 1:]
    own = fidelity.similarity(evidence.heldout.replay.frames[:, 1:], recorded, evidence.lpips)
    ruler = motion.make_ruler(evidence, reader)
    return [
        motion.null_action(evidence),
        *motion.directions(evidence, ruler),
        motion.inverse_dynamics(evidence, ruler),
        fidelity.true_actions(evidence, own),
        fidelity.replay_fidelity(evidence, own),
        fidelity.horizon(evidence),
        *optimism.optimism(evidence),
    ], ruler
