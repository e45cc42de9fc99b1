"""Judges behind an endpoint: what is sent, how replies are read, how votes count."""

from __future__ import annotations

import json
import math
import multiprocessing
import threading
import time

import numpy as np
import pytest
from openai_server import OpenAIServer, completion, error, reply

from v2w_gym.config import from_dict
from v2w_gym.rewards.judge import Clip
from v2w_gym.rewards.judges import FOLDER, open_judge
from v2w_gym.rewards.prompts import Answer, Prompt
from v2w_gym.rewards.served import ServedVlm, ServedVlmConfig
from v2w_gym.rewards.served_answers import UnreadableError, from_text
from v2w_gym.rewards.served_cache import ReplyCache, question_hash
from v2w_gym.rewards.served_reply import Reply

PROMPT = {
    "text": "Is it done: {instruction}?",
    "answers": [{"worth": 1.0, "forms": ["yes"]}, {"worth": 0.0, "forms": ["no"]}],
}
RUBRIC = {
    "question": "Grade {instruction}:\n{grades}",
    "grades": ["nothing", "half", "done"],
    "passing": 2,
    "artefact_question": "Flaws of {instruction}?\n{artefacts}",
    "artefacts": [{"text": "none", "discount": 0.0}, {"text": "some", "discount": 0.5}],
}
ENDPOINT = {"backoff": 0.01, "read_timeout": 5.0, "tries": 2}


@pytest.fixture
def server():
    with OpenAIServer() as server:
        yield server


def settings(server, *, votes=None, endpoint=None, **others):
    where = {"base_url": server.url, **ENDPOINT, **(endpoint or {})}
    shared = {"model": "tiny", "endpoint": where, "votes": votes or {"count": 1}, "cache": ""}
    return {**shared, **others}


def judge(server, *, prompt=PROMPT, **others):
    return ServedVlm(from_dict(ServedVlmConfig, {**settings(server, **others), "prompt": prompt}))


def clip(seed=0, frames=5):
    rng = np.random.default_rng(seed)
    return Clip(rng.integers(0, 256, (frames, 12, 16, 3), dtype=np.uint8), "close the drawer")


def by_seed(*texts):
    """Replies in the order of votes, however threads interleave."""
    return lambda asked: completion(texts[asked.body["seed"]])


def test_a_request_is_what_the_api_asks_for(server):
    shown = clip()
    judge(server, frames={"rule": "first_last"}, prompt={**PROMPT, "system": "You judge."}).judge([shown])
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["content-type"] == "application/json"
    assert "authorization" not in asked.headers
    system, user = asked.body["messages"]
    assert system == {"role": "system", "content": "You judge."}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    assert user["content"][-1]["text"] == "Is it done: close the drawer?"
    assert all(np.array_equal(a, b) for a, b in zip(asked.images, shown.frames[[0, -1]], strict=True))
    plain = {key: value for key, value in asked.body.items() if key != "messages"}
    assert plain == {"model": "tiny", "seed": 0, "temperature": 1.0, "max_tokens": 1024}


def test_a_server_that_takes_less_is_asked_for_less(server):
    limit = {"token_limit": "max_completion_tokens", "max_tokens": 9, "image": "jpeg"}
    others = {"seed": None, "temperature": None, "extra": {"reasoning_effort": "low"}}
    judge(server, sampling=limit | others).judge([clip()])
    (asked,) = server.asked
    assert {k for k in asked.body if k != "messages"} == {
        "model",
        "max_completion_tokens",
        "reasoning_effort",
    }
    assert "data:image/jpeg;base64," in asked.parts[0]["image_url"]["url"]


def test_votes_have_seeds_of_their_own_and_keep_their_order(server):
    server.respond = by_seed("Answer: yes", "Answer: no", "well", "Answer: yes", "Answer: yes")
    found = judge(server, votes={"count": 5}).judge([clip(0), clip(1)])
    assert sorted(asked.body["seed"] for asked in server.asked) == sorted([*range(5)] * 2)
    assert [one.votes for one in found] == [(1.0, 0.0, None, 1.0, 1.0)] * 2
    assert [one.probability for one in found] == [0.75, 0.75]
    assert found[0].tokens == 5 * 110


