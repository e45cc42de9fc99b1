"""Collects what sessions ask within a moment, and runs it as one round on the device's thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from v2w_gym.serve.jobs import Job
from v2w_gym.serve.rounds import Rounds

Asked = tuple[Job, asyncio.Future[dict[str, Any]]]


class StoppedError(ConnectionError):
    """The server has ended: nobody will answer any more."""


class Batcher:
    """Lives on an event loop, which it never keeps waiting.

    Args:
        rounds: does the work.
        thread: of one worker, where it does it.
        wait_s: how long the first request of a round waits for others.
        running: says how many sessions may ask for a step; once so many have asked, nobody waits longer.
    """

    def __init__(self, rounds: Rounds, thread: Executor, wait_s: float, running: Callable[[], int]) -> None:
        self._rounds, self._thread, self._wait_s, self._running = rounds, thread, wait_s, running
        self._arrived = asyncio.Event()
        self._waiting: list[Asked] = []
        self._stopped = False

    async def ask(self, job: Job) -> dict[str, Any]:
        """The answer to a job; raises what went wrong with it.

        Raises:
            StoppedError: there is no answer, since ``run`` has ended.
        """
        if self._stopped:  # a message may be read after the last round: its sender must not wait for ever
            raise StoppedError
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        self._arrived.set()
        return await future

    async def run(self) -> None:
        """Round after round, until cancelled; who then still waits is told."""
        loop = asyncio.get_running_loop()
        under_way: list[Asked] = []
        try:
            while True:
                if not under_way:
                    await self._company()
                under_way += self._waiting
                self._waiting = []
                await loop.run_in_executor(self._thread, self._rounds.perform, [job for job, _ in under_way])
                for job, future in under_way:
                    if job.answer is None and job.gone():
                        job.answer = {}  # the rest of a chunk that nobody waits for
                    if job.answer is not None:
                        _settle(future, job.answer)
                under_way = [(job, future) for job, future in under_way if job.answer is None]
        finally:
            self._stopped = True
            for _, future in (*under_way, *self._waiting):
                _settle(future, StoppedError())

    async def _company(self) -> None:
        """Wait for a request, and a moment for those of others."""
        await self._next()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                while len(self._waiting) < self._running():
                    await self._next(len(self._waiting))

    async def _next(self, known: int = 0) -> None:
        """Wait for more than ``known`` requests."""
        while len(self._waiting) <= known:
            self._arrived.clear()
            await self._arrived.wait()


def _settle(future: asyncio.Future[dict[str, Any]], answer: dict[str, Any] | Exception) -> None:
    if future.done():  # by the end of its conversation
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
