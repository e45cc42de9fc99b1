"""What a single environment and a slot of a vector environment both tell of their episode."""

from __future__ import annotations

from v2w_gym.envs.imagination import Imagination


class EpisodeFacts:
    """Reads row ``_index`` of ``_imagination``."""

    _imagination: Imagination
    _index: int = 0

    @property
    def task(self) -> str:
        """Instruction of the episode, or the world's first before any reset."""
        return self._imagination.tasks[self._index]

    @property
    def task_description(self) -> str:
        """The same text, under the name that LeRobot asks for."""
        return self.task

    @property
    def _max_episode_steps(self) -> int:
        return self._imagination.horizon
