"""Units of action components as they are written: which are the same, and which differ by a factor."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_SCALES = {  # of metres and radians
    "length": {
        1.0: "m metre metres meter meters",
        0.01: "cm centimetre centimetres centimeter centimeters",
        0.001: "mm millimetre millimetres millimeter millimeters",
    },
    "angle": {1.0: "rad radian radians", math.pi / 180: "deg degree degrees"},
}
_KNOWN = {
    word: (dimension, scale)
    for dimension, scales in _SCALES.items()
    for scale, words in scales.items()
    for word in words.split()
}
_STEP = {"step", "action"}  # an action moves one frame to the next: two words for one thing


class Unit(NamedTuple):
    """A unit that is understood.

    Attributes:
        kind: ``"length"`` or ``"angle"`` with what it is per, e.g. ``"length per step"``.
        scale: how many metres or radians it is.
    """

    kind: str
    scale: float


def parse(text: str) -> Unit | None:
    """``"centimetres per step"`` and the like; None for anything else, e.g. ``"1"``."""
    words = re.fullmatch(r"\s*(\w+)(?:\s*(?:per|/)\s*(\w+))?\s*", text.lower())
    if words is None or words[1] not in _KNOWN:
        return None
    dimension, scale = _KNOWN[words[1]]
    per = "" if words[2] is None else " per step" if words[2] in _STEP else f" per {words[2]}"
    return Unit(dimension + per, scale)


def factor(got: str, wanted: str) -> float | None:
    """What numbers in ``got`` are to be multiplied with to be in ``wanted``; None where they are unlike."""
    one, other = parse(got), parse(wanted)
    if one is None or other is None:
        return 1.0 if got.split() == wanted.split() else None
    return one.scale / other.scale if one.kind == other.kind else None


def motion(unit: str) -> bool:
    """Whether numbers in ``unit`` are motions or poses: lengths, angles, or anything per step; no speeds."""
    found = parse(unit)
    if found is None:
        return re.search(rf"(\bper|/)\s*({'|'.join(_STEP)})\s*$", unit.lower()) is not None
    return found.kind.removesuffix(" per step") in _SCALES
