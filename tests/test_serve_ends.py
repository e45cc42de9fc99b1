"""What ends in the middle: a server that stops, a chunk that fails, a client that cannot be made."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from served import tiny_server
from test_serve import room_within

import v2w_gym
from v2w_gym.envs.remote import RemoteEnv, ServerFullError, ServerGoneError
from v2w_gym.envs.settings import Settings
from v2w_gym.serve.batching import Batcher, StoppedError
from v2w_gym.serve.environments import ServeConfig, serving
from v2w_gym.serve.jobs import Job
from v2w_gym.serve.rounds import Rounds
from v2w_gym.serve.sessions import Session

ACTION, BAD = np.full(4, 0.25, np.float32), np.ones(4, np.float32)


@pytest.fixture
def slow(monkeypatch):
    """Steps on the server begin, and end when the test says so."""
    begun, go_on, step = threading.Event(), threading.Event(), Rounds._step

    def slowly(rounds, jobs):
        begun.set()
        assert go_on.wait(20)
        step(rounds, jobs)

    monkeypatch.setattr(Rounds, "_step", slowly)
    return begun, go_on


def test_a_server_that_stops_tells_a_client_that_waits_for_a_step(tiny_world, slow):
    begun, go_on = slow
    with ThreadPoolExecutor(1) as thread, ExitStack() as server:
        env = RemoteEnv(server.enter_context(tiny_server(tiny_world, slots=1)))
        env.reset(seed=0)
        waiting = thread.submit(env.step, ACTION)
        assert begun.wait(20)
        threading.Timer(0.2, go_on.set).start()
        server.close()
        with pytest.raises(ServerGoneError, match=r"it was stopped.*reconnect"):
            waiting.result(20)


def test_a_client_that_vanishes_in_a_step_keeps_its_slot_until_that_is_done(tiny_world, slow):
    """Else the step would be taken in the episode of who comes next."""
    begun, go_on = slow
    with tiny_server(tiny_world, slots=1) as url, ThreadPoolExecutor(1) as thread:
        env = RemoteEnv(url)
        env.reset(seed=0)
        waiting = thread.submit(env.step, ACTION)
        assert begun.wait(20)
        env._connection._socket.socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ServerGoneError, match="it died"):
            waiting.result(20)
        with pytest.raises(ServerFullError):
            RemoteEnv(url)
        go_on.set()
        assert room_within(url, seconds=20)


def test_a_chunk_ends_with_the_round_in_which_its_client_vanishes(tiny_world, monkeypatch, slow):
    begun, go_on = slow
    rounds, perform = [], Rounds.perform
    monkeypatch.setattr(Rounds, "perform", lambda self, jobs: (rounds.append(jobs), perform(self, jobs)))
    with tiny_server(tiny_world, slots=1) as url, ThreadPoolExecutor(1) as thread:
        env = RemoteEnv(url)
        env.reset(seed=0)
        rounds.clear()
        waiting = thread.submit(env.step_chunk, np.stack([ACTION] * 5))
        assert begun.wait(20)
        env._connection._socket.socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ServerGoneError, match="it died"):
            waiting.result(20)
        with pytest.raises(ServerFullError):  # by the time that this is told, the other's end is known
            RemoteEnv(url)
        go_on.set()
        assert room_within(url, seconds=20)
        assert len(rounds) == 1


def test_who_asks_after_the_last_round_is_not_kept_waiting():
    async def asked_too_late():
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(object(), thread, 0.0, lambda: 0)
            work = asyncio.create_task(batcher.run())
            await asyncio.sleep(0)
            work.cancel()
            await asyncio.wait([work])
            await asyncio.wait_for(batcher.ask(Job(Session(0), "render", {})), 5)

    with pytest.raises(StoppedError):
        asyncio.run(asked_too_late())


def test_a_chunk_that_fails_inside_says_how_many_steps_were_taken(tiny_world, monkeypatch):
    step = Rounds._step

    def fragile(rounds, jobs):
        if any((job.vector > 0.99).all() for job in jobs):
            raise MemoryError("too much")
        step(rounds, jobs)

    monkeypatch.setattr(Rounds, "_step", fragile)
    with tiny_server(tiny_world, slots=1) as url, RemoteEnv(url) as env:
        env.reset(seed=0)
        with pytest.raises(RuntimeError, match=r"too much.*the first 2 steps of the chunk have been taken"):
            env.step_chunk(np.stack([ACTION, ACTION, BAD, ACTION]))
        with pytest.raises(RuntimeError, match=r"too much.*nothing has changed"):
            env.step(BAD)
        assert env.step(ACTION)[4]["elapsed_steps"] == 3


def test_an_environment_that_cannot_be_made_gives_its_slot_back(tiny_world):
    with tiny_server(tiny_world, slots=1) as url:
        for _ in range(2):
            with pytest.raises(ValueError, match="render_mode must be"):
                RemoteEnv(url, render_mode="ansi")
        RemoteEnv(url).close()


def test_other_rewards_at_the_same_address_are_not_taken_for_the_first(tiny_world):
    with serving(tiny_world, ServeConfig(port=0, slots=1)) as url:
        env = RemoteEnv(url)
    port = int(url.rpartition(":")[2])
    with serving(tiny_world, ServeConfig(port=port, slots=1), Settings(reward="dense")):
        with pytest.raises(ValueError, match=r"'reward': 'dense'.*no longer.*'reward': 'sparse'"):
            env.reconnect()
        RemoteEnv(url).close()


def test_a_snapshot_of_an_environment_of_tensors_is_taken(tiny_world, tmp_path):
    local = v2w_gym.WorldModelEnv(tiny_world, output="torch", terminate_on_success=False)
    local.reset(seed=0)
    local.snapshot().save(tmp_path / "kept")
    with tiny_server(tiny_world, slots=1) as url, RemoteEnv(url) as env:
        _, info = env.restore((tmp_path / "kept").read_bytes())
        assert info["elapsed_steps"] == 0
        here = local.step(ACTION)[0]["pixels"].numpy()
        np.testing.assert_array_equal(env.step(ACTION)[0]["pixels"], here)
