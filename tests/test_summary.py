"""The summary is a pure function of records and reality: every fact in its place, and nothing made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from v2w_gym.envs.integrity import write_hashes
from v2w_gym.envs.world import World
from v2w_gym.evaluation import format_table
from v2w_gym.evaluation.labelled import shipped_confusion
from v2w_gym.evaluation.ledger import Record
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.stats import Confusion, RealOutcomes, SequentialRanking
from v2w_gym.evaluation.summary import Reading, summarise

STARTS = [f"s{i}" for i in range(40)]
RATES = {"great": 0.95, "good": 0.75, "decent": 0.6, "fair": 0.45, "poor": 0.25, "never": 0.0}
PROTOCOL = Protocol(
    seed=0,
    success_rule="any",
    instruction="close the drawer",
    world="w",
    world_version=1,
    horizon=4,
    threshold=0.5,
    world_model_hash="m",
    detector_hash="d",
)


def record(policy: str, start: str, probabilities: tuple[float | None, ...], **changes: Any) -> Record:
    scorable = None not in probabilities
    success = scorable and max(p or 0.0 for p in probabilities) >= 0.5
    return Record(
        **{
            "policy": policy,
            "instruction": "close the drawer",
            "start_id": start,
            "seed": 0,
            "noise_seed": 0,
            "verdict": "unscorable" if not scorable else "success" if success else "failure",
            "probability": None,
            "probabilities": probabilities,
            "steps": len(probabilities),
            "success_rule": "any",
            "world_model_hash": "m",
            "detector_hash": "d",
            "config_hash": PROTOCOL.hash,
            **changes,
        }
    )


def facts(**changes: Any) -> list[Record]:
    """Episodes of all policies, of which a start's luck decides a half."""
    rng = np.random.default_rng(0)
    luck = rng.random(len(STARTS))
    return [
        record(name, start, (0.1, 0.9 if mixed < rate else 0.2), **changes)
        for name, rate in RATES.items()
        for start, mixed in zip(
            STARTS, np.where(rng.random(len(STARTS)) < 0.5, luck, rng.random(len(STARTS))), strict=True
        )
    ]


def reality(seed: int = 1) -> dict[str, RealOutcomes]:
    rng = np.random.default_rng(seed)
    return {
        name: RealOutcomes((rng.random(len(STARTS)) < rate).astype(float), paired=True)
        for name, rate in RATES.items()
    }


def summary(records: list[Record], **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "records": records,
        "policies": list(RATES),
        "starts": STARTS,
        "failures": {},
        "real": reality(),
        "shaken": {},
        "protocol": PROTOCOL,
    }
    made = summarise(**{**given, **changes})
    assert json.loads(json.dumps(made, allow_nan=False)) == made  # plain JSON values
    assert format_table(made)
    return made


def entry(made: dict[str, Any], name: str) -> dict[str, Any]:
    return next(e for e in made["policies"] if e["name"] == name)


def test_everything_is_said_about_a_plain_ranking() -> None:
    made = summary(facts())
    assert [e["name"] for e in made["policies"]] == list(RATES)
    assert made["pearson"]["value"] > 0.9
    assert made["leave_one_out"]["pearson"]["low"] <= made["pearson"]["value"]
    assert made["leave_one_out"]["pearson"]["low_without"] in RATES
    assert 0.9 < made["ceiling"]["pearson"]["value"] < 1
    assert made["picked"] == ["great"]
    assert made["regret"]["value"] == 0
    assert made["shared_luck"]["variance_factor"] > 1
    assert entry(made, "great")["group"] == "a"
    assert entry(made, "never")["group"] not in entry(made, "great")["group"]
    assert entry(made, "great")["strength"]["low"] > entry(made, "never")["strength"]["high"]
    # what nobody asked for or knows is not there
    assert made["calibration"] is None
    assert made["detector"] is None
    assert made["sequential"] is None
    assert entry(made, "great")["corrected"] is None


def test_the_order_of_policies_and_records_has_no_say() -> None:
    backwards = summary(facts()[::-1], policies=list(RATES)[::-1])
    assert backwards == summary(facts())


