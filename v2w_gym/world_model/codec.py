"""Frames to latents and back, one frame at a time: a diffusers ``AutoencoderKL`` on patchified pixels.

Unless it is given noise, encoding takes the mode of the posterior, so that it is a function of the frame. In
codecs made here the first layer folds 2x2 pixels into channels, because a convolution at full resolution
would cost more than all others together.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from einops import rearrange
from torch import nn

from v2w_gym.world_model.footprint import Need
from v2w_gym.world_model.halves import norms_in_single_precision
from v2w_gym.world_model.loading import read_module
from v2w_gym.world_model.parts import Chunks
from v2w_gym.world_model.upsample import upsample_at_once

MOST = 256  # frames at once, where memory allows: their activations should stay in the processor's caches


class FrameCodec(nn.Module):
    """Per-frame image codec with normalised latents.

    It takes as many frames at once as fit into memory; that bounds what it needs and changes nothing else.

    Args:
        vae: its ``in_channels`` must be 3 times the square of the patch size; ``latents_mean`` and
            ``latents_std`` in its config, where given, bring latents to zero mean and unit deviation, else
            ``scaling_factor`` does.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        norms_in_single_precision(vae)
        self.chunks = Chunks(MOST, vae)
        self.patch = round((vae.config.in_channels / 3) ** 0.5)
        if 3 * self.patch**2 != vae.config.in_channels:
            raise ValueError(f"codec in_channels must be 3 * patch**2, got {vae.config.in_channels}")
        channels = vae.config.latent_channels
        mean = vae.config.latents_mean or [vae.config.shift_factor or 0.0] * channels
        std = vae.config.latents_std or [1.0 / vae.config.scaling_factor] * channels
        self.register_buffer("mean", torch.tensor(mean).view(1, channels, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, channels, 1, 1), persistent=False)
        self.mean: torch.Tensor
        self.std: torch.Tensor

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.vae.config.latent_channels)

    @property
    def reduction(self) -> int:
        """Pixels per latent cell, along each side."""
        return int(self.patch * 2 ** (len(self.vae.config.block_out_channels) - 1))

    def pixels(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames ``(b, h, w, 3)`` uint8 to what the network reads: float in -1..1, patches as channels."""
        x = rearrange(frames, "b (h p) (w q) c -> b (c p q) h w", p=self.patch, q=self.patch)
        return x.to(self.mean).div_(127.5).sub_(1.0)

    def unpatch(self, x: torch.Tensor) -> torch.Tensor:
        """Undo the patch folding: ``(b, 3 p q, h, w)`` to ``(b, h p, w q, 3)``, still float in -1..1."""
        return rearrange(x, "b (c p q) h w -> b (h p) (w q) c", p=self.patch, q=self.patch)

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames ``(b, h, w, 3)`` uint8 to latents ``(b, c, h', w')`` float32, normalised.

        Raises:
            MemoryError: not even one frame fits on the card; the same below.
        """
        return self.chunks.apply("encode", lambda part: self._latents(self.pixels(frames[part])), frames)

    @torch.no_grad()
    def encode_pixels(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """The same for what ``pixels`` gives.

        Args:
            x: see above.
            noise: unit normal in the shape of the result draws from the posterior; None takes its mode.
        """

        def encoded(part: slice) -> torch.Tensor:
            return self._latents(x[part], None if noise is None else noise[part])

        return self.chunks.apply("encode pixels", encoded, x)

    def _latents(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        drawn_from = self.vae.encode(x.to(self.vae.dtype)).latent_dist
        z = drawn_from.mean
        if noise is not None:
            z = z + drawn_from.std * noise.to(z)
        latents: torch.Tensor = (z - self.mean) / self.std
        return latents.float()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Normalised latents ``(b, c, h', w')`` to frames ``(b, h, w, 3)`` uint8."""
        return self.chunks.apply("decode", lambda part: self._frames(latents[part]), latents)

    @torch.no_grad()
    def decoding(self, latents: torch.Tensor) -> Need:
        """What decoding latents like these takes, measured on one of them."""
        return self.chunks.need("decode", lambda part: self._frames(latents[part]), latents)

    def _frames(self, latents: torch.Tensor) -> torch.Tensor:
        x = self.unpatch(self._pixels(latents))
        return x.add_(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)

    @torch.no_grad()
    def decode_pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """The same to what ``pixels`` gives of a frame, but not cut off at -1 and 1."""
        return self.chunks.apply("decode pixels", lambda part: self._pixels(latents[part]), latents)

    def _pixels(self, latents: torch.Tensor) -> torch.Tensor:
        scaled = latents.to(self.mean) * self.std + self.mean
        pixels: torch.Tensor = self.vae.decode(scaled.to(self.vae.dtype)).sample.float()
        return pixels

    def save_pretrained(self, path: str | Path) -> None:
        """Write ``config.json`` and safetensors in the diffusers layout."""
        self.vae.save_pretrained(path)

    @classmethod
    def from_pretrained(cls, path: str | Path, dtype: torch.dtype = torch.float32) -> FrameCodec:
        """Read what ``save_pretrained`` wrote; see ``loading.read_module``."""
        vae = read_module(AutoencoderKL, path, dtype)
        upsample_at_once(vae)
        return cls(vae)
