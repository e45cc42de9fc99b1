"""Handicaps: small classes around another policy, each of which breaks it in one way."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.policies.around import Around
from v2w_gym.policies.base import Policy
from v2w_gym.policies.simple import Actions, SlotGenerators


def _clipped(actions: npt.ArrayLike) -> Actions:
    return np.clip(np.asarray(actions, dtype=np.float32), -1.0, 1.0)


class Handicap(Around):
    """Passes everything through."""

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` of the policy inside, in -1..1."""
        return _clipped(self.policy.act(observation))


class Scaled(Handicap):
    """Every action times ``gain``: 0.5 is half speed."""

    def __init__(self, policy: Policy, gain: float) -> None:
        super().__init__(policy)
        self.gain = gain

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Scaled actions ``(b, a)``."""
        return _clipped(self.gain * super().act(observation))


class Biased(Handicap):
    """A constant ``bias`` ``(a,)`` is added to every action; the sum is clipped to -1..1."""

    def __init__(self, policy: Policy, bias: Sequence[float]) -> None:
        super().__init__(policy)
        self.bias = np.asarray(bias, dtype=np.float32)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Biased actions ``(b, a)``."""
        return _clipped(super().act(observation) + self.bias)


class Delayed(Handicap):
    """Sees the world as it was some frames ago (at the beginning: the first frame)."""

    def __init__(self, policy: Policy, frames: int) -> None:
        super().__init__(policy)
        self.frames = frames
        self._seen: dict[int, deque[Any]] = {}

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Forget what the slots have seen."""
        super().reset(instruction, slots)
        for slot in slots:
            self._seen.pop(slot, None)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` for the old frames."""
        now = enumerate(np.array(observation["pixels"]))  # a copy: memory may be reused
        seen = {
            slot: deque([*self._seen.get(slot, ()), frame], maxlen=self.frames + 1) for slot, frame in now
        }
        actions = super().act({**observation, "pixels": np.stack([frames[0] for frames in seen.values()])})
        self._seen |= seen  # not before: an error leaves the memory as it was
        return actions


class Erratic(Handicap):
    """With ``probability``, at each step and slot, a uniform random action instead of the policy's."""

    def __init__(self, policy: Policy, probability: float) -> None:
        super().__init__(policy)
        self.probability = probability
        self._generators = SlotGenerators(stream=2)

    def seed(self, seeds: Sequence[int]) -> None:
        """One seed per slot; the same seed gives the same random actions at the same steps."""
        super().seed(seeds)
        self._generators.seed(seeds)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)``, some of them random."""
        actions = super().act(observation)
        for slot in range(len(actions)):
            generator = self._generators[slot]
            replaced, drawn = (
                generator.random() < self.probability,
                generator.uniform(-1.0, 1.0, actions.shape[1]),
            )
            if replaced:
                actions[slot] = drawn
        return actions
