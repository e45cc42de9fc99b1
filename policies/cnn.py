"""A small convolutional network from one frame to one action, kept in a single safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from v2w_gym.config import from_dict, to_dict
from v2w_gym.policies.stored import read_policy, write_policy
from v2w_gym.shapes import frames_to_tensor
from v2w_gym.weights import fill_strictly


@dataclass(frozen=True)
class CnnConfig:
    """Sizes of the network.

    Attributes:
        frame_size: ``(h, w)`` in pixels, multiples of 8.
        action_dim: number of action components.
        channels: width at a half, a quarter and an eighth of the resolution.
        squeeze: channels that are left when space is flattened.
        hidden: width of the last layer but one.
    """

    frame_size: tuple[int, ...] = (64, 64)
    action_dim: int = 4
    channels: tuple[int, ...] = (16, 32, 48)
    squeeze: int = 12
    hidden: int = 64


class CnnPolicy(nn.Module):
    """``pixels`` in, actions in -1..1 out; no memory, no randomness.

    Args:
        config: sizes.
    """

    def __init__(self, config: CnnConfig | None = None) -> None:
        super().__init__()
        self.config = config or CnnConfig()
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
            nn.Conv2d(eighth, self.config.squeeze, 1),
            nn.Flatten(),
        )
        places = (height // 8) * (width // 8)
        self.head = nn.Sequential(
            nn.Linear(self.config.squeeze * places, self.config.hidden),
            nn.ReLU(),
            nn.Linear(self.config.hidden, self.config.action_dim),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as frames come; it is faster

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Actions ``(b, a)`` in -1..1 for frames ``(b, 3, h, w)``, float in -1..1."""
        return torch.tanh(self.head(self.features(x)))

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to forget."""

    @torch.no_grad()
    def act(self, observation: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Actions ``(b, a)`` float32 in -1..1 for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``.

        Raises:
            ValueError: frames of another size or dtype.
        """
        height, width = self.config.frame_size
        frames = frames_to_tensor(observation["pixels"], (height, width), "pixels")
        actions: npt.NDArray[np.float32] = self(frames.permute(0, 3, 1, 2).float() / 127.5 - 1.0).numpy()
        return actions

    def save(self, path: str | Path, notes: Mapping[str, str] | None = None) -> None:
        """Write weights (float16) and config to one ``.safetensors`` file.

        Args:
            path: the file.
            notes: anything to keep beside the config, e.g. how it was trained.
        """
        write_policy(path, self.state_dict(), {"config": json.dumps(to_dict(self.config)), **(notes or {})})

    @classmethod
    def load(cls, path: str | Path) -> CnnPolicy:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a damaged or foreign file.
        """
        weights, metadata = read_policy(path)
        if "config" not in metadata:
            raise ValueError(f"{path} holds no policy of this package: its metadata lacks 'config'")
        policy = cls(from_dict(CnnConfig, json.loads(metadata["config"]), where=f"config of {path}"))
        fill_strictly(policy, weights, path)
        return policy.eval()
