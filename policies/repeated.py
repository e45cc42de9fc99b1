"""A policy of a slow robot in a fast world: each action is done for several steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from v2w_gym.envs.domains import RT1_ACTIONS
from v2w_gym.policies import units
from v2w_gym.policies.around import Around, numbers_of
from v2w_gym.policies.contract import ActionContract, policy_contract
from v2w_gym.policies.simple import Actions

_BARE = "1"
_STATES = {name for name, unit in zip(RT1_ACTIONS.names, RT1_ACTIONS.units, strict=True) if unit == _BARE}
"""Bare numbers that are known to be no motions."""


class Repeated(Around):
    """Asks once in ``times`` steps. Motions of a delta policy are spread over the steps, all else is held.

    Args:
        policy: with a ``contract`` that says whether motions are deltas.
        times: steps of the world per action of the policy.

    Attributes:
        contract: at ``times`` the rate.

    Raises:
        ValueError: ``times`` below 1, or a contract that does not tell which components are motions: it
            states no ``mode``, or is of deltas in bare numbers.
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
        if times > 1 and given.mode == "delta":
            _check_units(given)
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


def _check_units(contract: ActionContract) -> None:
    """Raise ``ValueError`` where a component may be a motion, to be spread, or a state, to be held."""
    pairs = list(zip(contract.names, contract.unit, strict=True))
    states = (*_STATES, *(name for name in contract.names if name.startswith("gripper")))
    bare = [name for name, unit in pairs if unit.strip() == _BARE and name not in states]
    if bare:
        stated = tuple("metres per step" if name in bare else unit for name, unit in pairs)
        raise ValueError(
            "to repeat deltas one must know which components are motions, and bare numbers do not tell: "
            f"{', '.join(bare)}; say what they are, e.g. type policy.contract = "
            f'dataclasses.replace(policy.contract, units={stated}); what is "per step" is spread over the '
            'steps, any other word, such as "state", is held'
        )
