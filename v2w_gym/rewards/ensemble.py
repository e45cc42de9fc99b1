"""Several judges as one, with how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from v2w_gym.config import config_hash
from v2w_gym.rewards.clips import check_clips
from v2w_gym.rewards.judge import Clip, ClipJudge, Judgement, check_threshold, judgements
from v2w_gym.rewards.judges import open_judge


@dataclass(frozen=True)
class EnsembleConfig:
    """Settings of an ensemble.

    Attributes:
        members: judges, as ``open_judge`` takes them.
        rule: ``mean`` of the members' probabilities, or ``majority`` of their verdicts, each by its own
            threshold; the probability is then the share of those that say success.
        need: members that must be able to score a clip, else it is unscorable; None: more than half.
        agree: share of those that must say the same, else the clip is unscorable.
        threshold: probability from which a clip counts as success.
    """

    members: tuple[str, ...]
    rule: Literal["mean", "majority"] = "mean"
    need: int | None = None
    agree: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if not self.members:
            raise ValueError("an ensemble needs members")
        if self.need is not None and not 1 <= self.need <= len(self.members):
            raise ValueError(f"need must be 1 to {len(self.members)}, the number of members, got {self.need}")
        if not 0.0 <= self.agree <= 1.0:
            raise ValueError(f"agree must lie in 0..1, got {self.agree}")


class Ensemble:
    """See :class:`v2w_gym.rewards.judge.ClipJudge`.

    Args:
        config: settings.
        members: the judges, in the order of ``config.members``.
    """

    def __init__(self, config: EnsembleConfig, members: Sequence[ClipJudge]) -> None:
        self.config, self.members, self.threshold = config, tuple(members), config.threshold
        thresholds = tuple(member.threshold for member in members)
        self.hash = config_hash(
            _Judged(
                tuple(member.hash for member in members), thresholds, config.rule, config.need, config.agree
            )
        )

    @classmethod
    def from_config(cls, config: EnsembleConfig, *, device: str = "cpu") -> Ensemble:
        """Open all members on ``device``; errors as ``open_judge``."""
        return cls(config, [open_judge(member, device=device) for member in config.members])

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip: votes are the members' probabilities, the reason says what each said.

        A member that fails could not score these clips, and the others still count.

        Raises:
            ValueError: frames of a wrong shape, or that a member does not take.
        """
        check_clips(clips)
        said = [judgements(member, clips) for member in self.members]
        return [self._together(of_clip) for of_clip in zip(*said, strict=True)]

    def _together(self, said: Sequence[Judgement]) -> Judgement:
        verdicts = [j.verdict(member.threshold) for j, member in zip(said, self.members, strict=True)]
        scored = [verdict for verdict in verdicts if verdict != "unscorable"]
        agreement = agreement_of(verdicts)
        probability = self._probability(said, scored)
        need = len(self.members) // 2 + 1 if self.config.need is None else self.config.need
        if len(scored) < need:
            probability, heading = None, f"{len(scored)} members could score, {need} must"
        elif agreement is not None and agreement < self.config.agree:
            probability, heading = None, f"agreement {agreement:.2f}, {self.config.agree:.2f} is asked for"
        elif probability is None:
            heading = "as many members say success as failure"
        else:
            heading = f"agreement {agreement:.2f}"
        lines = [
            f"{Path(name).stem}: {verdict}" + (f" ({j.reason})" if j.reason else "")
            for name, verdict, j in zip(self.config.members, verdicts, said, strict=True)
        ]
        progress = [j.progress for j in said if j.progress is not None]
        costs = [j.cost for j in said if j.cost is not None]
        return Judgement(
            probability,
            "; ".join([heading, *lines]),
            votes=tuple(j.probability for j in said),
            progress=sum(progress) / len(progress) if progress else None,
            tokens=sum(j.tokens for j in said),
            cost=sum(costs) if costs else None,
        )

    def _probability(self, said: Sequence[Judgement], scored: Sequence[str]) -> float | None:
        """By the rule; None where nobody scored, or a majority is split evenly."""
        known = [j.probability for j in said if j.probability is not None]
        if not known:
            return None
        if self.config.rule == "mean":
            return sum(known) / len(known)
        successes = scored.count("success")
        return None if 2 * successes == len(scored) else successes / len(scored)


def agreement_of(verdicts: Sequence[str]) -> float | None:
    """Share of the members that could score who say what most of them say; None if none could."""
    scored = [verdict for verdict in verdicts if verdict != "unscorable"]
    return max(scored.count(verdict) for verdict in scored) / len(scored) if scored else None


@dataclass(frozen=True)
class _Judged:
    """What the judgements hang on."""

    members: tuple[str, ...]
    thresholds: tuple[float, ...]
    rule: str
    need: int | None
    agree: float
