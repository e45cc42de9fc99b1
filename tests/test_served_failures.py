"""Every way an endpoint can fail: no vote, a reason, and no endless waiting."""

from __future__ import annotations

import contextlib
import email.utils
import json
import math
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_server import Answer, OpenAIServer, completion, error, reply, unused_port
from test_served import clip, judge

from v2w_gym.rewards.judge import Judgement
from v2w_gym.rewards.prompts import Answer as Option
from v2w_gym.rewards.prompts import Prompt
from v2w_gym.rewards.served_answers import UnreadableError, from_logprobs, from_text
from v2w_gym.rewards.served_endpoint import Endpoint, EndpointConfig
from v2w_gym.rewards.served_http import OutageError, message_of
from v2w_gym.rewards.served_reply import parse

FINE = completion("Answer: yes").body


@pytest.fixture
def server():
    with OpenAIServer() as server:
        yield server


def only(server, answer, **endpoint):
    """The judgement of one clip where the server always gives the same answer."""
    server.respond = lambda asked: answer
    (found,) = judge(server, endpoint=endpoint).judge([clip()])
    return found


def message(**keys):
    return reply({"choices": [{"message": {"role": "assistant", **keys}, "finish_reason": "stop"}]})


def parts(*kinds):
    return [{"type": kind, kind: text} for kind, text in kinds]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529 - 25])
@pytest.mark.parametrize("shape", ["openai", "llama_cpp"])
def test_what_may_pass_is_tried_again(server, status, shape):
    found = only(server, error(status, "out of slots", shape), tries=3)
    assert found.probability is None
    assert f"answered {status}: out of slots (3 tries)" in found.reason
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
@pytest.mark.parametrize(
    "shape", ["openai", "vllm", "vllm_old", "llama_cpp", "ollama", "ollama_native", "fastapi"]
)
def test_what_will_not_pass_is_told_at_once(server, status, shape):
    found = only(server, error(status, "no model of that name", shape))
    assert found.probability is None
    assert f"answered {status}: no model of that name" in found.reason
    assert len(server.asked) == 1


NO_VOTE = {
    "another shape": (reply({"hello": 1}), "no chat completion"),
    "a list": (reply([1, 2]), "no chat completion"),
    "null": (reply(None), "no chat completion"),
    "choices that are none": (reply({"choices": 5}), "no chat completion"),
    "no choices": (reply({"choices": []}), "no choices"),
    "an empty choice": (reply({"choices": [{}]}), "empty"),
    "a choice of null": (reply({"choices": [None]}), "empty"),
    "content null": (completion(None), "empty"),
    "content a number": (completion(5), "empty"),
    "content empty": (completion("  \n "), "empty"),
    "refusal": (completion(None, message={"refusal": "I cannot judge that"}), "refused: I cannot judge that"),
    "refusal among parts": (completion(parts(("refusal", "I will not"))), "refused: I will not"),
    "a tool call": (message(content=None, tool_calls=[{"type": "function"}]), "empty"),
    "thoughts alone": (message(content=None, reasoning_content="Answer: yes"), "empty"),
    "cut off": (completion("I see a drawer that\nAnswer: yes", finish="length"), "cut off by max_tokens"),
    "broken off": (completion("Answer: yes", finish="abort"), "broke off"),
    "filtered": (completion("Answer: yes", finish="content_filter"), "content filter"),
}


@pytest.mark.parametrize("name", NO_VOTE)
def test_a_reply_without_an_answer_is_no_vote(server, name):
    answer, says = NO_VOTE[name]
    found = only(server, answer)
    assert (found.probability, found.votes) == (None, (None,))
    assert says in found.reason
    assert "0 of 1 votes could be read, 1 are needed" in found.reason
    assert len(server.asked) == 1


def test_content_in_parts_is_read(server):
    assert (
        only(server, completion(parts(("text", "It is shut.\n"), ("text", "Answer: yes")))).probability == 1.0
    )


