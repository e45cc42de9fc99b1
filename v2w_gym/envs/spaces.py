"""Spaces and observations of one slot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from v2w_gym.data.episode import FrameArray
from v2w_gym.envs.settings import Settings
from v2w_gym.envs.world import WorldConfig

Observation = Any
"""``{"pixels": image}`` or the bare image, as ``obs_type`` says; uint8 ``(h, w, 3)``, 0..255."""


def observation_space(config: WorldConfig, settings: Settings) -> spaces.Space[Any]:
    """Image ``(h, w, 3)`` uint8 0..255, bare or as ``{"pixels": image}``."""
    image = spaces.Box(0, 255, (*config.frame_size, 3), np.uint8)
    return image if settings.obs_type == "pixels" else spaces.Dict({"pixels": image})


def observe(frames: FrameArray, settings: Settings) -> Observation:
    """A fresh observation of one frame ``(h, w, 3)`` or of a batch ``(b, h, w, 3)``."""
    return frames.copy() if settings.obs_type == "pixels" else {"pixels": frames.copy()}


def action_space(config: WorldConfig) -> spaces.Space[npt.NDArray[np.float32]]:
    """Normalised actions ``(a,)`` float32 in -1..1; ``config.action`` says what they stand for."""
    space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (len(config.action.names),), np.float32)
    return space
