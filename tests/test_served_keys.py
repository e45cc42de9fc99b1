"""The key of an endpoint: sent to it alone, and found nowhere else."""

from __future__ import annotations

import json
import logging
import pickle

import pytest
from openai_server import Answer, OpenAIServer, completion, error
from test_served import clip, judge

SECRET = "sk-lives-only-in-the-environment-0123456789"


@pytest.fixture
def server():
    with OpenAIServer() as server:
        yield server


def everything(value, depth=0):
    """All text that can be reached from an object."""
    if depth > 6 or isinstance(value, int | float | None.__class__):
        return
    yield repr(value)
    inner = vars(value).values() if hasattr(value, "__dict__") else ()
    for one in [*inner, *(value if isinstance(value, list | tuple | set) else ())]:
        yield from everything(one, depth + 1)


def chatty(asked):
    """Repeats the key wherever a server can."""
    key = asked.headers["authorization"]
    return [
        completion(f"You sent {key}.\nAnswer: yes"),
        error(401, f"wrong key: {key}"),
        Answer(f"<p>{key}</p>".encode()),
        completion(None, message={"refusal": f"not with {key}"}),
        error(302, key),
        completion(f"{key}"),
    ][asked.body["seed"]]


def test_the_key_is_sent_and_found_nowhere_else(server, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("V2W_TEST_KEY", f"{SECRET}\n")
    caplog.set_level(logging.DEBUG)
    server.respond = chatty
    make = {"votes": {"count": 6, "readable": 1}, "cache": str(tmp_path)}
    signed = judge(server, endpoint={"key_variable": "V2W_TEST_KEY", "outages": 99}, **make)
    (found,) = signed.judge([clip()])
    assert found.probability == 1.0
    assert found.reason == "You sent Bearer [key]. Answer: yes"
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {SECRET}"}
    seen = [json.dumps(asked.body) for asked in server.asked]
    seen += [str(found), repr(found), signed.hash, caplog.text, *capfd.readouterr(), *everything(signed)]
    seen += [path.read_text() + path.name for path in tmp_path.rglob("*.json")]
    seen += [answered.reason for answered in signed._panel.ask(_questions(signed))]
    assert len([path for path in tmp_path.rglob("*.json")]) == 1
    assert [text for text in seen if SECRET in text] == []
    assert SECRET.encode() not in pickle.dumps(signed.config)
    monkeypatch.setenv("V2W_TEST_KEY", "another-key-altogether")
    assert judge(server, endpoint={"key_variable": "V2W_TEST_KEY"}, **make).hash == signed.hash


def _questions(judge):
    from v2w_gym.rewards.served_panel import Question

    return [Question(judge.config.prompt, "x", [clip().frames[0]], vote) for vote in range(1, 6)]


@pytest.mark.parametrize("key", ["sk/with+slashes/0123456789==", 'sk"with\\quotes"0123456789'])
def test_a_key_that_json_writes_otherwise_is_blotted_out_too(server, key, monkeypatch):
    monkeypatch.setenv("V2W_TEST_KEY", key)
    written = json.dumps(key).replace("/", "\\/")  # as PHP does
    answer = Answer(b'{"fault": "no such key: ' + written[1:-1].encode() + b'"}', 401)
    server.respond = lambda asked: answer
    (found,) = judge(server, endpoint={"key_variable": "V2W_TEST_KEY"}).judge([clip()])
    assert "no such key: [key]" in found.reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_carry_neither_key_nor_frames(server, status, monkeypatch):
    monkeypatch.setenv("V2W_TEST_KEY", SECRET)
    with OpenAIServer() as elsewhere:
        answer = Answer(b"", status, {"Location": f"{elsewhere.url}/chat/completions"})
        server.respond = lambda asked: answer
        (found,) = judge(server, endpoint={"key_variable": "V2W_TEST_KEY"}).judge([clip()])
        assert elsewhere.asked == []
    assert "redirects to 127.0.0.1" in found.reason
    assert "base_url" in found.reason


def test_no_other_key_is_sent(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    judge(server).judge([clip()])
    assert "authorization" not in server.asked[0].headers


@pytest.mark.parametrize("key", ["with a blank", "with\nnewline", "schlüssel"])
def test_a_key_that_no_header_carries_is_refused_unseen(server, key, monkeypatch):
    monkeypatch.setenv("V2W_TEST_KEY", key)
    with pytest.raises(ValueError, match="the key in V2W_TEST_KEY") as caught:
        judge(server, endpoint={"key_variable": "V2W_TEST_KEY"})
    assert key not in str(caught.value)


def test_a_key_that_vanishes_is_an_outage(server, monkeypatch):
    monkeypatch.setenv("V2W_TEST_KEY", SECRET)
    signed = judge(server, endpoint={"key_variable": "V2W_TEST_KEY"})
    monkeypatch.delenv("V2W_TEST_KEY")
    (found,) = signed.judge([clip()])
    assert "V2W_TEST_KEY" in found.reason
    assert server.asked == []
