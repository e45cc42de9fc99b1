"""A served episode equals a local one, and no client is in the way of another."""

from __future__ import annotations

import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import gymnasium
import numpy as np
import pytest
from alike import assert_alike, assert_same
from gymnasium.utils.env_checker import check_env
from served import bare, tiny_server
from test_bad_input_env import BAD_ACTIONS, BAD_OPTIONS
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import v2w_gym
from v2w_gym.envs.protocol import BAD_REQUEST, FULL, RESET_NEEDED, TOKEN_VARIABLE
from v2w_gym.envs.remote import RemoteEnv, ServerFullError, ServerGoneError
from v2w_gym.envs.settings import Settings, gather
from v2w_gym.serve.environments import EnvironmentServer, ServeConfig
from v2w_gym.serve.jobs import Job
from v2w_gym.serve.rounds import Rounds
from v2w_gym.serve.sessions import FullError, Sessions
from v2w_gym.wire.arrays import pack

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
FRAMES = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def url(tiny_world):
    with tiny_server(tiny_world, slots=4) as url:
        yield url


@pytest.fixture
def remote(url):
    with RemoteEnv(url, render_mode="rgb_array") as env:
        yield env


@pytest.fixture(scope="module")
def local(tiny_world):
    return v2w_gym.WorldModelEnv(tiny_world, terminate_on_success=False, render_mode="rgb_array")


RESETS = {
    "seed": {"seed": 5},
    "no seed": {},
    "start": {"seed": 1, "options": {"start": "seed-0042", "task": "open the drawer"}},
    "frames": {"seed": 2, "options": {"frames": FRAMES, "actions": ACTIONS[:2], "noise_seed": 3}},
}


def test_alone_a_session_equals_a_local_environment_to_the_last_bit(remote, local):
    for reset in RESETS.values():  # without a seed, both go on with their generator
        assert_same(remote.reset(**reset), local.reset(**reset))
        assert_same(remote.step(ACTIONS[0]), local.step(ACTIONS[0]))
        assert_same(remote.step_chunk(ACTIONS[:3]), local.step_chunk(ACTIONS[:3]))
        np.testing.assert_array_equal(remote.render(), local.render())
        assert (remote.task, remote._max_episode_steps) == (local.task, local._max_episode_steps)
    assert_same(remote.step_chunk(ACTIONS), local.step_chunk(ACTIONS))  # beyond the end
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"ended; call env\.reset"):
        remote.step(ACTIONS[0])
    assert remote.action_space == local.action_space
    assert remote.observation_space == local.observation_space


def test_gymnasium_finds_nothing_to_say(url):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(
            "v2w_gym:Vid2World-Remote-v0", url=url, render_mode="rgb_array", obs_type="pixels"
        )
        check_env(env.unwrapped)
        assert env.spec.to_json()
        env.close()
        env.close()


def test_a_snapshot_goes_to_another_session_and_to_a_file(remote, local, url, tmp_path):
    local.reset(seed=4)
    remote.reset(seed=4)
    for action in ACTIONS[:2]:
        local.step(action)
        remote.step(action)
    kept = remote.snapshot()
    expected = [local.step(action) for action in ACTIONS[2:4]]
    with RemoteEnv(url) as other:
        other.restore(kept)
        assert_same([other.step(action) for action in ACTIONS[2:4]], expected)
    remote.step(ACTIONS[5])
    remote.restore(kept)
    assert_same([remote.step(action) for action in ACTIONS[2:4]], expected)
    (tmp_path / "kept").write_bytes(kept)
    local.restore(v2w_gym.Snapshot.load(tmp_path / "kept"))
    assert_same([local.step(action) for action in ACTIONS[2:4]], expected)


