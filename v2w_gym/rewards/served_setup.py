"""What every judge behind an endpoint is told: which model, where, how it is asked and how votes count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from v2w_gym.config import config_hash
from v2w_gym.data.episode import FrameArray
from v2w_gym.rewards.clips import check_clips
from v2w_gym.rewards.framechoice import FrameChoice
from v2w_gym.rewards.judge import Clip, check_threshold
from v2w_gym.rewards.prompts import Prompt
from v2w_gym.rewards.served_cache import ReplyCache
from v2w_gym.rewards.served_endpoint import Endpoint, EndpointConfig
from v2w_gym.rewards.served_panel import Answered, Panel, Question, Sampling
from v2w_gym.rewards.served_votes import Votes
from v2w_gym.world_model.released.source import cache_folder

CACHE = "judge-replies"
"""Folder of kept replies, in the cache of the package."""


@dataclass(frozen=True, kw_only=True)
class ServedConfig:
    """Common to the kinds of served judges.

    Attributes:
        model: its name at the endpoint.
        endpoint: where it is served.
        frames: which frames it sees.
        sampling: how it replies.
        votes: how many, and how they count.
        threshold: probability from which a clip counts as success.
        cache: folder of replies that were read; None: ``judge-replies`` in ``V2W_CACHE`` or
            ``~/.cache/v2w_gym``; empty: none is kept.
    """

    model: str
    endpoint: EndpointConfig
    frames: FrameChoice = field(default_factory=FrameChoice)
    sampling: Sampling = field(default_factory=Sampling)
    votes: Votes = field(default_factory=Votes)
    threshold: float = 0.5
    cache: str | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model must be the name under which the endpoint serves it, got ''")
        check_threshold(self.threshold)
        alike = "they read the same probabilities" if self.sampling.read == "logprobs" else ""
        alike = "at temperature 0 they are all alike" if self.sampling.temperature == 0.0 else alike
        if alike and self.votes.count > 1:
            raise ValueError(f"{self.votes.count} votes make no sense: {alike}; set votes: {{count: 1}}")

    def check(self, prompt: Prompt) -> None:
        """Whether a prompt can be put to a served model and its answers can be read.

        Raises:
            ValueError: they cannot.
        """
        if prompt.continues:
            raise ValueError(
                "a served model answers in a turn of its own; this prompt wants its text continued"
            )
        if len(prompt.answers) < 2 and self.sampling.read == "text":
            raise ValueError("a reply that is read as text needs a prompt with two answers or more")

    def panel(self) -> Panel:
        """What asks the endpoint."""
        folder = cache_folder() / CACHE if self.cache is None else self.cache
        return Panel(
            self.model, self.sampling, Endpoint(self.endpoint), ReplyCache(folder) if folder else None
        )

    def hash(self, kind: str, *asked: Any) -> str:
        """Names what judgements hang on; neither the endpoint's address nor its key, nor the cache."""
        return f"{kind}-{config_hash(_Named(self.model, self.frames, self.sampling, self.votes, asked))}"


@dataclass(frozen=True)
class _Named:
    model: str
    frames: FrameChoice
    sampling: Sampling
    votes: Votes
    asked: tuple[Any, ...]


def put(
    config: ServedConfig, panel: Panel, prompts: Sequence[Prompt], clips: Sequence[Clip]
) -> list[list[list[Answered]]]:
    """All votes on all clips at once; answers by clip, by prompt, by vote.

    Raises:
        ValueError: a clip that no judge takes.
    """
    check_clips(clips)
    shown: list[list[FrameArray]] = [config.frames.pictures(clip.frames) for clip in clips]
    votes = range(config.votes.count)
    answers = iter(
        panel.ask(
            [
                Question(prompt, clip.instruction, pictures, vote)
                for clip, pictures in zip(clips, shown, strict=True)
                for prompt in prompts
                for vote in votes
            ]
        )
    )
    return [[[next(answers) for _ in votes] for _ in prompts] for _ in clips]
