"""The progress rubric: how far a task got, on a scale of grades, less what artefacts make hard to believe.

A grade carries more than yes or no does: with graded progress, imagination and reality agree better than with
verdicts (RoboWorld, arXiv 2607.01060, which grades from 0 to 5). Imagined objects may vanish or jump, and
progress that came about in that way is discounted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from v2w_gym.rewards.prompts import INSTRUCTION, Answer, Prompt

GRADES, ARTEFACTS = "{grades}", "{artefacts}"


@dataclass(frozen=True)
class Artefact:
    """How badly a clip can be flawed.

    Attributes:
        text: describes it to the judge.
        discount: share of the progress that it takes away, 0..1.
    """

    text: str
    discount: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"discount of an artefact must lie in 0..1, got {self.discount}")


@dataclass(frozen=True)
class Rubric:
    """Two questions and their scales.

    Attributes:
        question: asks for the grade; ``{instruction}`` and ``{grades}`` are filled in.
        grades: what earns grade 0, 1, 2 and so on; the last is the task done.
        passing: grade from which the task counts as done.
        artefact_question: asks for the artefacts; ``{instruction}`` and ``{artefacts}`` are filled in.
        artefacts: from none to the worst, numbered from 0; empty: nobody asks, nothing is discounted.
        system: said to the model beforehand; empty: nothing.
    """

    question: str
    grades: tuple[str, ...]
    passing: int = 5
    artefact_question: str = ""
    artefacts: tuple[Artefact, ...] = ()
    system: str = ""

    def __post_init__(self) -> None:
        if not 2 <= len(self.grades) <= 10 or len(self.artefacts) > 10:
            raise ValueError("a rubric has 2 to 10 grades and up to 10 artefacts: a digit each")
        if not 0 < self.passing < len(self.grades):
            raise ValueError(f"passing must be a grade from 1 to {len(self.grades) - 1}, got {self.passing}")
        wanted = [(self.question, INSTRUCTION), (self.question, GRADES)]
        if self.artefacts:
            wanted += [(self.artefact_question, INSTRUCTION), (self.artefact_question, ARTEFACTS)]
        for text, key in wanted:
            if key not in text:
                raise ValueError(f"a question of a rubric must say {key} somewhere, got {text!r}")

    def grade_prompt(self) -> Prompt:
        """The question for the grade; its answers are digits, worth their share of the top grade."""
        top = len(self.grades) - 1
        worths = [grade / top for grade in range(top + 1)]
        return Prompt(self.question.replace(GRADES, _listed(self.grades)), _digits(worths), self.system)

    def artefact_prompt(self) -> Prompt | None:
        """The question for artefacts; its answers are digits, worth what is left after the discount."""
        if not self.artefacts:
            return None
        listed = _listed([artefact.text for artefact in self.artefacts])
        kept = [1.0 - artefact.discount for artefact in self.artefacts]
        return Prompt(self.artefact_question.replace(ARTEFACTS, listed), _digits(kept), self.system)

    def score(self, grades: Sequence[float], artefacts: Sequence[float] = ()) -> tuple[float, float]:
        """Progress and probability of success, both 0..1.

        Progress is the expected share of the top grade, and the probability of success that of a passing
        grade; both are multiplied by what the expected discount leaves.

        Args:
            grades: probability of each grade; a judge that names one gives it 1.
            artefacts: probability of each artefact; empty where nobody asked.
        """
        shares = np.asarray(grades, np.float64)
        discounts = [artefact.discount for artefact in self.artefacts] if len(artefacts) else []
        kept = 1.0 - sum(p * d for p, d in zip(artefacts, discounts, strict=True))
        progress = float(shares @ np.arange(len(shares))) / (len(shares) - 1)
        return _unit(progress * kept), _unit(float(shares[self.passing :].sum()) * kept)


def _listed(texts: Sequence[str]) -> str:
    return "\n".join(f"{number}: {text}" for number, text in enumerate(texts))


def _digits(worths: Sequence[float]) -> tuple[Answer, ...]:
    return tuple(Answer(worth, (str(number), f" {number}")) for number, worth in enumerate(worths))


def _unit(value: float) -> float:
    """Shares add up to 1 only to the last digit."""
    return min(1.0, max(0.0, value))
