"""A baseline that has learnt nothing: the cross-entropy method over forks of the imagined state.

At each decision the planner goes on, in its own copy of the world, from the frames that it was shown and the
actions that it took; it forks that state, tries sequences of actions, scores them by the success detector and
does the beginning of the best. So it needs no more than any policy, pixels, and works in reality, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym import configs
from v2w_gym.config import from_dict, load
from v2w_gym.policies.cem import Floats, Search, search
from v2w_gym.policies.chunks import Chunked
from v2w_gym.policies.foresight import Foresight, Snapshots
from v2w_gym.policies.simple import Actions, SlotGenerators
from v2w_gym.policies.specs import split_spec

_NOISE_SEEDS = 2**31
FOLDER = Path(configs.__file__).parent / "planner"
"""Budgets by name."""


@dataclass(frozen=True)
class PlannerConfig:
    """Budget and world of a planner. A decision imagines ``samples * generations * horizon`` steps per slot.

    Attributes:
        world: registered id, folder or hub id of the world that it thinks in.
        samples: sequences of a generation.
        elites: the best of them, to which the next generation is fitted.
        generations: how often sequences are drawn.
        horizon: steps that a plan looks ahead, a multiple of ``hold``.
        hold: steps that an action of a plan is held: fewer numbers to search.
        execute: steps between decisions, a multiple of ``hold``, at most ``horizon``.
        std: standard deviation of the first generation, in halves of an action's range.
        min_std: below which no generation falls.
        penalty: how much a score, 0..1, loses if nothing of the plan is credible; 0 ignores credibility.
        history: frames that are remembered, the present one included; None takes the world's window.
        sampler: of the planner's world: one of its presets, or values.
        device: of the planner's world.
    """

    world: str = "Vid2World-DrawerClose-v0"
    samples: int = 16
    elites: int = 4
    generations: int = 2
    horizon: int = 12
    hold: int = 4
    execute: int = 4
    std: float = 1.0
    min_std: float = 0.2
    penalty: float = 0.0
    history: int | None = None
    sampler: str | Mapping[str, Any] | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.hold, self.execute) < 1 or self.execute % self.hold or self.horizon % self.hold:
            raise ValueError(
                f"horizon and execute must be multiples of hold, got horizon={self.horizon}, "
                f"execute={self.execute}, hold={self.hold}"
            )
        if self.execute > self.horizon:
            raise ValueError(f"execute={self.execute} is more than the plan's horizon={self.horizon} steps")
        if self.penalty < 0 or (self.history is not None and self.history < 1):
            raise ValueError(
                f"penalty must be at least 0 and history at least 1 frame, got {self.penalty}, {self.history}"
            )
        self.search()

    def search(self) -> Search:
        """The part that the search reads."""
        return Search(self.samples, self.elites, self.generations, self.std, self.min_std)


class Planner(Chunked):
    """A policy that plans; see the module. Slots that have to decide at the same step think in one batch.

    Args:
        config: budget and world.
        privileged: gives the snapshot of slots, e.g. ``envs.snapshot`` of the environment that it acts in; it
            then thinks from the very state there, not from what it has seen. The noise stays its own.

    Attributes:
        contract: what the world that it thinks in takes; one that it acts in must take the same.

    Raises:
        FileNotFoundError: no such world.
        ValueError: numbers that do not fit one another, or a world whose actions cannot be planned.
    """

    def __init__(self, config: PlannerConfig | None = None, *, privileged: Snapshots | None = None) -> None:
        self.config = config or PlannerConfig()
        self._thoughts = _Thoughts(self.config, privileged)
        super().__init__(self._thoughts, execute=self.config.execute)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``."""
        actions = super().act(observation)
        self._thoughts.remember(np.asarray(observation["pixels"]), actions)
        return actions