def test_success_is_told_under_every_rule() -> None:
    probabilities = [(0.9, 0.9, 0.9, 0.1), (0.9, 0.1, 0.9, 0.9), (0.1, 0.1, 0.1, 0.1), (None, 0.9, 0.9, 0.9)]
    records = [record("great", s, p) for s, p in zip(STARTS, probabilities, strict=False)]
    made = entry(summary(records, policies=["great"], real={}), "great")
    assert made["rules"] == {"any": 2 / 3, "last": 1 / 3, "held_3": 1 / 3}
    assert made["success"] == made["rules"]["any"]
    assert made["unscorable"] == 1


def test_the_rule_that_decides_is_reported_as_it_was_judged() -> None:
    """Probabilities in the ledger are rounded; the verdict is not computed from them again."""
    odd = [record("great", s, (0.4999,), verdict="success", success_rule="held_5") for s in STARTS]
    made = entry(summary(odd, policies=["great"], real={}), "great")
    assert made["rules"] == {"any": 0.0, "last": 0.0, "held_3": 0.0, "held_5": 1.0}


def test_unscorable_is_never_a_failure() -> None:
    with_holes = [r if i % 4 else record(r.policy, r.start_id, (None,)) for i, r in enumerate(facts())]
    left_out = [r for i, r in enumerate(facts()) if i % 4]
    holed, short = summary(with_holes), summary(left_out)
    for name in RATES:
        assert entry(holed, name)["success"] == entry(short, name)["success"]
        assert entry(holed, name)["unscorable"] == 10
    assert holed["pearson"] == short["pearson"]


def test_a_policy_that_is_not_to_be_believed_has_no_rank_and_no_part() -> None:
    doubtful = [
        record(r.policy, r.start_id, r.probabilities, credibility=0.1 if r.policy == "fair" else 0.9)
        for r in facts()
    ]
    made = summary(doubtful, reading=Reading(credible_from=0.5))
    without = summary([r for r in facts() if r.policy != "fair"], policies=[n for n in RATES if n != "fair"])
    abstained = entry(made, "fair")
    assert "40 of 40" in abstained["abstained"]
    assert abstained["rank"] is None
    assert abstained["group"] is None
    assert abstained["credibility"] == pytest.approx(0.1)
    assert made["pearson"]["value"] == without["pearson"]["value"]
    assert "fair: 40 of 40 imagined episodes are not credible" in format_table(made)
    assert all(e["abstained"] is None for e in summary(doubtful)["policies"])  # the world cannot tell


def test_half_of_the_episodes_may_be_doubtful() -> None:
    beliefs = [0.1 if i % 2 else 0.9 for i in range(len(STARTS))]
    records = [record("great", s, (0.9,), credibility=b) for s, b in zip(STARTS, beliefs, strict=True)]
    read = {"policies": ["great"], "real": {}, "reading": Reading(credible_from=0.5)}
    assert entry(summary(records, **read), "great")["abstained"] is None
    records[0] = record("great", STARTS[0], (0.9,), credibility=0.4)
    assert entry(summary(records, **read), "great")["abstained"].startswith("21 of 40")


def test_corrected_rates_name_their_detector() -> None:
    made = summary(facts(), reading=Reading(confusion=Confusion(90, 5, 95, 10)))
    assert made["detector"]["sensitivity"]["value"] == 0.9
    good = entry(made, "good")
    assert good["corrected"]["value"] == pytest.approx((good["success"] - 0.05) / 0.85)
    assert good["corrected"]["high"] - good["corrected"]["low"] > good["high"] - good["low"]
    assert "recognised 90% of the successes and 95% of the failures" in format_table(made)
    both = summary(facts(), reading=Reading(Confusion(90, 5, 95, 10), recorded=Confusion(99, 0, 100, 1)))
    assert both["detector"]["recorded"]["sensitivity"]["value"] == 0.99
    assert "of recorded ones 99% and 100%" in format_table(both)
    assert entry(both, "good")["corrected"] == good["corrected"]


