"""Clips and a prompt as a vision-language model's processor wants them, with or without a chat template."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from PIL import Image

from v2w_gym.rewards.framechoice import FrameChoice
from v2w_gym.rewards.judge import Clip
from v2w_gym.rewards.prompts import Prompt

Show = Literal["images", "video"]


def model_inputs(
    processor: Any,
    clips: Sequence[Clip],
    frames: FrameChoice,
    prompt: Prompt,
    show: Show = "images",
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """Inputs of a model for a batch of clips, padded on the left so that all end where the answer begins.

    Args:
        processor: of the model.
        clips: with an instruction each.
        frames: which of them are shown.
        prompt: asked about each.
        show: as pictures, or as one video where the model reads videos.
        settings: replace the processor's own.

    Raises:
        ValueError: the processor cannot show this, or an instruction holds a token that stands for a picture.
    """
    shown = [[Image.fromarray(picture) for picture in frames.pictures(clip.frames)] for clip in clips]
    placeholder = _placeholder(processor, show)
    for clip in clips:
        if placeholder in clip.instruction:
            raise ValueError(f"an instruction may not hold {placeholder!r}, which stands for a picture")
    count = [1 if show == "video" else len(pictures) for pictures in shown]
    texts = [_text(processor, prompt, clip, n, show) for clip, n in zip(clips, count, strict=True)]
    processor.tokenizer.padding_side = "left"
    arguments: dict[str, Any] = {"text": texts, "padding": True, "return_tensors": "pt", **(settings or {})}
    if show == "images":
        return processor(images=shown, **arguments)
    facts = [_facts(clip, frames, pictures) for clip, pictures in zip(clips, shown, strict=True)]
    videos = [pictures * 2 if len(pictures) == 1 else pictures for pictures in shown]  # models pair frames
    return processor(videos=videos, video_metadata=facts, do_sample_frames=False, **arguments)


def check_settings(processor: Any, show: Show, settings: Mapping[str, Any]) -> None:
    """See to it that the part of ``processor`` in use knows all ``settings``; others it would ignore.

    Raises:
        ValueError: an unknown key; near-miss names are suggested.
    """
    part = getattr(processor, "image_processor" if show == "images" else "video_processor", None)
    known = getattr(getattr(part, "valid_kwargs", None), "__annotations__", {})
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {sorted(known)}"
            raise ValueError(f"{type(part).__name__} has no setting {key!r}; {hint}")


def _placeholder(processor: Any, show: Show) -> str:
    """The text that stands for a picture or a video."""
    name = "image_token" if show == "images" else "video_token"
    token = getattr(processor, name, None)
    if not token or (show == "video" and getattr(processor, "video_processor", None) is None):
        other = "images" if show == "video" else "video"
        raise ValueError(f"{type(processor).__name__} reads no {show}; say show: {other}")
    return str(token)


def _text(processor: Any, prompt: Prompt, clip: Clip, pictures: int, show: Show) -> str:
    """The whole prompt, with a placeholder for each picture."""
    asked = prompt.fill(clip.instruction)
    if not getattr(processor, "chat_template", None):
        before = [prompt.system] if prompt.system else []
        return _placeholder(processor, show) * pictures + "\n".join([*before, asked])
    part = {"type": "image" if show == "images" else "video"}
    messages = [{"role": "user", "content": [*([part] * pictures), {"type": "text", "text": asked}]}]
    if prompt.system:
        system = {"role": "system", "content": [{"type": "text", "text": prompt.system}]}
        messages.insert(0, system)
    turn = "continue_final_message" if prompt.continues else "add_generation_prompt"
    return str(processor.apply_chat_template(messages, tokenize=False, **{turn: True}))


def _facts(clip: Clip, frames: FrameChoice, pictures: Sequence[Any]) -> dict[str, Any]:
    """When the frames were taken, for models that count time; one picture is a video of two like frames."""
    chosen = frames.indices(len(clip.frames))
    indices = chosen if len(pictures) > 1 else chosen[-1:] * 2
    return {"total_num_frames": len(clip.frames), "fps": clip.fps, "frames_indices": indices}
