"""What a judge said, kept clip by clip, so that nothing is asked or paid for twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from v2w_gym.config import from_dict
from v2w_gym.rewards.judge import Clip, ClipJudge, Judgement, judgements

BATCH_SIZE = 16


@dataclass(frozen=True)
class Answer:
    """What was said of one clip.

    Attributes:
        probability: of success, 0..1; None where the judge could not tell.
        reason: as in a judgement.
        tokens: read and written, in all attempts.
        cost: of them, in the currency of the judge's prices; None where no price is known.
        seconds: of wall time in the last attempt, a share of those of its batch.
    """

    probability: float | None
    reason: str | None
    tokens: int
    cost: float | None
    seconds: float


class Answers:
    """Asks a judge, and remembers in a file of JSON lines what it said.

    Args:
        judge: of clips.
        path: the file; None remembers for this run alone. What other judges said in it stays there.
        progress: show a progress bar.
    """

    def __init__(self, judge: ClipJudge, path: Path | None = None, progress: bool = False) -> None:
        self._judge, self._path, self._progress = judge, path, progress
        self._known: dict[str, Answer] = {}
        self._wanted: set[str] = set()
        if path is not None and path.is_file():
            for line in path.read_text().splitlines():
                self._take(line)

    def of(self, clips: Sequence[Clip], name: str) -> list[Answer]:
        """One answer per clip; what was unscorable is asked again, and its price is added to that of before.

        Args:
            clips: to be judged.
            name: of what they are, for the progress bar.
        """
        digests = [self._digest(clip) for clip in clips]
        self._wanted.update(digests)
        todo = {
            digest: clip
            for digest, clip in zip(digests, clips, strict=True)
            if digest not in self._known or self._known[digest].probability is None
        }
        waiting = list(todo.items())
        for begin in tqdm(range(0, len(waiting), BATCH_SIZE), desc=name, disable=not self._progress):
            self._ask(waiting[begin : begin + BATCH_SIZE])
        return [self._known[digest] for digest in digests]

    def all(self) -> list[Answer]:
        """Of every clip that was asked about here, each once, however often it was shown."""
        return [self._known[digest] for digest in sorted(self._wanted)]

    def _ask(self, batch: Sequence[tuple[str, Clip]]) -> None:
        began = time.monotonic()
        found = judgements(self._judge, [clip for _, clip in batch])
        seconds = (time.monotonic() - began) / len(batch)
        lines = []
        for (digest, _), one in zip(batch, found, strict=True):
            answer = _after(self._known.get(digest), one, round(seconds, 6))
            self._known[digest] = answer
            lines.append(json.dumps({"clip": digest, **asdict(answer)}) + "\n")
        if self._path is not None:
            with self._path.open("a+") as file:
                file.seek(max(0, file.seek(0, 2) - 1))
                torn = file.read(1) not in ("", "\n")
                file.writelines(["\n"] * torn + lines)

    def _take(self, line: str) -> None:
        try:
            values = json.loads(line)
        except ValueError:
            return  # it was cut when the process was killed: that clip is asked about again
        try:
            digest = values.pop("clip")
            self._known[digest] = from_dict(Answer, values)
        except (AttributeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{self._path} holds a line that is no answer of a judge ({error!r}); move the file away"
            ) from error

    def _digest(self, clip: Clip) -> str:
        """Names the judge and all that it is shown."""
        digest = hashlib.sha256(
            f"{self._judge.hash}/{clip.fps}/{clip.instruction}/{clip.frames.shape}".encode()
        )
        digest.update(clip.frames.tobytes())
        return digest.hexdigest()[:24]


def _after(before: Answer | None, found: Judgement, seconds: float) -> Answer:
    """The answer of a further attempt."""
    tokens = found.tokens + (before.tokens if before else 0)
    costs = [cost for cost in (before.cost if before else None, found.cost) if cost is not None]
    return Answer(found.probability, found.reason, tokens, sum(costs) if costs else None, seconds)
