"""What the rounds ask of others: a reality that plays, a referee that compares worlds with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from v2w_gym.data.episode import Episode
from v2w_gym.envs.world import World

DISTURBED = "-disturbed"
"""The behaviour of an episode ends so if its actions are not the policy's own."""


class Reality(Protocol):
    """Where policies play: a simulation, a robot, or somebody with a robot."""

    def check(self, world: World, rounds: int, taken: frozenset[int]) -> None:
        """Raise ``ValueError`` or ``ImportError`` if play that fits ``world`` cannot be had.

        Args:
            world: what it must fit.
            rounds: how often there will be play.
            taken: seeds of the recordings and of measured starts, which must not be played.
        """
        ...

    def play(self, policy: str, folder: Path, number: int) -> str | None:
        """Put the episodes of a round into ``folder``, or go on with that.

        Args:
            policy: who plays, as ``policies.resolve`` takes it.
            folder: for the episodes, see ``data.episode``.
            number: of the round, from 1.

        Returns:
            None once all are there, else what is to be done by hand.
        """
        ...


@dataclass(frozen=True)
class Fidelity:
    """How a world replays recorded episodes, open loop.

    Attributes:
        episodes: how many.
        psnr_db: mean over all imagined frames.
        agreement: share of episodes whose imagined verdict is that of reality, 0..1.
        false_success: share that failed in reality and succeeds in imagination, 0..1.
    """

    episodes: int
    psnr_db: float
    agreement: float
    false_success: float


class Referee(Protocol):
    """Holds worlds against reality."""

    def fidelity(self, world: Path, episodes: Sequence[Episode]) -> Fidelity:
        """Replay recorded episodes of equal length in the world of a folder."""
        ...

    def success(self, world: Path, policy: str, episodes: Sequence[Episode]) -> float:
        """Imagined success, 0..1, of a policy from the first frames of recorded episodes."""
        ...