def test_bad_input_is_refused_and_changes_nothing(remote, local, url):
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"call env\.reset"):
        remote.step(ACTIONS[0])
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"call env\.reset"):
        remote.snapshot()
    with pytest.raises(gymnasium.error.ResetNeeded, match="no frame yet"):
        remote.render()
    remote.reset(seed=3)
    local.reset(seed=3)
    for action, match in BAD_ACTIONS.values():
        with pytest.raises(ValueError, match=match):
            remote.step(action)
        with pytest.raises(ValueError, match=match):
            local.step(action)
    for options, match in BAD_OPTIONS.values():
        with pytest.raises(ValueError, match=match):
            remote.reset(seed=7, options=options)
    for seed in (-1, 0.5, "seven"):
        with pytest.raises(ValueError, match=r"seed|Seed"):
            remote.reset(seed=seed)
    with pytest.raises(ValueError, match="64 at most"):
        remote.reset(options={"frames": np.zeros((65, 48, 48, 3), np.uint8)})
    with pytest.raises(ValueError, match="at most 256"):
        remote.step_chunk(np.zeros((257, 4)))
    with pytest.raises(ValueError, match=r"takes at most"):
        remote.reset(options={"frames": np.zeros((2000, 48, 48, 3), np.uint8)})
    for junk in (b"junk", "text", None, remote.snapshot()[:-9]):
        with pytest.raises(ValueError, match=r"damaged|must be bytes"):
            remote.restore(junk)
    assert_same(remote.step(ACTIONS[0]), local.step(ACTIONS[0]))
    assert_same(remote.reset(), local.reset())  # the generators are where they were
    for arguments in (
        {"url": "http://x"},
        {"url": "ws://"},
        {"url": "ws://x:port"},
        {"obs_type": "state"},
        {"timeout_s": 0},
        {"timeout_s": float("inf")},
    ):
        with pytest.raises(ValueError, match=r"must|expected"):
            RemoteEnv(**{"url": url, **arguments})


@pytest.mark.parametrize("what", ["nan", "shape", "missing", "counter", "other"])
def test_a_snapshot_that_fits_no_episode_of_this_world_is_refused(what, remote, local, tmp_path, tiny_world):
    env = v2w_gym.WorldModelEnv(tiny_world, sampler={"steps": 1}) if what == "other" else local
    env.reset(seed=0)
    kept = env.snapshot()
    if what == "nan":
        kept.state.latent[:] = float("nan")
    elif what == "shape":
        kept = kept[[0, 0]]
    elif what == "missing":
        del kept.state.cache["frames"]
    elif what == "counter":
        kept.episodes.elapsed[:] = -5
    kept.save(tmp_path / "kept")
    remote.reset(seed=1)
    with pytest.raises(ValueError, match=r"damaged, or no snapshot of one|belongs to the world model"):
        remote.restore((tmp_path / "kept").read_bytes())
    local.reset(seed=1)
    assert_same(remote.step(ACTIONS[0]), local.step(ACTIONS[0]))


def test_messages_by_hand(url):
    with bare(url) as client:
        assert client.ask("step", action=ACTIONS[0])["error"] == BAD_REQUEST
        assert "version" in client.ask("open", version=99)["message"]
        client.open()
        assert "another connection" in client.ask("open", version=1)["message"]
        assert client.ask("step", action=ACTIONS[0])["error"] == RESET_NEEDED
        assert "unknown session" in client.ask("reset", session="deadbeef")["message"]
        assert "unknown op" in client.ask("fly")["message"]
        assert "binary" in client.say("{}")["message"]
        assert client.say(pack([1]))["error"] == BAD_REQUEST
        assert client.say(b"\xc1")["error"] == BAD_REQUEST
        assert '"id"' in client.say(pack({"op": "render", "session": client.session}))["message"]
        assert "pixels" in client.ask("reset", seed=0)


def test_a_full_server_says_so_and_gives_freed_slots_to_others(tiny_world):
    with tiny_server(tiny_world, slots=2) as url:
        first, second = RemoteEnv(url), RemoteEnv(url)
        first.reset(seed=0)
        with pytest.raises(ServerFullError, match="all 2 slots are taken"):
            RemoteEnv(url)
        with bare(url) as client:
            assert client.ask("open", version=1)["error"] == FULL
        first.close()
        with RemoteEnv(url) as third, pytest.raises(gymnasium.error.ResetNeeded):
            third.step(ACTIONS[0])  # nothing is left of who was there before
        second.close()


