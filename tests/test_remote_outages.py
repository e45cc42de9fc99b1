"""Every way in which the far side of a remote policy can fail."""

import signal
import socket
import threading
import time

import numpy as np
import pytest
from openpi_peer import Peer, openpi_server, pack
from test_remote_policy import observed, started, sums

from v2w_gym.wire import FarSideError, OutageError
from v2w_gym.wire.openpi import Endpoint
from v2w_gym.wire.openpi import OpenpiClient as OurClient


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def test_nobody_there():
    began = time.monotonic()
    with pytest.raises(OutageError, match=r"cannot be reached.*running there.*tried 2 times") as outage:
        started(f"ws://127.0.0.1:{free_port()}")
    assert time.monotonic() - began < 5
    assert isinstance(outage.value, ConnectionError)  # an outage, not junk


def test_somebody_who_accepts_and_is_silent():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(OutageError, match="accepted no connection"):
            started(url, connect_timeout_s=0.2, attempts=1)


def test_somebody_who_shakes_hands_and_is_silent():
    with Peer(wait) as server, pytest.raises(OutageError, match=r"said nothing after 0.*speaks first"):
        started(server.url, connect_timeout_s=0.2, attempts=1)


def test_a_message_in_many_pieces():
    def converse(websocket):
        websocket.send(pack({}))
        websocket.recv()
        websocket.send([GOOD[i : i + 7] for i in range(0, len(GOOD), 7)])
        wait(websocket)

    with Peer(converse) as server:
        policy = started(server.url, slots=1)
        assert policy.act(observed(1)).shape == (1, 4)
        policy.close()


