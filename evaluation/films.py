"""Frames of a few episodes, kept on disk so that a resumed ranking still has its pictures."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from v2w_gym.data.episode import Episode


class Films:
    """Imagined episodes by policy and start, one file each in the episode format of ``v2w_gym.data.episode``.

    ``behaviour`` of such an episode is the policy's name, ``success`` the detector's judgement of each frame.

    Args:
        folder: where they lie; made when the first one is saved.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, policy: str, start: str) -> Path:
        """File of one episode."""
        return self.folder / _file_name(policy) / f"{_file_name(start)}.npz"

    def save(self, policy: str, start: str, episode: Episode) -> None:
        """Keep one episode."""
        path = self.path(policy, start)
        path.parent.mkdir(parents=True, exist_ok=True)
        episode.save(path)

    def load(self, policy: str, start: str) -> Episode | None:
        """One episode, or None if it was not kept."""
        path = self.path(policy, start)
        return Episode.load(path) if path.exists() else None


def _file_name(name: str) -> str:
    """``name`` if it can be a file name everywhere, else a readable and still unique one."""
    safe = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip(".")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
