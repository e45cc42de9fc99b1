"""The progress rubric put to a served model: a grade, and how far artefacts put it in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from v2w_gym.rewards.judge import Clip, Judgement
from v2w_gym.rewards.rubric import Rubric
from v2w_gym.rewards.served_answers import Shares
from v2w_gym.rewards.served_panel import Answered
from v2w_gym.rewards.served_setup import ServedConfig, put
from v2w_gym.rewards.served_votes import spent, why_not


@dataclass(frozen=True, kw_only=True)
class ServedRubricConfig(ServedConfig):
    """See :class:`ServedConfig`.

    Attributes:
        rubric: questions, grades and artefacts.
    """

    rubric: Rubric

    def __post_init__(self) -> None:
        super().__post_init__()
        for prompt in filter(None, (self.rubric.grade_prompt(), self.rubric.artefact_prompt())):
            self.check(prompt)


class ServedRubric:
    """Asks a served model for a grade and, if the rubric has artefacts, how badly the clip is flawed.

    A vote is both answers together; where one of them cannot be read there is no vote.

    Raises:
        ValueError: the environment lacks the key.
        ImportError: ``requests`` is not installed.
    """

    def __init__(self, config: ServedRubricConfig) -> None:
        self.config = config
        self._panel = config.panel()
        found = (config.rubric.grade_prompt(), config.rubric.artefact_prompt())
        self._prompts = [prompt for prompt in found if prompt is not None]

    @classmethod
    def from_config(cls, config: ServedRubricConfig, *, device: str = "cpu") -> ServedRubric:
        """The judge; its network runs at the endpoint, whatever ``device`` says."""
        return cls(config)

    @property
    def threshold(self) -> float:
        """Probability from which a clip counts as success."""
        return self.config.threshold

    @property
    def hash(self) -> str:
        """Names model, rubric, choice of frames, sampling and the rule of votes."""
        return self.config.hash("served-rubric", self.config.rubric)

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip, in order, with its progress; tokens and cost are of requests made now.

        Raises:
            ValueError: a clip without frames, or frames of a wrong shape.
        """
        return [self._judgement(answers) for answers in put(self.config, self._panel, self._prompts, clips)]

    def _judgement(self, answers: Sequence[Sequence[Answered]]) -> Judgement:
        config = self.config
        every = [answered for prompt in answers for answered in prompt]
        tokens, cost = spent(every, config.endpoint)
        cast = [_whole(vote) for vote in zip(*answers, strict=True)]
        votes = tuple(None if vote is None else self._score(vote)[1] for vote in cast)
        readable = [vote for vote in cast if vote is not None]
        if len(readable) < config.votes.needed:
            reason = why_not(every, len(readable), config.votes)
            return Judgement(None, reason, votes, tokens=tokens, cost=cost)
        counted = [config.votes.combine(shares) for shares in zip(*readable, strict=True)]
        combined = [shares for shares in counted if shares is not None]
        if len(combined) < len(counted):
            return Judgement(None, "two grades lead with equally many votes", votes, tokens=tokens, cost=cost)
        progress, probability = self._score(combined)
        return Judgement(probability, self._told(combined[0]), votes, progress, tokens, cost)

    def _score(self, vote: Sequence[Shares]) -> tuple[float, float]:
        return self.config.rubric.score(*[_normal(shares) for shares in vote])

    def _told(self, shares: Shares) -> str:
        grade = sum(number * share for number, share in enumerate(_normal(shares)))
        return f"grade {grade:.1f} of {len(self.config.rubric.grades) - 1}"


def _whole(vote: Sequence[Answered]) -> tuple[Shares, ...] | None:
    """Shares of both answers of a vote; None if one is missing."""
    found = [answered.shares for answered in vote if answered.shares is not None]
    return tuple(found) if len(found) == len(vote) else None


def _normal(shares: Shares) -> Shares:
    """Probabilities of the answers among each other."""
    return tuple(share / sum(shares) for share in shares)
