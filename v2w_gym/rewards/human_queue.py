"""The folder that people judge clips from: clips by hash, and nothing that tells whose they are.

::

    clips/HASH.npz    frames (f, h, w, 3) uint8, instruction, fps
    labels.jsonl      a line per verdict; see human_labels
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from v2w_gym.rewards.human_labels import LabelFile, agreement
from v2w_gym.rewards.judge import Clip

_NAME = re.compile(r"[0-9a-f]{32}")


def clip_hash(clip: Clip) -> str:
    """Names a clip by what a person judges: its frames and its instruction."""
    frames = np.ascontiguousarray(clip.frames)
    digest = hashlib.sha256(f"{frames.shape}|{clip.instruction}".encode("utf-8", "surrogatepass"))
    digest.update(frames.tobytes())
    return digest.hexdigest()[:32]


class ClipQueue:
    """A folder of clips and of verdicts on them, shared by any number of judges and raters.

    Args:
        folder: made where it is not there.

    Attributes:
        labels: verdicts of people.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self._clips = self.folder / "clips"
        self._clips.mkdir(parents=True, exist_ok=True)
        self.labels = LabelFile(self.folder / "labels.jsonl")

    def add(self, clip: Clip) -> str:
        """Put a clip in, if it is not there, and return its hash; a reader never sees half of it.

        Raises:
            OSError: it cannot be written.
        """
        name = clip_hash(clip)
        path = self._path(name)
        if path.exists():
            return name
        handle, partial = tempfile.mkstemp(dir=self._clips, suffix=".partial")
        try:
            with open(handle, "wb") as file:
                np.savez_compressed(
                    file,
                    allow_pickle=False,
                    frames=clip.frames,
                    instruction=np.array(clip.instruction),
                    fps=np.array(clip.fps),
                )
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
        return name

    def names(self, seed: int) -> list[str]:
        """Hashes of all clips in an order that ``seed`` shuffles; a new clip does not move the others."""
        found = [path.stem for path in self._clips.glob("*.npz") if _NAME.fullmatch(path.stem)]
        return sorted(found, key=lambda name: hashlib.sha256(f"{seed}|{name}".encode()).digest())

    def load(self, name: str) -> Clip:
        """The clip of that hash.

        Raises:
            FileNotFoundError: there is none.
            ValueError: its file is damaged.
        """
        path = self._path(name)
        if not _NAME.fullmatch(name) or not path.is_file():
            raise FileNotFoundError(f"no clip {name!r} in {self.folder}")
        try:
            with np.load(path, allow_pickle=False) as file:
                clip = Clip(file["frames"], str(file["instruction"]), float(file["fps"]))
            whole = clip_hash(clip) == name
        except (KeyError, EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error):
            whole = False
        if not whole:
            raise ValueError(f"{path} is damaged; delete it, and judge the episode again to put it back")
        return clip

    def told(self) -> str:
        """How far people have got, in words."""
        labels, names = self.labels.read(), self.names(seed=0)
        judged = sum(name in labels for name in names)
        raters = sorted({rater for by_rater in labels.values() for rater in by_rater})
        same, pairs = agreement(labels)
        told = f"{judged} of {len(names)} clips are judged, by {', '.join(raters) or 'nobody'}"
        return told + (f"; two people agree in {same} of {pairs} cases" if pairs else "")

    def _path(self, name: str) -> Path:
        return self._clips / f"{name}.npz"
