"""Policies in the manner of RT-1 in a world that reads RT-1's thirteen fields."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from v2w_gym.data.episode import FrameArray
from v2w_gym.data.framing import Framing
from v2w_gym.envs.domains import DOMAINS, RT1_ACTIONS
from v2w_gym.policies.contract import ActionContract
from v2w_gym.policies.gripper import StickyGripper
from v2w_gym.policies.history import FrameHistory
from v2w_gym.policies.observations import batch_of
from v2w_gym.policies.rt1_fields import OPEN_GRIPPER, Numbers, read_fields, stand_still, world_action
from v2w_gym.policies.simple import Actions

RT1Model = Callable[[FrameArray, list[str]], Mapping[str, Any]]
"""``model(images, instruction)``: images ``(b, n, h, w, 3)`` uint8, the newest last, and a text per slot; it
returns a dict of ``world_vector`` ``(b, 3)`` in metres, ``rotation_delta`` ``(b, 3)`` in radians,
``gripper_closedness_action`` ``(b, 1)`` (-1 opens, +1 closes) or ``open_gripper`` ``(b, 1)`` (0 closed .. 1
open), and where it has them ``terminate_episode`` ``(b, 3)``, ``base_displacement_vector`` ``(b, 2)`` and
``base_displacement_vertical_rotation`` ``(b, 1)``. It may offer ``reset(instruction, slots)``."""


class RT1Policy:
    """An RT-1 model as a policy: its history, its gripper and its own end of an episode, slot by slot.

    Where the model ends its episode, the motion of that step is done, and from then on its slot stands still,
    so that a success that it has reached can be seen to last.

    Args:
        model: see :data:`RT1Model`.
        history: how many frames it sees, 6 or 15 in public RT-1 models; 1 where it remembers by itself.
        size: ``(h, w)`` of its images.
        framing: of the world, so that its black bars are taken off; None leaves frames whole.
        start: what stands for frames before the first, ``"repeat"`` or ``"black"``.
        sticky: for how many steps a gripper command is held; 15 is what SIMPLER does for the google robot
            with models that tell ``open_gripper``, 1 holds nothing.
        deadband: commands to the gripper that are smaller count as none, as in SIMPLER's RT-1.

    Attributes:
        contract: RT-1's thirteen fields at 3 Hz.
        terminated: slot to the number of actions after which its policy ended the episode.

    Raises:
        ValueError: ``history`` or ``sticky`` below 1.
    """

    def __init__(
        self,
        model: RT1Model,
        *,
        history: int = 6,
        size: tuple[int, int] | None = (256, 320),
        framing: Framing | None = DOMAINS["rt1"].framing,
        start: Literal["repeat", "black"] = "repeat",
        sticky: int = 1,
        deadband: float = 0.01,
    ) -> None:
        self.contract = ActionContract.of_spec(RT1_ACTIONS, DOMAINS["rt1"].fps)
        self.terminated: dict[int, int] = {}
        self._model = model
        self._history = FrameHistory(history, size, framing, start)
        self._sticky, self._deadband = StickyGripper(sticky), deadband
        self._instruction: dict[int, str] = {}
        self._steps: dict[int, int] = {}

    def seed(self, seeds: Sequence[int]) -> None:
        """One seed per slot, for the model if it wants them."""
        if hasattr(self._model, "seed"):
            self._model.seed(seeds)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``: forget frames, gripper and end of each."""
        if hasattr(self._model, "reset"):
            self._model.reset(instruction, slots)
        self._instruction |= dict(zip(slots, instruction, strict=True))
        self._history.reset(slots)
        self._sticky.reset(slots)
        for slot in slots:
            self._steps[slot] = 0
            self.terminated.pop(slot, None)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, 13)`` for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``.

        An error, the model's own included, leaves all slots as they were; what the model itself remembers is
        the model's.

        Raises:
            ValueError: the model's output is not RT-1's, field by field, or leaves the world's ranges.
        """
        slots = range(batch_of({"pixels": observation["pixels"]}))
        history, sticky = self._history.copy(), copy.deepcopy(self._sticky)
        images = history.see(observation["pixels"])
        output = self._model(images, [self._instruction.get(slot, "") for slot in slots])
        gripper = functools.partial(self._gripper, sticky)
        actions, ended = world_action(read_fields(output, len(slots)), gripper)
        self._history, self._sticky = history, sticky
        still = stand_still(len(slots))
        for slot in slots:
            if slot in self.terminated:
                actions[slot] = still[slot]
            self._steps[slot] = self._steps.get(slot, 0) + 1
            if ended[slot]:
                self.terminated.setdefault(slot, self._steps[slot])
        return actions

    def _gripper(self, sticky: StickyGripper, fields: Mapping[str, Numbers]) -> Numbers:
        """Commands ``(b,)``, -1 opens .. +1 closes, and ``sticky`` remembers them."""
        if OPEN_GRIPPER in fields:
            return sticky.follow(1.0 - fields[OPEN_GRIPPER][:, 0])
        commands = fields["gripper_closedness_action"][:, 0]
        return sticky.hold(np.where(np.abs(commands) < self._deadband, 0.0, commands))


class SimplerModel:
    """Policies with SIMPLER's two methods as the model of an :class:`RT1Policy`, one object for each slot.

    They are ``reset(task_description)`` and ``step(image, task_description)``, which returns a raw and a
    processed action; the raw one has RT-1's fields. Such an object remembers by itself, so the policy around
    it is ``RT1Policy(SimplerModel(make), history=1)``. Slots are asked one after the other.

    Args:
        make: makes an object; called once per slot, so let the objects share their weights.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._objects: dict[int, Any] = {}

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``."""
        for slot, text in zip(slots, instruction, strict=True):
            if slot not in self._objects:
                self._objects[slot] = self._make()
            self._objects[slot].reset(text)

    def __call__(self, images: FrameArray, instruction: list[str]) -> dict[str, Any]:
        """RT-1's fields, ``(b, n)`` each, for images ``(b, 1, h, w, 3)``."""
        raw = [
            self._objects[slot].step(seen[-1], text)[0]
            for slot, (seen, text) in enumerate(zip(images, instruction, strict=True))
        ]
        return {name: np.stack([np.asarray(fields[name]).reshape(-1) for fields in raw]) for name in raw[0]}
