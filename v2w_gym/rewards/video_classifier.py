"""A classifier of videos as a judge, such as VideoMAE fine-tuned on successes and failures (WMPO).

A model that transformers' ``AutoModelForVideoClassification`` loads will do if it reads pictures and says how
many: VideoMAE, ViViT, TimeSformer. It reads a fixed number of frames: of the whole clip, evenly spaced, or of
every window of consecutive frames, and a rule makes one judgement of the windows. WMPO (WM-PO/WMPO,
reward_model/inference_videomae.py) slides a window of 8 frames, takes the sigmoid of the success logit, and
calls an episode a success if any window reaches the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from v2w_gym.config import config_hash
from v2w_gym.data.episode import FrameArray
from v2w_gym.rewards.clips import check_clips
from v2w_gym.rewards.judge import Clip, Judgement, check_threshold
from v2w_gym.rewards.pretrained import Dtype, Pretrained, open_pretrained
from v2w_gym.rewards.rules import by_rule, check_rule


@dataclass(frozen=True)
class VideoClassifierConfig:
    """Settings of a video classifier that judges clips.

    Attributes:
        model: folder, or hub id, with ``@revision`` if it is not the newest.
        success: labels of the model that mean success; their probabilities are added up.
        activation: ``softmax`` among all labels, or ``sigmoid`` of the one success label.
        sampling: ``even``: the whole clip once; ``windows``: every window of consecutive frames.
        stride: frames from one window to the next, counted back from the last, which is always judged.
        rule: of the windows, the ``any``, ``last`` or ``held_K``.
        threshold: probability from which a clip counts as success.
        dtype: of the weights; ``auto`` is the one that they were saved in.
        batch_size: videos at once.
    """

    model: str
    success: tuple[str, ...] = ("success",)
    activation: Literal["softmax", "sigmoid"] = "softmax"
    sampling: Literal["even", "windows"] = "even"
    stride: int = 1
    rule: str = "any"
    threshold: float = 0.5
    dtype: Dtype = "auto"
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_rule(self.rule)
        check_threshold(self.threshold)
        if self.stride < 1 or self.batch_size < 1:
            raise ValueError(
                f"stride and batch_size must be at least 1, got {self.stride}, {self.batch_size}"
            )
        if not self.success or (self.activation == "sigmoid" and len(self.success) > 1):
            raise ValueError(f"success must name labels, and one for sigmoid; got {list(self.success)}")


class VideoClassifier:
    """See :class:`v2w_gym.rewards.judge.ClipJudge`.

    Args:
        config: settings.
        loaded: model and processor.

    Raises:
        ValueError: the model has no such label, or does not say how many frames it reads.
    """

    def __init__(self, config: VideoClassifierConfig, loaded: Pretrained) -> None:
        self.config, self.loaded, self.threshold = config, loaded, config.threshold
        known = {str(label): int(i) for i, label in loaded.model.config.id2label.items()}
        if unknown := [label for label in config.success if label not in known]:
            raise ValueError(f"the model knows no label {unknown}; say success: [...] of {list(known)}")
        if (length := getattr(loaded.model.config, "num_frames", None)) is None:
            raise ValueError(
                f"{type(loaded.model).__name__} does not say how many frames it reads (num_frames); take "
                "a VideoMAE, a ViViT or a TimeSformer"
            )
        self._length = int(length)
        self._labels = [known[label] for label in config.success]
        self.hash = config_hash(
            _Judged(
                loaded.hash,
                config.success,
                config.activation,
                config.sampling,
                config.stride,
                config.rule,
                config.dtype,
            )
        )

    @classmethod
    def from_config(cls, config: VideoClassifierConfig, *, device: str = "cpu") -> VideoClassifier:
        """Load the model and try it out.

        Raises:
            ValueError: it does not fit; or as ``open_pretrained``.
            RuntimeError: the model fails.
        """
        loaded = open_pretrained(
            config.model,
            task="AutoModelForVideoClassification",
            processor="AutoImageProcessor",
            dtype=config.dtype,
            device=device,
            fits="a video classification model, such as VideoMAE fine-tuned on your task",
        )
        judge = cls(config, loaded)
        judge._scores(judge.videos(np.full((1, 64, 64, 3), 128, np.uint8)))
        return judge

    def judge(self, clips: Sequence[Clip]) -> list[Judgement]:
        """One judgement per clip; its votes are those of the windows.

        Raises:
            ValueError: frames of a wrong shape.
        """
        check_clips(clips)
        parts = [self.videos(clip.frames) for clip in clips]
        videos = [video for part in parts for video in part]
        size = self.config.batch_size
        scores = [s for i in range(0, len(videos), size) for s in self._scores(videos[i : i + size])]
        ends = np.cumsum([len(part) for part in parts]).tolist()
        return [self._judgement(scores[end - len(part) : end]) for part, end in zip(parts, ends, strict=True)]

    def videos(self, frames: FrameArray) -> list[FrameArray]:
        """What the model sees of ``frames (f, h, w, 3)``: videos of as many frames as it reads.

        A clip with fewer frames shows some of them several times.
        """
        length = self._length
        if self.config.sampling == "even" or len(frames) <= length:
            return [frames[np.linspace(0, len(frames) - 1, length).round().astype(int)]]
        starts = range(len(frames) - length, -1, -self.config.stride)
        return [frames[start : start + length] for start in reversed(starts)]

    @torch.inference_mode()
    def _scores(self, videos: Sequence[FrameArray]) -> npt.NDArray[np.float64]:
        """Probability of success ``(n,)`` of each video; NaN where the model computed NaN."""
        model: Any = self.loaded.model
        inputs = self.loaded.processor([list(video) for video in videos], return_tensors="pt")
        logits = model(pixel_values=inputs["pixel_values"].to(model.device, model.dtype)).logits.double()
        spread = torch.sigmoid if self.config.activation == "sigmoid" else _softmax
        return np.asarray(spread(logits)[:, self._labels].sum(dim=1).clamp(0.0, 1.0).cpu())

    def _judgement(self, scores: Sequence[float]) -> Judgement:
        if not np.isfinite(scores).all():
            return Judgement(None, "the model computed NaN; try dtype: fp32")
        votes = tuple(float(score) for score in scores) if len(scores) > 1 else ()
        return Judgement(by_rule(scores, self.config.rule), votes=votes)


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(dim=-1)


@dataclass(frozen=True)
class _Judged:
    """What the judgements hang on."""

    weights: str
    success: tuple[str, ...]
    activation: str
    sampling: str
    stride: int
    rule: str
    dtype: str
