"""The facts: one JSON line per finished episode, appended, never rewritten. Reports are functions of them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from v2w_gym.config import from_dict

Verdict = Literal["success", "failure", "unscorable"]


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
        verdict: what the success rule says.
        probability: the detector's largest probability over the steps, 0..1.
        probabilities: the detector's probability after each step, 0..1, rounded to four digits.
        steps: how many actions were taken.
        success_rule: ``any``, ``last`` or ``held_K``.
        world_model_hash: names the world model's weights and sampler.
        detector_hash: names the detector's weights.
        config_hash: names everything that must be alike for episodes to be compared.
        reason: why the episode could not be scored, else None.
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


class Ledger:
    """Append-only file of records.

    A last line that was cut in half (the machine stopped while writing) is left out with a warning, and
    removed before the next append. Damage anywhere else is an error, because a line that was once whole has
    been changed.

    Args:
        path: the file; its folder must exist, the file need not.

    Raises:
        ValueError: a damaged or foreign line; the file is left as it is.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        content = self.path.read_bytes() if self.path.exists() else b""
        self.records: list[Record] = []
        self._whole = 0  # bytes up to the end of the last whole line
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            if not line.strip():
                raise ValueError(self._damage(number, "it is empty"))
            values = _parse(line)
            if values is None:
                if self._whole + len(line) < len(content):
                    raise ValueError(self._damage(number, "it is not JSON"))
                warnings.warn(
                    f"{self.path}: the last line ({number}) was cut in half and is left out; "
                    "that episode will be run again",
                    stacklevel=2,
                )
                break
            try:
                self.records.append(from_dict(Record, values, where=f"line {number}"))
            except ValueError as error:
                raise ValueError(self._damage(number, str(error))) from error
            self._whole += len(line)
        self._size = len(content)
        self._newline_missing = self._whole > 0 and not content[: self._whole].endswith(b"\n")

    def append(self, records: Sequence[Record]) -> None:
        """Write ``records`` and wait until they are on the disk.

        Raises:
            OSError: somebody else has written to the file since it was read; nothing is written.
        """
        lines = "".join(json.dumps(asdict(r), allow_nan=False) + "\n" for r in records)
        with self.path.open("ab") as file:
            if file.tell() != self._size:
                raise OSError(f"{self.path} is being written by another run; give this one another --out")
            if self._whole < self._size:
                file.truncate(self._whole)
            file.write(("\n" if self._newline_missing else "").encode() + lines.encode())
            file.flush()
            os.fsync(file.fileno())
            self._whole = self._size = file.tell()
        self._newline_missing = False
        self.records.extend(records)

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
