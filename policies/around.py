"""What policies that stand around another one have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.policies.contract import ActionContract

Numbers = npt.NDArray[np.float64]


class Around:
    """A policy around another one; hands on what begins an episode, and what the policy inside states.

    Attributes:
        contract: of the policy inside, unless the one around it states its own.
    """

    def __init__(self, policy: Any) -> None:
        self.policy, self.contract = policy, getattr(policy, "contract", None)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Let the policy inside compare its spaces with those of a single environment, if it can.

        Raises:
            ValueError: as it raises.
        """
        if not callable(getattr(self.policy, "check_spaces", None)):
            return
        if (inner := self._space_inside(action_space)) is not None:
            self.policy.check_spaces(observation_space, inner)

    def _space_inside(self, action_space: Any) -> Any:
        """Of the actions that the policy inside gives where this one fits; None where nobody knows."""
        return action_space

    def seed(self, seeds: Sequence[int]) -> None:
        """One seed per slot, for the policy inside if it wants them."""
        if hasattr(self.policy, "seed"):
            self.policy.seed(seeds)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``."""
        if hasattr(self.policy, "reset"):
            self.policy.reset(instruction, slots)


def numbers_of(actions: Any, contract: ActionContract) -> Numbers:
    """Actions ``(b, a)`` of a policy as float64; raises ``ValueError`` unless they are that."""
    if hasattr(actions, "detach"):  # a tensor, on whatever device
        actions = actions.detach().cpu().numpy()
    array = np.asarray(actions, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(contract.names):
        raise ValueError(
            f"act must return (b, {len(contract.names)}) as its contract says ({', '.join(contract.names)}), "
            f"got {array.shape}"
        )
    return array
