"""What stands in for a success detector in a world that ships none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from v2w_gym.arrays import Array


class Unjudged:
    """Gives every frame a probability of 0.0, so that no episode ever succeeds or ends by success.

    That says nothing about the episodes: environments mark it with ``info["judged"] = False``, and a success
    rate over such episodes means nothing. For a reward, give the environment ``detector=...``.
    """

    takes_tensors = True

    @property
    def threshold(self) -> float:
        """Out of reach."""
        return 1.0

    @property
    def hash(self) -> str:
        """There are no weights to name."""
        return "unjudged"

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to begin."""

    def score(self, frames: Array, slots: Sequence[int] | None = None) -> Array:
        """Zeros ``(b,)`` float32 for frames ``(b, h, w, 3)`` uint8."""
        if isinstance(frames, torch.Tensor):
            return torch.zeros(len(frames), device=frames.device)
        return np.zeros(len(frames), np.float32)
