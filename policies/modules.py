"""Torch modules as policies: in memory, or from a file that holds a program and no pickles.

``torch:FILE.pt2`` is what ``torch.export.save`` writes, ``torch:FILE.pt`` what ``torch.jit.save`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from v2w_gym.policies.module_files import Program, open_program
from v2w_gym.policies.simple import Actions
from v2w_gym.policies.specs import parse_spec


@dataclass(frozen=True)
class Preparation:
    """How frames become what a module reads.

    Attributes:
        size: ``(h, w)`` in pixels that it reads, a single number for a square; None takes them as they are.
            Resizing is bilinear with smoothing (``antialias``).
        mean: is subtracted from values in 0..1, one number or one per channel.
        std: then divides them. ``mean=0.5, std=0.5`` gives -1..1; ``std=0.00392157`` gives 0..255.
        device: where the module runs.

    Raises:
        ValueError: a size below 1, or a std of 0.
    """

    size: tuple[int, ...] | int | None = None
    mean: tuple[float, ...] | float = 0.0
    std: tuple[float, ...] | float = 1.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.size is not None:
            side = (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)
            if len(side) != 2 or min(side) < 1:
                raise ValueError(f"size must be h/w in pixels, e.g. 224 or 224/320, got {self.size}")
            object.__setattr__(self, "size", side)
        for name in ("mean", "std"):
            value = getattr(self, name)
            numbers = (float(value),) * 3 if isinstance(value, int | float) else tuple(map(float, value))
            if len(numbers) != 3 or (name == "std" and 0.0 in numbers):
                raise ValueError(f"{name} must be one number or three, not 0 for std, got {value}")
            object.__setattr__(self, name, numbers)

    def images(self, frames: Any) -> torch.Tensor:
        """Frames ``(b, h, w, 3)`` uint8 as ``(b, 3, h, w)`` float32."""
        images = torch.as_tensor(np.ascontiguousarray(frames)).to(self.device)
        images = images.permute(0, 3, 1, 2).float() / 255.0
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = torch.nn.functional.interpolate(images, self.size, mode="bilinear", antialias=True)
        mean, std = (images.new_tensor(numbers).reshape(3, 1, 1) for numbers in (self.mean, self.std))
        return (images - mean) / std


class ModulePolicy:
    """What :func:`from_module` returns.

    Args:
        forward: images ``(b, 3, h, w)`` float to actions ``(b, a)``.
        preparation: of the frames.
        batch: how many rows it takes at a time; None takes any number.
    """

    def __init__(
        self,
        forward: Callable[[torch.Tensor], Any],
        preparation: Preparation | None = None,
        batch: int | None = None,
    ) -> None:
        self._forward, self._preparation = forward, preparation or Preparation()
        self._batch = batch

    def reset(self, instruction: Sequence[str], slots: Sequence[int]) -> None:
        """Nothing to forget."""

    @torch.no_grad()
    def act(self, observation: Mapping[str, Any]) -> Actions:
        """Actions ``(b, a)`` for ``observation["pixels"]``, uint8 ``(b, h, w, 3)``.

        Raises:
            ValueError: the module returned something of another shape.
        """
        images = self._preparation.images(observation["pixels"])
        given = self._forward(images) if self._batch is None else self._in_parts(images, self._batch)
        if not isinstance(given, torch.Tensor) or given.ndim != 2 or len(given) != len(images):
            shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
            raise ValueError(f"the module must return a tensor (b, a) with b = {len(images)}, got {shape}")
        actions: Actions = given.float().cpu().numpy()
        return actions

    def _in_parts(self, images: torch.Tensor, batch: int) -> torch.Tensor:
        """For a program of a fixed batch: the last part is filled up with copies of its last row."""
        short = -len(images) % batch
        filled = torch.cat([images, images[-1:].expand(short, -1, -1, -1)])
        return torch.cat([self._forward(part) for part in filled.split(batch)])[: len(images)]


def from_module(
    module: Callable[[torch.Tensor], Any],
    *,
    size: int | tuple[int, int] | None = None,
    mean: float | tuple[float, float, float] = 0.0,
    std: float | tuple[float, float, float] = 1.0,
    device: str = "cpu",
) -> ModulePolicy:
    """A policy from a torch module, which is put into evaluation mode and onto ``device``.

    Args:
        module: images ``(b, 3, h, w)`` float in 0..1, RGB, to actions ``(b, a)``.
        size: see :class:`Preparation`, as are the others.
        mean: likewise.
        std: likewise.
        device: likewise.

    Raises:
        ValueError: numbers that do not fit.
    """
    preparation = Preparation(size, mean, std, device)
    if isinstance(module, torch.nn.Module):
        module = module.to(device).eval()
    return ModulePolicy(module, preparation)


def from_spec(spec: str) -> ModulePolicy:
    """``torch:FILE``, an exported or scripted module, with options as in :class:`Preparation`.

    E.g. ``torch:policy.pt2,size=224,mean=0.485/0.456/0.406,std=0.229/0.224/0.225``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a pickle, a damaged file, or an unknown option.
    """
    target, preparation = parse_spec(spec, Preparation)
    program: Program = open_program(Path(target), preparation.device)
    return ModulePolicy(program.forward, preparation, program.batch)
