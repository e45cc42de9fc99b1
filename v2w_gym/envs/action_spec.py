"""What the components of an action mean: names, ranges, units, frame, gripper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from v2w_gym.envs.grippers import Gripper

ActionFrame = Literal["world", "base", "end effector"]
"""``"world"`` and ``"base"`` (of the robot) do not turn with the hand, ``"end effector"`` does."""

ActionMode = Literal["delta", "absolute"]


@dataclass(frozen=True)
class ActionSpec:
    """What the components that the model reads mean; one entry each per component.

    ==================  =======================================  ===========================================
    kind                the environment takes                    the model reads
    ==================  =======================================  ===========================================
    ``normalised``      -1..1, which stands for low..high        the same
    ``raw``             low..high, in their units                the same
    ``metric``          dx, dy, dyaw in low..high                dx and dy with low..high mapped onto -1..1,
                                                                 dyaw as it is
    ``keyboard_mouse``  a ``Dict`` of keys, clicks, mouse bins   51 components, each 0 or 1
    ==================  =======================================  ===========================================

    Attributes:
        names: e.g. ``("dx", "dy", "dz", "gripper")``.
        low: smallest value of each component, in ``unit``.
        high: largest value of each component, in ``unit``.
        unit: one for all or one per component, e.g. ``"metres per step"``, or ``"1"`` for a bare number.
        kind: as above.
        frame: in which frame motions are measured; None is not stated, as with the fields below.
        mode: whether a motion is a change of the pose or the pose to reach.
        gripper: what the number of the component called ``gripper...`` means.
        data: the recordings whose actions these are, e.g. ``"fractal20220817_data"``.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    unit: str | tuple[str, ...]
    kind: Literal["normalised", "raw", "metric", "keyboard_mouse"] = "normalised"
    frame: ActionFrame | None = None
    mode: ActionMode | None = None
    gripper: Gripper | None = None
    data: str | None = None

    @property
    def units(self) -> tuple[str, ...]:
        """The unit of each component."""
        return (self.unit,) * len(self.names) if isinstance(self.unit, str) else self.unit

    def __post_init__(self) -> None:
        if not isinstance(self.unit, str):
            object.__setattr__(self, "unit", tuple(self.unit))  # a list when it comes from a file
        if not len(self.names) == len(self.low) == len(self.high) > 0:
            raise ValueError(
                "action needs as many lows and highs as names (at least one), "
                f"got {len(self.names)} names, {len(self.low)} lows, {len(self.high)} highs"
            )
        if len(self.units) != len(self.names) or not all(isinstance(unit, str) for unit in self.units):
            raise ValueError(
                f"action needs one unit (a text), or one for each of its {len(self.names)} components, "
                f"got {self.unit!r}"
            )
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(
                f"each low of the action must lie below its high, got {self.low} and {self.high}"
            )