HTML = b"<html><body>Welcome to the wifi of this hotel</body></html>"
BROKEN = {
    "HTML in place of JSON": (Answer(HTML, headers={"Content-Type": "text/html"}), "Welcome to the wifi"),
    "HTML of a gateway": (Answer(HTML, 502, {"Content-Type": "text/html"}), "502: <html>"),
    "nothing": (Answer(b""), "no JSON but ''"),
    "closed before a word": (Answer(FINE, cut=0), "failed"),
    "closed in the middle": (Answer(FINE, cut=len(FINE) // 2), "failed"),
    "a length too long": (Answer(FINE, length=len(FINE) + 9), "failed"),
    "a length too short": (Answer(FINE, length=len(FINE) - 9), "no JSON"),
    "another alphabet": (Answer('{"choices": "é"}'.encode("latin-1")), "no JSON"),
    "deeper than any stack": (Answer(b"[" * 100_000), "no JSON"),
    "an error in a good reply": (
        reply({"error": {"message": "upstream is down", "code": 502}}),
        "502: upstream",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_was_broken_on_the_way_is_asked_for_again(server, name):
    answer, says = BROKEN[name]
    found = only(server, answer)
    assert found.probability is None
    assert says in found.reason
    assert len(server.asked) == 2
    server.respond = lambda asked: answer if asked.number == 2 else completion("Answer: yes")
    assert judge(server).judge([clip()])[0].probability == 1.0


def test_a_huge_reply_is_not_taken_in(server):
    found = only(server, Answer(b" " * (9 * 2**20) + FINE))
    assert "more than 8 MiB" in found.reason
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [Answer(FINE, late=60.0), Answer(FINE, drip=0.05), Answer(FINE, drip_headers=0.05)],
    ids=["hangs", "drips", "drips headers"],
)
def test_a_server_that_hangs_or_drips_is_left_behind(server, answer):
    began = time.monotonic()
    found = only(server, answer, read_timeout=0.2)
    assert 0.4 <= time.monotonic() - began < 20.0
    assert "within 0.2 s (2 tries)" in found.reason


def test_patience_bounds_all_tries_together(server):
    began = time.monotonic()
    found = only(server, Answer(FINE, late=60.0), read_timeout=0.3, patience=0.4, tries=9)
    assert time.monotonic() - began < 20.0
    assert found.probability is None


def test_nobody_listens(server):
    found = only(server, completion("yes"), base_url=f"http://127.0.0.1:{unused_port()}/v1")
    assert "Connection refused (2 tries)" in found.reason


def test_a_name_that_nobody_knows(server):
    found = only(server, completion("yes"), base_url="http://no-such-host.invalid/v1", tries=1)
    assert "no-such-host.invalid failed" in found.reason


@pytest.mark.parametrize("date", [False, True])
def test_the_pause_that_the_server_asks_for_is_kept(server, date):
    wanted = email.utils.formatdate(time.time() + 2, usegmt=True) if date else "0.3"
    server.respond = lambda asked: completion("yes") if asked.number else error(429, retry_after=wanted)
    began = time.monotonic()
    assert judge(server).judge([clip()])[0].probability == 1.0
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("wanted", ["soon", "-1", "", "Wed, 99 Foo 2026"])
def test_a_pause_that_makes_no_sense_is_left_out(server, wanted):
    server.respond = lambda asked: completion("yes") if asked.number else error(503, retry_after=wanted)
    assert judge(server).judge([clip()])[0].probability == 1.0


def test_a_pause_longer_than_the_patience_is_not_waited_for(server):
    server.respond = lambda asked: error(429, "quota", retry_after="3600")
    began = time.monotonic()
    (found,) = judge(server, votes={"count": 3}).judge([clip()])
    assert time.monotonic() - began < 20.0
    assert "left alone for" in found.reason
    assert 1 <= len(server.asked) <= 3
    (found,) = judge(server).judge([clip()])
    assert "left alone for 3600 s, which is longer than the patience" in found.reason


class Clock:
    """Time that passes when a test says so."""

    now = 1000.0

    def monotonic(self):
        return self.now


def test_an_endpoint_that_is_down_is_left_alone_and_found_again(server, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("v2w_gym.rewards.served_pace.time", clock)
    server.respond = lambda asked: error(503, "loading")
    endpoint = {"tries": 1, "outages": 2, "cooldown": 60.0, "parallel": 1}
    down = judge(server, endpoint=endpoint, votes={"count": 5})
    (found,) = down.judge([clip()])
    assert len(server.asked) == 2
    assert "not asked: 2 requests in a row had failed, and it is tried again in 60 s" in found.reason
    assert "503: loading" in found.reason
    down.judge([clip()] * 20)
    assert len(server.asked) == 2
    pause = 60.0
    for trial in range(1, 7):  # one trial for all five votes, at distances that double up to sixteenfold
        clock.now += pause - 1
        down.judge([clip()])
        assert len(server.asked) == 1 + trial
        clock.now += 2
        down.judge([clip()])
        assert len(server.asked) == 2 + trial
        pause = min(2 * pause, 960.0)
    server.respond = lambda asked: completion("yes")
    clock.now += pause + 1
    before = len(server.asked)
    assert down.judge([clip()])[0].probability == 1.0
    assert len(server.asked) == before + 5


def test_a_wrong_key_stops_the_asking_but_a_refused_clip_does_not(server):
    for status, asked in ((401, 2), (400, 10)):
        before = len(server.asked)
        server.respond = lambda asked, status=status: error(status)
        judge(server, endpoint={"outages": 2, "parallel": 1}, votes={"count": 5}).judge([clip()] * 2)
        assert len(server.asked) - before == asked


def test_a_server_that_comes_back_is_used_again(server):
    shared = judge(server)
    server.stop()
    assert shared.judge([clip()])[0].probability is None
    server.start()
    assert shared.judge([clip()])[0].probability == 1.0


OPTIONS = Prompt("{instruction}", (Option(1.0, ("yes",)), Option(0.0, ("no",))))
WORDS = st.sampled_from(
    ["choices", "message", "content", "refusal", "logprobs", "top_logprobs", "usage", "error"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["yes", "no"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
NEAR = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": JSON, "logprobs": JSON}) | JSON, max_size=2)},
    optional={"usage": st.fixed_dictionaries({"prompt_tokens": JSON, "completion_tokens": JSON}) | JSON},
)


def look(value):
    """Whatever came: shares of the answers or a reason, and counts that a judgement takes."""
    reply = parse(value, str)
    for read in (from_text, from_logprobs):
        with contextlib.suppress(UnreadableError):
            assert all(0.0 <= share <= 1.1 for share in read(reply, OPTIONS))
    assert message_of(value) is None or isinstance(message_of(value), str)
    Judgement(None, tokens=(reply.read or 0) + (reply.written or 0))


@settings(max_examples=100, deadline=None)
@given(JSON | NEAR)
def test_no_json_is_too_strange(value):
    look(value)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(JSON | NEAR)
def test_no_json_is_too_strange_10000_times(value):
    look(value)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([200, 201, 400, 404, 429, 500]))
def test_no_bytes_are_too_strange(content, status):
    with OpenAIServer(lambda asked: Answer(content, status)) as server:
        (found,) = judge(server, endpoint={"tries": 1}).judge([clip()])
    assert found.probability is None
    assert found.reason


def test_who_is_stopped_says_nothing_about_the_endpoint(server):
    server.respond = lambda asked: Answer(FINE, late=60.0)
    endpoint = Endpoint(EndpointConfig(server.url, outages=2))
    stopped = threading.Event()
    stopped.set()
    for _ in range(3):
        with pytest.raises(OutageError, match="stopped"):
            endpoint.ask({}, stopped)
    server.respond = lambda asked: completion("yes")
    assert endpoint.ask({}, threading.Event())["choices"]


def test_a_try_whose_turn_comes_too_late_is_not_sent(server):
    began = time.monotonic()
    found = only(server, error(503, "loading"), patience=2.0, requests_per_minute=1.0, tries=3)
    assert time.monotonic() - began < 2.0
    assert "503: loading; the next turn to ask comes in" in found.reason
    assert len(server.asked) == 1


ONE = Prompt("{instruction}", (Option(1.0, ("True",)),))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (completion("True", finish="length", top=[{"True": -0.5, "False": -1.0}]), None),
        (completion("  ", finish="length", top=[{" ": -0.1, "True": -3.0}]), "empty"),
        (completion("*", finish="length", top=[{"*": -0.1, "True": -3.0}]), "says nothing"),
        (completion(None, finish="length", top=[{"<think>": -0.1}]), "empty"),
        (completion("I", top=[{"I": -0.1}], message={"refusal": "I cannot"}), "refused: I cannot"),
        (completion("I", finish="content_filter", top=[{"I": -0.1}]), "content filter"),
    ],
)
def test_where_one_answer_counts_silence_is_no_failure(answer, says):
    reply = parse(json.loads(answer.body), str)
    if says is None:
        assert from_logprobs(reply, ONE)[0] == pytest.approx(math.exp(-0.5))
    else:
        with pytest.raises(UnreadableError, match=says):
            from_logprobs(reply, ONE)


def test_a_stop_ends_every_wait(server):
    server.respond = lambda asked: Answer(FINE, late=60.0)
    endpoint = Endpoint(EndpointConfig(server.url, read_timeout=50.0, requests_per_minute=0.1))
    stopped, began = threading.Event(), time.monotonic()
    threading.Timer(0.1, stopped.set).start()
    for _ in range(2):  # one waits for the reply, one for its turn
        with pytest.raises(OutageError, match="stopped"):
            endpoint.ask({}, stopped)
    assert time.monotonic() - began < 20.0
