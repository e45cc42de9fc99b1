"""The episodes of a round: held against the world that shall learn from them, and divided."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from v2w_gym.data.episode import Episode, EpisodeFolder
from v2w_gym.envs.world import WorldConfig
from v2w_gym.training.improving.parts import DISTURBED


def check_episode(episode: Episode, world: WorldConfig, where: str) -> None:
    """Raise ``ValueError`` unless an episode is a whole one of ``world``, with actions."""
    components = None if episode.actions is None else episode.actions.shape[1]
    got = (len(episode), episode.frames.shape[1:3], components)
    wanted = (world.horizon + 1, tuple(world.frame_size), len(world.action.names))
    if got != wanted:
        raise ValueError(
            f"{where} has {got[0]} frames (h, w) of {got[1]} and {got[2]} action components, world "
            f"{world.name!r} needs {wanted[0]} frames of {wanted[1]} and {wanted[2]}; record it again"
        )
    if episode.actions is not None and np.abs(episode.actions).max() > 1.0:
        raise ValueError(f"{where} has actions outside -1..1; normalise them as the world's card says")


def read_play(folder: Path, world: WorldConfig) -> list[Episode]:
    """All episodes of a round, checked.

    Raises:
        ValueError: one does not fit the world, or none is the policy's own.
    """
    files = EpisodeFolder(folder)
    episodes = list(files)
    for file, episode in zip(files.files, episodes, strict=True):
        check_episode(episode, world, str(file))
    if not own(episodes):
        raise ValueError(f"no episode in {folder} is the policy's own: every behaviour ends in {DISTURBED!r}")
    return episodes


def own(episodes: Iterable[Episode]) -> list[Episode]:
    """Those that the policy played alone."""
    return [episode for episode in episodes if not episode.behaviour.endswith(DISTURBED)]


def success_of(episodes: list[Episode]) -> float:
    """Share of successes."""
    return sum(episode.succeeded for episode in episodes) / len(episodes)


def divide(folder: Path, learn: Path, heldout: Path, share: float, seed: int) -> tuple[int, int]:
    """Copy the episodes of ``folder`` into two folders.

    Args:
        folder: at least two episodes.
        learn: for those to learn from.
        heldout: for the others; at least one goes into each.
        share: of the latter.
        seed: of the choice.

    Returns:
        How many went into each.
    """
    files = EpisodeFolder(folder).files
    if len(files) < 2:
        raise ValueError(f"a round needs at least 2 episodes, {folder} holds {len(files)}; record more")
    order = np.random.default_rng((seed, 19)).permutation(len(files))
    held = min(max(round(share * len(files)), 1), len(files) - 1)
    for target, rows in ((heldout, order[:held]), (learn, order[held:])):
        shutil.rmtree(target, ignore_errors=True)  # of an attempt that was killed
        target.mkdir(parents=True)
        for row in rows:
            shutil.copy(files[row], target)
    return len(files) - held, held
