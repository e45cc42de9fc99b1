"""Keyboard and mouse as the CS:GO model reads them: 51 components, each 0 or 1.

======  ==================================================================================
0..10   keys w, a, s, d, space, ctrl, shift, 1, 2, 3, r; any number of them held down
11, 12  left and right mouse button
13..35  mouse movement x, one of 23 bins of -1000..1000 counts; bin 11 is no movement
36..50  mouse movement y, one of 15 bins of -200..200 counts; bin 7 is no movement
======  ==================================================================================

All of them last one frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from v2w_gym.arrays import Array
from v2w_gym.data.episode import ActionArray
from v2w_gym.shapes import check_action, check_shape

KEYS = ("w", "a", "s", "d", "space", "ctrl", "shift", "1", "2", "3", "r")
CLICKS = ("left", "right")
_FAR, _NEAR = (2, 4, 10, 20, 30, 60, 100, 200, 300, 500, 1000), (2, 4, 10, 20, 50, 100, 200)
MOUSE_X = (*(-n for n in reversed(_FAR)), 0, *_FAR)
"""Counts that the bins of ``mouse_x`` stand for."""
MOUSE_Y = (*(-n for n in reversed(_NEAR)), 0, *_NEAR)
"""Counts that the bins of ``mouse_y`` stand for."""
NAMES = (
    *(f"key_{key}" for key in KEYS),
    *(f"{button}_click" for button in CLICKS),
    *(f"mouse_x_{count}" for count in MOUSE_X),
    *(f"mouse_y_{count}" for count in MOUSE_Y),
)
"""Names of the 51 components, in the order of the recordings."""


def press(*keys: str, clicks: Sequence[str] = (), mouse: tuple[float, float] = (0, 0)) -> dict[str, Any]:
    """An action of a keyboard and mouse world, e.g. ``press("w", "shift", mouse=(30, 0))``.

    Args:
        *keys: held down, of ``KEYS``; none stands still.
        clicks: ``"left"``, ``"right"`` or both.
        mouse: movement x, y in counts; each takes the nearest bin.

    Raises:
        ValueError: an unknown key or button.
    """
    for name, known in (*((key, KEYS) for key in keys), *((click, CLICKS) for click in clicks)):
        if name not in known:
            raise ValueError(f"unknown key or button {name!r}; known: {', '.join(known)}")
    x, y = (
        int(np.abs(np.subtract(bins, n)).argmin()) for bins, n in zip((MOUSE_X, MOUSE_Y), mouse, strict=True)
    )
    return {
        "keys": np.array([key in keys for key in KEYS], np.int8),
        "clicks": np.array([button in clicks for button in CLICKS], np.int8),
        "mouse_x": x,
        "mouse_y": y,
    }


class KeyboardMouse:
    """The action space ``{"keys": (11,), "clicks": (2,), "mouse_x": bin, "mouse_y": bin}``.

    Attributes:
        space: a ``gymnasium.spaces.Dict`` of two ``MultiBinary`` and two ``Discrete``.
    """

    def __init__(self) -> None:
        self.space: spaces.Space[Any] = spaces.Dict(
            {
                "keys": spaces.MultiBinary(len(KEYS)),
                "clicks": spaces.MultiBinary(len(CLICKS)),
                "mouse_x": spaces.Discrete(len(MOUSE_X)),
                "mouse_y": spaces.Discrete(len(MOUSE_Y)),
            }
        )

    def encode(self, action: Any, lead: tuple[int, ...] = ()) -> ActionArray:
        """Actions as vectors of 51 components, each 0 or 1.

        Args:
            action: of ``space``, each field with the axes ``lead`` in front; a recorded vector
                ``(*lead, 51)`` is taken as it is.
            lead: leading axes, none for a single action.

        Raises:
            ValueError: a missing or unknown field, a wrong shape, or a value out of range.
        """
        if not isinstance(action, Mapping):
            return self.recorded(action, (*lead, len(NAMES)))
        _check_fields(action)
        whole = {
            name: _whole(name, action[name], (*lead, *shape), _COUNTS[name])
            for name, shape in _FIELDS.items()
        }
        hot = [np.eye(_COUNTS[name], dtype=np.float32)[whole[name]] for name in ("mouse_x", "mouse_y")]
        return np.concatenate([whole["keys"], whole["clicks"], *hot], axis=-1, dtype=np.float32)

    def encode_there(self, action: Any, lead: tuple[int, ...]) -> tuple[Array, Array]:
        """See ``actions.Actions``."""
        if not isinstance(action, Mapping):
            check_shape(action, (*lead, len(NAMES)))
            return action.float(), ((action == 0) | (action == 1)).all()
        _check_fields(action)
        parts, valid = [], None
        for name, shape in _FIELDS.items():
            check_shape(action[name], (*lead, *shape))
            values = action[name].float()[..., None]
            hot = values == values.new_ones(_COUNTS[name]).cumsum(0) - 1
            known = hot.any(-1).all()
            valid = known if valid is None else valid & known
            parts.append(hot[..., 1] if shape else hot)
        vectors = action["keys"].float().new_zeros((*lead, len(NAMES)))
        places = np.cumsum([0, *(part.shape[-1] for part in parts)])
        for part, begin, end in zip(parts, places[:-1], places[1:], strict=True):
            vectors[..., begin:end] = part
        return vectors, valid

    def recorded(self, actions: Any, shape: tuple[int, ...]) -> ActionArray:
        """Check vectors as a recording holds them, ``shape`` ``(..., 51)``, each component 0 or 1.

        Raises:
            ValueError: wrong shape or a value that is neither 0 nor 1.
        """
        vectors = check_action(actions, shape, 0.0, 1.0)
        if (vectors != np.round(vectors)).any():
            raise ValueError(
                f"the {len(NAMES)} components of a keyboard and mouse action must each be 0 or 1, got "
                f"{vectors[vectors != np.round(vectors)][0]:g}; v2w_gym.envs.keyboard.NAMES lists them"
            )
        return vectors


_FIELDS: Mapping[str, tuple[int, ...]] = {
    "keys": (len(KEYS),),
    "clicks": (len(CLICKS),),
    "mouse_x": (),
    "mouse_y": (),
}
_COUNTS = {"keys": 2, "clicks": 2, "mouse_x": len(MOUSE_X), "mouse_y": len(MOUSE_Y)}


def _check_fields(action: Mapping[str, Any]) -> None:
    if set(action) != set(_FIELDS):
        raise ValueError(
            f"action must have the fields {', '.join(_FIELDS)}, "
            f"got {', '.join(map(str, action)) or 'none'}; "
            'v2w_gym.press("w", clicks=("left",), mouse=(30, 0)) makes one'
        )


def _whole(name: str, value: Any, shape: tuple[int, ...], count: int) -> Any:
    """Integers of ``shape`` in ``range(count)``."""
    try:
        numbers = check_action(value, shape, 0, count - 1)
    except ValueError as error:
        raise ValueError(f"field {name!r}: {error}") from error
    if (numbers != np.round(numbers)).any():
        raise ValueError(f"field {name!r} of the action must hold integers in 0..{count - 1}, got {value!r}")
    return numbers.astype(np.int64)
