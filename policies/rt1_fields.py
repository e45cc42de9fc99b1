"""The output of an RT-1 policy, field by field, as the thirteen numbers of an RT-1 world."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import ActionArray
from v2w_gym.envs.actions import BoxActions
from v2w_gym.envs.arm import ArmMapping
from v2w_gym.envs.domains import RT1_ACTIONS

Numbers = npt.NDArray[np.float64]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "world_vector": ("world_vector_x", "world_vector_y", "world_vector_z"),
    "rotation_delta": ("rotation_delta_roll", "rotation_delta_pitch", "rotation_delta_yaw"),
    "gripper_closedness_action": ("gripper_closedness",),
    "terminate_episode": ("terminate_0", "terminate_1", "terminate_2"),
    "base_displacement_vector": ("base_displacement_x", "base_displacement_y"),
    "base_displacement_vertical_rotation": ("base_rotation",),
}
"""Entry of the output to the components of the world that it is."""

OPEN_GRIPPER = "open_gripper"
"""What policies that tell a state give in place of ``gripper_closedness_action``: 0 closed .. 1 open."""

_NEEDED = ("world_vector", "rotation_delta")
_BASE = ("base_displacement_vector", "base_displacement_vertical_rotation")

_arm = ArmMapping("closing")
_thirteen = BoxActions(RT1_ACTIONS)


def read_fields(output: Any, slots: int) -> dict[str, Numbers]:
    """The entries of a policy's output, ``(b, n)`` each; ``(n,)`` will do for a single slot.

    Raises:
        ValueError: an entry that is missing, unknown, of another length or not finite.
    """
    if not isinstance(output, Mapping):
        raise ValueError(
            f"an RT-1 policy returns a dict with {', '.join(FIELDS)}, got {type(output).__name__}"
        )
    known = (*FIELDS, OPEN_GRIPPER)
    for name in output:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"an RT-1 policy has no output {name!r}; {hint}")
    missing = [name for name in _NEEDED if name not in output]
    grippers = [name for name in ("gripper_closedness_action", OPEN_GRIPPER) if name in output]
    if missing or len(grippers) != 1:
        raise ValueError(
            f"the output of an RT-1 policy needs {', '.join(_NEEDED)} and one of gripper_closedness_action "
            f"and {OPEN_GRIPPER}, got {', '.join(map(str, output)) or 'nothing'}"
        )
    return {name: _column(name, value, slots) for name, value in output.items()}


def _column(name: str, value: Any, slots: int) -> Numbers:
    count = len(FIELDS.get(name, (name,)))
    if hasattr(value, "detach"):  # a tensor, on whatever device
        value = value.detach().cpu().numpy()
    try:
        column = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers ({slots}, {count}), got {value!r}: {error}") from error
    if slots == 1 and column.shape == (count,):
        column = column[None]
    if column.shape != (slots, count):
        raise ValueError(f"{name} must be (b, {count}) with b = {slots}, got {column.shape}")
    if not np.isfinite(column).all():
        raise ValueError(f"{name} must be finite, got {column.tolist()}")
    return column


def world_action(
    fields: Mapping[str, Numbers], gripper: Callable[[Mapping[str, Numbers]], Numbers]
) -> tuple[ActionArray, npt.NDArray[np.bool_]]:
    """Actions ``(b, 13)`` float32 of an RT-1 world, and in which slots the policy ends its episode ``(b,)``.

    The terminate fields of the world go on saying (0, 1, 0): no recorded frame follows an action with another
    value, so the world never learned what one does.

    Args:
        fields: what :func:`read_fields` gave.
        gripper: makes commands ``(b,)`` in the convention ``closing`` of them.

    Raises:
        ValueError: a value out of the world's range.
    """
    seven = (fields["world_vector"], fields["rotation_delta"], gripper(fields)[:, None])
    actions = _arm(np.concatenate(seven, axis=1), (len(seven[0]),))
    for name in _BASE:
        if name in fields:
            actions[:, [RT1_ACTIONS.names.index(component) for component in FIELDS[name]]] = fields[name]
    ended = fields.get("terminate_episode", np.zeros((len(actions), 3)))[:, 0] > 0.5
    return _thirteen.encode(actions, (len(actions),)), ended


def stand_still(slots: int) -> ActionArray:
    """Actions ``(b, 13)`` that move nothing."""
    return _arm(np.zeros((slots, 7), np.float32), (slots,))
