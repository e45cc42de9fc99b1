"""Images made square as openpi's client makes them (``openpi_client/image_tools.py``, openpi 15a9616)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from v2w_gym.data.episode import FrameArray


def resize_with_pad(image: FrameArray, side: int) -> FrameArray:
    """Shrink or grow an image until its longer side fits, and pad the shorter one with black.

    Args:
        image: ``(h, w, 3)`` uint8 RGB.
        side: height and width of the result, in pixels.

    Returns:
        ``(side, side, 3)`` uint8, the picture in the middle; the same image where it has that size.
    """
    h, w = image.shape[:2]
    if (h, w) == (side, side):
        return image
    ratio = max(h, w) / side
    height, width = max(1, int(h / ratio)), max(1, int(w / ratio))
    smaller = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = np.asarray(smaller)
    return square
