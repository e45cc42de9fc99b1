"""Light changes of frames for training networks that must also read imagined, slightly soft frames."""

from __future__ import annotations

from collections.abc import Callable

import torch

from v2w_gym.world_model.codec import FrameCodec

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


def through_codec(codec: FrameCodec, share: float = 0.5, noise: float = 0.2) -> Augment:
    """``light`` after a round trip through the codec, which every imagined frame has behind it.

    Args:
        codec: the world's codec.
        share: probability that a frame makes the trip.
        noise: largest deviation of the noise that is added to a latent on the way, drawn frame by frame;
            latents themselves have a deviation of one.
    """

    @torch.no_grad()
    def augment(frames: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        chosen = torch.rand(len(frames), generator=generator) < share
        if chosen.any():
            latents = codec.encode(frames[chosen])
            size = torch.rand((len(latents), 1, 1, 1), generator=generator) * noise
            latents = latents + size * torch.randn(latents.shape, generator=generator)
            frames = frames.clone()
            frames[chosen] = codec.decode(latents)
        return light(frames, generator)

    return augment


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """The mean of 3x3 pixels; at the border it reaches round to the other side, which no task minds."""
    for axis in (1, 2):
        x = (x + x.roll(1, axis) + x.roll(-1, axis)) / 3.0
    return x
