"""Policies whose numbers mean something else than a world takes them for, made to fit on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from v2w_gym.envs.arm import ArmMapping
from v2w_gym.envs.grippers import GRIPPERS, Gripper
from v2w_gym.envs.world import World, WorldConfig
from v2w_gym.policies import units
from v2w_gym.policies.around import Around, Numbers, numbers_of
from v2w_gym.policies.contract import (
    ActionContract,
    ContractMismatch,
    check_contract,
    policy_contract,
    world_contract,
)
from v2w_gym.policies.differences import arm_target, gripper_fix, is_arm_for_rt1, unlike_grippers
from v2w_gym.policies.gripper import StickyGripper
from v2w_gym.policies.simple import Actions


class Adapted(Around):
    """What :func:`adapt` returns: components put in order, values un-normalised, converted, normalised anew.

    Args:
        policy: with a ``contract``.
        target: what the world takes.
        gripper: how a state becomes a command, see :func:`adapt`.
        clip: whether values beyond the world's ranges are cut off.

    Attributes:
        contract: of this policy, which the world takes.

    Raises:
        ContractMismatch: what cannot be converted.
    """

    def __init__(
        self,
        policy: Any,
        target: ActionContract,
        gripper: Literal["follow", "sticky"] | None = None,
        clip: bool = False,
    ) -> None:
        super().__init__(policy)
        given = policy_contract(policy)
        self._arm = ArmMapping("closing") if is_arm_for_rt1(given, target) else None
        wanted = target if self._arm is None else arm_target(target)
        self._order = _order(given, wanted)
        ordered = _reordered(given, self._order)
        self._given, self._wanted, self._clip = given, wanted, clip
        self._gain, self._shift = ordered.normaliser.line(len(wanted.names))
        self._scale = np.array(list(map(_factor, ordered.unit, wanted.unit)))
        self._sticky = _sticky(ordered, wanted, gripper)
        self._grippers = unlike_grippers(ordered, wanted)
        after = _converted(ordered, wanted, self._scale, clip)
        check_contract(after, wanted)
        self.contract = after if self._arm is None else _thirteen(after, target)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``."""
        super().reset(instruction, slots)
        if self._sticky is not None:
            self._sticky.reset(slots)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` as the world takes them."""
        wanted = self._wanted
        values = numbers_of(self.policy.act(observation), self._given)[:, self._order]
        values = (values * self._gain + self._shift) * self._scale
        if self._grippers is not None:
            self._turn_gripper(values, *self._grippers)
        if self._clip and wanted.low is not None and wanted.high is not None:
            values = np.clip(values, wanted.low, wanted.high)
        gain, shift = wanted.normaliser.line(len(wanted.names))
        actions: Actions = ((values - shift) / gain).astype(np.float32)
        return actions if self._arm is None else self._arm(actions, (len(actions),))

    def _space_inside(self, action_space: Any) -> Any:
        """As the contract of the policy inside has it; that it fits was seen when it was adapted."""
        low, high = self._given.low, self._given.high
        if self._given.normaliser.kind == "bounds":
            low, high = low or self._given.normaliser.low, high or self._given.normaliser.high
        if low is None or high is None:
            return None
        gain, shift = self._given.normaliser.line(len(low))
        least, most = (((np.array(end) - shift) / gain).astype(np.float32) for end in (low, high))
        return spaces.Box(least, most, dtype=np.float32)

    def _turn_gripper(self, values: Numbers, given: Gripper, wanted: Gripper) -> None:
        """Turn the gripper's column of ``values`` ``(b, a)`` into the world's convention, in place."""
        i = self._wanted.gripper_index
        closing = GRIPPERS[given].gain * values[:, i] + GRIPPERS[given].shift
        if self._sticky is not None:
            closing = self._sticky.follow((closing + 1) / 2)
        values[:, i] = (closing - GRIPPERS[wanted].shift) / GRIPPERS[wanted].gain


def adapt(
    policy: Any,
    world: World | WorldConfig | ActionContract,
    *,
    gripper: Literal["follow", "sticky"] | None = None,
    clip: bool = False,
) -> Adapted:
    """A policy whose actions a world takes, as far as that can be computed without guessing.

    Components are put in order, lengths and angles converted, normalisation undone and the world's done, the
    gripper's number is turned, and the seven numbers of an arm become RT-1's thirteen fields.

    Args:
        policy: with a ``contract``.
        world: an opened world, its config, or its contract.
        gripper: where the policy says how far the gripper should be open and the world takes commands to
            move: ``"sticky"`` commands at a change, for 15 steps; ``"follow"`` commands at every step.
        clip: cut off values beyond the world's ranges, where the policy's are wider.

    Raises:
        ContractMismatch: what no formula converts, such as another frame or rate.
        ValueError: the policy states no contract.
    """
    return Adapted(policy, world_contract(world), gripper, clip)


def _thirteen(seven: ActionContract, target: ActionContract) -> ActionContract:
    """RT-1's fields, of which the policy states what it states of an arm's numbers."""
    stated = {name: getattr(seven, name) for name in ("frame", "mode", "rate", "gripper", "normaliser")}
    return replace(target, **stated)


def _order(given: ActionContract, wanted: ActionContract) -> list[int]:
    if set(given.names) != set(wanted.names):
        check_contract(given, wanted)  # raises, and says what is lacking
    return [given.names.index(name) for name in wanted.names]


def _reordered(contract: ActionContract, order: Sequence[int]) -> ActionContract:
    def moved(column: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(column[i] for i in order)

    return replace(
        contract,
        names=moved(contract.names),
        units=moved(contract.unit),
        low=None if contract.low is None else moved(contract.low),
        high=None if contract.high is None else moved(contract.high),
        normaliser=contract.normaliser.take(order),
    )


def _factor(got: str, wanted: str) -> float:
    by = units.factor(got, wanted)
    return 1.0 if by is None else by  # the check that follows refuses it


def _sticky(
    given: ActionContract, wanted: ActionContract, gripper: Literal["follow", "sticky"] | None
) -> StickyGripper | None:
    """What makes commands of states, where that is needed and asked for."""
    if gripper not in (None, "follow", "sticky"):
        raise ValueError(f'gripper must be "follow" or "sticky", got {gripper!r}')
    if (unlike := unlike_grippers(given, wanted)) is None:
        return None
    one, other = (GRIPPERS[name] for name in unlike)
    if one.commands == other.commands:
        return None
    if gripper is None or one.commands:
        raise ContractMismatch(
            f"gripper: got {given.gripper!r} ({one.meaning}), expected {wanted.gripper!r} ({other.meaning}); "
            f"{gripper_fix(one.commands, other.commands)}",
            ("gripper",),
        )
    return StickyGripper() if gripper == "sticky" else None


def _converted(given: ActionContract, wanted: ActionContract, scale: Numbers, clip: bool) -> ActionContract:
    """The contract of values that were converted; what could not be is as it was."""
    known = [units.factor(one, other) is not None for one, other in zip(given.unit, wanted.unit, strict=True)]
    unit = tuple(w if ok else g for g, w, ok in zip(given.unit, wanted.unit, known, strict=True))
    low, high = given.low, given.high
    if low is not None and high is not None:
        low, high = tuple(np.multiply(low, scale).tolist()), tuple(np.multiply(high, scale).tolist())
        i = wanted.gripper_index if unlike_grippers(given, wanted) else None
        if i is not None and wanted.low is not None and wanted.high is not None:
            low = (*low[:i], wanted.low[i], *low[i + 1 :])
            high = (*high[:i], wanted.high[i], *high[i + 1 :])
    if clip and wanted.low is not None and wanted.high is not None:
        low = wanted.low if low is None else tuple(np.clip(low, wanted.low, wanted.high).tolist())
        high = wanted.high if high is None else tuple(np.clip(high, wanted.low, wanted.high).tolist())
    return replace(
        given,
        names=wanted.names,
        units=unit,
        low=low,
        high=high,
        gripper=wanted.gripper if given.gripper is not None else None,
        normaliser=replace(wanted.normaliser, data=given.normaliser.data),
    )
