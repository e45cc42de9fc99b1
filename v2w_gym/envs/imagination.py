"""Imagined episodes in slots: the one place where model, detector, starts and the rules of an episode meet.

The single environment is one slot, the vector environment many. Every method computes first and commits last,
so an error leaves all episodes as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from v2w_gym.arrays import Array, arrays_of
from v2w_gym.data.starts import Context
from v2w_gym.envs.actions import Encoded
from v2w_gym.envs.infos import entries
from v2w_gym.envs.requests import NOISE_SEEDS, Request
from v2w_gym.envs.settings import Parts, Settings
from v2w_gym.envs.snapshot import Episodes, Snapshot
from v2w_gym.rewards.base import fresh, judge, resume, seen
from v2w_gym.rewards.unjudged import Unjudged
from v2w_gym.shapes import vouched


class Imagination:
    """Episodes side by side.

    Args:
        parts: the world.
        settings: reward, end of episodes, horizon.
        slots: how many episodes.

    Attributes:
        arrays: the kind of array that results are; NumPy's for all but ``frames``, ``success_prob`` and
            ``credibility``.
        frames: ``(b, h, w, 3)`` uint8, the newest frame of each slot.
        success_prob: ``(b,)`` float, the detector's probability for it; NaN where it could not tell.
        succeeded: ``(b,)`` bool, whether that makes it a success.
        credibility: ``(b,)`` float32 in 0..1, how far it can be believed; None where the world cannot tell.
        elapsed: ``(b,)`` int64, steps since the reset.
        started: ``(b,)`` bool, whether the slot was ever reset.
        terminated: ``(b,)`` bool, the episode ended by success.
        truncated: ``(b,)`` bool, the episode reached the horizon, or what the settings do not believe.
        tasks: instruction of each slot.
        horizon: steps after which an episode is truncated.
    """

    def __init__(self, parts: Parts, settings: Settings, slots: int) -> None:
        self._parts = parts
        self._detector = fresh(parts.detector)
        self._abstains = bool(getattr(self._detector, "abstains", False))
        self._settings = settings
        self._state: Any = None
        self._lent = False  # whether a snapshot holds the same state, which must then not be written into
        self._starts = [""] * slots
        self._context_length = np.zeros(slots, np.int64)
        self.arrays = arrays_of(settings.output, parts.model)
        self.frames = self.arrays.take(np.zeros((slots, *parts.config.frame_size, 3), np.uint8))
        self.success_prob = self.arrays.take(np.zeros(slots))
        self.succeeded = np.zeros(slots, np.bool_)
        blank = self.arrays.single(np.zeros(slots, np.float32))
        self.credibility = None if parts.believer is None else blank
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
        begun = self._encode(slots, contexts, seeds)
        frames = np.stack([context.frames[-1] for context in contexts])
        believed = [self._believed(state, np.zeros(len(group), np.int64)) for group, state in begun]
        self._detector.reset(tasks, slots)
        success_prob = self.arrays.take(judge(self._detector, frames, slots))
        (succeeded,) = self.arrays.read(self._is_success(success_prob))
        for (group, state), credibility in zip(begun, believed, strict=True):
            self._commit_state(group, state, credibility)
        self._commit_frames(slots, self.arrays.take(frames), success_prob, succeeded)
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

    def step(self, slots: Sequence[int], actions: Encoded) -> None:
        """Imagine the next frame of ``slots``; the other slots cost nothing.

        Args:
            slots: running episodes, in ascending order.
            actions: one row for each.

        Raises:
            ValueError: actions that turn out to be bad.
        """
        if hasattr(self._detector, "seen"):  # it would remember a step that turns out not to be one
            actions = actions.checked(self.arrays)
        before = self._state if self._everyone(slots) else self._state[list(slots)]
        state = self._parts.model.step(before, vouched(actions.vectors))
        frames = self._parts.model.decode(state.latent)
        credibility = self._believed(state, self.elapsed[list(slots)] + 1)
        success_prob = self.arrays.take(judge(self._detector, frames, slots))
        doubtful = self._doubtful(credibility)
        valid = [] if actions.valid is None else [actions.valid]
        asked = (self._is_success(success_prob), *doubtful, *valid)
        succeeded, *others = self.arrays.read(*asked)  # the only wait for the device in a step
        if actions.again is not None and not np.all(others[len(doubtful) :]):
            return self.step(slots, Encoded(actions.again()))
        self._commit_state(slots, state, credibility)
        self._commit_frames(slots, self.arrays.take(frames), success_prob, succeeded)
        self.elapsed[slots] += 1
        if self._settings.terminate_on_success:
            self.terminated[slots] = succeeded
        self.truncated[slots] = self.elapsed[slots] >= self.horizon
        if doubtful:
            self.truncated[slots] |= others[0]

    def snapshot(self, slots: Sequence[int]) -> Snapshot:
        """The episodes of ``slots``, which must have begun, as a value that shares nothing with them."""
        rows = list(slots)
        self._lent = self._lent or self._everyone(slots)
        return Snapshot(
            self._parts.model.hash,
            self._state if self._everyone(slots) else self._state[rows],
            Episodes(
                self.frames[rows],
                self.success_prob[rows],
                self.elapsed[rows],
                self._context_length[rows],
                self.terminated[rows],
                self.truncated[rows],
                None if self.credibility is None else self.credibility[rows],
            ),
            tuple(self.tasks[i] for i in rows),
            tuple(self._starts[i] for i in rows),
            seen(self._detector, rows),
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
        held = snapshot.episodes
        success_prob = self.arrays.take(held.success_prob)
        (succeeded,) = self.arrays.read(self._is_success(success_prob))
        state = snapshot.state.to(self._parts.model.device)
        known = held.credibility
        credibility = self._believed(state, held.elapsed) if known is None else self.arrays.single(known)
        resume(self._detector, snapshot.tasks, slots, snapshot.seen, held.success_prob)
        self._commit_state(slots, state, credibility)
        self._lent = self._lent or self._everyone(slots)
        self._commit_frames(slots, self.arrays.take(held.frames), success_prob, succeeded)
        self.elapsed[slots], self._context_length[slots] = held.elapsed, held.context_length
        self.terminated[slots], self.truncated[slots] = held.terminated, held.truncated
        self.started[slots] = True
        for slot, task, start in zip(slots, snapshot.tasks, snapshot.starts, strict=True):
            self.tasks[slot], self._starts[slot] = task, start

    def _commit_state(self, slots: Sequence[int], state: Any, credibility: Array | None) -> None:
        if self.credibility is not None:
            self.credibility[self.rows(slots)] = credibility
        if self._everyone(slots):
            self._state, self._lent = state, False
            return
        if self._state is None:  # room for all slots; the others follow before any step
            self._state = state[[0] * len(self.started)]
        elif self._lent:
            self._state, self._lent = self._state.clone(), False
        self._state[list(slots)] = state

    def _everyone(self, slots: Sequence[int]) -> bool:
        return list(slots) == list(range(len(self.started)))

    def _commit_frames(
        self, slots: Sequence[int], frames: Array, success_prob: Array, succeeded: npt.NDArray[np.bool_]
    ) -> None:
        rows = self.rows(slots)
        self.frames[rows] = frames
        self.success_prob[rows] = success_prob
        self.succeeded[rows] = succeeded

    def _believed(self, state: Any, steps: npt.NDArray[np.int64]) -> Array | None:
        """Credibility of the newest frames of ``state``, the last of ``steps`` imagined ones."""
        believer = self._parts.believer
        return None if believer is None else self.arrays.single(believer.credibility(state, steps))

    def _doubtful(self, credibility: Array | None) -> list[Array]:
        """One ``(b,)`` bool, where an episode ends for want of credibility; none if that ends no episode."""
        believer = self._parts.believer
        if believer is None or credibility is None or not self._settings.stop_when_not_credible:
            return []
        return [credibility < believer.credible_from]

    def rows(self, slots: Sequence[int]) -> Any:
        """An index of ``slots``; one of all of them needs no list on the device."""
        return slice(None) if self._everyone(slots) else list(slots)

    def _is_success(self, success_prob: Array) -> Array:
        return success_prob >= float(self._detector.threshold)

    def rewards(self, slots: Sequence[int]) -> Array:
        """``(b,)`` float, 0.0 but in ``slots``: success of the newest frame, or its probability."""
        dense = self._settings.reward == "dense"
        gained = _told(self.success_prob) if dense else self._is_success(self.success_prob) * 1.0
        if len(slots) == len(self.started):
            return self.arrays.copy(gained)
        rewards, rows = self.arrays.take(np.zeros(len(self.started))), list(slots)
        rewards[rows] = gained[rows]
        return rewards

    def probabilities(self) -> Array:
        """A copy of ``success_prob`` for infos; 0.0 for NaN where these say beside it what was judged."""
        return _told(self.success_prob) if self._abstains else self.arrays.copy(self.success_prob)

    def facts(self) -> dict[str, Any]:
        """What is known of the newest frames, a row per slot: fresh arrays, always the same keys, no clocks.

        Some keys are there only where they say something: ``judged`` where nothing judges success, or not
        every frame: it is False where a probability of 0.0 says nothing; ``preset`` where the model is a
        stand-in; ``credibility`` where the world can tell; and ``truncated_because`` where
        that ends episodes.
        """
        slots = len(self.started)
        facts: dict[str, Any] = {
            "is_success": self._is_success(self.success_prob),
            "success_prob": self.probabilities(),
            "task": entries(self.tasks),
            "init_state": entries(self._starts),
            "frame_index": self._context_length - 1 + self.elapsed,
            "elapsed_steps": self.elapsed.copy(),
        }
        if isinstance(self._detector, Unjudged):
            facts["judged"] = np.zeros(slots, np.bool_)
        elif self._abstains:
            facts["judged"] = self.success_prob == self.success_prob
        if self._parts.config.preset is not None:
            facts["preset"] = entries([self._parts.config.preset] * slots)
        if self.credibility is not None:
            facts["credibility"] = self.arrays.copy(self.credibility)
        if doubtful := self.arrays.read(*self._doubtful(self.credibility)):
            why = np.where(doubtful[0], "not credible", "horizon")
            facts["truncated_because"] = entries(np.where(self.truncated, why, "").tolist())
        return facts


def _told(success_prob: Array) -> Array:
    """``(b,)`` float, a probability that is a number in any case: 0.0 for NaN. A copy."""
    judged = success_prob == success_prob  # also of tensors
    told = success_prob * 1.0
    told[~judged] = 0.0
    return told
