"""A judge of whole clips in a ranking: its outage is no failure, and its verdicts come later from films."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from v2w_gym import cli
from v2w_gym.data.episode import Episode
from v2w_gym.evaluation import format_table, rank
from v2w_gym.evaluation.judging import judged
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.evaluation.manifest import Provenance
from v2w_gym.evaluation.publishing import PAGE
from v2w_gym.evaluation.rereading import reread
from v2w_gym.evaluation.rescoring import rescore
from v2w_gym.evaluation.second import Opinion, format_agreement
from v2w_gym.rewards.judge import Clip, Judgement
from v2w_gym.rewards.judges import open_judge


def odd(frames: Any) -> float:
    return float(frames[-1].astype(int).sum() % 2)


CARD = {"true_success": 40, "false_success": 2, "true_failure": 50, "false_failure": 6}


class Odd:
    """Success where the last frame's values have an odd sum; some calls find nobody at home."""

    threshold, hash = 0.5, "odd"

    def __init__(self, out: int = 0, crash: int = 0) -> None:
        self.calls, self.seen, self._out, self._crash = 0, [], out, crash

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        self.calls += 1
        if self._crash and self.calls > self._crash:
            raise KeyboardInterrupt
        if self._out and self.calls % self._out == 0:
            return [Judgement(None, "connection refused") for _ in clips]
        self.seen.extend(clips)
        return [Judgement(odd(clip.frames), "as I said", tokens=10, cost=0.001) for clip in clips]


class Even(Odd):
    hash = "even"

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        return [Judgement(1 - (j.probability or 0.0)) for j in super().judge(clips)]


class Constant:
    def __init__(self, value: float) -> None:
        self.value = value

    def act(self, observation: Mapping[str, Any]) -> Any:
        return np.full((len(observation["pixels"]), 4), self.value, np.float32)


class Late(Constant):
    """Breaks down in its second batch."""

    calls = 0

    def act(self, observation: Mapping[str, Any]) -> Any:
        self.calls += 1
        if self.calls > 8:
            raise RuntimeError("on fire")
        return super().act(observation)


def ranked(world: Path, out: Path | None, judge: Any, **changes: Any) -> dict[str, Any]:
    policies = {"left": Constant(-0.9), "right": Constant(0.9), "late": Late(0.2)}
    asked = {"episodes": 4, "seed": 0, "batch_size": 2, "progress": False, **changes}
    return rank(world, policies, out=out, judge=judge, **asked)