@pytest.fixture
def interruptible():
    """Sends Ctrl-C to the main thread, which a parallel test runner may have told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_call_does_not_leave_its_answer_to_the_next(interruptible):
    """Ctrl-C while waiting, and the same policy is used again."""
    levels = iter([0.1, 0.2, 0.3])

    def infer(observation):
        level = next(levels)
        time.sleep(0.3 if level == 0.2 else 0)
        return {"actions": np.full((1, 4), level)}

    with openpi_server(infer) as server:
        policy = started(server.url, slots=1)
        policy.act(observed(1))
        threading.Timer(0.1, interruptible).start()
        with pytest.raises(KeyboardInterrupt):
            policy.act(observed(1))
        np.testing.assert_allclose(policy.act(observed(1))[0, 0], 0.3, atol=1e-6)
        policy.close()


def test_a_server_that_is_none():
    peer = Peer(lambda websocket: None, lambda connection, _: connection.respond(404, "no"))
    with peer as server, pytest.raises(OutageError, match="HTTP status 404"):
        started(server.url)


def scripted(*answers, after=lambda websocket: None):
    """Metadata, then for each observation the next of ``answers``, as it is; then ``after``."""

    def converse(websocket):
        websocket.send(pack({}))
        for answer in answers:
            websocket.recv()
            websocket.send(answer)
        websocket.recv()
        after(websocket)

    return Peer(converse)


GOOD = pack({"actions": np.zeros((1, 4))})


def wait(websocket):
    websocket.recv()  # until the client closes


JUNK = {
    "no message": (b"\xdd\xff\xff\xff\xff", "no openpi message"),
    "half a message": (GOOD[:-3], "no openpi message"),
    "no map": (pack([1, 2]), "a map was expected"),
    "no actions": (pack({"action": np.zeros((1, 4))}), "without 'actions'.*'action'"),
    "no array": (pack({"actions": [[0.0] * 4]}), "got list"),
    "one action alone": (pack({"actions": np.zeros(4)}), r"\(horizon, action_dim\), got float64 \(4,\)"),
    "a batch": (pack({"actions": np.zeros((1, 1, 4))}), r"got float64 \(1, 1, 4\)"),
    "no steps": (pack({"actions": np.zeros((0, 4))}), r"got float64 \(0, 4\)"),
    "texts": (pack({"actions": np.array([["a"]])}), "numbers"),
    "NaN": (pack({"actions": np.array([[0, 1, np.nan, 0]])}), r"nan in action \(0, 2\)"),
    "infinite": (pack({"actions": np.array([[0, np.inf]])}), r"inf in action \(0, 1\)"),
}


@pytest.mark.parametrize(("answer", "why"), JUNK.values(), ids=JUNK)
def test_junk_is_not_taken_for_an_outage(answer, why):
    with scripted(answer, after=wait) as server:
        policy = started(server.url, slots=1)
        with pytest.raises(ValueError, match=why) as refusal:
            policy.act(observed(1))
        assert server.url in str(refusal.value)
        policy.close()


def test_slots_whose_chunks_differ():
    with scripted(GOOD, pack({"actions": np.zeros((2, 4))}), after=wait) as server:
        policy = started(server.url)
        with pytest.raises(ValueError, match="different shapes"):
            policy.act(observed(2))
        policy.close()


def test_a_text_frame_is_the_far_sides_own_error():
    def infer(observation):
        raise KeyError("observation/wrist_image")

    with openpi_server(infer) as server:
        policy = started(server.url, slots=1)
        with pytest.raises(
            FarSideError, match=r"reports an error of its own(.|\n)*KeyError.*wrist_image"
        ) as told:
            policy.act(observed(1))
        assert "observation/image: uint8 (8, 8, 3)" in str(told.value)
        policy.reset(["go"], [0])  # the connection is gone; the next episode has a new one
        policy.close()


def test_an_error_instead_of_metadata():
    peer = Peer(lambda websocket: websocket.send("Traceback: out of memory"))
    with peer as server, pytest.raises(FarSideError, match="out of memory"):
        started(server.url)


def test_a_silent_call_ends_in_time_and_is_not_repeated():
    asked = []

    def silent(websocket):
        asked.append(1)
        wait(websocket)

    with scripted(after=silent) as server:
        policy = started(server.url, slots=1, call_timeout_s=0.2)
        began = time.monotonic()
        with pytest.raises(OutageError, match=r"gave no answer after 0\.2 s; sent: .*uint8.*call_timeout_s"):
            policy.act(observed(1))
        assert time.monotonic() - began < 3
    assert asked == [1]


def test_a_far_side_that_does_not_read():
    """Its network fills up; sending must not last for ever."""

    def converse(websocket):
        websocket.send(pack({}))
        websocket.recv_flow_control.acquire()  # nothing is read from the socket any more
        stop.wait(10)
        websocket.recv_flow_control.release()

    stop = threading.Event()
    with Peer(converse) as server:
        client = OurClient(Endpoint(server.url, call_timeout_s=0.5))
        began = time.monotonic()
        with pytest.raises(OutageError, match="gave no answer"):
            client.infer({"image": np.zeros((40_000_000,), np.uint8)})
        assert time.monotonic() - began < 5
        stop.set()


def test_slow_is_not_silent():
    def slow(observation):
        time.sleep(0.3)
        return sums(observation)

    with openpi_server(slow) as server:
        policy = started(server.url, slots=1, call_timeout_s=5.0)
        assert policy.act(observed(1)).shape == (1, 4)
        policy.close()


def test_an_answer_beyond_the_limit():
    from v2w_gym.wire.structure import Limits

    with scripted(pack({"actions": np.zeros((1000, 4))}), after=wait) as server:
        client = OurClient(Endpoint(server.url, limits=Limits(size=1000)))
        with pytest.raises(OutageError, match="more than 1,000 bytes"):
            client.infer({"prompt": "go"})


def test_a_dead_connection_is_made_again_where_the_policy_keeps_nothing():
    """openpi's servers keep nothing between calls: the episode goes on."""
    answered = []

    def converse(websocket):
        websocket.send(pack({}))
        websocket.recv()
        answered.append(1)
        websocket.send(GOOD)  # one answer a connection, then it dies without a word
        websocket.recv()
        websocket.socket.shutdown(socket.SHUT_RDWR)

    with Peer(converse) as server:
        policy = started(server.url, slots=1)
        for _ in range(4):
            assert policy.act(observed(1)).shape == (1, 4)
        policy.close()
    assert len(answered) == 4


def test_a_dead_connection_ends_an_episode_that_it_kept():
    def converse(websocket):
        websocket.send(pack({"connection": "episode"}))
        websocket.recv()
        websocket.send(GOOD)
        websocket.recv()
        websocket.close(1012, "service restart")

    with Peer(converse) as server:
        policy = started(server.url, slots=1)
        policy.act(observed(1))
        with pytest.raises(OutageError, match=r"went away.*1012.*service restart.*sent: .*look at its log"):
            policy.act(observed(1))
        with pytest.raises(OutageError, match="middle of an episode"):
            policy.act(observed(1))
        policy.reset(["go"], [0])
        assert policy.act(observed(1)).shape == (1, 4)
        policy.close()


def test_a_server_killed_for_good_in_the_middle():
    with scripted(GOOD, after=lambda websocket: websocket.socket.shutdown(socket.SHUT_RDWR)) as server:
        policy = started(server.url, slots=1)
        policy.act(observed(1))
        threading.Thread(target=server.server.shutdown).start()
        server.server.socket_closed.wait()
        with pytest.raises(OutageError, match="tried 2 times"):
            policy.act(observed(1))
