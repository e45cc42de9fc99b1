"""The frame classifier of a world as a judge of clips: it judges frames, and a rule makes the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from v2w_gym.config import config_hash
from v2w_gym.registration import world_folder
from v2w_gym.rewards.classifier import FrameClassifier
from v2w_gym.rewards.clips import check_clips
from v2w_gym.rewards.judge import Clip, Judgement, check_threshold
from v2w_gym.rewards.rules import by_rule, check_rule


@dataclass(frozen=True)
class FrameJudgeConfig:
    """Settings of a frame classifier that judges clips.

    Attributes:
        world: id of a world that comes with the package, a world's folder, or a detector's own.
        rule: ``any``, ``last`` or ``held_K``, as in a ranking.
        threshold: probability from which a frame counts as success; None takes the detector's.
    """

    world: str
    rule: str = "any"
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_rule(self.rule)
        if self.threshold is not None:
            check_threshold(self.threshold)


class FrameJudge:
    """See :class:`v2w_gym.rewards.judge.ClipJudge`.

    Args:
        config: settings.
        detector: judges frames.
    """

    def __init__(self, config: FrameJudgeConfig, detector: FrameClassifier) -> None:
        self.config, self.detector = config, detector
        self.threshold = detector.threshold if config.threshold is None else config.threshold
        self.hash = config_hash(_Judged(detector.hash, config.rule))

    @classmethod
    def from_config(cls, config: FrameJudgeConfig, *, device: str = "cpu") -> FrameJudge:
        """Load the detector.

        Raises:
            FileNotFoundError: there is none in that folder.
        """
        folder = world_folder(config.world) or Path(config.world).expanduser()
        inside = folder / "detector"
        detector = FrameClassifier.from_pretrained(inside if inside.is_dir() else folder)
        return cls(config, detector.to(device))

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip.

        As in a ranking, the first frame, from which no action has been taken yet, does not count; where it is
        the only one it does.

        Raises:
            ValueError: frames of a wrong shape, or not of the detector's size.
        """
        check_clips(clips)
        parts = [clip.frames[1:] if len(clip.frames) > 1 else clip.frames for clip in clips]
        if not parts:
            return []
        scores = np.asarray(self.detector.score(np.concatenate(parts)))
        each = np.split(scores, np.cumsum([len(part) for part in parts])[:-1])
        return [self._judgement(score) for score in each]

    def _judgement(self, scores: npt.NDArray[np.float32]) -> Judgement:
        if not np.isfinite(scores).all():
            return Judgement(None, "the detector computed NaN")
        return Judgement(by_rule(scores, self.config.rule))


@dataclass(frozen=True)
class _Judged:
    """What the judgements hang on."""

    detector: str
    rule: str