@pytest.mark.parametrize(
    ("said", "rule", "probability"),
    [
        (("yes", "yes", "no"), "mean", 2 / 3),
        (("yes", "yes", "no"), "plurality", 1.0),
        (("no", "yes", "no"), "plurality", 0.0),
        (("no", "yes", "?"), "mean", 0.5),
        (("no", "yes", "?"), "plurality", None),
        (("yes", "?", "?"), "mean", None),
        (("?", "?", "?"), "plurality", None),
    ],
)
def test_the_rule_of_votes(server, said, rule, probability):
    server.respond = by_seed(*said)
    (found,) = judge(server, votes={"count": 3, "rule": rule}).judge([clip()])
    assert found.probability == (None if probability is None else pytest.approx(probability))
    assert found.verdict(0.5) == ("unscorable" if probability is None else found.verdict(0.5))
    assert found.reason


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("yes", 1.0),
        ("It moved.\n\nAnswer: no", 0.0),
        ("**Answer:** Yes.", 1.0),
        ("Final answer: 'no'\n  \n", 0.0),
        ("Answer: no\nOn second thoughts\nAnswer: yes", 1.0),
        ("Answer: yes\nIs there anything else?", None),
        ("yes, because it is shut", None),
        ("Answer: yes or no", None),
        ("not", None),
        ("Answer:", None),
        ("...", None),
        ("yes no", None),
        ("The answer is yes", None),
    ],
)
def test_only_a_last_line_that_is_an_answer_is_read(text, worth):
    prompt = from_dict(Prompt, PROMPT)
    if worth is None:
        with pytest.raises(UnreadableError):
            from_text(Reply(text), prompt)
    else:
        assert from_text(Reply(text), prompt) == (worth, 1.0 - worth)


def top(**logprobs):
    return {name.replace("_", " "): value for name, value in logprobs.items()}


@pytest.mark.parametrize(
    ("places", "probability", "reason"),
    [
        ([top(Yes=math.log(0.6), No=math.log(0.2), yes=math.log(0.1))], 0.7 / 0.9, ""),
        ([top(_=-0.01), top(_no=-0.1, _yes=-3.0)], math.exp(-3) / (math.exp(-3) + math.exp(-0.1)), ""),
        ([top(no=-0.01, maybe=-9.0)], 0.0, ""),
        ([top(The=-0.1, yes=-4.0)], None, "of the probability lies on the answers"),
        (None, None, "gave no log-probabilities"),
    ],
)
def test_yes_and_no_from_log_probabilities(server, places, probability, reason):
    server.respond = lambda asked: completion("yes", finish="length", top=places)
    (found,) = judge(server, sampling={"read": "logprobs"}).judge([clip()])
    assert found.probability == (None if probability is None else pytest.approx(probability))
    assert reason in (found.reason or "")
    body = server.asked[0].body
    assert (body["logprobs"], body["top_logprobs"], body["temperature"]) == (True, 20, 0.0)


def test_a_model_that_takes_no_temperature_is_sent_none_for_log_probabilities_either(server):
    server.respond = lambda asked: completion("yes", top=[top(yes=-0.1, no=-3.0)])
    (found,) = judge(server, sampling={"read": "logprobs", "temperature": None}).judge([clip()])
    assert found.probability == pytest.approx(math.exp(-0.1) / (math.exp(-0.1) + math.exp(-3)))
    assert "temperature" not in server.asked[0].body


def rubric_judge(server, **others):
    from v2w_gym.rewards.served_rubric import ServedRubric, ServedRubricConfig

    return ServedRubric(from_dict(ServedRubricConfig, {**settings(server, **others), "rubric": RUBRIC}))


def test_a_rubric_grades_and_discounts(server):
    grades, flaws = ["2", "Grade: 2", "1"], ["0", "1", "0"]
    server.respond = lambda asked: completion(
        (grades if asked.text.startswith("Grade") else flaws)[asked.body["seed"]]
    )
    (found,) = rubric_judge(server, votes={"count": 3}).judge([clip()])
    kept = 1 - 0.5 / 3
    assert found.progress == pytest.approx((2 / 3 + 0.5 / 3) * kept)
    assert found.probability == pytest.approx(2 / 3 * kept)
    assert found.votes == (1.0, 0.5, 0.0)
    assert found.reason == "grade 1.7 of 2"
    assert len(server.asked) == 6


