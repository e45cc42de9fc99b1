"""The test protocols of the Vid2World paper's table 1: which frames of how many clips count, at what size.

Their values are files in ``configs/protocols``. The public code reads 8-bit H.264 files on both sides, so its
figures carry the loss of a video codec; frames that never were a video score a little higher.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from v2w_gym.config import load, to_dict
from v2w_gym.data.episode import FrameArray
from v2w_gym.evaluation.metrics import psnr, ssim
from v2w_gym.evaluation.metrics_lpips import Lpips

_FOLDER = Path(__file__).parents[2] / "configs" / "protocols"


@dataclass(frozen=True)
class ClipProtocol:
    """One of them.

    Attributes:
        clips: how many.
        frames: of each clip.
        given: recorded frames that a prediction starts from.
        scored: indices of the frames that count.
        crop: ``(h, w)`` cut out of the middle of a frame, or None.
        resize: ``(h, w)`` that the cut is then brought to, linearly and without smoothing first, or None.
        lpips: the network whose LPIPS the paper prints.
    """

    clips: int
    frames: int
    given: int
    scored: tuple[int, ...]
    crop: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    lpips: Literal["AlexNet", "VGG16"] = "VGG16"

    def __post_init__(self) -> None:
        if not 1 <= self.given < self.frames or not self.scored or max(self.scored) >= self.frames:
            raise ValueError(
                f"a protocol scores frames among its {self.frames} and is given fewer than these, got "
                f"given={self.given}, scored={list(self.scored)}"
            )


def protocols() -> list[str]:
    """Names of those that are known."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def protocol(name: str) -> ClipProtocol:
    """The protocol of that name, e.g. ``"rt1"``.

    Raises:
        ValueError: there is none; near misses are suggested.
    """
    if name not in protocols():
        near = difflib.get_close_matches(name, protocols(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"no protocol {name!r}{hint} Known: {', '.join(protocols())}")
    return load(ClipProtocol, _FOLDER / f"{name}.yaml")


def score_clips(
    rules: ClipProtocol, predicted: FrameArray, recorded: FrameArray, lpips: Lpips | None = None
) -> dict[str, Any]:
    """Mean PSNR in dB, SSIM and, where its weights are given, LPIPS over the frames that count.

    Args:
        rules: the protocol.
        predicted: ``(n, frames, h, w, 3)`` uint8.
        recorded: likewise.
        lpips: the distance; of another network than the protocol's it goes by its own network's name.

    Returns:
        ``scores``, means; ``by_frame``, for each metric one mean per scored frame; ``clips``, how many there
        were; ``protocol``, the values of ``rules``.

    Raises:
        ValueError: clips of another length or too small to crop.
    """
    shown = [
        prepared(rules, frames, what) for frames, what in ((predicted, "predicted"), (recorded, "recorded"))
    ]
    values = {"psnr_db": psnr(*shown), "ssim": ssim(*shown)}
    if lpips is not None:
        flat = [frames.reshape(-1, *frames.shape[2:]) for frames in shown]
        values[f"lpips_{lpips.network.lower()}"] = lpips(*flat).reshape(shown[0].shape[:2])
    return {
        "protocol": to_dict(rules),
        "clips": len(predicted),
        "scores": {name: float(value.mean()) for name, value in values.items()},
        "by_frame": {name: value.mean(axis=0).round(4).tolist() for name, value in values.items()},
    }


def prepared(rules: ClipProtocol, frames: FrameArray, what: str) -> FrameArray:
    """The scored frames, cut and resized.

    Raises:
        ValueError: clips of another length or too small to crop.
    """
    if frames.ndim != 5 or frames.shape[1] != rules.frames:
        raise ValueError(f"{what} clips must be (n, {rules.frames}, h, w, 3), got {frames.shape}")
    kept = frames[:, list(rules.scored)]
    if rules.crop is not None:
        (height, width), (high, wide) = kept.shape[2:4], rules.crop
        if high > height or wide > width:
            raise ValueError(
                f"{what} clips of {height}x{width} are too small to cut {high}x{wide} out of them"
            )
        top, left = (height - high) // 2, (width - wide) // 2
        kept = kept[:, :, top : top + high, left : left + wide]
    if rules.resize is not None:
        size = rules.resize[::-1]
        flat = [cv2.resize(frame, size) for frame in kept.reshape(-1, *kept.shape[2:])]
        kept = np.stack(flat).reshape(*kept.shape[:2], *rules.resize, 3)
    return np.ascontiguousarray(kept)
