"""All frames of many episodes in memory, for training: uint8, so that 6,000 episodes take 2.4 GB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from v2w_gym.data.episode import EpisodeFolder, FrameArray


def load_frames(folders: Sequence[str | Path], limit: int | None = None) -> FrameArray:
    """Frames of every episode in ``folders``, ``(episodes, f, h, w, 3)`` uint8; all must be equally long."""
    frames = []
    for folder in folders:
        episodes = EpisodeFolder(folder, limit)
        frames += [
            e.frames for e in tqdm(episodes, total=len(episodes), desc=f"reading {folder}", mininterval=2)
        ]
    return np.stack(frames)


def load_actions(folders: Sequence[str | Path], limit: int | None = None) -> npt.NDArray[np.float32]:
    """Actions of every episode in ``folders``, ``(episodes, f-1, a)`` float32."""
    actions = [episode.actions for folder in folders for episode in EpisodeFolder(folder, limit)]
    if any(a is None for a in actions):
        raise ValueError(f"{list(folders)} holds action-free episodes; this stage needs actions")
    return np.stack([a for a in actions if a is not None])
