"""The command line: one clear line and exit code 2 for the user's mistakes, results for everything else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from v2w_gym import cli
from v2w_gym.data.starts import StartContexts

POLICY = """
import numpy as np

class Left:
    def act(self, observation):
        return np.full((len(observation["pixels"]), 4), -0.5)

right = Left()
right.act = lambda observation: np.full((len(observation["pixels"]), 4), 0.5)

def broken():
    raise OSError("no weights")

number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of policies, as a user has it."""
    (tmp_path / "my_policies.py").write_text(textwrap.dedent(POLICY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_policies", None)


def rank(world: Path, *arguments: str) -> int:
    return cli.main(["rank", "--world", str(world), "--episodes", "2", "--batch-size", "2", *arguments])


def test_own_policies_join_in_one_line(
    tiny_world: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = rank(
        tiny_world, "--policy", "my_policies:Left", "--policy", "./my_policies.py:right", "--seed", "3"
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert "my_policies:Left" in printed
    out = here / "runs" / "rank-tiny-3-any"
    assert str(out.relative_to(here)) in printed
    summary = json.loads((out / "summary.json").read_text())
    assert [entry["episodes"] for entry in summary["policies"]] == [2, 2]
    assert len((out / "ledger.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--policy", "nope"], "unknown policy 'nope'"),
        (["--policy", "my_policies:Lef"], "did you mean"),
        (["--policy", "my_polices:Left"], "cannot import"),
        (["--policy", "missing.py:Left"], "no file"),
        (["--policy", "my_policies:broken"], "no weights"),
        (["--policy", "my_policies:number"], "act"),
        (["--policy", "my_policies:Left", "--episodes", "99"], "1..4"),
        (["--policy", "my_policies:Left", "--success-rule", "sometimes"], "held_3"),
        (["--policy", "my_policies:Left", "--world", "no/such/folder/here"], "no world"),
    ],
)
def test_a_mistake_is_one_clear_line(
    tiny_world: Path, here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert rank(tiny_world, *arguments) == cli.USER_ERROR
    message = capsys.readouterr().err
    assert message.startswith("v2w: error: ")
    assert says in message
    assert message.count("\n") == 1
    assert not (here / "runs").exists()


def test_nothing_ranked_is_a_failure_that_says_why(
    tiny_world: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.py").write_text("class Bad:\n    def act(self, observation):\n        return 'left'\n")
    assert rank(tiny_world, "--policy", "bad.py:Bad") == 1
    assert "1 of 1 policies failed" in capsys.readouterr().out


def test_stopping_says_how_to_go_on(tiny_world: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "stop.py").write_text(
        "class Stop:\n    def act(self, observation):\n        raise KeyboardInterrupt\n"
    )
    assert rank(tiny_world, "--policy", "stop.py:Stop") == cli.STOPPED
    assert "goes on" in capsys.readouterr().err


def test_traceback_on_request(tiny_world: Path, here: Path) -> None:
    with pytest.raises(ValueError, match="unknown policy"):
        cli.main(["--traceback", "rank", "--world", str(tiny_world), "--policy", "nope"])


def test_record_takes_every_field_of_its_config(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from v2w_gym.data import record
    from v2w_gym.data.record import RecordConfig

    asked: list[RecordConfig] = []
    monkeypatch.setattr(record, "record", asked.append)
    assert cli.main(["record", "--out", "x", "--episodes", "3"]) == 0
    everything = "--task door-close-v3 --first-seed 7 --behaviour expert --no-actions --workers 2"
    assert cli.main(["record", "--out", "x", "--episodes", "3", *everything.split()]) == 0
    assert cli.main(["record", "--out", "x", "--episodes", "3", "--shift", "light"]) == 0
    other = RecordConfig(
        "x", 3, task="door-close-v3", first_seed=7, behaviour="expert", with_actions=False, workers=2
    )
    assert asked == [RecordConfig("x", 3), other, RecordConfig("x", 3, shift="light")]
    assert cli.main(["record", "--out", "x", "--episodes", "3", "--behaviour", "wild"]) == cli.USER_ERROR
    assert "wild" in capsys.readouterr().err


def test_record_lets_trained_policies_act(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from v2w_gym.data import reality

    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(reality, "record_policies", lambda *given, **more: asked.append((*given, more)))
    command = ["record", "--out", "x", "--episodes", "2", "--first-seed", "7", "--policies", str(tmp_path)]
    assert cli.main(command) == cli.USER_ERROR
    assert "v2w train policies" in capsys.readouterr().err
    (tmp_path / "one-0010.safetensors").touch()
    assert cli.main([*command, "--shift", "light", "--no-actions"]) == cli.USER_ERROR
    assert "leave out --shift, --no-actions" in capsys.readouterr().err
    assert cli.main(command) == 0
    ((weights, _, out, seeds, disturb, more),) = asked
    assert weights == {"one-0010": str(tmp_path / "one-0010.safetensors")}
    assert (out, list(seeds), more) == ("x", [7, 8], {"workers": 1})
    assert disturb == reality.DisturbConfig()


def test_a_world_stays_whole_when_reality_is_measured_again(
    tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from v2w_gym.data import reality
    from v2w_gym.envs.world import World
    from v2w_gym.training import policy_card

    folder = shutil.copytree(tiny_world, tmp_path / "world")
    starts = World.open(folder).starts()
    few = StartContexts(map(starts.by_id, starts.ids[:1]))
    monkeypatch.setattr(reality, "make_starts", lambda seeds: few)

    def measured(table: Path, *_: object, **__: object) -> None:
        table.write_text('{"policies": {}}')
        raise KeyboardInterrupt

    monkeypatch.setattr(policy_card, "measure_shipped", measured)
    assert cli.main(["reality", "--world", str(folder)]) == cli.STOPPED
    assert World.open(folder).starts().ids == few.ids
    assert World.open(folder).reality() == {"policies": {}}


def test_credibility_takes_folders_that_it_can_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = [str(tmp_path / "a" / "light"), str(tmp_path / "b" / "light")]
    assert cli.main(["credibility", "check", "--heldout", "x", *same]) == cli.USER_ERROR
    assert "rename one" in capsys.readouterr().err
    taught = ["--world", "Vid2World-DrawerClose-v0", "--data", "x", "--calibration", "y"]
    assert cli.main(["credibility", "fit", *taught]) == cli.USER_ERROR
    assert "is no folder of a world" in capsys.readouterr().err


@pytest.mark.parametrize("own", [None, "7"])
def test_threads_wait_shortly_unless_the_user_says_how_long(
    monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", own or "")
    if own is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    assert cli.main(["plan", "0.5", "0.6"]) == 0
    assert os.environ["GOMP_SPINCOUNT"] == (own or cli.SPINS)


def test_worlds_lists_every_id(capsys: pytest.CaptureFixture[str]) -> None:
    from v2w_gym.registration import GENERIC_ID, SHIPPED_WORLDS

    assert cli.main(["worlds"]) == 0
    printed = capsys.readouterr().out
    assert all(env_id in printed for env_id in (GENERIC_ID, *SHIPPED_WORLDS))


def test_help_imports_no_torch() -> None:
    code = "import sys, v2w_gym.cli as cli\ntry: cli.main(['--help'])\nfinally: print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "False"
