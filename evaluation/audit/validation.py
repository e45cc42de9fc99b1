"""Facts about a world's replay for its card, without a verdict: part of every audit.

``validation.json`` says how replays end and look by behaviour, where verdicts differ, and how the detector
does on imagined frames; ``v2w card`` quotes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import numpy.typing as npt

from v2w_gym.evaluation.audit.evidence import Evidence, Played
from v2w_gym.evaluation.metrics import psnr
from v2w_gym.training.detector import confusion

_SHOWN = 8  # episodes side by side in a film


def validate(
    evidence: Evidence, out: Path, sampler: dict[str, Any], again: float | None = None
) -> dict[str, Any]:
    """Write ``validation.json`` and films into ``out`` and return what the file says.

    Args:
        evidence: replayed episodes.
        out: folder, which must exist.
        sampler: the values that they were sampled with.
        again: noise in the actions with which to run the held-out episodes in reality once more, or None.
    """
    world, played = evidence.world, evidence.heldout
    flags = np.stack([episode.success for episode in played.episodes])
    report: dict[str, Any] = {
        "world": world.config.name,
        "sampler": sampler,
        "replay": _replay_report(played),
        "detector_on_imagined": confusion(world.detector(), played.replay.frames, flags),
    }
    save_comparison(out / "replay.mp4", played.recorded[:_SHOWN], played.replay.frames[:_SHOWN])
    if evidence.probes is not None:
        report["optimism"] = _optimism(evidence.probes, out)
    if evidence.directions is not None:
        report["action_following"] = _following(evidence.directions, out)
    if again is not None:
        from v2w_gym.data.reality import ends_alike

        alike = float(np.mean(ends_alike(list(played.episodes), again)))
        report["reality_again"] = {"action_noise": again, "verdict_agreement": alike}
    (out / "validation.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _replay_report(played: Played) -> dict[str, Any]:
    episodes, nearness = played.episodes, played.replay.psnr
    kinds = [episode.behaviour.split(">")[0] for episode in episodes]
    wrong = [
        {"seed": e.seed, "behaviour": e.behaviour, "real": bool(r), "imagined": bool(i)}
        for e, r, i in zip(episodes, played.replay.real, played.replay.imagined, strict=True)
        if r != i
    ]
    return {
        "episodes": len(episodes),
        "verdict_agreement": played.replay.agreement,
        "psnr_mean_db": float(nearness.mean()),
        "psnr_by_step_db": [round(float(x), 2) for x in nearness.mean(axis=0)],
        "psnr_by_behaviour_db": {
            k: round(float(nearness[[kind == k for kind in kinds]].mean()), 2) for k in sorted(set(kinds))
        },
        "disagreements": wrong,
    }


def _optimism(played: Played, out: Path) -> dict[str, Any]:
    report, replay = {}, played.replay
    for kind in sorted({episode.behaviour for episode in played.episodes}):
        rows = np.array([episode.behaviour == kind for episode in played.episodes])
        report[kind] = {
            "episodes": int(rows.sum()),
            "real_success": float(replay.real[rows].mean()),
            "imagined_success": float(replay.imagined[rows].mean()),
            "psnr_mean_db": round(float(replay.psnr[rows].mean()), 2),
        }
        shown = np.flatnonzero(rows)[:_SHOWN]
        save_comparison(out / f"probe-{kind}.mp4", played.recorded[shown], replay.frames[shown])
    return report


def _following(played: Played, out: Path) -> dict[str, Any]:
    """For each action, which recording from the same start the imagined film looks most like."""
    episodes = played.episodes
    nearest = [_nearest(played, i) for i in range(len(episodes))]
    shown = slice(2 * _SHOWN)
    save_comparison(out / "directions.mp4", played.recorded[shown], played.replay.frames[shown])
    return {
        "right": sum(i == j for i, j in enumerate(nearest)),
        "of": len(nearest),
        "wrong": [
            {"behaviour": e.behaviour, "seed": e.seed, "looks_like": episodes[nearest[i]].behaviour}
            for i, e in enumerate(episodes)
            if nearest[i] != i
        ],
        "psnr_mean_db": round(float(played.replay.psnr.mean()), 2),
    }


def _nearest(played: Played, index: int) -> int:
    """The episode from the same start whose recorded second half the imagined one comes nearest to."""
    half = played.recorded.shape[1] // 2
    rivals = [i for i, e in enumerate(played.episodes) if e.seed == played.episodes[index].seed]
    imagined = played.replay.frames[index, half:]
    return max(rivals, key=lambda i: psnr(imagined, played.recorded[i, half:]).mean())


def save_comparison(
    path: Path,
    real: Iterable[npt.NDArray[np.uint8]],
    imagined: Iterable[npt.NDArray[np.uint8]],
    zoom: int = 3,
) -> None:
    """A film of recorded episodes above, imagined ones below; each ``(f, h, w, 3)`` uint8."""
    rows = [np.concatenate(list(row), axis=2) for row in (real, imagined)]
    film = np.concatenate(rows, axis=1).repeat(zoom, axis=1).repeat(zoom, axis=2)
    imageio.mimwrite(path, list(film), fps=8, macro_block_size=1)
