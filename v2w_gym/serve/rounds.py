"""The device's side of a server: many sessions' requests, and one batch of the imagination for their steps.

Everything here runs on one thread, in rounds. In a round every new request is checked by itself; then resets
are encoded together, and all sessions that have a step to take take one together. A chunk of k steps takes
part in k rounds, so it keeps nobody waiting for longer than a step does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from v2w_gym.envs import requests, spaces
from v2w_gym.envs.actions import Encoded, encoded
from v2w_gym.envs.chunk import encode_chunk
from v2w_gym.envs.imagination import Imagination
from v2w_gym.envs.infos import info_of
from v2w_gym.envs.protocol import MOST_CHUNK
from v2w_gym.envs.settings import Parts, Settings
from v2w_gym.serve.jobs import Job
from v2w_gym.serve.sessions import Session
from v2w_gym.serve.snapshots import from_bytes, size_of, to_bytes

MOST_CONTEXT = 64
"""Frames that a client may begin an episode from; more would keep the others waiting."""


class Rounds:
    """Runs jobs, at most one of each session at a time.

    Args:
        parts: the world; its model is loaded here.
        settings: reward, end of episodes, horizon; results are arrays.
        slots: size of the batch.

    Attributes:
        horizon: steps after which an episode is truncated.
        state_bytes: about what the snapshot of an episode takes.
    """

    def __init__(self, parts: Parts, settings: Settings, slots: int) -> None:
        self._parts, self._settings = parts, settings
        self._imagination = Imagination(parts, settings, slots)
        frame = np.zeros((1, 1, *parts.config.frame_size, 3), np.uint8)
        none = np.zeros((1, 0, parts.model.action_dim), np.float32)
        self._like = parts.model.init(frame, none, [0])
        self.horizon = self._imagination.horizon
        self.state_bytes = size_of(self._like) + frame.nbytes
        self._alone: dict[str, Callable[[Job], dict[str, Any]]] = {
            "snapshot": self._snapshot,
            "restore": self._restore,
            "render": self._render,
        }

    def perform(self, jobs: Sequence[Job]) -> None:
        """One round. Jobs that are done afterwards have an answer. Never raises for what a job asks."""
        for job in jobs:
            if job.fresh:
                _guarded(self._begin, job)
        resets = [job for job in jobs if job.to_reset]
        _together(self._reset, resets)
        steps = sorted((job for job in jobs if job.to_step), key=lambda job: job.session.slot)
        _together(self._step, steps)
        facts = self._imagination.facts() if resets or steps else {}
        for job in (*resets, *steps):
            if job.answer is None:
                _guarded(lambda job: self._tell(job, facts), job)

    def _begin(self, job: Job) -> None:
        """Check the job, or do it at once where it needs no company."""
        if job.op == "reset":
            self._check_reset(job)
        elif job.op in ("step", "step_chunk"):
            self._check_steps(job)
        else:
            job.answer = self._alone[job.op](job)

    def _check_reset(self, job: Job) -> None:
        options, seed = job.fields.get("options"), job.fields.get("seed")
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"reset options must be a mapping, got {type(options).__name__}")
        frames: Any = (options or {}).get("frames")
        if np.ndim(frames) == 4 and len(frames) > MOST_CONTEXT:
            raise ValueError(
                f'reset option "frames" has {len(frames)} frames, a server takes {MOST_CONTEXT} at most: '
                "give the last ones, and the actions between them"
            )
        if isinstance(seed, bool) or not (seed is None or isinstance(seed, int | np.integer)):
            raise ValueError(f"a seed must be an integer, got {seed!r:.40}")
        request = requests.parse(options, self._parts)
        renewed = seed is not None or job.session.rng is None
        job.rng = seeding.np_random(None if seed is None else int(seed))[0] if renewed else job.session.rng
        job.request = request

    def _check_steps(self, job: Job) -> None:
        session, arrays = job.session, self._imagination.arrays
        if not session.begun:
            raise gymnasium.error.ResetNeeded("there is no episode yet; call env.reset() before stepping")
        if not session.running:
            raise gymnasium.error.ResetNeeded("the episode has ended; call env.reset() to begin another")
        if job.op == "step":
            job.vectors = encoded(self._parts.actions, job.fields.get("action"), (), arrays).vectors[None]
            return
        vectors = encode_chunk(self._parts.actions, job.fields.get("actions"), (), arrays)
        if len(vectors) > MOST_CHUNK:
            raise ValueError(f"a server takes chunks of at most {MOST_CHUNK} actions, got {len(vectors)}")
        job.vectors = vectors

    def _reset(self, jobs: Sequence[Job]) -> None:
        asked = [job.request for job in jobs if job.request is not None]
        rngs = [copy.deepcopy(job.rng) for job in jobs if job.rng is not None]  # a failed try draws nothing
        self._imagination.reset([job.session.slot for job in jobs], asked, rngs)
        for job, rng in zip(jobs, rngs, strict=True):
            job.session.rng, job.session.begun, job.session.running = rng, True, True

    def _step(self, jobs: Sequence[Job]) -> None:
        slots = [job.session.slot for job in jobs]
        imagination = self._imagination
        imagination.step(slots, Encoded(np.stack([job.vector for job in jobs])))
        rewards, probabilities = imagination.rewards(slots), imagination.probabilities()
        for job, slot in zip(jobs, slots, strict=True):
            job.session.running = not imagination.ended[slot]
            step = {
                "reward": rewards[slot],
                "pixels": imagination.frames[slot].copy(),
                "terminated": imagination.terminated[slot],
                "truncated": imagination.truncated[slot],
                "success_prob": probabilities[slot],
            }
            if imagination.credibility is not None:
                step["credibility"] = imagination.credibility[slot]
            job.played.append(step)

    def _tell(self, job: Job, facts: Mapping[str, Any]) -> None:
        """Answer a reset that has come about, or steps that have all been taken."""
        seen = self._seen(job.session, facts)
        if job.vectors is None:
            job.answer = seen
        elif len(job.played) == len(job.vectors) or not job.session.running:
            job.answer = {**seen, **job.outcome()}

    def _seen(self, session: Session, facts: Mapping[str, Any]) -> dict[str, Any]:
        pixels = self._imagination.frames[session.slot].copy()
        return {"pixels": pixels, "info": info_of(facts, session.slot)}

    def _snapshot(self, job: Job) -> dict[str, Any]:
        if not job.session.begun:
            raise gymnasium.error.ResetNeeded("there is no episode yet; call env.reset() first")
        return {"snapshot": to_bytes(self._imagination.snapshot([job.session.slot]))}

    def _restore(self, job: Job) -> dict[str, Any]:
        slot, size = job.session.slot, self._parts.config.frame_size
        self._imagination.restore([slot], from_bytes(job.fields.get("snapshot"), self._like, size))
        job.session.begun, job.session.running = True, not self._imagination.ended[slot]
        return self._seen(job.session, self._imagination.facts())

    def _render(self, job: Job) -> dict[str, Any]:
        if not job.session.begun:
            raise gymnasium.error.ResetNeeded("there is no frame yet; call env.reset() before env.render()")
        frame = self._imagination.frames[job.session.slot]
        return {"frame": spaces.shown(frame, self._parts.config, self._settings)}


def _guarded(work: Callable[[Job], None], job: Job) -> None:
    try:
        work(job)
    except Exception as error:  # whatever it is, it concerns this session alone
        job.answer = error


def _together(work: Callable[[Sequence[Job]], None], jobs: Sequence[Job]) -> None:
    """Do the jobs as one batch; if that fails, one by one, so that whoever is at fault fails alone.

    ``work`` leaves everything as it was if it raises.
    """
    try:
        if jobs:
            work(jobs)
    except Exception as error:
        if len(jobs) == 1:
            jobs[0].answer = error
            return
        for job in jobs:
            _together(work, [job])
