"""What every judge asks of the clips that it is handed."""

from __future__ import annotations

from collections.abc import Sequence

from v2w_gym.rewards.judge import Clip
from v2w_gym.shapes import frames_to_array


def check_clips(clips: Sequence[Clip]) -> None:
    """Look at all clips before the first is judged.

    Raises:
        ValueError: frames that are not uint8 ``(f, h, w, 3)``, or a clip without frames; it says which clip.
    """
    for index, clip in enumerate(clips):
        frames = frames_to_array(clip.frames, f"frames of clip {index}")
        if frames.ndim != 4:
            raise ValueError(f"frames of clip {index} must be (f, h, w, 3), got {tuple(frames.shape)}")
