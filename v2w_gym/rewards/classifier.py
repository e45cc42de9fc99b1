"""A small convolutional network that reads success from one frame: the default success detector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from v2w_gym.arrays import Array
from v2w_gym.config import from_dict, to_dict
from v2w_gym.shapes import FramesLike, frames_to_tensor
from v2w_gym.weights import fill_strictly, find_folder, read_weights, write_folder

_CHUNK = 256  # frames per forward pass; keeps activations in the processor's cache


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes and calibration.

    Attributes:
        frame_size: ``(h, w)`` in pixels, multiples of 8.
        channels: width at a half, a quarter and an eighth of the resolution.
        squeeze: channels that are left when space is flattened.
        hidden: width of the last layer but one.
        temperature: divides the logit; fitted on frames that were not trained on.
        shift: is added to the divided logit; training shows hard frames more often than life does.
        threshold: probability from which a frame counts as success.
    """

    frame_size: tuple[int, ...] = (64, 64)
    channels: tuple[int, ...] = (24, 48, 64)
    squeeze: int = 16
    hidden: int = 64
    temperature: float = 1.0
    shift: float = 0.0
    threshold: float = 0.5


class FrameClassifier(nn.Module):
    """Success detector without memory; see :class:`v2w_gym.rewards.base.SuccessDetector`.

    Args:
        config: sizes and calibration.

    Attributes:
        takes_tensors: tensors are judged where they are.
        threshold: probability from which a frame counts as success.
        hash: twelve hexadecimal digits that name weights, calibration and threshold as they were when loaded.
    """

    takes_tensors = True

    def __init__(self, config: ClassifierConfig | None = None) -> None:
        super().__init__()
        self.config = config or ClassifierConfig()
        height, width = self.config.frame_size
        half, quarter, eighth = self.config.channels
        self.features = nn.Sequential(
            nn.Conv2d(3, half, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, quarter, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(quarter, quarter, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(eighth, eighth, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(eighth, self.config.squeeze, 1),
            nn.Flatten(),
        )
        places = (height // 8) * (width // 8)
        self.head = nn.Sequential(
            nn.Linear(self.config.squeeze * places, self.config.hidden),
            nn.ReLU(),
            nn.Linear(self.config.hidden, 1),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as frames come; it is faster
        self.threshold = self.config.threshold
        self.hash = self._digest()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Uncalibrated logits ``(b,)`` of frames ``(b, h, w, 3)``, float in 0..255."""
        x = (x / 127.5 - 1.0).permute(0, 3, 1, 2)
        logits: torch.Tensor = self.head(self.features(x))[:, 0]
        return logits

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to forget: every frame is judged alone."""

    @torch.no_grad()
    def logits(self, frames: FramesLike) -> torch.Tensor:
        """Uncalibrated logits ``(b,)`` float32 of frames ``(b, h, w, 3)`` uint8, on the frames' device.

        Raises:
            ValueError: frames of another size or dtype.
        """
        height, width = self.config.frame_size
        tensor = frames_to_tensor(frames, (height, width))
        device = next(self.parameters()).device
        parts = [self(part.to(device).float()).float() for part in tensor.split(_CHUNK)]
        return torch.cat(parts).to(tensor.device) if parts else torch.zeros(0, device=tensor.device)

    def score(self, frames: FramesLike, slots: Sequence[int] | None = None) -> Array:
        """Probability of success in 0..1 of frames ``(b, h, w, 3)`` uint8.

        Returns:
            ``(b,)`` float32: an array for an array, a tensor on the frames' device for a tensor.

        Raises:
            ValueError: frames of another size or dtype.
        """
        del slots
        logits = self.logits(frames) / self.config.temperature + self.config.shift
        scores = torch.sigmoid(logits)
        return scores if isinstance(frames, torch.Tensor) else scores.numpy()

    def calibrated(self, temperature: float, shift: float, threshold: float) -> FrameClassifier:
        """The same network with another calibration."""
        changed = replace(self.config, temperature=temperature, shift=shift, threshold=threshold)
        other = FrameClassifier(changed)
        other.load_state_dict(self.state_dict())
        other.to(next(self.parameters()).device)
        other.hash = other._digest()
        return other.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``."""
        write_folder(folder, to_dict(self.config), self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> FrameClassifier:
        """Read what :meth:`save_pretrained` wrote.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or belongs to something else.
        """
        values, config, file = find_folder(folder, what="success detector", made_by="v2w train detector")
        detector = cls(from_dict(ClassifierConfig, values, where=str(config)))
        fill_strictly(detector, read_weights(file)[0], file)
        detector.hash = detector._digest()
        return detector.eval()

    def _digest(self) -> str:
        digest = hashlib.sha256(json.dumps(to_dict(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]
