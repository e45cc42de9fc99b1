"""The exploitation alarm: imagined reward rises while what speaks for believing it falls.

A policy that is trained in imagination learns what the imagination rewards, its mistakes included. It gets
better and better there while it leaves what the world model or the judge can be believed about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AlarmConfig:
    """When to call it exploitation. All values lie in 0..1.

    Attributes:
        rise: of the imagined reward since a trust was at its best, and
        fall: of that trust since then, from which the alarm is raised.
        over: how many looks are averaged, so that no single one decides.
        stop: whether the alarm ends the training; it is told in the log anyway.
    """

    rise: float = 0.1
    fall: float = 0.15
    over: int = 3
    stop: bool = False

    def __post_init__(self) -> None:
        if self.over < 1 or not (0 < self.rise <= 1 and 0 < self.fall <= 1):
            raise ValueError(
                "an alarm needs rise and fall in 0..1, above 0, and over at least 1 look, "
                f"got {self.rise:g}, {self.fall:g} and {self.over}"
            )


@dataclass(frozen=True)
class Alarm:
    """What was seen.

    Attributes:
        trust: which one fell.
        reward: the imagined reward, then and now.
        level: of the trust, then and now.
    """

    trust: str
    reward: tuple[float, float]
    level: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"exploitation: since {self.trust} was best, imagined reward rose from {self.reward[0]:.2f} to "
            f"{self.reward[1]:.2f} and {self.trust} fell from {self.level[0]:.2f} to {self.level[1]:.2f}"
        )


class ExploitationAlarm:
    """Remembers all looks and compares the present with the time at which each trust was at its best.

    Args:
        config: when to raise it.
    """

    def __init__(self, config: AlarmConfig | None = None) -> None:
        self.config = config or AlarmConfig()
        self._reward: list[float] = []
        self._trusts: dict[str, list[float]] = {}

    def look(self, reward: float, trusts: Mapping[str, float]) -> list[Alarm]:
        """Take in one look.

        Args:
            reward: mean imagined reward of an episode, 0..1.
            trusts: what speaks for believing it, by name, each in 0..1; the same names every time.

        Returns:
            An alarm for each trust that fell while the reward rose; none is the usual case.

        Raises:
            ValueError: other names than before.
        """
        if self._trusts and trusts.keys() != self._trusts.keys():
            raise ValueError(f"trusts must always be {sorted(self._trusts)}, got {sorted(trusts)}")
        self._reward.append(reward)
        for name, value in trusts.items():
            self._trusts.setdefault(name, []).append(value)
        found = (self._compare(name) for name in self._trusts)
        return [alarm for alarm in found if alarm is not None]

    def _compare(self, name: str) -> Alarm | None:
        rewards, levels = self._means(self._reward), self._means(self._trusts[name])
        if len(levels) < 2:
            return None
        best = max(range(len(levels)), key=levels.__getitem__)
        reward, level = (rewards[best], rewards[-1]), (levels[best], levels[-1])
        if reward[1] - reward[0] < self.config.rise or level[0] - level[1] < self.config.fall:
            return None
        return Alarm(name, reward, level)

    def _means(self, values: list[float]) -> list[float]:
        over = self.config.over
        return [sum(values[i : i + over]) / over for i in range(len(values) - over + 1)]

    def state_dict(self) -> dict[str, Any]:
        """All looks so far."""
        return {"reward": list(self._reward), "trusts": {k: list(v) for k, v in self._trusts.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take on what :meth:`state_dict` gave."""
        self._reward = list(state["reward"])
        self._trusts = {name: list(values) for name, values in state["trusts"].items()}
