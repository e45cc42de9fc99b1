"""Verdicts of people: a JSON line each, appended at once, never rewritten; a later corrects an earlier."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock, Timeout

from v2w_gym.rewards.judge import Verdict

_PATIENCE = 10  # seconds; an append takes milliseconds
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Label:
    """What one person says of one clip.

    Attributes:
        clip: its hash.
        rater: who says it.
        verdict: unscorable where the person cannot tell.
        time: when, as in RFC 3339.
    """

    clip: str
    rater: str
    verdict: Verdict
    time: str


Labels = Mapping[str, Mapping[str, Verdict]]
"""By clip and by rater, the last verdict."""


class LabelFile:
    """A file of labels that several processes may append to and read.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))

    def append(self, label: Label) -> None:
        """Write a label, and wait until it is on the disk.

        A line that a killed process left half written is ended first, so that it damages no other.

        Raises:
            OSError: it could not be written.
        """
        line = json.dumps(asdict(label)) + "\n"
        try:
            with self._lock.acquire(timeout=_PATIENCE), self.path.open("a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else "\n" + line
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except Timeout as error:
            raise OSError(f"{self.path} has been locked by another process for {_PATIENCE} s") from error

    def read(self) -> Labels:
        """All labels; a line that cannot be read is left out with a warning, and its clip waits again."""
        found: dict[str, dict[str, Verdict]] = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        for number, line in enumerate(content.splitlines(), 1):
            label = _parsed(line)
            if label is not None:
                found.setdefault(label.clip, {})[label.rater] = label.verdict
            elif line.strip():
                warnings.warn(f"{self.path}, line {number} is no label and is left out", stacklevel=2)
        return found


def _parsed(line: bytes) -> Label | None:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    keys = ("clip", "rater", "verdict", "time")
    if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in keys):
        return None
    return Label(**{key: values[key] for key in keys}) if values["verdict"] in VERDICTS else None


def agreement(labels: Labels) -> tuple[int, int]:
    """How many pairs of raters said the same of a clip, and how many pairs there are."""
    pairs = [pair for by_rater in labels.values() for pair in combinations(by_rater.values(), 2)]
    return sum(a == b for a, b in pairs), len(pairs)


def majority(by_rater: Mapping[str, Verdict]) -> Verdict | None:
    """The verdict that most raters gave; None for a tie."""
    (first, most), *others = Counter(by_rater.values()).most_common()
    return None if others and others[0][1] == most else first
