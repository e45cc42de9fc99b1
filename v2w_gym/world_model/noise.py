"""Noise that belongs to the episode: a pure function of (episode seed, frame index, stream, denoising step).

Never of the slot, the batch or the order of calls, so shuffling slots changes nothing and two policies that
are given the same seed meet the same noise. It is computed where it is used, by integer arithmetic that every
device does alike: the words of SplitMix64 (Steele et al., OOPSLA 2014), then Box and Muller's transform in
double precision, so devices agree up to the last bit of a float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

STREAMS = {"frame": 0, "history": 1, "step": 2, "encode": 3}


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned word."""
    return word - (1 << 64) if word >> 63 else word


_GAMMA = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _right(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift as unsigned words; int64 would copy the sign bit in."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _mix(words: torch.Tensor) -> torch.Tensor:
    """SplitMix64's step and finaliser: neighbouring words give unrelated ones. Products wrap."""
    words = words + _GAMMA
    words = (words ^ _right(words, 30)) * _FIRST
    words = (words ^ _right(words, 27)) * _SECOND
    return words ^ _right(words, 31)


def keys(seeds: torch.Tensor, frames: torch.Tensor, stream: str, step: int = 0) -> torch.Tensor:
    """One word for each (episode seed, frame index), both int64 of one shape, in a stream and step."""
    words = _mix(_mix(seeds) ^ frames)
    return _mix(_mix(words ^ STREAMS[stream]) ^ step)


def noise(
    seeds: torch.Tensor, frames: torch.Tensor, stream: str, shape: Sequence[int], step: int = 0
) -> torch.Tensor:
    """Unit normal noise.

    Args:
        seeds: ``(...)`` int64, the noise key of an episode.
        frames: ``(...)`` int64, of the same shape, index of a frame in it.
        stream: what the noise is for, one of ``STREAMS``.
        shape: of each frame's noise.
        step: denoising step, where each has noise of its own.

    Returns:
        ``(..., *shape)`` float32 on the device of ``seeds``; each row depends on its seed and frame only.
    """
    size = math.prod(shape)
    pairs = torch.arange((size + 1) // 2, device=seeds.device)
    words = _mix(keys(seeds, frames, stream, step).unsqueeze(-1) + _GAMMA * pairs)
    radius = _right(words, 32).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = (words & 0xFFFFFFFF).double() * (2.0 * math.pi * 2.0**-32)
    normals = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)[..., :size]
    return normals.float().reshape(*seeds.shape, *shape)