def test_a_vote_on_a_rubric_needs_both_answers(server):
    server.respond = lambda asked: completion("2" if asked.text.startswith("Grade") else "none at all")
    (found,) = rubric_judge(server, votes={"count": 3}).judge([clip()])
    assert (found.probability, found.progress) == (None, None)
    assert "0 of 3 votes could be read" in (found.reason or "")


def test_tokens_and_cost_are_those_of_the_usage(server):
    prices = {"price_read": 2.0, "price_written": 8.0}
    (found,) = judge(server, votes={"count": 2}, endpoint=prices).judge([clip()])
    assert found.tokens == 220
    assert found.cost == pytest.approx(2 * (100 * 2 + 10 * 8) / 1e6)
    assert judge(server).judge([clip()])[0].cost is None

    def uncounted(asked):
        value = json.loads(completion("yes").body)
        del value["usage"]
        return reply(value)

    server.respond = uncounted
    (found,) = judge(server, endpoint=prices).judge([clip()])
    assert (found.probability, found.tokens, found.cost) == (1.0, 0, None)


def test_replies_are_kept_and_asked_for_once(server, tmp_path):
    make = {
        "votes": {"count": 3},
        "cache": str(tmp_path),
        "endpoint": {"price_read": 1.0, "price_written": 1.0},
    }
    server.respond = by_seed("Answer: yes", "Answer: no", "Answer: yes")
    (first,) = judge(server, **make).judge([clip()])
    (second,) = judge(server, **make).judge([clip()])
    assert len(server.asked) == 3
    assert (second.probability, second.votes, second.reason) == (first.probability, first.votes, first.reason)
    assert (second.tokens, second.cost) == (0, 0.0)
    changes = [
        {"prompt": {**PROMPT, "text": "Really {instruction}?"}},
        {"model": "other"},
        {"sampling": {"temperature": 0.5}},
        {"frames": {"rule": "last"}},
    ]
    for change in changes:
        before = len(server.asked)
        judge(server, **{**make, **change}).judge([clip()])
        assert len(server.asked) == before + 3, change
    judge(server, **make).judge([clip(1)])
    assert len(server.asked) == 3 * 6


def test_a_damaged_entry_is_asked_for_again_and_mended(server, tmp_path):
    make = {"cache": str(tmp_path)}
    judge(server, **make).judge([clip()])
    (entry,) = tmp_path.rglob("*.json")
    whole = entry.read_bytes()
    for number, damage in enumerate(
        [b"", b"{}", whole[:40], whole.replace(b"yes", b"no "), b"\xff", b"[" * 9999]
    ):
        entry.write_bytes(damage)
        (found,) = judge(server, **make).judge([clip()])
        assert found.probability == 1.0
        assert len(server.asked) == number + 2
        assert entry.read_bytes() == whole
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [entry]


def test_what_could_not_be_read_is_not_kept(server, tmp_path):
    server.respond = lambda asked: completion("hm")
    assert judge(server, cache=str(tmp_path)).judge([clip()])[0].probability is None
    server.respond = lambda asked: completion("yes")
    assert judge(server, cache=str(tmp_path)).judge([clip()])[0].probability == 1.0


