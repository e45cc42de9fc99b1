"""What stands in for a success detector in a world that ships none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Unjudged:
    """Gives every frame a probability of 0.0, so that no episode ever succeeds or ends by success.

    That says nothing about the episodes: environments mark it with ``info["judged"] = False``, and a success
    rate over such episodes means nothing. For a reward, give the environment ``detector=...``.
    """

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

    def score(
        self, frames: npt.NDArray[np.uint8], slots: Sequence[int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Zeros ``(b,)`` for frames ``(b, h, w, 3)`` uint8."""
        return np.zeros(len(frames), np.float32)
