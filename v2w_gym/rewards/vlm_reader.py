"""Asks a local vision-language model about clips and reads how likely it finds each answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from v2w_gym.config import config_hash
from v2w_gym.rewards.answers import TAIL, answer_tokens, log_probabilities
from v2w_gym.rewards.chat import Show, check_settings, model_inputs
from v2w_gym.rewards.framechoice import FrameChoice
from v2w_gym.rewards.judge import Clip, check_threshold
from v2w_gym.rewards.pretrained import Dtype, Pretrained, open_pretrained
from v2w_gym.rewards.prompts import Prompt
from v2w_gym.rewards.rubric import Rubric

FITS = (
    "an image-text-to-text model, such as Qwen/Qwen2.5-VL-3B-Instruct, "
    "HuggingFaceTB/SmolVLM-500M-Instruct or google/paligemma2-3b-mix-224"
)


@dataclass(frozen=True, kw_only=True)
class VlmConfig:
    """Which model, and how clips are shown to it.

    Attributes:
        model: folder, or hub id, with ``@revision`` if it is not the newest.
        frames: which frames it is shown.
        show: frames as pictures, or as one video where the model reads videos.
        processor: replaces settings of the model's processor, e.g. ``{do_image_splitting: false}``.
        threshold: probability from which a clip counts as success.
        dtype: of the weights; ``auto`` is the one that they were saved in.
        batch_size: clips at once; halved where memory does not suffice. Readings do not depend on it, but for
            rounding.
    """

    model: str
    frames: FrameChoice = field(default_factory=FrameChoice)
    show: Show = "images"
    processor: dict[str, Any] = field(default_factory=dict)
    threshold: float = 0.5
    dtype: Dtype = "auto"
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class Reading:
    """What a model says to one prompt about one clip.

    Attributes:
        logs: log-probability of each of the prompt's answers; empty if there is ``trouble``.
        trouble: why there is no reading, or None.
        tokens: read and written.
    """

    logs: tuple[float, ...] = ()
    trouble: str | None = None
    tokens: int = 0


class VlmReader:
    """Asks a model.

    Args:
        config: settings.
        loaded: model and processor.
    """

    def __init__(self, config: VlmConfig, loaded: Pretrained) -> None:
        self.config, self.loaded = config, loaded
        self._tokens: dict[tuple[Any, ...], list[list[int]]] = {}

    @classmethod
    def open(cls, config: VlmConfig, device: str) -> VlmReader:
        """Load the model; see :func:`v2w_gym.rewards.pretrained.open_pretrained` for what can be wrong."""
        loaded = open_pretrained(
            config.model,
            task="AutoModelForImageTextToText",
            processor="AutoProcessor",
            dtype=config.dtype,
            device=device,
            fits=FITS,
        )
        return cls(config, loaded)

    def hash(self, question: Prompt | Rubric) -> str:
        """Names everything that readings hang on: weights and their dtype, question, choice of frames."""
        asked = self.config
        dtype = str(self.loaded.model.dtype)
        return config_hash(
            _Asked(self.loaded.hash, dtype, question, asked.frames, asked.show, asked.processor)
        )

    def try_out(self, prompt: Prompt) -> None:
        """Ask about one grey frame, so that what does not fit shows before an episode is at stake.

        Raises:
            ValueError: a setting that the processor does not know, or as :meth:`read`.
            RuntimeError: the model fails.
        """
        check_settings(self.loaded.processor, self.config.show, self.config.processor)
        self._forward([Clip(np.full((1, 64, 64, 3), 128, np.uint8), "wait")], prompt)

    def read(self, clips: Sequence[Clip], prompt: Prompt) -> list[Reading]:
        """A reading per clip, in order.

        Raises:
            ValueError: the prompt's answers are no tokens of this model, or as ``model_inputs``.
        """
        readings = [Reading(trouble="the clip has no instruction to ask about")] * len(clips)
        asked = [i for i, clip in enumerate(clips) if clip.instruction.strip()]
        size = self.config.batch_size
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            for i, reading in zip(part, self._batch([clips[i] for i in part], prompt), strict=True):
                readings[i] = reading
        return readings

    def _batch(self, clips: Sequence[Clip], prompt: Prompt) -> list[Reading]:
        try:
            return self._forward(clips, prompt)
        except torch.OutOfMemoryError:
            if len(clips) == 1:
                return [Reading(trouble="the device ran out of memory over this clip: show fewer frames")]
        except RuntimeError as error:  # of one clip; the others of its batch need not suffer
            if len(clips) == 1:
                first = str(error).strip().partition("\n")[0]
                return [Reading(trouble=f"the model failed over this clip: {first[:200]}")]
        half = len(clips) // 2  # outside the handler: there the traceback still holds the activations
        return self._batch(clips[:half], prompt) + self._batch(clips[half:], prompt)

    @torch.inference_mode()
    def _forward(self, clips: Sequence[Clip], prompt: Prompt) -> list[Reading]:
        model = self.loaded.model
        inputs = model_inputs(
            self.loaded.processor,
            clips,
            self.config.frames,
            prompt,
            self.config.show,
            self.config.processor,
        )
        lengths = [int(n) for n in inputs["attention_mask"].sum(dim=1)]
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        if max(lengths) >= limit:
            return self._without_long(clips, prompt, lengths, int(limit))
        inputs.pop("labels", None)  # PaliGemma's processor adds them for training
        inputs = inputs.to(model.device, model.dtype)  # only floating point takes the dtype
        answer = model.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        logits = answer.logits[0].cpu()
        rows = zip(logits, inputs["input_ids"], lengths, strict=True)
        return [self._reading(row, ids.tolist(), length, prompt) for row, ids, length in rows]

    def _reading(self, logits: torch.Tensor, ids: list[int], length: int, prompt: Prompt) -> Reading:
        key = (prompt, *ids[-TAIL:])
        if key not in self._tokens:
            self._tokens[key] = answer_tokens(self.loaded.processor.tokenizer, ids, prompt.answers)
        logs = log_probabilities(logits, self._tokens[key])
        if any(math.isnan(log) for log in logs):
            return Reading(trouble="the model computed NaN; try dtype: fp32", tokens=length + 1)
        if all(math.isinf(log) for log in logs):
            return Reading(trouble="the model rules out every answer that counts", tokens=length + 1)
        return Reading(tuple(logs), tokens=length + 1)

    def _without_long(
        self, clips: Sequence[Clip], prompt: Prompt, lengths: Sequence[int], limit: int
    ) -> list[Reading]:
        """Readings of the clips that the model can take in; the others say how much they are."""
        fitting = [clip for clip, length in zip(clips, lengths, strict=True) if length < limit]
        found = iter(self._batch(fitting, prompt) if fitting else [])
        trouble = "{} tokens, but the model reads {}: show fewer or smaller frames"
        return [
            next(found) if length < limit else Reading(trouble=trouble.format(length, limit))
            for length in lengths
        ]


@dataclass(frozen=True)
class _Asked:
    weights: str
    dtype: str
    question: Prompt | Rubric
    frames: FrameChoice
    show: Show
    processor: dict[str, Any]
