"""What an environment asks of a success detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class SuccessDetector(Protocol):
    """Batched judge of frames. A detector that needs history keeps it per slot and drops it at ``reset``."""

    @property
    def threshold(self) -> float:
        """Probability from which a frame counts as success."""
        ...

    @property
    def hash(self) -> str:
        """Names the weights; written into every ledger line."""
        ...

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``; ``instruction[i]`` belongs to ``slots[i]``."""
        ...

    def score(
        self, frames: npt.NDArray[np.uint8], slots: Sequence[int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Probability of success ``(b,)`` in 0..1 of frames ``(b, h, w, 3)`` uint8."""
        ...
