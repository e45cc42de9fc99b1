"""What must be alike for two episodes to be compared, and the seeds that make luck common to all policies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from v2w_gym.config import config_hash

_SEEDS = 2**31  # what environments take as a noise seed


@dataclass(frozen=True)
class Protocol:
    """The conditions of a ranking; number and batching of episodes are no part of them.

    Attributes:
        seed: of the ranking.
        success_rule: ``any``, ``last`` or ``held_K``.
        instruction: what every policy is asked to do.
        world: name of the world.
        world_version: of the world.
        horizon: actions per episode.
        threshold: probability from which a frame counts as success.
        world_model_hash: names weights and sampler.
        detector_hash: names the detector's weights.
    """

    seed: int
    success_rule: str
    instruction: str
    world: str
    world_version: int
    horizon: int
    threshold: float
    world_model_hash: str
    detector_hash: str

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits for all of the above."""
        return config_hash(self)


def episode_seeds(seed: int, starts: Sequence[str], stream: str) -> list[int]:
    """One number in 0..2^31-1 per start, a function of ``seed``, start id and ``stream`` only.

    Policies, batches and the order of episodes have no say, so all policies meet the same noise. Different
    streams keep the noise of the world and the randomness of a policy apart.
    """
    digests = (hashlib.sha256(f"{seed}/{stream}/{start}".encode()).digest() for start in starts)
    return [int.from_bytes(digest[:8], "big") % _SEEDS for digest in digests]
