"""One client of a server, from its first word to its last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from v2w_gym.envs.protocol import ANSWERS, BAD_REQUEST, FAILED, FULL, OPS, RESET_NEEDED, VERSION
from v2w_gym.serve.batching import Batcher, StoppedError
from v2w_gym.serve.jobs import Job
from v2w_gym.serve.sessions import FullError, Session, Sessions
from v2w_gym.wire import WireError
from v2w_gym.wire.arrays import pack, unpack
from v2w_gym.wire.structure import Limits

_OPEN_S = 10.0  # for a client to say what it wants
_LONGEST = 2000  # letters of an error; some quote what was sent
_GOING_AWAY = 1001  # without a reason, clients take it for a server that was stopped
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class House:
    """What all conversations share.

    Attributes:
        greeting: said first.
        sessions: who holds which slot.
        batcher: does what needs the device.
        limits: of a message from a client.
        idle_s: silence after which a session is closed.
        send_s: how long a client may take to read an answer.
    """

    greeting: bytes
    sessions: Sessions
    batcher: Batcher
    limits: Limits
    idle_s: float
    send_s: float


class Conversation:
    """Reads, asks, answers; one request at a time.

    Args:
        connection: the websocket.
        house: what the server lends.
    """

    def __init__(self, connection: Any, house: House) -> None:
        self._connection, self._house = connection, house

    async def run(self) -> None:
        """Until the client leaves, says nothing for too long, or does not read."""
        from websockets.exceptions import ConnectionClosed

        try:
            await self._send(self._house.greeting)
            if (session := await self._opened()) is None:
                return
            try:
                await self._served(session)
            finally:
                self._house.sessions.release(session)
        except ConnectionClosed:
            return
        except StoppedError:
            await self._connection.close(_GOING_AWAY)
        except TimeoutError as error:  # no longer holds a slot while it is told
            await self._connection.close(_GOING_AWAY, str(error))

    async def _opened(self) -> Session | None:
        """A session for a client that speaks this version; None if there is no room for it."""
        while True:
            data = await self._receive(_OPEN_S, f"nothing was opened within {_OPEN_S:g} s")
            number, fields, refusal = self._read(data)
            if refusal is None:
                refusal = _unlike(fields)
            if refusal is not None:
                await self._refuse(number, refusal)
                continue
            try:
                session = self._house.sessions.open()
            except FullError as error:
                await self._refuse(number, error)
                return None
            try:
                await self._send(_packed(number, {"session": session.name}))
            except BaseException:
                self._house.sessions.release(session)
                raise
            return session

    async def _served(self, session: Session) -> None:
        idle_s = self._house.idle_s
        while True:
            data = await self._receive(idle_s, f"the session asked nothing for {idle_s:g} s")
            number, fields, refusal = self._read(data)
            if refusal is None:
                refusal = _out_of_place(fields, session)
            if refusal is not None:
                await self._refuse(number, refusal)
            elif fields["op"] == "close":
                self._house.sessions.release(session)  # before the answer, so that who reads it finds it free
                await self._send(_packed(number, {}))
                return
            else:
                await self._answer(number, Job(session, fields["op"], fields, gone=self._gone))

    async def _answer(self, number: int, job: Job) -> None:
        try:
            answer = await self._house.batcher.ask(job)
        except StoppedError:
            raise
        except Exception as error:
            await self._refuse(number, error, len(job.played))
        else:
            await self._send(_packed(number, answer))

    def _gone(self) -> bool:
        from websockets.protocol import State

        return self._connection.state is not State.OPEN

    def _read(self, data: str | bytes) -> tuple[int, Mapping[str, Any], Exception | None]:
        """Number and fields of a request, or what is wrong with it."""
        try:
            if not isinstance(data, bytes):
                raise WireError("a text message; requests are binary")
            fields = unpack(data, self._house.limits)
            if not isinstance(fields, dict):
                raise WireError(f"a request must be a map, got a {type(fields).__name__}")
            number, op = fields.get("id"), fields.get("op")
            if type(number) is not int or not 0 <= number < 2**53:
                raise WireError(f'a request needs an "id" in 0..2**53-1, got {number!r:.40}')
            if not isinstance(op, str) or op not in OPS:
                return number, {}, ValueError(f"unknown op {op!r:.40}; known: {', '.join(OPS)}")
        except ValueError as error:
            return 0, {}, error
        return number, fields, None

    async def _receive(self, within_s: float, else_say: str) -> str | bytes:
        try:
            async with asyncio.timeout(within_s):
                data: str | bytes = await self._connection.recv()
                return data
        except TimeoutError as error:
            raise TimeoutError(else_say) from error

    async def _refuse(self, number: int, error: Exception, taken: int = 0) -> None:
        """Say what is wrong with a request of which ``taken`` steps have come about."""
        kind = FAILED if taken else _kind(error)
        text = str(error)[:_LONGEST]
        if kind == FAILED:
            _log.error("a request failed", exc_info=error)
            left = f"the first {taken} steps of the chunk have been taken" if taken else "nothing has changed"
            text = f"the server failed at this request ({type(error).__name__}: {text}); {left}"
        await self._send(_packed(number, {"error": kind, "message": text}))

    async def _send(self, data: bytes) -> None:
        """Send; whoever does not read is cut off, and nobody else waits for it."""
        try:
            async with asyncio.timeout(self._house.send_s):
                await self._connection.send(data)
        except TimeoutError:
            self._connection.transport.abort()
            raise


def _unlike(fields: Mapping[str, Any]) -> Exception | None:
    version = fields.get("version")
    if fields["op"] == "open" and type(version) is int and version == VERSION:
        return None
    return ValueError(
        f"the first request must be open with version {VERSION} of the protocol, got "
        f"{fields['op']!r} with {version!r:.40}; install the same v2w_gym on both sides"
    )


def _out_of_place(fields: Mapping[str, Any], session: Session) -> Exception | None:
    if fields["op"] == "open":
        return ValueError("this connection has its session; open another connection for another")
    named = fields.get("session")
    if not isinstance(named, str) or named != session.name:
        return ValueError(f"unknown session {named!r:.40}; a connection knows the one that it opened alone")
    return None


def _kind(error: Exception) -> str:
    if isinstance(error, gymnasium.error.ResetNeeded):
        return RESET_NEEDED
    if isinstance(error, FullError):
        return FULL
    known = isinstance(error, ValueError | TypeError | gymnasium.error.Error)
    return BAD_REQUEST if known else FAILED


def _packed(number: int, answer: Mapping[str, Any]) -> bytes:
    return pack({"id": number, **answer}, ANSWERS)
