"""Action chunks: a policy that plans several actions at once, as one that gives an action per step.

Receding horizon: the first ``execute`` actions of a chunk are done, then the policy is asked again. Temporal
ensembling, as in ACT (Zhao et al., arXiv 2304.13705, section IV-B): all chunks that still say something about
the present step are averaged with weights ``exp(-m * i)``, the oldest being i = 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from v2w_gym.policies.observations import batch_of, rows_of
from v2w_gym.policies.simple import Actions


class ChunkSource(Protocol):
    """What makes chunks. It may also offer ``reset(instruction, slots)`` and ``seed(seeds)`` of a policy."""

    def chunk(self, observation: Mapping[str, Any], slots: Sequence[int]) -> npt.ArrayLike:
        """Chunks ``(b, n, a)``: the action for this observation, and those for the n - 1 steps after it.

        Args:
            observation: of the slots that need a chunk alone; row i belongs to ``slots[i]``.
            slots: their numbers, as ``reset`` knows them.
        """
        ...


class Chunked:
    """A :class:`~v2w_gym.policies.base.Policy` that does what chunks say.

    Every slot has a phase of its own: slots that were reset at different times ask at different times, and
    only those that need a chunk are asked about.

    Args:
        source: makes the chunks.
        execute: how many steps go by before a slot asks again, at most the length of a chunk.
        ensemble: None does what the newest chunk says. A number is ACT's m: 0.0 weights old and new chunks
            alike, above 0 favours the old (ACT: 0.01), below 0 the new. It changes something only where
            ``execute`` is less than the length of a chunk.

    Raises:
        ValueError: ``execute`` below 1, or an ``ensemble`` that is no finite number.

    Attributes:
        contract: what actions mean, if the source says so, see ``contract.py``.
    """

    def __init__(self, source: ChunkSource, *, execute: int, ensemble: float | None = None) -> None:
        if isinstance(execute, bool) or not isinstance(execute, int | np.integer) or execute < 1:
            raise ValueError(f"execute must be a whole number of steps from 1 on, got {execute!r}")
        if ensemble is not None and not np.isfinite(ensemble):
            raise ValueError(f"ensemble must be a finite number such as 0.01, or None, got {ensemble!r}")
        self.source, self.contract = source, getattr(source, "contract", None)
        self.execute, self.ensemble = int(execute), ensemble
        self._pending: dict[int, _Pending] = {}

    def seed(self, seeds: Sequence[int]) -> None:
        """One seed per slot, for the source if it wants them."""
        if hasattr(self.source, "seed"):
            self.source.seed(seeds)

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Begin new episodes in ``slots``; what was planned for them is dropped."""
        if hasattr(self.source, "reset"):
            self.source.reset(instruction, slots)
        for slot in slots:
            self._pending.pop(slot, None)

    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)``; row i is slot i.

        Raises:
            ValueError: the source gave something that is no chunk for each slot. All slots are as before.
        """
        slots = range(batch_of(observation))
        asking = [slot for slot in slots if self._asks(slot)]
        if asking:
            # a source never sees rows that it was not asked about, so it need not know of phases
            fresh = self._checked(self.source.chunk(rows_of(observation, asking), asking), len(asking))
            for slot, chunk in zip(asking, fresh, strict=True):
                self._pending.setdefault(slot, _Pending(self.ensemble is not None)).add(chunk)
        return np.stack([self._pending[slot].next(self.ensemble) for slot in slots])

    def _asks(self, slot: int) -> bool:
        return slot not in self._pending or self._pending[slot].age >= self.execute

    def _checked(self, chunks: npt.ArrayLike, slots: int) -> npt.NDArray[np.float32]:
        try:
            array = np.array(chunks, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"a chunk must be numbers (b, n, a), got {type(chunks).__name__}: {error}"
            ) from error
        if array.ndim != 3 or len(array) != slots or not array.size:
            raise ValueError(
                f"chunks must be (b, n, a) with b = {slots}, one for each slot that was asked about, "
                f"got shape {array.shape}"
            )
        if array.shape[1] < self.execute:
            raise ValueError(
                f"execute={self.execute} needs chunks of at least that many actions, got {array.shape[1]}; "
                f"lower it: execute={array.shape[1]}"
            )
        return array


class _Pending:
    """What chunks say about the steps of one slot that are still to come, the oldest chunk first."""

    def __init__(self, keep_all: bool) -> None:
        self._chunks: deque[npt.NDArray[np.float32]] = deque(maxlen=None if keep_all else 1)
        self.age = 0  # steps since the newest chunk was asked for

    def add(self, chunk: npt.NDArray[np.float32]) -> None:
        self._chunks.append(chunk)
        self.age = 0

    def next(self, ensemble: float | None) -> Actions:
        """The action of this step, ``(a,)``; every chunk is then one step shorter."""
        now = np.stack([chunk[0] for chunk in self._chunks])
        rest = [chunk[1:] for chunk in self._chunks]
        self._chunks.clear()
        self._chunks.extend(chunk for chunk in rest if len(chunk))
        self.age += 1
        exponents = -(ensemble or 0.0) * np.arange(len(now))
        weights = np.exp(exponents - exponents.max())  # the largest is 1: nothing overflows
        action: Actions = ((weights / weights.sum()) @ now).astype(np.float32)
        return action