def test_a_slot_given_back_twice_is_not_taken_from_who_has_it_now():
    sessions = Sessions(1)
    first = sessions.open()
    sessions.release(first)
    sessions.open()
    sessions.release(first)
    with pytest.raises(FullError):
        sessions.open()


def test_an_idle_session_ends_and_says_why(tiny_world):
    with tiny_server(tiny_world, slots=1, idle_s=1.0) as url:
        env = RemoteEnv(url)
        env.reset(seed=0)
        time.sleep(1.5)
        with RemoteEnv(url) as other:
            other.reset(seed=0)
            with pytest.raises(ServerGoneError, match=r"asked nothing for 1 s.*reconnect"):
                env.step(ACTIONS[0])
            with pytest.raises(ServerGoneError, match=r"is over.*reconnect"):
                env.step(ACTIONS[0])
        env.reconnect()
        env.reset(seed=0)
        env.close()


def test_who_may_come_in(tiny_world, url, monkeypatch):
    with pytest.raises(InvalidStatus, match="403"), connect(url, origin="http://localhost"):
        pass
    with pytest.raises(ValueError, match=rf"0\.0\.0\.0 can be reached .* {TOKEN_VARIABLE}"):
        EnvironmentServer(tiny_world, ServeConfig(host="0.0.0.0"))
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    with pytest.raises(ValueError, match="at least 16"):
        EnvironmentServer(tiny_world)
    monkeypatch.setenv(TOKEN_VARIABLE, "a-token-of-some-length")
    with tiny_server(tiny_world, slots=1) as url:
        RemoteEnv(url).close()
        for other in ("a-token-of-some-lengtH", ""):
            monkeypatch.setenv(TOKEN_VARIABLE, other)
            with pytest.raises(PermissionError, match=rf"wants its token: export {TOKEN_VARIABLE}"):
                RemoteEnv(url)


def test_nobody_there_and_somebody_else():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    with pytest.raises(ServerGoneError, match=rf"no server .* v2w serve --world ID --port {port}"):
        RemoteEnv(f"ws://127.0.0.1:{port}")


def half_a_message(url: str) -> socket.socket:
    """A client that shakes hands and then sends the beginning of a frame."""
    address = urlsplit(url)
    raw = socket.create_connection((address.hostname, address.port))
    raw.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert b"101" in raw.recv(4096)
    raw.sendall(b"\x82\xfe\xff")
    return raw


