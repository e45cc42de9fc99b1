"""Score episodes of a ranking from their films: those that a judge could not tell, or all by another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from v2w_gym.envs.world import World
from v2w_gym.evaluation import second
from v2w_gym.evaluation.films import Films
from v2w_gym.evaluation.judging import judged, opened
from v2w_gym.evaluation.labelled import errors_of, keep_check
from v2w_gym.evaluation.ledger import Ledger, Record
from v2w_gym.evaluation.manifest import Provenance
from v2w_gym.evaluation.protocol import Protocol
from v2w_gym.evaluation.publishing import publish
from v2w_gym.evaluation.rereading import (
    failures_in,
    ledger_file,
    open_world,
    protocol_of,
    reread,
    told_before,
)
from v2w_gym.rewards.judge import Clip, ClipJudge, judgements

BATCH_SIZE = 16
"""Clips that are shown to a judge together, and to be shown again if the process is killed meanwhile."""


@dataclass(frozen=True)
class Rescored:
    """What came of it.

    Attributes:
        summary: of the ranking as it is now.
        folder: where it lies.
        asked: episodes that the judge was shown.
        scored: those of them that have a verdict now.
        unfilmed: episodes that should have been shown and have no film.
        before: the episodes with the verdicts that there were before.
        after: likewise, now.
    """

    summary: Mapping[str, Any]
    folder: Path
    asked: int
    scored: int
    unfilmed: int
    before: Sequence[Record] = field(repr=False)
    after: Sequence[Record] = field(repr=False)


def rescore(
    path: str | Path,
    judge: str | Path | ClipJudge | None = None,
    *,
    everything: bool = False,
    out: str | Path | None = None,
    world: str | Path | World | None = None,
    judge_check: str | Path | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    command: str | None = None,
    progress: bool = True,
) -> Rescored:
    """Show films of a ranking to a judge, and write summary, pictures and report again.

    Without ``out``, the judge of the ranking is asked about its unscorable episodes. A verdict is appended to
    the ledger and counts in place of the unscorable line; a verdict that was given is never replaced. With
    ``out``, a judge is asked about all episodes that were filmed, and a ledger of its own goes there.
    Either way the work goes on where it was stopped, and once all is scored nothing changes any more.

    Args:
        path: a ledger or its folder.
        judge: name, YAML or object; default: the one of the ranking's last run.
        everything: ask about all episodes, although the judge is the same; needs ``out``.
        out: folder for the ledger of another judge; films are linked, or copied.
        world: where the ranking was made; default: where its last run opened the world.
        judge_check: as in ``rank``; it is copied to the folder of the verdicts.
        batch_size: clips that are shown together.
        device: where the judge runs.
        command: what the user typed, for the report; default: this call.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: no such ledger, judge or world.
        ValueError: an empty ledger, no known judge, another judge without ``out``, an ``out`` that holds
            something else, or a card of another judge.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    file = ledger_file(path)
    ledger, provenance = Ledger(file), Provenance.load(file)
    if not ledger.records:
        raise ValueError(f"{file} holds no finished episode yet; run v2w rank --out {file.parent}")
    asked, named = opened(_last_judge(provenance, file) if judge is None else judge, device)
    place, told = open_world(world, provenance, file), told_before(file.parent)
    protocol = protocol_of(ledger.records, provenance, told, place, file)
    if judge_check is not None:  # before anybody is asked or paid
        errors_of(place, second.protocol_by(asked, protocol), given=judge_check)
    show = _Show(asked, place.config.fps, batch_size, progress)
    before = list(ledger.records)
    if out is None:
        _check_same(asked, protocol, everything, file)
        todo = [r for r in before if r.verdict == "unscorable" and r.detector_hash == asked.hash]
        folder, theirs = file.parent, ledger
    else:
        _check_filmed(before, Films(file.parent / "frames"), file)
        typed = command or f"v2w_gym.evaluation.rescoring.rescore({str(path)!r}, {named!r}, out={str(out)!r})"
        opinion = second.Opinion(asked, named, protocol, provenance, typed)
        theirs = opinion.begin(ledger, Path(out), str(place.folder))
        todo, folder = opinion.missing(before, theirs.records), Path(out)
    tally = show.run(todo, Films(folder / "frames"), theirs.append)
    if judge_check is not None:
        keep_check(judge_check, folder)
    sources = reread(folder, world=place, failures=failures_in(told))
    publish(folder, sources)
    return Rescored(sources.summary, folder, *tally, before, theirs.records)


@dataclass(frozen=True)
class _Show:
    """Shows films to a judge, a batch at a time."""

    judge: ClipJudge
    fps: float
    batch_size: int
    progress: bool

    def run(
        self, todo: Sequence[Record], films: Films, keep: Callable[[Sequence[Record]], Any]
    ) -> tuple[int, int, int]:
        """Ask about the episodes of ``todo``; how many were shown, have a verdict now, and have no film.

        Args:
            todo: as they were before.
            films: their frames.
            keep: is given every batch as soon as it is judged.
        """
        there = [r for r in todo if films.path(r.policy, r.start_id).exists()]
        scored = 0
        with tqdm(total=len(there), unit="clip", disable=not self.progress or not there) as bar:
            for begin in range(0, len(there), self.batch_size):
                batch = there[begin : begin + self.batch_size]
                clips = [Clip(_frames(films, r), r.instruction, self.fps) for r in batch]
                found = judgements(self.judge, clips)
                after = [judged(r, j, self.judge.threshold) for r, j in zip(batch, found, strict=True)]
                keep(after)
                scored += sum(r.verdict != "unscorable" for r in after)
                bar.update(len(batch))
        return len(there), scored, len(todo) - len(there)


def _frames(films: Films, record: Record) -> Any:
    episode = films.load(record.policy, record.start_id)
    assert episode is not None  # its file was there
    return episode.frames


def _last_judge(provenance: Provenance, file: Path) -> str:
    """What the judge of the last run that names one was opened from."""
    known = [run.judge for run in provenance.runs if run.judge is not None]
    if not known:
        raise ValueError(
            f"{file} does not name a judge that can be asked again; say which: v2w rescore {file} --judge "
            "NAME-OR-YAML (with --out FOLDER, if its verdicts are those of a detector)"
        )
    return known[-1]


def _check_filmed(records: Sequence[Record], films: Films, file: Path) -> None:
    if not any(films.path(record.policy, record.start_id).exists() for record in records):
        raise ValueError(
            f"no episode of {file} has a film beside it, so there is nothing to show to a judge; v2w rank "
            "--judge keeps the films of all episodes"
        )


def _check_same(judge: ClipJudge, protocol: Protocol, everything: bool, file: Path) -> None:
    """Make sure that verdicts of ``judge`` may go into this ledger."""
    if everything:
        raise ValueError(
            "verdicts that were given are never replaced; write those of a second look to a folder of their "
            "own: --out FOLDER (in Python: out=)"
        )
    if (judge.hash, float(judge.threshold)) != (protocol.detector_hash, protocol.threshold):
        raise ValueError(
            f"{file} holds verdicts of {protocol.detector_hash} from {protocol.threshold:g} on, this judge "
            f"is {judge.hash} from {judge.threshold:g} on (another one, or with other settings, "
            "prompt or weights); its verdicts go into a folder of their own: --out FOLDER (in Python: out=)"
        )
