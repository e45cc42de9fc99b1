"""Transformer blocks over the pixels of a frame and over time, as DynamiCrafter has them (arXiv 2310.12190).

Both mix tokens twice, then pass each through a gated layer; what a token sees is all that differs. Over
pixels it is the frame itself, then the words and image tokens of the context; over time it is what the time
axis lets a frame see, twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from diffusers.models.attention import FeedForward
from einops import rearrange
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from v2w_gym.world_model.timeline import TimeAxis

Scope = Literal["frame", "clip"]


class TimeNorm(nn.GroupNorm):
    """GroupNorm whose statistics are those of a frame or of all frames of a clip.

    With "clip" every frame changes every other, those before it included; the released weights need it.
    """

    def __init__(self, groups: int, channels: int, eps: float, scope: Scope) -> None:
        super().__init__(groups, channels, eps)
        self.scope = scope

    def forward(self, x: torch.Tensor, time: TimeAxis) -> torch.Tensor:  # type: ignore[override]
        """``((b f), c, h, w)`` to the same."""
        if self.scope == "frame":
            return super().forward(x)
        clip = rearrange(x, "(b f) c h w -> b c f h w", f=time.frames)
        frames: torch.Tensor = rearrange(super().forward(clip), "b c f h w -> (b f) c h w")
        return frames


@dataclass(frozen=True)
class Context:
    """What a clip is conditioned on beside its first frame and its actions.

    Attributes:
        text: ``((b f), n, d)``, tokens of the caption.
        image: ``((b f), m, d)``, tokens of the first frame.
    """

    text: torch.Tensor
    image: torch.Tensor


def spread(tokens: torch.Tensor, frames: int, text: int, per_frame: int) -> Context:
    """Give every frame its tokens of ``tokens``: those of a clip ``(b, text + m, d)``, or of each row.

    Of a clip's, if there are exactly ``per_frame`` image tokens for each frame, each gets its own, else every
    frame gets all, as in the public code: of 256 tokens 16 frames get 16 each, any other number get all.
    """
    if tokens.ndim == 4:
        own = tokens.flatten(0, 1)
        return Context(own[:, :text], own[:, text:])
    words = tokens[:, :text].repeat_interleave(frames, dim=0)
    image = tokens[:, text:]
    if image.shape[1] == per_frame * frames:
        return Context(words, rearrange(image, "b (f m) d -> (b f) m d", f=frames))
    return Context(words, image.repeat_interleave(frames, dim=0))


class SpatialMix(nn.Module):
    """Attention of a frame's tokens over themselves, or over text and image tokens, two results added up."""

    def __init__(self, channels: int, head: int, context: int = 0) -> None:
        super().__init__()
        self.heads, self.cross = channels // head, context > 0
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context or channels, channels, bias=False)
        self.to_v = nn.Linear(context or channels, channels, bias=False)
        if self.cross:
            self.to_k_ip = nn.Linear(context, channels, bias=False)
            self.to_v_ip = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, context: Context | None, time: TimeAxis) -> torch.Tensor:
        """``((b f), l, c)`` to the same."""
        del time
        q = self._split(self.to_q(x))
        if not self.cross:
            return self._join(self._attend(q, self.to_k(x), self.to_v(x)))
        if context is None:
            raise ValueError("this network reads text and image tokens; got none")
        words = self._attend(q, self.to_k(context.text), self.to_v(context.text))
        return self._join(words + self._attend(q, self.to_k_ip(context.image), self.to_v_ip(context.image)))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return rearrange(x, "b l (n d) -> b n l d", n=self.heads)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, self._split(k), self._split(v))

    def _join(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.to_out(rearrange(x, "b n l d -> b l (n d)"))
        return out


class TimeMix(nn.Module):
    """Attention of each pixel over time, without any sense of distance but what the time axis hides."""

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.key = ""  # the layer's place in a cache, set by the network that owns it
        self.heads = channels // head
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, context: Context | None, time: TimeAxis) -> torch.Tensor:
        """``((b f), l, c)`` to the same."""
        del context
        q, k, v = (
            rearrange(to(x), "b l (n d) -> b l n d", n=self.heads) for to in (self.to_q, self.to_k, self.to_v)
        )
        mixed = time.attend(self.key, q, k, v, self._bias)
        out: torch.Tensor = self.to_out(rearrange(mixed, "b l n d -> b l (n d)"))
        return out

    def _bias(self, distance: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        bias = torch.zeros(visible.shape, device=distance.device).masked_fill(~visible, float("-inf"))
        return bias.unsqueeze(-3)


class Transformer(nn.Module):
    """One block of (mix, mix, gated layer) between two projections, added to what came in.

    Args:
        channels: of the frames.
        inner: of the tokens; a multiple of ``head``.
        norm: before everything.
        first: the mixing layer that comes first.
        second: the other.
    """

    def __init__(
        self,
        channels: int,
        inner: int,
        norm: TimeNorm,
        first: SpatialMix | TimeMix,
        second: SpatialMix | TimeMix,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.proj_in = nn.Linear(channels, inner)
        self.norm1, self.attn1 = nn.LayerNorm(inner), first
        self.norm2, self.attn2 = nn.LayerNorm(inner), second
        self.norm3, self.ff = nn.LayerNorm(inner), FeedForward(inner, activation_fn="geglu")
        self.proj_out = nn.Linear(inner, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: torch.Tensor, context: Context | None, time: TimeAxis) -> torch.Tensor:
        """``((b f), c, h, w)`` to the same."""
        height = x.shape[2]
        tokens = self.proj_in(rearrange(self.norm(x, time), "b c h w -> b (h w) c"))
        tokens = tokens + self.attn1(self.norm1(tokens), context, time)
        tokens = tokens + self.attn2(self.norm2(tokens), context, time)
        tokens = tokens + self.ff(self.norm3(tokens))
        mixed: torch.Tensor = rearrange(self.proj_out(tokens), "b (h w) c -> b c h w", h=height)
        return x + mixed


def over_space(channels: int, head: int, groups: int, context: int) -> Transformer:
    """Pixels of a frame among themselves, then over its text and image tokens of width ``context``."""
    norm = TimeNorm(groups, channels, 1e-6, "frame")
    return Transformer(
        channels, channels, norm, SpatialMix(channels, head), SpatialMix(channels, head, context)
    )


def over_time(channels: int, head: int, groups: int, scope: Scope, heads: int | None = None) -> Transformer:
    """Frames among themselves, pixel by pixel; ``heads`` widens the tokens beyond the channels."""
    inner = channels if heads is None else heads * head
    norm = TimeNorm(groups, channels, 1e-6, scope)
    return Transformer(channels, inner, norm, TimeMix(inner, head), TimeMix(inner, head))
