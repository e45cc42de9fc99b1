"""Frames of a few episodes, kept on disk so that a resumed ranking still has its pictures."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
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

    def adopt(self, other: Films, policy: str, start: str) -> bool:
        """Take over one episode of ``other``, as a link where the disk allows it; whether it is there now."""
        film, own = other.path(policy, start), self.path(policy, start)
        if own.exists() or not film.exists():
            return own.exists()
        own.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(film, own)
        except OSError:
            partial = own.with_suffix(".partial")
            shutil.copyfile(film, partial)
            partial.replace(own)
        return True


def _file_name(name: str) -> str:
    """``name`` if it can be a file name everywhere, else a readable and still unique one."""
    safe = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip(".")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
