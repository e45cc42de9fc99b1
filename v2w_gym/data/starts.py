"""Start contexts: the frames and actions an episode starts from, drawn at random or chosen by id.

A folder of them holds two files::

    starts.npz    frames (n, f, h, w, 3) uint8 RGB, actions (n, f-1, a) float32, as the model reads them
    starts.json   {"ids": ["seed-0042", ...], "seeds": [42, ...]}; a seed is null where reality has none

The seed is the one that reality was reset with, so that real and imagined episodes start alike.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from v2w_gym.data.archive import read_arrays
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
    """A fixed list of contexts with distinct ids; to be saved, all must have the same number of frames.

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
        """Write ``starts.npz`` and ``starts.json`` into ``folder``, which is made if need be.

        Raises:
            ValueError: contexts of unlike shape, which one array cannot hold; nothing is written.
        """
        contexts = list(self._contexts.values())
        shapes = {(c.frames.shape, c.actions.shape): c.id for c in reversed(contexts)}
        if len(shapes) > 1:
            told = ", ".join(f"{id!r} frames {f} and actions {a}" for (f, a), id in reversed(shapes.items()))
            raise ValueError(
                f"starts of one folder must have equally many frames, of one size, but {told}; "
                "cut them alike, or save them in several folders"
            )
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
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
            arrays = read_arrays(source / "starts.npz", ("frames", "actions"))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"start contexts need starts.json and starts.npz in {source}; missing: {error.filename}"
            ) from error
        except (ValueError, OSError, RecursionError) as error:
            raise ValueError(_damage(source, error)) from error
        try:
            return cls(Context(*row) for row in _rows(index, arrays))
        except ValueError as error:
            raise ValueError(_damage(source, error)) from error


def _damage(source: Path, why: Exception) -> str:
    return f"the start contexts in {source} are damaged ({why}); fetch both again"


def _rows(index: Any, arrays: Mapping[str, Any]) -> Iterator[tuple[str, FrameArray, ActionArray, int | None]]:
    """Ids, frames, actions and seeds of what the two files hold."""
    if not isinstance(index, dict) or not all(isinstance(index.get(k), list) for k in ("ids", "seeds")):
        raise ValueError('starts.json must hold two lists, "ids" and "seeds"')
    if missing := {"frames", "actions"} - set(arrays):
        raise ValueError(f"starts.npz lacks {', '.join(sorted(missing))}")
    frames, actions = arrays["frames"], arrays["actions"]
    if frames.ndim != 5 or actions.ndim != 3 or actions.dtype.kind != "f" or not np.isfinite(actions).all():
        raise ValueError(
            "starts.npz must hold frames (n, f, h, w, 3) and finite actions (n, f-1, a), "
            f"got {frames.dtype} {frames.shape} and {actions.dtype} {actions.shape}"
        )
    ids, seeds = index["ids"], index["seeds"]
    if not len(ids) == len(seeds) == len(frames) == len(actions):
        raise ValueError(
            f"starts.json names {len(ids)} ids and {len(seeds)} seeds, but starts.npz holds "
            f"{len(frames)} frames and {len(actions)} actions"
        )
    for id in ids:
        if not isinstance(id, str):
            raise ValueError(f"an id must be a text, got {id!r:.40}")
    for seed in seeds:
        if seed is not None and type(seed) is not int:
            raise ValueError(f"a seed must be a whole number or null, got {seed!r:.40}")
    return zip(ids, frames, actions.astype(np.float32), seeds, strict=True)
