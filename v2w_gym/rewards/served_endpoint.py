"""An OpenAI-compatible endpoint: where it is, how patiently it is asked, and what it costs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from v2w_gym.rewards.served_http import Key, OutageError, RefusalError, post
from v2w_gym.rewards.served_pace import Circuit, Pace, sleep


@dataclass(frozen=True)
class EndpointConfig:
    """Where to ask and how patiently; nothing here moves a judgement.

    Attributes:
        base_url: up to and without ``/chat/completions``, e.g. ``http://127.0.0.1:8000/v1``.
        key_variable: environment variable that holds the API key; None where none is wanted.
        connect_timeout: seconds.
        read_timeout: seconds of one try, up to the last byte of the reply.
        patience: seconds of one vote from its first turn on, all tries and the pauses between them.
        tries: of one vote at most.
        backoff: seconds before the second try; doubles with each, and a random half is left out.
        requests_per_minute: at most, tries included; None for no limit.
        parallel: requests under way at once.
        outages: votes in a row without an answer after which the endpoint is left alone.
        cooldown: seconds until it is tried again; doubles while it stays silent.
        price_read: of a million tokens read, in any currency; None where it is not known.
        price_written: of a million tokens written.
    """

    base_url: str
    key_variable: str | None = None
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    patience: float = 180.0
    tries: int = 4
    backoff: float = 1.0
    requests_per_minute: float | None = None
    parallel: int = 4
    outages: int = 3
    cooldown: float = 60.0
    price_read: float | None = None
    price_written: float | None = None

    def __post_init__(self) -> None:
        _check_address(self.base_url)
        for name in ("connect_timeout", "read_timeout", "patience", "backoff", "cooldown"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} of an endpoint must be more than 0 seconds, got {getattr(self, name)}"
                )
        for name in ("tries", "parallel", "outages"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of an endpoint must be at least 1, got {getattr(self, name)}")
        if self.requests_per_minute is not None and not self.requests_per_minute > 0:
            raise ValueError(f"requests_per_minute must be more than 0, got {self.requests_per_minute}")
        for name in ("price_read", "price_written"):
            price = getattr(self, name)
            if price is not None and not price >= 0:
                raise ValueError(f"{name} must be 0 or more, got {price}")

    def cost(self, read: int, written: int) -> float | None:
        """Price of so many tokens, or None."""
        if self.price_read is None or self.price_written is None:
            return None
        return (read * self.price_read + written * self.price_written) / 1e6


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(f"base_url must be like http://127.0.0.1:8000/v1, got {url!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "base_url must hold neither a password nor a query; a key belongs into the environment variable "
            "that key_variable names"
        )


class Endpoint:
    """Asks one endpoint from any number of threads.

    Args:
        config: see there.

    Raises:
        ValueError: the key is not in the environment.
        ImportError: ``requests`` is not installed.
    """

    def __init__(self, config: EndpointConfig) -> None:
        try:
            import requests  # noqa: F401
        except ImportError as error:
            raise ImportError('a served judge needs requests; type: pip install "v2w_gym[judges]"') from error
        self.config = config
        self.key = Key(config.key_variable)
        self._url = config.base_url.rstrip("/") + "/chat/completions"
        self._pace = Pace(config.requests_per_minute)
        self._circuit = Circuit(config.outages, config.cooldown)

    def ask(self, body: Mapping[str, Any], stopped: threading.Event) -> Any:
        """Post one request, trying again while that may help, and return its JSON.

        Args:
            body: the request.
            stopped: once set, nobody waits any longer.

        Raises:
            OutageError: no answer within the tries and the patience.
            RefusalError: an answer that would stay the same.
        """
        trial = self._circuit.admit()
        try:
            answer = self._tried(body, 1 if trial else self.config.tries, stopped)
        except OutageError as outage:
            if not stopped.is_set():  # else it says nothing about the endpoint
                self._circuit.failed(str(outage), trial)
            raise
        except RefusalError as refusal:
            if refusal.everything:
                self._circuit.failed(str(refusal), trial)
            else:
                self._circuit.succeeded()
            raise
        self._circuit.succeeded()
        return answer

    def _tried(self, body: Mapping[str, Any], tries: int, stopped: threading.Event) -> Any:
        config = self.config
        self._pace.turn(config.patience, stopped)
        until = time.monotonic() + config.patience
        for number in range(1, tries + 1):
            left = until - time.monotonic()
            try:
                return post(
                    self._url,
                    body,
                    self.key,
                    connect=config.connect_timeout,
                    seconds=min(config.read_timeout, max(left, 0.001)),
                    stopped=stopped,
                )
            except OutageError as outage:
                if outage.wait:
                    self._pace.pause(outage.wait)
                backoff = config.backoff * 2 ** (number - 1) * random.uniform(0.5, 1.0)
                left = until - time.monotonic()
                if number == tries or max(backoff, outage.wait or 0.0) > left or self._circuit.is_open():
                    raise OutageError(_told(outage, number, left)) from None
                sleep(backoff, stopped)
                left = max(0.0, until - time.monotonic())
                try:
                    self._pace.turn(left, stopped, longest=left)
                except OutageError as late:
                    raise OutageError(f"{_told(outage, number, left)}; {late}") from None
        raise AssertionError("a request is tried at least once")


def _told(outage: OutageError, tries: int, left: float) -> str:
    told = str(outage) + (f" ({tries} tries)" if tries > 1 else "")
    if outage.wait and outage.wait > left:
        told += f"; it wants to be left alone for {outage.wait:.0f} s, which is longer than the patience"
    return told
