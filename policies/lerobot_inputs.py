"""What a LeRobot policy sees, made of an imagined world's frames, and what such a world cannot give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.data.framing import Framing
from v2w_gym.policies.history import FrameHistory

State = npt.ArrayLike | Callable[[Mapping[str, Any]], npt.ArrayLike]
"""Constant ``(d,)``, or a function of the observation that gives ``(b, d)``."""

_IMAGE, _IMAGES = "observation.image", "observation.images."


class LeRobotInputs:
    """Makes a LeRobot environment's observation: ``pixels``, and ``agent_pos`` where that is given.

    Args:
        config: of the policy; says which features it reads.
        state: in place of the robot's state, which an imagined world does not have.
        camera: name under which the frame is handed over, e.g. ``"observation.images.top"``; None takes the
            only image that the policy reads.
        framing: of the world, so that its black bars are taken off; None leaves frames whole.

    Raises:
        ValueError: the policy reads what is not there: a state, an environment state, several cameras.
    """

    def __init__(
        self,
        config: Any,
        state: State | None = None,
        camera: str | None = None,
        framing: Framing | None = None,
    ) -> None:
        self._camera, images = _camera(config, camera), dict(config.image_features)
        shape = images[self._camera].shape if self._camera in images else None
        size = None if shape is None else (int(shape[1]), int(shape[2]))
        self._frames = FrameHistory(1, size, framing)
        self._state, self._wide = state, _state_size(config, state)

    def __call__(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Numpy arrays with a leading slot axis: images ``(b, h, w, 3)`` uint8, a state ``(b, d)`` float32.

        Raises:
            ValueError: frames or a state of another shape than the policy reads.
        """
        frames = np.asarray(observation["pixels"])
        pictures = self._frames.see(frames)[:, 0]
        name = self._camera.removeprefix(_IMAGES)
        made: dict[str, Any] = {"pixels": pictures if self._camera == _IMAGE else {name: pictures}}
        if self._state is not None:
            found = self._state(observation) if callable(self._state) else self._state
            values = np.asarray(found, dtype=np.float32)
            if not callable(self._state):
                values = np.tile(values, (len(frames), 1))
            if values.shape != (len(frames), self._wide):
                raise ValueError(f"state must be ({len(frames)}, {self._wide}), got {values.shape}")
            made["agent_pos"] = values
        return made


def _camera(config: Any, camera: str | None) -> str:
    known = list(config.image_features)
    if camera is not None:
        if camera != _IMAGE and not camera.startswith(_IMAGES):
            raise ValueError(
                f'camera must be "{_IMAGE}" or begin with "{_IMAGES}", got {camera!r}; '
                f"the policy reads {known}"
            )
        return camera
    if len(known) != 1:
        raise ValueError(
            f"an imagined world has one camera, the policy reads {len(known)} "
            f"({', '.join(known) or 'none'}); if it can do with one, name it: camera=..."
        )
    return str(known[0])


def _state_size(config: Any, state: State | None) -> int:
    """Components of the state that the policy reads; 0 where it reads none."""
    if config.env_state_feature is not None:
        raise ValueError(
            "the policy reads observation.environment_state, the inner state of a simulator, which an "
            "imagined world does not have; use a policy that sees"
        )
    feature = config.robot_state_feature
    if feature is None:
        if state is not None:
            raise ValueError("the policy reads no observation.state; leave state out")
        return 0
    size = int(feature.shape[0])
    if state is None:
        raise ValueError(
            f"the policy reads observation.state ({size} numbers), the robot's own measurements, which an "
            f"imagined world does not have; give a constant, state=[0.0] * {size}, or a function that "
            f"estimates it, state=lambda observation: array (b, {size}); either changes what is evaluated"
        )
    if not callable(state) and np.shape(state) != (size,):
        raise ValueError(f"state must have {size} numbers, got shape {np.shape(state)}")
    return size
