"""The bar for outages, with the judge that people use: a served model that is away for half of the calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai_server import Answer, Asked, OpenAIServer, completion, error

from v2w_gym.evaluation import format_table, rank
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.evaluation.rescoring import rescore

SPEC = """
kind: served_vlm
model: tiny
endpoint: {{base_url: "{url}", tries: 1, backoff: 0.01, outages: 1000, price_read: 1.0, price_written: 2.0}}
prompt: yes_no_reasoned
frames: {{rule: even, count: 3}}
votes: {{count: 1, rule: mean}}
cache: ""
"""


class Constant:
    def __init__(self, value: float) -> None:
        self.value = value

    def act(self, observation: Mapping[str, Any]) -> Any:
        return np.full((len(observation["pixels"]), 4), self.value, np.float32)


def sound(asked: Asked) -> Answer:
    """Reads the verdict off the last picture, so that a clip always gets the same."""
    return completion(f"I looked.\nAnswer: {'yes' if asked.images[-1].astype(int).sum() % 2 else 'no'}")


def halved(asked: Asked) -> Answer:
    """Every second call finds the server busy, out of its mind, or mute."""
    if asked.number % 2 == 0:
        return sound(asked)
    return (error(503), error(500), completion("I could not say."))[asked.number // 2 % 3]


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(sound) as server:
        yield server


def ranked(world: Path, out: Path, spec: Path) -> dict[str, Any]:
    policies = {"left": Constant(-0.9), "middle": Constant(0.1), "right": Constant(0.9)}
    return rank(world, policies, episodes=4, seed=0, out=out, judge=spec, batch_size=4, progress=False)


@pytest.mark.slow
def test_an_outage_of_half_the_calls_changes_no_result(
    tiny_world: Path, tmp_path: Path, server: OpenAIServer
) -> None:
    spec = tmp_path / "served.yaml"
    spec.write_text(SPEC.format(url=server.url))
    whole = ranked(tiny_world, tmp_path / "whole", spec)
    assert {r.verdict for r in Ledger(tmp_path / "whole" / "ledger.jsonl").records} == {"success", "failure"}
    sure = {r.key: r.verdict for r in Ledger(tmp_path / "whole" / "ledger.jsonl").records}
    server.respond = halved
    holed = ranked(tiny_world, tmp_path / "holed", spec)
    records = Ledger(tmp_path / "holed" / "ledger.jsonl").records
    lost = [r for r in records if r.verdict == "unscorable"]
    assert len(lost) == 6, "half of twelve"
    assert all(r.reason for r in lost)
    assert all(r.verdict == sure[r.key] for r in records if r.verdict != "unscorable")
    assert sum(entry["unscorable"] for entry in holed["policies"]) == 6
    assert "6 episodes are unscorable" in format_table(holed)

    server.respond = lambda asked: error(503)
    still = rescore(tmp_path / "holed", progress=False)
    assert (still.asked, still.scored) == (6, 0)
    server.respond = sound
    done = rescore(tmp_path / "holed", progress=False)
    assert (done.asked, done.scored) == (6, 6)
    assert {r.key: r.verdict for r in done.after} == sure
    assert paid(done.summary) > paid(whole), "what was paid for unreadable replies is counted"
    assert (
        told(done.summary)
        == told(whole)
        == told(json.loads((tmp_path / "holed" / "summary.json").read_text()))
    )
    calls = len(server.asked)
    assert rescore(tmp_path / "holed", progress=False).asked == 0
    assert len(server.asked) == calls


def paid(summary: Mapping[str, Any]) -> float:
    return float(summary["judge"]["cost"])


def told(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The final table: all but the clock and the bill."""
    return {key: value for key, value in summary.items() if key not in ("seconds", "judge")}
