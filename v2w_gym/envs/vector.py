"""Many imagined episodes as one Gymnasium vector environment: one batched denoising per step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from v2w_gym import config as configuration
from v2w_gym.arrays import Array
from v2w_gym.data.episode import FrameArray
from v2w_gym.envs import requests, spaces
from v2w_gym.envs.actions import encoded
from v2w_gym.envs.attributes import SlotAttributes
from v2w_gym.envs.chunk import encode_chunk, play
from v2w_gym.envs.imagination import Imagination
from v2w_gym.envs.infos import entries, infos_of, mask_of
from v2w_gym.envs.settings import DetectorLike, Parts, Settings, StartsLike, WorldLike, gather
from v2w_gym.envs.slot import Slot
from v2w_gym.envs.snapshot import Snapshot
from v2w_gym.envs.viewer import RENDER_MODES, open_viewer
from v2w_gym.envs.world import no_starts
from v2w_gym.world_model.base import WorldModel

if TYPE_CHECKING:
    from v2w_gym.world_model.room import SlotMemory

Flags = npt.NDArray[np.bool_]
Step = tuple[spaces.Observation, Array, Array, Array, dict[str, Any]]


class WorldModelVectorEnv(SlotAttributes):
    """``num_envs`` episodes denoised together. Slot i equals a single environment with the same seed.

    Args:
        num_envs: number of slots.
        world: as in :class:`~v2w_gym.envs.single.WorldModelEnv`.
        render_mode: None, ``"rgb_array"`` or ``"human"`` (one window with all slots).
        autoreset_mode: what happens to a slot whose episode ends. ``"same_step"``: it is reset at once; its
            last frame is in ``infos["final_obs"]``, its last info in ``infos["final_info"]``.
            ``"next_step"``: the next step resets it and ignores its action. ``"disabled"``: it stands still
            at no cost, with reward 0 and its flags up, until ``reset(options={"reset_mask": mask})``.
        model: object in place of the world's model.
        detector: in place of the world's success detector: the name or YAML of a judge of clips, or an
            object, a detector or a judge; see :class:`~v2w_gym.rewards.watching.Watching`.
        starts: in place of the world's start contexts, as in the single environment.
        **settings: the fields of :class:`~v2w_gym.envs.settings.Settings`.

    Attributes:
        world: the world's ``WorldConfig``.
        envs: one view per slot with the attributes of a single environment.
        autoreset_mode: the mode as Gymnasium's enumeration.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012 - as in gymnasium's VectorEnv

    def __init__(
        self,
        num_envs: int = 1,
        world: WorldLike | Parts | None = None,
        *,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = "same_step",
        model: WorldModel | None = None,
        detector: DetectorLike | None = None,
        starts: StartsLike | None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.num_envs = num_envs
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self._settings = configuration.from_dict(Settings, settings, where=type(self).__name__)
        self._parts = gather(world, self._settings, model, detector, starts)
        self.world = self._parts.config
        if self._parts.starts is None and self.autoreset_mode is not AutoresetMode.DISABLED:
            raise ValueError(f'{no_starts(self.world.name)} with autoreset_mode="disabled"')
        self._imagination = Imagination(self._parts, self._settings, slots=num_envs)
        self.single_observation_space = spaces.observation_space(self.world, self._settings)
        self.single_action_space = self._parts.actions.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        fps = self.world.fps
        self.metadata = {**self.metadata, "render_fps": fps, "autoreset_mode": self.autoreset_mode}
        self._viewer = open_viewer(render_mode, self.world.name, fps)
        self.envs = [Slot(self, self._imagination, i) for i in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[spaces.Observation, dict[str, Any]]:
        """Begin new episodes in all slots, or in those of ``options["reset_mask"]``.

        Args:
            seed: slot i gets ``seed + i``, or ``seed[i]``; None goes on with its present generator.
            options: as in the single environment. A text or number holds for every slot; lists and arrays
                have a leading slot axis, and None in a list leaves that slot to the world. ``reset_mask``:
                which slots to reset, ``(num_envs,)`` bool.

        Returns:
            Observations with a leading slot axis, and the infos.

        Raises:
            ValueError: a seed or an option that does not fit; all episodes go on undisturbed.
        """
        given = dict(options or {})
        slots = requests.masked(given.pop("reset_mask", None), self.num_envs)
        rows = requests.split(given, self.num_envs)
        asked = [requests.parse(rows[i], self._parts) for i in slots]
        self._check_started(self._imagination.started.copy(), renewed=slots)
        self._seed(seed, slots)
        self._begin(slots, asked)
        return self._present(), infos_of(self._imagination.facts(), slots)

    def _begin(self, slots: Sequence[int], asked: Sequence[requests.Request]) -> None:
        self._imagination.reset(slots, asked, [self.envs[i].np_random for i in slots])

    def _check_started(self, started: Flags, renewed: Iterable[int] = ()) -> None:
        started[list(renewed)] = True
        if not started.all():
            raise gymnasium.error.ResetNeeded(
                f"slots {np.flatnonzero(~started).tolist()} have no episode yet; call envs.reset() first"
            )

    def step(self, actions: Any) -> Step:
        """Imagine the next frame of every running episode.

        Args:
            actions: of ``action_space``, i.e. the single environment's with a leading slot axis (a dict of
                arrays where it takes a dict); all rows are checked, those of ended episodes are ignored.

        Returns:
            Observations, rewards float64, terminated, truncated, infos; all with a leading slot axis.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset, or without autoreset when all have ended.
            ValueError: a bad action in any slot; all episodes go on undisturbed.
        """
        imagination = self._imagination
        self._check_started(imagination.started.copy())
        given = encoded(self._parts.actions, actions, (self.num_envs,), imagination.arrays)
        live, over = self._live_and_over()
        if live:
            imagination.step(live, given[live] if over else given)
        else:
            given.checked(imagination.arrays)
        if over and self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._begin(over, [requests.Request()] * len(over))
        return self._outcome(imagination.rewards(live))

    def step_chunk(self, actions: Any) -> Step:
        """Take k steps, one action after the other, and return once.

        Each slot goes through the frames, rewards and checks for its end that k single steps would give it.
        A chunk belongs to one episode: a slot that ends inside stands still for the rest of it and costs
        nothing more, and autoreset comes at the chunk's end. So with ``"same_step"`` a slot is reset after
        the chunk that it ended in, and with ``"next_step"`` the chunk after that is its reset, whose actions
        it ignores; with ``"disabled"``, a chunk is k steps in every respect.

        Args:
            actions: of ``action_space`` with an axis of steps after that of slots, e.g. ``(num_envs, k, a)``.
                All are checked before the first is taken.

        Returns:
            As ``step``, but rewards are ``(num_envs, k)``, 0.0 where a slot stood still. Observations, flags
            and the other infos are those after the last step. ``infos["chunk"]`` has the steps: ``pixels``
            ``(num_envs, k, h, w, 3)``, ``terminated``, ``truncated``, ``success_prob`` and, where the world
            can tell, ``credibility`` ``(num_envs, k)``, and ``executed`` ``(num_envs,)``, how many of its
            actions a slot took.

        Raises:
            gymnasium.error.ResetNeeded: as ``step``.
            ValueError: a bad action in any slot and step; all episodes go on undisturbed.
        """
        imagination = self._imagination
        self._check_started(imagination.started.copy())
        vectors = encode_chunk(self._parts.actions, actions, (self.num_envs,), imagination.arrays)
        live, over = self._live_and_over()
        if over and self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._begin(over, [requests.Request()] * len(over))
        rewards, steps = play(imagination, live, vectors)
        *outcome, infos = self._outcome(rewards)
        return (*outcome, {**infos, "chunk": steps})

    def _live_and_over(self) -> tuple[list[int], list[int]]:
        """Slots whose episode goes on, and those whose episode has ended."""
        ended = self._imagination.ended
        if ended.all() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise gymnasium.error.ResetNeeded(
                "every episode has ended; call envs.reset(), or envs.reset(options={'reset_mask': mask})"
            )
        return np.flatnonzero(~ended).tolist(), np.flatnonzero(ended).tolist()

    def snapshot(self, slots: Sequence[int] | None = None) -> Snapshot:
        """Episodes of the given slots, or of all, as a value; see :meth:`WorldModelEnv.snapshot`.

        Raises:
            gymnasium.error.ResetNeeded: a slot has no episode yet.
        """
        chosen = _chosen(slots, self.num_envs)
        self._check_started(self._imagination.started.copy(), renewed=set(range(self.num_envs)) - set(chosen))
        return self._imagination.snapshot(chosen)

    def restore(self, snapshot: Snapshot, slots: Sequence[int] | None = None) -> spaces.Observation:
        """Put the episodes of ``snapshot`` into the given slots, or into all; returns all observations.

        Raises:
            ValueError: of another model or number of episodes; all episodes go on undisturbed.
        """
        self._imagination.restore(_chosen(slots, self.num_envs), snapshot)
        return self._present()

    def fork(self, slot: int, n: int, noise_seeds: Sequence[int] | None = None) -> WorldModelVectorEnv:
        """A vector environment of ``n`` slots that all go on from the episode of ``slot``.

        Weights are shared, and this environment is left alone. Slots of a fork stand still when their
        episode ends (``autoreset_mode="disabled"``).

        Args:
            slot: whose episode.
            n: how many.
            noise_seeds: noise of each slot from here on; None lets all meet the noise of ``slot``, so that
                they differ by their actions alone.
        """
        return forked(self._parts, self._settings, self.snapshot([slot]), n, noise_seeds)

    def _outcome(self, rewards: Array) -> Step:
        """What a step returns; with same-step autoreset, ended slots hand in their last frame first."""
        imagination = self._imagination
        flags = [imagination.arrays.take(f.copy()) for f in (imagination.terminated, imagination.truncated)]
        ended = np.flatnonzero(imagination.ended).tolist()
        final: dict[str, Any] = {}
        if ended and self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = self._final(ended)
            self._begin(ended, [requests.Request()] * len(ended))
        infos = infos_of(imagination.facts(), range(self.num_envs))
        infos = final | infos if 0 in ended else infos | final  # Gymnasium's order is that of slots
        return self._present(), rewards, flags[0], flags[1], infos

    def _final(self, ended: Sequence[int]) -> dict[str, Any]:
        """Last observations and infos of the episodes in ``ended``."""
        last = entries([None] * self.num_envs)
        for i in ended:
            frame = self._imagination.arrays.copy(self._imagination.frames[i])
            last[i] = spaces.observe(frame, self._settings)
        infos, mask = infos_of(self._imagination.facts(), ended), mask_of(ended, self.num_envs)
        return {"final_obs": last, "_final_obs": mask, "final_info": infos, "_final_info": mask.copy()}

    def memory_per_slot(self) -> SlotMemory:
        """Bytes that each further slot takes; see ``Vid2World.memory_per_slot``.

        Raises:
            TypeError: a world model that does not know.
        """
        model = self._parts.model
        if not hasattr(model, "memory_per_slot"):
            raise TypeError(f"a {type(model).__name__} does not say what memory it takes; it needs a method")
        found: SlotMemory = model.memory_per_slot()
        return found

    def _present(self) -> spaces.Observation:
        if self._viewer is not None:
            self._viewer.show(spaces.shown(self._imagination.frames, self.world, self._settings))
        return spaces.observe(self._imagination.arrays.copy(self._imagination.frames), self._settings)

    def render(self) -> tuple[FrameArray, ...] | None:
        """The newest frame of each slot with ``render_mode="rgb_array"``; None otherwise."""
        self._check_started(self._imagination.started.copy())
        if self.render_mode != "rgb_array":
            return None
        return tuple(spaces.shown(self._imagination.frames, self.world, self._settings))

    def close_extras(self, **_: Any) -> None:
        """Close the window, if any."""
        if self._viewer is not None:
            self._viewer.close()


def forked(
    parts: Parts, settings: Settings, snapshot: Snapshot, n: int, noise_seeds: Sequence[int] | None
) -> WorldModelVectorEnv:
    """``n`` slots that go on from the one episode of ``snapshot``."""
    rows = snapshot[[0] * n]
    rows = rows if noise_seeds is None else rows.with_noise(noise_seeds)
    same = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    envs = WorldModelVectorEnv(n, parts, autoreset_mode="disabled", **same)
    envs.restore(rows)
    return envs


def _chosen(slots: Sequence[int] | None, count: int) -> list[int]:
    """Slots by number; all without any."""
    chosen = list(range(count)) if slots is None else [int(i) for i in slots]
    if len(set(chosen)) < len(chosen) or not all(0 <= i < count for i in chosen):
        raise ValueError(f"slots must be distinct numbers in 0..{count - 1}, got {chosen}")
    return chosen


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    known = {m.name.lower(): m for m in AutoresetMode} | {m.value: m for m in AutoresetMode}
    if mode not in known:
        raise ValueError(f'autoreset_mode must be "same_step", "next_step" or "disabled", got {mode!r}')
    return known[mode]
