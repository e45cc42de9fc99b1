"""How likely a language model finds each answer, read from its log-probabilities of the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from v2w_gym.rewards.prompts import Answer

TAIL = 8
"""Tokens before an answer that decide how it is cut into tokens: far more than any merge spans."""


def answer_tokens(tokenizer: Any, context: Sequence[int], answers: Sequence[Answer]) -> list[list[int]]:
    """Tokens that each answer can be after ``context``, the tokens of a prompt.

    A form counts if it is one token there: how a word is cut depends on what stands before it, so the end of
    the context is written out and cut anew with the form behind it.

    Returns:
        Per answer the tokens of its forms, each once.

    Raises:
        ValueError: none of an answer's forms is a single token, or two answers share one.
    """
    tail = tokenizer.decode(
        list(context)[-TAIL:], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    before = tokenizer.encode(tail, add_special_tokens=False)
    found: list[list[int]] = []
    owner: dict[int, Answer] = {}
    for answer in answers:
        tokens = set()
        for form in answer.forms:
            after = tokenizer.encode(tail + form, add_special_tokens=False)
            if after[:-1] == before:
                tokens.add(after[-1])
        if not tokens:
            raise ValueError(
                f"this model writes no form of the answer {list(answer.forms)} as one token after "
                f"{tail!r}; add forms or choose shorter words in prompt.answers"
            )
        for token in tokens:
            if owner.setdefault(token, answer) is not answer:
                raise ValueError(
                    f"the answers {list(owner[token].forms)} and {list(answer.forms)} share the token "
                    f"{tokenizer.decode([token])!r}; say in prompt.answers what tells them apart"
                )
        found.append(sorted(tokens))
    return found


def log_probabilities(logits: torch.Tensor, tokens: Sequence[Sequence[int]]) -> list[float]:
    """Log-probability of each answer, summed over its ``tokens``; NaN where the model computed NaN.

    Args:
        logits: of the next token, ``(vocabulary,)``.
        tokens: of each answer.
    """
    logs = torch.log_softmax(logits.double(), dim=-1)
    return [float(torch.logsumexp(logs[list(choice)], dim=0)) for choice in tokens]


def shares(logs: Sequence[float]) -> list[float]:
    """Probabilities of the answers among each other, from their log-probabilities; they add up to 1."""
    parts: list[float] = torch.softmax(torch.tensor(list(logs), dtype=torch.float64), dim=0).tolist()
    return parts
