"""One recorded episode and the folder format that holds many of them.

The alignment rule, stated once: **the action at index i moves frame i to frame i+1**, so an episode of
``f`` frames has ``f - 1`` actions. An episode folder holds one compressed ``.npz`` per episode::

    frames    (f, h, w, 3)  uint8    RGB, 0..255
    actions   (f-1, a)      float32  normalised, -1..1; absent in an action-free video
    success   (f,)          bool     the simulator's flag when the frame was taken; frame 0 is False
    task      ()            str      e.g. "drawer-close-v3"
    behaviour ()            str      what drove the episode, e.g. "slow-expert"
    seed      ()            int64    the seed that placed the scene
    states    (f, k)        float32  measured beside the frames, e.g. positions; absent where nothing was
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.data.archive import read_arrays

FrameArray = npt.NDArray[np.uint8]
ActionArray = npt.NDArray[np.float32]
StateArray = npt.NDArray[np.float32]

_NAMES = ("frames", "actions", "success", "task", "behaviour", "seed", "states")


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
        states: ``(f, k)`` float32, what was measured when each frame was taken (LeRobot's
            ``observation.state``, or positions that a simulator knows), or None. Only trainings read it.
    """

    frames: FrameArray
    actions: ActionArray | None
    success: npt.NDArray[np.bool_]
    task: str
    behaviour: str
    seed: int
    states: StateArray | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"episode frames must be uint8 (f, h, w, 3), got {self.frames.dtype} {self.frames.shape}"
            )
        length = len(self.frames)
        if length == 0:
            raise ValueError("an episode needs at least one frame, got none")
        if self.actions is not None:
            _check_actions(self.actions, length)
        if self.states is not None:
            _check_states(self.states, length)
        if self.success.shape != (length,) or self.success.dtype != np.bool_:
            raise ValueError(
                f"success must be bool ({length},), got {self.success.dtype} {self.success.shape}"
            )

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
        if self.states is not None:
            content["states"] = self.states
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)
        os.replace(partial, target)

    @classmethod
    def load(cls, path: str | Path) -> Episode:
        """Read one ``.npz`` file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged, or its arrays are not those of an episode.
        """
        content = read_arrays(path, _NAMES)
        try:
            return cls(
                frames=content["frames"],
                actions=content.get("actions"),
                success=content["success"],
                task=_word(content["task"]),
                behaviour=_word(content["behaviour"]),
                seed=_whole(content["seed"]),
                states=content.get("states"),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is not a whole episode ({error}); delete it and record it again"
            ) from error


def _check_actions(actions: ActionArray, length: int) -> None:
    if actions.ndim != 2 or len(actions) != length - 1:
        raise ValueError(f"{length} frames need actions ({length - 1}, a), got {actions.shape}")
    if actions.dtype.kind != "f" or not np.isfinite(actions).all():
        raise ValueError(f"actions must be finite floats, got {actions.dtype}")


def _check_states(states: StateArray, length: int) -> None:
    if states.ndim != 2 or len(states) != length:
        raise ValueError(f"{length} frames need states ({length}, k), got {states.shape}")
    if states.dtype.kind != "f" or not np.isfinite(states).all():
        raise ValueError(f"states must be finite floats, got {states.dtype}")


def _word(array: npt.NDArray[Any]) -> str:
    if array.shape != () or array.dtype.kind != "U":
        raise ValueError(f"expected a text, got {array.dtype} {array.shape}")
    return str(array)


def _whole(array: npt.NDArray[Any]) -> int:
    if array.shape != () or array.dtype.kind not in "iu":
        raise ValueError(f"expected a whole number, got {array.dtype} {array.shape}")
    return int(array)


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