class _Thoughts:
    """Plans as chunks of actions, and the memory of each slot that they are made from."""

    def __init__(self, config: PlannerConfig, privileged: Snapshots | None) -> None:
        self._config, self._privileged = config, privileged
        self._foresight = Foresight(
            config.world, device=config.device, sampler=config.sampler, penalty=config.penalty
        )
        self.contract = self._foresight.contract
        self._past = (config.history or self._foresight.window) - 1
        self._generators = SlotGenerators(stream=3)
        self._tasks: dict[int, str] = {}
        self._seen: dict[int, deque[tuple[npt.NDArray[np.uint8], Actions]]] = {}
        self._plans: dict[int, Floats] = {}

    def seed(self, seeds: Sequence[int]) -> None:
        self._generators.seed(seeds)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        for task, slot in zip(instruction, slots, strict=True):
            self._tasks[slot] = task
            self._seen.pop(slot, None)
            self._plans.pop(slot, None)

    def remember(self, frames: npt.NDArray[np.uint8], actions: Actions) -> None:
        """What was seen, ``(b, h, w, 3)``, and what was done then, ``(b, a)``."""
        for slot, pair in enumerate(zip(frames.copy(), actions, strict=True)):
            self._seen.setdefault(slot, deque(maxlen=self._past)).append(pair)

    def chunk(self, observation: Mapping[str, Any], slots: Sequence[int]) -> Floats:
        """Plans ``(b, horizon, a)`` for slots."""
        config, low, high = self._config, self._foresight.low, self._foresight.high
        state, rngs = (
            self._state(np.asarray(observation["pixels"]), slots),
            [self._generators[i] for i in slots],
        )

        def actions(units: Floats) -> Floats:
            """From -1..1 to the world's range, and from knots to steps."""
            scaled = low + (units + 1.0) / 2.0 * (high - low)
            return np.asarray(scaled.repeat(config.hold, axis=-2))

        def score(candidates: Floats) -> Floats:
            seeds = [int(rng.integers(_NOISE_SEEDS)) for rng in rngs]  # one for all candidates of a slot
            return self._foresight.score(state, actions(candidates), seeds)

        start = np.stack([self._start(slot) for slot in slots])
        plans, _ = search(config.search(), score, start, rngs)
        self._plans |= dict(zip(slots, plans, strict=True))
        return actions(plans)

    def _start(self, slot: int) -> Floats:
        """What is left of the slot's last plan, and rest after that, ``(k, a)`` in -1..1."""
        config, rest = (
            self._config,
            np.zeros((self._config.horizon // self._config.hold, len(self._foresight.low))),
        )
        if slot in self._plans:
            left = self._plans[slot][config.execute // config.hold :]
            rest[: len(left)] = left
        return rest

    def _state(self, frames: npt.NDArray[np.uint8], slots: Sequence[int]) -> Any:
        """What the plans go on from, a row for each slot."""
        if self._privileged is not None:
            return self._privileged(list(slots))
        pasts = [list(self._seen.get(slot, ())) for slot in slots]
        none = np.zeros((0, len(self._foresight.low)), np.float32)
        return self._foresight.begin(
            [np.stack([*(f for f, _ in past), now]) for past, now in zip(pasts, frames, strict=True)],
            [np.stack([a for _, a in past]) if past else none for past in pasts],
            [self._tasks.get(slot) for slot in slots],
        )


def from_spec(spec: str) -> Planner:
    """``planner``, ``planner:NAME`` or ``planner:FILE.yaml``, each with options as in :class:`PlannerConfig`.

    NAME is a file of ``configs/planner``. E.g. ``planner:quick``, ``planner:world=runs/world,samples=64``.

    Raises:
        FileNotFoundError: no such file or world.
        ValueError: an unknown option or a value that does not fit.
    """
    target, values = split_spec(spec)
    if not target:
        return Planner(from_dict(PlannerConfig, values, where="the options of planner:"))
    named = FOLDER / f"{target}.yaml"
    path = named if named.is_file() else Path(target)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise FileNotFoundError(
            f"no file {target}; known budgets: {known}; or give options: planner:samples=32,execute=4"
        )
    return Planner(load(PlannerConfig, path, values))
