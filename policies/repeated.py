"""A policy of a slow robot in a fast world: each action is done for several steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from v2w_gym.policies import units
from v2w_gym.policies.around import Around, numbers_of
from v2w_gym.policies.contract import policy_contract
from v2w_gym.policies.simple import Actions


class Repeated(Around):
    """Asks once in ``times`` steps. Motions of a delta policy are spread over the steps, all else is held.

    Args:
        policy: with a ``contract`` that says whether motions are deltas.
        times: steps of the world per action of the policy.

    Attributes:
        contract: at ``times`` the rate.

    Raises:
        ValueError: ``times`` below 1, or a contract that does not state ``mode``.
    """

    def __init__(self, policy: Any, times: int) -> None:
        super().__init__(policy)
        given = policy_contract(policy)
        if times < 1:
            raise ValueError(f"times must be at least 1, got {times}")
        if given.mode is None:
            raise ValueError(
                "to repeat actions one must know whether motions are deltas or absolute poses; type "
                'policy.contract = dataclasses.replace(policy.contract, mode="delta")'
            )
        self.times = times
        moves = [given.mode == "delta" and units.motion(unit) for unit in given.unit]
        self._share = np.where(moves, 1.0 / times, 1.0)
        self._given = given
        self._gain, self._shift = given.normaliser.line(len(given.names))
        self._last: dict[int, tuple[Actions, int]] = {}
        self.contract = replace(given, rate=None if given.rate is None else given.rate * times)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``, which ask at their first step."""
        super().reset(instruction, slots)
        for slot in slots:
            self._last.pop(slot, None)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)``; the policy inside is asked about all slots whenever one of them has to ask."""
        slots = range(len(observation["pixels"]))
        asking = [slot for slot in slots if self._last.get(slot, (None, 0))[1] == 0]
        if asking:
            fresh = numbers_of(self.policy.act(observation), self._given)
            values = (fresh * self._gain + self._shift) * self._share
            shared = ((values - self._shift) / self._gain).astype(np.float32)
            self._last |= {slot: (shared[slot], self.times) for slot in asking}
        actions = np.stack([self._last[slot][0] for slot in slots])
        self._last |= {slot: (self._last[slot][0], self._last[slot][1] - 1) for slot in slots}
        return actions
