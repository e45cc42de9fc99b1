"""Kinds of actions: what a user thinks in, and how it becomes the vector that the model reads.

``env.step`` takes actions of the environment's space. Recordings hold what the model reads, so start contexts
and the reset option ``"actions"`` hold model vectors; for kinds other than ``"metric"`` and
``"keyboard_mouse"`` the two are the same. A learner that wants -1..1 throughout takes
``gymnasium.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from v2w_gym.arrays import Array, Arrays, host
from v2w_gym.data.episode import ActionArray
from v2w_gym.envs import keyboard
from v2w_gym.envs.action_spec import ActionSpec
from v2w_gym.shapes import check_action, check_shape, within

PLANAR = ("dx", "dy", "dyaw")
"""Components of a ``"metric"`` action."""


class Actions(Protocol):
    """One kind of action.

    Attributes:
        space: of one action.
    """

    space: spaces.Space[Any]

    def encode(self, action: Any, lead: tuple[int, ...] = ()) -> ActionArray:
        """Check an action of ``space`` and return what the model reads, ``(a,)`` float32.

        With ``lead``, every array of the action has these axes in front, as those of
        ``gymnasium.vector.utils.batch_space`` have a slot axis, and so has the result.
        A wrong shape, a value that is no finite number or out of range raises ``ValueError``.
        """
        ...

    def encode_there(self, action: Any, lead: tuple[int, ...]) -> tuple[Array, Array]:
        """The same for tensors, on their device: vectors, and whether ``encode`` would take the action.

        The answer is a bool tensor, so that nothing need be read back; where it is no, the vectors are junk.
        A wrong shape raises ``ValueError``.
        """
        ...

    def recorded(self, actions: Any, shape: tuple[int, ...]) -> ActionArray:
        """Check model vectors of ``shape`` ``(..., a)``, as recordings hold them; raises ``ValueError``."""
        ...


class BoxActions:
    """Numbers within a box, handed to the model as they are or mapped onto -1..1.

    Args:
        spec: of kind ``"normalised"``, ``"raw"`` or ``"metric"``.

    Attributes:
        space: a ``gymnasium.spaces.Box`` of float32.
    """

    def __init__(self, spec: ActionSpec) -> None:
        self._spec = spec
        low, high = np.array(spec.low), np.array(spec.high)
        normalised = spec.kind == "normalised"
        bounds = (-np.ones(len(low)), np.ones(len(low))) if normalised else (low, high)
        box = spaces.Box(bounds[0].astype(np.float32), bounds[1].astype(np.float32), dtype=np.float32)
        self.space: spaces.Space[Any] = box
        self._low, self._high = box.low, box.high
        mapped = np.array([spec.kind == "metric" and name != "dyaw" for name in spec.names])
        self._gain = np.where(mapped, 2 / (high - low), 1.0)
        self._shift = np.where(mapped, -1 - low * self._gain, 0.0)
        self._there: dict[str, tuple[Array, ...]] = {}

    def encode(self, action: Any, lead: tuple[int, ...] = ()) -> ActionArray:
        """``(*lead, a)`` in the units of the space to what the model reads."""
        values = check_action(action, (*lead, len(self._low)), -np.inf, np.inf)
        self._check_range(values)
        encoded: ActionArray = (values * self._gain + self._shift).astype(np.float32)
        return encoded

    def encode_there(self, action: Array, lead: tuple[int, ...]) -> tuple[Array, Array]:
        """See ``Actions``."""
        check_shape(action, (*lead, len(self._low)))
        values = action.float()
        low, high, gain, shift = self._constants(values)
        return values * gain + shift, within(values, low - 1e-6, high + 1e-6)

    def _constants(self, like: Array) -> tuple[Array, ...]:
        """Ranges and mapping as tensors on the device of ``like``, made once."""
        name = str(like.device)
        if name not in self._there:
            numbers = (self._low, self._high, self._gain, self._shift)
            self._there[name] = tuple(like.new_tensor(column) for column in numbers)
        return self._there[name]

    def _check_range(self, values: ActionArray) -> None:
        outside = np.argwhere((values < self._low - 1e-6) | (values > self._high + 1e-6))
        if len(outside):
            place = tuple(outside[0])
            i, value = place[-1], values[place]
            unit = "" if self._spec.units[i] == "1" else f" {self._spec.units[i]}"
            raise ValueError(
                f"action component {self._spec.names[i]!r} must lie in "
                f"[{self._low[i]:g}, {self._high[i]:g}]{unit}, got {value:g}; clip it first: "
                "space = env.action_space; np.clip(action, space.low, space.high)"
            )

    def recorded(self, actions: Any, shape: tuple[int, ...]) -> ActionArray:
        """Normalised vectors lie in -1..1; recordings of the other kinds may leave their ranges."""
        limit = 1.0 if self._spec.kind == "normalised" else np.inf
        return check_action(actions, shape, -limit, limit)


def actions_of(spec: ActionSpec) -> Actions:
    """The object for ``spec.kind``.

    Raises:
        ValueError: components that this kind does not have.
    """
    fixed = {"metric": PLANAR, "keyboard_mouse": keyboard.NAMES}.get(spec.kind, spec.names)
    if tuple(spec.names) != fixed:
        raise ValueError(
            f"actions of kind {spec.kind!r} have the {len(fixed)} components {', '.join(fixed)}, "
            f"got {', '.join(spec.names)}; write them into world.json in this order"
        )
    return keyboard.KeyboardMouse() if spec.kind == "keyboard_mouse" else BoxActions(spec)


@dataclass(frozen=True)
class Encoded:
    """Actions as the model reads them.

    Attributes:
        vectors: ``(..., a)`` float32.
        valid: a bool tensor that says whether they are any good and that nobody has read yet; None where they
            are known to be.
        again: encodes the same actions with care, and raises ``ValueError`` at what is wrong with them.
    """

    vectors: Array
    valid: Array = None
    again: Callable[[], ActionArray] | None = None

    def checked(self, arrays: Arrays) -> Encoded:
        """The same, known to be good: asks the device if need be; raises ``ValueError`` at a bad one."""
        if self.again is None or arrays.read(self.valid)[0].all():
            return Encoded(self.vectors)
        return Encoded(self.again())

    def __getitem__(self, index: Any) -> Encoded:
        """Some of them; ``index`` is one of the leading axes."""
        again = self.again
        careful = None if again is None else lambda: again()[index]
        return Encoded(self.vectors[index], self.valid, careful)


def encoded(actions: Actions, action: Any, lead: tuple[int, ...], arrays: Arrays) -> Encoded:
    """Encode actions: tensors where they are, if ``arrays`` has to do with tensors.

    Raises:
        ValueError: a bad action, unless it is for the device to say.
    """
    tensors = arrays.tensors(action)
    if tensors is None:
        return Encoded(actions.encode(action, lead))
    vectors, valid = actions.encode_there(tensors, lead)
    return Encoded(vectors, valid, lambda: actions.encode(_on_host(action), lead))


def _on_host(action: Any) -> Any:
    return {name: host(value) for name, value in action.items()} if isinstance(action, dict) else host(action)
