"""The facts: one JSON line per finished episode, appended, never rewritten. Reports are functions of them.

Several processes may append to one ledger. An append is all or nothing, whenever its process is killed: the
lines are put down in a journal beside the ledger first, then appended, then the journal goes; whoever comes
next completes what a journal that is still there holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from v2w_gym.config import from_dict
from v2w_gym.rewards.judge import Verdict

Key = tuple[str, str, int]

_PATIENCE = 60  # seconds; an append takes milliseconds


@dataclass(frozen=True)
class Record:
    """One finished episode.

    Attributes:
        policy: name of the policy.
        instruction: what the policy was asked to do.
        start_id: the start context; policies with the same start and seed meet the same noise.
        seed: seed of the ranking.
        noise_seed: what ``seed`` and ``start_id`` made of it; ``env.reset(options={"noise_seed": ...})``
            takes it.
        verdict: what the success rule, or the judge of the whole clip, says.
        probability: the detector's largest probability over the steps, or the judge's of the clip, 0..1.
        probabilities: the detector's probability after each step, 0..1, rounded to four digits; none where a
            judge saw the whole clip.
        steps: how many actions were taken.
        success_rule: ``any``, ``last`` or ``held_K``, or ``clip`` for a judge of whole clips.
        world_model_hash: names the world model's weights and sampler.
        detector_hash: names the detector's weights, or the judge.
        config_hash: names everything that must be alike for episodes to be compared.
        reason: why the episode could not be scored, or what a judge said of it.
        credibility: mean over the steps of how far each can be believed, 0..1, rounded to four digits; None
            where the world cannot tell, and in ledgers from before it was kept.
        manifest: names the :class:`~v2w_gym.evaluation.manifest.Manifest` of the run, which lies beside the
            ledger; None in ledgers from before manifests were kept.
        tokens: that a judge read and wrote for it, in all attempts.
        cost: of them, in the currency of the judge's prices; None where no price is known.
    """

    policy: str
    instruction: str
    start_id: str
    seed: int
    noise_seed: int
    verdict: Verdict
    probability: float | None
    probabilities: tuple[float | None, ...]
    steps: int
    success_rule: str
    world_model_hash: str
    detector_hash: str
    config_hash: str
    reason: str | None = None
    credibility: float | None = None
    manifest: str | None = None
    tokens: int = 0
    cost: float | None = None

    @property
    def key(self) -> Key:
        """What makes two records the same episode: policy, start and seed."""
        return self.policy, self.start_id, self.seed

    def replaces(self, other: Record) -> bool:
        """Whether a line of this, below one of ``other`` with the same key, counts in its place.

        Only what is unscorable is ever replaced: by a verdict, or by an attempt that cost more.
        """
        if other.verdict != "unscorable":
            return False
        return self.verdict != "unscorable" or self.tokens > other.tokens


class Ledger:
    """Append-only file of records that several processes may share.

    A last line that was cut in half (the machine stopped while writing) is left out with a warning, and
    removed before the next append. Damage anywhere else is an error, because a line that was once whole has
    been changed. Reading changes nothing.

    Args:
        path: the file; its folder must exist, the file need not.

    Attributes:
        records: the episodes that were there when the ledger was last read, in the order of their first
            lines. An episode that was unscorable and was scored again later counts as it was scored.

    Raises:
        ValueError: a damaged or foreign line; the file is left as it is.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.records: list[Record] = []
        self._journal = self.path.with_name(self.path.name + ".journal")
        self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        self._places: dict[Key, int] = {}  # of episodes in ``records``
        self._lines = 0  # that were read
        self._whole = 0  # bytes up to the end of the last whole line
        self._early: set[bytes] = set()  # lines that were read before they had reached the file
        self._warned = False
        written = os.access(self._lock.lock_file, os.W_OK)  # by a process that may still be writing
        with self.locked() if written else contextlib.nullcontext():
            self._read()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes from writing.

        Raises:
            OSError: another process has kept the ledger locked for a minute.
        """
        try:
            self._lock.acquire(timeout=_PATIENCE)
        except Timeout as error:
            raise OSError(
                f"{self.path} has been locked by another process for {_PATIENCE} seconds; find and end it, "
                "or give this run another --out (in Python: out=)"
            ) from error
        try:
            yield
        finally:
            self._lock.release()

    def refresh(self) -> None:
        """Read what other processes have appended.

        Raises:
            OSError: what had been read before is no longer there.
            ValueError: a damaged or foreign line.
        """
        with self.locked():
            self._read()

    def append(
        self, records: Sequence[Record], admit: Callable[[Sequence[Record]], None] | None = None
    ) -> None:
        """Write those of ``records`` that are not there yet, and wait until they are on the disk.

        Two processes that ran the same episode leave one line: that of the first, unless it is unscorable.

        Args:
            records: finished episodes.
            admit: told what is there, other processes' episodes included; may raise, and nothing is written.

        Raises:
            OSError: the file was changed by other means, or stays locked; nothing is written.
        """
        with self.locked():
            tail = self._read()
            if admit is not None:
                admit(self.records)
            fresh = [record for record in records if self._is_new(record)]
            if not fresh and not self._journal.exists():
                return
            lines = "".join(json.dumps(asdict(record), allow_nan=False) + "\n" for record in fresh)
            content = tail + lines.encode()
            _write_through(self._journal, content)
            with self.path.open("r+b" if self.path.exists() else "wb") as file:
                file.truncate(self._whole)
                file.seek(self._whole)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                self._whole = file.tell()
            self._journal.unlink()
            self._early.clear()
            self._lines += len(fresh)
            for record in fresh:
                self._hold(record)

    def _read(self) -> bytes:
        """Take in new lines of the file and of its journal; return those that the file lacks."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._whole:
            raise OSError(f"{self.path} became shorter while it was in use; run the same command again")
        lines = self._from(self._whole).splitlines(keepends=True) if size else []
        torn = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            self._take(line)
            self._early.discard(line)
            self._whole += len(line)
        journal = self._journal.read_bytes() if self._journal.exists() else b""
        present = {*self._from(0).splitlines(keepends=True)} if journal and size else set()
        missing = [line for line in journal.splitlines(keepends=True) if line not in present]
        if torn and not missing:
            missing = self._whole_of(torn)
        for line in missing:
            self._take(line)
            self._early.add(line)
        return b"".join(missing)

    def _from(self, offset: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read()

    def _whole_of(self, torn: bytes) -> list[bytes]:
        """A last line without its end, if nothing but the newline is missing."""
        if _parse(torn) is not None:
            return [torn + b"\n"]
        if not self._warned:
            warnings.warn(
                f"{self.path}: the last line ({self._lines + 1}) was cut in half and is left out; "
                "that episode will be run again",
                stacklevel=4,
            )
            self._warned = True
        return []

    def _is_new(self, record: Record) -> bool:
        place = self._places.get(record.key)
        return place is None or record.replaces(self.records[place])

    def _hold(self, record: Record) -> None:
        if record.key not in self._places:
            self._places[record.key] = len(self.records)
            self.records.append(record)
        elif self._is_new(record):
            self.records[self._places[record.key]] = record

    def _take(self, line: bytes) -> None:
        if line in self._early:
            return
        number = self._lines + 1
        if not line.strip():
            raise ValueError(self._damage(number, "it is empty"))
        values = _parse(line)
        if values is None:
            raise ValueError(self._damage(number, "it is not JSON"))
        try:
            record = from_dict(Record, values, where=f"line {number}")
        except ValueError as error:
            raise ValueError(self._damage(number, str(error))) from error
        self._lines = number
        self._hold(record)

    def _damage(self, number: int, why: str) -> str:
        return (
            f"{self.path}, line {number} is damaged: {why}. Nothing was changed. Look at it with "
            f"`sed -n {number}p {self.path}`; if it cannot be mended, take it out with "
            f"`sed -i {number}d {self.path}` and that episode will be run again"
        )


def _parse(line: bytes) -> Any:
    """The JSON object of a line, or None if it is not one."""
    try:
        values = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    return values if isinstance(values, dict) else None


def _write_through(path: Path, content: bytes) -> None:
    """Put a file in place whole, and on the disk."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
