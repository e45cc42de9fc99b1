"""An audit passes the world that is like reality, and fails each other one where it is not."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toyworld import STEPS, ToyWorld, drawn, record_all, recorded, true_law

from v2w_gym import cli
from v2w_gym.data.episode import Episode
from v2w_gym.envs.world import World
from v2w_gym.evaluation.audit import AuditConfig, Bound, audit, format_audit, gather, probes, recordings
from v2w_gym.evaluation.audit.clips import ClipProtocol, protocol, protocols, score_clips
from v2w_gym.evaluation.audit.fidelity import exact_lower_bound
from v2w_gym.evaluation.audit.finding import all_passed, judged, not_run, over_episodes
from v2w_gym.evaluation.audit.motion import Ruler, directions, make_ruler
from v2w_gym.evaluation.audit.probes import probe
from v2w_gym.evaluation.audit.reader import ActionReader, ReaderConfig
from v2w_gym.evaluation.audit.recordings import record_missing
from v2w_gym.evaluation.metrics import psnr
from v2w_gym.evaluation.stats import Estimate

EPISODES = 60
QUICK = ReaderConfig(steps=100, batch_size=32, width=8)
ALL = (
    "null_action",
    "direction",
    "distance",
    "inverse_dynamics",
    "true_actions",
    "replay_fidelity",
    "horizon",
    "optimism",
    "optimism_probes",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    return record_all(tmp_path_factory.mktemp("recordings"), EPISODES + 60)


def findings(folders, world, **changes):
    found, _ = probe(gather(world, AuditConfig(**folders, episodes=EPISODES, **changes)), QUICK)
    return {finding.name: finding for finding in found}


def failed(found) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict == "fail"}


def frozen(place, action):
    return place


def deaf(place, action):
    """Moves, but as it likes."""
    return (place + torch.tensor([1.5, -1.0])).clamp(4.0, 27.0)


def mirrored(place, action):
    return true_law(place, action * torch.tensor([-1.0, 1.0]))


def halved(place, action):
    return true_law(place, 0.5 * action)


def test_a_world_that_is_like_reality_passes_everything(folders):
    found = findings(folders, ToyWorld())
    assert tuple(found) == ALL
    assert {f.verdict for f in found.values()} == {"pass"}, [
        (f.name, f.verdict, f.says) for f in found.values()
    ]
    assert found["horizon"].details["certified_steps"] == STEPS
    assert found["distance"].details["by_size"].keys() == {"0.5", "1"}


@pytest.mark.slow
def test_a_frozen_world_stands_still_and_fails_the_rest(folders):
    found = findings(folders, ToyWorld(frozen))
    assert found["null_action"].verdict == "pass"
    assert failed(found) == set(ALL) - {"null_action"}
    assert "failing proves nothing" in found["optimism"].says
    assert found["true_actions"].details["delta_percent"]["psnr_db"] == 0.0


@pytest.mark.slow
def test_a_world_deaf_to_actions_fails_the_action_probes(folders):
    found = findings(folders, ToyWorld(deaf))
    assert failed(found) >= {"null_action", "direction", "inverse_dynamics", "true_actions", "horizon"}


@pytest.mark.slow
def test_mirrored_and_halved_actions_are_told_apart(folders):
    assert "direction" in failed(findings(folders, ToyWorld(mirrored)))
    half = findings(folders, ToyWorld(halved))
    assert half["direction"].verdict == "pass"
    assert half["distance"].verdict == "fail"
    assert half["distance"].estimate.value == pytest.approx(0.5, abs=0.15)


@pytest.mark.slow
def test_a_detector_that_always_says_yes_is_optimistic(folders):
    found = findings(folders, ToyWorld(always=True))
    assert failed(found) == {"optimism", "optimism_probes"}
    assert found["optimism"].estimate.value == 1.0


@pytest.mark.slow
def test_what_is_absent_is_not_run_and_says_what_it_takes(folders):
    found = findings({"heldout": folders["heldout"]}, ToyWorld(detector="none"))
    assert {n for n, f in found.items() if f.verdict == "not run"} == {
        "null_action",
        "direction",
        "distance",
        "optimism",
        "optimism_probes",
    }
    assert all(f.to_run for f in found.values() if f.verdict == "not run")
    assert "--directions DIR" in found["direction"].to_run


@pytest.mark.slow
def test_an_audit_in_which_no_probe_ran_is_not_passed(tmp_path, monkeypatch, capsys):
    none = [not_run(name, "?", Bound(0, 1, "so"), "no recordings", "--probes DIR") for name in ("a", "b")]
    heldout = SimpleNamespace(episodes=[0, 1], actions=np.zeros((2, 3, 4)))
    monkeypatch.setattr(probes, "gather", lambda *_, **__: SimpleNamespace(heldout=heldout, lpips=None))
    monkeypatch.setattr(probes, "probe", lambda *_: (none, "too few lessons"))
    for name in ("write_picture", "validate"):
        monkeypatch.setattr(probes, name, lambda *_: None)
    monkeypatch.setattr(World, "open", lambda _: ToyWorld())
    assert cli.main(["audit", "--heldout", "x", "--out", str(tmp_path)]) == 1
    assert "0 failed, 2 not run; nothing was tried, so nothing is passed" in capsys.readouterr().out
    assert not json.loads((tmp_path / "audit.json").read_text())["passed"]
    ran = judged("c", "?", Bound(0, 1, "so"), Estimate(0.5, 0.4, 0.6), "it did")
    assert all_passed([*none, ran])


def test_a_reader_that_cannot_read_reality_judges_nothing(folders, tmp_path):
    rng = np.random.default_rng(5)
    for seed in range(60):  # what is written down as actions has nothing to do with the frames
        episode = recorded(rng.uniform(-1, 1, (STEPS, 2)), seed, "walk")
        other = rng.uniform(-1, 1, (STEPS, 2)).astype(np.float32)
        (type(episode)(episode.frames, other, episode.success, "toy", "walk", seed)).save(
            tmp_path / f"{seed}.npz"
        )
    evidence = gather(ToyWorld(), AuditConfig(str(tmp_path), directions=folders["directions"], episodes=30))
    found, ruler = probe(evidence, QUICK)
    assert isinstance(ruler, str)
    assert "cannot" not in ruler
    assert "the action reader itself reads no component" in ruler
    verdicts = {finding.name: finding.verdict for finding in found}
    assert {verdicts[n] for n in ("direction", "distance", "inverse_dynamics")} == {"not run"}


def test_too_few_lessons_are_not_taken(folders):
    evidence = gather(ToyWorld(), AuditConfig(folders["heldout"], episodes=EPISODES + 50))
    assert "needs 20 held-out episodes beside those that are replayed, there are 10" in str(
        make_ruler(evidence)
    )


def test_the_reader_is_a_function_of_its_seed_and_leaves_ours_alone(folders):
    lessons = gather(ToyWorld(), AuditConfig(folders["heldout"], episodes=EPISODES)).lessons[:20]
    config = ReaderConfig(steps=5, width=4)
    torch.manual_seed(1)
    before = torch.rand(1)
    torch.manual_seed(1)
    first = ActionReader(lessons, config)
    assert torch.rand(1) == before
    film = lessons[0].frames[None]
    np.testing.assert_array_equal(first.read(film), ActionReader(lessons, config).read(film))


@pytest.mark.slow
def test_audit_writes_its_files(folders, tmp_path):
    world = ToyWorld(halved)
    config = AuditConfig(**folders, episodes=EPISODES)
    report = audit(world, config, tmp_path / "out", reader=QUICK)
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == report
    assert not report["passed"]
    assert report["counts"]["pass"] + report["counts"]["fail"] == len(ALL)
    for name in ("audit.png", "validation.json", "replay.mp4", "probe-still.mp4", "directions.mp4"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    text = format_audit(report)
    assert all(name in text for name in ALL)
    page = (Path(__file__).parents[1] / "docs" / "audit.md").read_text()
    assert [key for key in report if f"`{key}`" not in page] == []
    assert "action reader: learned from 60 other recorded episodes" in text
    following = json.loads((tmp_path / "out" / "validation.json").read_text())["action_following"]
    assert following["of"] == 24
    assert following["right"] < 24  # half of an action looks like the recording of its half


def test_episodes_are_cut_to_the_steps_asked_for(folders):
    evidence = gather(ToyWorld(), AuditConfig(folders["heldout"], episodes=10, steps=3))
    assert evidence.heldout.recorded.shape[1] == 4
    with pytest.raises(ValueError, match=f"cut the audit: --steps {STEPS}"):
        gather(ToyWorld(), AuditConfig(folders["heldout"], episodes=10, steps=STEPS + 1))


def test_episodes_of_another_world_are_refused(folders, tiny_world):
    with pytest.raises(ValueError, match="recorded for another world"):
        gather(World.open(tiny_world), AuditConfig(folders["heldout"], episodes=10))


def test_a_bound_wants_the_whole_interval():
    bound = Bound(0.8, 1.25, "")
    assert bound.holds(Estimate(1.0, 0.8, 1.25))
    assert not bound.holds(Estimate(1.0, 0.79, 1.1))
    assert not bound.holds(Estimate(1.0, float("nan"), 1.1))
    short = judged("n", "q", bound, Estimate(1.0, 0.5, 1.1), "about right")
    assert short.verdict == "fail"
    assert "take more episodes" in short.says


def test_the_bootstrap_counts_episodes():
    values = np.repeat([0.0, 1.0], 50)
    found = over_episodes(lambda w: w @ values / w.sum(axis=1), len(values))
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.02)


def test_exact_lower_bound_by_hand():
    """All of 29 episodes: the share p with p^29 = .05, which is .902; of 28 it is .899."""
    assert exact_lower_bound(29, 29) == pytest.approx(0.05 ** (1 / 29))
    assert exact_lower_bound(0, 5) == 0.0


def test_protocols_are_those_of_the_paper():
    assert protocols() == ["csgo", "recon_rollout", "recon_time", "rt1"]
    rt1, csgo = protocol("rt1"), protocol("csgo")
    assert (rt1.clips, rt1.frames, rt1.given, len(rt1.scored), rt1.crop) == (1024, 16, 1, 16, None)
    assert (csgo.clips, csgo.given, csgo.scored[0], csgo.crop, csgo.resize) == (
        500,
        4,
        4,
        (275, 512),
        (150, 280),
    )
    with pytest.raises(ValueError, match="did you mean 'rt1'"):
        protocol("rt-1")


def test_a_protocol_scores_its_frames_cut_and_resized():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 5, 40, 48, 3), dtype=np.uint8)
    rules = ClipProtocol(clips=3, frames=5, given=2, scored=(3, 4), crop=(20, 24))
    scores = score_clips(rules, a, b)
    cut = np.s_[:, 3:, 10:30, 12:36]
    assert scores["scores"]["psnr_db"] == pytest.approx(psnr(a[cut], b[cut]).mean())
    assert len(scores["by_frame"]["ssim"]) == 2
    halved = ClipProtocol(clips=3, frames=5, given=2, scored=(4,), crop=(20, 24), resize=(12, 12))
    assert score_clips(halved, a, a)["scores"]["ssim"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="clips must be"):
        score_clips(rules, a[:, :4], b)


@pytest.mark.slow
def test_audit_scores_a_protocol_on_request(folders, tmp_path, monkeypatch):
    from v2w_gym.evaluation.audit import clips

    rules = ClipProtocol(clips=500, frames=STEPS + 1, given=2, scored=(2, 3))
    monkeypatch.setattr(clips, "protocol", lambda name: rules)
    report = audit(
        ToyWorld(), AuditConfig(**folders, episodes=10, protocol="mine"), tmp_path, reader=ReaderConfig(5)
    )
    assert report["protocol"]["clips"] == EPISODES + 60
    assert report["protocol"]["scores"]["ssim"] > 0.95
    assert "(the protocol has 500)" in format_audit(report)


def test_clips_that_a_protocol_cannot_score_are_refused_before_anything_is_imagined(folders, tmp_path):
    world = ToyWorld()
    world.model = None
    with pytest.raises(ValueError, match=r"an episode of 15 actions or more, its longest has 8$"):
        audit(world, AuditConfig(folders["heldout"], protocol="rt1"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_recording_that_was_stopped_is_taken_up_again(folders, tmp_path, monkeypatch):
    heldout = tmp_path / "heldout"
    heldout.mkdir()
    episode = recorded(np.zeros((STEPS, 2)), 1, "walk")
    dataclasses.replace(episode, task="drawer-close-v3").save(heldout / "0.npz")

    def record(out, stop):
        Path(out).mkdir(exist_ok=True)
        for seed in range(2):
            episode.save(Path(out) / f"{seed}.npz")
            if stop:
                raise KeyboardInterrupt

    config = AuditConfig(str(heldout), probes=str(tmp_path / "probes"))
    monkeypatch.setattr(recordings, "record_probes", lambda out: record(out, stop=True))
    with pytest.raises(KeyboardInterrupt):
        record_missing(config)
    assert not (tmp_path / "probes").exists()
    monkeypatch.setattr(recordings, "record_probes", lambda out: record(out, stop=False))
    record_missing(config)
    assert len(list((tmp_path / "probes").iterdir())) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heldout", "probes"]


def test_actions_of_one_size_do_not_tell_how_distance_grows(folders, tmp_path):
    for path in Path(folders["directions"]).glob("*.npz"):
        if not Episode.load(path).behaviour.endswith("/2"):
            shutil.copy(path, tmp_path)
    config = AuditConfig(folders["heldout"], directions=str(tmp_path), episodes=2)
    evidence = gather(ToyWorld(), config)

    class Reader:
        def read(self, frames):
            return np.ones((len(frames), frames.shape[1] - 1, 2))

    nothing = np.zeros((2, STEPS, 2))
    ruler = Ruler(Reader(), nothing, nothing, np.ones(2), np.ones(2, bool), ("dx", "dy"))
    way, far = directions(evidence, ruler)
    assert (way.verdict, far.verdict) == ("pass", "not run")
    assert "have one size, 1" in far.says


def test_recordings_of_another_task_are_not_made_up(folders, tmp_path):
    config = AuditConfig(folders["heldout"], probes=str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="episodes of 'toy' cannot be recorded here"):
        record_missing(config)
    record_missing(AuditConfig(**folders))  # nothing is missing
    assert not list(tmp_path.iterdir())


def test_the_page_names_every_probe_and_protocol():
    page = (Path(__file__).parents[1] / "docs" / "audit.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert [name for name in rows if name in ALL] == list(ALL)
    assert {name for name in rows if name in protocols()} == set(protocols())


def test_the_toy_draws_what_it_says():
    frame = drawn(torch.tensor([[20.0, 10.0]]))[0].numpy()
    assert frame[10, 20, 0] == 220
    assert frame[20, 10, 0] == 30
