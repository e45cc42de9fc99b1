"""A vision-language model behind an OpenAI-compatible endpoint as a judge of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from v2w_gym.rewards.judge import Clip, Judgement
from v2w_gym.rewards.prompts import Prompt
from v2w_gym.rewards.served_answers import worth
from v2w_gym.rewards.served_panel import Answered
from v2w_gym.rewards.served_reply import one_line
from v2w_gym.rewards.served_setup import ServedConfig, put
from v2w_gym.rewards.served_votes import spent, why_not


@dataclass(frozen=True, kw_only=True)
class ServedVlmConfig(ServedConfig):
    """See :class:`ServedConfig`.

    Attributes:
        prompt: the question and the answers that count.
    """

    prompt: Prompt

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.prompt)


class ServedVlm:
    """Shows frames to a served model and asks it several times whether the task is done.

    Each vote is a request of its own. A request that fails, and a reply that cannot be read, is no vote; with
    too few votes there is no probability, and the reason says why. Replies that could be read are kept on the
    disk, so that the same clip costs nothing the second time.

    Raises:
        ValueError: the environment lacks the key.
        ImportError: ``requests`` is not installed.
    """

    def __init__(self, config: ServedVlmConfig) -> None:
        self.config = config
        self._panel = config.panel()

    @classmethod
    def from_config(cls, config: ServedVlmConfig, *, device: str = "cpu") -> ServedVlm:
        """The judge; its network runs at the endpoint, whatever ``device`` says."""
        return cls(config)

    @property
    def threshold(self) -> float:
        """Probability from which a clip counts as success."""
        return self.config.threshold

    @property
    def hash(self) -> str:
        """Names model, prompt, choice of frames, sampling and the rule of votes."""
        return self.config.hash("served", self.config.prompt)

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip, in order; tokens and cost are those of requests that were made now.

        Raises:
            ValueError: a clip without frames, or frames of a wrong shape.
        """
        answers = put(self.config, self._panel, [self.config.prompt], clips)
        return [self._judgement(cast) for (cast,) in answers]

    def _judgement(self, answers: Sequence[Answered]) -> Judgement:
        config = self.config
        tokens, cost = spent(answers, config.endpoint)
        cast = [answered.shares for answered in answers if answered.shares is not None]
        votes = tuple(None if a.shares is None else worth(a.shares, config.prompt) for a in answers)
        if len(cast) < config.votes.needed:
            reason = why_not(answers, len(cast), config.votes)
            return Judgement(None, reason, votes, tokens=tokens, cost=cost)
        shares = config.votes.combine(cast)
        if shares is None:
            return Judgement(
                None, "two answers lead with equally many votes", votes, tokens=tokens, cost=cost
            )
        probability = worth(shares, config.prompt)
        return Judgement(probability, _quoted(answers, votes, probability), votes, tokens=tokens, cost=cost)


def _quoted(answers: Sequence[Answered], votes: Sequence[float | None], probability: float) -> str:
    """What the vote said that is nearest to the judgement."""
    readable = [
        (vote, answered.reason) for vote, answered in zip(votes, answers, strict=True) if vote is not None
    ]
    return one_line(min(readable, key=lambda pair: abs(pair[0] - probability))[1])
