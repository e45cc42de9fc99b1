"""The image resampler: from the tokens of the image tower to tokens that the UNet's cross-attention reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from v2w_gym.weights import fill_strictly
from v2w_gym.world_model.released.rename import rename


@dataclass(frozen=True)
class ResamplerConfig:
    """``image_proj_stage_config.params`` of the released yaml, under its names.

    Attributes:
        dim: width of the latents inside.
        depth: number of layers.
        dim_head: width of an attention head.
        heads: number of attention heads.
        num_queries: tokens made per frame.
        video_length: number of frames for which tokens are made.
        embedding_dim: width of the image tower's tokens.
        output_dim: width of the tokens made.
        ff_mult: hidden width of the feed-forward part, as a multiple of ``dim``.
    """

    dim: int = 1024
    depth: int = 4
    dim_head: int = 64
    heads: int = 12
    num_queries: int = 16
    video_length: int = 16
    embedding_dim: int = 1280
    output_dim: int = 1024
    ff_mult: int = 4


class LatentAttention(nn.Module):
    """Latents ask; image tokens and the latents themselves answer."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        inner = config.dim_head * config.heads
        self.heads = config.heads
        self.norm_tokens = nn.LayerNorm(config.dim)
        self.norm_latents = nn.LayerNorm(config.dim)
        self.to_q = nn.Linear(config.dim, inner, bias=False)
        self.to_kv = nn.Linear(config.dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, config.dim, bias=False)

    def forward(self, latents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """``latents`` ``(b, l, c)`` and ``tokens`` ``(b, k, c)`` to ``(b, l, c)``."""
        latents = self.norm_latents(latents)
        key, value = self.to_kv(torch.cat([self.norm_tokens(tokens), latents], dim=1)).chunk(2, dim=-1)
        q, k, v = (
            rearrange(x, "b l (n c) -> b n l c", n=self.heads) for x in (self.to_q(latents), key, value)
        )
        out = functional.scaled_dot_product_attention(q, k, v)
        mixed: torch.Tensor = self.to_out(rearrange(out, "b n l c -> b l (n c)"))
        return mixed


class ResamplerLayer(nn.Module):
    """Attention, then a feed-forward part, each added to what it reads."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        hidden = config.dim * config.ff_mult
        self.attention = LatentAttention(config)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, hidden, bias=False),
            nn.GELU(),
            nn.Linear(hidden, config.dim, bias=False),
        )

    def forward(self, latents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """``latents`` ``(b, l, c)`` and ``tokens`` ``(b, k, c)`` to ``(b, l, c)``."""
        latents = latents + self.attention(latents, tokens)
        out: torch.Tensor = latents + self.feed_forward(latents)
        return out


class Resampler(nn.Module):
    """A fixed number of tokens out of any number, ``num_queries`` for each of ``video_length`` frames."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.config = config
        count = config.num_queries * config.video_length
        self.latents = nn.Parameter(torch.randn(1, count, config.dim) / config.dim**0.5)
        self.proj_in = nn.Linear(config.embedding_dim, config.dim)
        self.layers = nn.ModuleList(ResamplerLayer(config) for _ in range(config.depth))
        self.proj_out = nn.Linear(config.dim, config.output_dim)
        self.norm_out = nn.LayerNorm(config.output_dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Image tokens ``(b, k, embedding_dim)`` to ``(b, video_length * num_queries, output_dim)``.

        Frame after frame: the first ``num_queries`` tokens are those of the first frame.
        """
        tokens = self.proj_in(tokens)
        latents = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            latents = layer(latents, tokens)
        out: torch.Tensor = self.norm_out(self.proj_out(latents))
        return out


RULES = [
    (r"latents|(proj_in|proj_out|norm_out)\.(weight|bias)", r"\g<0>"),
    (r"layers\.(\d+)\.0\.norm1\.(\w+)", r"layers.\1.attention.norm_tokens.\2"),
    (r"layers\.(\d+)\.0\.norm2\.(\w+)", r"layers.\1.attention.norm_latents.\2"),
    (r"layers\.(\d+)\.0\.(to_\w+)\.weight", r"layers.\1.attention.\2.weight"),
    (r"layers\.(\d+)\.1\.(.+)", r"layers.\1.feed_forward.\2"),
]


def load_resampler(weights: Mapping[str, torch.Tensor], config: ResamplerConfig) -> Resampler:
    """The resampler of a released checkpoint.

    Args:
        weights: part ``resampler`` of the checkpoint; taken over, not copied.
        config: its sizes.

    Raises:
        ValueError: weights and sizes that do not fit each other.
    """
    with torch.device("meta"):
        module = Resampler(config)
    return fill_strictly(module, rename(weights, RULES)).eval()
