"""All frames of many episodes in memory, for training: uint8, so that 6,000 episodes take 2.4 GB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from v2w_gym.data.episode import ActionArray, EpisodeFolder, FrameArray

A = TypeVar("A", bound=npt.NDArray[Any])


def load_frames(folders: Sequence[str | Path], limit: int | None = None) -> FrameArray:
    """Frames of every episode in ``folders``, ``(episodes, f, h, w, 3)`` uint8; all must be equally long.

    Raises:
        FileNotFoundError: a folder without episodes.
        ValueError: a damaged episode, or one whose frames are not like those of the first.
    """
    frames: list[FrameArray] = []
    for folder in folders:
        episodes = EpisodeFolder(folder, limit)
        progress = tqdm(episodes, total=len(episodes), desc=f"reading {folder}", mininterval=2)
        for file, episode in zip(episodes.files, progress, strict=True):
            frames.append(_like_the_first(episode.frames, frames, file))
    return np.stack(frames)


def load_actions(folders: Sequence[str | Path], limit: int | None = None) -> npt.NDArray[np.float32]:
    """Actions of every episode in ``folders``, ``(episodes, f-1, a)`` float32.

    Raises:
        FileNotFoundError: a folder without episodes.
        ValueError: a damaged or action-free episode, or one whose actions are not like those of the first.
    """
    actions: list[ActionArray] = []
    for folder in folders:
        episodes = EpisodeFolder(folder, limit)
        for file, episode in zip(episodes.files, episodes, strict=True):
            if episode.actions is None:
                raise ValueError(f"{file} is an action-free episode; this stage needs actions")
            actions.append(_like_the_first(episode.actions, actions, file))
    return np.stack(actions)


def _like_the_first(array: A, others: Sequence[A], file: Path) -> A:
    if others and array.shape != others[0].shape:
        raise ValueError(f"{file} holds {array.shape}, unlike the first episode's {others[0].shape}")
    return array
