"""Whatever a client sends, the server answers with a clear error or a result, and goes on."""

from __future__ import annotations

import string
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from served import Bare, bare, tiny_server

from v2w_gym.envs.protocol import BAD_REQUEST, OPS, RESET_NEEDED
from v2w_gym.wire.arrays import pack

FAST, SLOW = 200, 10_000
GOOD = np.full(4, 0.25, np.float32)

texts = st.text(string.printable, max_size=12)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.booleans() | st.none()


def filled(dtype: str, shape: tuple[int, ...], fill: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.full(shape, fill).astype(dtype)


arrays = st.builds(
    filled,
    st.sampled_from(["u1", "i8", "f4", "f8", "b1", "U3"]),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    st.sampled_from([0, 1, 255, -1.0, 0.5, float("nan"), float("inf"), 1e38]),
)
frames = st.integers(0, 3).map(lambda f: np.zeros((f, 48, 48, 3), np.uint8))
leaves = numbers | texts | arrays | frames | st.binary(max_size=20)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
options = st.dictionaries(
    st.sampled_from(["start", "frames", "actions", "task", "noise_seed", "reset_mask"]),
    values | st.sampled_from(["seed-0007", "close the drawer", 3]),
    max_size=3,
)
fields = st.fixed_dictionaries(
    {"op": st.sampled_from([op for op in OPS if op != "close"]) | values},
    optional={
        "id": st.just(1) | numbers,
        "session": values,
        "seed": st.integers(0, 9) | values,
        "options": options | values,
        "action": arrays | values | st.just(GOOD),
        "actions": arrays | values,
        "snapshot": st.binary(max_size=200) | values,
        "version": numbers,
    },
)


def damaged(draw, whole: bytes) -> bytes:
    """``whole`` with some bytes changed, cut off, or doubled."""
    data = bytearray(whole)
    for place in draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=6)):
        data[place] = draw(st.integers(0, 255))
    cut = draw(st.none() | st.integers(0, len(data)))
    return bytes(data[:cut]) if draw(st.booleans()) else bytes(data)


class Target:
    """A client with an episode under way, and all that it may send."""

    def __init__(self, client: Bare) -> None:
        self.client = client
        client.ask("reset", seed=0)
        self.kept = client.ask("snapshot")["snapshot"]
        self.frame = client.ask("step", action=GOOD)["pixels"]

    def message(self, draw) -> bytes | str:
        kind = draw(st.sampled_from(["bytes", "text", "map", "own map", "own map", "damaged", "snapshot"]))
        if kind == "bytes":
            return draw(st.binary(max_size=60))
        if kind == "text":
            return draw(texts)
        if kind == "map":
            return pack(draw(values))
        if kind == "snapshot":
            # most of the file is numbers of the state: its beginning names the tensors
            head = int.from_bytes(self.kept[:8], "little") + 8
            changed = damaged(draw, self.kept[:head]) + self.kept[head:]
            return pack({"op": "restore", "id": 1, "session": self.client.session, "snapshot": changed})
        whole = {"id": 1, "session": self.client.session, **draw(fields)}
        return damaged(draw, pack(whole)) if kind == "damaged" else pack(whole)

    def check(self, message: bytes | str) -> None:
        answer = self.client.say(message)
        if "error" in answer:
            assert answer["error"] in (BAD_REQUEST, RESET_NEEDED), answer
            assert 10 < len(answer["message"]) <= 2000

    def still_well(self) -> None:
        self.client.ask("restore", snapshot=self.kept)
        np.testing.assert_array_equal(self.client.ask("step", action=GOOD)["pixels"], self.frame)


@pytest.fixture(scope="module")
def url(tiny_world):
    with tiny_server(tiny_world, slots=3) as url:
        yield url


@pytest.fixture
def target(url):
    with bare(url) as client:
        yield Target(client.open())


def fuzz(cases: int, send) -> None:
    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @seed(0)
    @given(st.data())
    def one(data) -> None:
        send(data.draw)

    one()


def fuzz_a_session(target: Target, cases: int) -> None:
    fuzz(cases, lambda draw: target.check(target.message(draw)))
    target.still_well()


def fuzz_the_door(url: str, cases: int) -> None:
    """The same before anything was opened; clients that come to be let in are followed by others."""
    clients = [open_client(url)]

    def send(draw) -> None:
        message = draw(st.binary(max_size=60)) if draw(st.booleans()) else pack({"id": 1, **draw(fields)})
        answer = clients[-1][1].say(message)
        assert "session" in answer or (answer["error"] == BAD_REQUEST and answer["message"])
        if "session" in answer or draw(st.integers(0, 20)) == 0:
            clients.pop()[0].close()
            clients.append(open_client(url))

    fuzz(cases, send)
    clients.pop()[0].close()


def open_client(url: str) -> tuple[ExitStack, Bare]:
    stack = ExitStack()
    return stack, stack.enter_context(bare(url))


def test_any_message_is_answered(target):
    fuzz_a_session(target, FAST)


def test_any_first_message_is_answered(url):
    fuzz_the_door(url, FAST // 4)


@pytest.mark.slow
def test_any_of_very_many_messages_is_answered(target, url):
    fuzz_a_session(target, SLOW)
    fuzz_the_door(url, SLOW // 10)
