"""A vision-language model on this machine as a judge: how likely it finds that the task was completed.

Two ways to ask, both one forward pass and no text to parse:

- yes against no: the prompt has two answers, and the probability is the share of yes;
- TOPReward (arXiv 2602.19313): the prompt asserts that the task was completed, and the probability is that of
  the one answer, "True". It is small for most models: set the threshold on labelled clips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from v2w_gym.rewards.answers import shares
from v2w_gym.rewards.clips import check_clips
from v2w_gym.rewards.judge import Clip, Judgement
from v2w_gym.rewards.prompts import Prompt
from v2w_gym.rewards.vlm_reader import Reading, VlmConfig, VlmReader


@dataclass(frozen=True, kw_only=True)
class LocalVlmConfig(VlmConfig):
    """Settings of a local vision-language judge, beside those of its model.

    Attributes:
        prompt: what it is asked.
    """

    prompt: Prompt


class LocalVlm:
    """See :class:`v2w_gym.rewards.judge.ClipJudge`.

    Args:
        config: settings.
        reader: the model.
    """

    def __init__(self, config: LocalVlmConfig, reader: VlmReader) -> None:
        self.config, self.reader, self.threshold = config, reader, config.threshold
        self.hash = reader.hash(config.prompt)

    @classmethod
    def from_config(cls, config: LocalVlmConfig, *, device: str = "cpu") -> LocalVlm:
        """Load the model and try it out.

        Raises:
            ValueError: prompt, frames and model do not fit each other; or as ``open_pretrained``.
        """
        reader = VlmReader.open(config, device)
        reader.try_out(config.prompt)
        return cls(config, reader)

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip; its reason gives the probability of each answer.

        Raises:
            ValueError: frames of a wrong shape, or answers that are no tokens of this model.
        """
        check_clips(clips)
        return [self._judgement(reading) for reading in self.reader.read(clips, self.config.prompt)]

    def _judgement(self, reading: Reading) -> Judgement:
        if reading.trouble is not None:
            return Judgement(None, reading.trouble, tokens=reading.tokens)
        answers, logs = self.config.prompt.answers, reading.logs
        parts = shares(logs) if len(logs) > 1 else [math.exp(logs[0])]
        probability = sum(part * answer.worth for part, answer in zip(parts, answers, strict=True))
        said = [f"log P({a.forms[0].strip()}) {log:.4f}" for a, log in zip(answers, logs, strict=True)]
        return Judgement(min(1.0, max(0.0, probability)), ", ".join(said), tokens=reading.tokens)
