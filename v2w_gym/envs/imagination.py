"""Imagined episodes in slots: the one place where model, detector, starts and the rules of an episode meet.

The single environment is one slot, the vector environment many. Every method computes first and commits last,
so an error leaves all episodes as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import ActionArray
from v2w_gym.data.starts import Context
from v2w_gym.envs.requests import NOISE_SEEDS, Request
from v2w_gym.envs.settings import Parts, Settings
from v2w_gym.envs.snapshot import Episodes, Snapshot
from v2w_gym.rewards.unjudged import Unjudged


class Imagination:
    """Episodes side by side.

    Args:
        parts: the world.
        settings: reward, end of episodes, horizon.
        slots: how many episodes.

    Attributes:
        frames: ``(b, h, w, 3)`` uint8, the newest frame of each slot.
        success_prob: ``(b,)`` float64, the detector's probability for it.
        elapsed: ``(b,)`` int64, steps since the reset.
        started: ``(b,)`` bool, whether the slot was ever reset.
        terminated: ``(b,)`` bool, the episode ended by success.
        truncated: ``(b,)`` bool, the episode reached the horizon.
        tasks: instruction of each slot.
        horizon: steps after which an episode is truncated.
    """

    def __init__(self, parts: Parts, settings: Settings, slots: int) -> None:
        self._parts = parts
        self._settings = settings
        self._state: Any = None
        self._starts = [""] * slots
        self._context_length = np.zeros(slots, np.int64)
        self.frames = np.zeros((slots, *parts.config.frame_size, 3), np.uint8)
        self.success_prob = np.zeros(slots, np.float64)
        self.elapsed = np.zeros(slots, np.int64)
        self.started = np.zeros(slots, np.bool_)
        self.terminated = np.zeros(slots, np.bool_)
        self.truncated = np.zeros(slots, np.bool_)
        self.tasks = [parts.config.instructions[0]] * slots
        self.horizon = settings.steps(parts.config)

    @property
    def ended(self) -> npt.NDArray[np.bool_]:
        """``(b,)`` bool, the episode is over."""
        return self.terminated | self.truncated

    def reset(
        self, slots: Sequence[int], requests: Sequence[Request], rngs: Sequence[np.random.Generator]
    ) -> None:
        """Begin new episodes in ``slots``, each with its own request and generator.

        Noise seed and start are drawn even where the request names them: options never shift the stream.
        """
        contexts, seeds, tasks = [], [], []
        for request, rng in zip(requests, rngs, strict=True):
            seed = int(rng.integers(NOISE_SEEDS))
            start = None if self._parts.starts is None else self._parts.starts.draw(rng)
            seeds.append(seed if request.noise_seed is None else request.noise_seed)
            context = request.context or start
            assert context is not None  # else the request would have been refused
            contexts.append(context)
            tasks.append(request.task or self._parts.config.instructions[0])
        fresh = self._encode(slots, contexts, seeds)
        frames = np.stack([context.frames[-1] for context in contexts])
        self._parts.detector.reset(tasks, slots)
        success_prob = self._parts.detector.score(frames, slots)
        for group, state in fresh:
            self._commit_state(group, state)
        self._commit_frames(slots, frames, success_prob)
        for slot, context, task in zip(slots, contexts, tasks, strict=True):
            self._starts[slot], self.tasks[slot] = context.id, task
            self._context_length[slot] = len(context.frames)
        self.elapsed[slots] = 0
        self.started[slots] = True
        self.terminated[slots] = self.truncated[slots] = False

    def _encode(
        self, slots: Sequence[int], contexts: Sequence[Context], seeds: Sequence[int]
    ) -> list[tuple[list[int], Any]]:
        """States of the slots; contexts of equal length are encoded together."""
        lengths = [len(context.frames) for context in contexts]
        states = []
        for length in sorted(set(lengths)):
            rows = [i for i, n in enumerate(lengths) if n == length]
            state = self._parts.model.init(
                np.stack([contexts[i].frames for i in rows]),
                np.stack([contexts[i].actions for i in rows]),
                [seeds[i] for i in rows],
            )
            states.append(([slots[i] for i in rows], state))
        return states

    def step(self, slots: Sequence[int], actions: ActionArray) -> None:
        """Imagine the next frame of ``slots``; the other slots cost nothing.

        Args:
            slots: running episodes, in ascending order.
            actions: ``(len(slots), a)`` float32, checked and encoded by the caller.
        """
        everyone = len(slots) == len(self.started)
        state = self._parts.model.step(self._state if everyone else self._state[list(slots)], actions)
        frames = self._parts.model.decode(state.latent).cpu().numpy()
        success_prob = self._parts.detector.score(frames, slots)
        self._commit_state(slots, state)
        self._commit_frames(slots, frames, success_prob)
        self.elapsed[slots] += 1
        for slot in slots:
            self.terminated[slot] = self._settings.terminate_on_success and self._succeeded(slot)
            self.truncated[slot] = self.elapsed[slot] >= self.horizon

    def snapshot(self, slots: Sequence[int]) -> Snapshot:
        """The episodes of ``slots``, which must have begun, as a value that shares nothing with them."""
        rows = list(slots)
        return Snapshot(
            self._parts.model.hash,
            self._state[rows].clone(),
            Episodes(
                self.frames[rows],
                self.success_prob[rows],
                self.elapsed[rows],
                self._context_length[rows],
                self.terminated[rows],
                self.truncated[rows],
            ),
            tuple(self.tasks[i] for i in rows),
            tuple(self._starts[i] for i in rows),
        )

    def restore(self, slots: Sequence[int], snapshot: Snapshot) -> None:
        """Put row i of ``snapshot`` in place of the episode of ``slots[i]``.

        Raises:
            ValueError: a snapshot of another model, or of another number of episodes.
        """
        if snapshot.model_hash != self._parts.model.hash:
            raise ValueError(
                f"the snapshot belongs to the world model {snapshot.model_hash}, this environment runs "
                f"{self._parts.model.hash}; make it with the same world, weights and sampler"
            )
        if len(snapshot) != len(slots):
            raise ValueError(
                f"the snapshot holds {len(snapshot)} episodes, to be restored into {len(slots)} slots; "
                "snapshot[[0, 0, 0]] takes its first one three times"
            )
        self._parts.detector.reset(snapshot.tasks, slots)
        held = snapshot.episodes
        self._commit_state(slots, snapshot.state.to(self._parts.model.device).clone())
        self._commit_frames(slots, held.frames, held.success_prob)
        self.elapsed[slots], self._context_length[slots] = held.elapsed, held.context_length
        self.terminated[slots], self.truncated[slots] = held.terminated, held.truncated
        self.started[slots] = True
        for slot, task, start in zip(slots, snapshot.tasks, snapshot.starts, strict=True):
            self.tasks[slot], self._starts[slot] = task, start

    def _commit_state(self, slots: Sequence[int], state: Any) -> None:
        if len(slots) == len(self.started):
            self._state = state
            return
        if self._state is None:
            self._state = state[
                [0] * len(self.started)
            ]  # room for all slots; the others follow before any step
        self._state[list(slots)] = state

    def _commit_frames(
        self, slots: Sequence[int], frames: npt.NDArray[np.uint8], success_prob: npt.NDArray[np.floating[Any]]
    ) -> None:
        self.frames[slots] = frames
        self.success_prob[slots] = success_prob

    def _succeeded(self, slot: int) -> bool:
        return bool(self.success_prob[slot] >= self._parts.detector.threshold)

    def reward(self, slot: int) -> float:
        """Reward of the slot's newest frame: success as 0.0 or 1.0, or its probability."""
        return float(self.success_prob[slot] if self._settings.reward == "dense" else self._succeeded(slot))

    def info(self, slot: int) -> dict[str, Any]:
        """Facts about the slot's newest frame; the same keys after a reset and after a step, no clocks.

        ``judged``, which is False, is there only where nothing judges success, and ``preset`` only where the
        model is a stand-in.
        """
        facts: dict[str, Any] = {
            "is_success": self._succeeded(slot),
            "success_prob": float(self.success_prob[slot]),
            "task": self.tasks[slot],
            "init_state": self._starts[slot],
            "frame_index": int(self._context_length[slot] - 1 + self.elapsed[slot]),
            "elapsed_steps": int(self.elapsed[slot]),
        }
        if isinstance(self._parts.detector, Unjudged):
            facts["judged"] = False
        if self._parts.config.preset is not None:
            facts["preset"] = self._parts.config.preset
        return facts
