"""What an environment asks of a success detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from v2w_gym.arrays import Array, host


class SuccessDetector(Protocol):
    """Batched judge of frames. A detector that needs history keeps it per slot and drops it at ``reset``.

    It is given NumPy arrays. One that judges tensors where they are says so by an attribute
    ``takes_tensors`` that is True; it is then given whatever there is, and frames that were imagined on a
    device need not leave it.
    """

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

    def score(self, frames: Any, slots: Sequence[int] | None = None) -> Array:
        """Probability of success ``(b,)`` in 0..1 of frames ``(b, h, w, 3)`` uint8.

        An array for an array; with ``takes_tensors``, a tensor on the frames' device for a tensor.
        """
        ...


def judge(detector: SuccessDetector, frames: Array, slots: Sequence[int] | None = None) -> Array:
    """``detector.score``; a tensor is copied to the host for a detector that needs an array."""
    wants_array = isinstance(frames, torch.Tensor) and not getattr(detector, "takes_tensors", False)
    return detector.score(host(frames) if wants_array else frames, slots)
