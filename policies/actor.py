"""From the latent of a frame to an action and how sure of it: the actor that imagination trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class ActorConfig:
    """Sizes of the actor, and how far it explores.

    Attributes:
        channels: width of the two convolutions.
        squeeze: channels that are left when space is flattened.
        hidden: width of the last layer but one.
        least: smallest standard deviation of an action component.
        most: largest one.
        start: the one that it begins with.
    """

    channels: tuple[int, ...] = (32, 48)
    squeeze: int = 12
    hidden: int = 96
    least: float = 0.1
    most: float = 1.0
    start: float = 0.3

    def __post_init__(self) -> None:
        if not 0.0 < self.least < self.start < self.most:
            raise ValueError(
                "an actor's deviations must lie in order, 0 < least < start < most, "
                f"got {self.least:g}, {self.start:g}, {self.most:g}"
            )
        if len(self.channels) != 2:
            raise ValueError(f"channels must be two widths, got {list(self.channels)}")


class LatentTrunk(nn.Module):
    """What reads a latent: two convolutions that leave space as it is, and one hidden layer.

    Args:
        shape: ``(c, h, w)`` of a latent.
        channels: width of the convolutions.
        squeeze: channels that are left when space is flattened.
        hidden: numbers that come out.
    """

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], squeeze: int, hidden: int) -> None:
        super().__init__()
        c, h, w = shape
        self.layers = nn.Sequential(
            nn.Conv2d(c, channels[0], 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels[0], channels[1], 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels[1], squeeze, 1),
            nn.Flatten(),
            nn.Linear(squeeze * h * w, hidden),
            nn.LayerNorm(hidden),
            nn.SiLU(),
        )

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """``(n, hidden)`` for latents ``(n, c, h, w)``."""
        features: torch.Tensor = self.layers(latents)
        return features


class Actor(nn.Module):
    """A normal distribution of actions; whoever acts clips what is drawn to -1..1.

    Mean and deviation are bounded as those of DreamerV3 (arXiv 2301.04104), the mean by tanh, the deviation
    by a sigmoid between two limits.

    Args:
        shape: ``(c, h, w)`` of a latent.
        action_dim: components of an action.
        config: sizes.
    """

    def __init__(self, shape: tuple[int, ...], action_dim: int, config: ActorConfig | None = None) -> None:
        super().__init__()
        self.shape, self.action_dim = tuple(int(n) for n in shape), int(action_dim)
        self.config = config = config or ActorConfig()
        self.trunk = LatentTrunk(self.shape, config.channels, config.squeeze, config.hidden)
        self.head = nn.Linear(config.hidden, 2 * action_dim)
        share = (config.start - config.least) / (config.most - config.least)
        with torch.no_grad():  # the first actions are near zero, whatever is seen
            self.head.weight.mul_(0.01)
            self.head.bias.zero_()
            self.head.bias[action_dim:] = math.log(share / (1.0 - share))

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean in -1..1 and standard deviation, both ``(n, a)``, for latents ``(n, c, h, w)``."""
        mean, spread = self.head(self.trunk(latents)).chunk(2, dim=-1)
        least, most = self.config.least, self.config.most
        return torch.tanh(mean), least + (most - least) * torch.sigmoid(spread)
