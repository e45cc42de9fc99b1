"""A world model that is loaded when it is first asked for something.

Its libraries take seconds to import, and whoever makes an environment to look at its spaces should not wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from v2w_gym.world_model.base import WorldModel


class Deferred:
    """Stands for the world model that ``load`` gives; see :class:`~v2w_gym.world_model.base.WorldModel`.

    Args:
        load: loads it; called once, unless it raises.
    """

    def __init__(self, load: Callable[[], WorldModel]) -> None:
        self._load = load
        self._loaded: WorldModel | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # questions of copy, pickle and inspect are not about the model
            raise AttributeError(name)
        if self._loaded is None:
            self._loaded = self._load()
        return getattr(self._loaded, name)
