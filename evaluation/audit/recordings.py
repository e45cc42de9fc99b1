"""Recordings for an audit that Meta-World can make: behaviours that fail, and constant actions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.evaluation.audit.evidence import AuditConfig

DIRECTIONS = ("+x", "-x", "+y", "-y", "+z", "-z")
SIZES = (1.0, 0.5)


def record_missing(config: AuditConfig) -> None:
    """Record ``probes`` and ``directions`` where they are named and not there; needs Meta-World.

    Raises:
        FileNotFoundError: one is missing and the held-out episodes are not of the task that can be recorded.
    """
    wanted = ((config.probes, record_probes), (config.directions, record_directions))
    for folder, record in wanted:
        if folder is None or Path(folder).exists():
            continue
        task = EpisodeFolder(config.heldout)[0].task
        if task != "drawer-close-v3":
            raise FileNotFoundError(
                f"no folder {folder}, and episodes of {task!r} cannot be recorded here; bring them in the "
                "format of docs/episodes.md, or leave the option out"
            )
        unfinished = Path(folder).with_name(f"{Path(folder).name}.partial")  # a kill leaves no half of them
        record(unfinished)
        os.replace(unfinished, folder)


def record_directions(out: str | Path, steps: int = 8, seeds: int = 4) -> None:
    """Record constant actions from the first ``seeds`` starts; needs Meta-World.

    For each start an episode per direction at full and at half size, so that each action has its mirror image
    and its half: ``behaviour`` is ``"+x"``, or ``"+x/2"`` for the half.
    """
    from v2w_gym.data.metaworld import process_task

    reality = process_task("drawer-close-v3")
    Path(out).mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for size in SIZES:
            for i, name in enumerate(DIRECTIONS):
                action = np.zeros(4, dtype=np.float32)
                action[i // 2] = size if name[0] == "+" else -size
                frames, flags = [reality.reset(seed)], [False]
                for _ in range(steps):
                    frame, flag = reality.step(action)
                    frames.append(frame)
                    flags.append(flag)
                kind = name if size == 1.0 else f"{name}/{1 / size:g}"
                actions = np.stack([action] * steps)
                episode = Episode(np.stack(frames), actions, np.array(flags), reality.task, kind, seed)
                episode.save(Path(out) / f"{seed:02d}-{size:g}-{i}.npz")


def record_probes(out: str | Path, episodes: int = 50, first_seed: int = 950_000, workers: int = 1) -> None:
    """Record ``episodes`` of every behaviour in ``behaviours.PROBES``; needs Meta-World."""
    from v2w_gym.data.behaviours import PROBES
    from v2w_gym.data.record import RecordConfig, record

    for i, kind in enumerate(PROBES):
        first = first_seed + 1000 * i
        record(
            RecordConfig(out=str(out), episodes=episodes, first_seed=first, behaviour=kind, workers=workers)
        )
