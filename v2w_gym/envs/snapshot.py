"""Imagined episodes as a value: kept, gone back to, branched, saved, and loaded in another process.

What holds a model's state is imported by those who have one: it takes seconds, see ``deferred.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.arrays import Array, host
from v2w_gym.data.episode import FrameArray
from v2w_gym.rewards.base import Seen


@dataclass(frozen=True, eq=False)
class Episodes:
    """What an environment knows of its episodes beside the model's state; one row per slot.

    The first two and the last are arrays or tensors, as the environment's ``output`` says; any
    environment takes both.

    Attributes:
        frames: ``(b, h, w, 3)`` uint8, the newest frame.
        success_prob: ``(b,)`` float, the detector's probability for it.
        elapsed: ``(b,)`` int64, steps since the reset.
        context_length: ``(b,)`` int64, frames that the episode began from.
        terminated: ``(b,)`` bool.
        truncated: ``(b,)`` bool.
        credibility: ``(b,)`` float32, how far the newest frame can be believed; None where nobody could tell.
    """

    frames: Array
    success_prob: Array
    elapsed: npt.NDArray[np.int64]
    context_length: npt.NDArray[np.int64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    credibility: Array | None = None

    def known(self) -> dict[str, Array]:
        """Every field that is not None."""
        return {name: values for name, values in vars(self).items() if values is not None}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Episodes of one or more slots at one moment.

    A success detector that needs the beginning of an episode finds it in ``seen``. Where that is None,
    because the snapshot was taken with another detector, it cannot judge the rest: ``info["judged"]`` is
    False up to the next reset.

    Attributes:
        model_hash: names the world model that they belong to.
        state: the model's state of each row.
        episodes: everything else.
        tasks: instruction of each row.
        starts: id of the start of each row.
        seen: frames of each row from its start on, where the detector keeps them; None where it does not.
    """

    model_hash: str
    state: Any
    episodes: Episodes
    tasks: tuple[str, ...]
    starts: tuple[str, ...]
    seen: Seen | None = None

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, rows: Sequence[int]) -> Snapshot:
        """The given rows, in that order, repeated as often as they are named."""
        rows = list(rows)
        return replace(
            self,
            state=self.state[rows],
            episodes=Episodes(**{name: values[rows] for name, values in self.episodes.known().items()}),
            tasks=tuple(self.tasks[i] for i in rows),
            starts=tuple(self.starts[i] for i in rows),
            seen=None if self.seen is None else tuple(self.seen[i] for i in rows),
        )

    def with_noise(self, seeds: Sequence[int]) -> Snapshot:
        """The same past, and the noise of other seeds, one per row, from here on."""
        if len(seeds) != len(self):
            raise ValueError(f"noise seeds must be one for each of {len(self)} rows, got {len(seeds)}")
        from v2w_gym.world_model.state import with_seeds

        return replace(self, state=with_seeds(self.state, seeds))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file.

        Raises:
            TypeError: the state of a world model that is not ours.
        """
        from v2w_gym.world_model.archive import save_state
        from v2w_gym.world_model.state import WorldState

        if not isinstance(self.state, WorldState):
            raise TypeError(f"only states of Vid2World can be saved, got a {type(self.state).__name__}")
        facts = {"model_hash": self.model_hash, "tasks": self.tasks, "starts": self.starts}
        beside = {name: host(values) for name, values in self.episodes.known().items()} | self._packed()
        save_state(path, self.state, beside, facts)

    @classmethod
    def load(cls, path: str | Path) -> Snapshot:
        """Read what ``save`` wrote.

        Raises:
            ValueError: a damaged file, or something else.
        """
        from v2w_gym.world_model.archive import load_state

        state, arrays, facts = load_state(path)
        tasks, starts = tuple(facts["tasks"]), tuple(facts["starts"])
        seen = _unpacked(arrays.pop("seen", None), arrays.pop("seen_lengths", None))
        return cls(facts["model_hash"], state, Episodes(**arrays), tasks, starts, seen)

    def _packed(self) -> dict[str, npt.NDArray[Any]]:
        """``seen`` as two arrays: all frames in one row, and how many of them each episode has."""
        if self.seen is None:
            return {}
        known = [frames for frames in self.seen if frames is not None]
        lengths = [0 if frames is None else len(frames) for frames in self.seen]
        none = np.zeros((0, *self.episodes.frames.shape[1:]), np.uint8)
        return {"seen": np.concatenate([none, *known]), "seen_lengths": np.array(lengths)}


def _unpacked(frames: FrameArray | None, lengths: npt.NDArray[np.int64] | None) -> Seen | None:
    """The opposite of ``Snapshot._packed``."""
    if frames is None or lengths is None:
        return None
    parts = np.split(frames, np.cumsum(lengths)[:-1])
    return tuple(part if len(part) else None for part in parts)
