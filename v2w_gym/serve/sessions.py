"""Who holds which slot."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import numpy as np


class FullError(RuntimeError):
    """No slot is free."""


@dataclass(eq=False)
class Session:
    """One client's episode.

    Attributes:
        slot: its place in the batch.
        name: names it in messages; not to be guessed.
        rng: draws starts and noise seeds; None before the first reset.
        begun: whether it has an episode.
        running: whether that goes on.
    """

    slot: int
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    rng: np.random.Generator | None = None
    begun: bool = False
    running: bool = False


class Sessions:
    """Slots and the sessions in them. Not for several threads.

    Args:
        slots: how many there are.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._open: dict[int, Session] = {}

    @property
    def running(self) -> int:
        """Sessions whose episode goes on: those that may ask for a step."""
        return sum(session.running for session in self._open.values())

    def open(self) -> Session:
        """A session in the lowest free slot.

        Raises:
            FullError: there is none.
        """
        free = next((slot for slot in range(self._slots) if slot not in self._open), None)
        if free is None:
            raise FullError(
                f"all {self._slots} slots are taken; close an environment, try again later, or start the "
                f"server with more: v2w serve --slots {2 * self._slots}"
            )
        self._open[free] = Session(free)
        return self._open[free]

    def release(self, session: Session) -> None:
        """Free the session's slot, of which nothing may be under way; a second time, it may be another's."""
        if self._open.get(session.slot) is session:
            del self._open[session.slot]
