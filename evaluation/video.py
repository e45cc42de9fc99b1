"""Paired episodes side by side: what each policy makes of the same start with the same noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np

from v2w_gym.evaluation import canvas
from v2w_gym.evaluation.canvas import Picture
from v2w_gym.evaluation.contact_sheet import Row

_SIDE, _BORDER, _GAP, _MARGIN = 192, 5, 12, 16
_CAPTION, _HEAD = 44, 44
_WORDS = {"": canvas.RUNNING} | {str(word): colour for word, colour in canvas.VERDICTS.items()}
_PAUSE = 1.5  # seconds on the last frame of each start
_SLOWER = 2  # a manipulation episode lasts a second or two: too short to watch many at once


def write_video(path: str | Path, scenes: Sequence[tuple[str, Sequence[Row]]], fps: float) -> None:
    """Write an mp4 (H.264) at half speed, one scene after the other.

    Args:
        path: the file.
        scenes: title and policies of each scene; all scenes have the same policies.
        fps: frames per second of real time.
    """
    partial, rate = Path(path).with_suffix(".partial.mp4"), fps / _SLOWER
    writer: Any = imageio.get_writer(partial, fps=rate, codec="libx264", quality=8, macro_block_size=2)
    with writer:
        for title, rows in scenes:
            for picture in _scene(title, rows, pause=round(_PAUSE * rate)):
                writer.append_data(picture)
    partial.replace(path)


def _scene(title: str, rows: Sequence[Row], pause: int) -> Iterator[Picture]:
    captions = [{word: _caption(row.name, word) for word in _WORDS} for row in rows]
    last = max(len(row.episode) for row in rows) - 1
    for index in [*range(last + 1), *[last] * pause]:
        tiles = [_tile(row, index, caption) for row, caption in zip(rows, captions, strict=True)]
        picture = _grid(tiles)
        head = picture[:_HEAD]
        canvas.write(head, title, x=_MARGIN, y=12, size=17, bold=True, width=head.shape[1] - 120)
        canvas.write(head, f"frame {index}", x=head.shape[1] - 90, y=14, size=14, colour=canvas.FAINT)
        yield picture


def _caption(name: str, word: str) -> Picture:
    caption = canvas.blank(_CAPTION, _SIDE + 2 * _BORDER)
    canvas.write(caption, name, x=_BORDER, y=4, size=14, bold=True, width=_SIDE)
    canvas.write(caption, word, x=_BORDER, y=22, size=14, colour=_WORDS[word])
    return caption


def _tile(row: Row, index: int, captions: Mapping[str, Picture]) -> Picture:
    """Frame ``index``, green-edged while it is judged a success; at the end the verdict in words."""
    episode, word = row.episode, ""
    shown = min(index, len(episode) - 1)
    if shown == len(episode) - 1:
        word = row.verdict
    colour = _WORDS[word] if word else canvas.SUCCESS if episode.success[shown] else canvas.RUNNING
    return np.concatenate([canvas.framed(episode.frames[shown], _SIDE, colour, _BORDER), captions[word]])


def _grid(tiles: Sequence[Picture]) -> Picture:
    wanted = math.sqrt(1.6 * len(tiles))  # a little wider than high, and few empty places
    columns = min((math.floor(wanted), math.ceil(wanted)), key=lambda n: -len(tiles) % n)
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles[0].shape[0] + _GAP, tiles[0].shape[1] + _GAP
    picture = canvas.blank(_HEAD + rows * height, 2 * _MARGIN + columns * width - _GAP)
    picture = np.pad(
        picture, [(0, n % 2) for n in picture.shape[:2]] + [(0, 0)], mode="edge"
    )  # H.264 wants even
    for i, tile in enumerate(tiles):
        y, x = _HEAD + (i // columns) * height, _MARGIN + (i % columns) * width
        picture[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return picture
