"""Light changes of frames for training networks that must also read imagined, slightly soft frames."""

from __future__ import annotations

from collections.abc import Callable

import torch

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def light(frames: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Brightness, contrast, a slight blur and noise; nothing moves, since millimetres decide here.

    Args:
        frames: ``(b, h, w, 3)`` uint8.
        generator: draws everything.

    Returns:
        Frames of the same shape, float32 in 0..255.
    """
    x = frames.float()

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand((len(x), 1, 1, 1), generator=generator) * (high - low) + low

    x = torch.lerp(
        x, _blurred(x), uniform(-0.6, 0.6).clamp(min=0.0)
    )  # every second frame stays as sharp as it was
    x = x * uniform(0.92, 1.08) + uniform(-15.0, 15.0)
    x = x + torch.randn(x.shape, generator=generator) * uniform(-5.0, 5.0).clamp(min=0.0)
    return x.clamp(0.0, 255.0)


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """The mean of 3x3 pixels; at the border it reaches round to the other side, which no task minds."""
    for axis in (1, 2):
        x = (x + x.roll(1, axis) + x.roll(-1, axis)) / 3.0
    return x
