"""The ledger loses nothing: cut last lines are repaired, other damage is named and left alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from v2w_gym.evaluation.ledger import Ledger, Record


def record(index: int) -> Record:
    return Record(
        policy="näive",  # not ASCII: a cut may fall inside a character
        instruction="close the drawer",
        start_id=f"seed-{index:04d}",
        seed=0,
        noise_seed=index,
        verdict="success",
        probability=0.9,
        probabilities=(0.1, None, 0.9),
        steps=3,
        success_rule="any",
        world_model_hash="w",
        detector_hash="d",
        config_hash="c",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append([record(0), record(1)])
    ledger.append([record(2)])
    return path


def test_round_trip(path: Path) -> None:
    assert Ledger(path).records == [record(i) for i in range(3)]
    assert json.loads(path.read_text().splitlines()[0]) == json.loads(
        json.dumps(dataclasses.asdict(record(0)))
    )


def test_a_last_line_cut_anywhere_is_left_out_then_repaired(path: Path) -> None:
    whole = path.read_bytes()
    third = whole.splitlines(keepends=True)[2]
    start = len(whole) - len(third)
    for length in {*range(1, len(third) - 1, 7), len(third) - 2}:
        path.write_bytes(whole[: start + length])
        with pytest.warns(UserWarning, match="cut in half"):
            ledger = Ledger(path)
        assert ledger.records == [record(0), record(1)]
        assert path.read_bytes() == whole[: start + length], "reading must not write"
        ledger.append([record(2)])
        assert path.read_bytes() == whole


def test_a_missing_last_newline_costs_nothing(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    ledger = Ledger(path)
    ledger.append([record(3)])
    assert Ledger(path).records == [record(i) for i in range(4)]


@pytest.mark.parametrize(
    "damage",
    ['{"policy": "na', '{"policy": "x"}', "[]", "", '{"policy": "x", "polcy": 3}', '{"policy": 3}'],
)
def test_a_damaged_middle_line_is_named_and_nothing_is_changed(path: Path, damage: str) -> None:
    lines = path.read_text().splitlines()
    lines[1] = damage
    path.write_text("\n".join(lines) + "\n")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="line 2 is damaged"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_whole_but_foreign_last_line_is_an_error(path: Path) -> None:
    with path.open("a") as file:
        file.write('{"loss": 0.5}\n')
    with pytest.raises(ValueError, match=r"line 4 is damaged: unknown key 'loss'"):
        Ledger(path)


def test_two_writers_keep_what_the_other_wrote(path: Path) -> None:
    first, second = Ledger(path), Ledger(path)
    first.append([record(3)])
    second.append([record(3), record(4)])
    first.append([record(5)])
    assert Ledger(path).records == first.records == [record(i) for i in range(6)]
    second.refresh()
    assert second.records == first.records


def test_an_append_that_was_cut_anywhere_is_completed(path: Path) -> None:
    before = path.read_bytes()
    Ledger(path).append([record(3), record(4)])
    after = path.read_bytes()
    added = after[len(before) :]
    for length in range(0, len(added) + 1, 37):
        path.write_bytes(before + added[:length])
        path.with_name("ledger.jsonl.journal").write_bytes(added)
        ledger = Ledger(path)
        assert ledger.records == [record(i) for i in range(5)]
        assert path.read_bytes() == before + added[:length], "reading must not write"
        ledger.refresh()
        ledger.append([record(5)])
        assert path.read_bytes().startswith(after)
        assert ledger.records == Ledger(path).records == [record(i) for i in range(6)]
        assert not path.with_name("ledger.jsonl.journal").exists()


def test_a_ledger_that_shrinks_under_way_is_not_written_to(path: Path) -> None:
    ledger = Ledger(path)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(OSError, match="became shorter"):
        ledger.append([record(3)])


def test_a_ledger_from_before_credibility_and_manifests_is_readable(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["credibility"], line["manifest"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Ledger(path).records == [record(i) for i in range(3)]
