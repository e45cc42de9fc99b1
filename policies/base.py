"""The policy protocol: two methods, batched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt


@runtime_checkable
class Policy(Protocol):
    """Anything that acts on observations. An object with only ``act`` also works wherever a policy is taken.

    A policy whose actions are random may offer ``seed(seeds: Sequence[int])``; it is then called before every
    batch of episodes, one seed per slot, which makes a ranking repeatable and resumable.
    """

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``; ``instruction[i]`` belongs to ``slots[i]``."""
        ...

    def act(self, observation: Mapping[str, Any]) -> npt.ArrayLike:
        """Actions ``(b, a)`` in -1..1 for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``.

        Row i is slot i.
        """
        ...
