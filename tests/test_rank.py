"""A ranking on the tiny world: common luck, resume, failing policies, and what the summary says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from v2w_gym.data.episode import Episode
from v2w_gym.envs.integrity import write_hashes
from v2w_gym.evaluation import format_table, rank, schedule
from v2w_gym.evaluation.guard import GuardedPolicy, PolicyFailure
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.evaluation.protocol import episode_seeds
from v2w_gym.evaluation.reality import real_outcomes, shaken_success
from v2w_gym.evaluation.rereading import reread
from v2w_gym.evaluation.rules import check_rule, succeeded
from v2w_gym.shapes import check_action

PICTURES = ("contact_sheet.png", "episodes.mp4", "scatter.png")


class Constant:
    """Only ``act``: the smallest policy there is."""

    def __init__(self, value: float) -> None:
        self.value = value

    def act(self, observation: Mapping[str, Any]) -> Any:
        return np.full((len(observation["pixels"]), 4), self.value, np.float32)


class Jittery(Constant):
    """Random actions that depend on the slot's seed alone, and a memory that ``reset`` must clear."""

    def seed(self, seeds: Sequence[int]) -> None:
        self.rngs = [np.random.default_rng(seed) for seed in seeds]

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        self.age = [0] * len(slots)

    def act(self, observation: Mapping[str, Any]) -> Any:
        self.age = [age + 1 for age in self.age]
        return np.stack([rng.uniform(-1, 1, 4) / age for rng, age in zip(self.rngs, self.age, strict=True)])


class Interrupted(Constant):
    """The user presses Ctrl-C in the second batch."""

    calls = 0

    def act(self, observation: Mapping[str, Any]) -> Any:
        self.calls += 1
        if self.calls > 8:
            raise KeyboardInterrupt
        return super().act(observation)


class Broken(Constant):
    """Raises in the middle of an episode."""

    def act(self, observation: Mapping[str, Any]) -> Any:
        raise RuntimeError("the gripper is on fire")


class Junk(Constant):
    """Returns whatever it was given."""

    def __init__(self, junk: Any) -> None:
        self.junk = junk

    def act(self, observation: Mapping[str, Any]) -> Any:
        return self.junk


class Scribbler(Constant):
    """Draws on the observation."""

    def act(self, observation: Mapping[str, Any]) -> Any:
        observation["pixels"][:] = 0
        return super().act(observation)


def all_four() -> dict[str, Any]:
    return {"left": Constant(-0.9), "right": Constant(0.9), "jittery": Jittery(0), "twin": Jittery(0)}


