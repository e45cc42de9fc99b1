"""How fast an endpoint may be asked, and when to stop asking one that is down; shared by all threads."""

from __future__ import annotations

import math
import threading
import time

from v2w_gym.rewards.served_http import OutageError

_LONGEST = 16  # times the first pause of a circuit


class Pace:
    """Gives requests their turn: evenly spaced, and none while the endpoint asks for a pause.

    Args:
        per_minute: requests at most; None for no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._spacing = 60.0 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0
        self._resumes = 0.0

    def turn(self, patience: float, stopped: threading.Event, *, longest: float = math.inf) -> None:
        """Wait for the turn of one request, however many stand before it.

        Args:
            patience: seconds of a pause that the endpoint asked for, at most.
            stopped: once set, nobody waits any longer.
            longest: seconds until the turn, at most; where it comes later, it is left to others.

        Raises:
            OutageError: the pause is longer, the turn comes later, or it was stopped.
        """
        with self._lock:
            now = time.monotonic()
            if (pause := self._resumes - now) > patience:
                raise OutageError(f"the endpoint wants to be left alone for another {pause:.0f} s")
            at = max(now, self._next, self._resumes)
            if at - now > longest:
                raise OutageError(
                    f"the next turn to ask comes in {at - now:.1f} s, which is longer than the patience"
                )
            self._next = at + self._spacing
        sleep(at - now, stopped)

    def pause(self, seconds: float) -> None:
        """Nobody's turn comes earlier than in ``seconds``."""
        with self._lock:
            self._resumes = max(self._resumes, time.monotonic() + seconds)


def sleep(seconds: float, stopped: threading.Event) -> None:
    """Wait.

    Raises:
        OutageError: it was stopped.
    """
    if stopped.wait(max(0.0, seconds)):
        raise OutageError("stopped")


class Circuit:
    """Opens after several failures in a row; then one trial at a time, ever more rarely, until one succeeds.

    Args:
        failures: in a row that open it.
        pause: seconds until the first trial; it doubles with each that fails, up to sixteenfold.
    """

    def __init__(self, failures: int, pause: float) -> None:
        self._limit, self._first = failures, pause
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = pause
        self._closed_at = 0.0
        self._last = ""

    def admit(self) -> bool:
        """Whether the request that is to come is a trial, which is tried once and not again.

        Raises:
            OutageError: the circuit is open.
        """
        with self._lock:
            if self._failures < self._limit:
                return False
            left = self._closed_at - time.monotonic()
            if left > 0:
                raise OutageError(
                    f"not asked: {self._failures} requests in a row had failed, and it is tried again in "
                    f"{left:.0f} s; the last one: {self._last}"
                )
            self._closed_at = time.monotonic() + self._pause  # the others wait for what this trial finds
            return True

    def is_open(self) -> bool:
        """Whether requests under way should give up, too."""
        with self._lock:
            return self._failures >= self._limit and time.monotonic() < self._closed_at

    def succeeded(self) -> None:
        """The endpoint answered."""
        with self._lock:
            self._failures, self._pause = 0, self._first

    def failed(self, reason: str, trial: bool) -> None:
        """The endpoint did not answer, however often it was tried."""
        with self._lock:
            self._failures += 1
            self._last = reason
            if trial:
                self._pause = min(2 * self._pause, _LONGEST * self._first)
            self._closed_at = time.monotonic() + self._pause
