"""What each frame sees of the others: the three time axes on which the one network runs.

``clip``      all frames of a clip at once; banded causal, or the non-causal model that a causal one is made
              from.
``twin``      a clip twice: first with (nearly) clean frames, then with noisy ones. The noisy frame t sees the
              *clean* frames before t and itself, which is what it will see when stepping, for all t in one
              pass.
``Stepping``  a few new frames per slot; all older frames come from a cache.

Band of width ``window``: frame t sees the frames ``t - window + 1 .. t``. Axes inside: ``b f`` as ever, ``l``
pixels of a frame, ``n`` heads, ``d`` channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from tensordict import TensorDict
from torch.nn import functional as F

Bias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class TimeAxis(Protocol):
    """What a temporal layer asks about time; ``key`` names the layer."""

    @property
    def frames(self) -> int:
        """Rows of one batch item."""
        ...

    def convolve(self, key: str, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Convolution over three frames of ``x`` ``((b f), h, w, c)``; ``kernel`` is ``(c', 3, c)``."""
        ...

    def attend(self, key: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias) -> torch.Tensor:
        """Attention of each frame over those that it sees; all tensors ``((b f), l, n, d)``."""
        ...


@dataclass(frozen=True)
class Parallel:
    """Many frames at once, related by tables.

    Attributes:
        taps: ``(3, f)`` int64, the row that each tap of row i reads; -1 reads zeros.
        distance: ``(f, f)`` int64, frame of the query minus frame of the key.
        visible: ``(f, f)`` bool, whether the query sees the key.
        own: which tap reads row i itself.
    """

    taps: torch.Tensor
    distance: torch.Tensor
    visible: torch.Tensor
    own: int

    @property
    def frames(self) -> int:
        """See ``TimeAxis``."""
        return len(self.distance)

    def to(self, device: torch.device) -> Parallel:
        """The same tables on another device."""
        taps, distance, visible = (t.to(device) for t in (self.taps, self.distance, self.visible))
        return Parallel(taps, distance, visible, self.own)

    def convolve(self, key: str, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """See ``TimeAxis``."""
        del key
        rows = self.frames
        clip = x.unflatten(0, (-1, rows))
        padded = torch.cat([clip, torch.zeros_like(clip[:, :1])], dim=1)
        taps = [
            clip if tap == self.own else padded.index_select(1, self.taps[tap] % (rows + 1))
            for tap in range(3)
        ]
        return F.linear(torch.cat(taps, dim=-1), kernel.flatten(1), bias).flatten(0, 1)

    def attend(self, key: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias) -> torch.Tensor:
        """See ``TimeAxis``."""
        del key
        rows, pixels = len(self.distance), q.shape[1]
        q, k, v = (rearrange(t, "(b f) l n d -> (b l) n f d", f=rows) for t in (q, k, v))
        mask = bias(self.distance, self.visible).to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return rearrange(mixed, "(b l) n f d -> (b f) l n d", l=pixels)


def clip(frames: int, window: int, causal: bool = True) -> Parallel:
    """The time axis of a clip of ``frames`` frames; ``causal=False`` also looks ahead."""
    index = torch.arange(frames)
    distance = index[:, None] - index[None, :]
    if causal:
        taps = torch.stack([index - 2, index - 1, index]).clamp(min=-1)
        return Parallel(taps, distance, (distance >= 0) & (distance < window), own=2)
    after = torch.where(index + 1 < frames, index + 1, -1)
    return Parallel(torch.stack([index - 1, index, after]), distance, distance.abs() < window, own=1)


def twin(frames: int, window: int) -> Parallel:
    """Rows: clean frames ``0 .. frames-2``, then noisy frames ``1 .. frames-1``."""
    past = frames - 1
    index = torch.cat([torch.arange(past), torch.arange(1, frames)])
    noisy = torch.arange(2 * past) >= past
    own = torch.arange(2 * past)
    before = torch.stack([index - 2, index - 1]).clamp(min=-1)  # a clean frame's row is its index
    distance = index[:, None] - index[None, :]
    band = (distance >= 0) & (distance < window)
    visible = ~noisy[None, :] & band & ~(noisy[:, None] & (distance == 0)) | (own[:, None] == own[None, :])
    return Parallel(torch.cat([before, own[None]]), distance, visible, own=2)


class Stepping:
    """New frames of each slot beside a cache of everything older.

    First come finished frames, which enter the cache, then candidates for the frame after them: each sees
    what is finished and itself, and leaves nothing behind. So a finished frame passes together with its noisy
    successor, and guidance's two branches pass together, since their action is all that they differ in.

    The cache holds, per temporal convolution, what the finished frames add to its result for the next frame
    and for the one after, so that each frame is multiplied by each tap once, however many frames and
    candidates read it; and per temporal attention a ring of ``window`` keys and values, where frame t lives
    in place ``t % window``.

    Args:
        cache: see ``empty_cache``; written in place.
        frame_index: ``(b, f)`` int64, index of each new frame in its slot's episode: the finished ones
            ascending by one, then the same number for all candidates.
        keep: how many of them, counted from the first, are finished.
    """

    def __init__(self, cache: TensorDict, frame_index: torch.Tensor, keep: int) -> None:
        self.cache, self.keep = cache, keep
        self.frames = frame_index.shape[1]
        stored = cache["frames"]
        window = stored.shape[1]
        self.places = frame_index[:, :keep] % window
        self.slots = torch.arange(len(stored), device=stored.device)[:, None]
        stored[self.slots, self.places] = frame_index[:, :keep]
        distance = frame_index[..., None] - stored[:, None]
        visible = (stored[:, None] >= 0) & (distance >= 0) & (distance < window)
        # a last column for the candidates themselves, which the ring does not hold
        self.distance = F.pad(distance, (0, 1))
        candidate = torch.arange(self.frames, device=stored.device) >= keep
        self.visible = torch.cat([visible, candidate[:, None].expand(len(stored), -1, 1)], dim=-1)

    def convolve(self, key: str, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """See ``TimeAxis``."""
        device = x.device.type
        if torch.is_autocast_enabled(device):  # once, not again in each of the products below
            dtype = torch.get_autocast_dtype(device)
            x, kernel = x.to(dtype), kernel.to(dtype)
        past, new, keep = self.cache[key], x.unflatten(0, (-1, self.frames)), self.keep
        out = F.linear(new, kernel[:, 2], bias)
        if keep:
            finished = new[:, :keep].contiguous()  # a part of a batch would be multiplied slot by slot
            next_but_one, following = (F.linear(finished, kernel[:, tap]) for tap in (0, 1))
            near, far = past.to(out.dtype).unbind(1)
            for i in range(keep):
                out[:, i] += near
                near, far = far + following[:, i], next_but_one[:, i]
            past.copy_(torch.stack([near, far], dim=1))
        out[:, keep:] += past[:, :1].to(out.dtype)
        return out.flatten(0, 1)

    def attend(self, key: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Bias) -> torch.Tensor:
        """See ``TimeAxis``."""
        keys, values = self.cache[key, "keys"], self.cache[key, "values"]
        q, k, v = (rearrange(t, "(b f) l n d -> b l n f d", f=self.frames) for t in (q, k, v))
        if self.keep:
            for ring, new in ((keys, k), (values, v)):
                finished = new[..., : self.keep, :].movedim(3, 1)
                ring.movedim(3, 1)[self.slots, self.places] = finished.to(ring.dtype)
        q = q * q.shape[-1] ** -0.5
        # plain products: for one or two queries a fused kernel takes twice as long
        logits = torch.cat([q @ keys.to(q.dtype).transpose(-1, -2), (q * k).sum(-1, keepdim=True)], dim=-1)
        weights = (logits + bias(self.distance, self.visible).to(q.dtype).unsqueeze(1)).softmax(-1)
        mixed = weights[..., :-1] @ values.to(q.dtype) + weights[..., -1:] * v
        out: torch.Tensor = rearrange(mixed, "b l n f d -> (b f) l n d")
        return out
