"""Pictures that are not of the scene, made of pictures that are: what familiarity is learned against.

The changes are plain operations on pictures, nothing that a simulator could do: the shifts of ``data.shift``
are kept for asking whether this was enough. The slight ones, which every camera and every codec makes, are
drawn too, and count as familiar.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from v2w_gym.data.episode import FrameArray

Change = Callable[[FrameArray, np.random.Generator], FrameArray]
_PATCH = 40.0  # grey levels by which a patch must stand out


def moved(frame: FrameArray, rng: np.random.Generator) -> FrameArray:
    """Moved by 1.5 to 8 % of its size, and sometimes turned or magnified a little; the border is repeated."""
    h, w = frame.shape[:2]
    shift = rng.uniform(0.015, 0.08, 2) * rng.choice([-1.0, 1.0], 2) * (w, h)
    angle, scale = (rng.uniform(-6.0, 6.0), rng.uniform(0.9, 1.1)) if rng.random() < 0.4 else (0.0, 1.0)
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), angle, scale)
    matrix[:, 2] += shift
    return _frame(cv2.warpAffine(frame, matrix, (w, h), borderMode=cv2.BORDER_REPLICATE))


def lit(frame: FrameArray, rng: np.random.Generator) -> FrameArray:
    """Brighter or darker by 12 to 60 %, each colour a little differently."""
    gain = 1.0 + rng.choice([-1.0, 1.0]) * rng.uniform(0.12, 0.6)
    return _frame(frame * gain * (1.0 + rng.uniform(-0.15, 0.15, 3)))


def recoloured(frame: FrameArray, rng: np.random.Generator) -> FrameArray:
    """Everything of one colour, that of a pixel drawn, is of another."""
    seen = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV).astype(np.int64)
    hue, saturation, _ = seen[rng.integers(len(seen)), rng.integers(seen.shape[1])]
    near = np.abs((seen[..., 0] - hue + 90) % 180 - 90) < 12
    near &= np.abs(seen[..., 1] - saturation) < 60
    other = seen.copy()
    other[..., 0] = (seen[..., 0] + rng.integers(20, 160)) % 180
    other[..., 1] = seen[..., 1] * rng.uniform(0.0, 1.8) + rng.choice([0, 40])
    other[..., 2] = seen[..., 2] * rng.uniform(0.5, 1.6)
    mixed = np.where(near[..., None], other, seen)
    return _frame(cv2.cvtColor(np.clip(mixed, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB))


def patched(frame: FrameArray, rng: np.random.Generator) -> FrameArray:
    """A rectangle of one colour, which stands out, covers a twentieth to a third of each side."""
    h, w = frame.shape[:2]
    tall, wide = (int(rng.integers(max(side // 16, 1), side // 3 + 1)) for side in (h, w))
    top, left = rng.integers(0, h - tall + 1), rng.integers(0, w - wide + 1)
    covered = frame.astype(np.float64)
    under = covered[top : top + tall, left : left + wide]
    colour = rng.uniform(0.0, 255.0, 3)
    while np.abs(under.mean(axis=(0, 1)) - colour).max() < _PATCH:
        colour = rng.uniform(0.0, 255.0, 3)
    under[:] = colour + rng.choice([0.0, 0.3]) * (under - colour)
    return _frame(covered)


def slight(frame: FrameArray, rng: np.random.Generator) -> FrameArray:
    """What no one would notice: some noise, a JPEG file, or a few grey levels."""
    kind = rng.integers(3)
    if kind == 0:
        return _frame(frame + rng.normal(0.0, rng.uniform(0.5, 3.0), frame.shape))
    if kind == 1:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 100))]
        _, data = cv2.imencode(".jpg", frame[..., ::-1], quality)
        return _frame(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])
    return _frame(frame + rng.uniform(-3.0, 3.0, 3))


STRANGE: tuple[Change, ...] = (moved, lit, recoloured, patched)


def _frame(picture: object) -> FrameArray:
    return np.ascontiguousarray(np.clip(np.rint(np.asarray(picture)), 0, 255).astype(np.uint8))
