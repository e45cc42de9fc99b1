"""Which of a prompt's answers a reply gives: read strictly, never guessed."""

from __future__ import annotations

import math
import re

from v2w_gym.rewards.prompts import Prompt
from v2w_gym.rewards.served_reply import Reply

Shares = tuple[float, ...]
"""A number for each of a prompt's answers: 1 for the one that was given, or the probability of each."""

_LABEL = re.compile(r"(?:final\s+)?(?:answer|verdict|grade|score)\s*[:=]\s*", re.IGNORECASE)
_FRAME = " \t\"'`*_."
"""What may stand around an answer without changing it."""
_HEARD = 0.5  # of the probability must lie on answers that count
SHOWN = 20  # candidates for each token; more are not served by vLLM's default and by OpenAI
ROOM = 4  # tokens: a blank, or a quotation mark, may come before the answer


class UnreadableError(Exception):
    """A reply that gives none of the answers."""


def from_text(reply: Reply, prompt: Prompt) -> Shares:
    """The answer on the last line that is not blank, alone or after "Answer:"; 1 for it and 0 for the others.

    Upper and lower case, and quotation marks, stars or a full stop around it do not matter.

    Raises:
        UnreadableError: it is not one of the prompt's answers, or the reply is not whole.
    """
    if reply.trouble:
        raise UnreadableError(reply.trouble)
    line = [line for line in reply.text.splitlines() if line.strip()][-1]
    said = _LABEL.sub("", line.strip(_FRAME), count=1).strip(_FRAME).casefold()
    given = [said in {form.strip().casefold() for form in answer.forms} for answer in prompt.answers]
    if sum(given) != 1:
        raise UnreadableError(f"the reply's last line is none of the answers: {line.strip()[:120]!r}")
    return tuple(float(one) for one in given)


def from_logprobs(reply: Reply, prompt: Prompt) -> Shares:
    """Probability of each answer at the first token that says something.

    A token stands for an answer that it is, blanks and case aside. An answer that is not among the candidates
    counts as 0.

    Raises:
        UnreadableError: no log-probabilities came, the reply is refused, withheld or blank, or less than half
            of the probability lies on answers.
    """
    if reply.trouble and (reply.finish != "length" or not reply.text.strip()):  # that it is cut off is meant
        raise UnreadableError(reply.trouble)
    if not reply.likely:
        raise UnreadableError(_NOT_GIVEN)
    place = next((likely for likely in reply.likely if max(likely, key=_second)[0].strip(_FRAME)), None)
    if place is None:
        raise UnreadableError(f"the reply says nothing: {reply.text[:40]!r}")
    shares = [0.0] * len(prompt.answers)
    for token, logprob in place:
        said = token.strip(_FRAME).casefold()
        for i, answer in enumerate(prompt.answers):
            if said and said in {form.strip().casefold() for form in answer.forms}:
                shares[i] += math.exp(min(0.0, logprob))
    if len(shares) > 1 and sum(shares) < _HEARD:
        raise UnreadableError(
            f"only {sum(shares):.2f} of the probability lies on the answers; the reply: {reply.text[:40]!r}"
        )
    return tuple(shares)


_NOT_GIVEN = "the server gave no log-probabilities; set read: text, or serve the model with log-probabilities"


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def worth(shares: Shares, prompt: Prompt) -> float:
    """Probability of success, 0..1: shares of several answers among each other, a single one as it is."""
    if len(shares) == 1:
        return min(1.0, shares[0] * prompt.answers[0].worth)
    total = sum(share * answer.worth for share, answer in zip(shares, prompt.answers, strict=True))
    return min(1.0, max(0.0, total / sum(shares)))
