"""The progress rubric over a local vision-language model: expectations over the digits it may answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from v2w_gym.rewards.answers import shares
from v2w_gym.rewards.clips import check_clips
from v2w_gym.rewards.judge import Clip, Judgement
from v2w_gym.rewards.rubric import Rubric
from v2w_gym.rewards.vlm_reader import Reading, VlmConfig, VlmReader


@dataclass(frozen=True, kw_only=True)
class LocalRubricConfig(VlmConfig):
    """Settings of a rubric over a local vision-language model, beside those of its model.

    Attributes:
        rubric: questions, grades and artefacts.
    """

    rubric: Rubric


class LocalRubric:
    """See :class:`v2w_gym.rewards.judge.ClipJudge`.

    Args:
        config: settings.
        reader: the model.
    """

    def __init__(self, config: LocalRubricConfig, reader: VlmReader) -> None:
        self.config, self.reader, self.threshold = config, reader, config.threshold
        self.hash = reader.hash(config.rubric)

    @classmethod
    def from_config(cls, config: LocalRubricConfig, *, device: str = "cpu") -> LocalRubric:
        """Load the model and try it out.

        Raises:
            ValueError: rubric, frames and model do not fit each other; or as ``open_pretrained``.
        """
        reader = VlmReader.open(config, device)
        for prompt in (config.rubric.grade_prompt(), config.rubric.artefact_prompt()):
            if prompt is not None:
                reader.try_out(prompt)
        return cls(config, reader)

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip, with its progress; one that lacks an answer has neither.

        Raises:
            ValueError: frames of a wrong shape, or digits that are no tokens of this model.
        """
        check_clips(clips)
        rubric = self.config.rubric
        grades = self.reader.read(clips, rubric.grade_prompt())
        asked = rubric.artefact_prompt()
        if asked is None:
            return [self._judgement(grade, None) for grade in grades]
        artefacts = self.reader.read(clips, asked)
        return [self._judgement(*pair) for pair in zip(grades, artefacts, strict=True)]

    def _judgement(self, grade: Reading, artefact: Reading | None) -> Judgement:
        tokens = grade.tokens + (artefact.tokens if artefact else 0)
        trouble = grade.trouble or (artefact.trouble if artefact else None)
        if trouble is not None:
            return Judgement(None, trouble, tokens=tokens)
        grades, flaws = shares(grade.logs), shares(artefact.logs) if artefact else []
        progress, probability = self.config.rubric.score(grades, flaws)
        said = f"grades {_percent(grades)}" + (f", artefacts {_percent(flaws)}" if flaws else "")
        return Judgement(probability, said, progress=progress, tokens=tokens)


def _percent(parts: Sequence[float]) -> str:
    return " ".join(f"{number}:{part:.0%}" for number, part in enumerate(parts))
