"""A client's end of a session on a server of environments; imports no torch."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import gymnasium

from v2w_gym.envs.protocol import (
    ANSWERS,
    BAD_REQUEST,
    DEFAULT_PORT,
    FULL,
    PROTOCOL,
    RESET_NEEDED,
    TOKEN_VARIABLE,
    VERSION,
)
from v2w_gym.wire import WireError
from v2w_gym.wire.arrays import pack, unpack

OPEN_TIMEOUT_S, FAREWELL_S = 20.0, 2.0


class ServerGoneError(ConnectionError):
    """No server answers: it was never there, it died, it went silent, or it ended the session."""


class ServerFullError(ConnectionError):
    """The server has no free slot."""


class Connection:
    """One session.

    Args:
        url: ``ws://host:port``.
        timeout_s: how long an answer may take.

    Attributes:
        greeting: what the server says of itself; see ``protocol``.

    Raises:
        ServerGoneError: nobody answers there.
        ServerFullError: every slot is taken.
        PermissionError: the server wants another token.
        ValueError: no address, or somebody who speaks another protocol or version.
        ImportError: websockets or msgpack is not installed.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url, self._timeout_s = url, timeout_s
        self._count = 0
        self._stack = ExitStack()
        self._socket: Any = None
        self._session = ""
        self.greeting: Mapping[str, Any] = {}
        try:
            self._socket = self._connected()
            self.greeting = self._greeted(self._received(OPEN_TIMEOUT_S))
            self._session = self.ask("open", version=VERSION)["session"]
        except BaseException:
            self._drop()
            raise

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its answer.

        Raises:
            ServerGoneError: the session is lost.
            ServerFullError: every slot is taken.
            gymnasium.error.ResetNeeded: there is no episode to step.
            ValueError: a request that makes no sense.
            RuntimeError: the server failed at it.
        """
        if self._socket is None:
            raise ServerGoneError(f"the session at {self.url} is over; {self._hint()}")
        self._count += 1
        message = pack({"op": op, "id": self._count, "session": self._session, **fields}, ANSWERS)
        most = self.greeting["limits"]["message_bytes"]
        if len(message) > most:
            raise ValueError(f"a request of {len(message):,} bytes; {self.url} takes at most {most:,}")
        self._sent(message)
        while (answer := self._received(self._timeout_s)).get("id") != self._count:
            pass  # of a request whose caller was interrupted
        if "error" in answer:
            raise _error(answer["error"], answer["message"])
        return answer

    def close(self) -> None:
        """Give the slot back; closing twice is harmless."""
        if self._socket is not None and self._session:
            with suppress(ConnectionError, ValueError, RuntimeError):
                self._timeout_s = min(self._timeout_s, FAREWELL_S)
                self.ask("close")  # its answer says that the slot is free
        self._drop()

    def _drop(self) -> None:
        self._socket = None
        stack, self._stack = self._stack, ExitStack()
        stack.close()

    def _connected(self) -> Any:
        try:
            from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
            from websockets.sync.client import connect
        except ImportError as error:
            raise ImportError('websockets is not installed; pip install "v2w_gym[remote]"') from error
        parts = _address(self.url)
        token = os.environ.get(TOKEN_VARIABLE)
        try:
            raw = socket.create_connection((parts[0], parts[1]), OPEN_TIMEOUT_S)  # past any proxy
            raw.settimeout(None)
            return self._stack.enter_context(
                connect(
                    self.url,
                    sock=raw,
                    compression=None,
                    open_timeout=OPEN_TIMEOUT_S,
                    close_timeout=1.0,
                    max_size=ANSWERS.size,
                    ping_interval=None,  # every answer is timed: a server that is busy is not gone before
                    additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                )
            )
        except InvalidStatus as error:
            raise self._refused(error.response.status_code, error.response.body) from error
        except InvalidURI as error:
            raise _no_address(self.url) from error
        except (OSError, EOFError, InvalidHandshake) as error:
            raise ServerGoneError(
                f"no server of environments answers at {self.url} ({error}); start one: "
                f"v2w serve --world ID --port {parts[1]}"
            ) from error

    def _refused(self, status: int, body: bytes | bytearray | None) -> Exception:
        why = (body or b"").decode(errors="replace").strip()
        if status == 401:
            return PermissionError(
                f"{self.url} wants its token: export {TOKEN_VARIABLE}=... as on the server ({why})"
            )
        if status == 503:
            return ServerFullError(f"{self.url} takes no more clients ({why}); try again later")
        return ServerGoneError(f"{self.url} refused the connection with status {status} ({why})")

    def _greeted(self, greeting: dict[str, Any]) -> Mapping[str, Any]:
        if greeting.get("protocol") != PROTOCOL:
            raise ValueError(
                f"{self.url} is no server of environments (protocol {greeting.get('protocol')!r}, expected "
                f"{PROTOCOL!r}); v2w serve starts one, v2w serve-policy serves policies"
            )
        if greeting.get("version") != VERSION:
            raise ValueError(
                f"{self.url} speaks version {greeting.get('version')!r} of the protocol, this client "
                f"{VERSION}; install the same v2w_gym on both sides"
            )
        return greeting

    def _sent(self, message: bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            self._socket.send(message)
        except ConnectionClosed as error:
            raise self._lost(error) from error

    def _received(self, timeout_s: float) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed

        try:
            answer = unpack(self._socket.recv(timeout_s), ANSWERS)
        except ConnectionClosed as error:
            raise self._lost(error) from error
        except TimeoutError as error:
            self._drop()
            raise ServerGoneError(
                f"{self.url} did not answer within {timeout_s:g} s; it is busy or stuck: {self._hint()}, or "
                "make the environment with a larger timeout_s"
            ) from error
        except WireError as error:
            self._drop()
            raise ServerGoneError(
                f"{self.url} sent an unreadable answer ({error}); {self._hint()}"
            ) from error
        if not isinstance(answer, dict):
            self._drop()
            raise ServerGoneError(
                f"{self.url} sent a {type(answer).__name__}, expected a map; {self._hint()}"
            )
        return answer

    def _lost(self, error: Any) -> ServerGoneError:
        self._drop()
        frame = error.rcvd
        stopped = (
            "it was stopped" if frame is not None and frame.code == 1001 else "it died, or the network did"
        )
        why = f"it said: {frame.reason}" if frame is not None and frame.reason else stopped
        return ServerGoneError(f"the server at {self.url} ended the session ({why}); {self._hint()}")

    def _hint(self) -> str:
        port = _address(self.url)[1]
        return (
            f"see that it runs (v2w serve --world ID --port {port}), then env.unwrapped.reconnect(), and "
            "env.unwrapped.restore(kept), if you kept env.unwrapped.snapshot(), or env.reset()"
        )


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _no_address(url) from error
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise _no_address(url)
    return parts.hostname, port or (443 if parts.scheme == "wss" else DEFAULT_PORT)


def _no_address(url: str) -> ValueError:
    return ValueError(f"expected an address like ws://127.0.0.1:{DEFAULT_PORT}, got {url!r}")


def _error(kind: str, message: str) -> Exception:
    known: dict[str, type[Exception]] = {
        BAD_REQUEST: ValueError,
        RESET_NEEDED: gymnasium.error.ResetNeeded,
        FULL: ServerFullError,
    }
    return known.get(kind, RuntimeError)(message)
