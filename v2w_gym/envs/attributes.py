"""What a vector environment says of its slots by name, as those that hold single environments do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import VectorEnv

from v2w_gym.envs.slot import Slot


class SlotAttributes(VectorEnv[Any, Any, Any]):
    """Reads and writes attributes of ``envs``, one view per slot, and owns their random generators."""

    envs: list[Slot]

    @property  # type: ignore[misc]  # one generator per slot, as in SyncVectorEnv
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random generator of each slot."""
        return tuple(slot.np_random for slot in self.envs)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each slot's generator."""
        return tuple(slot.np_random_seed for slot in self.envs)

    def _seed(self, seed: int | Sequence[int | None] | None, slots: Sequence[int]) -> None:
        if seed is None:
            return
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + i for i in range(self.num_envs)]
        seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(
                f"seeds must be one integer, or a list of {self.num_envs}, got {len(seeds)} of them"
            )
        fresh = [(i, seeding.np_random(seeds[i])) for i in slots if seeds[i] is not None]
        for i, (generator, number) in fresh:
            self.envs[i].use(generator, number)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Attribute ``name`` of every slot, called where it can be."""
        found = [getattr(slot, name) for slot in self.envs]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Attribute ``name`` of every slot, e.g. ``"task_description"``."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set attribute ``name`` of every slot, to one value or to a list with one value per slot.

        Raises:
            AttributeError: the attribute is a fact of the environment, fixed at construction.
            ValueError: a list of another length.
        """
        rows = values if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(rows) != self.num_envs:
            raise ValueError(
                f"set_attr({name!r}) needs {self.num_envs} values, one per slot, got {len(rows)}"
            )
        for slot, value in zip(self.envs, rows, strict=True):
            setattr(slot, name, value)
