"""The examples run as a user runs them, and the pages of docs/ say what the code does."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
RT1 = ["--world", "Vid2World-RT1-v0", "--steps", "1"]  # the last --world counts
ARGUMENTS = {
    "quickstart": (["--out", "out"], ["out/episode.mp4", "out/episode.png"]),
    "rank_my_policy": (
        ["--episodes", "4", "--out", "out", "--against", "v2w_gym.policies.simple:StillPolicy"],
        ["out/summary.json", "out/contact_sheet.png", "out/episodes.mp4", "out/ledger.jsonl"],
    ),
    "check_a_judge": (["--out", "out"], ["out/judge_check.json", "out/judge_check.html"]),
    "judge_clips": ([], []),
    "plan_in_imagination": (["--samples", "4", "--horizon", "4", "--steps", "4"], []),
    "policy_callable": ([], []),
    "judge_served": (["--out", "out"], ["out/judge.yaml"]),
    "judge_by_hand": (["--out", "out"], ["out/clips"]),
    "policy_lerobot": (["--out", "out"], ["out/summary.json", "out/ledger.jsonl"]),
    "policy_openpi": (["--episodes", "4", "--policy", "linear", "--out", "out"], ["out/ledger.jsonl"]),
    "policy_openvla": ([*RT1, "--out", "out"], ["out/actions.npz"]),
    "policy_rt1": ([*RT1, "--out", "out"], ["out/episode.mp4"]),
    "policy_replay": (["--out", "out"], ["out/0000.npz"]),
    "policy_sb3": (["--zip", "out/ppo.zip"], ["out/ppo.zip"]),
    "policy_torch": (["--out", "out/policy.pt2"], ["out/policy.pt2"]),
    "serve_and_play": (["--out", "out/futures.png"], ["out/futures.png"]),
    "train_in_imagination": (
        ["--policy", "still", "--out", "out"],
        ["out/policy.safetensors", "out/progress.png"],
    ),
    "torchrl_env": (["--steps", "4", "--envs", "2"], []),
    "train_sb3": (
        ["--steps", "64", "--envs", "2", "--heldout", "1", "--out", "out"],
        ["out/best.zip", "out/progress.png", "out/progress.jsonl"],
    ),
}
"""Arguments beside --world, and files that must be there afterwards."""
SLOW = {
    "judge_by_hand",
    "judge_served",
    "plan_in_imagination",
    "policy_callable",
    "policy_lerobot",
    "policy_openpi",
    "policy_openvla",
    "policy_replay",
    "policy_rt1",
    "policy_sb3",
    "policy_torch",
    "serve_and_play",
    "train_in_imagination",
    "train_sb3",
}
NEEDS_META_WORLD = {"imagined_and_real"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in ARGUMENTS]
)
def test_example_runs(name, tiny_world, tmp_path, monkeypatch):
    arguments, written = ARGUMENTS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--world", str(tiny_world), *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    for file in written:
        assert (tmp_path / file).stat().st_size > 0


def test_every_example_is_tested_or_says_why_not():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS) | NEEDS_META_WORLD
