"""Actions that were recorded, from wherever people keep them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from v2w_gym.data.archive import array_names, read_arrays
from v2w_gym.data.episode import ActionArray, Episode, EpisodeFolder, FrameArray


@dataclass(frozen=True, eq=False)
class Recording:
    """The actions of one episode.

    Attributes:
        actions: ``(t, a)`` float32, as ``env.step`` takes them.
        frame: ``(h, w, 3)`` uint8, what was seen first; None where that is not known.
        seed: that placed the scene; None where that is not known.
        name: for messages.

    Raises:
        ValueError: actions that are no finite numbers ``(t, a)``, at least one.
    """

    actions: ActionArray
    frame: FrameArray | None = None
    seed: int | None = None
    name: str = "without a name"

    def __post_init__(self) -> None:
        actions = np.asarray(self.actions, dtype=np.float32)
        if actions.ndim != 2 or not actions.size or not np.isfinite(actions).all():
            raise ValueError(
                f"recording {self.name} needs actions (t, a), finite numbers, got shape {actions.shape}"
            )
        object.__setattr__(self, "actions", actions)


def read_recordings(path: Path) -> list[Recording]:
    """Recordings of a folder of episodes, or of one file.

    Args:
        path: a folder of ``.npz`` episodes as ``v2w record`` writes them; one such file; or an ``.npz`` with
            ``actions``, ``(t, a)`` of one episode or ``(n, t, a)`` of several.

    Raises:
        FileNotFoundError: no such folder or file, or a folder without episodes.
        ValueError: damaged files, or episodes without actions.
    """
    if path.is_dir():
        folder = EpisodeFolder(path)
        return [_of_episode(episode, file.name) for episode, file in zip(folder, folder.files, strict=True)]
    if not path.is_file():
        raise FileNotFoundError(f"no folder or file {path}; record episodes with: v2w record --out FOLDER")
    held = array_names(path)
    if "frames" in held:
        return [_of_episode(Episode.load(path), path.name)]
    if "actions" not in held:
        raise ValueError(f"{path} holds no actions: it has {sorted(held)}")
    actions = read_arrays(path, ("actions",))["actions"]
    return recordings_of([actions] if actions.ndim == 2 else list(actions))


def recordings_of(episodes: Iterable[Any]) -> list[Recording]:
    """Recordings of episodes in memory.

    Args:
        episodes: each an :class:`~v2w_gym.data.episode.Episode` or an array of actions ``(t, a)``; or rows of
            a LeRobot dataset in order, mappings with ``action`` ``(a,)`` and ``episode_index``.

    Raises:
        ValueError: something else, or an episode without actions.
    """
    found: list[Recording] = []
    rows: dict[int, list[Any]] = defaultdict(list)
    for number, episode in enumerate(episodes):
        if isinstance(episode, Episode):
            found.append(_of_episode(episode, f"number {number}"))
        elif isinstance(episode, Mapping):
            if missing := {"action", "episode_index"} - episode.keys():
                raise ValueError(f"row {number} lacks {sorted(missing)}; it has {sorted(episode)}")
            rows[int(episode["episode_index"])].append(np.asarray(episode["action"], np.float32))
        else:
            found.append(Recording(np.asarray(episode, np.float32), name=f"number {number}"))
    of_rows = [Recording(np.stack(rows[index]), name=f"episode {index}") for index in sorted(rows)]
    return found + of_rows


def _of_episode(episode: Episode, name: str) -> Recording:
    if episode.actions is None:
        raise ValueError(f"{name} is a video without actions; record episodes without --no-actions")
    return Recording(episode.actions, episode.frames[0], episode.seed, name)
