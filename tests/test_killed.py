"""Real processes on one ledger, killed at any moment: nothing finished is lost, nothing is damaged."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import warnings
from pathlib import Path

import pytest
from processes import BATCH, START, appending, ranking

from v2w_gym.evaluation.ledger import Ledger, Record

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")


def read(path: Path) -> list[Record]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a cut line is worth a warning; there must be none
        return Ledger(path).records


def finish(*processes: object) -> None:
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def begin(world: Path, out: Path, tally: Path, pause: float = 0.0):
    tally.mkdir(exist_ok=True)
    process = START.Process(target=ranking, args=(world, out, tally, pause))
    process.start()
    return process


@pytest.fixture(scope="module")
def undisturbed(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    finish(begin(tiny_world, out / "out", out / "tally"))
    return out / "out"


@pytest.mark.slow
def test_an_append_is_all_or_nothing_and_what_was_kept_stays(tmp_path: Path) -> None:
    path, rng, told = tmp_path / "ledger.jsonl", random.Random(0), [-1]
    for _ in range(12):
        receive, send = START.Pipe(duplex=False)
        writer = START.Process(target=appending, args=(path, told[-1] + 1, send))
        writer.start()
        send.close()
        if receive.poll(30):  # it has begun
            receive.poll(rng.uniform(0.0, 0.05))
            writer.join(rng.uniform(0.0, 0.05))
        writer.kill()
        writer.join()
        with contextlib.suppress(EOFError):
            while True:
                told.append(receive.recv())
        found = [record.noise_seed for record in read(path)]
        assert found == list(range(len(found)))
        assert len(found) % BATCH == 0
        assert len(found) >= BATCH * (told[-1] + 1)
    assert told[-1] >= 11


@pytest.mark.slow
def test_a_ranking_killed_again_and_again_ends_as_if_nothing_had_been(
    tiny_world: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out, rng, kept = tmp_path / "out", random.Random(1), []
    for _ in range(6):
        process = begin(tiny_world, out, tmp_path / "tally", pause=0.02)
        process.join(rng.uniform(0.1, 0.9))
        process.kill()
        process.join()
        records = read(out / "ledger.jsonl")
        assert records[: len(kept)] == kept
        kept = records
    finish(begin(tiny_world, out, tmp_path / "tally"))
    assert (out / "ledger.jsonl").read_bytes() == (undisturbed / "ledger.jsonl").read_bytes()
    ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (out, undisturbed))
    assert ours | {"seconds": 0} == theirs | {"seconds": 0}
    for film in (undisturbed / "frames").rglob("*.npz"):
        assert (out / "frames" / film.relative_to(undisturbed / "frames")).read_bytes() == film.read_bytes()


@pytest.mark.slow
def test_two_processes_share_the_work_of_one_ledger(
    tiny_world: Path, undisturbed: Path, tmp_path: Path
) -> None:
    finish(*[begin(tiny_world, tmp_path / "out", tmp_path / "tally", pause=0.05) for _ in range(2)])
    records, alone = read(tmp_path / "out" / "ledger.jsonl"), read(undisturbed / "ledger.jsonl")
    assert sorted(records, key=lambda r: r.key) == sorted(alone, key=lambda r: r.key)
    shares = [file.stat().st_size for file in (tmp_path / "tally").iterdir()]
    assert len(shares) == 2, "both have run something"
    assert sum(shares) == 6 * alone[0].steps, "and nothing twice"


@pytest.mark.slow
def test_what_a_killed_process_had_claimed_is_run_by_another(
    tiny_world: Path, undisturbed: Path, tmp_path: Path
) -> None:
    slow = begin(tiny_world, tmp_path / "out", tmp_path / "tally", pause=5)
    for _ in itertools.takewhile(lambda _: not list((tmp_path / "tally").iterdir()), range(600)):
        slow.join(0.05)
    other = begin(tiny_world, tmp_path / "out", tmp_path / "others")
    slow.join(1)
    slow.kill()
    finish(other)
    assert {r.key for r in read(tmp_path / "out" / "ledger.jsonl")} == {
        r.key for r in read(undisturbed / "ledger.jsonl")
    }
