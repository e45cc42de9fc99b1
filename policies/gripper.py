"""A gripper that is told to move, by policies that say how far it should be open; one state per slot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


class StickyGripper:
    """Holds a command for some steps once it is given, as SIMPLER does for its google robot.

    A command of more than ``threshold`` is held for ``repeat`` steps, during which nothing else is listened
    to; smaller ones pass. Source: SIMPLER, ``simpler_env/policies/octo/octo_model.py``.

    Args:
        repeat: for how many steps, 15 in SIMPLER (its RT-1 holds nothing, so 1).
        threshold: from which size on, 0.5 there.

    Raises:
        ValueError: ``repeat`` below 1.
    """

    def __init__(self, repeat: int = 15, threshold: float = 0.5) -> None:
        if repeat < 1:
            raise ValueError(f"repeat must be at least 1 step, got {repeat}")
        self.repeat, self.threshold = repeat, threshold
        self._held: dict[int, tuple[float, int]] = {}
        self._closedness: dict[int, float] = {}

    def reset(self, slots: Sequence[int]) -> None:
        """Forget what is held in ``slots``."""
        for slot in slots:
            self._held.pop(slot, None)
            self._closedness.pop(slot, None)

    def hold(self, commands: Numbers) -> Numbers:
        """Commands ``(b,)`` in the convention ``closing``, some of them replaced by held ones."""
        return np.array([self._hold(slot, float(command)) for slot, command in enumerate(commands)])

    def follow(self, closedness: Numbers) -> Numbers:
        """Commands ``(b,)`` from states ``(b,)``, 0 open .. 1 closed: each change is a command, and is held.

        The first state of an episode changes nothing, since nobody knows how far the gripper is open.
        """
        changes = [float(now) - self._closedness.get(slot, float(now)) for slot, now in enumerate(closedness)]
        self._closedness |= {slot: float(now) for slot, now in enumerate(closedness)}
        return self.hold(np.array(changes))

    def _hold(self, slot: int, command: float) -> float:
        if slot not in self._held and abs(command) > self.threshold:
            self._held[slot] = (command, self.repeat)
        if slot not in self._held:
            return command
        held, left = self._held.pop(slot)
        if left > 1:
            self._held[slot] = (held, left - 1)
        return held
