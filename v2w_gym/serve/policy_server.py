"""A policy behind openpi's websocket protocol, for anybody's openpi client.

The protocol (openpi 15a9616, ``openpi/serving/websocket_policy_server.py``) has no batch axis and no word for
the beginning of an episode. So every connection is an episode: it gets a policy of its own, and the metadata
say ``"connection": "episode"``. A policy that keeps nothing between calls can be one for all connections; the
metadata then say ``"shared"``. A client that knows nothing of this, as openpi's, must connect anew for each
episode.
"""

from __future__ import annotations

import contextlib
import hmac
import http
import itertools
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from v2w_gym.policies.base import Policy
from v2w_gym.serve.access import address
from v2w_gym.serve.answers import Answers, Keys
from v2w_gym.wire.arrays import pack, unpack
from v2w_gym.wire.deadline import send_within
from v2w_gym.wire.errors import WireError
from v2w_gym.wire.loopback import is_loopback
from v2w_gym.wire.structure import LIMITS, Limits

_CLOSING_S = 1.0
_SEND_S = 30.0  # a client that does not read an answer for so long is gone
_GOING_AWAY, _INTERNAL_ERROR, _TRY_LATER = 1001, 1011, 1013
_REASON = "Internal server error. Traceback included in previous frame."
_ONE_OBJECT = (
    "the served policy is one object that another connection uses, and it would mix up their episodes; "
    "serve it with --shared if it keeps nothing between calls, or name a class or function that makes one"
)


