"""A server process that is killed and started again: clients are told, and go on from what they kept."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from alike import assert_alike, assert_same

import v2w_gym
from v2w_gym.envs.remote import RemoteEnv, ServerGoneError

pytestmark = pytest.mark.slow
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
CLIENTS = 6


class Served:
    """``v2w serve`` as a user starts it."""

    def __init__(self, world: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "v2w_gym", "serve", "--world", str(world), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "is served at ws://127.0.0.1:" in line, line
        self.url = line.split(" at ")[1].split(";")[0]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def start(tiny_world):
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        started.append(Served(tiny_world, *arguments, "terminate_on_success=false"))
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_clients_of_a_killed_server_go_on_as_if_nothing_had_been(start, tiny_world):
    port = str(free_port())
    server = start("--port", port)
    envs = [RemoteEnv(server.url, timeout_s=60) for _ in range(CLIENTS)]

    def begin(seed):
        envs[seed].reset(seed=seed)
        for action in ACTIONS[:3]:
            envs[seed].step(action)
        return envs[seed].snapshot()

    with ThreadPoolExecutor(CLIENTS) as threads:
        kept = list(threads.map(begin, range(CLIENTS)))
        under_way = [threads.submit(env.step_chunk, ACTIONS) for env in envs]
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        for asked in under_way:
            try:
                asked.result(30)  # the server may have been faster than the signal
            except ServerGoneError as error:
                assert "it died" in str(error) and "reconnect()" in str(error)  # noqa: PT017, PT018
    for env in envs:
        with pytest.raises(ServerGoneError, match=r"ended the session|is over"):
            env.step(ACTIONS[3])
        with pytest.raises(ServerGoneError, match=rf"no server .* v2w serve --world ID --port {port}"):
            env.reconnect()
    start("--port", port)
    local = v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False)
    for seed, env in enumerate(envs):
        env.reconnect()
        env.restore(kept[seed])
        local.reset(seed=seed)
        for action in ACTIONS[:3]:
            local.step(action)
        for action in ACTIONS[3:]:
            assert_alike(env.step(action), local.step(action))
        env.close()


def test_one_alone_goes_on_to_the_last_bit(start, tiny_world):
    server = start("--port", "0")
    env, local = RemoteEnv(server.url), v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False)
    assert_same(env.reset(seed=1), local.reset(seed=1))
    assert_same(env.step(ACTIONS[0]), local.step(ACTIONS[0]))
    kept = env.snapshot()
    server.end(signal.SIGKILL)
    with RemoteEnv(start("--port", "0").url) as other:
        other.restore(kept)
        assert_same(other.step(ACTIONS[1]), local.step(ACTIONS[1]))


def test_a_server_that_is_stopped_says_so_and_ends_well(start):
    server = start("--port", "0", "--slots", "1")
    with RemoteEnv(server.url) as env:
        env.reset(seed=0)
        assert server.end(signal.SIGTERM) == 0
        with pytest.raises(ServerGoneError, match="it was stopped"):
            env.step(ACTIONS[0])


def test_another_world_at_the_same_address_is_not_taken_for_the_first(start):
    port = str(free_port())
    server = start("--port", port)
    env = RemoteEnv(server.url)
    env.reset(seed=0)
    kept = env.snapshot()
    server.end(signal.SIGKILL)
    other = start("--port", port, "sampler={steps: 1}")
    with pytest.raises(ValueError, match="make a new environment"):
        env.reconnect()
    with RemoteEnv(other.url) as fresh, pytest.raises(ValueError, match="belongs to the world model"):
        fresh.restore(kept)
