"""Environments as a server: every client has a session, every session a slot of one batch.

``docs/serve.md`` says how it is used, ``envs/protocol.py`` what is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from v2w_gym.config import to_dict
from v2w_gym.envs.protocol import DEFAULT_PORT, PROTOCOL, VERSION, plain_space
from v2w_gym.envs.settings import Parts, Settings, WorldLike, gather
from v2w_gym.envs.world import WorldConfig
from v2w_gym.serve.access import address, admitted, token_for
from v2w_gym.serve.batching import Batcher
from v2w_gym.serve.conversation import Conversation, House
from v2w_gym.serve.rounds import Rounds
from v2w_gym.serve.sessions import Sessions
from v2w_gym.wire.arrays import pack
from v2w_gym.wire.structure import Limits

_SPARE = 64  # connections beyond the slots, so that those who come too many are told so
_CONTEXT_BYTES = 8 * 2**20  # for frames that a client begins from
_PONG_S = 60.0  # a client that has vanished says nothing; one on a busy machine may take its time


@dataclass(frozen=True)
class ServeConfig:
    """How a server listens.

    Attributes:
        host: of this machine; one that others can reach needs a token.
        port: 0 takes any free one.
        slots: sessions at the same time.
        wait_ms: how long a step waits for those of other sessions, unless all have asked.
        idle_s: a session that asks nothing for so long is closed.
        send_s: a client that takes so long to read an answer is cut off.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    slots: int = 64
    wait_ms: float = 5.0
    idle_s: float = 600.0
    send_s: float = 30.0

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"slots must be at least 1, got {self.slots}")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must lie in 0..65535, got {self.port}")
        if not (self.wait_ms >= 0 and self.idle_s > 0 and self.send_s > 0):
            raise ValueError(
                "wait_ms must not be negative, idle_s and send_s must be positive, "
                f"got {self.wait_ms}, {self.idle_s}, {self.send_s}"
            )


class EnvironmentServer:
    """Serves one world.

    Args:
        world: registered id, folder, hub id or opened world; it is loaded here.
        config: how to listen.
        settings: keyword arguments of environments, ``device`` among them; they hold for all sessions.

    Raises:
        FileNotFoundError: no such world.
        ValueError: a host that needs a token, or settings that do not fit, or are each client's own.
    """

    def __init__(
        self, world: WorldLike, config: ServeConfig | None = None, settings: Settings | None = None
    ) -> None:
        self.config = config or ServeConfig()
        self._token = token_for(self.config.host)
        settings = settings or Settings()
        _check_shared(settings)
        parts = gather(world, settings)
        self._rounds = Rounds(parts, settings, self.config.slots)
        self._limits = Limits(size=2 * self._rounds.state_bytes + _CONTEXT_BYTES)
        self._connections = 0
        self._greeting = pack(self._introduction(parts.config, parts, settings))

    def _introduction(self, world: WorldConfig, parts: Parts, settings: Settings) -> dict[str, Any]:
        told = ("name", "version", "fps", "horizon", "instructions")
        return {
            "protocol": PROTOCOL,
            "version": VERSION,
            "world": {name: value for name, value in to_dict(world).items() if name in told},
            "model": parts.model.hash,
            "action_space": plain_space(parts.actions.space),
            "frame_size": list(world.frame_size),
            "settings": {
                "reward": settings.reward,
                "terminate_on_success": settings.terminate_on_success,
                "horizon": self._rounds.horizon,
            },
            "limits": {
                "message_bytes": self._limits.size,
                "slots": self.config.slots,
                "idle_s": self.config.idle_s,
            },
        }

    async def run(self, ready: Callable[[str], None], stop: asyncio.Event) -> None:
        """Listen until ``stop`` is set.

        Args:
            ready: called with the address once clients can come.
            stop: ends it; clients are told.

        Raises:
            OSError: the port is taken.
            ImportError: websockets is not installed.
        """
        try:
            from websockets.asyncio.server import serve
        except ImportError as error:
            raise ImportError('websockets is not installed; pip install "v2w_gym[remote]"') from error
        config, sessions = self.config, Sessions(self.config.slots)
        with ThreadPoolExecutor(1, "v2w-device") as thread:
            batcher = Batcher(self._rounds, thread, config.wait_ms / 1e3, lambda: sessions.running)
            house = House(self._greeting, sessions, batcher, self._limits, config.idle_s, config.send_s)
            async with serve(
                lambda connection: self._attend(connection, house),
                config.host,
                config.port,
                process_request=self._admit,
                compression=None,  # frames hardly shrink, and what is small on the wire stays small here
                max_size=self._limits.size,
                max_queue=2,
                ping_timeout=_PONG_S,
                close_timeout=2.0,
            ) as server:
                work, stopped = asyncio.create_task(batcher.run()), asyncio.create_task(stop.wait())
                ready(address(server.sockets[0].getsockname()))
                await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work

    async def _attend(self, connection: Any, house: House) -> None:
        self._connections += 1
        try:
            await Conversation(connection, house).run()
        finally:
            self._connections -= 1

    def _admit(self, connection: Any, request: Any) -> Any:
        return admitted(connection, request, self._token, self._connections < self.config.slots + _SPARE)


def _check_shared(settings: Settings) -> None:
    """Refuse what a server cannot do for its clients."""
    if settings.obs_type != "dict":
        raise ValueError(
            "obs_type is each client's own, so leave it out here: "
            f'gym.make("v2w_gym:Vid2World-Remote-v0", url=..., obs_type={settings.obs_type!r})'
        )
    if settings.output != "numpy":
        raise ValueError(
            "what is served are arrays, so leave output out; tensors come from a local environment: "
            f"gym.make(ID, output={settings.output!r})"
        )


def serve(
    world: WorldLike,
    config: ServeConfig | None = None,
    settings: Settings | None = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve a world until the process is asked to stop; see ``EnvironmentServer``."""

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await server.run(ready, stop)

    server = EnvironmentServer(world, config, settings)
    asyncio.run(run())


@contextlib.contextmanager
def serving(
    world: WorldLike, config: ServeConfig | None = None, settings: Settings | None = None
) -> Iterator[str]:
    """A server in a thread of this process, on any free port unless ``config`` names one; gives its URL."""
    server = EnvironmentServer(world, config or ServeConfig(port=0), settings)
    found: Future[str] = Future()
    stops: list[Callable[[], object]] = []

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        await server.run(found.set_result, stop)

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if found.done():
                raise
            found.set_exception(error)

    thread = threading.Thread(target=work, name="v2w-serve", daemon=True)
    thread.start()
    try:
        yield found.result()
    finally:
        for stop in stops:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                stop()
        thread.join()
