"""Start contexts: the frames and actions an episode starts from, drawn at random or chosen by id.

A folder of them holds two files::

    starts.npz    frames (n, f, h, w, 3) uint8 RGB, actions (n, f-1, a) float32, as the model reads them
    starts.json   {"ids": ["seed-0042", ...], "seeds": [42, ...]}; a seed is null where reality has none

The seed is the one that reality was reset with, so that real and imagined episodes start alike.
"""

from __future__ import annotations

import difflib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from v2w_gym.data.episode import ActionArray, FrameArray


@dataclass(frozen=True, eq=False)
class Context:
    """What one episode starts from.

    Attributes:
        id: name of the start, e.g. ``"seed-0042"``.
        frames: ``(f, h, w, 3)`` uint8, RGB 0..255; the last one is the first observation.
        actions: ``(f-1, a)`` float32, the vectors that the model reads, as recordings hold them; action i
            moves frame i to frame i+1. What an environment's ``step`` takes may be something else.
        seed: what reality was reset with, or None.
    """

    id: str
    frames: FrameArray
    actions: ActionArray
    seed: int | None = None

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[0] == 0 or shape[-1] != 3:
            raise ValueError(
                f"frames of start {self.id!r} must be uint8 (f, h, w, 3) with f >= 1, "
                f"got {self.frames.dtype} {shape}; one frame needs a leading axis: frame[None]"
            )
        if self.actions.ndim != 2 or len(self.actions) != len(self.frames) - 1:
            raise ValueError(
                f"actions of start {self.id!r} must be (f-1, a) with f-1 = {len(self.frames) - 1}, "
                f"got {self.actions.shape}; one frame takes np.zeros((0, a), np.float32)"
            )


class Starts(Protocol):
    """What an environment asks of its start contexts."""

    def draw(self, rng: np.random.Generator) -> Context:
        """Pick one at random; everything random comes from ``rng``."""
        ...

    def by_id(self, id: str) -> Context:
        """Look one up; an unknown id raises ``ValueError``."""
        ...


class StartContexts:
    """A fixed list of contexts with distinct ids; all have the same number of frames.

    Args:
        contexts: at least one.

    Raises:
        ValueError: no context, or two with the same id.
    """

    def __init__(self, contexts: Iterable[Context]) -> None:
        self._contexts: dict[str, Context] = {}
        for context in contexts:
            if context.id in self._contexts:
                raise ValueError(f"two starts are called {context.id!r}; give each an id of its own")
            self._contexts[context.id] = context
        if not self._contexts:
            raise ValueError("there must be at least one start context, got none")
        self.ids = tuple(self._contexts)

    def __len__(self) -> int:
        return len(self.ids)

    def draw(self, rng: np.random.Generator) -> Context:
        """Pick one, all equally likely."""
        return self._contexts[self.ids[rng.integers(len(self.ids))]]

    def by_id(self, id: str) -> Context:
        """Look one up.

        Raises:
            ValueError: unknown id; ids that look like it are named.
        """
        if id not in self._contexts:
            near = difflib.get_close_matches(str(id), self.ids, n=3) or self.ids[:3]
            raise ValueError(
                f"unknown start {id!r}; there are {len(self)} starts, such as {', '.join(map(repr, near))}; "
                "all of them: World.open(...).starts().ids"
            )
        return self._contexts[id]

    def save(self, folder: str | Path) -> None:
        """Write ``starts.npz`` and ``starts.json`` into ``folder``, which is made if need be."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        contexts = list(self._contexts.values())
        np.savez_compressed(
            target / "starts.npz",
            frames=np.stack([c.frames for c in contexts]),
            actions=np.stack([c.actions for c in contexts]),
        )
        index = {"ids": list(self.ids), "seeds": [c.seed for c in contexts]}
        (target / "starts.json").write_text(json.dumps(index, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> StartContexts:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or the two do not belong together.
        """
        source = Path(folder)
        try:
            index = json.loads((source / "starts.json").read_text())
            ids, seeds = index["ids"], index["seeds"]
            with np.load(source / "starts.npz", allow_pickle=False) as file:
                frames, actions = file["frames"], file["actions"].astype(np.float32)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"start contexts need starts.json and starts.npz in {source}; missing: {error.filename}"
            ) from error
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"the start contexts in {source} are damaged ({error}); fetch them again"
            ) from error
        if not len(ids) == len(seeds) == len(frames) == len(actions):
            raise ValueError(
                f"{source}: starts.json names {len(ids)} ids and {len(seeds)} seeds, but starts.npz holds "
                f"{len(frames)} frames and {len(actions)} actions; fetch both again"
            )
        return cls(Context(*row) for row in zip(ids, frames, actions, seeds, strict=True))
