"""What a vision-language model is asked and which answers count: data, kept in ``configs/judges/prompts``."""

from __future__ import annotations

from dataclasses import dataclass

INSTRUCTION = "{instruction}"


@dataclass(frozen=True)
class Answer:
    """An answer that counts.

    Attributes:
        worth: probability of success that it stands for, 0..1.
        forms: ways to write it, e.g. ``("yes", "Yes")``; blanks at either end matter to a model's tokens, and
            are ignored in a reply that is read as text.
    """

    worth: float
    forms: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0.0 <= self.worth <= 1.0:
            raise ValueError(f"worth of an answer must lie in 0..1, got {self.worth}")
        if not self.forms or not all(form.strip() for form in self.forms):
            raise ValueError(f"an answer needs forms that say something, got {list(self.forms)}")


@dataclass(frozen=True)
class Prompt:
    """A question about the pictures that stand before it.

    Attributes:
        text: the question; ``{instruction}`` stands for what the policy was asked to do.
        answers: that count. With several, probabilities are shares among them: yes against no. With one, it
            is that answer's own probability among everything that the model could say: TOPReward's "True".
        system: said to the model beforehand; empty: nothing.
        continues: the answer continues the text in the user's own turn, as TOPReward asks; otherwise it
            begins the model's reply. A model without a chat template knows no turns.
    """

    text: str
    answers: tuple[Answer, ...]
    system: str = ""
    continues: bool = False

    def __post_init__(self) -> None:
        if INSTRUCTION not in self.text:
            raise ValueError(f"the text of a prompt must say {INSTRUCTION} somewhere, got {self.text!r}")
        if not self.answers:
            raise ValueError("a prompt needs answers that count")

    def fill(self, instruction: str) -> str:
        """The text with ``instruction`` in it."""
        return self.text.replace(INSTRUCTION, instruction)
