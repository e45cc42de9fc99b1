"""How any picture becomes the frame that a model was trained on, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from v2w_gym.data.episode import FrameArray
from v2w_gym.shapes import FramesLike, frames_to_array, frames_to_tensor


@dataclass(frozen=True)
class Framing:
    """A picture in the middle of a black frame.

    A picture of other proportions than ``source`` is first cropped around its centre, so that the bars stay
    where the model learned them. It is then resized to ``picture`` whatever that does to its proportions,
    with ``cv2.INTER_LINEAR`` where it grows (what the public loaders do) and with ``cv2.INTER_AREA`` where
    it shrinks, since plain linear interpolation would skip pixels.

    Attributes:
        source: ``(h, w)`` of the recordings that the model was trained on; only the proportions count.
        picture: ``(h, w)`` of the picture within the frame, in pixels.
        bars: black rows and columns around it: top, bottom, left, right.
    """

    source: tuple[int, int]
    picture: tuple[int, int]
    bars: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        sizes = (*self.source, *self.picture)
        if len(self.source) != 2 or len(self.picture) != 2 or min(sizes) < 1:
            raise ValueError(
                "framing needs source and picture as [h, w] in pixels, "
                f"got {list(self.source)} and {list(self.picture)}"
            )
        if len(self.bars) != 4 or min(self.bars) < 0:
            raise ValueError(
                f"framing needs bars as [top, bottom, left, right] in pixels, got {list(self.bars)}"
            )

    @property
    def frame_size(self) -> tuple[int, int]:
        """``(h, w)`` of a frame, bars included."""
        top, bottom, left, right = self.bars
        return self.picture[0] + top + bottom, self.picture[1] + left + right

    def fit(self, frames: FramesLike, what: str = "frames") -> FrameArray:
        """Make frames of pictures.

        Args:
            frames: ``(f, h, w, 3)`` uint8 RGB of any size; frames that have the model's size already pass
                unchanged.
            what: what to call them in errors.

        Returns:
            ``(f, h, w, 3)`` uint8, of ``frame_size``.

        Raises:
            ValueError: wrong dtype or axes.
        """
        pictures = _clip(frames_to_array(frames, what), what)
        if pictures.shape[1:3] == self.frame_size:
            return pictures
        top, bottom, left, right = self.bars
        resized = np.stack([self._resize(picture) for picture in self._crop(pictures)])
        return np.pad(resized, ((0, 0), (top, bottom), (left, right), (0, 0)))

    def unpad(self, frames: FrameArray) -> FrameArray:
        """Frames ``(..., h, w, 3)`` without their bars."""
        (h, w), (top, _, left, _) = self.picture, self.bars
        return frames[..., top : top + h, left : left + w, :]

    def _crop(self, pictures: FrameArray) -> FrameArray:
        (h, w), (high, wide) = pictures.shape[1:3], self.source
        kept_h, kept_w = min(h, max(1, w * high // wide)), min(w, max(1, h * wide // high))
        top, left = (h - kept_h) // 2, (w - kept_w) // 2
        return pictures[:, top : top + kept_h, left : left + kept_w]

    def _resize(self, picture: FrameArray) -> FrameArray:
        (h, w), (high, wide) = picture.shape[:2], self.picture
        kind = cv2.INTER_AREA if high < h or wide < w else cv2.INTER_LINEAR
        resized: FrameArray = cv2.resize(picture, (wide, high), interpolation=kind)
        return resized


def fit(
    frames: Any, frame_size: tuple[int, int], framing: Framing | None = None, what: str = "frames"
) -> FrameArray:
    """Frames ``(f, h, w, 3)`` uint8 of ``frame_size``; without a framing they must have it already.

    Raises:
        ValueError: wrong dtype or axes, or no framing and another size.
    """
    if framing is not None:
        return framing.fit(frames, what)
    return _clip(frames_to_tensor(frames, frame_size, what).cpu().numpy(), what)


def _clip(frames: FrameArray, what: str) -> FrameArray:
    if frames.ndim != 4 or len(frames) == 0:
        raise ValueError(
            f"{what} must be (f, h, w, 3) with f >= 1, got {frames.shape}; "
            "one frame needs a leading axis: frame[None]"
        )
    return frames