@pytest.fixture(scope="session")
def world(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with a reality in which two of the policies were measured."""
    folder = tmp_path_factory.mktemp("known") / "world"
    shutil.copytree(tiny_world, folder)
    starts = ("seed-0007", "seed-0042", "seed-0043", "seed-0099")
    policies = {
        name: {"success": k / 4, "episodes": 4, "outcomes": {s: i < k for i, s in enumerate(starts)}}
        for name, k in (("left", 1), ("right", 3))
    }
    (folder / "reality.json").write_text(
        json.dumps({"command": "by hand", "episodes": 4, "policies": policies})
    )
    write_hashes(folder)
    return folder


def quick(world: Path, policies: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return rank(world, policies, **{"episodes": 4, "seed": 0, "batch_size": 2, "progress": False, **changes})


def facts(out: Path) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {
        (r.policy, r.start_id): (r.noise_seed, r.verdict, r.probabilities)
        for r in Ledger(out / "ledger.jsonl").records
    }


def without_time(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key != "seconds"}


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of an undisturbed ranking."""
    out = tmp_path_factory.mktemp("whole")
    assert quick(world, all_four(), out=out) == read(out)
    return out


def read(out: Path) -> Any:
    return json.loads((out / "summary.json").read_text())


def test_summary_has_the_promised_form(whole: Path) -> None:
    summary = read(whole)
    assert {entry["name"] for entry in summary["policies"]} == set(all_four())
    for entry in summary["policies"]:
        assert entry["episodes"] == 4
        assert 0 <= entry["low"] <= entry["success"] <= entry["high"] <= 1
        assert entry["error"] is None
    real = {entry["name"]: entry["real_success"] for entry in summary["policies"]}
    assert real == {"left": 0.25, "right": 0.75, "jittery": None, "twin": None}
    for metric in ("pearson", "spearman", "mmrv"):
        assert set(summary[metric]) == {"value", "low", "high"}
    assert all((whole / name).stat().st_size > 1000 for name in PICTURES)


def test_without_a_measured_policy_agreement_is_null(world: Path) -> None:
    summary = quick(world, {"mine": Constant(0.1)}, episodes=1)
    assert summary["pearson"] is summary["spearman"] is summary["mmrv"] is None
    assert summary["policies"][0]["real_success"] is None


def test_two_equal_policies_meet_the_same_luck(whole: Path) -> None:
    found = facts(whole)
    of_one = {start: fact for (policy, start), fact in found.items() if policy == "jittery"}
    assert of_one == {start: fact for (policy, start), fact in found.items() if policy == "twin"}
    assert len(set(of_one.values())) == 4
    assert {fact[1] for fact in found.values()} == {"success", "failure"}


def test_order_and_batch_size_change_nothing(world: Path, whole: Path, tmp_path: Path) -> None:
    backwards = dict(reversed(all_four().items()))
    assert without_time(quick(world, backwards, out=tmp_path, batch_size=3)) == without_time(read(whole))
    found, expected = facts(tmp_path), facts(whole)
    assert found.keys() == expected.keys()
    for key in found:
        assert found[key][:2] == expected[key][:2]
        np.testing.assert_allclose(found[key][2], expected[key][2], atol=2e-3)


def test_another_seed_is_other_luck() -> None:
    starts = [f"seed-{i:04d}" for i in range(100)]
    noise = episode_seeds(0, starts, "world")
    assert len({*noise, *episode_seeds(1, starts, "world"), *episode_seeds(0, starts, "policy")}) == 300
    assert noise[40:60] == episode_seeds(0, starts[40:60], "world")
    assert all(0 <= seed < 2**31 for seed in noise)


def test_a_stopped_ranking_goes_on_to_the_same_summary(world: Path, whole: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with pytest.raises(KeyboardInterrupt):
        quick(world, {**all_four(), "right": Interrupted(0.9)}, out=tmp_path)
    assert len(Ledger(ledger).records) == 6
    with ledger.open("rb+") as file:
        file.truncate(file.seek(0, 2) - 7)  # the machine went down, too
    with pytest.warns(UserWarning, match="cut in half"):
        resumed = quick(world, all_four(), out=tmp_path)
    assert without_time(resumed) == without_time(read(whole))
    assert facts(tmp_path) == facts(whole)
    assert (tmp_path / PICTURES[0]).read_bytes() == (whole / PICTURES[0]).read_bytes()


def test_more_episodes_use_those_that_are_there(world: Path, tmp_path: Path) -> None:
    quick(world, {"mine": Constant(0)}, out=tmp_path, episodes=1)
    before = (tmp_path / "ledger.jsonl").read_bytes()
    quick(world, {"mine": Constant(0)}, out=tmp_path, episodes=3)
    assert (tmp_path / "ledger.jsonl").read_bytes().startswith(before)
    assert len(Ledger(tmp_path / "ledger.jsonl").records) == 3


@pytest.mark.parametrize(
    ("change", "says"), [({"seed": 1}, "seed 0 there, 1 here"), ({"success_rule": "last"}, "rule")]
)
def test_a_ledger_of_other_conditions_is_refused(
    world: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    quick(world, {"mine": Constant(0)}, episodes=1, out=tmp_path)
    before = (tmp_path / "ledger.jsonl").read_bytes()
    with pytest.raises(ValueError, match=says):
        quick(world, {"mine": Constant(0)}, episodes=1, out=tmp_path, **change)
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


def test_a_failing_policy_stops_alone(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = {"left": Constant(-0.9), "right": Constant(0.9)}
    summary = quick(world, {"broken": Broken(0), **others}, progress=True)
    entries = {entry["name"]: entry for entry in summary["policies"]}
    assert "the gripper is on fire" in entries["broken"]["error"]
    assert entries["broken"]["rank"] is entries["broken"]["success"] is None
    assert [entries[name]["episodes"] for name in others] == [4, 4]
    assert "test_rank.py, line" in entries["broken"]["error"]
    assert "broken" in capsys.readouterr().err
    assert summary["mmrv"]["value"] is not None


def test_a_policy_that_fails_late_keeps_what_it_finished(world: Path) -> None:
    class Late(Constant):
        calls = 0

        def act(self, observation: Mapping[str, Any]) -> Any:
            self.calls += 1
            return super().act(observation) if self.calls < 8 else None

    entry = quick(world, {"late": Late(0)}, out=None)["policies"][0]
    assert entry["episodes"] == 2
    assert entry["rank"] is None


@pytest.mark.parametrize(
    "junk",
    [
        None,
        "left",
        np.zeros(4),
        np.zeros((2, 3)),
        np.full((2, 4), np.nan),
        np.full((2, 4), 1.01),
        [[0, 0, 0, "x"]] * 2,
    ],
)
def test_junk_is_a_failure_of_the_policy(junk: Any) -> None:
    with pytest.raises(PolicyFailure, match="act returned junk"):
        GuardedPolicy(Junk(junk)).act(
            {"pixels": np.zeros((2, 8, 8, 3), np.uint8)}, lambda actions: check_action(actions, (2, 4))
        )


def test_a_policy_may_keep_a_number_under_the_name_of_a_method() -> None:
    policy = Constant(0.0)
    policy.seed = policy.reset = 7
    GuardedPolicy(policy).begin(["go"], [1])


def test_a_policy_cannot_scribble_on_the_world(world: Path, tmp_path: Path) -> None:
    quick(world, {"clean": Constant(0.2), "scribbler": Scribbler(0.2)}, out=tmp_path, episodes=1)
    found = facts(tmp_path)
    assert all(found["clean", start] == found["scribbler", start] for _, start in found)
    one = Episode.load(tmp_path / "frames" / "scribbler" / "seed-0007.npz")
    assert one.frames[:-1].any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"policies": {}}, ValueError, "at least one"),
        ({"policies": {"x": "bc-10"}}, TypeError, "policies.load"),
        ({"policies": {"x": Constant}}, TypeError, "act"),
        ({"episodes": 0}, ValueError, r"1\.\.4"),
        ({"episodes": 5}, ValueError, r"1\.\.4"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"success_rule": "first"}, ValueError, "held_3"),
        ({"policies": {1: Constant(0)}}, ValueError, "write '1'"),
        ({"starts": ["seed-0008"]}, ValueError, "unknown start"),
        ({"starts": ["seed-0007", "seed-0007"], "episodes": 2}, ValueError, "twice"),
        ({"world": "Vid2World-DrawrClose-v0"}, FileNotFoundError, "did you mean"),
    ],
)
def test_bad_input_changes_nothing(
    world: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    arguments = {"world": world, "policies": {"mine": Constant(0)}, "out": tmp_path / "out", **change}
    with pytest.raises(error, match=says):
        quick(**arguments)
    assert not (tmp_path / "out").exists()


def test_reality_is_compared_start_by_start_where_it_can_be() -> None:
    outcomes = {"a": True, "b": False, "c": True}
    reality = {
        "policies": {
            "paired": {"success": 2 / 3, "episodes": 3, "outcomes": outcomes},
            "rate": {"success": 0.25, "episodes": 8},
        }
    }
    real = real_outcomes(reality, ["paired", "rate", "unknown"], ["c", "b"])
    assert set(real) == {"paired", "rate"}
    assert real["paired"].paired
    assert real["paired"].outcomes.tolist() == [1.0, 0.0]
    assert not real["rate"].paired
    assert (real["rate"].outcomes.mean(), len(real["rate"].outcomes)) == (0.25, 8)
    elsewhere = real_outcomes(reality, ["paired"], ["c", "d"])["paired"]
    assert not elsewhere.paired
    assert elsewhere.outcomes.mean() == pytest.approx(2 / 3)
    assert real_outcomes(None, ["paired"], ["a"]) == {}


@pytest.mark.parametrize(
    "entry",
    [
        0.5,
        {"success": 0.5},
        {"success": 1.5, "episodes": 10},
        {"success": "x", "episodes": 1},
        {"outcomes": {"a": None}},
        {"outcomes": {"a": 0.5}},
        {"outcomes": {"a": True, "b": "yes"}},
    ],
)
def test_a_malformed_reality_is_an_error(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"reality\.json"):
        real_outcomes({"policies": {"p": entry}}, ["p"], ["a"])
    with pytest.raises(ValueError, match=r"reality\.json"):
        real_outcomes({"p": entry}, ["p"], ["a"])


@pytest.mark.parametrize("shaken", [0.4, None, {"noise": 0.03}, {"success": None}])
def test_a_malformed_trial_with_noise_is_an_error(shaken: Any) -> None:
    entry = {"success": 0.5, "episodes": 2, "shaken": {"noise": 0.03, "success": 0.5}}
    assert shaken_success({"policies": {"p": entry}}, ["p", "q"]) == {"p": (0.5, 0.5)}
    with pytest.raises(ValueError, match=r"reality\.json"):
        shaken_success({"policies": {"p": {**entry, "shaken": shaken}}}, ["p"])


@pytest.mark.parametrize("file", ["reality", "audit"])
def test_a_damaged_file_is_told_before_the_first_episode(world: Path, tmp_path: Path, file: str) -> None:
    folder, out = tmp_path / "world", tmp_path / "out"
    shutil.copytree(world, folder)
    out.mkdir()
    if file == "audit":
        (out / "audit.json").write_text("{")
    else:
        entry = {"success": 0.5, "episodes": 4, "shaken": {"noise": 0.03}}
        (folder / "reality.json").write_text(json.dumps({"policies": {"left": entry}}))
        write_hashes(folder)
    with pytest.raises(ValueError, match=rf"{file}\.json"):
        quick(folder, {"left": Constant(-0.9)}, out=out)
    assert not list(out.glob("ledger*"))


@pytest.mark.slow
def test_a_policy_whose_success_a_little_noise_takes_away_is_shown_apart(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    shutil.copytree(world, folder)
    reality = json.loads((folder / "reality.json").read_text())
    starts = list(reality["policies"]["left"]["outcomes"])
    outcomes = dict.fromkeys(starts, True)
    reality["policies"]["jittery"] = {"success": 1.0, "episodes": 4, "outcomes": outcomes}
    for name, shaken in (("left", 0.25), ("right", 0.65), ("jittery", 0.55)):
        reality["policies"][name]["shaken"] = {"noise": 0.03, "success": shaken}
    (folder / "reality.json").write_text(json.dumps(reality))
    write_hashes(folder)
    summary = quick(folder, all_four())
    assert {entry["name"] for entry in summary["policies"] if entry["unsteady"]} == {"jittery"}
    both = {"left": Constant(-0.9), "right": Constant(0.9)}
    assert summary["steady"] == {key: quick(folder, both)[key] for key in summary["steady"]}
    assert "with a little noise in the actions it is: jittery (0.55)" in format_table(summary)
    assert quick(folder, both)["steady"] is None


def test_a_ranking_may_stop_early_and_goes_on_to_the_same(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "ROUND", 1)
    twins = {"jittery": Jittery(0), "twin": Jittery(0)}
    early = quick(world, twins, out=tmp_path, stop_early=0.3, batch_size=1)
    assert [entry["episodes"] for entry in early["policies"]] == [2, 2], "no lead of two more could decide"
    assert early["sequential"]["episodes_run"] == 4
    before = (tmp_path / "ledger.jsonl").read_bytes()
    assert without_time(quick(world, twins, out=tmp_path, stop_early=0.3, batch_size=1)) == without_time(
        early
    )
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    assert "stopped as soon as it was decided" in (tmp_path / "report.html").read_text()
    with pytest.raises(ValueError, match="error"):
        quick(world, twins, stop_early=0.7)


def test_a_report_reads_the_starts_in_the_order_of_the_plan(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "ROUND", 1)
    plan = ["seed-0099", "seed-0007", "seed-0043", "seed-0042"]
    twins = {"jittery": Jittery(0), "twin": Jittery(0)}
    early = quick(world, twins, out=tmp_path, starts=plan, stop_early=0.3, batch_size=1)
    assert [entry["episodes"] for entry in early["policies"]] == [2, 2]
    again = reread(tmp_path)
    assert again.starts == plan
    assert again.summary == without_time(early)


def test_success_rules() -> None:
    flags = np.array([False, True, True, False, True])
    verdicts = {rule: succeeded(flags, rule) for rule in ("any", "last", "held_1", "held_2", "held_3")}
    assert verdicts == {"any": True, "last": True, "held_1": True, "held_2": True, "held_3": False}
    assert not succeeded(flags[:4], "last")
    for nonsense in ("held_0", "held_", "always", "held_2 "):
        with pytest.raises(ValueError, match="success_rule"):
            check_rule(nonsense)
