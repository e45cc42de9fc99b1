"""A world on another machine, or in another process, as a Gymnasium environment; imports no torch.

::

    v2w serve --world Vid2World-DrawerClose-v0                          # there
    gym.make("v2w_gym:Vid2World-Remote-v0", url="ws://127.0.0.1:8765")  # here
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
import numpy.typing as npt

from v2w_gym.data.episode import FrameArray
from v2w_gym.envs.connection import Connection, ServerFullError, ServerGoneError
from v2w_gym.envs.protocol import DEFAULT_PORT, space_of
from v2w_gym.envs.viewer import RENDER_MODES, open_viewer

__all__ = ["RemoteEnv", "ServerFullError", "ServerGoneError"]

Step = tuple[Any, float, bool, bool, dict[str, Any]]


class RemoteEnv(gymnasium.Env[Any, Any]):
    """A session on a server of environments: one slot of its batch.

    It is what :class:`~v2w_gym.envs.single.WorldModelEnv` is, but that the world, its reward and its rules
    are the server's, that ``snapshot`` gives bytes, and that the generator that draws starts lives on the
    server: reset with a seed after a reconnection.

    Args:
        url: ``ws://host:port``. A token is taken from the environment variable ``V2W_SERVE_TOKEN``.
        render_mode: None, ``"rgb_array"`` or ``"human"``.
        obs_type: ``"dict"`` observes ``{"pixels": image}``, ``"pixels"`` the bare image, uint8 ``(h, w, 3)``.
        timeout_s: how long an answer may take before the server counts as gone.

    Attributes:
        server: what the server says of itself: ``world``, ``model``, ``settings``, ``limits``.

    Raises:
        ServerGoneError: nobody answers there.
        ServerFullError: every slot is taken.
        PermissionError: the server wants another token.
        ValueError: a bad argument, or a server of another kind or version.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012 - as in gymnasium.Env

    def __init__(
        self,
        url: str = f"ws://127.0.0.1:{DEFAULT_PORT}",
        *,
        render_mode: str | None = None,
        obs_type: Literal["dict", "pixels"] = "dict",
        timeout_s: float = 120.0,
    ) -> None:
        if obs_type not in ("dict", "pixels"):
            raise ValueError(f'obs_type must be "dict" or "pixels", got {obs_type!r}')
        if not 0 < timeout_s < threading.TIMEOUT_MAX:
            raise ValueError(f"timeout_s must be a number of seconds above 0, got {timeout_s!r}")
        self._url, self._obs_type, self._timeout_s = url, obs_type, timeout_s
        self._connection = Connection(url, timeout_s)
        try:
            self._describe(render_mode)
        except BaseException:
            self._connection.close()  # else the slot stays taken
            raise

    def _describe(self, render_mode: str | None) -> None:
        """Spaces, metadata and window, as the server's greeting has them."""
        self.server: Mapping[str, Any] = self._connection.greeting
        world = self.server["world"]
        image = gymnasium.spaces.Box(0, 255, (*self.server["frame_size"], 3), np.uint8)
        self.observation_space = image
        if self._obs_type == "dict":
            self.observation_space = gymnasium.spaces.Dict({"pixels": image})
        self.action_space = space_of(self.server["action_space"])
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": world["fps"]}
        self._viewer = open_viewer(render_mode, world["name"], world["fps"])
        self._task: str = world["instructions"][0]

    @property
    def task(self) -> str:
        """Instruction of the episode, or the world's first before any reset."""
        return self._task

    @property
    def task_description(self) -> str:
        """The same text, under the name that LeRobot asks for."""
        return self._task

    @property
    def _max_episode_steps(self) -> int:
        return int(self.server["settings"]["horizon"])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; arguments, results and errors are those of ``WorldModelEnv.reset``.

        Raises:
            ServerGoneError: the session is lost.
        """
        answer = self._connection.ask("reset", seed=seed, options=options)
        super().reset(seed=seed)
        return self._present(answer), self._info(answer)

    def step(self, action: Any) -> Step:
        """Imagine the next frame; results and errors are those of ``WorldModelEnv.step``.

        Raises:
            ServerGoneError: the session is lost.
        """
        answer = self._connection.ask("step", action=action)
        flags = answer["terminated"], answer["truncated"]
        return self._present(answer), answer["reward"], *flags, self._info(answer)

    def step_chunk(self, actions: Any) -> tuple[Any, npt.NDArray[np.float64], bool, bool, dict[str, Any]]:
        """Several steps in one request, at most 256; see ``WorldModelEnv.step_chunk``.

        Raises:
            ServerGoneError: the session is lost.
        """
        answer = self._connection.ask("step_chunk", actions=actions)
        flags = answer["terminated"], answer["truncated"]
        info = {**self._info(answer), "chunk": answer["chunk"]}
        return self._present(answer), answer["reward"], *flags, info

    def snapshot(self) -> bytes:
        """The running episode as the bytes of a snapshot's file.

        ``restore`` takes them here, in any session of this server, and on another server of the same world.
        Written to a file, ``v2w_gym.Snapshot.load`` reads them.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
            ServerGoneError: the session is lost.
        """
        kept: bytes = self._connection.ask("snapshot")["snapshot"]
        return kept

    def restore(self, snapshot: bytes) -> tuple[Any, dict[str, Any]]:
        """Go back to ``snapshot``, or on from it in a new session.

        Returns:
            Its observation and info.

        Raises:
            ValueError: bytes that are no snapshot, or one of another model; the episode goes on undisturbed.
            ServerGoneError: the session is lost.
        """
        answer = self._connection.ask("restore", snapshot=snapshot)
        return self._present(answer), self._info(answer)

    def reconnect(self) -> None:
        """Open a new session, e.g. once a server that died was started again; then ``restore`` or ``reset``.

        Raises:
            ValueError: there is another world now, or other rules of rewards and ends.
            ServerGoneError: nobody answers.
        """
        self._connection.close()
        fresh = Connection(self._url, self._timeout_s)
        if any(fresh.greeting[fact] != self.server[fact] for fact in ("model", "world", "settings")):
            fresh.close()
            now, before = (
                f"{g['world']['name']!r} ({g['model']}) with {dict(g['settings'])}"
                for g in (fresh.greeting, self.server)
            )
            raise ValueError(
                f"{self._url} serves the world {now} now, no longer {before}; make a new environment"
            )
        self._connection, self.server = fresh, fresh.greeting

    def render(self) -> FrameArray | None:
        """The newest frame ``(h, w, 3)`` uint8 with ``render_mode="rgb_array"``; None otherwise."""
        frame: FrameArray = self._connection.ask("render")["frame"]
        return frame if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Give the slot back and close the window, if any; calling it twice is harmless."""
        self._connection.close()
        if self._viewer is not None:
            self._viewer.close()

    def _info(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        info: dict[str, Any] = answer["info"]
        self._task = info["task"]
        return info

    def _present(self, answer: Mapping[str, Any]) -> Any:
        pixels = answer["pixels"]
        if self._viewer is not None:
            self._viewer.show(pixels[None])
        return pixels if self._obs_type == "pixels" else {"pixels": pixels}