def test_a_world_tells_how_its_detector_errs(tiny_world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    shutil.copytree(tiny_world, folder)
    assert shipped_confusion(World.open(folder)) is None
    counts = {"true_success": 8, "false_success": 1, "true_failure": 9, "false_failure": 2, "agreement": 0.85}
    results = {
        "recorded episodes, held out": {"per_episode": {**counts, "true_success": 10}},
        "imagined frames (replay of held-out actions)": {"per_episode": counts},
    }
    report = {"hash": World.open(folder).detector().hash, "results": results}

    def written(content: dict[str, Any]) -> World:
        (folder / "detector" / "report.json").write_text(json.dumps(content))
        write_hashes(folder)
        return World.open(folder)

    assert shipped_confusion(written(report)) == Confusion(8, 1, 9, 2)
    assert shipped_confusion(written(report), "recorded") == Confusion(10, 1, 9, 2)
    assert shipped_confusion(written({**report, "hash": "of other weights"})) is None
    del counts["true_success"]
    with pytest.raises(ValueError, match="true_success"):
        shipped_confusion(written(report))


@pytest.mark.parametrize("kind", ["affine", "isotonic"])
def test_calibrated_rates_are_named_and_left_out_of_their_own_map(kind: Any) -> None:
    made = summary(facts(), reading=Reading(calibrate=kind))
    assert made["calibration"]["kind"] == kind
    assert f"calibrated ({kind})" in format_table(made)
    assert "each of 6 policies by what the others teach" in format_table(made)
    other = reality()
    other["great"] = RealOutcomes(1 - other["great"].outcomes, paired=True)
    changed = summary(facts(), real=other, reading=Reading(calibrate=kind))
    assert entry(changed, "great")["calibrated"]["value"] == entry(made, "great")["calibrated"]["value"]
    assert entry(changed, "good")["calibrated"] != entry(made, "good")["calibrated"]
    few = summary(facts(), real={"great": reality()["great"]}, reading=Reading(calibrate=kind))
    assert entry(few, "great")["calibrated"] is None
    assert "not calibrated: a map to real success needs 5" in format_table(few)
    with pytest.raises(ValueError, match="affine, isotonic"):
        Reading(calibrate="spline")


def test_a_policy_that_nobody_tried_is_calibrated_by_those_that_were() -> None:
    known = {name: outcomes for name, outcomes in reality().items() if name != "fair"}
    made = summary(facts(), real=known, reading=Reading(calibrate="affine"))
    fair = entry(made, "fair")["calibrated"]
    assert fair["low"] < 0.45 < fair["high"]


def test_an_early_stop_is_accounted_for() -> None:
    plan = SequentialRanking(tuple(RATES), episodes=40)
    stopped = [r for r in facts() if r.policy != "never" or int(r.start_id[1:]) < 30]
    made = summary(stopped, reading=Reading(sequential=plan))
    assert made["sequential"]["episodes_run"] == 230
    assert made["sequential"]["episodes_planned"] == 240
    better = {(pair["better"], pair["worse"]) for pair in made["sequential"]["decided"]}
    assert ("great", "never") in better
    assert len(better) + len(made["sequential"]["undecided"]) == 15
    assert "early stop: 230 of 240 episodes" in format_table(made)
    assert entry(made, "never")["episodes"] == 30
    assert made["pearson"]["value"] > 0.9


def test_one_policy_alone_is_compared_with_nobody() -> None:
    made = summary([r for r in facts() if r.policy == "good"], policies=["good"])
    assert made["shared_luck"] is None
    assert made["ceiling"] is None
    assert made["leave_one_out"] is None
    assert entry(made, "good")["group"] is None
    assert summary([], policies=["good"])["policies"][0]["success"] is None


def test_failed_policies_keep_out() -> None:
    made = summary(facts(), failures={"great": "act raised"})
    assert entry(made, "great")["rank"] is None
    assert made["picked"] == ["good"]


def test_an_early_stop_is_told_though_an_earlier_run_went_further() -> None:
    plan = SequentialRanking(tuple(RATES), episodes=20)
    made = summary(facts(), reading=Reading(sequential=plan))
    assert made["sequential"]["episodes_run"] == made["sequential"]["episodes_planned"] == 20 * len(RATES)


def test_reality_of_another_rule_is_not_compared_in_silence() -> None:
    for rule, said in (("any", False), (None, False), ("last", True)):
        made = summary(facts(), reading=Reading(real_rule=rule))
        assert made["real_rule"] == rule
        assert ("measured by the rule 'last', imagined success by 'any'" in format_table(made)) is said
    assert "measured by" not in format_table(summary(facts(), real={}, reading=Reading(real_rule="last")))


def test_the_missing_agreement_of_policies_without_rank_is_explained() -> None:
    made = summary(facts(), failures=dict.fromkeys(RATES, "act raised"))
    assert "no policy of measured success has a rank" in format_table(made)
