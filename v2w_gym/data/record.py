"""Record Meta-World episodes: seeded, resumable, one file each.

``v2w record --out data/train --episodes 6000 --workers 2`` records drawer closing in every way;
``--behaviour expert`` keeps to one kind; ``--task door-close-v3 --no-actions`` gives an action-free video;
``--shift light`` changes something about the scene.
"""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from v2w_gym.data import behaviours
from v2w_gym.data.episode import Episode
from v2w_gym.data.metaworld import HORIZON, MetaWorldTask, process_task
from v2w_gym.data.shift import SHIFTS


@dataclass(frozen=True)
class RecordConfig:
    """What to record.

    Attributes:
        out: folder for the episode files.
        episodes: how many.
        task: Meta-World task name.
        first_seed: episode ``i`` has seed ``first_seed + i``; keep ranges of different splits apart.
        behaviour: one of ``behaviours.KINDS``, or None to draw a kind per episode.
        with_actions: False gives an action-free video.
        shift: one of ``shift.SHIFTS``, or None to record the scene as it is.
        workers: processes; each has its own renderer.
    """

    out: str
    episodes: int
    task: str = "drawer-close-v3"
    first_seed: int = 100_000
    behaviour: str | None = None
    with_actions: bool = True
    shift: str | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if self.behaviour is not None and self.behaviour not in behaviours.KINDS:
            raise ValueError(f"unknown behaviour {self.behaviour!r}; known: {sorted(behaviours.KINDS)}")
        if self.shift is not None and self.shift not in SHIFTS:
            raise ValueError(f"unknown shift {self.shift!r}; known: {', '.join(SHIFTS)}")


def episode_path(config: RecordConfig, index: int) -> Path:
    """File of episode ``index``; the name carries task, shift and seed."""
    scene = "-".join(filter(None, (config.task, config.shift)))
    return Path(config.out) / f"{scene}-{config.first_seed + index:07d}.npz"


def record_episode(reality: MetaWorldTask, config: RecordConfig, seed: int) -> Episode:
    """Run one episode. The scene and the behaviour are functions of ``seed`` alone."""
    rng = np.random.default_rng((seed, 7))
    base = behaviours.expert(config.task)
    if config.behaviour is None:
        name, behaviour = behaviours.draw(rng, base)
    else:
        name, behaviour = config.behaviour, behaviours.KINDS[config.behaviour][0](rng, base)
    frames, actions, success = [reality.reset(seed, settle=bool(rng.random() < 0.5))], [], [False]
    states = [reality.placement]
    for t in range(HORIZON):
        action = np.clip(behaviour(t, reality.state), -1.0, 1.0).astype(np.float32)
        frame, flag = reality.step(action)
        frames.append(frame)
        actions.append(action)
        success.append(flag)
        states.append(reality.placement)
    return Episode(
        frames=np.stack(frames),
        actions=np.stack(actions) if config.with_actions else None,
        success=np.array(success),
        task=config.task,
        behaviour=name,
        seed=seed,
        states=np.stack(states),
    )


def _work(job: tuple[RecordConfig, int]) -> bool:
    config, index = job
    reality = process_task(config.task, config.shift)
    episode = record_episode(reality, config, config.first_seed + index)
    episode.save(episode_path(config, index))
    return episode.succeeded


def record(config: RecordConfig) -> None:
    """Record the episodes that ``config.out`` does not hold yet."""
    Path(config.out).mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(config.episodes) if not episode_path(config, i).exists()]
    os.environ.setdefault("LP_NUM_THREADS", "0")  # the software renderer is faster without threads at 128 px
    context = multiprocessing.get_context("spawn")
    succeeded = 0
    with context.Pool(config.workers) as pool:
        jobs = ((config, index) for index in missing)
        bar = tqdm(pool.imap_unordered(_work, jobs), total=len(missing), desc=config.task, unit="ep")
        for done, success in enumerate(bar, start=1):
            succeeded += success
            bar.set_postfix(success=f"{succeeded / done:.2f}", refresh=False)