@dataclass(frozen=True)
class ServeConfig:
    """How a policy is served.

    Attributes:
        host: the interface to listen on; others than loopback need a key.
        port: 0 takes a free one.
        shared: one policy answers all connections; right where it keeps nothing between calls.
        connections: at most so many at a time; each has its own policy, unless shared.
        keys: under which names a client sends what the policy looks at.
        limits: how large messages may be.

    Raises:
        ValueError: a number out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    shared: bool = False
    connections: int = 64
    keys: Keys = field(default_factory=Keys)
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must lie in 0..65535, got {self.port}")
        if self.connections < 1:
            raise ValueError(f"connections must be at least 1, got {self.connections}")


class PolicyServer:
    """Listens from the beginning; answers within :meth:`serve_forever`, or a ``with`` block.

    Args:
        make: makes a policy; called at once, so that an error shows before anybody connects. Where it gives
            the same object again, that serves one connection at a time, unless shared.
        config: how it is served.
        api_key: clients must send ``Authorization: Api-Key ...`` with it.
        metadata: further entries for the server's first message.

    Attributes:
        port: what it listens on.
        url: what clients on this machine type.

    Raises:
        ValueError: another interface than loopback without a key.
        OSError: the port is taken.
        ImportError: websockets or msgpack is not installed.
    """

    def __init__(
        self,
        make: Callable[[], Policy],
        config: ServeConfig | None = None,
        *,
        api_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config or ServeConfig()
        self._api_key, self._make = api_key, make
        if api_key is None and not is_loopback(self.config.host):
            raise ValueError(
                f"--host {self.config.host} can be reached from other machines, so clients must show a key: "
                "export POLICY_KEY=... and --api-key-env POLICY_KEY; or stay on --host 127.0.0.1"
            )
        self._ready = [make()]
        self._numbers = itertools.count()
        self._open: set[Any] = set()  # connections
        self._used: list[Policy] = []
        self._lock, self._computing = threading.Lock(), threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._metadata = {
            **(metadata or {}),
            "server": "v2w_gym",
            "connection": "shared" if self.config.shared else "episode",
            "image": self.config.keys.image,
            "prompt": self.config.keys.prompt,
        }
        pack(self._metadata)
        self._server = self._listen()
        name = self._server.socket.getsockname()
        self.port: int = name[1]
        self.url = address(name)
        self._answering = False

    def serve_forever(self) -> None:
        """Answer until :meth:`close` is called from elsewhere."""
        self._answering = True
        self._server.serve_forever()

    def close(self) -> None:
        """Stop listening, and close all connections."""
        if self._answering:
            self._server.shutdown()
        self._server.socket.close()
        with self._lock:
            left = list(self._open)
        for connection in left:  # websockets before 17 leaves them open
            connection.close(_GOING_AWAY)

    def __enter__(self) -> PolicyServer:
        self._answering = True
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> Any:
        try:
            from websockets.sync.server import serve
        except ImportError as error:
            raise ImportError('websockets is not installed; pip install "v2w_gym[remote]"') from error
        return serve(
            self._converse,
            self.config.host,
            self.config.port,
            family=socket.AF_INET6 if ":" in self.config.host else socket.AF_INET,
            compression=None,
            max_size=self.config.limits.size,
            max_queue=1,
            close_timeout=_CLOSING_S,
            origins=[None],  # a page that a browser has open may knock at loopback
            process_request=self._admit,
        )

    def _admit(self, connection: Any, request: Any) -> Any:
        """An HTTP answer instead of a connection, or None."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get("Authorization", "")
        wanted = f"Api-Key {self._api_key}"
        if self._api_key is not None and not hmac.compare_digest(given.encode(), wanted.encode()):
            return connection.respond(
                http.HTTPStatus.UNAUTHORIZED, "the Authorization header has no valid key\n"
            )
        if len(self._open) >= self.config.connections:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    def _converse(self, connection: Any) -> None:
        """One connection from its beginning to its end, in a thread of its own."""
        from websockets.exceptions import ConnectionClosed

        with (
            contextlib.suppress(ConnectionClosed, TimeoutError),
            self._counted(connection) as room,
            contextlib.ExitStack() as used,
        ):
            if not room:
                connection.close(_TRY_LATER, "too many connections")
                return
            try:
                episode = self._episode(used)
                send_within(_SEND_S, connection, pack(self._metadata))
                before: float | None = None
                while True:
                    message = connection.recv()
                    began = time.monotonic()
                    answer = self._answer(episode, message, before)
                    send_within(_SEND_S, connection, pack(answer, self.config.limits))
                    before = time.monotonic() - began
            except ConnectionClosed:
                raise
            except Exception:
                send_within(_SEND_S, connection, traceback.format_exc())
                connection.close(_INTERNAL_ERROR, _REASON)

    @contextlib.contextmanager
    def _counted(self, connection: Any) -> Iterator[bool]:
        """Gives whether there is room for it: several may have been admitted at once."""
        with self._lock:
            room = len(self._open) < self.config.connections
            self._open.add(connection)
        try:
            yield room
        finally:
            with self._lock:
                self._open.discard(connection)

    def _episode(self, used: contextlib.ExitStack) -> Answers:
        """What answers one connection, until ``used`` ends."""
        with self._lock:
            number = next(self._numbers)
            if self.config.shared:
                return Answers(self._ready[0], self.config.keys, number, self._computing, renew=True)
            policy = self._ready.pop() if self._ready else None
        policy = self._make() if policy is None else policy
        with self._freed:  # a connection that has just been closed may still be about to end
            if not self._freed.wait_for(lambda: all(policy is not one for one in self._used), _CLOSING_S):
                raise ValueError(_ONE_OBJECT)
            self._used.append(policy)
        used.callback(self._free, policy)
        return Answers(policy, self.config.keys, number)

    def _free(self, policy: Policy) -> None:
        with self._freed:
            self._used = [other for other in self._used if other is not policy]
            self._freed.notify_all()

    def _answer(self, episode: Answers, message: Any, before: float | None) -> dict[str, Any]:
        if isinstance(message, str):
            raise WireError("an observation must be a binary frame, got a text frame")
        observation = unpack(message, self.config.limits)
        began = time.monotonic()
        actions = episode.actions(observation)
        spent = 1000 * (time.monotonic() - began)
        timing = {"infer_ms": spent} | ({} if before is None else {"prev_total_ms": 1000 * before})
        return {"actions": actions, "policy_timing": {"infer_ms": spent}, "server_timing": timing}
