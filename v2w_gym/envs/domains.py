"""What the released models were trained on: the actions they read and the frames they see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from v2w_gym.data.framing import Framing
from v2w_gym.envs import keyboard
from v2w_gym.envs.action_spec import ActionSpec


@dataclass(frozen=True)
class Domain:
    """One of the three.

    Attributes:
        action: what ``env.step`` takes.
        framing: how pictures become 320x512 frames.
        fps: frames per second of the recordings. The models themselves are told 3 in all three domains.
    """

    action: ActionSpec
    framing: Framing
    fps: float


_TURN, _METRES, _RADIANS = math.pi / 2, "metres per step", "radians per step"

RT1_ACTIONS = ActionSpec(
    kind="raw",
    names=(
        "base_displacement_x",
        "base_displacement_y",
        "base_rotation",
        "gripper_closedness",
        "rotation_delta_roll",
        "rotation_delta_pitch",
        "rotation_delta_yaw",
        "terminate_0",
        "terminate_1",
        "terminate_2",
        "world_vector_x",
        "world_vector_y",
        "world_vector_z",
    ),
    low=(-1.0, -1.0, -math.pi, -1.0, -_TURN, -_TURN, -_TURN, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0),
    high=(1.0, 1.0, math.pi, 1.0, _TURN, _TURN, _TURN, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    unit=(_METRES, _METRES, _RADIANS, "1", *[_RADIANS] * 3, "1", "1", "1", *[_METRES] * 3),
    frame="base",
    mode="delta",
    gripper="closing",
    data="fractal20220817_data",
)
"""The fields of an RT-1 policy's output, one after the other and not normalised.

The gripper field opens at -1, holds at 0, closes at +1. Of the terminate fields, one is 1: the middle one
while the episode goes on.
"""

CSGO_ACTIONS = ActionSpec(
    kind="keyboard_mouse",
    names=keyboard.NAMES,
    low=(0.0,) * len(keyboard.NAMES),
    high=(1.0,) * len(keyboard.NAMES),
    unit="1",
)
"""Keys, clicks and mouse; see :mod:`v2w_gym.envs.keyboard`."""

_WAYPOINT = (
    0.25  # metres; the recordings count displacements in waypoints, -2.5..5 forward and -4..4 sideways
)

RECON_ACTIONS = ActionSpec(
    kind="metric",
    names=("dx", "dy", "dyaw"),
    low=(-2.5 * _WAYPOINT, -4.0 * _WAYPOINT, -math.pi),
    high=(5.0 * _WAYPOINT, 4.0 * _WAYPOINT, math.pi),
    unit=(_METRES, _METRES, _RADIANS),
    frame="base",
    mode="delta",
    data="recon",
)
"""Pose of the next frame seen from this one. The model reads -1..1 for dx and dy, and dyaw as it is, so
standing still is (-1/3, 0, 0) to it."""

DOMAINS: Mapping[str, Domain] = {
    "rt1": Domain(RT1_ACTIONS, Framing((256, 320), (320, 400), (0, 0, 56, 56)), 3.0),
    "csgo": Domain(CSGO_ACTIONS, Framing((150, 280), (275, 512), (22, 23, 0, 0)), 16.0),
    "recon": Domain(RECON_ACTIONS, Framing((480, 640), (320, 320), (0, 0, 96, 96)), 4.0),
}
