"""Conventions for the gripper component of an action, and how they turn into each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Gripper = Literal["closing", "opening", "openness", "closedness"]
"""What the number for the gripper means.

==============  ===============================================  ========================================
``closing``     -1 opens, 0 holds, +1 closes                     RT-1, SIMPLER's google_robot, LIBERO
``opening``     -1 closes, 0 holds, +1 opens                     SIMPLER's widowx_bridge
``openness``    0 closed .. 1 open                               BridgeData, many Open X-Embodiment policies
``closedness``  0 open .. 1 closed                               DROID
==============  ===============================================  ========================================

The third column names places where we know it to be met; ask the policy's own documentation.
"""


@dataclass(frozen=True)
class Convention:
    """One of them.

    Attributes:
        low: smallest number.
        high: largest number.
        gain: ``gain * number + shift`` is the number in the convention ``closing``.
        shift: likewise.
        meaning: in words.
    """

    low: float
    high: float
    gain: float
    shift: float
    meaning: str

    @property
    def commands(self) -> bool:
        """Whether the number is a command to move, which may be none; else it is a state to reach."""
        return self.shift == 0.0


GRIPPERS: Mapping[Gripper, Convention] = {
    "closing": Convention(-1.0, 1.0, 1.0, 0.0, "-1 opens, 0 holds, +1 closes"),
    "opening": Convention(-1.0, 1.0, -1.0, 0.0, "-1 closes, 0 holds, +1 opens"),
    "openness": Convention(0.0, 1.0, -2.0, 1.0, "0 closed .. 1 open"),
    "closedness": Convention(0.0, 1.0, 2.0, -1.0, "0 open .. 1 closed"),
}