def steady(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What does not hang on the time that it took."""
    return {key: value for key, value in summary.items() if key != "seconds"}


@pytest.fixture(scope="module")
def whole(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A ranking whose judge was always there."""
    out = tmp_path_factory.mktemp("whole")
    return out, ranked(tiny_world, out, Odd())


@pytest.fixture
def holed(tiny_world: Path, tmp_path: Path) -> Path:
    """The same with an outage for half of the calls."""
    out = tmp_path / "holed"
    ranked(tiny_world, out, Odd(out=2))
    return out


def test_a_judge_sees_each_whole_clip_once_and_its_price_is_kept(
    tiny_world: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    out, summary = whole
    records = Ledger(out / "ledger.jsonl").records
    assert {r.verdict for r in records} == {"success", "failure"}
    assert all(r.success_rule == "clip" and r.detector_hash == "odd" for r in records)
    assert all(r.tokens == 10 and r.cost == 0.001 and r.reason and not r.probabilities for r in records)
    assert summary["judge"] == {"episodes": 10, "unscorable": 0, "tokens": 100, "cost": 0.01}
    assert "took 100 tokens for 10 episodes, at a cost of 0.01" in format_table(summary)
    for record in records:
        film = Episode.load(out / "frames" / record.policy / f"{record.start_id}.npz")
        assert len(film) == 7
        assert record.verdict == ("success" if odd(film.frames) else "failure")
    page = (out / "report.html").read_text()
    assert "A judge saw each of these clips as a whole" in page
    assert '"threshold": null' in page
    assert "frames that the detector takes" not in page
    judge = Odd()
    ranked(tiny_world, None, judge, episodes=1)
    assert [len(clip.frames) for clip in judge.seen] == [7] * 3
    assert judge.seen[0].instruction == "close the drawer"


@pytest.mark.slow
def test_after_an_outage_of_half_the_calls_the_table_is_the_same(
    holed: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    before = json.loads((holed / "summary.json").read_text())
    records = Ledger(holed / "ledger.jsonl").records
    lost = [r for r in records if r.verdict == "unscorable"]
    assert len(lost) == 4
    assert {r.reason for r in lost} == {"connection refused"}
    sure = {r.key: r.verdict for r in Ledger(whole[0] / "ledger.jsonl").records}
    assert all(r.verdict == sure[r.key] for r in records if r not in lost), "no failure was made up"
    entries = {e["name"]: e for e in before["policies"]}
    assert [entries[name]["unscorable"] for name in ("left", "right")] == [2, 2]
    assert "unscorable" in format_table(before)
    assert "v2w rescore" in format_table(before)
    lines = (holed / "ledger.jsonl").read_bytes()
    done = rescore(holed, Odd(), progress=False)
    assert (done.asked, done.scored, done.unfilmed) == (4, 4, 0)
    assert (holed / "ledger.jsonl").read_bytes().startswith(lines), "nothing is ever rewritten"
    assert (
        steady(done.summary) == steady(whole[1]) == steady(json.loads((holed / "summary.json").read_text()))
    )
    assert format_table(done.summary) == format_table(whole[1])
    assert "on fire" in (holed / PAGE).read_text()
    again = (holed / "ledger.jsonl").read_bytes(), (holed / "summary.json").read_bytes()
    assert rescore(holed, Odd(), progress=False).asked == 0
    assert again == ((holed / "ledger.jsonl").read_bytes(), (holed / "summary.json").read_bytes())


@pytest.mark.slow
def test_a_kill_loses_nothing_and_an_outage_may_go_on(
    holed: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        rescore(holed, Odd(crash=2), batch_size=1, progress=False)
    assert sum(r.verdict == "unscorable" for r in Ledger(holed / "ledger.jsonl").records) == 2
    still = rescore(holed, Odd(out=1), progress=False)
    assert (still.asked, still.scored) == (2, 0)
    assert steady(rescore(holed, Odd(), progress=False).summary) == steady(whole[1])


@pytest.mark.slow
def test_what_was_paid_for_no_verdict_is_paid(tiny_world: Path, tmp_path: Path) -> None:
    class Mumbling(Odd):
        def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
            return [Judgement(None, "unreadable", tokens=7, cost=0.5) for _ in clips]

    ranked(tiny_world, tmp_path, Mumbling(), episodes=1)
    rescore(tmp_path, Mumbling(), progress=False)
    summary = rescore(tmp_path, Odd(), progress=False).summary
    assert summary["judge"]["tokens"] == 3 * (7 + 7 + 10)
    assert summary["judge"]["cost"] == pytest.approx(3 * 1.001)
    assert summary["judge"]["unscorable"] == 0


@pytest.mark.slow
def test_a_judge_that_breaks_down_is_an_outage(tiny_world: Path) -> None:
    class Broken(Odd):
        def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
            raise OSError("no route to host")

    summary = ranked(tiny_world, None, Broken(), episodes=1)
    assert all(e["success"] is None and e["unscorable"] == 1 for e in summary["policies"])


@pytest.mark.slow
def test_another_judge_gets_a_ledger_of_its_own(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, _ = whole
    before = (out / "ledger.jsonl").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        rescore(out, Even(crash=1), out=tmp_path, batch_size=3, progress=False)
    done = rescore(out, Even(), out=tmp_path, progress=False)
    assert (done.asked, done.scored) == (7, 7)
    assert (out / "ledger.jsonl").read_bytes() == before
    theirs = Ledger(tmp_path / "ledger.jsonl").records
    assert {r.detector_hash for r in theirs} == {"even"}
    assert all(e["error"] for e in done.summary["policies"] if e["name"] == "late")
    text = format_agreement(done.before, done.after)
    assert "the same verdict in 0 of 10" in text
    assert "kappa -" in text
    same = (tmp_path / "ledger.jsonl").read_bytes()
    assert rescore(out, Even(), out=tmp_path, progress=False).asked == 0
    assert (tmp_path / "ledger.jsonl").read_bytes() == same
    with pytest.raises(ValueError, match="holds verdicts of even"):
        rescore(out, Odd(), out=tmp_path, everything=True, progress=False)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"judge": Even()}, "--out FOLDER"),
        ({"judge": Odd(), "everything": True}, "never replaced"),
        ({}, "say which"),
        ({"judge": Even(), "out": "here"}, "folder of their own"),
        ({"judge": Odd(), "batch_size": -1}, "batch_size must be at least 1"),
    ],
)
def test_bad_requests_change_nothing(
    whole: tuple[Path, dict[str, Any]], asked: dict[str, Any], says: str
) -> None:
    out, _ = whole
    before = (out / "ledger.jsonl").read_bytes()
    asked = {**asked, "out": out} if "out" in asked else asked
    with pytest.raises(ValueError, match=says):
        rescore(out, progress=False, **asked)
    assert (out / "ledger.jsonl").read_bytes() == before


def test_without_films_there_is_nothing_to_show(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    for name in ("ledger.jsonl", "ledger.manifest.json"):
        (tmp_path / name).write_bytes((whole[0] / name).read_bytes())
    with pytest.raises(ValueError, match=r"no episode of .* has a film"):
        rescore(tmp_path, Even(), out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_card_of_another_judge_is_refused_before_anybody_is_asked(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    judge, card = Even(), tmp_path / "card.json"
    for about in ({"hash": "odd"}, {"hash": "even", "threshold": 0.9}):
        card.write_text(json.dumps({**about, "results": {"recorded clips": {"per_episode": CARD}}}))
        with pytest.raises(ValueError, match="about the judge"):
            rescore(whole[0], judge, out=tmp_path / "out", judge_check=card, progress=False)
    assert judge.seen == []
    assert not (tmp_path / "out").exists()


def test_a_second_opinion_on_unlike_runs_goes_on_where_it_was_stopped(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    file, known = whole[0] / "ledger.jsonl", Provenance.load(whole[0] / "ledger.jsonl")
    (one,) = known.manifests.values()
    other = replace(one, threads=64)
    records = Ledger(file).records
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append([replace(r, manifest=other.hash) if i % 2 else r for i, r in enumerate(records)])
    both = known.with_run(other, "v2w rank", "elsewhere")
    opinion = Opinion(Even(), None, one.protocol, both, "v2w rescore")
    for most in (4, len(records)):
        theirs = opinion.begin(ledger, tmp_path / "second", "world")
        todo = opinion.missing(ledger.records, theirs.records)[:most]
        theirs.append([replace(r, verdict="failure", probability=0.0) for r in todo])
    assert len(opinion.begin(ledger, tmp_path / "second", "world").records) == len(records)
    kept = Provenance.load(theirs.path)
    assert {r.manifest for r in theirs.records} == set(kept.manifests)
    assert len(kept.runs) == len(kept.manifests) == 2


def test_what_is_known_of_a_run_comes_along_although_it_is_from_later(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    file, known = whole[0] / "ledger.jsonl", Provenance.load(whole[0] / "ledger.jsonl")
    (one,) = known.manifests.values()
    later = replace(one, python="9.9")
    first, *others = Ledger(file).records
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append([first])
    for record in (first, replace(others[0], manifest=later.hash)):
        ledger.append([record])
        both = known.with_run(later, "v2w rank", "elsewhere")
        opinion = Opinion(Even(), None, one.protocol, both, "v2w rescore")
        theirs = opinion.begin(ledger, tmp_path / "second", "world")
        theirs.append(
            [replace(r, verdict="failure") for r in opinion.missing(ledger.records, theirs.records)]
        )
    assert {r.manifest for r in theirs.records} == set(Provenance.load(theirs.path).manifests)


@pytest.mark.parametrize("said", [3.21e-5, 0.123449, 1.0, 0.0])
def test_small_probabilities_are_kept(whole: tuple[Path, dict[str, Any]], said: float) -> None:
    (record, *_) = Ledger(whole[0] / "ledger.jsonl").records
    kept = judged(record, Judgement(said), threshold=1e-5)
    assert kept.probability == pytest.approx(said, rel=1e-3)
    assert kept.verdict == ("success" if said else "failure")


def test_a_rule_of_frames_is_refused_for_a_judge_of_clips(tiny_world: Path) -> None:
    with pytest.raises(ValueError, match="one verdict per clip"):
        ranked(tiny_world, None, Odd(), success_rule="last")


@pytest.mark.slow
def test_the_command_names_the_judge_and_asks_it_again(
    tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "mine.yaml"
    spec.write_text(f"kind: frame_classifier\nworld: {tiny_world}\n")
    out = tmp_path / "out"
    policy = "v2w_gym.policies.simple:StillPolicy"
    line = ["rank", "--world", str(tiny_world), "--policy", policy, "--episodes", "2", "--out", str(out)]
    card = {"hash": open_judge(spec).hash, "results": {"recorded clips": {"per_episode": CARD}}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert cli.main([*line, "--judge", str(spec), "--judge-check", str(tmp_path / "card.json")]) == 0
    assert "98 labelled recorded episodes" in capsys.readouterr().out
    assert cli.main(["rescore", str(out)]) == 0
    said = capsys.readouterr().out
    assert "0 episodes were shown" in said
    assert "98 labelled recorded episodes" in said, "the card was kept with the ranking"
    again = ["rescore", str(out), "--all", "--out", str(tmp_path / "second")]
    assert cli.main([*again, "--judge-check", str(tmp_path / "card.json")]) == 0
    assert "the same verdict in 2 of 2" in capsys.readouterr().out
    assert reread(tmp_path / "second").summary["detector"]["labelled"] == "recorded", "and with the second"
