"""A chat completion as it came back: its text, its log-probabilities, its tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Likely = tuple[tuple[str, float], ...]
"""Tokens and their log-probabilities, the likeliest candidates for one place."""


@dataclass(frozen=True)
class Reply:
    """What one request brought.

    Attributes:
        text: of the message; empty if there was none.
        trouble: why the text is not a whole reply of the model, else None.
        finish: why the model stopped: ``stop``, ``length``, ``content_filter``, or what the server says.
        read: tokens of the prompt, pictures included; None if the server does not count them.
        written: tokens of the reply, hidden ones included; None likewise.
        likely: candidates for each place of the reply; empty unless they were asked for and given.
    """

    text: str
    trouble: str | None = None
    finish: str = "stop"
    read: int | None = None
    written: int | None = None
    likely: tuple[Likely, ...] = ()


_SAID = 300  # characters that are quoted


def one_line(text: str) -> str:
    """What may be quoted of a text from outside: one line, printable, not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _SAID else line[: _SAID - 3] + "..."


def parse(value: Any, clean: Callable[[str], str]) -> Reply:
    """Read the JSON of a chat completion.

    Args:
        value: the JSON; whatever shape it has, a reply comes out, and says what is wrong with it.
        clean: is given every text that is kept.
    """
    usage = _mapping(_mapping(value).get("usage"))
    read, written = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    choices = _mapping(value).get("choices")
    if not isinstance(choices, list):
        return Reply("", "the reply is JSON, but no chat completion", "", read, written)
    if not choices:
        return Reply("", "the reply holds no choices", "", read, written)
    choice = _mapping(choices[0])
    message = _mapping(choice.get("message"))
    finish = choice.get("finish_reason")
    text, refusal = _text(message.get("content"))
    refusal = message["refusal"] if isinstance(message.get("refusal"), str) else refusal
    trouble = None
    if refusal:
        trouble = f"the model refused: {one_line(clean(refusal))}"
    elif finish == "content_filter":
        trouble = "the reply was withheld by a content filter"
    elif finish in ("abort", "error"):
        trouble = "the server broke off its reply"
    elif not text.strip():
        trouble = "the reply is empty" + (" (cut off by max_tokens)" if finish == "length" else "")
    elif finish == "length":
        trouble = "the reply was cut off by max_tokens"
    likely = _likely(_mapping(choice.get("logprobs")).get("content"))
    return Reply(clean(text), trouble, str(finish), read, written, likely)


def _text(content: Any) -> tuple[str, str | None]:
    """Text of a message whose content is a string, nothing, or a list of parts; and a refusal among them."""
    if isinstance(content, str):
        return content, None
    parts = [_mapping(part) for part in content] if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    refusals = [part.get("refusal") for part in parts if part.get("type") == "refusal"]
    refusal = next((text for text in refusals if isinstance(text, str)), None)
    return "".join(text for text in texts if isinstance(text, str)), refusal


def _likely(content: Any) -> tuple[Likely, ...]:
    """Candidates place by place; nothing at all if any entry is not as it should be."""
    places = []
    for place in content if isinstance(content, list) else []:
        entries = _mapping(place).get("top_logprobs")
        candidates = [_mapping(entry) for entry in entries] if isinstance(entries, list) else []
        found = tuple((c.get("token"), c.get("logprob")) for c in candidates)
        if not found or not all(isinstance(t, str) and _is_logprob(p) for t, p in found):
            return ()
        places.append(tuple((str(t), float(p)) for t, p in found))  # type: ignore[arg-type]
    return tuple(places)


def _is_logprob(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value <= 1e-3


def _count(value: Any) -> int | None:
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return value if fine else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
