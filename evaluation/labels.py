"""Where to write the names of crowded points: off all points, lines and other names, and near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Offset = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, low, right, high; whether up or down grows does not matter."""

_PADDING = 3  # around a label
_POINT = 7  # half the room that a point takes
_OFFSETS: list[Offset] = [
    (float(radius * np.cos(angle)), float(radius * np.sin(angle)))
    for radius in (12, 18, 26, 36, 48, 62, 78, 96, 116)
    for angle in np.deg2rad(
        [
            30,
            -30,
            150,
            -150,
            0,
            180,
            60,
            -60,
            120,
            -120,
            90,
            -90,
            15,
            -15,
            165,
            -165,
            45,
            -45,
            135,
            -135,
            75,
            -75,
        ]
    )
]


@dataclass(frozen=True)
class Label:
    """A place for a name.

    Attributes:
        offset: of the name's near end from its point.
        side: ``"left"`` if that is where the name begins, ``"right"`` if it is where it ends.
        room: what it takes, padding included.
    """

    offset: Offset
    side: str
    room: Box


def place(
    points: npt.ArrayLike, sizes: npt.ArrayLike, lines: Sequence[Box], inside: Box, scale: float = 1.0
) -> list[Label]:
    """A place for the name of each point.

    Args:
        points: ``(n, 2)``.
        sizes: ``(n, 2)``, width and height of each name.
        lines: rooms that a name may cross, though it had better not.
        inside: what no name may leave.
        scale: by which all distances grow, e.g. pixels per point.
    """
    at, wide = np.asarray(points, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    near = _POINT * scale
    taken: list[Box] = [(x - near, y - near, x + near, y + near) for x, y in at]
    crowded = np.linalg.norm(at[:, None] - at[None], axis=-1).sum(axis=1)
    found: dict[int, Label] = {}
    for i in np.argsort(-crowded):  # points at the rim of the crowd first: they have somewhere to go
        options = [_label(at[i], wide[i], offset, scale) for offset in _OFFSETS]
        found[i] = min(options, key=lambda label: _cost(label, taken, lines, inside, scale))
        taken.append(found[i].room)
    return [found[i] for i in range(len(at))]


def _label(point: Floats, size: Floats, offset: Offset, scale: float) -> Label:
    side = "left" if offset[0] > 1 else "right" if offset[0] < -1 else "center"
    x, y = point + np.array(offset) * scale
    left = x - size[0] * {"left": 0.0, "center": 0.5, "right": 1.0}[side]
    pad, half = _PADDING, size[1] / 2
    return Label(
        (offset[0] * scale, offset[1] * scale),
        side,
        (left - pad, y - half - pad, left + size[0] + pad, y + half + pad),
    )


def _cost(label: Label, taken: Sequence[Box], lines: Sequence[Box], inside: Box, scale: float) -> float:
    box = label.room
    outside = box[0] < inside[0] or box[1] < inside[1] or box[2] > inside[2] or box[3] > inside[3]
    crossed = min(2, sum(overlap(box, line) for line in lines))  # better across a line than far away
    hidden = sum(overlap(box, other) for other in taken)
    return 1000 * outside + 100 * hidden + 5 * crossed + float(np.hypot(*label.offset)) / scale / 4


def overlap(first: Box, second: Box) -> bool:
    """Whether two rooms share some of their inside."""
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
