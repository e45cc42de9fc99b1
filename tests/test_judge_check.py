"""The report card of a judge: what it counts, what misleads it, and what its errors do to success rates."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest

from v2w_gym import cli
from v2w_gym.data.episode import Episode
from v2w_gym.envs.integrity import write_hashes
from v2w_gym.envs.world import World
from v2w_gym.evaluation import rank
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.judge_check import JudgeCheckConfig, check_judge, format_card
from v2w_gym.evaluation.judge_check.attacks import UNRELATED, attacks, near_misses
from v2w_gym.evaluation.judge_check.clips import Labelled, read_clips
from v2w_gym.evaluation.labelled import errors_of
from v2w_gym.evaluation.ledger import Ledger, Record
from v2w_gym.evaluation.manifest import Provenance, Run
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.stats import Confusion, cohen_kappa
from v2w_gym.policies.simple import StillPolicy
from v2w_gym.rewards.judge import Clip, Judgement

FRAMES, SIDE, GOAL = 9, 32, 20


def film(end: int, seed: int = 0) -> Any:
    """A bright square that goes from the left to column ``end``."""
    frames = np.random.default_rng(seed).integers(0, 30, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
    for frame, place in zip(frames, np.linspace(0, end, FRAMES).astype(int), strict=True):
        frame[8:16, place : place + 8] = 250
    return frames


def film_of(end: int) -> Episode:
    return Episode(film(end), None, np.arange(FRAMES) == FRAMES - 1, "push right", "still", 0)


def place(frame: Any) -> float:
    """Column of the square; far left where there is none."""
    bright = np.flatnonzero((frame.mean(axis=-1) > 200).any(axis=0))
    return float(bright[0]) if len(bright) else -100.0


class Careful:
    """Reads the instruction, and asks that the square went there step by step."""

    threshold, hash = 0.5, "careful"

    def __init__(self, out: int = 0) -> None:
        self.asked, self._out = 0, out

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        found = []
        for clip in clips:
            self.asked += 1
            places = [place(frame) for frame in clip.frames]
            went = bool(np.all(np.diff(places) >= 0)) and places[0] < 4
            sure = clip.instruction == "push right" and went and places[-1] >= GOAL
            dead = self._out and self.asked % self._out == 0
            found.append(
                Judgement(None, "nobody home") if dead else Judgement(0.9 if sure else 0.1, "seen", tokens=3)
            )
        return found


class Gullible:
    """Says yes to everything that is not one colour."""

    threshold, hash = 0.5, "gullible"

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        return [Judgement(float(clip.frames.std() > 1)) for clip in clips]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty successes, twenty-four that stop short, eight that stand still, two wrong labels."""
    folder = tmp_path_factory.mktemp("clips")
    ends = [*[22] * 50, *[17] * 24, *[0] * 8]
    for i, end in enumerate(ends):
        success = np.arange(FRAMES) == (FRAMES - 1 if end >= GOAL else -1)
        if i in (0, 60):
            success[-1] = not success[-1]
        Episode(film(end, i), None, success, "push right", "pushed", i).save(folder / f"{i:03d}.npz")
    return folder


def check(judge: Any, clips: Path, out: Path | None = None, **changes: Any) -> dict[str, Any]:
    return check_judge(judge, JudgeCheckConfig(str(clips), **changes), out)


