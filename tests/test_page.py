"""The report as a browser shows it: one file, no network, no script error, readable on a phone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, ask, run

from v2w_gym import cli
from v2w_gym.data.episode import Episode
from v2w_gym.envs.integrity import write_hashes
from v2w_gym.evaluation import rank
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.evaluation.page import Sources, beliefs, reel, write_page
from v2w_gym.evaluation.page import run as run_page
from v2w_gym.evaluation.rereading import reread

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine; on Debian: apt-get install chromium"
)
AUDIT = {
    "probes": [
        {
            "name": "null_action",
            "verdict": "pass",
            "value": 0.01,
            "low": 0.0,
            "high": 0.02,
            "passes": "at most 0.1",
        },
        {"name": "optimism", "passed": False, "value": 0.4, "threshold": 0.05, "text": "imagines success"},
        {"name": "horizon", "passed": None, "text": "needs recorded episodes"},
    ]
}
HOSTILE = "</script><script>wrong.push('ran')</script>"


class Constant:
    def __init__(self, value: float) -> None:
        self.value = value

    def act(self, observation: Mapping[str, Any]) -> Any:
        return np.full((len(observation["pixels"]), 4), self.value, np.float32)


class Broken(Constant):
    def act(self, observation: Mapping[str, Any]) -> Any:
        raise RuntimeError("the gripper is on fire")


@pytest.fixture(scope="module")
def out(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ranking with everything that can be told: reality, a failure, an odd name, an audit."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(tiny_world, folder / "world")
    outcomes = {f"seed-{seed:04d}": seed > 42 for seed in (7, 42, 43, 99)}
    measured = {
        "success": 0.5,
        "episodes": 4,
        "outcomes": outcomes,
        "shaken": {"noise": 0.03, "success": 0.1},
    }
    reality = {"policies": {"left": measured, "right": {"success": 0.75, "episodes": 4}}}
    (folder / "world" / "reality.json").write_text(json.dumps(reality))
    write_hashes(folder / "world")
    (folder / "out").mkdir()
    (folder / "out" / "audit.json").write_text(json.dumps(AUDIT))
    policies = {"left": Constant(-0.9), "right": Constant(0.9), HOSTILE: Constant(0.2), "broken": Broken(0)}
    out = folder / "out"
    asked: dict[str, Any] = {"episodes": 4, "seed": 0, "out": out, "progress": False, "command": "v2w <rank>"}
    rank(folder / "world", policies, **asked)
    films = Films(out / "frames")
    for start in outcomes:  # random weights hardly heed actions: let it be seen who acts
        film = films.load("left", start)
        assert film is not None
        film.frames[3:] = 255 - film.frames[3:]
        films.save("left", start, film)
    rank(folder / "world", policies, **asked)
    return folder / "out"


@pytest.fixture(scope="module")
def page(out: Path) -> Path:
    return out / "report.html"


def test_the_page_stands_alone_and_says_how_it_was_made(page: Path, out: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", text)
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert HOSTILE not in text
    assert "v2w &lt;rank&gt;" in text
    record = Ledger(out / "ledger.jsonl").records[0]
    for said in (record.world_model_hash, record.detector_hash, record.manifest, "torch", "on fire"):
        assert str(said) in text
    for probe in ("null action", "optimism", "to pass: at most 0.1", "1 passed, 1 failed, 1 not run"):
        assert probe in text


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 360])
def test_it_opens_without_a_word_on_the_console(page: Path, width: int) -> None:
    dom, console = run(page, width)
    assert console == []
    assert 'id="player"' in dom


@needs_chromium
@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_is_wider_than_the_screen(page: Path, width: int) -> None:
    wide = ask(
        page,
        "document.querySelectorAll('details').forEach((d) => { d.open = true; });"
        "return [innerWidth, document.documentElement.scrollWidth];",
        width,
    )
    assert wide == [width, width]


def coarse(frame: Any) -> Any:
    return frame.reshape(8, 6, 8, 6, 3).mean(axis=(1, 3))


@needs_chromium
def test_two_policies_play_side_by_side(page: Path, out: Path) -> None:
    script = """
        const get = (id) => document.getElementById(id);
        const pixels = (id) => {
            const { width, height } = get(id);
            return [...get(id).getContext('2d').getImageData(0, 0, width, height).data];
        };
        const choose = (id, index) => {
            get(id).value = String(index);
            get(id).dispatchEvent(new Event('change'));
        };
        const at = async (step) => {
            get('step').value = String(step);
            get('step').dispatchEvent(new Event('input'));
            await wait(100);
            return [pixels('screen-a'), pixels('screen-b')];
        };
        await wait(500);
        const names = [...get('policy-a').options].map((option) => option.textContent);
        choose('policy-a', names.findIndex((name) => name.endsWith('left')));
        choose('policy-b', names.findIndex((name) => name.endsWith('right')));
        choose('start', 1);
        const shown = { begin: await at(0), end: await at(6), said: get('parting').textContent };
        get('part').click();
        shown.parted = Number(get('step').value);
        await at(0);
        get('play').click();
        await wait(5000);
        shown.played = Number(get('step').value);
        shown.button = get('play').textContent;
        choose('policy-b', Number(get('policy-a').value));
        shown.same = get('parting').textContent;
        shown.names = names;
        shown.starts = [...get('start').options].map((option) => option.textContent);
        return shown;
    """
    shown = ask(page, script)
    names = [name.split(" · ")[-1] for name in shown["names"]]
    assert sorted(names) == sorted(["left", "right", HOSTILE])
    films = Films(out / "frames")
    first, second = (films.load(name, shown["starts"][1]) for name in ("left", "right"))
    assert first is not None
    assert second is not None
    for moment, index in (("begin", 0), ("end", 6)):
        for pixels, film in zip(shown[moment], (first, second), strict=True):
            drawn = np.array(pixels).reshape(48, 48, 4)[..., :3]
            distances = [np.abs(coarse(drawn) - coarse(frame)).max() for frame in film.frames]
            assert int(np.argmin(distances)) == index, "a lossy copy of that frame"
    assert shown["parted"] == reel.parted_frames(first, second) == 3
    assert "part at step 3" in shown["said"]
    assert "Their actions differ from step 1 on" in shown["said"]
    assert (shown["played"], shown["button"]) == (6, "Play")
    assert "same policy" in shown["same"]


@needs_chromium
def test_every_control_can_be_reached_by_keyboard(page: Path) -> None:
    unreached = ask(
        page,
        "const kinds = 'a[href], button, select, input, summary, [tabindex]';"
        "document.querySelectorAll('details').forEach((d) => { d.open = true; });"
        "const all = [...document.querySelectorAll(kinds)];"
        "const reached = (e) => { e.focus(); return e.disabled || document.activeElement === e; };"
        "return [all.length, all.filter((e) => !reached(e)).map((e) => e.outerHTML.slice(0, 60))];",
    )
    assert unreached[0] > 15
    assert unreached[1] == []


def test_v2w_report_writes_the_same_page_again(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(out), "--out", str(tmp_path / "again.html")]) == 0
    assert "12 episodes" in capsys.readouterr().out
    assert (tmp_path / "again.html").read_text() == (out / "report.html").read_text()


def test_a_ledger_from_before_manifests_is_told_too(out: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    for line in lines:
        del line["credibility"], line["manifest"]
    (old / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert cli.main(["report", str(old), "--world", str(out.parent / "world")]) == 0
    assert "from before it was kept" in (old / "report.html").read_text()
    assert "Watch two policies" not in (old / "report.html").read_text(), "there are no films"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "no ledger"),
        (["{out}", "--world", "nowhere"], "no world"),
        (["{out}", "--audit", "nowhere.json"], "no audit"),
        (["{out}", "--audit", "{out}/ledger.jsonl"], "damaged"),
    ],
)
def test_a_mistake_is_one_clear_line(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    given = [argument.format(out=out) for argument in arguments]
    assert cli.main(["report", *given, "--out", str(tmp_path / "x.html")]) == cli.USER_ERROR
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_credibility_and_abstentions_are_told(out: Path, tmp_path: Path) -> None:
    sources = reread(out, world=out.parent / "world")
    summary = json.loads(json.dumps(sources.summary))
    summary["credible_from"] = 0.5
    summary["policies"][0] |= {"abstained": "4 of 4 imagined episodes are not credible", "rank": None}
    share = {"value": 0.8, "low": 0.6, "high": 0.9}
    counts = {"true_success": 8, "false_success": 1, "true_failure": 9, "false_failure": 2}
    summary["detector"] = {**counts, "sensitivity": share, "specificity": share, "recorded": None}
    summary["policies"][0] |= {"corrected": share, "calibrated": share}
    summary["calibration"] = {"kind": "affine", "policies": 5, "raw_error": 0.2, "error": 0.1, "helps": True}
    summary["mixed"] = ["3 episodes of another run (threads 1 there, 2 here)"]
    records = [type(r)(**{**r.__dict__, "credibility": 0.25}) for r in sources.records]
    told = Sources(summary, records, sources.starts, sources.filmed, sources.films, sources.fps)
    write_page(tmp_path / "told.html", told)
    text = (tmp_path / "told.html").read_text()
    for said in (
        "8 of 10",
        "80 [60, 90]",
        "from 20 to 10 points. It helps.",
        "4 of 4 imagined episodes are not credible",
        "0.25",
        "mixed by force",
        "threads 1 there, 2 here",
    ):
        assert said in text


def test_nothing_is_called_credible_without_a_threshold(out: Path) -> None:
    sources = reread(out, world=out.parent / "world")
    records = [type(r)(**{**r.__dict__, "credibility": 0.01}) for r in sources.records]
    said = {
        threshold: " ".join(
            beliefs.credibility({**sources.summary, "credible_from": threshold}, records)["texts"]
        )
        for threshold in (None, 0.5)
    }
    assert "are credible" in said[0.5]
    assert "are credible" not in said[None]


@pytest.mark.parametrize(("ran", "head"), [(6, "was stopped"), (8, "might have stopped")])
def test_a_plan_that_was_run_to_its_end_was_not_stopped(ran: int, head: str) -> None:
    early = {"error": 0.05, "decided": [], "undecided": [], "episodes_run": ran, "episodes_planned": 8}
    (notice,) = run_page.notices({"policies": [], "sequential": early}, None)
    assert head in notice["head"]
    assert ("take no account of the stop" in notice["text"]) == (ran < 8)


def test_an_audit_in_words_or_in_flags_is_understood() -> None:
    shown = beliefs.audit(AUDIT, "w")
    assert shown is not None
    assert [probe["state"] for probe in shown["probes"]] == ["passed", "failed", "unknown"]
    assert beliefs.audit(AUDIT["probes"], "w") == shown
    assert beliefs.audit(None, "w") is None
    other = beliefs.audit({**AUDIT, "model_hash": "v"}, "w")
    assert other is not None
    assert "other weights or another sampler (v, here w)" in other["lead"]
    with pytest.raises(ValueError, match="list"):
        beliefs.audit({"psnr": 30}, "w")


def film(value: int, length: int = 5, size: tuple[int, int] = (64, 64)) -> Episode:
    frames = np.full((length, *size, 3), 100, np.uint8)
    frames[2:, :8, :8] = value
    return Episode(frames, np.zeros((length - 1, 4), np.float32), np.zeros(length, bool), "t", "b", 0)


def test_where_two_policies_part() -> None:
    assert reel.parted_frames(film(100), film(200)) == 2
    assert reel.parted_frames(film(100), film(110)) is None
    assert reel.parted_frames(film(100, length=2), film(200)) is None
    assert reel.parted_actions(film(100), film(200)) is None
    moved = film(100)
    assert moved.actions is not None
    moved.actions[3] = 0.5
    assert reel.parted_actions(film(100), moved) == 4


def test_a_page_keeps_to_its_budget(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films, rng = Films(tmp_path), np.random.default_rng(0)
    records = [r for r in Ledger(out / "ledger.jsonl").records if r.policy == "left"]
    names = [f"p{i}" for i in range(6)]
    facts = [type(r)(**{**r.__dict__, "policy": name}) for name in names for r in records]
    for record in facts:
        frames = rng.integers(0, 256, (4, 120, 200, 3), dtype=np.uint8)
        films.save(record.policy, record.start_id, Episode(frames, None, np.zeros(4, bool), "t", "b", 0))
    starts = [r.start_id for r in records]
    one = len(reel.sprite(frames, 96, 75)["url"])
    for room, policies, scenes in ((7 * one, 6, 1), (13 * one, 6, 2), (3 * one, 3, 1)):
        monkeypatch.setattr(reel, "BUDGET", room)
        made = reel.make_reel(names, starts, films, facts)
        assert made is not None
        assert (len(made[0]["policies"]), len(made[0]["starts"])) == (policies, scenes)
        assert len(made[0]["partings"][0]) == policies
        assert len(made[1]) == 6 - policies
        assert sum(len(f["url"]) for row in made[0]["films"] for f in row) <= room
        assert made[0]["policies"][0] == "p0"
