"""Policies that do not look: still, constant, random. They anchor the low end of a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Actions = npt.NDArray[np.float32]


class SlotGenerators:
    """One random generator per slot, so that re-batching slots changes nothing.

    Args:
        stream: tells the generators of different users of one seed apart.
    """

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._generators: dict[int, np.random.Generator] = {}

    def seed(self, seeds: Sequence[int]) -> None:
        """Start slot ``i`` afresh from ``seeds[i]``."""
        self._generators = {i: self._make(int(seed)) for i, seed in enumerate(seeds)}

    def __getitem__(self, slot: int) -> np.random.Generator:
        """The generator of ``slot``; one that was never seeded begins from the slot's number."""
        if slot not in self._generators:
            self._generators[slot] = self._make(slot)
        return self._generators[slot]

    def _make(self, seed: int) -> np.random.Generator:
        return np.random.default_rng((seed, self._stream))


class ConstantPolicy:
    """The same action always.

    Args:
        action: ``(a,)`` in -1..1.
    """

    def __init__(self, action: Sequence[float]) -> None:
        self.action = np.asarray(action, dtype=np.float32)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """The constant action for every slot, ``(b, a)``."""
        return np.tile(self.action, (len(observation["pixels"]), 1))


class StillPolicy(ConstantPolicy):
    """Does nothing."""

    def __init__(self, action_dim: int = 4) -> None:
        super().__init__([0.0] * action_dim)


class RandomPolicy:
    """A fresh uniform action in -1..1 at every step."""

    def __init__(self, action_dim: int = 4) -> None:
        self.action_dim = action_dim
        self._generators = SlotGenerators(stream=1)

    def seed(self, seeds: Sequence[int]) -> None:
        """One seed per slot; the same seed gives the same actions."""
        self._generators.seed(seeds)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to forget; the random streams go on."""

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Random actions ``(b, a)``."""
        rows = range(len(observation["pixels"]))
        drawn = [self._generators[slot].uniform(-1.0, 1.0, self.action_dim) for slot in rows]
        return np.asarray(drawn, dtype=np.float32)
