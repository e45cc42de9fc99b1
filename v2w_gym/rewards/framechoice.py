"""Which frames of a clip a judge is shown, and how: settings that move its judgements as its prompt does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from v2w_gym.data.episode import FrameArray

Rule = Literal["last", "first_last", "even", "every", "all"]


@dataclass(frozen=True)
class FrameChoice:
    """Frames of a clip, in order.

    ============== ==========================================================================
    rule           frames
    ============== ==========================================================================
    ``last``       the last
    ``first_last`` the first and the last
    ``even``       ``count`` of them, evenly spaced, the first and the last included
    ``every``      every ``stride``-th, counted back from the last, which is always included
    ``all``        all
    ============== ==========================================================================

    A clip that is shorter than asked for is shown whole; no frame is shown twice.

    Attributes:
        rule: see the table.
        count: of frames, for ``even``.
        stride: in frames, for ``every``.
        columns: of a montage that shows all chosen frames in one picture, row by row; None: one picture each.
        size: length of the longer side of a frame in pixels, to which it is scaled, keeping its shape; None:
            as it is.
    """

    rule: Rule = "even"
    count: int = 8
    stride: int = 1
    columns: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        for name in ("count", "stride", "columns", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} of a frame choice must be at least 1, got {value}")

    def indices(self, frames: int) -> list[int]:
        """Places, from 0 on, of the chosen frames among ``frames`` of them."""
        last = frames - 1
        if self.rule == "last" or (self.rule == "even" and self.count == 1):
            return [last]
        if self.rule == "first_last":
            return sorted({0, last})
        if self.rule == "even":
            return sorted({int(i) for i in np.linspace(0, last, self.count).round()})
        return list(range(last, -1, -self.stride if self.rule == "every" else -1))[::-1]

    def pictures(self, frames: FrameArray) -> list[FrameArray]:
        """What is shown of ``frames (f, h, w, 3)`` uint8: pictures ``(h, w, 3)`` uint8, in order."""
        chosen = [_scaled(frames[i], self.size) for i in self.indices(len(frames))]
        return [_montage(chosen, self.columns)] if self.columns else chosen


def _scaled(frame: FrameArray, size: int | None) -> FrameArray:
    """The frame with a longer side of ``size`` pixels."""
    height, width = frame.shape[:2]
    if size is None or max(height, width) == size:
        return np.ascontiguousarray(frame)
    scale = size / max(height, width)
    target = max(1, round(width * scale)), max(1, round(height * scale))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC  # area averages: no aliasing when it shrinks
    return np.asarray(cv2.resize(frame, target, interpolation=kind), np.uint8)


def _montage(frames: list[FrameArray], columns: int) -> FrameArray:
    """One picture, filled row by row; places that are left over stay black."""
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    blank = [np.zeros_like(frames[0])] * (rows * columns - len(frames))
    tiles = np.stack([*frames, *blank]).reshape(rows, columns, *frames[0].shape)
    return np.concatenate(np.concatenate(tiles, axis=1), axis=1)
