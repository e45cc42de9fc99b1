"""Timing. What is compared is timed in turns, so a machine that slows down slows both sides."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Call = Callable[[], object]


def settle() -> None:
    """Wait for what an accelerator still has to do."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def seconds(call: Call) -> float:
    """Of one call, in wall time."""
    settle()
    begin = time.perf_counter()
    call()
    settle()
    return time.perf_counter() - begin


@dataclass(frozen=True)
class Turns:
    """Seconds of several calls; entry i of each was taken in turn i."""

    seconds: Mapping[str, list[float]]

    def ms(self, name: str) -> float:
        """Median milliseconds of a call."""
        return 1e3 * statistics.median(self.seconds[name])

    def ratio(self, over: str, under: str) -> float:
        """Median of the ratios of two calls, turn by turn."""
        return statistics.median(a / b for a, b in zip(self.seconds[over], self.seconds[under], strict=True))


def in_turns(calls: Mapping[str, Call], rounds: int, limit_s: float = 10.0) -> Turns:
    """Time the calls one after another, again and again, every other round backwards, once all were made.

    Args:
        calls: by name.
        rounds: how often, at least 1.
        limit_s: no round begins after so many seconds, once there are three.
    """
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for i in range(rounds):
        if i >= 3 and time.perf_counter() - begin > limit_s:
            break
        for name in list(calls) if i % 2 == 0 else reversed(list(calls)):
            taken[name].append(seconds(calls[name]))
    return Turns(taken)
