"""Spaces and observations of one slot."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from v2w_gym.arrays import Array, host
from v2w_gym.data.episode import FrameArray
from v2w_gym.envs.settings import Settings
from v2w_gym.envs.world import WorldConfig

Observation = Any
"""``{"pixels": image}`` or the bare image, as ``obs_type`` says; uint8 ``(h, w, 3)``, 0..255, an
array or a tensor, as ``output`` says."""


def observation_space(config: WorldConfig, settings: Settings) -> spaces.Space[Any]:
    """Image ``(h, w, 3)`` uint8 0..255, bare or as ``{"pixels": image}``."""
    image = spaces.Box(0, 255, (*config.frame_size, 3), np.uint8)
    return image if settings.obs_type == "pixels" else spaces.Dict({"pixels": image})


def observe(frames: Array, settings: Settings) -> Observation:
    """The observation of one frame ``(h, w, 3)`` or of a batch ``(b, h, w, 3)``; frames are taken over."""
    return frames if settings.obs_type == "pixels" else {"pixels": frames}


def shown(frames: Array, config: WorldConfig, settings: Settings) -> FrameArray:
    """Frames ``(..., h, w, 3)`` to look at: a NumPy copy, without black bars where that is asked for."""
    seen = host(frames)
    if config.framing is not None and settings.unpadded:
        seen = config.framing.unpad(seen)
    return seen.copy()
