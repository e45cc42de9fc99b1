"""Temporal layers: a convolution over three frames and attention over the frames that a layer may see.

The layers hold weights only. What "the frames before" are is the business of a ``TimeAxis`` that is handed
down the network (``timeline.py``): the same weights run over a whole clip, over a clip beside its noisy twin,
or on one new frame with everything older read from a cache. That is why cached stepping cannot drift away
from training.

With ``temporal_norm: "frame"`` no statistic of a normalisation ever mixes two frames, which is what makes a
model strictly causal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from v2w_gym.world_model.transformer import Context, Scope, TimeNorm

if TYPE_CHECKING:
    from v2w_gym.world_model.timeline import TimeAxis


class TemporalConv(nn.Module):
    """Convolution over time with kernel 3 (Vid2World's temporal kernels are (3, 1, 1)).

    The weight has the layout of a ``Conv3d``: ``(out, in, 3, 1, 1)``. Its three taps read the frames at
    offsets -1, 0, +1 when the time axis is not causal and -2, -1, 0 when it is; ``causalize.py`` maps one to
    the other.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.key = ""  # the layer's place in a cache, set by the network that owns it
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: torch.Tensor, time: TimeAxis) -> torch.Tensor:
        """Mix frames: ``((b f), c, h, w)`` to the same."""
        kernel = rearrange(self.weight, "o i k 1 1 -> o k i")
        return time.convolve(self.key, x.permute(0, 2, 3, 1), kernel, self.bias).permute(0, 3, 1, 2)


class TemporalConvBlock(nn.Module):
    """Residual chain of (normalise, SiLU, temporal convolution); the last one starts at zero."""

    def __init__(self, channels: int, layers: int, groups: int, scope: Scope) -> None:
        super().__init__()
        self.norms = nn.ModuleList(TimeNorm(groups, channels, 1e-5, scope) for _ in range(layers))
        self.convs = nn.ModuleList(TemporalConv(channels) for _ in range(layers))
        nn.init.zeros_(self.convs[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor, time: TimeAxis) -> torch.Tensor:
        """``((b f), c, h, w)`` to the same."""
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(F.silu(norm(h, time)), time)
        return x + h


class TemporalAttention(nn.Module):
    """Self-attention over time, each pixel for itself, with a learned bias for every distance of two frames.

    A bias that depends on the distance alone, unlike an absolute position, means the same at frame 5 and at
    frame 5,000. The table covers distances ``-(window-1) .. window-1``; a causal time axis reads only those
    from 0 up.
    """

    def __init__(self, channels: int, head_channels: int, window: int, groups: int, scope: Scope) -> None:
        super().__init__()
        if channels % head_channels:
            raise ValueError(f"{channels} channels do not divide into heads of {head_channels}")
        self.key = ""  # the layer's place in a cache, set by the network that owns it
        self.heads = channels // head_channels
        self.window = window
        self.norm = TimeNorm(groups, channels, 1e-6, scope)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        self.distance_bias = nn.Parameter(torch.zeros(self.heads, 2 * window - 1))
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: torch.Tensor, context: Context | None, time: TimeAxis) -> torch.Tensor:
        """``((b f), c, h, w)`` to the same; there is no context to read."""
        del context
        qkv = self.to_qkv(self.norm(x, time).permute(0, 2, 3, 1))
        q, k, v = rearrange(qkv, "b h w (three n d) -> three b (h w) n d", three=3, n=self.heads)
        mixed = rearrange(time.attend(self.key, q, k, v, self._bias), "b l n d -> b l (n d)")
        residual: torch.Tensor = self.to_out(mixed).transpose(1, 2).reshape(x.shape)
        return x + residual

    def _bias(self, distance: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Logits to add for integer distances (query frame minus key frame): ``(..., heads, q, k)``."""
        index = distance.clamp(1 - self.window, self.window - 1) + self.window - 1
        bias = self.distance_bias[:, index].movedim(0, -3)
        return bias.masked_fill(~visible.unsqueeze(-3), float("-inf"))
