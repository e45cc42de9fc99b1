"""Worlds held against recorded reality: replay of its actions, and a policy that acts from its starts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from v2w_gym.data.episode import Episode
from v2w_gym.envs.actions import actions_of
from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.envs.world import World
from v2w_gym.evaluation.guard import GuardedPolicy, PolicyFailure
from v2w_gym.evaluation.protocol import episode_seeds
from v2w_gym.evaluation.replay import replay
from v2w_gym.policies.registry import resolve
from v2w_gym.training.improving.parts import Fidelity


@dataclass(frozen=True)
class Replays:
    """A referee of worlds.

    Attributes:
        seed: of the noise; all worlds meet the same.
        device: where the worlds run.
        batch_size: most episodes imagined together.
    """

    seed: int = 0
    device: str = "cpu"
    batch_size: int = 32

    def fidelity(self, world: Path, episodes: Sequence[Episode]) -> Fidelity:
        """Replay recorded episodes of equal length, open loop."""
        found = replay(
            World.open(world),
            episodes,
            seed=self.seed,
            device=self.device,
            batch_size=self.batch_size,
            progress=False,
        )
        return Fidelity(
            episodes=len(episodes),
            psnr_db=float(found.psnr.mean()),
            agreement=found.agreement,
            false_success=float((found.imagined & ~found.real).mean()),
        )

    def success(self, world: Path, policy: str, episodes: Sequence[Episode]) -> float:
        """Share of imagined successes, rule ``any``, of a policy from the first frames of episodes.

        Raises:
            ValueError: the policy raised or returned junk.
        """
        opened, guarded = World.open(world), GuardedPolicy(resolve(policy))
        parts = [episodes[i : i + self.batch_size] for i in range(0, len(episodes), self.batch_size)]
        try:
            return sum(self._successes(opened, guarded, part) for part in parts) / len(episodes)
        except PolicyFailure as error:
            raise ValueError(f"policy {policy!r} failed in imagination: {error}") from error

    def _successes(self, world: World, policy: GuardedPolicy, episodes: Sequence[Episode]) -> int:
        count, names = len(episodes), [str(episode.seed) for episode in episodes]
        env = WorldModelVectorEnv(
            count, world, autoreset_mode="disabled", terminate_on_success=False, device=self.device
        )
        encode = functools.partial(actions_of(world.config.action).encode, lead=(count,))
        none = np.zeros((count, 0, len(world.config.action.names)), dtype=np.float32)
        first = np.stack([episode.frames[:1] for episode in episodes])
        noise = episode_seeds(self.seed, names, "world")
        observation, _ = env.reset(options={"frames": first, "actions": none, "noise_seed": noise})
        policy.begin([world.config.instructions[0]] * count, episode_seeds(self.seed, names, "policy"))
        won = np.zeros(count, dtype=bool)
        for _ in range(world.config.horizon):
            action, _ = policy.act(observation, encode)
            observation, _, _, _, infos = env.step(action)
            won |= np.asarray(infos["is_success"], dtype=bool)
        env.close()
        return int(won.sum())
