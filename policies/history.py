"""What a policy has seen: the last frames of every slot, in the policy's own size."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from v2w_gym.data.episode import FrameArray
from v2w_gym.data.framing import Framing


class FrameHistory:
    """Keeps ``length`` frames of each slot, the newest last.

    Args:
        length: how many frames the policy wants, the newest included.
        size: ``(h, w)`` that it wants them in, in pixels; the picture is cropped to these proportions and
            resized. None leaves it as it is.
        framing: of the world, whose black bars are taken off first; None leaves the frame whole.
        start: what stands for the frames before the first: ``"repeat"`` the first, or ``"black"``.

    Raises:
        ValueError: ``length`` below 1, or an unknown ``start``.
    """

    def __init__(
        self,
        length: int,
        size: tuple[int, int] | None = None,
        framing: Framing | None = None,
        start: Literal["repeat", "black"] = "repeat",
    ) -> None:
        if length < 1:
            raise ValueError(f"a history needs at least 1 frame, got {length}")
        if start not in ("repeat", "black"):
            raise ValueError(f'start must be "repeat" or "black", got {start!r}')
        self.length, self._framing, self._start = length, framing, start
        self._size = None if size is None else Framing(size, size, (0, 0, 0, 0))
        self._seen: dict[int, tuple[FrameArray, ...]] = {}

    def reset(self, slots: Sequence[int]) -> None:
        """Forget what ``slots`` have seen."""
        for slot in slots:
            self._seen.pop(slot, None)

    def copy(self) -> FrameHistory:
        """One that has seen the same; what either sees from now on, the other has not."""
        twin = copy.copy(self)
        twin._seen = dict(self._seen)
        return twin

    def see(self, frames: Any) -> FrameArray:
        """Take in frames ``(b, h, w, 3)`` uint8; the last ones of each slot, ``(b, length, h, w, 3)`` uint8.

        Raises:
            ValueError: frames of another dtype, or of another size than the framing makes.
        """
        pictures = self._fitted(np.asarray(frames))
        for slot, picture in enumerate(pictures):
            if slot not in self._seen:
                before = picture.copy() if self._start == "repeat" else np.zeros_like(picture)
                self._seen[slot] = (before,) * self.length
            past = self._seen[slot][1:]
            self._seen[slot] = (*past, picture.copy())  # whoever shows frames may reuse their memory
        return np.stack([np.stack(self._seen[slot]) for slot in range(len(pictures))])

    def _fitted(self, frames: FrameArray) -> FrameArray:
        if frames.dtype != np.uint8 or frames.ndim != 4:
            raise ValueError(f"pixels must be (b, h, w, 3) uint8, got {frames.shape} {frames.dtype}")
        if self._framing is not None:
            if frames.shape[1:3] != self._framing.frame_size:
                raise ValueError(
                    f"pixels must have the (h, w) of the framing, {self._framing.frame_size}, "
                    f"got {frames.shape[1:3]}; give the world's own: framing=world.config.framing"
                )
            frames = self._framing.unpad(frames)
        return frames if self._size is None else self._size.fit(frames, "pixels")
