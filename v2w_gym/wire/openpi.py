"""One connection to a policy server that speaks openpi's websocket protocol.

What openpi 15a9616 does (``openpi_client/websocket_client_policy.py`` and
``openpi/serving/websocket_policy_server.py``): binary frames without compression; the server speaks first,
with its metadata; then one observation, one result, and so on. A text frame is the traceback of an error on
the far side, which then closes. A key travels as the header ``Authorization: Api-Key ...``.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.parse
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from v2w_gym.wire.arrays import pack, unpack
from v2w_gym.wire.deadline import send_within
from v2w_gym.wire.errors import FarSideError, OutageError, WireError
from v2w_gym.wire.loopback import is_loopback
from v2w_gym.wire.structure import LIMITS, Limits

_URL = re.compile(r"wss?://[^/@?#\s]+([/?][^@#\s]*)?")
_LAST_CHARACTERS = 2000  # of a traceback: its end says what went wrong
_FIRST_CHARACTERS = 200  # of what a server answers in place of a connection
_CLOSING_S = 1.0  # a far side that does not close politely is left
_TOO_BIG = 1009
_ANOTHER_KEY = "it wants another key; api_key_env names the environment variable that holds it"
_REFUSALS = {401: _ANOTHER_KEY, 403: _ANOTHER_KEY, 503: "it takes nobody else just now, or is starting"}


@dataclass(frozen=True)
class Endpoint:
    """Where a policy server is, and how long to wait for it.

    Attributes:
        url: ``ws://host:port`` or ``wss://host:port``.
        api_key: sent as ``Authorization: Api-Key ...``; never shown.
        connect_timeout_s: seconds until the connection stands and the server has spoken.
        call_timeout_s: seconds from sending an observation to its result.
        limits: how large messages may be, in either direction.

    Raises:
        ValueError: an address of another form, or a wait that is no time.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 10.0
    call_timeout_s: float = 60.0
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        if not _URL.fullmatch(self.url):
            shown = re.sub(r"//.*@", "//...@", self.url)
            raise ValueError(
                f"a policy server's address must be like ws://127.0.0.1:8000 or wss://host:443, got "
                f"{shown!r}; a key does not belong into it: api_key_env names the variable that holds one"
            )
        try:
            urllib.parse.urlsplit(self.url).port  # noqa: B018 - raises where it is none
        except ValueError as error:
            raise ValueError(f"{self.url} is no address: {error}") from error
        for name in ("connect_timeout_s", "call_timeout_s"):
            if not 0 < getattr(self, name) < threading.TIMEOUT_MAX:
                raise ValueError(f"{name} must be a number of seconds above 0, got {getattr(self, name)!r}")


