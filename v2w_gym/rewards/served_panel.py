"""Several votes on each clip: asked in parallel, kept on the disk, counted in tokens and money."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from v2w_gym.data.episode import FrameArray
from v2w_gym.rewards.prompts import Prompt
from v2w_gym.rewards.served_answers import (
    ROOM,
    SHOWN,
    Shares,
    UnreadableError,
    from_logprobs,
    from_text,
)
from v2w_gym.rewards.served_cache import ReplyCache, question_hash
from v2w_gym.rewards.served_endpoint import Endpoint
from v2w_gym.rewards.served_http import OutageError, RefusalError
from v2w_gym.rewards.served_reply import Reply, parse

Read = Literal["text", "logprobs"]


@dataclass(frozen=True)
class Sampling:
    """How the model is asked to reply.

    Attributes:
        read: ``text`` reads the answer from the last line of the reply; ``logprobs`` from the probabilities
            of its first token, which takes one vote, costs a few tokens, and needs a server that gives them.
        temperature: of the reply; None leaves it to the server, for models that take none.
        seed: of the first vote; the next ones take the next numbers. None sends none, for servers that
            refuse it.
        max_tokens: of a reply; a model that thinks aloud needs thousands. A reply that is cut off is no vote.
        token_limit: name of that limit on the wire; newer models of OpenAI want ``max_completion_tokens``.
        image: format of the pictures. PNG keeps every pixel, JPEG is smaller.
        extra: further keys of the request, e.g. ``{chat_template_kwargs: {enable_thinking: false}}`` of vLLM.
    """

    read: Read = "text"
    temperature: float | None = 1.0
    seed: int | None = 0
    max_tokens: int = 1024
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    image: Literal["png", "jpeg"] = "png"
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.temperature is not None and not 0.0 <= self.temperature <= 2.0:
            raise ValueError(f"temperature must lie in 0..2 or be null, got {self.temperature}")
        if taken := sorted({"model", "messages", "stream", "n"} & set(self.extra)):
            raise ValueError(f"extra must not hold {taken}; the judge sets these itself")


@dataclass(frozen=True)
class Question:
    """One prompt about some pictures, to be answered in one vote.

    Attributes:
        prompt: with the answers that count.
        instruction: what the policy was asked to do.
        pictures: ``(h, w, 3)`` uint8 each, in order.
        vote: number of the vote, from 0.
    """

    prompt: Prompt
    instruction: str
    pictures: Sequence[FrameArray]
    vote: int


@dataclass(frozen=True)
class Answered:
    """What came of a question.

    Attributes:
        shares: of the prompt's answers; None if there is no vote.
        reason: why there is none, else what was said.
        read: tokens read for it now; 0 for a reply from the cache or one that nobody counted.
        written: tokens written for it now.
        counted: whether the tokens are known.
    """

    shares: Shares | None
    reason: str
    read: int = 0
    written: int = 0
    counted: bool = True


class Panel:
    """Puts questions to an endpoint.

    Args:
        model: its name at the endpoint.
        sampling: how it is to reply.
        endpoint: where it is asked.
        cache: of replies that could be read; None keeps none.
    """

    def __init__(self, model: str, sampling: Sampling, endpoint: Endpoint, cache: ReplyCache | None) -> None:
        self._model, self._sampling, self._endpoint, self._cache = model, sampling, endpoint, cache
        self._read = from_logprobs if sampling.read == "logprobs" else from_text

    def ask(self, questions: Sequence[Question]) -> list[Answered]:
        """Answers, in the order of the questions; an outage raises nothing, but gives no vote."""
        stopped = threading.Event()
        pool = ThreadPoolExecutor(self._endpoint.config.parallel, thread_name_prefix="judge")
        try:
            return list(pool.map(lambda question: self._answer(question, stopped), questions))
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, question: Question, stopped: threading.Event) -> Answered:
        body = self._body(question)
        name = question_hash(body, self._sampling.image, question.vote, *map(_pixels, question.pictures))
        kept = self._cache.get(name) if self._cache else None
        if kept is not None and (answered := self._understood(question, kept)).shares is not None:
            return Answered(answered.shares, answered.reason)
        try:
            value = self._endpoint.ask(self._with_pictures(body, question), stopped)
        except (OutageError, RefusalError) as error:
            return Answered(None, str(error))
        reply = parse(value, self._endpoint.key.without)
        answered = self._understood(question, reply)
        if self._cache and answered.shares is not None:
            self._cache.put(name, reply)
        return answered

    def _understood(self, question: Question, reply: Reply) -> Answered:
        read, written = reply.read or 0, reply.written or 0
        counted = reply.read is not None and reply.written is not None
        try:
            shares = self._read(reply, question.prompt)
        except UnreadableError as error:
            return Answered(None, str(error), read, written, counted)
        return Answered(shares, reply.text.strip(), read, written, counted)

    def _body(self, question: Question) -> dict[str, Any]:
        """The request without its pictures."""
        sampling = self._sampling
        body: dict[str, Any] = {"model": self._model, "messages": [], **sampling.extra}
        if question.prompt.system:
            body["messages"].append({"role": "system", "content": question.prompt.system})
        text = {"type": "text", "text": question.prompt.fill(question.instruction)}
        body["messages"].append({"role": "user", "content": [text]})
        if sampling.seed is not None:
            body["seed"] = sampling.seed + question.vote
        if sampling.read == "logprobs":
            body |= {"logprobs": True, "top_logprobs": SHOWN}
        if sampling.temperature is not None:
            body["temperature"] = 0.0 if sampling.read == "logprobs" else sampling.temperature
        return body | {sampling.token_limit: ROOM if sampling.read == "logprobs" else sampling.max_tokens}

    def _with_pictures(self, body: dict[str, Any], question: Question) -> dict[str, Any]:
        urls = [_data_url(picture, self._sampling.image) for picture in question.pictures]
        parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        *before, user = body["messages"]
        return {**body, "messages": [*before, {**user, "content": parts + user["content"]}]}


def _pixels(picture: FrameArray) -> bytes:
    return str(picture.shape).encode() + picture.tobytes()


def _data_url(picture: FrameArray, kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **({"quality": 90} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
