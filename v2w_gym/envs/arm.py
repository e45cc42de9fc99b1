"""The usual seven numbers of a robot arm, for worlds that read the thirteen of RT-1."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorActionWrapper, VectorEnv
from gymnasium.vector.utils import batch_space

from v2w_gym.data.episode import ActionArray
from v2w_gym.envs.action_spec import ActionSpec
from v2w_gym.envs.actions import BoxActions
from v2w_gym.envs.domains import RT1_ACTIONS
from v2w_gym.envs.grippers import GRIPPERS, Gripper

_GOES_ON = 8  # the terminate field that is 1 while an episode goes on


def arm_spec(gripper: Gripper = "closing") -> ActionSpec:
    """Names, ranges and units of the seven numbers."""
    if gripper not in GRIPPERS:
        raise ValueError(f"gripper must be one of {list(GRIPPERS)}, got {gripper!r}")
    low, high = GRIPPERS[gripper].low, GRIPPERS[gripper].high
    turn = math.pi / 2
    return ActionSpec(
        kind="raw",
        names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
        low=(-1.0, -1.0, -1.0, -turn, -turn, -turn, low),
        high=(1.0, 1.0, 1.0, turn, turn, turn, high),
        unit=(*["metres per step"] * 3, *["radians per step"] * 3, "1"),
        frame=RT1_ACTIONS.frame,
        mode=RT1_ACTIONS.mode,
        gripper=gripper,
        data=RT1_ACTIONS.data,
    )


class ArmMapping:
    """Seven numbers to RT-1's thirteen, one field after the other.

    ======================  =============================================
    dx, dy, dz              world_vector_x, world_vector_y, world_vector_z
    droll, dpitch, dyaw     rotation_delta_roll, _pitch, _yaw
    gripper                 gripper_closedness, as ``gripper`` says
    none                    the base stands still; terminate is (0, 1, 0)
    ======================  =============================================

    Args:
        gripper: what the seventh number means.
    """

    def __init__(self, gripper: Gripper = "closing") -> None:
        self.spec = arm_spec(gripper)
        self._actions = BoxActions(self.spec)
        self._gain, self._shift = GRIPPERS[gripper].gain, GRIPPERS[gripper].shift
        self.space = self._actions.space

    def __call__(self, arm: Any, lead: tuple[int, ...] = ()) -> ActionArray:
        """``(*lead, 7)`` to ``(*lead, 13)`` float32; raises ``ValueError`` at a bad action."""
        seven = self._actions.encode(arm, lead)
        thirteen = np.zeros((*seven.shape[:-1], len(RT1_ACTIONS.names)), np.float32)
        thirteen[..., 10:13] = seven[..., 0:3]
        thirteen[..., 4:7] = seven[..., 3:6]
        thirteen[..., 3] = self._gain * seven[..., 6] + self._shift
        thirteen[..., _GOES_ON] = 1.0
        return thirteen


class ArmActions(gymnasium.ActionWrapper[Any, npt.NDArray[np.float32], npt.NDArray[np.float32]]):
    """An RT-1 world that takes ``(dx, dy, dz, droll, dpitch, dyaw, gripper)``, float32.

    dx, dy, dz are metres per step in -1..1 in the robot's frame; droll, dpitch, dyaw are Euler angles in
    radians per step in -pi/2..pi/2, *not* the axis-angle that SIMPLER hands to its simulator. The gripper
    number is -1..1 or 0..1, as ``gripper`` says. RT-1's own field is a command to move: ``openness`` and
    ``closedness`` are states, and a gripper that merely stays open is told to open at every step.

    Args:
        env: an environment that takes RT-1's thirteen fields.
        gripper: what the seventh number means; ``"closing"`` is RT-1's own convention.

    Attributes:
        arm: the ``ActionSpec`` of the seven numbers: names, ranges, units.

    Raises:
        ValueError: an environment with other actions, or an unknown convention.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], gripper: Gripper = "closing") -> None:
        _check_space(env.action_space)
        super().__init__(env)
        self._mapping = ArmMapping(gripper)
        self.arm = self._mapping.spec
        self.action_space = self._mapping.space

    def action(self, action: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """``(7,)`` to ``(13,)``; raises ``ValueError`` at a bad action, before the environment sees it."""
        return self._mapping(action)


class VectorArmActions(VectorActionWrapper[Any, Any, Any, Any]):
    """:class:`ArmActions` for a vector environment; actions have a leading slot axis.

    Args:
        env: a vector environment whose slots take RT-1's thirteen fields.
        gripper: what the seventh number means.

    Attributes:
        arm: the ``ActionSpec`` of the seven numbers.

    Raises:
        ValueError: an environment with other actions, or an unknown convention.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], gripper: Gripper = "closing") -> None:
        _check_space(env.single_action_space)
        super().__init__(env)
        self._mapping = ArmMapping(gripper)
        self.arm = self._mapping.spec
        self.single_action_space = self._mapping.space
        self.action_space = batch_space(self._mapping.space, self.num_envs)

    def actions(self, actions: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """``(slots, 7)`` to ``(slots, 13)``; raises ``ValueError`` at a bad action in any slot."""
        return self._mapping(actions, (self.num_envs,))


def _check_space(space: gymnasium.Space[Any]) -> None:
    wanted = BoxActions(RT1_ACTIONS).space
    if space != wanted:
        raise ValueError(
            f"arm actions need an environment that takes RT-1's {len(RT1_ACTIONS.names)} fields, {wanted}; "
            f'this one takes {space}; wrap gymnasium.make("v2w_gym:Vid2World-RT1-v0")'
        )
