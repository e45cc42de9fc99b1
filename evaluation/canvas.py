"""Small drawing kit: text, borders and enlarged frames as uint8 ``(h, w, 3)`` arrays."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from v2w_gym.rewards.judge import Verdict

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (36, 41, 47)
FAINT: Colour = (110, 119, 129)
RUNNING: Colour = (208, 215, 222)
SUCCESS: Colour = (26, 148, 64)
FAILURE: Colour = (191, 42, 42)
UNSCORABLE: Colour = (138, 90, 0)
VERDICTS: dict[Verdict, Colour] = {"success": SUCCESS, "failure": FAILURE, "unscorable": UNSCORABLE}


def blank(height: int, width: int) -> Picture:
    """White paper."""
    return np.full((height, width, 3), PAPER, np.uint8)


def framed(frame: Picture, side: int, colour: Colour, border: int) -> Picture:
    """``frame`` fitted into a square of ``side`` pixels, with a border of ``colour`` around it."""
    scale = side / max(frame.shape[:2])
    height, width = (max(1, round(scale * n)) for n in frame.shape[:2])
    fitted = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
    large = blank(side, side)
    top, left = (side - height) // 2, (side - width) // 2
    large[top : top + height, left : left + width] = fitted
    around = (border,) * 4
    return np.asarray(cv2.copyMakeBorder(large, *around, cv2.BORDER_CONSTANT, value=colour), np.uint8)


def write(
    picture: Picture,
    text: str,
    *,
    x: int,
    y: int,
    size: int,
    colour: Colour = INK,
    bold: bool = False,
    width: int | None = None,
) -> None:
    """Write one line into ``picture`` in place; too long text is cut with an ellipsis.

    Args:
        picture: ``(h, w, 3)``.
        text: one line.
        x: pixels from the left.
        y: pixels from the top.
        size: height of the letters in pixels.
        colour: of the letters.
        bold: heavier letters.
        width: room in pixels; None means up to the right edge.
    """
    font = _font(size, bold)
    room = picture.shape[1] - x if width is None else width
    if font.getlength(text) > room:
        while text and font.getlength(text + "…") > room:
            text = text[:-1]
        text += "…"
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((x, y), text, font=font, fill=colour)
    picture[:] = np.asarray(image)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
