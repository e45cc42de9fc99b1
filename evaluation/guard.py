"""A fence around somebody's policy: whatever goes wrong inside comes out as one kind of error."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from v2w_gym.data.episode import ActionArray

Encode = Callable[[Any], ActionArray]


class PolicyFailure(Exception):  # noqa: N818 - the policy failed, the ranking did not
    """The policy raised, or returned something that is not a batch of actions."""


class GuardedPolicy:
    """Calls a policy, checks what it returns, and turns its errors into :class:`PolicyFailure`.

    Args:
        policy: an object with ``act``; ``reset`` and ``seed`` are called where it has them.

    Raises:
        TypeError: the object cannot act.
    """

    def __init__(self, policy: Any) -> None:
        if isinstance(policy, type) or not callable(getattr(policy, "act", None)):
            raise TypeError(
                f"a policy needs a method act(observation) -> actions (b, a), got {policy!r}; "
                "a shipped one comes from v2w_gym.policies.load(name)"
            )
        self._policy = policy

    def begin(self, instruction: Sequence[str], seeds: Sequence[int]) -> None:
        """Begin one episode per slot; ``seeds[i]`` is for the policy's own randomness in slot i."""
        if callable(getattr(self._policy, "seed", None)):  # many a policy keeps a number under that name
            _fenced("seed", lambda: self._policy.seed(list(seeds)))
        if callable(getattr(self._policy, "reset", None)):
            _fenced("reset", lambda: self._policy.reset(list(instruction), list(range(len(instruction)))))

    def act(self, observation: Mapping[str, Any], encode: Encode) -> tuple[Any, ActionArray]:
        """Actions as the policy gives them, and ``encode`` of them, which raises ``ValueError`` at junk."""
        own = {
            key: np.array(value) for key, value in observation.items()
        }  # it may scribble on what it is given
        actions = _fenced("act", lambda: self._policy.act(own))
        try:
            return actions, encode(actions)
        except ValueError as error:
            raise PolicyFailure(f"act returned junk: {error}") from error


def _fenced(method: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise PolicyFailure(
            f"{method} raised {type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        ) from error
