"""What an environment asks of a success detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from v2w_gym.arrays import Array, host
from v2w_gym.data.episode import FrameArray

Seen = tuple[FrameArray | None, ...]
"""Frames ``(f, h, w, 3)`` uint8 of episodes from their beginning; None where that is not known."""


class SuccessDetector(Protocol):
    """Batched judge of frames. A detector that needs history keeps it per slot and drops it at ``reset``.

    It is given NumPy arrays. One that judges tensors where they are says so by an attribute
    ``takes_tensors`` that is True; it is then given whatever there is, and frames that were imagined on a
    device need not leave it. One that cannot always tell gives NaN there and says so by an attribute
    ``abstains`` that is True; environments then have ``info["judged"]``.

    One with a memory may have three methods more, as :class:`~v2w_gym.rewards.watching.Watching` has them:
    ``fresh`` makes one with an empty memory, so that every environment has its own; ``seen`` and ``resume``
    let snapshots carry the memory. Without them a snapshot loses it.
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


def fresh(detector: SuccessDetector) -> SuccessDetector:
    """The detector for one more environment: none shares a memory with another."""
    return detector.fresh() if hasattr(detector, "fresh") else detector


def seen(detector: SuccessDetector, slots: Sequence[int]) -> Seen | None:
    """The memory of each slot as a value; None for a detector without one that can be handed over."""
    return detector.seen(slots) if hasattr(detector, "seen") else None


def resume(
    detector: SuccessDetector,
    instruction: Sequence[str],
    slots: Sequence[int],
    memory: Seen | None,
    probabilities: Array,
) -> None:
    """Put episodes that another detector may have seen into ``slots``.

    Args:
        detector: one without a memory just begins anew.
        instruction: of each episode.
        slots: where they go on.
        memory: what :func:`seen` gave; a detector that needs it and gets None cannot judge these episodes.
        probabilities: what was last said of each.
    """
    if hasattr(detector, "resume"):
        known = (None,) * len(slots) if memory is None else memory
        detector.resume(instruction, slots, known, host(probabilities).tolist())
    else:
        detector.reset(instruction, slots)
