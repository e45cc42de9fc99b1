"""One recorded episode and the folder format that holds many of them.

The alignment rule, stated once: **the action at index i moves frame i to frame i+1**, so an episode of
``f`` frames has ``f - 1`` actions. An episode folder holds one compressed ``.npz`` per episode::

    frames    (f, h, w, 3)  uint8    RGB, 0..255
    actions   (f-1, a)      float32  normalised, -1..1; absent in an action-free video
    success   (f,)          bool     the simulator's flag when the frame was taken; frame 0 is False
    task      ()            str      e.g. "drawer-close-v3"
    behaviour ()            str      what drove the episode, e.g. "slow-expert"
    seed      ()            int64    the seed that placed the scene
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FrameArray = npt.NDArray[np.uint8]
ActionArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Episode:
    """Frames, the actions between them and what the simulator said.

    Attributes:
        frames: ``(f, h, w, 3)`` uint8, RGB 0..255.
        actions: ``(f-1, a)`` float32 in -1..1, or None for an action-free video.
        success: ``(f,)`` bool, the success flag of each frame.
        task: name of the task.
        behaviour: what chose the actions.
        seed: the seed that placed the scene.
    """

    frames: FrameArray
    actions: ActionArray | None
    success: npt.NDArray[np.bool_]
    task: str
    behaviour: str
    seed: int

    def __post_init__(self) -> None:
        length = len(self.frames)
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"episode frames must be uint8 (f, h, w, 3), got {self.frames.dtype} {self.frames.shape}"
            )
        if self.actions is not None and len(self.actions) != length - 1:
            raise ValueError(f"{length} frames need {length - 1} actions, got {len(self.actions)}")
        if self.success.shape != (length,):
            raise ValueError(f"success must have shape ({length},), got {self.success.shape}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def succeeded(self) -> bool:
        """True if the flag was up after at least one action (rule ``any``)."""
        return bool(self.success[1:].any())

    def save(self, path: str | Path) -> None:
        """Write the episode to ``path``; a reader never sees half a file."""
        target = Path(path)
        partial = target.with_suffix(".partial")
        content: dict[str, npt.NDArray[np.generic]] = {
            "frames": self.frames,
            "success": self.success,
            "task": np.array(self.task),
            "behaviour": np.array(self.behaviour),
            "seed": np.array(self.seed, dtype=np.int64),
        }
        if self.actions is not None:
            content["actions"] = self.actions
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)
        os.replace(partial, target)

    @classmethod
    def load(cls, path: str | Path) -> Episode:
        """Read one ``.npz`` file.

        Raises:
            ValueError: if the file is damaged or lacks one of the arrays.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(
                    frames=file["frames"],
                    actions=file["actions"] if "actions" in file.files else None,
                    success=file["success"],
                    task=str(file["task"]),
                    behaviour=str(file["behaviour"]),
                    seed=int(file["seed"]),
                )
        except (KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(
                f"{path} is not a whole episode ({error}); delete it and record it again"
            ) from error


class EpisodeFolder:
    """All episodes of a folder, in the order of their file names: iterable, with ``len`` and indexing."""

    def __init__(self, path: str | Path, limit: int | None = None) -> None:
        self.path = Path(path)
        self.files = sorted(self.path.glob("*.npz"))[:limit]
        if not self.files:
            raise FileNotFoundError(
                f"no episodes (*.npz) in {self.path}; record some with: v2w record --out {self.path}"
            )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Episode:
        return Episode.load(self.files[index])

    def __iter__(self) -> Iterator[Episode]:
        return (Episode.load(file) for file in self.files)
