"""Imagine episodes of a policy from given starts, all policies with the same noise."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import Episode
from v2w_gym.envs.actions import actions_of
from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.envs.world import World
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.guard import GuardedPolicy
from v2w_gym.evaluation.judging import judged
from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.protocol import Protocol, episode_seeds
from v2w_gym.evaluation.rules import succeeded
from v2w_gym.rewards.judge import Clip, ClipJudge, judgements
from v2w_gym.rewards.unjudged import Unjudged

FILMED_STARTS = 4


@dataclass(frozen=True)
class Batch:
    """Finished episodes of one policy, side by side.

    Attributes:
        probabilities: ``(steps, b)`` float64 in 0..1, the detector's after each action; NaN where it has
            none.
        flags: ``(steps, b)`` bool, judged a success.
        frames: ``(steps + 1, k, h, w, 3)`` uint8 of the filmed slots.
        actions: ``(steps, k, a)`` float32 of the filmed slots, as the world model reads them.
        credibility: ``(steps, b)`` float32 in 0..1; None where the world cannot tell.
    """

    probabilities: npt.NDArray[np.float64]
    flags: npt.NDArray[np.bool_]
    frames: npt.NDArray[np.uint8]
    actions: npt.NDArray[np.float32]
    credibility: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Rollout:
    """Imagines episodes of a policy, side by side, and says what became of each.

    Attributes:
        world: where they are imagined.
        protocol: the conditions.
        manifest: hash of the run's manifest, written into every record.
        device: where the world model runs.
        sampler: preset or values of the sampler, as the environment takes them.
        films: where frames are kept; None keeps none.
        filmed: starts whose frames are kept.
        judge: of whole clips, in place of the world's success detector.
    """

    world: World
    protocol: Protocol
    manifest: str
    device: str = "cpu"
    sampler: str | Mapping[str, Any] | None = None
    films: Films | None = None
    filmed: Sequence[str] = ()
    judge: ClipJudge | None = None

    def play(
        self, name: str, policy: GuardedPolicy, starts: Sequence[str], tick: Callable[[int], Any]
    ) -> list[Record]:
        """One episode from each of ``starts``; frames are on the disk before the records are returned.

        Args:
            name: of the policy.
            policy: the policy.
            starts: ids.
            tick: told after each step how many actions were taken in it.

        Raises:
            PolicyFailure: the policy raised or returned junk.
        """
        kept = [i for i, start in enumerate(starts) if self.judge or (self.films and start in self.filmed)]
        batch = self._imagine(policy, starts, kept, tick)
        if self.films is not None:
            self._film(name, starts, kept, batch)  # before the ledger: a line in it implies its film
        records = [self._record(name, start, i, batch) for i, start in enumerate(starts)]
        return records if self.judge is None else self._judged(self.judge, records, batch)

    def _imagine(
        self, policy: GuardedPolicy, starts: Sequence[str], filmed: Sequence[int], tick: Callable[[int], Any]
    ) -> Batch:
        """Imagine one episode from each start; slot i depends on its start and on the seed alone."""
        env = WorldModelVectorEnv(  # weights are shared within the process: one per batch costs little
            len(starts),
            self.world,
            autoreset_mode="disabled",
            terminate_on_success=False,
            horizon=self.protocol.horizon,
            device=self.device,
            sampler=self.sampler,
            detector=None if self.judge is None else Unjudged(),
        )
        encode = functools.partial(actions_of(self.world.config.action).encode, lead=(len(starts),))
        noise_seeds = episode_seeds(self.protocol.seed, starts, "world")
        observation, _ = env.reset(options={"start": list(starts), "noise_seed": noise_seeds})
        policy_seeds = episode_seeds(self.protocol.seed, starts, "policy")
        policy.begin([self.protocol.instruction] * len(starts), policy_seeds)
        frames, actions, probabilities, flags = [observation["pixels"][filmed]], [], [], []
        credibility = []
        for _ in range(self.protocol.horizon):
            action, vector = policy.act(observation, encode)
            observation, _, _, _, infos = env.step(action)
            frames.append(observation["pixels"][filmed])
            actions.append(vector[filmed])
            probabilities.append(np.where(infos.get("judged", True), infos["success_prob"], np.nan))
            flags.append(infos["is_success"])
            if "credibility" in infos:
                credibility.append(infos["credibility"])
            tick(len(starts))
        env.close()
        return Batch(
            np.stack(probabilities),
            np.stack(flags),
            np.stack(frames),
            np.stack(actions),
            np.stack(credibility) if credibility else None,
        )

    def _film(self, name: str, starts: Sequence[str], filmed: Sequence[int], batch: Batch) -> None:
        for k, i in enumerate(filmed):
            episode = Episode(
                frames=batch.frames[:, k],
                actions=batch.actions[:, k],
                success=np.concatenate([[False], batch.flags[:, i]]),
                task=self.protocol.instruction,
                behaviour=name,
                seed=episode_seeds(self.protocol.seed, starts[i : i + 1], "world")[0],
            )
            assert self.films is not None  # else nothing is filmed
            self.films.save(name, starts[i], episode)

    def _judged(self, judge: ClipJudge, records: Sequence[Record], batch: Batch) -> list[Record]:
        """The records with the verdicts of a judge that sees every clip from its start to its end."""
        clips = [
            Clip(batch.frames[:, i], record.instruction, self.world.config.fps)
            for i, record in enumerate(records)
        ]
        unasked = [replace(record, probabilities=(), reason=None) for record in records]
        found = judgements(judge, clips)
        return [judged(r, one, self.protocol.threshold) for r, one in zip(unasked, found, strict=True)]

    def _record(self, name: str, start: str, slot: int, batch: Batch) -> Record:
        probabilities, protocol = batch.probabilities[:, slot], self.protocol
        scorable = bool(np.isfinite(probabilities).all())
        success = scorable and succeeded(batch.flags[:, slot], protocol.success_rule)
        return Record(
            policy=name,
            instruction=protocol.instruction,
            start_id=start,
            seed=protocol.seed,
            noise_seed=episode_seeds(protocol.seed, [start], "world")[0],
            verdict="unscorable" if not scorable else "success" if success else "failure",
            probability=round(float(probabilities.max()), 4) if scorable else None,
            probabilities=tuple(round(float(p), 4) if np.isfinite(p) else None for p in probabilities),
            steps=len(probabilities),
            success_rule=protocol.success_rule,
            world_model_hash=protocol.world_model_hash,
            detector_hash=protocol.detector_hash,
            config_hash=protocol.hash,
            reason=None if scorable else "the detector gave no probability for some frames",
            credibility=_mean(batch.credibility, slot),
            manifest=self.manifest,
        )


def _mean(credibility: npt.NDArray[np.float32] | None, slot: int) -> float | None:
    """Credibility of an episode; None where the world cannot tell for every step."""
    if credibility is None or not np.isfinite(credibility[:, slot]).all():
        return None
    return round(float(credibility[:, slot].mean()), 4)
