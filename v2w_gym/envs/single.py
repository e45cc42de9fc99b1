"""One imagined episode as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium

from v2w_gym import config as configuration
from v2w_gym.arrays import Array
from v2w_gym.data.episode import FrameArray
from v2w_gym.envs import requests, spaces
from v2w_gym.envs.actions import encoded
from v2w_gym.envs.chunk import encode_chunk, play
from v2w_gym.envs.facts import EpisodeFacts
from v2w_gym.envs.imagination import Imagination
from v2w_gym.envs.infos import info_of
from v2w_gym.envs.settings import DetectorLike, Settings, StartsLike, WorldLike, gather
from v2w_gym.envs.snapshot import Snapshot
from v2w_gym.envs.vector import WorldModelVectorEnv, forked
from v2w_gym.envs.viewer import RENDER_MODES, open_viewer
from v2w_gym.world_model.base import WorldModel


class WorldModelEnv(EpisodeFacts, gymnasium.Env[spaces.Observation, Any]):
    """A world model with a success detector; ``step(action)`` imagines the next frame.

    Args:
        world: registered id, folder, hub id ``owner/name``, opened ``World``, or a ``WorldConfig`` with all
            three objects.
        render_mode: None, ``"rgb_array"`` or ``"human"``.
        model: object in place of the world's model. Give objects to this constructor only: ``gymnasium.make``
            copies its keywords whenever a wrapper's ``spec`` is read.
        detector: in place of the world's success detector: the name or YAML of a judge of clips, or an
            object, a detector or a judge; see :class:`~v2w_gym.rewards.watching.Watching`.
        starts: in place of the world's start contexts: an object, or an image, a clip (``.mp4``, ``.npz``), a
            folder of either, or an array; see :func:`~v2w_gym.data.outside.starts_from`.
        **settings: the fields of :class:`~v2w_gym.envs.settings.Settings`.

    Attributes:
        world: the world's ``WorldConfig``.

    Raises:
        FileNotFoundError: no such world, or one of its files is missing.
        ValueError: an unknown keyword or value, or a damaged file.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012 - as in gymnasium.Env

    def __init__(
        self,
        world: WorldLike | None = None,
        *,
        render_mode: str | None = None,
        model: WorldModel | None = None,
        detector: DetectorLike | None = None,
        starts: StartsLike | None = None,
        **settings: Any,
    ) -> None:
        self._settings = configuration.from_dict(Settings, settings, where=type(self).__name__)
        self._parts = gather(world, self._settings, model, detector, starts)
        self.world = self._parts.config
        self._imagination = Imagination(self._parts, self._settings, slots=1)
        self.observation_space = spaces.observation_space(self.world, self._settings)
        self.action_space = self._parts.actions.space
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self.world.fps}
        self._viewer = open_viewer(render_mode, self.world.name, self.world.fps)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[spaces.Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: fixes everything random: the start and the episode's noise. None goes on with the generator.
            options: ``start`` (an id), or ``frames`` ``(f, h, w, 3)`` uint8 with ``actions`` ``(f-1, a)``;
                ``task`` (one of the world's instructions); ``noise_seed`` (common random numbers). Actions
                are vectors that the model reads, as recordings hold them; frames may have any size where the
                world has a framing.

        Returns:
            The last context frame, and the info.

        Raises:
            ValueError: an option that does not fit; the running episode goes on undisturbed.
        """
        request = requests.parse(options, self._parts)
        super().reset(seed=seed)
        self._imagination.reset([0], [request], [self.np_random])
        return self._present(), self._info()

    def step(self, action: Any) -> tuple[spaces.Observation, float, bool, bool, dict[str, Any]]:
        """Imagine the next frame.

        Args:
            action: of ``action_space``: for most worlds ``(a,)`` numbers within its box; a keyboard and mouse
                world takes a dict, or a recorded vector of 51 components.

        Returns:
            Observation, reward, terminated (success), truncated (horizon, or by option not credible), info.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset, or after the episode ended.
            ValueError: a bad action; the episode goes on undisturbed.
        """
        imagination = self._imagination
        self._check_running()
        imagination.step([0], encoded(self._parts.actions, action, (), imagination.arrays)[None])
        flags = bool(imagination.terminated[0]), bool(imagination.truncated[0])
        return self._present(), float(imagination.rewards([0])[0]), *flags, self._info()

    def step_chunk(self, actions: Any) -> tuple[spaces.Observation, Array, bool, bool, dict[str, Any]]:
        """Take k steps, one action after the other, until the episode ends; the other actions are ignored.

        Args:
            actions: of ``action_space`` with an axis of steps in front, e.g. ``(k, a)``. All are checked
                before the first is taken.

        Returns:
            As ``step``, but rewards are ``(k,)``, 0.0 after the end. Observation, flags and the other infos
            are those after the last step. ``info["chunk"]`` has the steps: ``pixels`` ``(k, h, w, 3)``,
            ``terminated``, ``truncated``, ``success_prob`` and, where the world can tell, ``credibility``
            ``(k,)``, which after the end stay as they were, and ``executed``, how many actions were taken.

        Raises:
            gymnasium.error.ResetNeeded: as ``step``.
            ValueError: a bad action; the episode goes on undisturbed.
        """
        imagination = self._imagination
        self._check_running()
        vectors = encode_chunk(self._parts.actions, actions, (), imagination.arrays)
        rewards, steps = play(imagination, [0], vectors[None])
        chunk = {key: values[0] for key, values in steps.items()}
        info = {**self._info(), "chunk": {**chunk, "executed": int(chunk["executed"])}}
        flags = bool(imagination.terminated[0]), bool(imagination.truncated[0])
        return self._present(), rewards[0], *flags, info

    def _check_running(self) -> None:
        if not self._imagination.started[0]:
            raise gymnasium.error.ResetNeeded("there is no episode yet; call env.reset() before stepping")
        if self._imagination.ended[0]:
            raise gymnasium.error.ResetNeeded("the episode has ended; call env.reset() to begin another")

    def _info(self) -> dict[str, Any]:
        return info_of(self._imagination.facts(), 0)

    def snapshot(self) -> Snapshot:
        """The running episode as a value: keep it, ``restore`` it, ``save`` it, ``load`` it elsewhere.

        The generator that draws starts is not part of it: a later reset draws as if nothing had happened.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
        """
        if not self._imagination.started[0]:
            raise gymnasium.error.ResetNeeded("there is no episode yet; call env.reset() first")
        return self._imagination.snapshot([0])

    def restore(self, snapshot: Snapshot) -> tuple[spaces.Observation, dict[str, Any]]:
        """Go back to ``snapshot``; the next steps are bit for bit those that followed it.

        Returns:
            Its observation and info.

        Raises:
            ValueError: of another model, or of several episodes; the running episode goes on undisturbed.
        """
        self._imagination.restore([0], snapshot)
        return self._present(), self._info()

    def fork(self, n: int, noise_seeds: Sequence[int] | None = None) -> WorldModelVectorEnv:
        """``n`` slots that all go on from here; see :meth:`WorldModelVectorEnv.fork`."""
        return forked(self._parts, self._settings, self.snapshot(), n, noise_seeds)

    def _present(self) -> spaces.Observation:
        if self._viewer is not None:
            self._viewer.show(spaces.shown(self._imagination.frames, self.world, self._settings))
        frame = self._imagination.arrays.copy(self._imagination.frames[0])
        return spaces.observe(frame, self._settings)

    def render(self) -> FrameArray | None:
        """The newest frame ``(h, w, 3)`` uint8 with ``render_mode="rgb_array"``; None otherwise.

        Without its black bars where the environment was made with ``unpadded=True``.
        """
        if not self._imagination.started[0]:
            raise gymnasium.error.ResetNeeded("there is no frame yet; call env.reset() before env.render()")
        if self.render_mode != "rgb_array":
            return None
        return spaces.shown(self._imagination.frames[0], self.world, self._settings)

    def close(self) -> None:
        """Close the window, if any; calling it twice is harmless."""
        if self._viewer is not None:
            self._viewer.close()
