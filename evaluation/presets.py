"""What the presets of a world's sampler cost and what they keep: ``v2w presets``.

Every preset is asked three things: how long a step of 32 episodes takes, whether held-out episodes end as
they ended, and whether it ranks the policies as ``best`` does.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from v2w_gym.data.episode import EpisodeFolder
from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.envs.world import World
from v2w_gym.evaluation.ranking import rank
from v2w_gym.evaluation.replay import replay
from v2w_gym.evaluation.stats import pearson, spearman

REFERENCE = "best"
BATCH, WARM_UP, ROUNDS = 32, 2, 9


def measure_presets(
    world: World,
    heldout: str | Path,
    policies: Mapping[str, Any],
    out: str | Path,
    *,
    episodes: int = 50,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure every preset of the world; write ``presets.json`` and a ranking per preset into ``out``.

    Rankings that were stopped go on from their ledgers.

    Args:
        world: with a preset called ``best``, a success detector and starts.
        heldout: folder of held-out episodes.
        policies: as ``rank`` takes them.
        out: folder.
        episodes: how many held-out episodes to replay, and how many to imagine per policy.
        seed: of the rankings.
        device: where the world model runs.

    Returns:
        Preset to its values and measurements, each a number or None where it is undefined.

    Raises:
        ValueError: the world has no such preset, or as ``rank``.
    """
    presets = list(world.config.samplers)
    world.sampler(REFERENCE)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    recorded = list(EpisodeFolder(heldout, episodes))
    report: dict[str, Any] = {name: {"sampler": world.sampler(name)} for name in presets}
    summaries = {}
    for name in presets:
        played = replay(world, recorded, device=device, sampler=name)
        report[name] |= {
            "psnr_mean_db": float(played.psnr.mean()),
            "psnr_last_db": float(played.psnr[:, -1].mean()),
            "verdict_agreement": played.agreement,
        }
        summaries[name] = rank(
            world, policies, episodes=episodes, seed=seed, out=out / name, device=device, sampler=name
        )
    for name, summary in summaries.items():
        report[name] |= _likeness(summary, summaries[REFERENCE])
        report[name]["reality_pearson"] = (summary["pearson"] or {"value": None})["value"]
    for name, milliseconds in _step_times(world, presets, device).items():
        report[name]["step_ms"] = milliseconds
    (out / "presets.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


def _likeness(summary: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float | None]:
    """How a ranking resembles that of the reference, over the policies that both have scored."""
    known = {entry["name"]: entry["success"] for entry in reference["policies"]}
    pairs = [
        (entry["success"], known[entry["name"]])
        for entry in summary["policies"]
        if entry["success"] is not None and known[entry["name"]] is not None
    ]
    if not pairs:
        return dict.fromkeys(("success_difference", "pearson", "spearman"))
    own, theirs = np.array(pairs).T
    return {
        "success_difference": float(np.abs(own - theirs).max()),
        "pearson": _number(pearson(simulated=own, real=theirs)),
        "spearman": _number(spearman(simulated=own, real=theirs)),
    }


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)


def _step_times(world: World, presets: Sequence[str], device: str) -> dict[str, float]:
    """Milliseconds of an environment's step, medians over rounds in which every preset takes its turn."""
    times: dict[str, list[float]] = {name: [] for name in presets}
    envs = {
        name: WorldModelVectorEnv(
            BATCH,
            world,
            autoreset_mode="disabled",
            terminate_on_success=False,
            horizon=WARM_UP + ROUNDS,
            device=device,
            sampler=name,
        )
        for name in presets
    }
    for env in envs.values():
        env.reset(seed=0)
        env.action_space.seed(0)
    for turn in range(WARM_UP + ROUNDS):
        for name, env in envs.items():
            action = env.action_space.sample()
            begin = time.perf_counter()
            env.step(action)
            if turn >= WARM_UP:
                times[name].append(1000 * (time.perf_counter() - begin))
    return {name: float(np.median(taken)) for name, taken in times.items()}


def format_presets(report: Mapping[str, Mapping[str, Any]]) -> str:
    """The measurements as a table."""
    columns = {
        f"ms/step of {BATCH}": ("step_ms", ".0f"),
        "replay dB": ("psnr_mean_db", ".2f"),
        "last dB": ("psnr_last_db", ".2f"),
        "verdicts right": ("verdict_agreement", ".1%"),
        f"success off {REFERENCE}": ("success_difference", ".2f"),
        f"r with {REFERENCE}": ("pearson", ".3f"),
        f"rho with {REFERENCE}": ("spearman", ".3f"),
        "r with reality": ("reality_pearson", ".3f"),
    }
    rows = [["preset", *columns]]
    for name, entry in report.items():
        values = ((entry[key], form) for key, form in columns.values())
        rows.append([name, *("-" if value is None else format(value, form) for value, form in values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
