"""Connections to a policy server: one for all slots or one for each, made again where they break."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from v2w_gym.wire import OutageError
from v2w_gym.wire.openpi import Endpoint, OpenpiClient

T = TypeVar("T")
_SHARED = -1


@dataclass(frozen=True)
class Redial:
    """How often to try.

    Attributes:
        attempts: the first one included.
        backoff_s: seconds before the second attempt, twice as long before each further one.
    """

    attempts: int
    backoff_s: float

    def insist(self, attempt: Callable[[], T], may_again: Callable[[], bool]) -> T:
        """The result of the first attempt that is no outage.

        Raises:
            OutageError: the last one, which says how often and how long it was tried.
        """
        began = time.monotonic()
        for number in range(1, self.attempts + 1):
            try:
                return attempt()
            except OutageError as error:
                if number < self.attempts and error.again and may_again():
                    time.sleep(self.backoff_s * 2 ** (number - 1))
                    continue
                waited = time.monotonic() - began
                tried = f" (tried {number} times in {waited:.1f} s)" if number > 1 else ""
                raise OutageError(f"{error}{tried}", again=False) from error
        raise AssertionError("an attempt either returns or raises")


class Lines:
    """The connections of all slots.

    A server may keep something of an episode by connection (ours does, openpi's does not). Such a connection
    is never made again within an episode, since the far policy would have forgotten half of it.

    Args:
        endpoint: where.
        connection: see :class:`~v2w_gym.policies.remote_config.RemoteConfig`.
        redial: how often to try.
    """

    def __init__(
        self, endpoint: Endpoint, connection: Literal["auto", "shared", "episode"], redial: Redial
    ) -> None:
        self._endpoint, self._redial = endpoint, redial
        self._each: bool | None = None if connection == "auto" else connection == "episode"
        self._clients: dict[int, OpenpiClient] = {}
        self._under_way: set[int] = set()

    def begin(self, slots: Sequence[int]) -> None:
        """New episodes in ``slots``: their connections stand when this returns.

        Raises:
            OutageError: the server cannot be reached, after all attempts.
        """
        self._under_way.difference_update(slots)
        for slot in slots:
            if self._each:
                self._drop(slot)
            self._redial.insist(functools.partial(self._client, slot), lambda: True)

    def call(self, slot: int, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The server's result for an observation of ``slot``.

        Raises:
            OutageError: the server is gone, and in this episode nothing can be done about it.
            FarSideError: the server answered with an error of its own.
            WireError: its answer is no message.
        """

        def attempt() -> dict[str, Any]:
            client = self._client(slot)
            result = client.infer(observation)
            self._under_way.add(slot)
            return result

        return self._redial.insist(attempt, lambda: not (self._each and slot in self._under_way))

    def close(self) -> None:
        """Close all connections."""
        for key in list(self._clients):
            self._drop(key)

    def _client(self, slot: int) -> OpenpiClient:
        key = slot if self._each else _SHARED
        client = self._clients.get(key)
        if client is not None and not client.closed:
            return client
        if self._each and slot in self._under_way:
            raise OutageError(
                f"the connection to {self._endpoint.url} broke in the middle of an episode that it kept",
                again=False,
            )
        self._drop(key)
        client = OpenpiClient(self._endpoint)
        if self._each is None:
            self._each = client.metadata.get("connection") == "episode"
        self._clients[slot if self._each else _SHARED] = client
        return client

    def _drop(self, key: int) -> None:
        client = self._clients.pop(key, None)
        if client is not None:
            client.close()
