"""Run policies over the same starts with the same noise, in batches, and write down each finished episode."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from v2w_gym.data.episode import Episode
from v2w_gym.envs.actions import actions_of
from v2w_gym.envs.vector import WorldModelVectorEnv
from v2w_gym.envs.world import World
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.guard import GuardedPolicy, PolicyFailure
from v2w_gym.evaluation.ledger import Ledger, Record
from v2w_gym.evaluation.protocol import Protocol, episode_seeds
from v2w_gym.evaluation.rules import succeeded

FILMED_STARTS = 4
_BAR = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} episodes [{elapsed}<{remaining}]"


@dataclass(frozen=True)
class Batch:
    """Finished episodes of one policy, side by side.

    Attributes:
        probabilities: ``(steps, b)`` float64 in 0..1, the detector's after each action; NaN where it has
            none.
        flags: ``(steps, b)`` bool, judged a success.
        frames: ``(steps + 1, k, h, w, 3)`` uint8 of the filmed slots.
        actions: ``(steps, k, a)`` float32 of the filmed slots, as the world model reads them.
    """

    probabilities: npt.NDArray[np.float64]
    flags: npt.NDArray[np.bool_]
    frames: npt.NDArray[np.uint8]
    actions: npt.NDArray[np.float32]


@dataclass
class Rollout:
    """A plan of episodes, and what has come of it.

    Attributes:
        world: where they are imagined.
        protocol: the conditions.
        starts: ids, the same for every policy.
        batch_size: most episodes that are imagined together.
        device: where the world model runs.
        sampler: preset or values of the sampler, as the environment takes them.
        ledger: where finished episodes are written, and which of them need not be run again; None keeps them
            in memory.
        films: where the frames of the first starts are kept; None keeps none.
        records: finished episodes.
        failures: policy name to what went wrong.
    """

    world: World
    protocol: Protocol
    starts: Sequence[str]
    batch_size: int
    device: str = "cpu"
    sampler: str | Mapping[str, Any] | None = None
    ledger: Ledger | None = None
    films: Films | None = None
    records: list[Record] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def run(self, policies: Mapping[str, GuardedPolicy], progress: bool) -> None:
        """Run the missing episodes of every policy; a policy that fails stops alone."""
        finished = {(r.policy, r.start_id): r for r in self.ledger.records} if self.ledger else {}
        wanted = [(name, start) for name in policies for start in self.starts]
        self.records = [finished[key] for key in wanted if key in finished]
        if self.records:
            tqdm.write(f"{len(self.records)} of {len(wanted)} episodes are in the ledger already", sys.stderr)
        horizon = self.protocol.horizon  # the bar counts actions, and shows them as episodes
        with tqdm(
            total=len(wanted) * horizon,
            initial=len(self.records) * horizon,
            unit_scale=1 / horizon,
            bar_format=_BAR,
            disable=not progress,
        ) as bar:
            for name, policy in policies.items():
                missing = [start for start in self.starts if (name, start) not in finished]
                bar.set_description(name)
                try:
                    self._run_policy(name, policy, missing, bar)
                except PolicyFailure as failure:
                    self.failures[name] = str(failure)
                    tqdm.write(f"policy {name!r} stopped, the others go on: {failure}", sys.stderr)
                    finished_here = sum(r.policy == name for r in self.records)
                    bar.n = len(self.records) * horizon  # the batch that was under way does not count
                    bar.total = (bar.total or 0) - (len(self.starts) - finished_here) * horizon

    def _run_policy(self, name: str, policy: GuardedPolicy, missing: Sequence[str], bar: Any) -> None:
        for starts in _batches(missing, self.batch_size):
            kept = self.starts[:FILMED_STARTS] if self.films else ()
            filmed = [i for i, start in enumerate(starts) if start in kept]
            batch = self._play(policy, starts, filmed, bar)
            self._film(name, starts, filmed, batch)  # before the ledger: a line in it implies its film
            records = [self._record(name, start, i, batch) for i, start in enumerate(starts)]
            if self.ledger:
                self.ledger.append(records)
            self.records += records

    def _play(self, policy: GuardedPolicy, starts: Sequence[str], filmed: Sequence[int], bar: Any) -> Batch:
        """Imagine one episode from each start; slot i depends on its start and on the seed alone."""
        env = WorldModelVectorEnv(  # weights are shared within the process: one per batch costs little
            len(starts),
            self.world,
            autoreset_mode="disabled",
            terminate_on_success=False,
            horizon=self.protocol.horizon,
            device=self.device,
            sampler=self.sampler,
        )
        encode = functools.partial(actions_of(self.world.config.action).encode, lead=(len(starts),))
        noise_seeds = episode_seeds(self.protocol.seed, starts, "world")
        observation, _ = env.reset(options={"start": list(starts), "noise_seed": noise_seeds})
        policy_seeds = episode_seeds(self.protocol.seed, starts, "policy")
        policy.begin([self.protocol.instruction] * len(starts), policy_seeds)
        frames, actions, probabilities, flags = [observation["pixels"][filmed]], [], [], []
        for _ in range(self.protocol.horizon):
            action, vector = policy.act(observation, encode)
            observation, _, _, _, infos = env.step(action)
            frames.append(observation["pixels"][filmed])
            actions.append(vector[filmed])
            probabilities.append(infos["success_prob"])
            flags.append(infos["is_success"])
            bar.update(len(starts))
        env.close()
        return Batch(np.stack(probabilities), np.stack(flags), np.stack(frames), np.stack(actions))

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
        )


def _batches(starts: Sequence[str], size: int) -> list[Sequence[str]]:
    """Cut into as few batches as ``size`` allows, of nearly equal length."""
    count = -(-len(starts) // size)
    return [starts[len(starts) * i // count : len(starts) * (i + 1) // count] for i in range(count)]
