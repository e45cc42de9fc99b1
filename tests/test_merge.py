"""Ledgers of alike runs go together; those of unlike ones only by force, and then it is said."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from v2w_gym import cli
from v2w_gym.evaluation import rank
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.ledger import Ledger
from v2w_gym.evaluation.manifest import Manifest, Provenance, provenance_path
from v2w_gym.evaluation.merging import merge
from v2w_gym.policies.simple import StillPolicy


@pytest.fixture(scope="module")
def two(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two rankings of one policy each, made alike."""
    folders = []
    for name in ("ours", "theirs"):
        folders.append(tmp_path_factory.mktemp(name))
        rank(tiny_world, {name: StillPolicy(4)}, episodes=2, seed=0, out=folders[-1], progress=False)
    return folders[0], folders[1]


def unlike(folder: Path, target: Path, **changes: object) -> Path:
    """A copy of a ranking whose run was another."""
    target.mkdir()
    old = Provenance.load(folder / "ledger.jsonl")
    (manifest,) = old.manifests.values()
    new: Manifest = dataclasses.replace(manifest, **changes)
    text = (folder / "ledger.jsonl").read_text().replace(manifest.hash, new.hash)
    (target / "ledger.jsonl").write_text(text)
    Provenance().with_run(new, "v2w rank", str(old.runs[0].world)).save(target / "ledger.jsonl")
    return target


def test_alike_runs_are_put_together_with_films_and_runs(two: tuple[Path, Path], tmp_path: Path) -> None:
    merged = merge(two, tmp_path / "all")
    assert (merged.added, merged.double, merged.mixed) == (4, 0, [])
    assert [r.policy for r in Ledger(tmp_path / "all" / "ledger.jsonl").records] == ["ours"] * 2 + [
        "theirs"
    ] * 2
    assert len(list((tmp_path / "all" / "frames").rglob("*.npz"))) == 4
    assert len(Provenance.load(tmp_path / "all" / "ledger.jsonl").runs) == 2
    assert merge([two[0]], tmp_path / "all").double == 2
    assert cli.main(["report", str(tmp_path / "all")]) == 0
    assert "theirs" in (tmp_path / "all" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"threads": 64}, "threads 64 there, 1 here"),
        ({"libraries": {"torch": "1.0"}}, "libraries.torch '1.0' there"),
        ({"device": "cuda Imaginary"}, "device 'cuda Imaginary' there"),
        ({"v2w_gym": "0.0.1"}, "v2w_gym '0.0.1' there"),
    ],
)
def test_unlike_runs_are_refused_unless_forced_which_is_said(
    two: tuple[Path, Path], tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    other = unlike(two[1], tmp_path / "other", **changes)
    with pytest.raises(ValueError, match="--force") as refused:
        merge([two[0], other], tmp_path / "all")
    assert says in str(refused.value)
    assert not (tmp_path / "all").exists()
    assert says in merge([two[0], other], tmp_path / "all", force=True).mixed[0]
    assert cli.main(["report", str(tmp_path / "all")]) == 0
    assert "mixed by force" in (tmp_path / "all" / "report.html").read_text()


def test_a_ranking_goes_on_from_an_unlike_ledger_by_force_alone(
    two: tuple[Path, Path], tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = unlike(two[1], tmp_path / "other", threads=64)
    before = (other / "ledger.jsonl").read_bytes()
    command = [
        "rank",
        "--world",
        str(tiny_world),
        "--policy",
        "random",
        "--episodes",
        "2",
        "--out",
        str(other),
    ]
    assert cli.main(command) == cli.USER_ERROR
    assert "threads 64 there, 1 here" in capsys.readouterr().err
    assert (other / "ledger.jsonl").read_bytes() == before
    assert cli.main([*command, "--force"]) == 0
    summary = json.loads((other / "summary.json").read_text())
    assert summary["mixed"] == []  # of the policy that was ranked, nothing is unlike
    assert len(Ledger(other / "ledger.jsonl").records) == 4


class Joined(StillPolicy):
    """While it acts for the first time, another process puts its episodes into the ledger."""

    def __init__(self, other: Path, out: Path) -> None:
        super().__init__(4)
        self.other, self.ledger = other / "ledger.jsonl", out / "ledger.jsonl"

    def act(self, observation: Mapping[str, Any]) -> Any:
        if not self.ledger.exists():
            Provenance.load(self.ledger).joined(Provenance.load(self.other)).save(self.ledger)
            Ledger(self.ledger).append(Ledger(self.other).records)
        return super().act(observation)


def test_an_unlike_process_cannot_slip_in_later(
    two: tuple[Path, Path], tiny_world: Path, tmp_path: Path
) -> None:
    other, out = unlike(two[1], tmp_path / "other", threads=64), tmp_path / "out"
    with pytest.raises(ValueError, match="threads 64 there, 1 here"):
        rank(tiny_world, {"x": Joined(other, out)}, episodes=2, seed=0, out=out, progress=False)
    assert Ledger(out / "ledger.jsonl").records == Ledger(other / "ledger.jsonl").records


def test_other_questions_cannot_be_forced(two: tuple[Path, Path], tiny_world: Path, tmp_path: Path) -> None:
    rank(tiny_world, {"ours": StillPolicy(4)}, episodes=2, seed=1, out=tmp_path / "seed", progress=False)
    says = r"episode of 'ours' from start 'seed-0007' was made under .*seed 1 there, 0 here"
    with pytest.raises(ValueError, match=says):
        merge([two[0], tmp_path / "seed"], tmp_path / "all", force=True)


def test_a_damaged_manifest_is_named(two: tuple[Path, Path], tmp_path: Path) -> None:
    other = unlike(two[0], tmp_path / "other")
    provenance_path(other / "ledger.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"ledger\.manifest\.json is damaged"):
        merge([other], tmp_path / "all")


def test_the_film_of_an_episode_that_does_not_count_stays_away(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    """By force, the first of two unlike records of one episode counts; the other's film does not."""
    first, second = (unlike(two[0], tmp_path / name, threads=n) for name, n in (("first", 2), ("second", 3)))
    lines = [json.loads(line) for line in (second / "ledger.jsonl").read_text().splitlines()]
    extra = {**lines[0], "start_id": "seed-0099"}
    content = [*({**line, "probability": 0.123} for line in lines), extra]
    (second / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
    film = Films(two[0] / "frames").load("ours", lines[0]["start_id"])
    assert film is not None
    for line in content:
        Films(second / "frames").save("ours", line["start_id"], film)
    assert merge([first, second], tmp_path / "all", force=True).double == 2
    here = Films(tmp_path / "all" / "frames")
    assert here.load("ours", "seed-0099") is not None
    assert all(here.load("ours", line["start_id"]) is None for line in lines)