def test_a_careful_judge_passes_and_its_errors_are_counted(clips: Path, tmp_path: Path) -> None:
    report = check(Careful(), clips, tmp_path)
    [result] = report["results"].values()
    counts = result["per_episode"]
    assert [counts[k] for k in Confusion.__dataclass_fields__] == [49, 1, 31, 1]
    assert result["sensitivity"]["low"] < 49 / 50 < result["sensitivity"]["high"]
    assert result["auroc"]["value"] == pytest.approx((49 * 31 + 0.5 * (49 + 31)) / (50 * 32))
    assert result["reliability"]["expected_calibration_error"] == pytest.approx(0.075, abs=0.01)
    assert {p["name"]: p["verdict"] for p in report["red_team"]} == dict.fromkeys(
        ("shuffled frames", "first frame only", "swapped instruction", "blank frames", "reversed clip"),
        "pass",
    ) | {"near misses": "fail"}, "eight near misses are too few for an interval below a tenth"
    assert report["spent"]["tokens"] == 3 * report["spent"]["clips"]
    assert json.loads((tmp_path / "judge_check.json").read_text()) == report
    page = (tmp_path / "judge_check.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert page.count("data:image/webp") == 3, "the two with wrong labels, and one of them as a near miss"
    text = format_card(report)
    for said in ("sensitivity", "at most 0.1", "1 of 8 called a success", "labelled success", "3 tokens"):
        assert said in text


def test_a_gullible_judge_is_seen_through(clips: Path, tmp_path: Path) -> None:
    report = check(Gullible(), clips, tmp_path)
    said = {p["name"]: (p["verdict"], p["value"]) for p in report["red_team"]}
    assert said.pop("blank frames") == ("pass", 0.0)
    assert set(said.values()) == {("fail", 1.0)}
    assert not report["passed"]
    assert "Fallen for" in (tmp_path / "judge_check.html").read_text()


@pytest.mark.slow
def test_what_could_not_be_judged_counts_for_nothing_and_is_asked_again(clips: Path, tmp_path: Path) -> None:
    report = check(Careful(out=3), clips, tmp_path, each=8)
    [result] = report["results"].values()
    assert result["unscorable"]["count"] == 82 // 3
    assert sum(result["per_episode"][k] for k in Confusion.__dataclass_fields__) == 82 - 82 // 3
    again = Careful()
    whole = check(again, clips, tmp_path, each=8)
    assert 0 < again.asked < whole["spent"]["clips"], "what was answered is not asked twice"
    last = Careful()
    same = check(last, clips, tmp_path, each=8)
    assert last.asked == 0
    assert same == whole
    file = tmp_path / "answers.jsonl"
    file.write_bytes(file.read_bytes()[:-20])  # the machine stopped while writing
    for asked in (1, 0):
        torn = Careful()
        check(torn, clips, tmp_path, each=8)
        assert torn.asked == asked
    file.write_text('{"loss": 0.5}\n')
    with pytest.raises(ValueError, match="no answer of a judge"):
        check(Careful(), clips, tmp_path, each=8)


def test_without_recognised_successes_nothing_is_passed(clips: Path) -> None:
    class No(Careful):
        def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
            return [Judgement(0.0) for _ in clips]

    report = check(No(), clips)
    assert {p["verdict"] for p in report["red_team"] if p["name"] != "near misses"} == {"not run"}
    assert "what it takes" in format_card(report)


def test_a_red_team_that_could_try_nothing_is_not_withstood(clips: Path, tmp_path: Path) -> None:
    class Away(Careful):
        def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
            self.asked += len(clips)
            return [Judgement(None, "connection refused", tokens=2, cost=0.5) for _ in clips]

    away = Away()
    report = check(away, clips, tmp_path, episodes=3)
    assert {p["verdict"] for p in report["red_team"]} == {"not run"}
    assert not report["passed"]
    spent = check(away, clips, tmp_path, episodes=3)["spent"]
    paid = (2 * away.asked, 0.5 * away.asked)
    assert (spent["tokens"], spent["cost"]) == paid, "what was paid for no answer is paid"


def test_a_clip_that_is_shown_twice_is_paid_once(clips: Path) -> None:
    judge = Careful()
    report = check(judge, clips, each=4)
    assert report["spent"]["clips"] == judge.asked, "near misses are among the labelled clips"
    assert report["spent"]["tokens"] == 3 * judge.asked


def test_near_misses_move_like_successes_and_end_near_them(clips: Path) -> None:
    labelled = read_clips(clips)
    found = near_misses(labelled, 50)
    assert len(found) == 8
    assert all(not one.success for one in found)
    assert all(place(one.clip.frames[-1]) > 10 for one in found), "those that stand still are no near misses"
    assert len(near_misses(labelled, 2)) == 2
    assert near_misses([one for one in labelled if one.success], 5) == []


def test_attacks_do_what_they_say() -> None:
    one = Labelled("a", Clip(film(22), "push right"), True)
    made = {attack.name: attack.clips for attack in attacks([one], [one], most=5, seed=0)}
    whole = one.clip.frames
    shuffled = made["shuffled frames"][0].clip.frames
    assert sorted(f.tobytes() for f in shuffled) == sorted(f.tobytes() for f in whole)
    assert (shuffled != whole).any()
    assert (made["first frame only"][0].clip.frames == whole[:1]).all()
    assert made["first frame only"][0].clip.frames.shape == whole.shape
    assert (made["reversed clip"][0].clip.frames[::-1] == whole).all()
    assert made["blank frames"][0].clip.frames.std(axis=(0, 1, 2)).max() == 0
    assert made["swapped instruction"][0].clip.instruction == UNRELATED
    assert (made["swapped instruction"][0].clip.frames == whole).all()
    still = Labelled("c", Clip(np.repeat(whole[-1:], FRAMES, axis=0), "push right"), True)
    made = {attack.name: attack.clips for attack in attacks([still], [still, one], most=1, seed=0)}
    for name in ("shuffled frames", "first frame only", "reversed clip"):
        assert [one.name for one in made[name]] == ["a"], "a clip that is as it was misleads nobody"
    other = Labelled("b", Clip(film(0), "push left"), False)
    made = {attack.name: attack.clips for attack in attacks([one, other], [one], most=5, seed=0)}
    assert made["swapped instruction"][0].clip.instruction == "push left"


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_videos_with_labels(tmp_path: Path, kind: str) -> None:
    for name in ("good", "bad"):
        imageio.imwrite(tmp_path / f"{name}.mp4", film(22), fps=8)
    if kind == "json":
        entry = {"good.mp4": {"success": True, "instruction": "push"}, "bad.mp4": False}
        (tmp_path / "labels.json").write_text(json.dumps(entry))
    else:
        rows = "file,success,instruction\ngood.mp4,yes,push\nbad.mp4,0,push\n"
        (tmp_path / "labels.csv").write_text(rows, encoding="utf-8-sig")  # as spreadsheets do
    found = read_clips(tmp_path, instruction="shove" if kind == "json" else None)
    assert [(one.name, one.success) for one in found] == [("bad", False), ("good", True)]
    assert found[0].clip.frames.shape == (FRAMES, SIDE, SIDE, 3)
    assert found[0].clip.fps == 8
    assert found[0].clip.instruction == ("shove" if kind == "json" else "push")


def test_videos_without_a_readable_label_are_refused(tmp_path: Path) -> None:
    imageio.imwrite(tmp_path / "a.mp4", film(22), fps=8)
    with pytest.raises(FileNotFoundError, match="no labels"):
        read_clips(tmp_path)
    for content, says in (
        ("[1]", "no mapping"),
        ('{"a.mp4": true}', "nobody says"),
        ('{"b.mp4": 1}', "nobody"),
    ):
        (tmp_path / "labels.json").write_text(content)
        with pytest.raises(ValueError, match=says):
            read_clips(tmp_path)
    (tmp_path / "labels.json").write_text('{"a.mp4": "maybe"}')
    with pytest.raises(ValueError, match="true or false, got 'maybe'"):
        read_clips(tmp_path, instruction="push")


def conditions(judge: str, *, threshold: float = 0.5, rule: str = "clip") -> Protocol:
    """Of a ranking whose verdicts are those of ``judge``."""
    return Protocol(0, rule, "push right", "tiny", 1, 6, threshold, "model", judge)


def test_what_counts_verdicts_by_another_rule_or_threshold_corrects_nothing(
    tmp_path: Path, tiny_world: Path
) -> None:
    shutil.copytree(tiny_world, tmp_path / "world")
    counts = {"true_success": 8, "false_success": 1, "true_failure": 9, "false_failure": 2}
    results = {"imagined episodes (any frame)": {"per_episode": counts}}
    detector = World.open(tiny_world).detector().hash
    report = tmp_path / "world" / "detector" / "report.json"
    report.write_text(json.dumps({"hash": detector, "results": results}))
    write_hashes(tmp_path / "world")
    world, whole = World.open(tmp_path / "world"), Confusion(8, 1, 9, 2)
    assert errors_of(world, conditions(detector, rule="any")).confusion == whole
    for rule in ("last", "held_3"):
        assert errors_of(world, conditions(detector, rule=rule)).confusion is None
    card = tmp_path / "judge_check.json"
    card.write_text(json.dumps({"hash": "mine", "threshold": 0.5, "results": results}))
    assert errors_of(world, conditions("mine"), folder=tmp_path).confusion == whole
    assert errors_of(world, conditions("mine", threshold=0.9), folder=tmp_path).confusion is None
    with pytest.raises(ValueError, match=r"judged by mine from 0\.9 on"):
        errors_of(world, conditions("mine", threshold=0.9), given=card)
    card.write_text(json.dumps({"hash": "mine", "results": {"recorded clips": {}}}))
    with pytest.raises(ValueError, match="per_episode lacks"):
        errors_of(world, conditions("mine"), given=card)


@pytest.mark.slow
def test_the_card_of_a_judge_corrects_its_success_rates(
    clips: Path, tmp_path: Path, tiny_world: Path
) -> None:
    check(Careful(), clips, tmp_path)
    world = World.open(tiny_world)
    found = errors_of(world, conditions("careful"), given=tmp_path)
    assert (found.confusion, found.labelled) == (Confusion(49, 1, 31, 1), "recorded")
    assert errors_of(world, conditions("careful"), folder=tmp_path) == found
    for other in (conditions("other"), conditions("careful", threshold=0.05)):
        assert errors_of(world, other, folder=tmp_path).confusion is None, "a card of another judge is none"
        with pytest.raises(ValueError, match=r"about the judge careful from 0\.5 on"):
            errors_of(world, other, given=tmp_path / "judge_check.json")
    with pytest.raises(FileNotFoundError, match="judge-check"):
        errors_of(world, conditions("careful"), given=tmp_path / "nothing")
    shutil.copytree(tmp_path, tmp_path / "imagined")
    check(Careful(), clips, tmp_path / "imagined", imagined=True)
    assert errors_of(world, conditions("careful"), given=tmp_path / "imagined").labelled == "imagined"


@pytest.mark.slow
def test_films_of_a_ranking_are_labelled_by_reality(tiny_world: Path, tmp_path: Path) -> None:
    starts = ("seed-0007", "seed-0042", "seed-0043", "seed-0099")
    shutil.copytree(tiny_world, tmp_path / "world")
    outcomes = {start: i < 3 for i, start in enumerate(starts)}
    real = {"still": {"success": 0.75, "episodes": 4, "outcomes": outcomes}}
    (tmp_path / "world" / "reality.json").write_text(json.dumps({"policies": real}))
    write_hashes(tmp_path / "world")
    contenders = {name: StillPolicy() for name in ("still", "unknown")}
    asked: dict[str, Any] = {"episodes": 4, "seed": 0, "out": tmp_path / "out", "progress": False}
    rank(tmp_path / "world", contenders, judge=Gullible(), **asked)
    found = read_clips(tmp_path / "out")
    assert [(one.name, one.success) for one in found] == [(f"still from {s}", outcomes[s]) for s in starts]
    assert found[0].clip.fps == 20.0
    assert len(read_clips(tmp_path / "out", limit=2)) == 2
    report = check(Gullible(), tmp_path / "out")
    [title] = report["results"]
    assert title == "imagined clips of out"
    assert report["results"][title]["per_episode"]["false_success"] == 1


def test_a_ranking_whose_world_has_moved_is_told_where_it_is(tiny_world: Path, tmp_path: Path) -> None:
    folder, made = tmp_path / "ranking", replace(conditions("mine"), world_version=0)
    file = folder / "ledger.jsonl"
    Films(folder / "frames").save("still", "seed-0007", film_of(22))
    record = Record(
        *("still", "push right", "seed-0007", 0, 0, "success", 0.9, (), 6, made.success_rule),
        *(made.world_model_hash, made.detector_hash, made.hash),
    )
    Ledger(file).append([record])
    run = Run("v2w rank", "", str(tmp_path / "gone"), "2026-01-01T00:00:00Z")
    Provenance({}, (run,)).save(file)
    with pytest.raises(FileNotFoundError, match=r"no longer at .*gone; .* the same command with --world"):
        read_clips(folder)
    for name in ("tiny", "another"):
        shutil.copytree(tiny_world, tmp_path / name)
        outcomes = {"still": {"success": 1.0, "outcomes": {"seed-0007": True}}}
        (tmp_path / name / "reality.json").write_text(json.dumps({"policies": outcomes}))
        told = json.loads((tmp_path / name / "world.json").read_text())
        (tmp_path / name / "world.json").write_text(json.dumps({**told, "name": name}))
        write_hashes(tmp_path / name)
    asked = ["judge-check", "drawer_close", "--clips", str(folder), "--out", str(tmp_path / "out")]
    assert cli.main(asked) == cli.USER_ERROR
    assert cli.main([*asked, "--world", str(tmp_path / "another")]) == cli.USER_ERROR
    with pytest.raises(ValueError, match="was not made in world 'another'"):
        read_clips(folder, world=tmp_path / "another")
    report = check(Gullible(), folder, world=str(tmp_path / "tiny"))
    assert report["results"]["imagined clips of ranking"]["per_episode"]["true_success"] == 1


@pytest.mark.parametrize("change", [{"bound": 0.0}, {"each": 0}, {"episodes": 0}])
def test_bad_requests(clips: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bound|clips"):
        check(Careful(), clips, **change)


def test_kappa_is_as_computed_by_hand() -> None:
    first, second = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    found = cohen_kappa(first=[*first, np.nan], second=[*second, 1])
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.2 < 0.4 < 0.6 < found.high
    assert cohen_kappa(first=first, second=first).value == 1
    assert np.isnan(cohen_kappa(first=[1, 1], second=[1, 1]).value)
    assert np.isnan(cohen_kappa(first=[], second=[]).value)
