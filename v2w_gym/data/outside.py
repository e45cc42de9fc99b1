"""Start contexts from outside: pictures and clips that somebody has lying about.

===================  =====================================================================================
an image             one frame
``.npz``             ``image`` or ``frames`` ``(f, h, w, 3)`` uint8, and if known ``action`` or ``actions``
``.mp4`` and others  a video; its actions are not known
a folder             each image, clip and sub-folder in it is a start of its own, named after its file; a
                     sub-folder of images is a clip, whose ``actions.npy``, if there is one, holds actions.
                     A folder of images *with* an ``actions.npy`` is one clip, and one with a
                     ``starts.json`` is what ``StartContexts.save`` wrote.
===================  =====================================================================================

Frames are fitted to the world, see :mod:`v2w_gym.data.framing`. Actions are the vectors that the model reads,
one between two frames; where there are as many as frames, as in RT-1 recordings, the last one leads out of
the clip and is dropped. A context can hold no more frames than its actions lead to, so a clip without actions
gives its first frame.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from v2w_gym.data.archive import array_names, read_array, read_arrays
from v2w_gym.data.episode import ActionArray, FrameArray
from v2w_gym.data.framing import Framing, fit
from v2w_gym.data.starts import Context, StartContexts
from v2w_gym.shapes import check_action

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
FRAME_NAMES, ACTION_NAMES = ("image", "frames"), ("action", "actions")
"""What arrays of a clip may be called."""
MOST_PIXELS = 2**26
"""Of an image: 8,192 by 8,192."""
_READABLE = "an image, a video, an .npz, or a folder of them"


def read_context(
    source: str | Path | FrameArray,
    frame_size: tuple[int, int],
    action_dim: int,
    framing: Framing | None = None,
    *,
    actions: Any = None,
    length: int | None = None,
    id: str | None = None,
) -> Context:
    """One context from an image, a clip, or frames ``(h, w, 3)`` or ``(f, h, w, 3)`` uint8.

    Args:
        source: as above; a folder is taken as one clip.
        frame_size: ``(h, w)`` that the world has.
        action_dim: components of the vectors that the model reads.
        framing: the world's; None takes frames of ``frame_size`` only.
        actions: ``(n, a)``, in place of those that the source holds; the context has the first n+1 frames.
        length: at most so many frames; None takes all that actions lead to.
        id: name of the start; None takes that of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is damaged or of no known kind, or frames or actions that do not fit.
    """
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        most = length if actions is None else len(np.atleast_1d(actions)) + 1
        frames, own = _read(path, most)
        name = path.stem if id is None else id
    else:
        frames, own, name = source, None, id or "custom"
        frames = frames[None] if np.ndim(frames) == 3 else frames
    frames = fit(frames, frame_size, framing, f"frames of start {name!r}")
    steps = _between(own if actions is None else actions, len(frames), action_dim, name)
    if length is not None and length > min(len(frames), len(steps) + 1):
        raise ValueError(
            f"start {name!r} has {len(frames)} frames and {len(steps)} actions between them, too few for a "
            f"context of {length} frames; give its actions (n, {action_dim}), or ask for fewer"
        )
    kept = min(len(steps) + 1, length or len(frames))
    return Context(name, frames[:kept], steps[: kept - 1])


def starts_from(
    source: str | Path | FrameArray,
    frame_size: tuple[int, int],
    action_dim: int,
    framing: Framing | None = None,
    *,
    length: int | None = None,
) -> StartContexts:
    """Contexts from what ``source`` holds; ids are names of files, or numbers for an array.

    Args:
        source: a file or folder as above; or a picture ``(h, w, 3)``, or pictures ``(n, h, w, 3)`` uint8,
            each of which is a start.
        frame_size: ``(h, w)`` that the world has.
        action_dim: components of the vectors that the model reads.
        framing: the world's; None takes frames of ``frame_size`` only.
        length: frames of each context; None takes all that actions lead to.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing to start from, a damaged file, or frames or actions that do not fit.
    """
    facts = (frame_size, action_dim, framing)
    if isinstance(source, np.ndarray):
        pictures = source[None] if source.ndim == 3 else source
        return StartContexts(
            read_context(picture, *facts, length=length, id=f"{i:04d}") for i, picture in enumerate(pictures)
        )
    path = Path(source).expanduser()
    if not path.is_dir() or (path / "actions.npy").is_file():
        return StartContexts([read_context(path, *facts, length=length)])
    if (path / "starts.json").is_file():
        saved = StartContexts.load(path)
        return StartContexts(
            replace(read_context(c.frames, *facts, actions=c.actions, length=length, id=c.id), seed=c.seed)
            for c in map(saved.by_id, saved.ids)
        )
    entries = [entry for entry in _ordered(path) if entry.is_dir() or _known(entry)]
    if not entries:
        raise ValueError(f"{path} holds nothing to start from; expected {_READABLE}")
    return StartContexts(read_context(entry, *facts, length=length) for entry in entries)


def _between(actions: Any, frames: int, action_dim: int, name: str) -> ActionArray:
    """Actions ``(n, a)`` between ``frames`` frames, n < frames; none if they are not known."""
    if actions is None:
        return np.zeros((0, action_dim), np.float32)
    steps = np.asarray(actions)
    if steps.ndim != 2 or steps.shape[1] != action_dim or len(steps) > frames:
        raise ValueError(
            f"actions of start {name!r} must be (n, a) = (n, {action_dim}) with n of at most {frames}, the "
            f"number of its frames, got {steps.shape}; they are the vectors that the world's model reads"
        )
    return check_action(steps, steps.shape, -np.inf, np.inf)[: frames - 1]


def _known(path: Path) -> bool:
    return path.suffix.lower() in IMAGES | VIDEOS | {".npz"}


def _ordered(folder: Path) -> list[Path]:
    """Visible entries by name; numbers in names count as numbers, so that 2 comes before 10."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))

    def key(path: Path) -> list[Any]:
        return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path.name))]

    return sorted(visible, key=key)


