"""People as a judge: what they said of a clip, or the clip waits for them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from v2w_gym.rewards.clips import check_clips
from v2w_gym.rewards.human_labels import agreement, majority
from v2w_gym.rewards.human_queue import ClipQueue, clip_hash
from v2w_gym.rewards.judge import Clip, Judgement, Verdict

_WORTH: Mapping[Verdict, float | None] = {"success": 1.0, "failure": 0.0, "unscorable": None}


@dataclass(frozen=True)
class HumanConfig:
    """Where people judge.

    Attributes:
        folder: of the queue; relative to the working directory.
        raters: people who must have judged a clip.
    """

    folder: str
    raters: int = 1

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("folder must name the folder of the queue, e.g. runs/label")
        if self.raters < 1:
            raise ValueError(f"raters must be at least 1, got {self.raters}")


class HumanJudge:
    """Gives the verdict of people, and puts clips that nobody has judged into their queue.

    The verdict is what most raters said; its probability is the share of successes among those who could
    tell. A tie, and a majority that could not tell, is unscorable.

    Raises:
        OSError: the folder of the queue cannot be made.
    """

    threshold = 0.5

    def __init__(self, config: HumanConfig) -> None:
        self.config = config
        self._queue = ClipQueue(config.folder)

    @classmethod
    def from_config(cls, config: HumanConfig, *, device: str = "cpu") -> HumanJudge:
        """The judge; people need no ``device``."""
        return cls(config)

    @property
    def hash(self) -> str:
        """Names how many people judge; who they were and what they said lies in the queue's folder."""
        return f"human-{self.config.raters}"

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """What people said of each clip so far.

        Raises:
            ValueError: a clip without frames, or frames of a wrong shape.
        """
        check_clips(clips)
        labels = self._queue.labels.read()
        return [self._judgement(clip, labels.get(clip_hash(clip), {})) for clip in clips]

    def _judgement(self, clip: Clip, by_rater: Mapping[str, Verdict]) -> Judgement:
        votes = tuple(_WORTH[by_rater[rater]] for rater in sorted(by_rater))
        if len(by_rater) < self.config.raters:
            return Judgement(None, self._queued(clip, len(by_rater)), votes)
        verdict, told = majority(by_rater), _told(by_rater)
        if verdict is None or verdict == "unscorable":
            return Judgement(None, told, votes)
        known = [vote for vote in votes if vote is not None]
        return Judgement(sum(known) / len(known), told, votes)

    def _queued(self, clip: Clip, judged: int) -> str:
        try:
            self._queue.add(clip)
        except OSError as error:
            return f"nobody has judged it, and it cannot be put into the queue: {error}"
        so_far = f"{judged} of {self.config.raters} people have judged it; " if judged else ""
        return f"{so_far}it waits in the queue; type: v2w label {shlex.quote(self.config.folder)}"


def _told(by_rater: Mapping[str, Verdict]) -> str:
    counts = Counter(by_rater.values())
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    same, pairs = agreement({"": by_rater})
    return f"people: {told}" + (f"; {same} of {pairs} pairs agree" if pairs else "")
