"""Any function as a policy, of one slot or of all, with or without the instruction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from v2w_gym.policies.observations import batch_of
from v2w_gym.policies.simple import Actions


class CallablePolicy:
    """What :func:`from_callable` returns.

    Args:
        function: see there.
        batched: see there.
        instructed: see there.
    """

    def __init__(self, function: Callable[..., Any], *, batched: bool, instructed: bool = False) -> None:
        self._function, self._batched, self._instructed = function, batched, instructed
        self._tasks: dict[int, str] = {}

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``; the function is told their instructions if it wants them."""
        self._tasks |= dict(zip(slots, instruction, strict=True))

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)``.

        Raises:
            ValueError: the function returned something of another shape.
        """
        count = batch_of(observation)
        if self._batched:
            given = self._call(observation, [self._tasks.get(slot, "") for slot in range(count)])
            actions = _numbers(given)
            if actions.ndim != 2 or len(actions) != count:
                raise ValueError(
                    f"a batched function must return actions (b, a) with b = {count}, got {actions.shape}; "
                    "one that sees a single slot takes batched=False"
                )
            return actions
        return np.stack([self._single(observation, slot) for slot in range(count)])

    def _single(self, observation: Mapping[str, Any], slot: int) -> Actions:
        action = _numbers(self._call(_row(observation, slot), self._tasks.get(slot, "")))
        if action.ndim != 1:
            raise ValueError(
                f"a function of one slot must return an action (a,), got {action.shape}; "
                "one that sees all slots takes batched=True"
            )
        return action

    def _call(self, observation: Mapping[str, Any], instruction: str | list[str]) -> Any:
        return self._function(observation, instruction) if self._instructed else self._function(observation)


def from_callable(function: Callable[..., Any], *, batched: bool, instructed: bool = False) -> CallablePolicy:
    """A policy from any function without a memory.

    Args:
        function: takes an observation and returns actions (an array, a list or a tensor). One with a memory
            is a class with ``reset`` and ``act``, see :class:`~v2w_gym.policies.base.Policy`.
        batched: True: it is given all slots, ``observation["pixels"]`` uint8 ``(b, h, w, 3)``, and returns
            ``(b, a)``. False: it is called for each slot, ``(h, w, 3)``, and returns ``(a,)``.
        instructed: its second argument is the instruction: a text, or a list of ``b`` texts if batched.
    """
    return CallablePolicy(function, batched=batched, instructed=instructed)


def _row(observation: Mapping[str, Any], slot: int) -> dict[str, Any]:
    """One slot's observation, without the slot axis."""
    return {
        key: _row(value, slot) if isinstance(value, Mapping) else value[slot]
        for key, value in observation.items()
    }


def _numbers(actions: Any) -> Actions:
    if hasattr(actions, "detach"):  # a tensor, on whatever device
        actions = actions.detach().cpu()
    try:
        return np.asarray(actions, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"actions must be numbers, got {type(actions).__name__}: {error}") from error