class OpenpiClient:
    """Connects at once; after an error it is closed for good.

    Args:
        endpoint: where.

    Attributes:
        metadata: what the server said first.
        closed: no call can be made any more.

    Raises:
        OutageError: nobody there, a refusal, or no word within the time.
        FarSideError: the server said that it has failed.
        WireError: what it said is no message.
        ImportError: websockets or msgpack is not installed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.closed = endpoint, False
        self._exit = contextlib.ExitStack()
        weakref.finalize(self, self._exit.close).atexit = False  # its thread keeps a connection open for ever
        began = time.monotonic()
        self._socket = self._connect(began)
        left = max(0.0, endpoint.connect_timeout_s - (time.monotonic() - began))
        self.metadata = self._receive(left, began, "")

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The server's result for one observation.

        Args:
            observation: one, without a batch axis: numpy arrays, texts, numbers.

        Raises:
            OutageError: the server went away, or did not answer in time.
            FarSideError: the server answered with an error of its own.
            WireError: an observation that cannot be sent, or an answer that is no message.
        """
        message, sent = pack(observation, self.endpoint.limits), describe(observation)
        began = time.monotonic()
        self.closed = True  # until the answer is here: an interrupted call would leave it for the next one
        with self._failing(began, sent):
            send_within(self.endpoint.call_timeout_s, self._socket, message)
        left = max(0.0, self.endpoint.call_timeout_s - (time.monotonic() - began))
        result = self._receive(left, began, sent)
        self.closed = False
        return result

    def close(self) -> None:
        """Close the connection; twice is harmless."""
        self.closed = True
        self._exit.close()

    def _connect(self, began: float) -> Any:
        client, exceptions = _websockets()
        endpoint = self.endpoint
        headers = {"Authorization": f"Api-Key {endpoint.api_key}"} if endpoint.api_key else None
        here = is_loopback(urllib.parse.urlsplit(endpoint.url).hostname or "")
        try:
            return self._exit.enter_context(
                client.connect(
                    endpoint.url,
                    compression=None,
                    max_size=endpoint.limits.size,
                    max_queue=1,  # one message at a time: what comes unasked waits in the network
                    open_timeout=endpoint.connect_timeout_s,
                    close_timeout=_CLOSING_S,
                    ping_interval=None,  # a server that computes answers no pings, and every call is timed
                    additional_headers=headers,
                    proxy=None if here else True,  # one of the environment's cannot reach this machine
                )
            )
        except exceptions.InvalidStatus as error:
            status, body = error.response.status_code, error.response.body or b""
            said = self._keyless(body.decode(errors="replace").strip()[:_FIRST_CHARACTERS])
            todo = _REFUSALS.get(status, "is it an openpi server, and the path right?")
            raise self._outage(
                began, f"answered with HTTP status {status} ({said})", todo, again=status >= 500
            ) from error
        except TimeoutError as error:
            raise self._outage(
                began, "accepted no connection", "is it busy, or the port another's?"
            ) from error
        except (OSError, UnicodeError, exceptions.InvalidHandshake, EOFError) as error:
            raise self._outage(began, f"cannot be reached ({error})", "is it running there?") from error

    def _receive(self, timeout: float, began: float, sent: str) -> dict[str, Any]:
        with self._failing(began, sent):
            message = self._socket.recv(timeout=timeout)
        if isinstance(message, str):
            self.close()
            shown = message if len(message) <= _LAST_CHARACTERS else "..." + message[-_LAST_CHARACTERS:]
            raise FarSideError(
                f"the policy server at {self.endpoint.url} reports an error of its own "
                f"(sent: {sent or 'nothing'}):\n{self._keyless(shown)}"
            )
        try:
            value = unpack(message, self.endpoint.limits)
            if not isinstance(value, dict):
                raise WireError(f"a map was expected, got a {type(value).__name__}")
        except WireError as error:
            self.close()
            raise WireError(
                f"the policy server at {self.endpoint.url} answered with {len(message):,} bytes that are no "
                f"openpi message: {error}"
            ) from error
        return value

    def _keyless(self, text: str) -> str:
        """What a server says, which may repeat the headers that it was sent."""
        return text.replace(self.endpoint.api_key, "[key]") if self.endpoint.api_key else text

    @contextlib.contextmanager
    def _failing(self, began: float, sent: str) -> Iterator[None]:
        """Whatever ends the connection, as an outage that says what there is to know."""
        _, exceptions = _websockets()
        try:
            yield
        except TimeoutError as error:
            self.close()
            if not sent:
                what, todo = "is connected but said nothing", "is it an openpi server? it speaks first"
                raise self._outage(began, what, todo) from error
            todo = "is it still loading or compiling its model? then allow more: call_timeout_s"
            raise self._outage(began, "gave no answer", todo, sent, again=False) from error
        except exceptions.ConnectionClosed as error:
            self.close()
            if _TOO_BIG in (getattr(error.rcvd, "code", None), getattr(error.sent, "code", None)):
                ours = error.sent is not None and error.sent.code == _TOO_BIG
                what = (
                    f"sent more than {self.endpoint.limits.size:,} bytes"
                    if ours
                    else "takes no such large message"
                )
                raise self._outage(began, what, "send smaller images: resize", sent, again=False) from error
            raise self._outage(began, f"went away ({error})", "look at its log", sent) from error

    def _outage(
        self, began: float, what: str, todo: str, sent: str = "", *, again: bool = True
    ) -> OutageError:
        self.closed = True
        waited = f"after {time.monotonic() - began:.1f} s" + (f"; sent: {sent}" if sent else "")
        return OutageError(f"the policy server at {self.endpoint.url} {what} {waited}; {todo}", again=again)


def describe(value: Mapping[str, Any]) -> str:
    """The keys of a message with the dtypes and shapes of its arrays, for errors."""
    return ", ".join(f"{key}: {_described(item)}" for key, item in value.items())


def _described(item: Any) -> str:
    if isinstance(item, np.ndarray):
        return f"{item.dtype} {item.shape}"
    text = repr(item)
    return text if len(text) <= 60 else text[:57] + "..."


def _websockets() -> tuple[Any, Any]:
    try:
        import websockets.exceptions as exceptions
        import websockets.sync.client as client
    except ImportError as error:
        raise ImportError('websockets is not installed; pip install "v2w_gym[remote]"') from error
    return client, exceptions
