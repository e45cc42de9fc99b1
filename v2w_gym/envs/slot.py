"""One slot of a vector environment, seen as a single environment; for ``call`` and ``get_attr``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import Space
from gymnasium.utils import seeding

from v2w_gym.data.episode import FrameArray
from v2w_gym.envs.facts import EpisodeFacts
from v2w_gym.envs.settings import Settings

if TYPE_CHECKING:
    from v2w_gym.envs.imagination import Imagination
    from v2w_gym.envs.vector import WorldModelVectorEnv

_FIXED = frozenset(f.name for f in dataclasses.fields(Settings))


class Slot(EpisodeFacts):
    """Reads facts of one slot and owns its random generator. New attributes may be set freely, facts may not.

    Args:
        env: the vector environment.
        imagination: its episodes.
        index: which of them.
    """

    def __init__(self, env: WorldModelVectorEnv, imagination: Imagination, index: int) -> None:
        self._env = env
        self._imagination = imagination
        self._index = index
        self._random: tuple[np.random.Generator, int] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED or isinstance(getattr(type(self), name, None), property):
            raise AttributeError(
                f"{name!r} is fixed at construction; make the environment again with what you need, "
                f"e.g. gymnasium.make_vec(id, num_envs=n, {name}=...)"
            )
        super().__setattr__(name, value)

    def use(self, generator: np.random.Generator, seed: int) -> None:
        """Take ``generator``, made from ``seed``, as the source of everything random in this slot."""
        self._random = generator, seed

    @property
    def np_random(self) -> np.random.Generator:
        """The slot's generator; seeded from the system's entropy if no seed was ever given."""
        if self._random is None:
            self._random = seeding.np_random()
        return self._random[0]

    @property
    def np_random_seed(self) -> int:
        """The seed of the slot's generator."""
        if self._random is None:
            self._random = seeding.np_random()
        return self._random[1]

    @property
    def render_mode(self) -> str | None:
        """As in the vector environment."""
        return self._env.render_mode

    @property
    def metadata(self) -> dict[str, Any]:
        """As in the vector environment."""
        return self._env.metadata

    @property
    def observation_space(self) -> Space[Any]:
        """Observations of one slot."""
        return self._env.single_observation_space

    @property
    def action_space(self) -> Space[Any]:
        """Actions of one slot."""
        return self._env.single_action_space

    @property
    def unwrapped(self) -> Slot:
        """The slot itself."""
        return self

    def render(self) -> FrameArray | None:
        """The slot's newest frame with ``render_mode="rgb_array"``; None otherwise."""
        frames = self._env.render()
        return None if frames is None else frames[self._index]