def _read(path: Path, most: int | None) -> tuple[FrameArray, Any]:
    """Frames, not fitted yet, and the actions that the file knows of; videos stop after ``most`` frames."""
    if path.is_dir():
        pictures = [entry for entry in _ordered(path) if entry.suffix.lower() in IMAGES]
        if not pictures:
            raise ValueError(f"{path} holds no images ({', '.join(sorted(IMAGES))})")
        actions = path / "actions.npy"
        known = read_array(actions) if actions.is_file() else None
        wanted = pictures if known is not None or most is not None else pictures[:1]
        return _stack([_image(picture) for picture in wanted], path), known
    if not path.is_file():
        raise FileNotFoundError(f"no start at {path}; expected {_READABLE}")
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        return _image(path)[None], None
    if suffix == ".npz":
        return _clip(path)
    if suffix in VIDEOS:
        return _video(path, most or 1), None
    raise ValueError(f"{path} is no start that can be read; expected {_READABLE}")


def _stack(frames: list[FrameArray], path: Path) -> FrameArray:
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        raise ValueError(f"the frames of {path} differ in size, (h, w) = {sizes}; they are no clip")
    return np.stack(frames)


def _image(path: Path) -> FrameArray:
    try:
        with Image.open(path) as header:  # says how large it is, and unpacks nothing
            pixels = header.width * header.height
        if pixels > MOST_PIXELS:
            raise ValueError(f"{path} has {pixels:,} pixels; at most {MOST_PIXELS:,} are read")
        bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, SyntaxError, struct.error, Image.DecompressionBombError, cv2.error) as error:
        raise ValueError(f"{path} is no image, or a damaged one ({error})") from error
    if bgr is None:
        raise ValueError(f"{path} is no image, or a damaged one")
    return np.ascontiguousarray(bgr[..., ::-1])


def _video(path: Path, most: int) -> FrameArray:
    frames: list[FrameArray] = []
    capture = cv2.VideoCapture(str(path))
    try:
        while len(frames) < most:
            found, bgr = capture.read()
            if not found:
                break
            frames.append(np.ascontiguousarray(bgr[..., ::-1]))
    finally:
        capture.release()
    if not frames:
        raise ValueError(f"{path} is no video that OpenCV can read, or a damaged one")
    return np.stack(frames)


def _clip(path: Path) -> tuple[FrameArray, Any]:
    """The frames and actions of an ``.npz``."""
    content = read_arrays(path, (*FRAME_NAMES, *ACTION_NAMES))
    frames = [name for name in FRAME_NAMES if name in content]
    actions = [name for name in ACTION_NAMES if name in content]
    if len(frames) != 1 or len(actions) > 1:
        raise ValueError(
            f"{path} must hold image or frames (f, h, w, 3), and may hold action or actions (f-1, a) "
            f"or (f, a); it holds {', '.join(array_names(path)[:20]) or 'nothing'}"
        )
    return content[frames[0]], content[actions[0]] if actions else None