def small_ear(url: str) -> socket.socket:
    """A connection that holds little of what it has not read yet."""
    address = urlsplit(url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((address.hostname, address.port))
    return raw


def room_within(url: str, seconds: float) -> bool:
    """Whether a slot becomes free."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            RemoteEnv(url).close()
        except ServerFullError:
            time.sleep(0.1)
        else:
            return True
    return False


def slowest(env: RemoteEnv) -> float:
    """Seconds of the slowest of some steps."""
    seconds = []
    for action in ACTIONS[:5]:
        begin = time.perf_counter()
        env.step(action)
        seconds.append(time.perf_counter() - begin)
    return max(seconds)


@pytest.mark.slow
def test_a_client_that_does_not_read_or_sends_half_a_message_stalls_nobody(tiny_world):
    with tiny_server(tiny_world, slots=2, send_s=3.0) as url, RemoteEnv(url) as env:
        env.reset(seed=0)
        alone = slowest(env)
        halves = [half_a_message(url) for _ in range(3)]
        with bare(url, sock=small_ear(url), max_queue=1, ping_interval=None) as deaf:
            deaf.open().ask("reset", seed=0)
            size = len(deaf.ask("snapshot")["snapshot"])
            for _ in range(5_000_000 // size):  # answers of more than what buffers hold
                deaf.socket.send(pack({"op": "snapshot", "id": 1, "session": deaf.session}))
            env.reset(seed=0)
            assert slowest(env) < 2.5 + 10 * alone
            assert room_within(url, seconds=20)  # once the deaf one was cut off
        for half in halves:
            half.close()


def test_who_makes_a_batch_fail_fails_alone(tiny_world):
    settings = Settings(terminate_on_success=False)
    parts = gather(tiny_world, settings)

    class Fragile:
        """Breaks where an action says so."""

        def __getattr__(self, name):
            return getattr(parts.model, name)

        def step(self, state, action):
            if (np.asarray(action) > 0.99).any():
                raise MemoryError("too much")
            return parts.model.step(state, action)

    rounds, sessions = Rounds(replace(parts, model=Fragile()), settings, 3), Sessions(3)
    opened = [sessions.open() for _ in range(3)]

    def do(op, fields):
        jobs = [Job(session, op, values) for session, values in zip(opened, fields, strict=True)]
        rounds.perform(jobs)
        return [job.answer for job in jobs]

    do("reset", [{"seed": seed} for seed in range(3)])
    actions = [ACTIONS[0] * 0.5, np.ones(4, np.float32), ACTIONS[1] * 0.5]
    answers = do("step", [{"action": action} for action in actions])
    assert isinstance(answers[1], MemoryError)
    assert [answers[i]["info"]["elapsed_steps"] for i in (0, 2)] == [1, 1]
    (answer,) = (do("step", [{"action": actions[0]}] * 3)[1],)
    assert answer["info"]["elapsed_steps"] == 1


def test_steps_of_many_threads_make_batches_and_equal_local_ones(tiny_world, monkeypatch):
    sizes = count_batches(monkeypatch)
    crowd(tiny_world, sessions=4, steps=3)
    assert max(sizes) >= 2


@pytest.mark.slow
def test_64_sessions_take_a_thousand_steps(tiny_world, monkeypatch):
    sizes = count_batches(monkeypatch)
    crowd(tiny_world, sessions=64, steps=16)  # 1,024 in all
    assert sum(sizes) == 64 * 16
    assert max(sizes) >= 22


def count_batches(monkeypatch) -> list[int]:
    sizes: list[int] = []
    step = Rounds._step

    def counted(rounds, jobs):
        sizes.append(len(jobs))
        step(rounds, jobs)

    monkeypatch.setattr(Rounds, "_step", counted)
    return sizes


def crowd(world, sessions: int, steps: int) -> None:
    """Each session in its own thread; what it sees is what a local environment of its seed sees."""
    start = threading.Barrier(sessions)

    def play(env, seed):
        rng, seen = np.random.default_rng(seed), []
        ended = True
        for _ in range(steps):
            if ended:
                seen.append(env.reset(seed=seed if not seen else None))
            step = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
            seen.append(step)
            ended = step[2] or step[3]
        return seen

    def session(seed):
        with RemoteEnv(url) as env:
            start.wait(60)
            return play(env, seed)

    with tiny_server(world, slots=sessions) as url, ThreadPoolExecutor(sessions) as threads:
        found = list(threads.map(session, range(sessions)))
    local = v2w_gym.WorldModelEnv(world, terminate_on_success=False)
    for seed, seen in enumerate(found):
        assert_alike(seen, play(local, seed))


@pytest.mark.slow
def test_processes_of_a_vector_environment_have_a_session_each(tiny_world):
    seeds, rows = [3, 4, 5], np.stack([ACTIONS[0]] * 3)
    local = v2w_gym.WorldModelVectorEnv(3, tiny_world, terminate_on_success=False)
    with tiny_server(tiny_world, slots=4) as url:  # one for the environment that is looked at first
        envs = gymnasium.make_vec(
            "v2w_gym:Vid2World-Remote-v0",
            num_envs=3,
            vectorization_mode="async",
            vector_kwargs={"context": "spawn"},
            url=url,
        )
        assert_alike(envs.reset(seed=seeds)[0]["pixels"], local.reset(seed=seeds)[0]["pixels"])
        assert_alike(envs.step(rows)[0]["pixels"], local.step(rows)[0]["pixels"])
        envs.close()