def test_a_cache_that_cannot_be_written_loses_no_judgement(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert judge(server, cache=str(tmp_path / "file")).judge([clip()])[0].probability == 1.0


def test_several_threads_may_share_a_cache_and_a_judge(server, tmp_path):
    shared, found = judge(server, cache=str(tmp_path)), []
    work = [threading.Thread(target=lambda: found.extend(shared.judge([clip()] * 4))) for _ in range(3)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert [one.probability for one in found] == [1.0] * 12
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_requests_at_once_than_allowed(server, parallel):
    times, late = [], 0.15

    def respond(asked):
        times.append(time.monotonic())
        return completion("yes", late=late)

    server.respond = respond
    began = time.monotonic()
    judge(server, votes={"count": 6}, endpoint={"parallel": parallel}).judge([clip()])
    assert time.monotonic() - began >= late * 6 / parallel
    assert max(sum(t <= other < t + late for other in times) for t in times) <= parallel


def test_requests_are_spaced(server):
    began = time.monotonic()
    judge(server, votes={"count": 4}, endpoint={"requests_per_minute": 1200}).judge([clip()])
    assert time.monotonic() - began >= 3 * 0.05


def test_an_outage_is_not_a_failure_and_can_be_judged_again(server, tmp_path):
    make = {
        "votes": {"count": 2, "readable": 2},
        "cache": str(tmp_path),
        "endpoint": {"tries": 1, "parallel": 1},
    }
    server.respond = lambda asked: error(503) if asked.number % 2 else completion("yes")
    (found,) = judge(server, **make).judge([clip()])
    assert (found.probability, found.votes) == (None, (1.0, None))
    assert "503" in (found.reason or "")
    server.respond = lambda asked: completion("no")
    (found,) = judge(server, **make).judge([clip()])
    assert found.votes == (1.0, 0.0), "the vote that had been cast is kept"


def test_the_hash_names_what_moves_a_judgement_and_nothing_else(server):
    here = judge(server).hash
    same = [{"endpoint": {"base_url": "http://elsewhere/v1"}}, {"threshold": 0.9}, {"cache": "x"}]
    assert {judge(server, **change).hash for change in same} == {here}
    other = [
        {"model": "other"},
        {"frames": {"count": 3}},
        {"votes": {"count": 3}},
        {"sampling": {"seed": 1}},
        {"prompt": {**PROMPT, "text": "{instruction}"}},
    ]
    assert len({here, *(judge(server, **change).hash for change in other)}) == 6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"endpoint": {"base_url": "localhost:8000"}}, "http://127.0.0.1:8000/v1"),
        ({"endpoint": {"base_url": "http://me:secret@host/v1"}}, "key_variable"),
        ({"endpoint": {"base_url": "http://host:99999/v1"}}, "base_url"),
        ({"endpoint": {"tries": 0}}, "tries"),
        ({"endpoint": {"read_timeout": 0.0}}, "read_timeout"),
        ({"endpoint": {"timeout": 1}}, "unknown key 'timeout'"),
        ({"endpoint": {"key_variable": "V2W_NO_SUCH_KEY"}}, "export V2W_NO_SUCH_KEY="),
        ({"votes": {"count": 0}}, "at least 1"),
        ({"votes": {"count": 3, "readable": 4}}, "readable"),
        ({"votes": {"count": 3}, "sampling": {"temperature": 0.0}}, "count: 1"),
        ({"votes": {"count": 3}, "sampling": {"read": "logprobs"}}, "count: 1"),
        ({"sampling": {"extra": {"n": 3}}}, "sets these itself"),
        ({"prompt": {**PROMPT, "continues": True}}, "a turn of its own"),
        ({"prompt": {**PROMPT, "answers": [{"worth": 1.0, "forms": ["True"]}]}}, "two answers"),
        ({"model": ""}, "model"),
        ({"threshold": 0.0}, "threshold"),
    ],
)
def test_settings_that_do_not_fit_are_refused(server, change, says):
    with pytest.raises(ValueError, match=says):
        judge(server, **change)


def test_a_clip_that_no_judge_takes_is_the_callers_mistake(server):
    with pytest.raises(ValueError, match="clip 1"):
        judge(server).judge([clip(), Clip(np.zeros((3, 4, 4), np.uint8), "x")])
    assert server.asked == []
    assert judge(server).judge([]) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("served*.yaml")))
def test_the_judges_that_come_with_the_package_open(name, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    assert open_judge(name).threshold == 0.5


def test_an_answer_that_two_worths_share_is_no_answer():
    twice = Prompt("{instruction}", (Answer(1.0, ("yes",)), Answer(0.0, ("Yes",))))
    with pytest.raises(UnreadableError):
        from_text(Reply("yes"), twice)


def _fill(folder, text):
    for number in range(60):
        ReplyCache(folder).put(question_hash(number), Reply(text))


def test_several_processes_may_share_a_cache(tmp_path):
    context = multiprocessing.get_context("fork")
    work = [context.Process(target=_fill, args=(tmp_path, text)) for text in ("yes", "no")]
    for process in work:
        process.start()
    seen = set()
    while any(process.is_alive() for process in work):
        seen |= {ReplyCache(tmp_path).get(question_hash(number)) for number in range(60)}
    assert seen <= {None, Reply("yes"), Reply("no")}
    assert None not in {ReplyCache(tmp_path).get(question_hash(number)) for number in range(60)}
    assert not list(tmp_path.rglob("*.partial"))
