"""Noise that belongs to the episode: a pure function of (episode seed, frame index, stream).

Never of the slot, the batch or the order of calls, so shuffling slots changes nothing and two policies that
are given the same seed meet the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

STREAMS = {"frame": 0, "history": 1, "step": 2, "encode": 3}
_MASK = (1 << 64) - 1


def _mix(value: int) -> int:
    """SplitMix64's finaliser: neighbouring inputs give unrelated outputs (Steele et al., OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def key(seed: int, frame: int, stream: str, step: int = 0) -> int:
    """One 63-bit generator seed for (episode seed, frame index, stream, denoising step)."""
    value = 0
    for part in (seed & _MASK, frame, STREAMS[stream], step):
        value = _mix(value ^ part)
    return value >> 1


def noise(
    seeds: Sequence[int], frames: Sequence[int], stream: str, shape: Sequence[int], step: int = 0
) -> torch.Tensor:
    """Unit normal ``(b, *shape)`` float32 on the CPU; row i depends on ``seeds[i], frames[i]`` only."""
    rows = []
    for seed, frame in zip(seeds, frames, strict=True):
        generator = torch.Generator().manual_seed(key(seed, frame, stream, step))
        rows.append(torch.randn(*shape, generator=generator))
    return torch.stack(rows)
