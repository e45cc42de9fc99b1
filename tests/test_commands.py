"""All commands together: what they say when they are stopped, and that the pages ask for what there is."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from pathlib import Path

import pytest

from v2w_gym import cli
from v2w_gym.envs.world import World

ROOT = Path(__file__).parents[1]


def test_only_a_command_that_goes_on_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(_: object) -> int:
        raise KeyboardInterrupt

    assert set(cli.COMMANDS) >= cli.RESUMED
    monkeypatch.setitem(cli.COMMANDS, "worlds", dataclasses.replace(cli.COMMANDS["worlds"], run=stop))
    assert cli.main(["worlds"]) == cli.STOPPED
    assert capsys.readouterr().err.strip() == "stopped"


@pytest.mark.parametrize("name", ["rank", "rescore"])
def test_what_was_typed_is_kept_though_python_was_asked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given: dict[str, object] = {}

    def stop(*_: object, **asked: object) -> None:
        given.update(asked)
        raise ValueError("enough")

    monkeypatch.setattr(sys, "argv", ["pytest", "--something", "else"])
    monkeypatch.setattr("v2w_gym.evaluation.rank", stop)
    monkeypatch.setattr("v2w_gym.evaluation.rescoring.rescore", stop)
    line = {"rank": ["rank", "--policy", "still", "--out", "my folder"], "rescore": ["rescore", "my folder"]}
    assert cli.main(line[name]) == cli.USER_ERROR
    assert given["command"] == f"v2w {shlex.join(line[name])}"


def typed_on_pages() -> list[tuple[str, str]]:
    """Page and line of every command of ours in a fence, and of those in sentences that set something."""
    found = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        fences = re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for fence in fences for line in fence.replace("\\\n", " ").splitlines()]
        lines += re.findall(
            r"`(v2w [a-z-]+ [^`]*=[^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        )
        found += [(page.name, " ".join(line.split())) for line in lines if line.startswith("v2w ")]
    return found


def test_every_command_on_the_pages_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    asked, refused = typed_on_pages(), []
    for page, line in asked:
        try:
            cli.parser().parse_args(shlex.split(line.replace("STAGE", "codec"), comments=True)[1:])
        except SystemExit:
            refused.append(f"{page}: {line}\n{capsys.readouterr().err}")
    assert len(asked) > 50
    assert not refused, "\n".join(refused)


def test_rankings_on_the_pages_have_the_starts_that_they_ask_for() -> None:
    starts, asked = len(World.open("Vid2World-DrawerClose-v0").starts()), {}
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for episodes in re.findall(r"v2w rank[^\n`]*--episodes (\d+)", page.read_text()):
            asked[page.name, int(episodes)] = int(episodes) <= starts
    assert asked
    assert all(asked.values()), asked
